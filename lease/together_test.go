package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Rules that meet in one request. Each was found by the simulator.

// A job whose principal has a lingering seat takes that up, and is charged in full.
func TestAJobMayTakeUpALingeringSeat(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleLinger, "cad", lease.Subject{}, time.Minute)}}, feature("cad", 3))
	w.must(as(checkout(1, "cad", 2), "ann", "ws"))
	w.must(lease.CheckIn{Session: session(1)})
	w.must(lease.MakeBooking{ID: "job", Items: []lease.Item{{Feature: "cad", Count: 1}}, For: time.Hour})
	job := as(checkout(2, "cad", 2), "ann", "ws")
	job.Booking = "job"
	l := w.must(job).Leases[0]
	w.equal("seats", len(l.Seats), 2)
	w.equal("charged", w.used("cad"), 2)
	w.equal("used of the booking", w.ListBookings("", 1)[0].Lines[0].Used, 1)
	w.must(lease.CheckIn{Session: session(2), Close: true})
	w.wait(time.Minute)
	w.expireDue()
	w.equal("charged", w.used("cad"), 0)
}

// An item that a partial checkout does not get takes nothing: it pays for no other item
// and leaves its seats to them.
func TestARefusedItemOfAPartialCheckoutTakesNothing(t *testing.T) {
	w := newWorld(t, bundle("studio", 1, true, part("paint", 1), part("post", 1)), feature("units", 3), tokens("cad", 3, "units"), tokens("cam", 2, "units"))
	w.must(checkout(1, "paint", 1))
	some := and(checkout(2, "paint", 1), "post", 1)
	some.Partial = true
	w.refused(lease.NoSeats, some)
	w.equal("charged", w.pool("studio").InUse, 1)

	w.must(checkout(3, "units", 1))
	some = and(checkout(4, "cad", 1), "cam", 1)
	some.Partial = true
	got := w.must(some)
	w.equal("got", len(got.Leases), 1)
	w.equal("feature", got.Leases[0].Feature, "cam")
	w.equal("charged", w.pool("units").InUse, 3)
}

// A cap counts what one item pays with beside what another item takes, in either order.
func TestACapCountsPaymentAndSeatsOfOneRequest(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleMax, "units", user("ann"), 3)}}, feature("units", 9), tokens("cad", 2, "units"))
	w.refused(lease.MaxReached, as(and(checkout(1, "cad", 1), "units", 2), "ann", "ws"))
	w.refused(lease.MaxReached, as(and(checkout(1, "units", 2), "cad", 1), "ann", "ws"))
	w.must(as(and(checkout(1, "cad", 1), "units", 1), "ann", "ws"))
	w.equal("charged", w.pool("units").InUse, 3)
}
