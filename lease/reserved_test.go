package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Ann's job has a booked seat, and ann a reserved one. When the job starts, its seat is what
// was reserved: the other one is kept for nobody any more.
func TestAJobThatFillsAReservationLetsWaitersIn(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleReserve, "cad", user("ann"), 1)}}, feature("cad", 3))
	w.must(as(checkout(1, "cad", 1), "zoe", "ws"))
	w.must(lease.MakeBooking{ID: "job", Items: []lease.Item{{Feature: "cad", Count: 1}}, For: time.Hour, Only: lease.Principal{User: "ann"}})
	w.queued(1, waiting(as(checkout(2, "cad", 1), "bob", "ws")))
	job := as(checkout(3, "cad", 1), "ann", "ws")
	job.Booking = "job"
	w.must(job)
	w.hold("cad", 1, 2, 3)
	w.waits()
}

// The same with what a job pays.
func TestAJobWhoseTokensFillAReservationLetsWaitersIn(t *testing.T) {
	draft := feature("draft", 0)
	draft.Uncounted, draft.Draw = true, lease.Draw{Of: "units", Cost: 2, Per: 1}
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleReserve, "units", user("ann"), 2)}}, feature("units", 6), draft)
	w.must(as(checkout(1, "units", 2), "zoe", "ws"))
	w.must(lease.MakeBooking{ID: "job", Items: []lease.Item{{Feature: "draft", Count: 1}}, For: time.Hour, Only: lease.Principal{User: "ann"}})
	w.queued(1, waiting(as(checkout(2, "draft", 1), "bob", "ws")))
	job := as(checkout(3, "draft", 1), "ann", "ws")
	job.Booking = "job"
	w.must(job)
	w.hold("draft", 2, 3)
}

// What fills a reservation of the asker needs no other leave, when it is taken up again or
// shared as when it was taken.
func TestALingeringOrSharedSeatThatIsReservedNeedsNoOtherLeave(t *testing.T) {
	rules := []lease.Rule{
		rule(lease.RuleReserve, "cad", user("ann"), 1), rule(lease.RuleInclude, "cad", user("bob"), 0),
		span(lease.RuleLinger, "cad", lease.Subject{}, time.Minute),
	}
	t.Run("lingering", func(t *testing.T) {
		w := ruled(t, lease.Policy{Rules: rules}, feature("cad", 2))
		w.must(as(checkout(1, "cad", 1), "ann", "ws"))
		w.must(lease.CheckIn{Session: session(1)})
		w.must(as(checkout(2, "cad", 1), "ann", "ws"))
		w.equal("charged", w.used("cad"), 1)
		w.refused(lease.NotIncluded, as(checkout(3, "cad", 1), "ann", "ws")) // nothing more is reserved
	})
	t.Run("shared", func(t *testing.T) {
		w := ruled(t, lease.Policy{Rules: rules}, shared("cad", 2, 4))
		w.must(as(checkout(1, "cad", 1), "ann", "ws"))
		w.must(as(checkout(2, "cad", 1), "ann", "ws"))
		w.refused(lease.NotIncluded, as(checkout(3, "cad", 2), "ann", "ws"))
		w.refused(lease.NotIncluded, as(checkout(4, "cad", 1), "zoe", "ws"))
	})
	t.Run("half lingering", func(t *testing.T) {
		two := append([]lease.Rule{rule(lease.RuleReserve, "cad", user("ann"), 1)}, rules...)
		w := ruled(t, lease.Policy{Rules: two}, feature("cad", 3))
		w.must(as(checkout(1, "cad", 1), "ann", "ws"))
		w.must(lease.CheckIn{Session: session(1)})
		w.must(as(checkout(2, "cad", 2), "ann", "ws"))
		w.equal("charged", w.used("cad"), 2)
	})
}

// Ann waits for two things and may have no more of the second: that she waits for the first
// as well keeps it from nobody, until she gives back what her cap counts.
func TestACapOnOneItemKeepsTheOthersFromNobody(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleMax, "mesh", user("ann"), 1)}}, feature("cad", 2), feature("mesh", 3))
	held := w.must(as(and(checkout(1, "mesh", 1), "cad", 1), "ann", "ws")).Leases[0]
	w.must(as(checkout(3, "cad", 1), "zoe", "ws"))
	w.queued(1, waiting(and(as(checkout(2, "cad", 2), "ann", "ws"), "mesh", 1)))
	w.queued(2, waiting(as(checkout(4, "cad", 1), "bob", "ws"))) // behind somebody who claims nothing
	w.must(lease.CheckIn{Session: session(3)})
	w.hold("cad", 1, 4)

	w.queued(2, waiting(as(checkout(5, "cad", 1), "eve", "ws")))
	w.must(lease.CheckIn{Session: session(1), Refs: []lease.Ref{held.Ref}}) // now she claims both
	w.must(lease.CheckIn{Session: session(4)})
	w.hold("cad", 1)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
	w.waits(5)
}

// A place that turns aside when its client asks again lets others pass at once.
func TestAPlaceThatACapReachesLetsOthersPass(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleMax, "mesh", user("ann"), 1)}}, feature("cad", 3), feature("mesh", 3))
	w.must(as(checkout(3, "cad", 2), "zoe", "ws"))
	w.queued(1, waiting(and(as(checkout(2, "cad", 2), "ann", "ws"), "mesh", 1)))
	w.queued(2, waiting(as(checkout(4, "cad", 1), "bob", "ws"))) // one is free, and ann's
	w.must(as(checkout(1, "mesh", 1), "ann", "ws"))
	w.queued(1, waiting(and(as(checkout(2, "cad", 2), "ann", "ws"), "mesh", 1)))
	w.hold("cad", 3, 4)
}
