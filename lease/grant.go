package lease

import "slices"

// grant makes the lease that a plan promised.
func (b *Book) grant(index uint64, sslot uint32, s *sessionRow, p *plan) uint32 {
	slot := b.leaseSlots.take()
	b.Grants++
	gslot := p.group
	if gslot == 0 {
		gslot = b.newGroup(p.pool, s)
	}
	b.charge(gslot, p.seats)
	g := b.groups.mut(b.gen, gslot)
	g.addMember(slot)
	l := b.leases.mut(b.gen, slot)
	*l = LeaseRecord{
		ID: ID(b.Grants<<slotBits | uint64(slot)), Session: sslot, Group: gslot,
		Count: uint32(p.item.Count), Granted: b.Now(), Since: b.Calendar(),
	}
	l.Token = b.token(index, g, l.Count)
	if s.Leases == 0 {
		b.dueSessions.remove(sslot) // its leases keep it alive
	}
	b.link(s, slot, l)
	pool := b.pools.mut(b.gen, p.pool)
	pool.Grants++
	s.Lifespan, s.Grace = max(s.Lifespan, pool.Profile.Lifespan), max(s.Grace, pool.Profile.Grace)
	b.dueLeases.push(slot, b.leaseDue(slot))
	b.liveLeases++
	b.events = append(b.events, b.event(Granted, slot))
	return slot
}

// newGroup starts a charge; it can be shared if the pool's rule and the principal say so.
func (b *Book) newGroup(pool uint32, s *sessionRow) uint32 {
	slot := b.groupSlots.take()
	g := b.groups.mut(b.gen, slot)
	*g = groupRow{Pool: pool}
	if by := b.pools.at(pool).Share.By; shares(by, s.principal()) {
		g.Shared = true
		b.groupByShare[shareKeyOf(pool, by, s.principal())] = slot
	}
	return slot
}

// charge adds n seats, the lowest free ones, to a group.
func (b *Book) charge(gslot uint32, n int) {
	if n == 0 {
		return
	}
	g := b.groups.mut(b.gen, gslot)
	p := b.pools.mut(b.gen, g.Pool)
	seats := slices.Grow(slices.Clone(g.seats()), n)
	for range n {
		number := b.state[g.Pool].seats.take()
		p.Seats.mut(b.gen, number).Group = gslot
		seats = append(seats, number)
	}
	g.set(g.members(), seats)
	p.Charged += uint32(n)
}

// token gives the fencing token of a new lease on the first n seats of a group: the raft
// index, or one more than any of these seats had, if that is higher.
func (b *Book) token(index uint64, g *groupRow, n uint32) Token {
	p := b.pools.mut(b.gen, g.Pool)
	t := max(Token(index), b.Floor+1)
	for _, number := range g.seats()[:n] {
		t = max(t, p.Seats.at(number).Last+1)
	}
	if Broken(GuardToken) {
		t = Token(b.liveLeases + 1)
	}
	for _, number := range g.seats()[:n] {
		p.Seats.mut(b.gen, number).Last = t
	}
	b.High = max(b.High, t)
	return t
}

// link appends a lease to its session's list.
func (b *Book) link(s *sessionRow, slot uint32, l *LeaseRecord) {
	if s.Tail == 0 {
		s.First = slot
	} else {
		b.leases.mut(b.gen, s.Tail).Next = slot
	}
	l.Prev, s.Tail = s.Tail, slot
	s.Leases++
}

func (b *Book) unlink(s *sessionRow, l *LeaseRecord) {
	if l.Prev == 0 {
		s.First = l.Next
	} else {
		b.leases.mut(b.gen, l.Prev).Next = l.Next
	}
	if l.Next == 0 {
		s.Tail = l.Prev
	} else {
		b.leases.mut(b.gen, l.Next).Prev = l.Prev
	}
	s.Leases--
}

// release ends a lease and frees what it alone was charged.
func (b *Book) release(slot uint32, why Release) Released {
	e := b.event(Ended, slot)
	e.Release = why
	b.events = append(b.events, e)
	l := b.leases.mut(b.gen, slot)
	s := b.sessions.mut(b.gen, l.Session)
	b.unlink(s, l)
	if s.Leases == 0 {
		b.dueSessions.push(l.Session, b.sessionDue(l.Session))
	}
	b.dueLeases.remove(slot)
	gslot := l.Group
	g := b.groups.mut(b.gen, gslot)
	g.removeMember(slot)
	p := b.pools.mut(b.gen, g.Pool)
	p.Releases++
	p.SeatMillis += uint64(l.Count) * uint64(b.Now().Sub(l.Granted).Milliseconds())
	b.shrink(gslot, s.principal())
	out := Released{Ref: Ref{l.ID, l.Token}, Feature: p.Feature, Count: int(l.Count), Reason: why}
	switch why {
	case ReleasedNormal, ReleasedClientExit:
	default:
		s.remember(Lost{Ref: out.Ref, Feature: p.Feature, Reason: why})
	}
	*l = LeaseRecord{}
	b.leaseSlots.put(slot)
	b.liveLeases--
	return out
}

// shrink gives back the seats of a group that no member needs any more, and ends the
// group with its last member. who is a principal of the group.
func (b *Book) shrink(gslot uint32, who Principal) {
	g := b.groups.mut(b.gen, gslot)
	p := b.pools.mut(b.gen, g.Pool)
	need := uint32(0)
	for _, m := range g.members() {
		need = max(need, b.leases.at(m).Count)
	}
	for _, number := range g.seats()[need:] {
		p.Seats.mut(b.gen, number).Group = 0
		b.state[g.Pool].seats.put(number)
		p.Charged--
	}
	g.set(g.members(), g.seats()[:need])
	if len(g.members()) > 0 {
		return
	}
	if g.Shared {
		delete(b.groupByShare, shareKeyOf(g.Pool, p.Share.By, who))
	}
	*g = groupRow{}
	b.groupSlots.put(gslot)
}

// event describes what happens to a lease.
func (b *Book) event(k EventKind, slot uint32) Event {
	l := b.leases.at(slot)
	s := b.sessions.at(l.Session)
	p := b.pools.at(b.groups.at(l.Group).Pool)
	return Event{
		Kind: k, At: b.Now(), Date: b.Calendar(), Start: l.Granted, StartDate: l.Since,
		Lease: Ref{l.ID, l.Token}, Tenant: p.Tenant, Feature: p.Feature, Version: p.Version,
		Count: int(l.Count), Session: s.ID, Principal: s.principal(),
	}
}
