package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// What a session gave back it wants again at the place that it has for it, ahead of all who
// came after that place: also of what is paid with tokens.
func TestAPlaceClaimsAgainWhatItsSessionGaveBack(t *testing.T) {
	draft := feature("draft", 0)
	draft.Uncounted, draft.Draw = true, lease.Draw{Of: "units", Cost: 2, Per: 1}
	w := newWorld(t, feature("units", 2), draft, feature("mesh", 1))
	w.must(checkout(1, "mesh", 1))
	w.must(checkout(2, "draft", 1))
	w.queued(1, waiting(and(checkout(2, "draft", 1), "mesh", 1)))
	w.queued(1, waiting(checkout(3, "units", 2)))
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("units")
	w.waits(2, 3)
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("draft", 2)
	w.hold("mesh", 2)
	w.waits(3)
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("units", 3)
	w.waits()
}

// A place that lacked one thing, which its session has by now through another request, is
// served as soon as the rest is free.
func TestAPlaceIsServedWithWhatItsSessionHasByNow(t *testing.T) {
	for _, taken := range []bool{false, true} {
		w := newWorld(t, feature("cad", 1), feature("mesh", 1))
		w.must(checkout(1, "cad", 1))
		if taken {
			w.must(checkout(3, "mesh", 1))
		}
		w.queued(1, waiting(checkout(2, "cad", 1)))
		w.queued(2, waiting(and(checkout(2, "cad", 1), "mesh", 1)))
		w.must(lease.CheckIn{Session: session(1)})
		w.hold("cad", 2)
		if taken {
			w.hold("mesh", 3)
			w.must(lease.CheckIn{Session: session(3)})
		}
		w.hold("mesh", 2)
		w.waits()
	}
}

// A request waits for the seats of those pools alone that have as many as it asks for: what
// is free in a smaller one is for others.
func TestAPoolTooSmallForARequestIsNotKeptForIt(t *testing.T) {
	small, large := feature("cad", 2), feature("cad", 3)
	small.Version, large.Version = "1.0", "2.0"
	w := newWorld(t, small, large)
	taken := checkout(1, "cad", 1)
	taken.Items[0].Version = "2.0"
	w.must(taken)
	w.queued(1, waiting(checkout(2, "cad", 3)))
	w.equal("version", w.must(checkout(3, "cad", 2)).Leases[0].Version, "1.0")
	w.refused(lease.NoSeats, checkout(4, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2, 3)
}

// Before somebody is denied, what is over is ended: also a place in the queue, but not that
// of who asks, and asks for it again.
func TestAPlaceThatIsOverHoldsNobodyUp(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	w.must(checkout(1, "cad", 1))
	large := checkout(2, "cad", 2)
	large.Wait = 5 * time.Second
	place := w.queued(1, large)
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.wait(6 * time.Second)
	w.equal("the same place", w.queued(1, large).Ticket, place.Ticket)
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.wait(6 * time.Second)
	w.must(checkout(3, "cad", 1))
	w.waits()
}
