package lease

import "crypto/subtle"

// enter finds the session of a request and decides whether the request may act for it.
// A higher incarnation takes over: it starts its own numbering and fences the older.
func (b *Book) enter(ref SessionRef) (slot uint32, s *sessionRow, refusal *Refusal) {
	slot, ok := b.sessionByID[ref.ID]
	if !ok {
		return 0, nil, refuse(SessionUnknown, "no session %s: it was never opened, was closed, or its leases ran out; check out again with a new one", ref.ID)
	}
	s = b.sessions.at(slot)
	if subtle.ConstantTimeCompare(s.Digest[:], ref.Digest[:]) != 1 {
		return 0, nil, refuse(Forbidden, "wrong secret for session %s", ref.ID)
	}
	if s.Closed {
		return 0, nil, refuse(SessionUnknown, "session %s is closed; check out again with a new one", ref.ID)
	}
	if ref.Incarnation != 0 && ref.Incarnation < s.Incarnation && !Broken(GuardIncarnation) {
		return 0, nil, refuse(Fenced, "a newer run of this session took over (incarnation %d; this one is %d)", s.Incarnation, ref.Incarnation)
	}
	s = b.sessions.mut(b.gen, slot)
	if ref.Incarnation > s.Incarnation {
		s.Incarnation, s.Seq, s.done = ref.Incarnation, 0, nil
	}
	return slot, s, nil
}

// numbered says what a sequence number means for the session: a new request (do it), the
// last one again (answer it again), or an older one (refuse it).
func numbered(s *sessionRow, seq uint64, kind DoneKind) (replay bool, refusal *Refusal) {
	switch {
	case seq == 0 || Broken(GuardSeq):
		return false, nil
	case seq < s.Seq && !Broken(GuardStaleSeq):
		return false, refuse(StaleRequest, "request %d is older than the session's last one, %d; it has no effect", seq, s.Seq)
	case seq == s.Seq && s.last().Kind != kind:
		return false, refuse(StaleRequest, "request %d was of another kind; number each new request higher", seq)
	}
	return seq == s.Seq, nil
}

// finish remembers what a numbered request came to.
func finish(s *sessionRow, seq uint64, d Done) {
	if seq != 0 {
		done := d // only what is remembered goes to the heap
		s.Seq, s.done = seq, &done
	}
}

// open makes a new session. The caller has checked its fields.
func (b *Book) open(c *Checkout) (uint32, *sessionRow) {
	slot := b.sessionSlots.take()
	s := b.sessions.mut(b.gen, slot)
	*s = sessionRow{
		ID: c.Session.ID, Digest: c.Session.Digest, owner: packOwner(c.Tenant, c.Principal, c.InstanceID),
		Incarnation: max(1, c.Session.Incarnation), Renewed: b.Now(), Rev: 1,
		Lifespan: DefaultProfile.Lifespan, Grace: DefaultProfile.Grace,
		Ephemeral: c.Ephemeral,
	}
	b.sessionByID[s.ID] = slot
	b.dueSessions.push(slot, b.sessionDue(slot))
	b.liveSessions++
	return slot, s
}

// close ends a session that holds nothing any more. It is remembered as closed until
// its last heartbeat would have run out, so that a late duplicate of its first request
// does not open it again; only an id that the server minted for one request is
// forgotten at once.
func (b *Book) close(slot uint32) {
	s := b.sessions.mut(b.gen, slot)
	if s.Ephemeral || Broken(GuardClosed) {
		b.forget(slot)
		return
	}
	b.liveSessions--
	s.Closed, s.done, s.losses = true, nil, nil
}

// forget drops the session and all that was remembered of it.
func (b *Book) forget(slot uint32) {
	s := b.sessions.mut(b.gen, slot)
	if !s.Closed {
		b.liveSessions--
	}
	delete(b.sessionByID, s.ID)
	b.dueSessions.remove(slot)
	*s = sessionRow{}
	b.sessionSlots.put(slot)
}

// heartbeat carries all deadlines of the session forward.
func (b *Book) heartbeat(s *sessionRow) {
	s.Renewed = b.Now()
	s.Rev++
}

// info is what a client is told of its session.
func (b *Book) info(s *sessionRow) SessionInfo {
	shortest := s.Lifespan
	b.each(s, func(_ uint32, l *LeaseRecord) {
		shortest = min(shortest, b.pools.at(b.groups.at(l.Group).Pool).Profile.Lifespan)
	})
	return SessionInfo{ID: s.ID, Incarnation: s.Incarnation, Heartbeat: shortest / HeartbeatFraction}
}

// each visits the leases of a session in the order they were granted.
func (b *Book) each(s *sessionRow, visit func(slot uint32, l *LeaseRecord)) {
	for slot := s.First; slot != 0; {
		l := b.leases.at(slot)
		next := l.Next
		visit(slot, l)
		slot = next
	}
}

func (b *Book) renew(c Renew) Reply {
	if len(c.Held) > MaxLeasesPerSession+MaxLost {
		return Reply{Refusal: refuse(Invalid, "%d leases named as held; a session holds at most %d", len(c.Held), MaxLeasesPerSession)}
	}
	_, s, refusal := b.enter(c.Session)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	b.heartbeat(s)
	r := Reply{Session: b.info(s)}
	b.each(s, func(slot uint32, _ *LeaseRecord) { r.Leases = append(r.Leases, b.show(slot)) })
	r.Lost = b.tell(s, c.Held)
	return r
}

// tell lists the leases the session lost. One that was told before is dropped unless
// the client still believes in it; one it believes in that never was its own, or was
// forgotten, is told without a reason.
func (b *Book) tell(s *sessionRow, held []Ref) (lost []Lost) {
	believed := func(r Ref) bool {
		for _, h := range held {
			if h.ID == r.ID {
				return true
			}
		}
		return false
	}
	known := map[ID]bool{}
	var keep []Lost
	list, told := s.lost()
	for i, x := range list {
		if i >= told || believed(x.Ref) {
			keep = append(keep, x)
			known[x.ID] = true
		}
	}
	s.setLost(keep, len(keep))
	lost = append(lost, keep...)
	for _, h := range held {
		if !b.holds(s, h) && !known[h.ID] {
			lost = append(lost, Lost{Ref: h})
		}
	}
	return lost
}

// holds says whether r names a live lease of s; a zero token matches any.
func (b *Book) holds(s *sessionRow, r Ref) bool {
	slot := b.lookup(r.ID)
	if slot == 0 {
		return false
	}
	l := b.leases.at(slot)
	return b.sessions.at(l.Session).ID == s.ID && (r.Token == 0 || r.Token == l.Token)
}

// remember notes a lease that ended without its holder's doing.
func (s *sessionRow) remember(x Lost) {
	old, told := s.lost()
	if len(old) >= MaxLost {
		old = old[len(old)-MaxLost+1:]
		told = max(0, told-1)
	}
	s.setLost(append(append(make([]Lost, 0, len(old)+1), old...), x), told)
}
