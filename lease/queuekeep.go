package lease

import (
	"fmt"
	"slices"
)

// What the queue and the bookings need to be saved, restored and checked.

// Left is the reason of a Dequeued event when the client gave the place up or its session
// ended.
const Left Reason = "left"

// waiting counts the places in the line of a pool.
func (b *Book) waiting(pool uint32) int {
	if l := b.queue.lines[pool]; l != nil {
		return len(l.claims)
	}
	return 0
}

// dueOthers adds what else is due: places in the queue, bookings.
func (b *Book) dueOthers(due []Command, limit int) ([]Command, bool) {
	places, done := b.queue.due.dueBy(b.Now(), limit-len(due), dueStep, b.placeDue)
	for _, slot := range places {
		due = append(due, Dequeue{Slot: slot, Ticket: b.placeAt(slot).Ticket})
	}
	if !done || len(due) == limit {
		return due, done
	}
	bookings, done := b.booking.due.dueBy(b.Now(), limit-len(due), dueStep, b.bookingDue)
	for _, slot := range bookings {
		due = append(due, ExpireBooking{Slot: slot, Number: b.bookingAt(slot).Number})
	}
	return due, done
}

// reindexQueue derives what is derived of the places; the lines follow with the totals.
func (b *Book) reindexQueue() {
	b.queue, b.offers = newQueueState(), 0
	var taken []uint32
	b.places.all(func(i uint32, p **PlaceRecord) bool {
		if *p != nil {
			taken = append(taken, i)
			b.queue.of[(*p).Session] = append(b.queue.of[(*p).Session], i)
			b.queue.due.push(i, b.placeDue(i))
		}
		return true
	})
	b.queue.n, b.queue.slots = len(taken), numbersWithout(taken)
	for _, of := range b.queue.of {
		slices.SortFunc(of, func(x, y uint32) int { return comparePlaces(b.placeAt(x), b.placeAt(y)) })
	}
	b.pins.all(func(_ uint32, p **Pin) bool {
		if *p != nil && (*p).Kind == PinOffered {
			b.offers++
		}
		return true
	})
}

func (b *Book) reindexBookings() {
	b.booking = newBookingState()
	var taken []uint32
	b.bookings.all(func(i uint32, r **BookingRecord) bool {
		if *r != nil {
			taken = append(taken, i)
			b.indexBooking(i)
		}
		return true
	})
	b.booking.slots = numbersWithout(taken)
}

// resumeQueue empties the queue of a ledger that comes from a backup: those who wait ask
// again, and the backup does not know who came since. Offers become ordinary leases,
// because their clients may have collected them since.
func (b *Book) resumeQueue() {
	events := b.events // of what is brought back
	b.places.all(func(_ uint32, p **PlaceRecord) bool {
		if *p != nil {
			b.quitAll((*p).Session, Left)
		}
		return true
	})
	var offered []uint32
	b.pins.all(func(i uint32, p **Pin) bool {
		if *p != nil && (*p).Kind == PinOffered {
			offered = append(offered, i)
		}
		return true
	})
	for _, slot := range offered {
		b.unpin(slot)
	}
	b.stirred, b.events = nil, events
}

// Stirred lists the pools whose line is to be looked at with the next command.
func (f *Frozen) Stirred() []uint32 { return f.t.stirred }

// Places calls yield for each place in the queue in slot order.
func (f *Frozen) Places(yield func(slot uint32, r *PlaceRecord) bool) {
	f.t.places.all(func(i uint32, p **PlaceRecord) bool { return *p == nil || yield(i, *p) })
}

// Bookings calls yield for each booking in slot order.
func (f *Frozen) Bookings(yield func(slot uint32, r *BookingRecord) bool) {
	f.t.bookings.all(func(i uint32, p **BookingRecord) bool { return *p == nil || yield(i, *p) })
}

// BookedLeases calls yield for each lease that has seats of a booking, in slot order.
func (f *Frozen) BookedLeases(yield func(slot uint32, r BookedLease) bool) {
	f.t.bookedLeases.all(func(i uint32, x *BookedLease) bool { return x.Number == 0 || yield(i, *x) })
}

// Stirred adds the pools whose line is to be looked at.
func (l *Loader) Stirred(pools []uint32) { l.b.stirred = slices.Clone(pools) }

// Place puts a place in the queue at its slot.
func (l *Loader) Place(slot uint32, r PlaceRecord) {
	l.fresh("place", slot, r.Ticket != 0, l.b.placeAt(slot) == nil)
	l.b.setPlace(slot, r)
}

// Booking puts a booking at its slot.
func (l *Loader) Booking(slot uint32, r BookingRecord) {
	l.fresh("booking", slot, r.Number != 0, l.b.bookingAt(slot) == nil)
	*l.b.bookings.mut(l.b.gen, slot) = &r
}

// BookedLease notes what a lease has of a booking.
func (l *Loader) BookedLease(slot uint32, r BookedLease) {
	to := l.b.bookedLeases.mut(l.b.gen, slot)
	l.fresh("booked lease", slot, r.Number != 0, to.Number == 0)
	*to = r
}

