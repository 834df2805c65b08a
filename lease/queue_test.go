package lease_test

import (
	"slices"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// waiting makes a checkout wait in the queue for a minute.
func waiting(c lease.Checkout) lease.Checkout {
	c.Wait = time.Minute
	return c
}

// queued wants the checkout to get a place at the position.
func (w *world) queued(position int, c lease.Checkout) lease.Place {
	w.t.Helper()
	r := w.do(c)
	if r.Refusal == nil || r.Refusal.Reason != lease.InQueue || r.Refusal.Final || r.Place == nil {
		w.t.Fatalf("%#v: got %+v, want a place in the queue", c, r)
	}
	w.equal("position", r.Place.Position, position)
	return *r.Place
}

// line lists the sessions that wait, in order.
func (w *world) line() (out []byte) {
	for _, p := range w.Queue("", "", 1000) {
		out = append(out, p.Session[0])
	}
	return out
}

// holders lists the sessions that hold the feature.
func (w *world) holders(feature string) (out []byte) {
	all, _ := w.Leases(lease.Filter{Feature: feature}, 0, 1000)
	for _, l := range all {
		out = append(out, l.Session[0])
	}
	slices.Sort(out)
	return out
}

func (w *world) waits(want ...byte) {
	w.t.Helper()
	if got := w.line(); !slices.Equal(got, want) {
		w.t.Fatalf("the queue is %v, want %v", got, want)
	}
}

func (w *world) hold(feature string, want ...byte) {
	w.t.Helper()
	if got := w.holders(feature); !slices.Equal(got, want) {
		w.t.Fatalf("%s is held by %v, want %v", feature, got, want)
	}
}

func TestWhoCameFirstIsServedFirst(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	w.queued(2, waiting(checkout(3, "cad", 1)))
	w.queued(2, waiting(checkout(3, "cad", 1))) // asking again keeps the place
	w.queued(1, waiting(checkout(2, "cad", 1)))
	w.equal("queued", w.Pools("")[0].Queued, 2)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
	w.waits(3)
	got := w.must(numbered(waiting(checkout(2, "cad", 1)), 1)) // collects
	w.equal("leases", len(got.Leases), 1)
	w.equal("replayed", w.must(numbered(waiting(checkout(2, "cad", 1)), 1)).Replayed, true)
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("cad", 3)
	w.waits()
}

func TestANewcomerDoesNotOvertake(t *testing.T) {
	w := newWorld(t, feature("cad", 3))
	w.must(checkout(1, "cad", 2))
	w.queued(1, waiting(checkout(2, "cad", 3))) // one seat is free, and not enough
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.queued(2, waiting(checkout(4, "cad", 1)))
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
	w.waits(4)
}

func TestSmallRequestsDoNotStarveALargeOne(t *testing.T) {
	w := newWorld(t, feature("cad", 4))
	for n := byte(1); n <= 4; n++ {
		w.must(checkout(n, "cad", 1))
	}
	w.queued(1, waiting(checkout(9, "cad", 4)))
	for n := byte(1); n <= 4; n++ { // whoever gives back wants it again at once
		w.must(lease.CheckIn{Session: session(n)})
		if n < 4 {
			w.queued(int(n)+1, waiting(checkout(n, "cad", 1)))
		}
	}
	w.hold("cad", 9)
	w.waits(1, 2, 3)
}

// One that waits for two things claims what is free of the one it could have, so that
// nobody takes it meanwhile; what is beyond that claim is for anybody.
func TestAllItemsTogetherWithoutDeadlock(t *testing.T) {
	w := newWorld(t, feature("cad", 2), feature("mesh", 1))
	w.must(checkout(1, "mesh", 1))
	w.queued(1, waiting(and(checkout(2, "cad", 1), "mesh", 1)))
	w.equal("holds nothing meanwhile", w.used("cad"), 0)
	w.must(checkout(3, "cad", 1))
	w.refused(lease.NoSeats, checkout(4, "cad", 1))
	w.queued(2, waiting(and(checkout(5, "mesh", 1), "cad", 1))) // the other way round
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("mesh", 2)
	w.hold("cad", 2, 3)
	w.waits(5)
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("mesh", 5)
	w.hold("cad", 3, 5)
}

func TestAPlaceEndsAtItsDeadline(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	w.wait(59 * time.Second)
	w.equal("due", len(w.Due(10)), 0)
	w.queued(1, waiting(checkout(2, "cad", 1))) // a minute from now
	w.wait(59 * time.Second)
	w.equal("due", len(w.Due(10)), 0)
	w.wait(time.Second)
	w.TakeEvents()
	w.equal("ended", w.expireDue(), 1)
	w.waits()
	var kinds []string
	for _, e := range w.TakeEvents() {
		kinds = append(kinds, e.Kind.String()+" "+string(e.Reason))
	}
	if !slices.Equal(kinds, []string{"dequeued no_seats", "denied no_seats"}) {
		t.Error(kinds)
	}
}

func TestAPlaceLivesWithItsSessionsHeartbeat(t *testing.T) {
	w := newWorld(t, feature("cad", 1)) // 120 s + 120 s
	w.must(checkout(1, "cad", 1))
	for _, n := range []byte{2, 3} {
		c := checkout(n, "cad", 1)
		c.Wait = time.Hour
		w.do(c)
	}
	for range 4 {
		w.wait(100 * time.Second)
		w.must(lease.Renew{Session: session(1)})
		w.must(lease.Renew{Session: session(3)})
		w.expireDue()
	}
	w.waits(3)
}

// So does that of a session whose row outlives its silence, because it has borrowed a seat.
func TestAPlaceEndsWithASilentSessionThatIsRemembered(t *testing.T) {
	w := lendingWorld(t, lendable("van", 1, 168), feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.must(borrow(2, "van", 24*time.Hour))
	c := checkout(2, "cad", 1)
	c.Wait = time.Hour
	w.queued(1, c)
	for range 3 {
		w.wait(100 * time.Second)
		w.must(lease.Renew{Session: session(1)})
		w.expireDue()
	}
	w.waits()
	w.hold("van", 2)
}

func TestAGrantWaitsOneLifespanForItsClient(t *testing.T) {
	w := newWorld(t, feature("cad", 1)) // 120 s + 120 s
	w.must(checkout(1, "cad", 1))
	for n := byte(2); n <= 4; n++ {
		c := checkout(n, "cad", 1)
		c.Wait = time.Hour
		w.do(c)
	}
	w.TakeEvents()
	w.must(lease.CheckIn{Session: session(1)})
	w.wait(119 * time.Second)
	w.expireDue()
	w.hold("cad", 2)
	w.wait(time.Second)
	w.must(lease.Renew{Session: session(3)})
	w.equal("reclaimed", w.expireDue(), 1)
	w.hold("cad", 3)
	var why []lease.Release
	for _, e := range w.TakeEvents() {
		if e.Kind == lease.Ended {
			why = append(why, e.Release)
		}
	}
	if !slices.Equal(why, []lease.Release{lease.ReleasedNormal, lease.ReleasedDequeued}) {
		t.Error(why)
	}
	w.must(lease.Renew{Session: session(3)}) // collects: now it has lifespan and grace
	w.wait(239 * time.Second)
	w.expireDue()
	w.hold("cad", 3)
}

func TestAHeartbeatOfManyDoesNotCollect(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	w.must(lease.CheckIn{Session: session(1)})
	ref := session(2)
	r := w.must(lease.RenewMany{Sessions: []lease.Heartbeat{{ID: ref.ID, Digest: ref.Digest, Incarnation: 1}}})
	w.equal("news", r.Renewed[0].News, true)
	w.wait(120 * time.Second)
	w.expireDue()
	w.hold("cad")
}

func TestLeavingTheQueue(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	w.must(checkout(1, "cad", 2))
	w.queued(1, waiting(checkout(2, "cad", 2)))
	w.queued(2, waiting(checkout(3, "cad", 1)))
	w.queued(3, waiting(checkout(4, "cad", 1)))
	w.must(lease.Leave{Session: session(3)})
	w.waits(2, 4)
	w.refused(lease.NoSeats, checkout(4, "cad", 1)) // without a wait: the last try
	w.waits(2)
	w.queued(2, waiting(checkout(4, "cad", 1)))
	w.must(lease.CheckIn{Session: session(2), Close: true})
	w.waits(4)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 4)
	w.must(lease.Leave{Session: session(4)}) // it was granted meanwhile
	w.hold("cad")
}

func TestALicenceChangeServesAndDrops(t *testing.T) {
	w := newWorld(t, feature("cad", 1), feature("mesh", 1))
	w.must(checkout(1, "cad", 1))
	w.must(checkout(2, "mesh", 1))
	w.queued(1, waiting(checkout(3, "cad", 1)))
	w.queued(1, waiting(checkout(4, "mesh", 1)))
	w.must(lease.InstallLicence{Replace: true, Licence: licence("L-1", feature("cad", 2))})
	w.hold("cad", 1, 3)
	w.waits() // no licence has mesh any more
	w.refused(lease.NoFeature, waiting(checkout(4, "mesh", 1)))
}

func TestAPriorityGoesAhead(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(lease.ApplyPolicy{Policy: lease.Policy{Groups: []lease.PolicyGroup{
		{Name: "vip", Members: []string{"zoe"}, Priority: 5}, {Name: "late", Members: []string{"bob"}, Priority: -1}}}})
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(as(checkout(2, "cad", 1), "bob", "ws")))
	w.queued(1, waiting(as(checkout(3, "cad", 1), "ann", "ws")))
	w.queued(1, waiting(as(checkout(4, "cad", 1), "zoe", "ws")))
	w.queued(3, waiting(as(checkout(5, "cad", 1), "eve", "ws")))
	w.waits(4, 3, 5, 2)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 4)
}

