package lease_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Random programs of clients that wait, take, give back and vanish, and of schedulers
// that book. They are judged by what can be seen from outside: listings and events. No
// seat is shared here, so that each lease charges what it shows.

type queueProgram struct {
	rnd   *rand.Rand
	book  *lease.Book
	index uint64
	stats map[string]int
	trace []string
	// offered are leases granted while their client did not ask, and when.
	offered map[lease.ID]lease.Event
}

func newQueueProgram(seed uint64) *queueProgram {
	return &queueProgram{rnd: rand.New(rand.NewPCG(seed, 7)), book: lease.NewBook(), stats: map[string]int{}, offered: map[lease.ID]lease.Event{}}
}

var queueFeatures = []string{"cad", "mesh", "solver"}

func (p *queueProgram) licence() lease.Licence {
	var ents []lease.Entitlement
	for _, name := range queueFeatures {
		e := feature(name, 2+p.rnd.IntN(4))
		e.Profile = lease.Profiles["ci"]
		ents = append(ents, e)
	}
	return licence("L-1", ents...)
}

func (p *queueProgram) checkout() lease.Checkout {
	c := checkout(byte(1+p.rnd.IntN(12)), queueFeatures[p.rnd.IntN(3)], 1+p.rnd.IntN(3))
	if p.rnd.IntN(3) == 0 {
		c = and(c, queueFeatures[p.rnd.IntN(3)], 1+p.rnd.IntN(2))
	}
	if p.rnd.IntN(4) > 0 {
		c.Wait = time.Duration(1+p.rnd.IntN(60)) * time.Second
	}
	if p.rnd.IntN(4) == 0 {
		c.Booking = fmt.Sprint("job-", p.rnd.IntN(3))
	}
	return c
}

func (p *queueProgram) next() lease.Command {
	s := session(byte(1 + p.rnd.IntN(12)))
	switch n := p.rnd.IntN(100); {
	case n < 50:
		return p.checkout()
	case n < 62:
		return lease.Renew{Session: s}
	case n < 76:
		return lease.CheckIn{Session: s, Close: p.rnd.IntN(4) == 0}
	case n < 82:
		return lease.Leave{Session: s}
	case n < 88:
		return lease.MakeBooking{ID: fmt.Sprint("job-", p.rnd.IntN(3)), For: time.Duration(1+p.rnd.IntN(40)) * time.Second,
			Items: []lease.Item{{Feature: queueFeatures[p.rnd.IntN(3)], Count: 1 + p.rnd.IntN(2)}}}
	case n < 91:
		return lease.CancelBooking{ID: fmt.Sprint("job-", p.rnd.IntN(3))}
	case n < 93:
		return lease.InstallLicence{Licence: p.licence(), Replace: true}
	}
	return lease.Tick{}
}

// view is what can be seen before and after a command.
type view struct {
	places []lease.Place
	free   map[string]int // beyond what is booked
	used   map[string]int
	kept   map[string]int
	total  map[string]int
}

func (p *queueProgram) look() view {
	v := view{places: p.book.Queue("", "", 1000), free: map[string]int{}, used: map[string]int{}, kept: map[string]int{}, total: map[string]int{}}
	for _, x := range p.book.Pools("") {
		v.total[x.Feature], v.used[x.Feature] = x.Total, x.InUse
		v.free[x.Feature] = x.Total - x.InUse
	}
	for _, x := range p.book.ListBookings("", 1000) {
		for _, l := range x.Lines {
			v.kept[l.Feature] += l.Count - l.Used
			v.free[l.Feature] -= l.Count - l.Used
		}
	}
	return v
}

// holds says whether the session holds the feature.
func (p *queueProgram) holds(id lease.SessionID, feature string) bool {
	all, _ := p.book.Leases(lease.Filter{Session: id, Feature: feature}, 0, 10)
	return len(all) > 0
}

// wants is what a place still needs of a feature.
func (p *queueProgram) wants(x lease.Place, feature string) (n int) {
	for _, it := range x.Items {
		if it.Feature == feature && !p.holds(x.Session, feature) {
			n += it.Count
		}
	}
	return n
}

