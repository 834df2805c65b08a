package lease

import (
	"maps"
	"slices"
)

func (b *Book) checkIn(c CheckIn) Reply {
	if len(c.Refs) > MaxLeasesPerSession {
		return Reply{Refusal: refuse(Invalid, "%d leases in one check-in; a session holds at most %d", len(c.Refs), MaxLeasesPerSession)}
	}
	slot, s, refusal := b.enter(c.Session)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	replay, refusal := b.numbered(slot, c.Session.Seq, DoneCheckIn)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	if replay {
		last := b.last(slot)
		return Reply{Refusal: last.Refusal, Released: last.Released, Lost: last.Lost, Replayed: true}
	}
	why := c.Reason
	if why != ReleasedClientExit {
		why = ReleasedNormal
	}
	slots, lost := b.named(slot, s, c)
	if len(lost) > 0 && len(slots) == 0 && !c.Close {
		refusal = refuse(Fenced, "lease %d is not held by this session any more; nothing was returned", lost[0].ID)
		if b.lentTo(slot, lost[0].Ref) {
			refusal = refuse(Fenced, "lease %d is borrowed, and somebody may use it offline: whoever has its token gives it back (seatkeeper return); nothing was returned", lost[0].ID)
		}
		b.finish(slot, c.Session.Seq, Done{Kind: DoneCheckIn, Refusal: refusal})
		return Reply{Refusal: refusal}
	}
	r := Reply{Lost: lost}
	for _, l := range slots {
		if Broken(GuardRelease) {
			continue
		}
		b.collect(l)
		r.Released = append(r.Released, b.giveBack(l, why))
	}
	b.finish(slot, c.Session.Seq, Done{Kind: DoneCheckIn, Released: r.Released, Lost: lost})
	if c.Close && b.holdsNone(s) {
		b.close(slot)
	}
	return r
}

// named finds the leases a check-in means; those the session does not hold (any more)
// come back as lost, and are not touched whoever holds them now. What is borrowed is its
// token's holder's, who may be another process, or offline.
func (b *Book) named(session uint32, s *sessionRow, c CheckIn) (slots []uint32, lost []Lost) {
	if len(c.Refs) == 0 || c.Close {
		b.each(s, func(slot uint32, _ *leaseRow) {
			if p := b.pinAt(slot); p == nil || p.Kind == PinOffered {
				slots = append(slots, slot)
			}
		})
		if Broken(GuardOrder) {
			slots = inMapOrder(slots)
		}
		if len(c.Refs) == 0 {
			return slots, nil
		}
	}
	seen := map[ID]bool{}
	for _, r := range c.Refs {
		switch {
		case !b.holds(session, r) || b.lentTo(session, r):
			lost = append(lost, Lost{Ref: r})
		case !c.Close && !seen[r.ID]:
			slots = append(slots, b.lookup(r.ID))
			seen[r.ID] = true // named twice, returned once
		}
	}
	return slots, lost
}

// lentTo says whether the lease is one that a session borrowed.
func (b *Book) lentTo(session uint32, r Ref) bool {
	slot := b.borrowedSlot(r)
	return slot != 0 && b.leases.at(slot).Session == session && !Broken(GuardLentKept)
}

// inMapOrder is the mistake that GuardOrder stands for: each replica gives another order.
func inMapOrder(slots []uint32) []uint32 {
	set := map[uint32]bool{}
	for _, slot := range slots {
		set[slot] = true
	}
	return slices.Collect(maps.Keys(set))
}

// expire reclaims a lease if the proposer saw it as it is now and its grace is over.
// A heartbeat that came first in the log moved the deadline, and wins. It does not move that
// of a pinned lease, and does not win: a client that goes on sending heartbeats would keep
// the seats of one that is over.
func (b *Book) expire(c Expire) Reply {
	slot := b.lookup(c.ID)
	if slot == 0 {
		return Reply{Refusal: refuse(Fenced, "lease %d is gone", c.ID)}
	}
	l := b.leases.at(slot)
	switch {
	case l.Token != c.Token && !Broken(GuardExpireToken):
		return Reply{Refusal: refuse(Fenced, "lease %d has token %d, not %d", c.ID, l.Token, c.Token)}
	case b.sessions.at(l.Session).Rev != c.Rev && b.pinAt(slot) == nil && !Broken(GuardExpireRev):
		return Reply{Refusal: refuse(Fenced, "lease %d was renewed meanwhile", c.ID)}
	case b.leaseDue(slot) > b.Now() && !Broken(GuardExpireTime):
		return Reply{Refusal: refuse(Fenced, "lease %d is not due yet", c.ID)}
	}
	return Reply{Released: []Released{b.release(slot, b.dueReason(slot))}}
}

func (b *Book) expireSession(c ExpireSession) Reply {
	slot := b.findSession(c.ID)
	if slot == 0 {
		return Reply{Refusal: refuse(SessionUnknown, "session %s is gone", c.ID)}
	}
	if s := b.sessions.at(slot); s.Rev != c.Rev || s.Leases > 0 || b.sessionDue(slot) > b.Now() {
		return Reply{Refusal: refuse(Fenced, "session %s is not due", c.ID)}
	}
	b.forget(slot)
	return Reply{}
}

func (b *Book) kill(c Kill) Reply {
	for _, ref := range c.Refs {
		if slot := b.lookup(ref.ID); slot != 0 && (ref.Token == 0 || ref.Token == b.leases.at(slot).Token) {
			if refusal := b.killRefused(slot); refusal != nil {
				return Reply{Refusal: refusal}
			}
		}
	}
	var r Reply
	for _, ref := range c.Refs {
		slot := b.lookup(ref.ID)
		if slot == 0 || ref.Token != 0 && ref.Token != b.leases.at(slot).Token {
			continue
		}
		if p := b.pinAt(slot); p != nil && p.Kind == PinBorrowed {
			b.quarantine(slot) // its holder may not know
			r.Leases = append(r.Leases, b.show(slot))
			continue
		}
		r.Released = append(r.Released, b.release(slot, ReleasedByAdmin))
	}
	return r
}
