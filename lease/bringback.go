package lease

import "encoding/binary"

// bringBack keeps the seats charged that the ledger which is replaced had lent and the
// backup does not know of: their holders believe their tokens for days, and no fence can
// wait for that. Such a lease comes back quarantined, under an id of its own: nobody can
// act through it, and it ends when the token does. moved is how far the clock of old is
// behind.
func (b *Book) bringBack(old *Book, moved Time) {
	var lent []uint32
	old.pins.all(func(i uint32, p **Pin) bool {
		if *p != nil && (*p).Kind == PinBorrowed && (*p).End > old.Now() {
			l := old.leases.at(i)
			if !b.has(Ref{l.id(i), l.Token}, old.sessions.at(l.Session).ID) {
				lent = append(lent, i)
			}
		}
		return true
	})
	for _, slot := range lent {
		l := old.leases.at(slot)
		pool := b.samePool(old.pools.at(old.groups.at(l.Group).Pool))
		if pool == 0 {
			continue // the backup has no such seats to give to anybody
		}
		kept, ok := b.keepLent(old, slot, pool)
		if !ok {
			continue
		}
		p := *old.pinAt(slot)
		p.End, p.Revoked = p.End+moved, true
		b.pin(kept, p)
	}
}

// keepLent grants the seats of a lease of old to a closed session of their own.
func (b *Book) keepLent(old *Book, slot, pool uint32) (kept uint32, ok bool) {
	l := old.leases.at(slot)
	who := old.principalOf(l.Session)
	p := plan{item: Item{Feature: b.pools.at(pool).Feature, Count: int(l.Count)}, pool: pool, seats: int(l.Count)}
	if rule := b.pools.at(pool).Share; shares(rule.By, who) {
		if p.group = b.findGroup(shareKeyOf(pool, rule.By, who)); p.group != 0 {
			if len(b.members(p.group)) >= rule.MaxSessions {
				return 0, false // the group that shares the seat has it already
			}
			p.seats = max(0, p.seats-len(b.seats(p.group)))
		}
	}
	record := SessionRecord{Tenant: old.owner(l.Session).tenant(), Principal: who, InstanceID: old.owner(l.Session).instance(), Incarnation: 1,
		Renewed: b.Now(), Rev: unleasedRev, Lifespan: DefaultProfile.Lifespan, Grace: DefaultProfile.Grace, Closed: true}
	binary.BigEndian.PutUint64(record.ID[:], uint64(l.id(slot)))
	binary.BigEndian.PutUint64(record.ID[8:], uint64(l.Token))
	if b.findSession(record.ID) != 0 || b.planDraw(&p, nil, who, &Checkout{Tenant: record.Tenant}, nil) != nil {
		return 0, false
	}
	session := b.sessionSlots.take()
	b.putSession(session, &record)
	b.sessionByID.add(b.sessionHash(session), session, b.sessionHash)
	b.dueSessions.push(session, b.sessionDue(session))
	b.countSession(record.Tenant, 0, 1) // until it has its lease
	seats := &b.state[pool].seats
	others := seats.setAside(old.seats(l.Group)) // its holder believes in these very seats
	kept = b.grant(0, session, b.sessions.mut(b.gen, session), &p)
	for _, n := range others {
		seats.put(n)
	}
	return kept, true
}

// samePool finds the pool with the same key; 0 if there is none.
func (b *Book) samePool(p *PoolRecord) uint32 {
	for _, i := range b.poolsByFeature[featureKey{p.Tenant, p.Feature}] {
		q := b.pools.at(i)
		if q.Vendor == p.Vendor && q.Version == p.Version && q.Profile == p.Profile && q.Share == p.Share && q.Terms == p.Terms {
			return i
		}
	}
	return 0
}