func (l *Loader) checkQueue() {
	b := l.b
	if len(b.stirred) > MaxPlaces*MaxItems {
		l.fail("%d pools are stirred", len(b.stirred))
	}
	tickets := map[uint64]bool{}
	(&Frozen{b.tables}).Places(func(i uint32, p *PlaceRecord) bool {
		s := b.sessions.at(p.Session)
		switch {
		case s == nil || s.ID.IsZero() || s.closed():
			l.fail("place %d has no session", i)
		case len(p.Items) < 1 || len(p.Items) > MaxItems || p.Short < 0 || p.Short >= len(p.Items) || p.Priority < -MaxPriority || p.Priority > MaxPriority:
			l.fail("place %d is in an impossible state", i)
		case p.Ticket > b.Places || tickets[p.Ticket]:
			l.fail("place %d has an impossible ticket", i)
		case p.Until < 0 || p.Profile.Lifespan < 0 || p.Profile.Lifespan > MaxLifespan || p.Profile.Grace < 0 || p.Profile.Grace > MaxGrace:
			l.fail("place %d has an impossible end", i)
		}
		for _, it := range p.Items {
			if checkItem(it) != nil {
				l.fail("place %d asks for what cannot be", i)
			}
		}
		tickets[p.Ticket] = true
		return l.err == nil
	})
}

func (l *Loader) checkBookings() {
	b := l.b
	names := map[featureKey]bool{}
	(&Frozen{b.tables}).Bookings(func(i uint32, r *BookingRecord) bool {
		k := featureKey{r.Tenant, r.ID}
		if names[k] || r.ID == "" || r.Number > b.Bookings || len(r.Lines) < 1 || len(r.Lines) > MaxItems || r.Until < 0 {
			l.fail("booking %d is in an impossible state", i)
		}
		names[k] = true
		for _, x := range r.Lines {
			if p := b.pools.at(x.Pool); p == nil || p.Feature == "" || checkItem(x.Item) != nil || x.Used < 0 || x.Used > x.Item.Count {
				l.fail("booking %d has an impossible line", i)
			} else if payer := b.pools.at(x.Payer); x.Payer != 0 && (p.Draw.Of == "" || p.Draw.Suite || payer == nil || !p.paidBy(payer)) {
				l.fail("booking %d is paid by a pool that does not pay for it", i)
			}
		}
		return l.err == nil
	})
	(&Frozen{b.tables}).BookedLeases(func(i uint32, x BookedLease) bool {
		r := b.bookingAt(x.Booking)
		if r != nil && r.Number == x.Number && int(x.Line) >= len(r.Lines) {
			l.fail("lease slot %d has seats of no line of its booking", i)
		}
		return l.err == nil
	})
}

// checkQueue looks whether places, lines and claims agree.
func (b *Book) checkQueue() (err error) {
	n, claims, offers := 0, 0, 0
	b.places.all(func(i uint32, r **PlaceRecord) bool {
		if *r == nil {
			return true
		}
		n++
		p := *r
		s := b.sessions.at(p.Session)
		switch {
		case s == nil || s.ID.IsZero() || s.closed():
			err = fmt.Errorf("place %d has no live session", p.Ticket)
		case p.Ticket > b.Places || p.Joined > b.Now():
			err = fmt.Errorf("place %d is from the future", p.Ticket)
		case !slices.Contains(b.queue.of[p.Session], i):
			err = fmt.Errorf("place %d is not its session's", p.Ticket)
		case b.queue.due.place(i) < 0 || b.queue.due.entry(b.queue.due.place(i)).key > b.placeDue(i):
			err = fmt.Errorf("place %d would be found due too late", p.Ticket)
		case len(b.queue.of[p.Session]) > MaxPlacesPerSession:
			err = fmt.Errorf("session %s waits in %d places", s.ID, len(b.queue.of[p.Session]))
		default:
			err = b.checkStands(i, p, s)
		}
		claims += len(b.queue.stands[i])
		return err == nil
	})
	for _, l := range b.queue.lines {
		claims -= len(l.claims)
		if err == nil && (len(l.claims) == 0 || !slices.IsSortedFunc(l.claims, compareClaims)) {
			err = fmt.Errorf("a line of %d claims is empty or out of order", len(l.claims))
		}
	}
	b.pins.all(func(_ uint32, p **Pin) bool {
		if *p != nil && (*p).Kind == PinOffered {
			offers++
		}
		return true
	})
	if err == nil && (n != b.queue.n || n > MaxPlaces || claims != 0 || offers != b.offers) {
		err = fmt.Errorf("%d places, %d counted; %d claims of nobody; %d offers, %d counted", n, b.queue.n, -claims, offers, b.offers)
	}
	return err
}

// checkStands wants a place in the line of every pool that could serve it, and nowhere
// else.
func (b *Book) checkStands(slot uint32, p *PlaceRecord, s *sessionRow) error {
	want := map[uint32]int{}
	for _, it := range p.Items {
		if b.heldBy(s, it) != 0 {
			continue
		}
		for pool, need := range b.claimsOf(b.owner(p.Session).tenant(), it) {
			want[pool] += need
		}
	}
	for _, pool := range b.queue.stands[slot] {
		l := b.queue.lines[pool]
		if l == nil || !slices.ContainsFunc(l.claims, func(x claim) bool { return x.ticket == p.Ticket && x.need == want[pool] && x.aside == p.Aside }) {
			return fmt.Errorf("place %d claims %d seats of pool %d and does not stand there so", p.Ticket, want[pool], pool)
		}
	}
	if len(want) != len(b.queue.stands[slot]) {
		return fmt.Errorf("place %d stands in %d lines, not in %d", p.Ticket, len(b.queue.stands[slot]), len(want))
	}
	return nil
}