// A seat that is reserved for somebody who waits does not go to those ahead, and they do
// not keep it from it.
func TestAReservedSeatPassesTheQueue(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	w.must(checkout(1, "cad", 1))
	w.must(checkout(2, "cad", 1))
	w.must(lease.ApplyPolicy{Policy: lease.Policy{Rules: []lease.Rule{
		{Kind: lease.RuleReserve, Feature: "cad", Who: lease.Subject{Type: lease.SubjectUser, Name: "zoe"}, Seats: 1}}}})
	w.queued(1, waiting(as(checkout(3, "cad", 1), "ann", "ws")))
	w.queued(2, waiting(as(checkout(4, "cad", 1), "zoe", "ws")))
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2, 4)
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("cad", 3, 4)
}

// Whoever is held up by a cap of its own lets others pass, and keeps its place.
func TestACapDoesNotHoldUpOthers(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	w.must(lease.ApplyPolicy{Policy: lease.Policy{Rules: []lease.Rule{
		{Kind: lease.RuleMax, Feature: "cad", Who: lease.Subject{Type: lease.SubjectUser, Name: "ann"}, Seats: 1}}}})
	w.must(checkout(1, "cad", 1))
	w.must(checkout(2, "cad", 1))
	w.queued(1, waiting(as(checkout(3, "cad", 1), "ann", "ws1")))
	w.queued(2, waiting(as(checkout(4, "cad", 1), "ann", "ws2")))
	w.queued(3, waiting(as(checkout(5, "cad", 1), "bob", "ws")))
	w.must(lease.CheckIn{Session: session(1)})
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("cad", 3, 5)
	w.waits(4)
	w.must(lease.CheckIn{Session: session(3)})
	w.hold("cad", 4, 5)
}

