package lease

import (
	"fmt"
	"slices"
	"time"
)

// A booking keeps seats for a job from now until a fixed time: a scheduler makes it when
// it decides to start the job, and the job's checkout, which names it, turns the seats
// into leases. So a seat that was free when the scheduler looked is there when the job
// starts. Seats of the booking that are not leased count as taken for everybody else.
// When a lease of the job ends before the booking does, its seats are the booking's
// again; when the booking ends, what is leased stays leased and the rest is free.

// Limits of bookings, each with its reason.
const (
	// MaxBookings is how many there are in all: some for every job of a large cluster.
	MaxBookings = 10_000
	// MinBooking and MaxBooking bound how long seats are kept: below a second a change of
	// leader alone would use it up; what is kept for longer than a week is a reservation.
	MinBooking = time.Second
	MaxBooking = 7 * 24 * time.Hour
)

// BookingUnknown is the reason when a booking is named that is not there (any more).
const BookingUnknown Reason = "booking_unknown"

// MakeBooking books seats of every item or of none. The same booking again is answered
// again; it is not made longer.
type MakeBooking struct {
	// ID is the scheduler's name for it, one in its tenant.
	Tenant, ID string
	Items      []Item
	For        time.Duration
	// Only says who may use it: User, Host and Project, where not empty, must agree.
	Only Principal
	By   string // who asked, for the audit trail
}

// CancelBooking ends a booking before its time.
type CancelBooking struct {
	Tenant, ID string
	By         string
}

// ExpireBooking ends a booking whose time is over. The leader proposes it; the Book
// judges it again.
type ExpireBooking struct {
	Slot   uint32
	Number uint64
}

func (MakeBooking) isCommand()   {}
func (CancelBooking) isCommand() {}
func (ExpireBooking) isCommand() {}

// BookingRecord is one live booking.
type BookingRecord struct {
	// Number counts bookings ever made, from 1; zero: the slot is free.
	Number     uint64
	Tenant, ID string
	Only       Principal
	By         string
	Made       Time
	MadeDate   Calendar
	Until      Time
	Lines      []BookedLine
}

// BookedLine is one item of a booking: Item.Count seats of a pool, of which the job's
// leases use some.
type BookedLine struct {
	Item Item
	Pool uint32
	Used int
	// Payer is the pool whose seats are kept beside them because the item costs tokens; 0:
	// it costs none.
	Payer uint32
}

// BookedLease says which seats of a lease are those of a booking.
type BookedLease struct {
	Booking     uint32 // slot
	Number      uint64 // zero: none; of another booking than stands there: it is over
	Line, Seats uint32
}

// Booking is a booking as it is shown.
type Booking struct {
	Tenant, ID string
	Lines      []BookedItem
	Only       Principal
	By         string
	Since      Calendar
	// Remaining is the time to its end.
	Remaining time.Duration
}

// BookedItem is one item of a booking as it is shown.
type BookedItem struct {
	// Item's Version is that of the pool.
	Item
	Used int // seats leased by the job now
}

// bookingState is what is derived of the bookings.
type bookingState struct {
	slots numbers
	byID  map[featureKey]uint32 // tenant and id
	due   dueIndex
	kept  map[uint32]int // by pool: seats booked and not leased
}

func newBookingState() bookingState {
	return bookingState{byID: map[featureKey]uint32{}, kept: map[uint32]int{}}
}

func (t *tables) bookingAt(slot uint32) *BookingRecord {
	if x := t.bookings.at(slot); x != nil && *x != nil {
		return *x
	}
	return nil
}

func (b *Book) bookingDue(slot uint32) Time { return b.bookingAt(slot).Until }

