package lease

import (
	"crypto/subtle"
	"hash/maphash"
)

// enter finds the session of a request and decides whether the request may act for it.
// A higher incarnation takes over: it starts its own numbering and fences the older.
func (b *Book) enter(ref SessionRef) (slot uint32, s *sessionRow, refusal *Refusal) {
	slot, reason := b.judge(&ref)
	switch reason {
	case "":
		return slot, b.takeOver(slot, ref.Incarnation), nil
	case Forbidden:
		return 0, nil, refuse(reason, "wrong secret for session %s", ref.ID)
	case Fenced:
		return 0, nil, refuse(reason, "a newer run of this session took over (incarnation %d; this one is %d)", b.sessions.at(slot).Incarnation, ref.Incarnation)
	}
	if slot != 0 {
		return 0, nil, refuse(reason, "session %s is closed; check out again with a new one", ref.ID)
	}
	return 0, nil, refuse(reason, "no session %s: it was never opened, was closed, or its leases ran out; check out again with a new one", ref.ID)
}

// judge finds the session of a request and says why it may not act for it; "" means that
// it may. It costs no more for a refusal: a batch may have thousands.
func (b *Book) judge(ref *SessionRef) (slot uint32, reason Reason) {
	slot = b.findSession(ref.ID)
	if slot == 0 {
		return 0, SessionUnknown
	}
	s := b.sessions.at(slot)
	switch {
	case subtle.ConstantTimeCompare(s.Digest[:], ref.Digest[:]) != 1:
		return slot, Forbidden
	case s.closed():
		return slot, SessionUnknown
	case ref.Incarnation != 0 && ref.Incarnation < s.Incarnation && !Broken(GuardIncarnation):
		return slot, Fenced
	}
	return slot, ""
}

// takeOver makes a session ready to be changed by the run with this number; a higher one
// than before starts its own numbering.
func (b *Book) takeOver(slot uint32, incarnation uint64) *sessionRow {
	s := b.sessions.mut(b.gen, slot)
	if incarnation > s.Incarnation {
		s.Incarnation, s.Seq = incarnation, 0
		b.setLast(slot, Done{})
	}
	return s
}

// numbered says what a sequence number means for the session: a new request (do it), the
// last one again (answer it again), or an older one (refuse it).
func (b *Book) numbered(slot uint32, seq uint64, kind DoneKind) (replay bool, refusal *Refusal) {
	s := b.sessions.at(slot)
	switch {
	case seq == 0 || Broken(GuardSeq):
		return false, nil
	case seq < s.Seq && !Broken(GuardStaleSeq):
		return false, refuse(StaleRequest, "request %d is older than the session's last one, %d; it has no effect", seq, s.Seq)
	case seq == s.Seq && b.last(slot).Kind != kind:
		return false, refuse(StaleRequest, "request %d was of another kind; number each new request higher", seq)
	}
	return seq == s.Seq, nil
}

// finish remembers what a numbered request came to.
func (b *Book) finish(slot uint32, seq uint64, d Done) {
	if seq != 0 {
		b.sessions.mut(b.gen, slot).Seq = seq
		b.setLast(slot, d)
	}
}

// open makes a new session. The caller has checked its fields.
func (b *Book) open(c *Checkout) (uint32, *sessionRow) {
	slot := b.sessionSlots.take()
	b.putSession(slot, &SessionRecord{
		ID: c.Session.ID, Digest: c.Session.Digest, Tenant: c.Tenant, Principal: c.Principal, InstanceID: c.InstanceID,
		Incarnation: max(1, c.Session.Incarnation), Renewed: b.Now(), Rev: unleasedRev,
		Lifespan: DefaultProfile.Lifespan, Grace: DefaultProfile.Grace,
		Ephemeral: c.Ephemeral,
	})
	s := b.sessions.mut(b.gen, slot)
	b.sessionByID.add(b.sessionHash(slot), slot, b.sessionHash)
	b.dueSessions.push(slot, b.sessionDue(slot))
	b.liveSessions++
	b.countSession(c.Tenant, 1, 1)
	return slot, s
}

// close ends a session that holds nothing any more. It is remembered as closed until
// its last heartbeat would have run out, so that a late duplicate of its first request
// does not open it again; only an id that the server minted for one request is
// forgotten at once.
func (b *Book) close(slot uint32) {
	s := b.sessions.mut(b.gen, slot)
	if s.Leases == 0 && (s.ephemeral() || Broken(GuardClosed)) {
		b.forget(slot)
		return
	}
	b.quitAll(slot, Left)
	b.liveSessions--
	b.countSession(b.owner(slot).tenant(), -1, 0)
	b.setLast(slot, Done{})
	b.setLost(slot, nil, 0)
	s.flags |= closed
}