func TestTheQueueIsBounded(t *testing.T) {
	w := newWorld(t, feature("cad", 1), feature("mesh", 1))
	w.must(checkout(1, "cad", 1))
	w.must(checkout(1, "mesh", 1))
	apply := func(c lease.Checkout) lease.Reply { w.index++; return w.Apply(w.index, c) }
	wide := func(n int, feature string) lease.Checkout {
		c := waiting(checkout(1, feature, 1))
		c.Session.ID = lease.SessionID{200, byte(n >> 8), byte(n)}
		return c
	}
	for n := range lease.MaxQueue {
		if r := apply(wide(n, "cad")); r.Refusal.Reason != lease.InQueue {
			t.Fatal(n, r.Refusal)
		}
	}
	if r := apply(wide(lease.MaxQueue, "cad")); r.Refusal.Reason != lease.Overloaded || r.Refusal.Final {
		t.Error(r.Refusal)
	}
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	w.equal("places", w.QueueCounts(), lease.MaxQueue)
	// A session waits for so many things at a time.
	c := waiting(checkout(3, "mesh", 1))
	for n := range lease.MaxPlacesPerSession {
		c.Items = slices.Clone(c.Items)
		c.Items[0].Version = "1." + string(rune('0'+n%10)) + string(rune('0'+n/10))
		w.do(c)
	}
	c.Items = slices.Clone(c.Items)
	c.Items[0].Version = "2"
	w.refused(lease.Overloaded, c)
}