func (b *Book) makeBooking(c MakeBooking) Reply {
	if c.Tenant == "" {
		c.Tenant = DefaultTenant
	}
	if r := checkBooking(&c); r != nil {
		return Reply{Refusal: r}
	}
	if slot := b.booking.byID[featureKey{c.Tenant, c.ID}]; slot != 0 {
		if !b.sameBooking(slot, &c) {
			return Reply{Refusal: refuse(Invalid, "booking %s exists already with other seats; cancel it first, or choose another name", c.ID)}
		}
		x := b.showBooking(slot)
		return Reply{Booking: &x, Replayed: true}
	}
	if len(b.booking.byID) >= MaxBookings {
		return Reply{Refusal: refuse(Overloaded, "the cluster holds %d bookings, the most it takes; cancel some", MaxBookings)}
	}
	// It finds its seats as a checkout by somebody new would.
	ask := Checkout{Tenant: c.Tenant, Session: SessionRef{ID: SessionID{1}}, Principal: c.Only, Items: c.Items}
	lines, refusal := b.planBooking(&ask)
	short := func() bool { return refusal != nil && refusal.Reason == NoSeats }
	if short() && !b.regain(&ask, false, func() bool {
		lines, refusal = b.planBooking(&ask)
		return !short()
	}) {
		return Reply{Refusal: stillDue()}
	}
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	slot := b.booking.slots.take()
	b.Bookings++
	*b.bookings.mut(b.gen, slot) = &BookingRecord{
		Number: b.Bookings, Tenant: c.Tenant, ID: c.ID, Only: c.Only, By: c.By,
		Made: b.Now(), MadeDate: b.Calendar(), Until: b.Now().Add(c.For), Lines: lines,
	}
	b.indexBooking(slot)
	x := b.showBooking(slot)
	return Reply{Booking: &x}
}

func checkBooking(c *MakeBooking) *Refusal {
	for _, n := range []struct {
		what, s string
		empty   bool
	}{{"tenant", c.Tenant, false}, {"booking id", c.ID, false}, {"user", c.Only.User, true}, {"host", c.Only.Host, true},
		{"project", c.Only.Project, true}, {"name of who asked", c.By, true}} {
		if r := checkName(n.what, n.s, n.empty); r != nil {
			return r
		}
	}
	switch {
	case len(c.Items) == 0:
		return refuse(Invalid, "no feature is named; say which one to book")
	case len(c.Items) > MaxItems:
		return refuse(Invalid, "%d features in one booking; at most %d are possible", len(c.Items), MaxItems)
	case c.For < MinBooking || c.For > MaxBooking:
		return refuse(Invalid, "a booking lasts %v to %v, not %v", MinBooking, MaxBooking, c.For)
	case c.Only != Principal{User: c.Only.User, Host: c.Only.Host, Project: c.Only.Project}:
		return refuse(Invalid, "a booking can be kept to a user, a host or a project")
	}
	for _, it := range c.Items {
		if r := checkItem(it); r != nil {
			return r
		}
	}
	return nil
}

