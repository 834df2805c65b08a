package lease

// grant makes the lease that a plan promised.
func (b *Book) grant(index uint64, sslot uint32, s *sessionRow, p *plan) uint32 {
	if p.lingers != 0 && p.group == 0 { // its seats are charged anew
		b.release(p.lingers, ReleasedLingerOver)
		p.seats = p.item.Count
	}
	slot := b.leaseSlots.take()
	b.Grants++
	if s.Rev == unleasedRev {
		b.countSession(b.owner(sslot).tenant(), 0, -1)
		s.Rev++
	}
	gslot := p.group
	if gslot == 0 {
		gslot = b.newGroup(p.pool, sslot, p.booked.Seats == 0)
	}
	b.countHeld(gslot, -1)
	b.charge(gslot, p.seats)
	b.useBooked(slot, p.booked)
	b.addMember(gslot, slot)
	l := b.leases.mut(b.gen, slot)
	*l = leaseRow{
		grantAndNext: b.Grants << slotBits, Session: sslot, Group: gslot,
		Count: uint32(p.item.Count), Granted: b.Now(), Since: b.Calendar(),
	}
	b.takeDraw(gslot, sslot, p.draw)
	l.Token = b.token(index, gslot, l.Count)
	b.countHeld(gslot, 1)
	if s.Leases == 0 {
		b.dueSessions.remove(sslot) // its leases keep it alive
	}
	b.link(s, slot, l)
	pool := b.pools.mut(b.gen, p.pool)
	pool.Grants++
	b.setProfile(slot, p.pool, sslot)
	b.lengthen(s, b.profileOf(slot))
	b.dueLeases.push(p.pool, slot, b.leaseDue(slot))
	b.liveLeases++
	b.events = append(b.events, b.event(Granted, slot))
	if p.booked.Seats != 0 { // they may fill a reservation, which keeps as much less of the free ones
		b.stir(p.pool)
		b.stir(b.payerOf(gslot))
	}
	if p.lingers != 0 && p.group != 0 { // its seats are those of the group that was joined
		b.release(p.lingers, ReleasedLingerOver)
	}
	b.restandOf(sslot)
	return slot
}

// newGroup starts a charge; it can be shared if the request may, and the pool's rule and
// the principal say so.
func (b *Book) newGroup(pool, session uint32, may bool) uint32 {
	slot := b.groupSlots.take()
	g := b.groups.mut(b.gen, slot)
	*g = groupRow{Pool: pool}
	if by := b.pools.at(pool).Share.By; may && by != 0 {
		if who := b.principalOf(session); shares(by, who) {
			g.Shared = true
			b.groupByShare.add(b.shareHash(shareKeyOf(pool, by, who)), slot, b.groupHash)
		}
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
	seats := append(make([]uint32, 0, len(b.seats(gslot))+n), b.seats(gslot)...)
	for range n {
		number := b.state[g.Pool].seats.take()
		p.Seats.mut(b.gen, number).Group = gslot
		seats = append(seats, number)
	}
	b.setGroup(gslot, b.members(gslot), seats)
	p.Charged += uint32(n)
	b.recharged(g.Pool)
}

// token gives the fencing token of a new lease on the first n seats of a group: the raft
// index, or one more than any of these seats had, if that is higher.
func (b *Book) token(index uint64, gslot uint32, n uint32) Token {
	g, seats := b.groups.at(gslot), b.seats(gslot)[:n]
	p := b.pools.mut(b.gen, g.Pool)
	t := max(Token(index), b.Floor+1)
	for _, number := range seats {
		t = max(t, p.Seats.at(number).Last+1)
	}
	t = b.drawToken(gslot, t, false)
	if Broken(GuardToken) {
		t = Token(b.liveLeases + 1)
	}
	for _, number := range seats {
		p.Seats.mut(b.gen, number).Last = t
	}
	b.drawToken(gslot, t, true)
	b.High = max(b.High, t)
	return t
}

// link appends a lease to its session's list.
func (b *Book) link(s *sessionRow, slot uint32, l *leaseRow) {
	if s.Tail == 0 {
		s.First = slot
	} else {
		b.leases.mut(b.gen, s.Tail).setNext(slot)
	}
	l.Prev, s.Tail = s.Tail, slot
	s.Leases++
}

func (b *Book) unlink(s *sessionRow, l *leaseRow) {
	if l.Prev == 0 {
		s.First = l.next()
	} else {
		b.leases.mut(b.gen, l.Prev).setNext(l.next())
	}
	if l.next() == 0 {
		s.Tail = l.Prev
	} else {
		b.leases.mut(b.gen, l.next()).Prev = l.Prev
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
	b.dueLeases.remove(b.groups.at(l.Group).Pool, slot)
	told := b.claimed(slot)
	b.forgetPin(slot)
	b.dropProfile(slot)
	gslot := l.Group
	b.countHeld(gslot, -1)
	b.countDraw(b.drawOf[gslot], -1)
	b.removeMember(gslot, slot)
	pool, payer := b.groups.at(gslot).Pool, b.payerOf(gslot)
	b.dropDraw(gslot, l.Session)
	p := b.pools.mut(b.gen, pool)
	p.Releases++
	p.SeatMillis += uint64(l.Count) * uint64(b.Now().Sub(l.Granted).Milliseconds())
	b.shrink(gslot, l.Session)
	b.countHeld(gslot, 1)
	out := Released{Ref: Ref{l.id(slot), l.Token}, Feature: p.Feature, Count: int(l.Count), Reason: why}
	switch why {
	case ReleasedNormal, ReleasedClientExit, ReleasedDequeued:
	default:
		if !told || s.closed() {
			break // it knows that it holds it no more, or nobody is left to be told
		}
		b.remember(l.Session, Lost{Ref: out.Ref, Feature: p.Feature, Reason: why})
	}
	b.returnBooked(slot)
	session := l.Session
	*l = leaseRow{}
	b.leaseSlots.put(slot)
	b.liveLeases--
	b.restandOf(session)
	b.stir(pool)
	b.stir(payer)
	return out
}

// shrink gives back the seats of a group that no member needs any more, and ends the
// group with its last member. The session is one whose principal the group has.
func (b *Book) shrink(gslot, session uint32) {
	g := b.groups.mut(b.gen, gslot)
	p := b.pools.mut(b.gen, g.Pool)
	need := uint32(0)
	for _, m := range b.members(gslot) {
		need = max(need, b.leases.at(m).Count)
	}
	for _, number := range b.seats(gslot)[need:] {
		p.Seats.mut(b.gen, number).Group = 0
		b.state[g.Pool].seats.put(number)
		p.Charged--
	}
	b.setGroup(gslot, b.members(gslot), b.seats(gslot)[:need])
	b.recharged(g.Pool)
	if len(b.members(gslot)) > 0 {
		return
	}
	if g.Shared {
		b.groupByShare.remove(b.shareHash(shareKeyOf(g.Pool, p.Share.By, b.principalOf(session))), gslot)
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
		Lease: Ref{l.id(slot), l.Token}, Tenant: p.Tenant, Feature: p.Feature, Version: p.Version,
		Count: int(l.Count), Session: s.ID, Principal: b.principalOf(l.Session), Vendor: p.Vendor, Charge: l.Group,
	}
}