// judge compares two views with what happened between them.
func (p *queueProgram) judge(before, after view, events []lease.Event, licenceChanged bool) error {
	for _, f := range queueFeatures {
		// Conservation: what is charged and what is booked fit into what there is.
		if over := after.used[f] + after.kept[f] - after.total[f]; over > 0 && over > before.used[f]+before.kept[f]-before.total[f] && !licenceChanged {
			return fmt.Errorf("conservation: %s has %d seats, %d charged and %d booked", f, after.total[f], after.used[f], after.kept[f])
		}
	}
	// Order: who waits before and after is in the same order.
	var was, is []uint64
	for _, x := range before.places {
		if slices.ContainsFunc(after.places, func(y lease.Place) bool { return y.Ticket == x.Ticket }) {
			was = append(was, x.Ticket)
		}
	}
	for _, y := range after.places {
		if slices.Contains(was, y.Ticket) {
			is = append(is, y.Ticket)
		}
	}
	if !slices.Equal(was, is) {
		return fmt.Errorf("order: it was %v and is %v", was, is)
	}
	// Nobody overtakes: where somebody got seats, all who were ahead of it and still wait
	// could still be served by what is free.
	for _, e := range events {
		if e.Kind != lease.Granted || p.booked(e.Session) {
			continue
		}
		claimed := 0
		for _, x := range before.places {
			if x.Session == e.Session {
				break
			}
			if slices.ContainsFunc(after.places, func(y lease.Place) bool { return y.Ticket == x.Ticket && !y.Aside }) {
				claimed += p.wants(x, e.Feature)
			}
		}
		if claimed > 0 && after.free[e.Feature] < claimed {
			return fmt.Errorf("overtaken: %s was granted to %v; those ahead want %d, %d are free; before: %+v; after: %+v", e.Feature, e.Session[0], claimed, after.free[e.Feature], before.places, after.places)
		}
	}
	return p.nobodyStarves(after)
}

// booked says whether the session has seats of a booking, which nobody who waits could
// have had.
func (p *queueProgram) booked(id lease.SessionID) (any bool) {
	p.book.Freeze().BookedLeases(func(slot uint32, _ lease.BookedLease) bool {
		all, _ := p.book.Leases(lease.Filter{Handle: lease.Handle(slot)}, 0, 1)
		any = any || len(all) > 0 && all[0].Session == id
		return true
	})
	return any
}

// nobodyStarves wants no place to wait that could be served beside all who are ahead.
func (p *queueProgram) nobodyStarves(v view) error {
	left := map[string]int{}
	for f, n := range v.free {
		left[f] = n
	}
	for _, x := range v.places {
		fits := !x.Aside && x.Booking == "" && p.asksPlainly(x)
		for _, f := range queueFeatures {
			n := p.wants(x, f)
			fits = fits && n <= max(0, left[f])
			left[f] -= n
		}
		if fits {
			said, _ := p.book.Preview(lease.Checkout{Session: lease.SessionRef{ID: x.Session}, Items: x.Items})
			return fmt.Errorf("starved: session %v waits for %v and could have it: %+v; %v; queue %+v", x.Session[0], x.Items, said, v.free, v.places)
		}
	}
	return nil
}

// asksPlainly says whether nothing but a lack of seats can hold a place up: something named
// twice, or held in another number, is refused when its client asks again.
func (p *queueProgram) asksPlainly(x lease.Place) bool {
	for i, it := range x.Items {
		held, _ := p.book.Leases(lease.Filter{Session: x.Session, Feature: it.Feature}, 0, 10)
		if len(held) > 0 && held[0].Count != it.Count || slices.ContainsFunc(x.Items[:i], func(y lease.Item) bool { return y.Feature == it.Feature }) {
			return false
		}
	}
	return true
}

// restored is the ledger after a snapshot.
func restored(b *lease.Book) (*lease.Book, error) {
	f := b.Freeze()
	load := lease.NewLoader(f.Header())
	for _, l := range f.Licences() {
		load.Licence(l)
	}
	f.Pools(func(slot uint32, r *lease.PoolRecord) bool {
		x := *r
		load.Pool(slot, x)
		return true
	})
	f.Sessions(func(slot uint32, r *lease.SessionRecord) bool { load.Session(slot, *r); return true })
	f.Groups(func(slot uint32, r *lease.GroupRecord) bool { load.Group(slot, *r); return true })
	f.Leases(func(slot uint32, r *lease.LeaseRecord) bool { load.Lease(slot, *r); return true })
	f.Pins(func(r *lease.PinRecord) bool { load.Pin(*r); return true })
	f.Places(func(slot uint32, r *lease.PlaceRecord) bool { load.Place(slot, *r); return true })
	load.Stirred(f.Stirred())
	f.Bookings(func(slot uint32, r *lease.BookingRecord) bool { load.Booking(slot, *r); return true })
	f.BookedLeases(func(slot uint32, r lease.BookedLease) bool { load.BookedLease(slot, r); return true })
	return load.Finish()
}