// planBooking finds the seats of each item in one pool.
func (b *Book) planBooking(ask *Checkout) (lines []BookedLine, refusal *Refusal) {
	if left := b.FenceUntil.Sub(b.Now()); left > 0 {
		r := refuse(Overloaded, "the cluster was restored from a backup; bookings resume in %v", left.Round(time.Second))
		r.RetryAfter = left
		return nil, r
	}
	for _, it := range ask.Items {
		pools, r := b.fitting(ask.Tenant, it)
		if r != nil {
			return nil, r
		}
		if p := b.pools.at(pools[0]); p.Draw.Suite {
			return nil, refuse(Invalid, "feature %s comes with the suite %s, of which a seat is its holder's, whoever that will be; it cannot be booked: let the job wait for it (wait_ms, --wait)", it.Feature, p.Draw.Of)
		}
		line, ok := BookedLine{Item: it}, false
		for _, i := range pools {
			if line.Pool, line.Payer, ok = b.bookFrom(ask, i, it.Count, lines); ok {
				break
			}
		}
		if !ok {
			return nil, refuse(NoSeats, "feature %s: not enough free seats to book %d (%s); try again later", it.Feature, it.Count, b.usage(pools))
		}
		if slices.ContainsFunc(lines, func(l BookedLine) bool { return l.Pool == line.Pool }) {
			return nil, refuse(Invalid, "feature %s is named twice; add the counts up", it.Feature)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// bookFrom says whether n seats of a pool can be kept beside the lines planned before, and
// which pool would pay for them.
func (b *Book) bookFrom(ask *Checkout, pool uint32, n int, before []BookedLine) (_, payer uint32, ok bool) {
	if slices.ContainsFunc(before, func(l BookedLine) bool { return l.Pool == pool }) {
		return pool, 0, n <= b.room(pool, ask.Principal, ask) // named twice, which is said
	}
	fits := func(i uint32, n int) bool {
		for k := range before {
			n += b.lineTakes(&before[k], i)
		}
		return n <= b.room(i, ask.Principal, ask)
	}
	if !fits(pool, n) {
		return 0, 0, false
	}
	p := b.pools.at(pool)
	if p.Draw.Of == "" {
		return pool, 0, true
	}
	for _, i := range b.payers(p) {
		if fits(i, p.Draw.cost(n)) {
			return pool, i, true
		}
	}
	return 0, 0, false
}

// lineTakes is how many seats of a pool a line keeps.
func (b *Book) lineTakes(l *BookedLine, pool uint32) (n int) {
	left := l.Item.Count - l.Used
	if l.Pool == pool {
		n += left
	}
	if l.Payer == pool && left > 0 {
		n += b.pools.at(l.Pool).Draw.cost(left)
	}
	return n
}

// keepLine counts what a line keeps, in (sign 1) or out (-1).
func (b *Book) keepLine(l *BookedLine, sign int) {
	b.keep(l.Pool, sign*b.lineTakes(l, l.Pool))
	if l.Payer != 0 {
		b.keep(l.Payer, sign*b.lineTakes(l, l.Payer))
	}
}

// bookedPayer is the pool that keeps the tokens for what a checkout takes of a booking, and
// how many; 0: the checkout takes nothing of one, or that costs no tokens.
func (b *Book) bookedPayer(x BookedLease) (pool uint32, tokens int) {
	if x.Seats == 0 {
		return 0, 0
	}
	l := &b.bookingAt(x.Booking).Lines[x.Line]
	if l.Payer == 0 || !b.state[l.Payer].valid { // what was kept is gone with its licence
		return 0, 0
	}
	after := *l
	after.Used += int(x.Seats)
	return l.Payer, b.lineTakes(l, l.Payer) - b.lineTakes(&after, l.Payer)
}

func (b *Book) sameBooking(slot uint32, c *MakeBooking) bool {
	x := b.bookingAt(slot)
	return x.Only == c.Only && slices.EqualFunc(x.Lines, c.Items, func(l BookedLine, it Item) bool { return l.Item == it })
}

// indexBooking makes a booking findable and its seats kept.
func (b *Book) indexBooking(slot uint32) {
	x := b.bookingAt(slot)
	b.booking.byID[featureKey{x.Tenant, x.ID}] = slot
	b.booking.due.push(slot, x.Until)
	for k := range x.Lines {
		b.keepLine(&x.Lines[k], 1)
	}
}

func (b *Book) keep(pool uint32, n int) {
	if b.booking.kept[pool] += n; b.booking.kept[pool] == 0 {
		delete(b.booking.kept, pool)
	}
}

func (b *Book) cancelBooking(c CancelBooking) Reply {
	if c.Tenant == "" {
		c.Tenant = DefaultTenant
	}
	slot := b.booking.byID[featureKey{c.Tenant, c.ID}]
	if slot == 0 {
		return Reply{Refusal: refuse(BookingUnknown, "no booking %q; it was cancelled, or its time is over", c.ID)}
	}
	x := b.showBooking(slot)
	b.endBooking(slot)
	return Reply{Booking: &x}
}

func (b *Book) expireBooking(c ExpireBooking) Reply {
	x := b.bookingAt(c.Slot)
	switch {
	case x == nil || x.Number != c.Number:
		return Reply{Refusal: refuse(Fenced, "booking number %d is gone", c.Number)}
	case x.Until > b.Now():
		return Reply{Refusal: refuse(Fenced, "booking %s is not over", x.ID)}
	}
	b.endBooking(c.Slot)
	return Reply{}
}

// endBooking lets go of the seats that are not leased.
func (b *Book) endBooking(slot uint32) {
	x := b.bookingAt(slot)
	delete(b.booking.byID, featureKey{x.Tenant, x.ID})
	b.booking.due.remove(slot)
	for k := range x.Lines {
		l := &x.Lines[k]
		b.keepLine(l, -1)
		b.stir(l.Pool)
		b.stir(l.Payer)
	}
	*b.bookings.mut(b.gen, slot) = nil
	b.booking.slots.put(slot)
}

// endNextBooking ends the booking that is over longest, if any.
func (b *Book) endNextBooking() (pools []uint32) {
	slot, ok := b.booking.due.top(b.Now(), b.bookingDue)
	if !ok {
		return nil
	}
	for _, l := range b.bookingAt(slot).Lines {
		pools = append(pools, l.Pool)
		if l.Payer != 0 {
			pools = append(pools, l.Payer)
		}
	}
	b.endBooking(slot)
	return pools
}

// booked is how many seats of a pool are booked and not leased.
func (b *Book) booked(pool uint32) int {
	if Broken(GuardBooked) {
		return 0
	}
	return b.booking.kept[pool]
}

// bookingOf finds the booking that a checkout names, if its principal may use it.
func (b *Book) bookingOf(c *Checkout, who Principal) (slot uint32, refusal *Refusal) {
	if c.Booking == "" {
		return 0, nil
	}
	slot = b.booking.byID[featureKey{c.Tenant, c.Booking}]
	if slot == 0 || b.bookingAt(slot).Until <= b.Now() {
		return 0, refuse(BookingUnknown, "no booking %q; it was cancelled, or its time is over", c.Booking)
	}
	only := b.bookingAt(slot).Only
	for _, f := range [...]struct{ what, want, have string }{
		{"user", only.User, who.User}, {"host", only.Host, who.Host}, {"project", only.Project, who.Project},
	} {
		if f.want != "" && f.want != f.have {
			return 0, refuse(Forbidden, "booking %s is for %s %s, not for %q", c.Booking, f.what, f.want, f.have)
		}
	}
	return slot, nil
}

// ownBooked is what the booking that a checkout names keeps in a pool for it.
func (b *Book) ownBooked(pool uint32, who Principal, c *Checkout) (x BookedLease) {
	slot, _ := b.bookingOf(c, who)
	if slot == 0 {
		return x
	}
	r := b.bookingAt(slot)
	for n, l := range r.Lines {
		if l.Pool == pool && l.Used < l.Item.Count {
			return BookedLease{Booking: slot, Number: r.Number, Line: uint32(n), Seats: uint32(l.Item.Count - l.Used)}
		}
	}
	return x
}

// bookedFirst puts the pools in which the checkout's booking keeps seats before others.
func (b *Book) bookedFirst(pools []uint32, who Principal, c *Checkout) []uint32 {
	if c.Booking == "" {
		return pools
	}
	slices.SortStableFunc(pools, func(x, y uint32) int {
		return int(min(1, b.ownBooked(y, who, c).Seats)) - int(min(1, b.ownBooked(x, who, c).Seats))
	})
	return pools
}

// useBooked notes that a new lease has seats of a booking.
func (b *Book) useBooked(lease uint32, x BookedLease) {
	if x.Seats == 0 {
		return
	}
	*b.bookedLeases.mut(b.gen, lease) = x
	b.moveBooked(x, int(x.Seats))
}

// returnBooked gives the booking back what a lease had of it, if it is not over.
func (b *Book) returnBooked(lease uint32) {
	p := b.bookedLeases.at(lease)
	if p == nil || p.Number == 0 {
		return
	}
	x := *p
	*b.bookedLeases.mut(b.gen, lease) = BookedLease{}
	b.moveBooked(x, -int(x.Seats))
}

func (b *Book) moveBooked(x BookedLease, n int) {
	r := b.bookingAt(x.Booking)
	if r == nil || r.Number != x.Number {
		return
	}
	own := *r
	own.Lines = slices.Clone(r.Lines) // replaced, never written into
	l := &own.Lines[x.Line]
	b.keepLine(l, -1)
	l.Used += n
	b.keepLine(l, 1)
	*b.bookings.mut(b.gen, x.Booking) = &own
}

func (b *Book) showBooking(slot uint32) Booking {
	r := b.bookingAt(slot)
	x := Booking{Tenant: r.Tenant, ID: r.ID, Only: r.Only, By: r.By, Since: r.MadeDate, Remaining: max(0, r.Until.Sub(b.Now()))}
	for _, l := range r.Lines {
		it := l.Item
		it.Version = b.pools.at(l.Pool).Version
		x.Lines = append(x.Lines, BookedItem{it, l.Used})
	}
	return x
}

// ListBookings lists the live bookings of a tenant ("" = all), oldest first, at most
// limit.
func (b *Book) ListBookings(tenant string, limit int) (out []Booking) {
	var slots []uint32
	b.bookings.all(func(i uint32, r **BookingRecord) bool {
		if *r != nil && (tenant == "" || (*r).Tenant == tenant) {
			slots = append(slots, i)
		}
		return true
	})
	slices.SortFunc(slots, func(x, y uint32) int { return int(b.bookingAt(x).Number) - int(b.bookingAt(y).Number) })
	for _, slot := range slots[:min(len(slots), max(0, limit))] {
		out = append(out, b.showBooking(slot))
	}
	return out
}

// BookingCounts says how many bookings there are.
func (b *Book) BookingCounts() int { return len(b.booking.byID) }

func (b *Book) checkBookings() (err error) {
	used := map[uint64]map[uint32]int{}
	b.bookedLeases.all(func(i uint32, x *BookedLease) bool {
		if x.Number == 0 {
			return true
		}
		if l := b.leases.at(i); l == nil || l.free() || x.Seats < 1 || x.Seats > l.Count {
			err = fmt.Errorf("slot %d has booked seats and no lease", i)
			return false
		}
		if used[x.Number] == nil {
			used[x.Number] = map[uint32]int{}
		}
		used[x.Number][x.Line] += int(x.Seats)
		return true
	})
	kept, n := map[uint32]int{}, 0
	b.bookings.all(func(i uint32, r **BookingRecord) bool {
		if *r == nil || err != nil {
			return err == nil
		}
		n++
		x := *r
		if b.booking.byID[featureKey{x.Tenant, x.ID}] != i || x.Number > b.Bookings || b.booking.due.place(i) < 0 {
			err = fmt.Errorf("booking %s cannot be found", x.ID)
		}
		for k, l := range x.Lines {
			kept[l.Pool] += l.Item.Count - l.Used
			if l.Payer != 0 {
				kept[l.Payer] += b.pools.at(l.Pool).Draw.cost(l.Item.Count - l.Used)
			}
			if l.Used < 0 || l.Used > l.Item.Count || l.Used != used[x.Number][uint32(k)] {
				err = fmt.Errorf("booking %s: %d of %d seats used, leases have %d", x.ID, l.Used, l.Item.Count, used[x.Number][uint32(k)])
			}
		}
		return err == nil
	})
	for pool, seats := range b.booking.kept {
		if err == nil && seats != kept[pool] {
			err = fmt.Errorf("pool %d: %d seats kept by bookings, %d counted", pool, kept[pool], seats)
		}
	}
	if err == nil && n != len(b.booking.byID) {
		err = fmt.Errorf("%d bookings, %d found by name", n, len(b.booking.byID))
	}
	return err
}