// forget drops the session and all that was remembered of it.
func (b *Book) forget(slot uint32) {
	b.quitAll(slot, Left)
	s := b.sessions.at(slot)
	b.liveSessions -= s.liveCount()
	b.countSession(b.owner(slot).tenant(), -s.liveCount(), -s.unleasedCount())
	b.sessionByID.remove(b.sessionHash(slot), slot)
	b.dueSessions.remove(slot)
	b.clearSession(slot)
	b.sessionSlots.put(slot)
}

// heartbeat carries all deadlines of the session forward. While it never had a lease there
// is no deadline, and it keeps the revision by which such sessions are counted.
func (b *Book) heartbeat(s *sessionRow) {
	s.Renewed = b.Now()
	if s.Rev != unleasedRev {
		s.Rev++
	}
}

// info is what a client is told of its session.
func (b *Book) info(s *sessionRow) SessionInfo {
	shortest := b.spanOf(s).Lifespan
	b.each(s, func(slot uint32, _ *leaseRow) {
		shortest = min(shortest, b.profileOf(slot).Lifespan)
	})
	return SessionInfo{ID: s.ID, Incarnation: s.Incarnation, Heartbeat: shortest / HeartbeatFraction}
}

// each visits the leases of a session in the order they were granted.
func (b *Book) each(s *sessionRow, visit func(slot uint32, l *leaseRow)) {
	for slot := s.First; slot != 0; {
		l := b.leases.at(slot)
		next := l.next()
		visit(slot, l)
		slot = next
	}
}

func (b *Book) renew(c Renew) Reply {
	if len(c.Held) > MaxLeasesPerSession+MaxLost {
		return Reply{Refusal: refuse(Invalid, "%d leases named as held; a session holds at most %d", len(c.Held), MaxLeasesPerSession)}
	}
	slot, s, refusal := b.enter(c.Session)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	b.heartbeat(s)
	b.collectAll(s)
	b.reclaimIdle(s, c.Idle)
	r := Reply{Session: b.info(s)}
	b.each(s, func(slot uint32, _ *leaseRow) {
		if b.claimed(slot) {
			r.Leases = append(r.Leases, b.show(slot))
		}
	})
	r.Lost = b.tell(slot, c.Held)
	return r
}

// tell lists the leases the session lost. One that was told before is dropped unless
// the client still believes in it; one it believes in that never was its own, or was
// forgotten, is told without a reason.
func (b *Book) tell(slot uint32, held []Ref) (lost []Lost) {
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
	more := b.more(slot)
	for i, x := range more.lost {
		if i >= more.told || believed(x.Ref) {
			keep = append(keep, x)
			known[x.ID] = true
		}
	}
	if len(more.lost) > 0 {
		b.setLost(slot, keep, len(keep))
	}
	lost = append(lost, keep...)
	for _, h := range held {
		if !b.holds(slot, h) && !known[h.ID] {
			lost = append(lost, Lost{Ref: h})
		}
	}
	return lost
}

// holds says whether r names a live lease of the session; a zero token matches any.
func (b *Book) holds(session uint32, r Ref) bool {
	slot := b.lookup(r.ID)
	if slot == 0 {
		return false
	}
	l := b.leases.at(slot)
	return l.Session == session && (r.Token == 0 || r.Token == l.Token) && b.claimed(slot)
}

// remember notes a lease that ended without its holder's doing.
func (b *Book) remember(slot uint32, x Lost) {
	more := b.more(slot)
	old, told := more.lost, more.told
	if len(old) >= MaxLost {
		old = old[len(old)-MaxLost+1:]
		told = max(0, told-1)
	}
	b.setLost(slot, append(append(make([]Lost, 0, len(old)+1), old...), x), told)
}

// findSession gives the slot of a session, closed ones included; 0 if it is not known.
func (b *Book) findSession(id SessionID) uint32 {
	h := maphash.Bytes(b.sessionByID.seed, id[:])
	return b.sessionByID.find(h, func(slot uint32) bool { return b.sessions.at(slot).ID == id })
}

func (b *Book) sessionHash(slot uint32) uint64 {
	return maphash.Bytes(b.sessionByID.seed, b.sessions.at(slot).ID[:])
}
