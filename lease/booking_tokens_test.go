package lease_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// priced is a feature of which a seat costs so many units.
func priced(name string, count, cost int) lease.Entitlement {
	e := feature(name, count)
	e.Draw = lease.Draw{Of: "units", Cost: cost, Per: 1}
	return e
}

func booking(id string, items ...lease.Item) lease.MakeBooking {
	return lease.MakeBooking{ID: id, For: time.Hour, Items: items}
}

func withBooking(c lease.Checkout, id string) lease.Checkout {
	c.Booking = id
	return c
}

func TestABookingKeepsTheTokensThatItsSeatsCost(t *testing.T) {
	w := newWorld(t, feature("units", 10), priced("sim", 5, 4), priced("post", 9, 1))
	w.must(booking("job", lease.Item{Feature: "sim", Count: 2}))
	w.equal("units in use", w.used("units"), 0)
	w.refused(lease.NoSeats, checkout(1, "sim", 1)) // 8 of 10 units are kept
	w.refused(lease.NoSeats, checkout(2, "units", 3))
	w.must(checkout(3, "post", 2)) // costs the two that are left
	w.must(withBooking(checkout(4, "sim", 1), "job"))
	w.equal("units in use", w.used("units"), 6)
	w.refused(lease.NoSeats, checkout(5, "post", 1))
	w.must(lease.CheckIn{Session: session(4)})
	w.equal("back to the booking", w.used("units"), 2)
	w.refused(lease.NoSeats, checkout(5, "post", 1))
	w.must(withBooking(checkout(6, "sim", 2), "job"))
	w.must(lease.CancelBooking{ID: "job"})
	w.equal("leased seats stay", w.used("units"), 10)
	w.must(lease.CheckIn{Session: session(6)})
	w.must(checkout(5, "post", 1))
}

func TestBookedTokensPayForNothingElse(t *testing.T) {
	w := newWorld(t, feature("units", 10), priced("sim", 5, 4))
	w.must(booking("job", lease.Item{Feature: "units", Count: 8}))
	w.refused(lease.NoSeats, withBooking(checkout(1, "sim", 1), "job"))
	w.must(withBooking(checkout(1, "units", 8), "job"))
	w.refused(lease.NoSeats, booking("more", lease.Item{Feature: "sim", Count: 1}))
	w.must(lease.CheckIn{Session: session(1)})
	w.must(lease.CancelBooking{ID: "job"})
	w.must(booking("both", lease.Item{Feature: "sim", Count: 2}, lease.Item{Feature: "units", Count: 2}))
	w.refused(lease.NoSeats, booking("more", lease.Item{Feature: "units", Count: 1}))
	w.must(withBooking(and(checkout(1, "sim", 2), "units", 2), "both"))
	w.equal("units in use", w.used("units"), 10)
}

func TestASuitesComponentIsNotBooked(t *testing.T) {
	e := feature("office", 3)
	e.Package = lease.Package{Suite: true, Components: []lease.Component{{Feature: "text", Count: 1}, {Feature: "draw", Count: 1}}}
	w := newWorld(t, e)
	r := w.do(booking("job", lease.Item{Feature: "text", Count: 1}))
	if r.Refusal == nil || r.Refusal.Reason != lease.Invalid || !strings.Contains(r.Refusal.Message, "suite office") || strings.Contains(r.Refusal.Message, "\n") {
		t.Errorf("got %v", r.Refusal)
	}
}

// Whatever is booked, taken and given back: what is charged and what is kept fit into the
// licence, and a booking is always honoured.
func TestBookedTokensAreThereWhenTheJobStarts(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 11))
		w := newWorld(t, feature("units", 12), priced("sim", 4, 3), priced("post", 8, 1), feature("cad", 3))
		names := []string{"units", "sim", "post", "cad"}
		honoured := 0
		for range 400 {
			n, f := byte(1+rnd.IntN(8)), names[rnd.IntN(4)]
			job := fmt.Sprint("job-", rnd.IntN(3))
			switch rnd.IntN(9) {
			case 0, 1:
				w.do(booking(job, lease.Item{Feature: f, Count: 1 + rnd.IntN(3)}, lease.Item{Feature: names[rnd.IntN(4)], Count: 1}))
			case 2, 3:
				w.do(withBooking(checkout(n, f, 1+rnd.IntN(2)), job))
			case 4, 5:
				w.do(checkout(n, f, 1+rnd.IntN(3)))
			case 6:
				w.do(lease.CancelBooking{ID: job})
			case 7:
				w.do(lease.CheckIn{Session: session(n), Close: true})
			case 8:
				w.wait(time.Duration(rnd.IntN(60)) * time.Second)
				w.expireDue()
			}
			for _, p := range w.Pools("") {
				if p.InUse+p.Reserved > p.Total {
					t.Fatalf("seed %d: %s has %d seats, %d in use, %d kept", seed, p.Feature, p.Total, p.InUse, p.Reserved)
				}
			}
			for _, b := range w.ListBookings("", 10) {
				ask := withBooking(checkout(99, "", 0), b.ID)
				ask.Items = nil
				for _, l := range b.Lines {
					if left := l.Count - l.Used; left > 0 {
						ask.Items = append(ask.Items, lease.Item{Feature: l.Feature, Count: left})
					}
				}
				if len(ask.Items) == 0 || b.Remaining == 0 {
					continue
				}
				honoured++
				if items, ok := w.Preview(ask); !ok {
					t.Fatalf("seed %d: booking %+v is not honoured: %+v", seed, b, items)
				}
			}
		}
		if honoured == 0 {
			t.Errorf("seed %d booked nothing", seed)
		}
	}
}
