package lease

import (
	"fmt"
	"maps"
)

// A pinned lease ends at a fixed time: no heartbeat moves it, and the end of its session
// does not end it. Its session's row stays for as long as it lives, because owner and
// share key stand there; if the session was closed nobody can act through it.
//
// Pins stand in a table of their own, so that ordinary leases pay nothing for them.

// PinKind says why a lease's end is fixed.
type PinKind uint8

// Kinds of pins.
const (
	// PinBorrowed: a holder believes in it offline, by a signed token, until its end.
	PinBorrowed PinKind = iota + 1
	// PinLingering: it was checked in, and its seats stay charged for a while.
	PinLingering
)

// Pin is what is known of a pinned lease beside its row.
type Pin struct {
	Kind PinKind
	// End is when its seats come free, in cluster time.
	End Time
	// Until is the calendar date that its holder was told; 0: nobody was told one.
	Until Calendar
	// Revoked: the holder may not use it any more, but may not know; its seats stay
	// charged until End (quarantine).
	Revoked bool
}

// PinRecord is a Pin in a snapshot.
type PinRecord struct {
	Slot uint32 // of its lease
	Pin
}

// pinAt is the pin of a lease; nil if it has none.
func (t *tables) pinAt(slot uint32) *Pin {
	if p := t.pins.at(slot); p != nil {
		return *p
	}
	return nil
}

// pin fixes the end of a live lease, or fixes it anew.
func (b *Book) pin(slot uint32, p Pin) {
	b.forgetPin(slot)
	kept := p // only what is remembered goes to the heap
	*b.pins.mut(b.gen, slot) = &kept
	b.countPin(slot, 1)
	if p.Kind == PinLingering {
		b.noteLingering(slot)
	}
	b.dueAnew(slot)
	b.restandOf(b.leases.at(slot).Session)
}

// unpin gives a lease back to the heartbeat of its session.
func (b *Book) unpin(slot uint32) {
	b.forgetPin(slot)
	b.dueAnew(slot)
}

func (b *Book) forgetPin(slot uint32) {
	b.dropLingering(slot)
	if p := b.pinAt(slot); p != nil {
		b.countPin(slot, -1)
		*b.pins.mut(b.gen, slot) = nil
	}
}

// countPin counts the seats of a pinned lease in or out of those that are borrowed.
func (b *Book) countPin(slot uint32, sign int) {
	switch b.pinAt(slot).Kind {
	case PinOffered:
		b.offers += sign
	case PinBorrowed:
		l := b.leases.at(slot)
		b.lentSeats[b.groups.at(l.Group).Pool] += sign * int(l.Count)
	}
}

// dueAnew puts a lease at its place in the due index: a pin may end before what stands
// there, which the index does not bear otherwise.
func (b *Book) dueAnew(slot uint32) {
	pool := b.poolAt(slot)
	b.dueLeases.remove(pool, slot)
	b.dueLeases.push(pool, slot, b.leaseDue(slot))
}

// claimed says whether its session still holds the lease: it does not hold what it has
// checked in, or what was revoked.
func (b *Book) claimed(slot uint32) bool {
	p := b.pinAt(slot)
	return p == nil || p.Kind == PinOffered || p.Kind == PinBorrowed && !p.Revoked
}

// holdsNone says whether a session has no leases but pinned ones, which its end does not
// touch.
func (b *Book) holdsNone(s *sessionRow) bool {
	pinned := true
	b.each(s, func(slot uint32, _ *leaseRow) { pinned = pinned && b.pinAt(slot) != nil })
	return pinned
}

// stateOf derives the state of a live lease.
func (b *Book) stateOf(slot uint32) State {
	if p := b.pinAt(slot); p != nil {
		switch {
		case p.Kind == PinLingering:
			return Lingering
		case p.Kind == PinOffered:
			return Active
		case p.Revoked:
			return Quarantined
		}
		return Borrowed
	}
	if b.deadlineOf(slot) <= b.Now() {
		return Expiring
	}
	return Active
}