func (p *queueProgram) do(cmd lease.Command) error {
	p.trace = append(p.trace, fmt.Sprintf("  %T %+v", cmd, cmd))
	_, licence := cmd.(lease.InstallLicence)
	before := p.look()
	p.book.TakeEvents()
	p.index++
	r := p.book.Apply(p.index, cmd)
	kind := fmt.Sprintf("%T", cmd)
	if r.Refusal != nil {
		kind += " " + string(r.Refusal.Reason)
	}
	p.stats[kind]++
	events := p.book.TakeEvents()
	asks := heardOf(cmd)
	for id, e := range p.offered {
		if e.Session == asks {
			delete(p.offered, id)
		}
	}
	for _, e := range events {
		if e.Kind == lease.Granted && e.Session != asks {
			p.offered[e.Lease.ID] = e
		}
		p.stats[e.Kind.String()]++
		if e.Kind == lease.Ended {
			p.stats["ended "+e.Release.String()]++
		}
	}
	if err := p.book.Check(); err != nil {
		return err
	}
	return p.judge(before, p.look(), events, licence)
}

// heardOf is the session that a command shows to be there.
func heardOf(cmd lease.Command) lease.SessionID {
	switch c := cmd.(type) {
	case lease.Checkout:
		return c.Session.ID
	case lease.Renew:
		return c.Session.ID
	case lease.CheckIn:
		return c.Session.ID
	case lease.Leave:
		return c.Session.ID
	}
	return lease.SessionID{}
}

func (p *queueProgram) run(steps int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
		if err != nil {
			err = fmt.Errorf("%w\nafter:\n%v", err, p.trace[max(0, len(p.trace)-8):])
		}
	}()
	p.book.Advance(0, launch)
	if err := p.do(lease.InstallLicence{Licence: p.licence()}); err != nil {
		return err
	}
	for n := range steps {
		if p.rnd.IntN(2) == 0 {
			p.book.Advance(p.book.Now().Add(time.Duration(p.rnd.IntN(4000))*time.Millisecond), launch)
		}
		if err := p.do(p.next()); err != nil {
			return err
		}
		for _, cmd := range p.book.Due(100) {
			if err := p.do(cmd); err != nil {
				return err
			}
		}
		// Nothing lives on past its time.
		all, _ := p.book.Leases(lease.Filter{}, 0, 1000)
		for _, l := range all {
			if e, ok := p.offered[l.ID]; ok && e.At.Add(lease.Profiles["ci"].Lifespan) <= p.book.Now() {
				return fmt.Errorf("lease %d was granted from the queue a lifespan ago and nobody collected it", l.ID)
			}
			if l.Deadline.Add(lease.Profiles["ci"].Grace) <= p.book.Now() {
				return fmt.Errorf("lease %d lives past its time", l.ID)
			}
		}
		if n%50 == 0 { // order and all else survive a snapshot
			other, err := restored(p.book)
			if err != nil {
				return err
			}
			if a, b := fmt.Sprint(p.book.Queue("", "", 1000), p.book.ListBookings("", 1000)), fmt.Sprint(other.Queue("", "", 1000), other.ListBookings("", 1000)); a != b {
				return fmt.Errorf("a snapshot changed the queue or the bookings:\n%s\n%s", a, b)
			}
			p.book = other
		}
	}
	return nil
}

func TestTheQueueIsFairWhateverHappens(t *testing.T) {
	total := map[string]int{}
	for seed := range propertySeeds(t) {
		p := newQueueProgram(seed)
		if err := p.run(600); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for k, n := range p.stats {
			total[k] += n
		}
	}
	for _, want := range []string{
		"lease.Checkout", "lease.Checkout queued", "lease.Checkout no_seats", "queued", "dequeued", "ended dequeued", "lease.Dequeue",
		"lease.MakeBooking", "lease.MakeBooking no_seats", "lease.ExpireBooking", "lease.CancelBooking", "lease.Leave",
	} {
		if total[want] == 0 {
			t.Errorf("the programs never came to %q", want)
		}
	}
}
