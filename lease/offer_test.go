package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// A check-in says nothing of a seat that its client does not know of yet: it stays an offer
// for one lifespan, whatever else is given back and whether it succeeds.
func TestACheckInOfAnotherLeaseDoesNotCollectAnOffer(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  func(held lease.Ref) lease.CheckIn
		want lease.Reason
	}{
		{"of another lease", func(held lease.Ref) lease.CheckIn { return lease.CheckIn{Session: session(2), Refs: []lease.Ref{held}} }, ""},
		{"of a lost lease", func(lease.Ref) lease.CheckIn {
			return lease.CheckIn{Session: session(2), Refs: []lease.Ref{{ID: 1 << 30, Token: 1}}}
		}, lease.Fenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, feature("cad", 1), feature("mesh", 1))
			w.must(checkout(1, "cad", 1))
			held := w.must(checkout(2, "mesh", 1)).Leases[0]
			w.queued(1, waiting(checkout(2, "cad", 1)))
			w.wait(50 * time.Second)
			w.must(lease.CheckIn{Session: session(1)})
			w.hold("cad", 2)
			if r := w.do(c.cmd(held.Ref)).Refusal; (r == nil) != (c.want == "") || r != nil && r.Reason != c.want {
				t.Fatal(r)
			}
			ref := session(2)
			r := w.must(lease.RenewMany{Sessions: []lease.Heartbeat{{ID: ref.ID, Digest: ref.Digest, Incarnation: 1}}})
			w.equal("news", r.Renewed[0].News, true)
			w.wait(120 * time.Second)
			w.expireDue()
			w.hold("cad")
		})
	}
}

func TestACheckInOfEverythingGivesOffersBackToo(t *testing.T) {
	for _, end := range []bool{false, true} {
		w := newWorld(t, feature("cad", 1))
		w.must(checkout(1, "cad", 1))
		w.queued(1, waiting(checkout(2, "cad", 1)))
		w.must(lease.CheckIn{Session: session(1)})
		w.hold("cad", 2)
		w.must(lease.CheckIn{Session: session(2), Close: end})
		w.hold("cad")
	}
}