// showPin puts into the copy of a lease what its pin says.
func (b *Book) showPin(slot uint32, x *Lease) {
	if p := b.pinAt(slot); p != nil {
		x.State, x.Deadline, x.Until = b.stateOf(slot), p.End, p.Until
		x.Remaining, x.Grace = max(0, p.End.Sub(b.Now())), 0
	}
}

// dueReason is why a lease ends that nobody gave back in time.
func (b *Book) dueReason(slot uint32) Release {
	p := b.pinAt(slot)
	switch {
	case p == nil:
		return ReleasedMissedHeartbeat
	case p.Kind == PinLingering:
		return ReleasedLingerOver
	case p.Kind == PinOffered:
		return ReleasedDequeued
	case p.Revoked:
		return ReleasedByAdmin
	}
	return ReleasedTimeout
}

// Pins calls yield for each pinned lease in slot order.
func (f *Frozen) Pins(yield func(r *PinRecord) bool) {
	f.t.pins.all(func(i uint32, p **Pin) bool { return *p == nil || yield(&PinRecord{i, **p}) })
}

// Pin pins a lease that was given before.
func (l *Loader) Pin(r PinRecord) {
	x := l.b.leases.at(r.Slot)
	switch {
	case x == nil || x.free():
		l.fail("pin of lease slot %d, which is empty", r.Slot)
	case l.b.pinAt(r.Slot) != nil:
		l.fail("lease slot %d is pinned twice", r.Slot)
	case r.Kind != PinBorrowed && r.Kind != PinLingering && r.Kind != PinOffered, r.Revoked && r.Kind != PinBorrowed, r.End < 0:
		l.fail("lease slot %d has an impossible pin", r.Slot)
	default:
		kept := r.Pin
		*l.b.pins.mut(l.b.gen, r.Slot) = &kept
	}
}

// checkPins wants every pin on a live lease, and every lease of a closed session pinned.
func (b *Book) checkPins() (err error) {
	b.pins.all(func(i uint32, p **Pin) bool {
		if l := b.leases.at(i); *p != nil && (l == nil || l.free()) {
			err = fmt.Errorf("slot %d is pinned and has no lease", i)
		}
		return err == nil
	})
	b.eachLease(func(i uint32, l *leaseRow) bool {
		if err == nil && b.sessions.at(l.Session).closed() && b.pinAt(i) == nil {
			err = fmt.Errorf("lease %d is of a closed session", l.id(i))
		}
		return err == nil
	})
	if err == nil && !maps.Equal(b.countLent(), nonZero(b.lentSeats)) {
		err = fmt.Errorf("%v seats are borrowed, %v counted", b.countLent(), b.lentSeats)
	}
	return err
}

// nonZero is a copy without the pools that have none.
func nonZero(count map[uint32]int) map[uint32]int {
	out := maps.Clone(count)
	maps.DeleteFunc(out, func(_ uint32, n int) bool { return n == 0 })
	return out
}

// keepPins takes the pins over from the later ledger for the leases that both have: a
// holder offline believes what it was told last. Called before leases are dropped.
func (b *Book) keepPins(later *Book) {
	b.eachLease(func(slot uint32, l *leaseRow) bool {
		if !later.has(Ref{l.id(slot), l.Token}, b.sessions.at(l.Session).ID) {
			return true
		}
		switch p := later.pinAt(slot); {
		case p != nil:
			b.pin(slot, *p)
		case b.pinAt(slot) != nil:
			b.unpin(slot)
		}
		return true
	})
}

// movePins moves the end of all pins by what the clock moved when the ledger became that
// of another cluster: nobody knows how much of that passed since, so none ends early.
func (b *Book) movePins(by Time) {
	var slots []uint32
	b.pins.all(func(i uint32, p **Pin) bool {
		if *p != nil {
			slots = append(slots, i)
		}
		return true
	})
	for _, slot := range slots {
		p := *b.pinAt(slot)
		p.End += by
		b.pin(slot, p)
	}
}