func TestAReconnectKeepsThePlace(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.queued(1, numbered(waiting(checkout(2, "cad", 1)), 1))
	w.queued(2, numbered(waiting(checkout(3, "cad", 1)), 1))
	w.queued(1, numbered(waiting(checkout(2, "cad", 1)), 1)) // the same request, elsewhere
	again := waiting(checkout(2, "cad", 1))
	again.Session.Incarnation, again.Session.Seq = 2, 1 // the program was started anew
	w.queued(1, again)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
}

// Who waits for seats that only the overdraft allows keeps its place in a restored ledger.
func TestAPlaceForTheOverdraftSurvivesARestore(t *testing.T) {
	e := feature("cad", 2)
	e.Overdraft = 1
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleMaxOverdraft, "cad", lease.Subject{}, 1)}}, e)
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(checkout(2, "cad", 3)))
	twin, err := reloaded(w.Book)
	if err != nil {
		t.Fatal(err)
	}
	w.Book = twin
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
}

func TestAMintedSessionGoesWithItsPlace(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	c := waiting(checkout(2, "cad", 1))
	c.Ephemeral = true
	w.queued(1, c)
	c.Wait = 0
	w.refused(lease.NoSeats, c)
	sessions, _ := w.Counts()
	w.equal("sessions", sessions, 1)
}

func TestABookingKeepsSeatsForItsJob(t *testing.T) {
	w := newWorld(t, feature("cad", 3))
	w.must(checkout(1, "cad", 1))
	book := lease.MakeBooking{ID: "job-7", Items: []lease.Item{{Feature: "cad", Count: 2}}, For: time.Hour, By: "slurm"}
	w.must(book)
	w.equal("again", w.must(book).Replayed, true)
	book.Items = []lease.Item{{Feature: "cad", Count: 1}}
	w.refused(lease.Invalid, book)
	w.equal("reserved", w.Pools("")[0].Reserved, 2)
	w.refused(lease.NoSeats, checkout(2, "cad", 1))
	job := checkout(3, "cad", 1)
	job.Booking = "job-7"
	w.must(job)
	w.equal("reserved", w.Pools("")[0].Reserved, 1)
	w.equal("used", w.ListBookings("", 10)[0].Lines[0].Used, 1)
	w.refused(lease.NoSeats, checkout(2, "cad", 1))
	w.must(lease.CheckIn{Session: session(3)}) // one step of the job is over: the seat is the job's still
	w.equal("reserved", w.Pools("")[0].Reserved, 2)
	w.refused(lease.NoSeats, checkout(2, "cad", 1))
	w.must(job)
	w.wait(time.Hour)
	w.expireDue() // also the lease of session 1, and the job's
	w.equal("bookings", w.BookingCounts(), 0)
	w.refused(lease.BookingUnknown, job)
	w.must(checkout(2, "cad", 3))
}

func TestWhoMayUseABooking(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(lease.MakeBooking{ID: "j", Items: []lease.Item{{Feature: "cad", Count: 1}}, For: time.Hour, Only: lease.Principal{User: "ann"}})
	job := as(checkout(1, "cad", 1), "bob", "ws")
	job.Booking = "j"
	w.refused(lease.Forbidden, job)
	w.must(as(job, "ann", "ws"))
	w.must(lease.CancelBooking{ID: "j"})
	w.refused(lease.BookingUnknown, lease.CancelBooking{ID: "j"})
	w.hold("cad", 1) // what is leased stays
}

