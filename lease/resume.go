package lease

import "time"

// grantsLift is how far a restore lifts the count of grants, and with it lease ids: more
// than are made between a backup and its restore where the ledger that was lost in
// between cannot say. The 40 bits of an id that count grants bear 4,000 restores.
const grantsLift = 1 << 28

// Resume makes b, which was loaded from a backup, the successor of old, the ledger that
// it replaces in one step of the log:
//
//   - time and calendar go on from the later of the two, never back;
//   - every session of the backup is renewed: its holder has heartbeat meanwhile, and was
//     promised a time that the backup does not know of;
//   - checkouts wait until every lease that either ledger may have granted has run out:
//     those granted since the backup are unknown to b, and their holders still believe;
//   - tokens and lease ids start above all that either gave.
//
// known says that old is where b's own cluster went since the backup. Then what has ended
// since does not come back: its seat may be somebody else's by now. Requests that were
// answered since stay answered. If it is not known, nobody can say, and the fence lasts
// for one term of the default profile at least; what nobody renews runs out.
func (b *Book) Resume(old *Book, known bool) {
	longest := max(b.longestTerm(), old.longestTerm())
	if known = known && old.Now() >= b.Now(); !known {
		longest = max(longest, DefaultProfile.Lifespan+DefaultProfile.Grace)
	}
	was := b.Now()
	fence := max(b.FenceUntil.Sub(b.Now()), old.FenceUntil.Sub(old.Now()), longest)
	if old.Now() >= b.Now() { // else b is of a cluster that got further: its own clock holds
		h := &old.Header
		b.Header.Now, b.Anchor, b.AnchorTime, b.HeldSince = h.Now, h.Anchor, h.AnchorTime, h.HeldSince
	}
	b.Header.Calendar = max(b.Header.Calendar, old.Header.Calendar)
	b.recount()
	b.FenceUntil = b.Now().Add(fence)
	b.High = max(b.High, b.Floor, old.High, old.Floor) + generation
	b.Floor = b.High
	b.Grants = max(b.Grants, old.Grants) + grantsLift
	b.Places, b.Bookings = max(b.Places, old.Places), max(b.Bookings, old.Bookings)
	if known {
		b.keepPins(old)
		b.dropEnded(old)
	} else {
		b.movePins(b.Now() - was)
	}
	b.eachSession(func(slot uint32, _ *sessionRow) bool {
		b.heartbeat(b.sessions.mut(b.gen, slot))
		return true
	})
	b.keepKeys(old, known)
	b.bringBack(old, b.Now()-old.Now())
	b.resumeQueue()
	old.endMissing(b)
}

// Recover makes b, the ledger of one node that is left of a cluster that has lost its
// majority, one to go on with. It is the last known state of unknown age: the lost nodes may
// have acknowledged more. So it is treated like a backup of a cluster that nobody can ask:
// sessions get a whole term, tokens and lease ids are lifted, and checkouts wait. fence is
// for how long, but never less than the longest term that the ledger knows; 0 means that
// and one term of the default profile at least, for licences that the lost nodes may have
// known of.
func (b *Book) Recover(fence time.Duration) {
	left := b.FenceUntil.Sub(b.Now())
	b.Resume(NewBook(), false)
	if fence > 0 {
		b.FenceUntil = b.Now().Add(max(fence, left, b.longestTerm()))
	}
}

// has says whether the ledger has this lease of this session.
func (b *Book) has(ref Ref, id SessionID) bool {
	slot := b.lookup(ref.ID)
	return slot != 0 && b.leases.at(slot).Token == ref.Token && b.sessions.at(b.leases.at(slot).Session).ID == id
}

// dropEnded takes out what the later ledger knows to have ended. That was told and
// recorded when it happened.
func (b *Book) dropEnded(later *Book) {
	var leases, sessions []uint32
	b.eachLease(func(slot uint32, l *leaseRow) bool {
		if !later.has(Ref{l.id(slot), l.Token}, b.sessions.at(l.Session).ID) {
			leases = append(leases, slot)
		}
		return true
	})
	for _, slot := range leases {
		b.release(slot, ReleasedNormal)
	}
	b.events = nil
	b.eachSession(func(slot uint32, _ *sessionRow) bool {
		sessions = append(sessions, slot)
		return true
	})
	for _, slot := range sessions {
		s := b.sessions.mut(b.gen, slot)
		at := later.findSession(s.ID)
		if at == 0 {
			b.forget(slot)
			continue
		}
		now := later.sessions.at(at)
		s.Incarnation, s.Seq = now.Incarnation, now.Seq
		b.setLast(slot, later.last(at))
		if now.closed() && !s.closed() {
			b.close(slot)
		}
	}
}

// endMissing ends the leases that the successor does not have, for the usage records.
func (b *Book) endMissing(next *Book) {
	var gone []uint32
	b.eachLease(func(slot uint32, l *leaseRow) bool {
		if !next.has(Ref{l.id(slot), l.Token}, b.sessions.at(l.Session).ID) {
			gone = append(gone, slot)
		}
		return true
	})
	for _, slot := range gone {
		b.release(slot, ReleasedByAdmin)
	}
}

// longestTerm is the longest time that a lease of the ledger may be held or believed in
// after its last heartbeat. A pool stays for as long as it has a lease.
func (b *Book) longestTerm() (longest time.Duration) {
	longest = b.longestProfile()
	b.pools.all(func(_ uint32, p *PoolRecord) bool {
		longest = max(longest, p.Profile.Lifespan+p.Profile.Grace)
		return true
	})
	return longest
}