func TestBadBookings(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	item := []lease.Item{{Feature: "cad", Count: 1}}
	for name, c := range map[string]struct {
		want lease.Reason
		cmd  lease.MakeBooking
	}{
		"no name":       {lease.Invalid, lease.MakeBooking{Items: item, For: time.Hour}},
		"no feature":    {lease.Invalid, lease.MakeBooking{ID: "j", For: time.Hour}},
		"too short":     {lease.Invalid, lease.MakeBooking{ID: "j", Items: item}},
		"too long":      {lease.Invalid, lease.MakeBooking{ID: "j", Items: item, For: 8 * day}},
		"too many":      {lease.TooManyRequested, lease.MakeBooking{ID: "j", Items: []lease.Item{{Feature: "cad", Count: 2}}, For: time.Hour}},
		"unknown":       {lease.NoFeature, lease.MakeBooking{ID: "j", Items: []lease.Item{{Feature: "none", Count: 1}}, For: time.Hour}},
		"named twice":   {lease.Invalid, lease.MakeBooking{ID: "j", Items: append(slices.Clone(item), item...), For: time.Hour}},
		"by display":    {lease.Invalid, lease.MakeBooking{ID: "j", Items: item, For: time.Hour, Only: lease.Principal{Display: ":0"}}},
		"count of 0":    {lease.Invalid, lease.MakeBooking{ID: "j", Items: []lease.Item{{Feature: "cad"}}, For: time.Hour}},
		"name too long": {lease.Invalid, lease.MakeBooking{ID: string(make([]byte, 200)), Items: item, For: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			if r := w.do(c.cmd); r.Refusal == nil || r.Refusal.Reason != c.want {
				t.Errorf("got %+v, want %s", r.Refusal, c.want)
			}
		})
	}
}

// A booking passes nobody who waits, and those who wait do not get what is booked.
func TestBookingsAndTheQueue(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	w.must(checkout(1, "cad", 2))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	one := lease.MakeBooking{ID: "j", Items: []lease.Item{{Feature: "cad", Count: 1}}, For: time.Hour}
	w.refused(lease.NoSeats, one)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
	w.must(one)
	w.queued(1, waiting(checkout(3, "cad", 1)))
	job := checkout(4, "cad", 1)
	job.Booking = "j"
	w.must(job) // not held up by who waits
	w.must(lease.CheckIn{Session: session(4)})
	w.hold("cad", 2)
	w.waits(3)
	w.must(lease.CancelBooking{ID: "j"})
	w.hold("cad", 2, 3)
}

func TestAPartialCheckoutTakesWhatThereIs(t *testing.T) {
	w := newWorld(t, feature("cad", 1), feature("mesh", 1))
	w.must(checkout(1, "mesh", 1))
	c := and(and(checkout(2, "cad", 1), "mesh", 1), "none", 1)
	w.refused(lease.NoSeats, c)
	c.Partial = true
	r := w.must(numbered(c, 1))
	w.equal("leases", len(r.Leases), 1)
	w.equal("refused", len(r.Refused), 2)
	w.equal("mesh", r.Refused[0].Refusal.Reason, lease.NoSeats)
	w.equal("none", r.Refused[1].Refusal.Reason, lease.NoFeature)
	again := w.must(numbered(c, 1))
	w.equal("replayed", again.Replayed && len(again.Refused) == 2 && again.Leases[0].Ref == r.Leases[0].Ref, true)
	d := and(checkout(3, "cad", 1), "mesh", 1)
	d.Partial = true
	w.refused(lease.NoSeats, d)
	d.Wait = time.Minute
	w.refused(lease.Invalid, d)
}

func TestAPreviewSaysWhereOneWouldStand(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	items, ok := w.Preview(and(checkout(3, "cad", 1), "none", 1))
	w.equal("granted", ok, false)
	w.equal("position", items[0].Position, 2)
	w.equal("no use to wait", items[1].Position, 0)
}
