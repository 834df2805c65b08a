package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// D1: after a restore nothing is checked out before the fence lifts; renewals go on.
func TestFenceHoldsCheckoutsUntilUnknownLeasesHaveRunOut(t *testing.T) {
	wan := feature("cad", 2)
	wan.Profile = lease.Profiles["wan"]
	w := newWorld(t, wan)
	a := w.must(checkout(1, "cad", 1)).Leases[0]
	w.must(lease.Fence{})
	span := wan.Profile.Lifespan + wan.Profile.Grace
	for range 10 {
		r := w.do(checkout(2, "cad", 1))
		if r.Refusal == nil || r.Refusal.Reason != lease.Overloaded || r.Refusal.Final || r.Refusal.RetryAfter != span {
			t.Fatalf("%+v", r.Refusal)
		}
		w.equal("alarms", len(w.Alarms()), 1)
		w.must(lease.Renew{Session: session(1)})
		w.wait(time.Minute)
		span -= time.Minute
	}
	if b := w.must(checkout(2, "cad", 1)).Leases[0]; b.Token <= a.Token+1<<32-1 {
		t.Fatalf("token %d after the fence, %d before", b.Token, a.Token)
	}
	w.equal("alarms", len(w.Alarms()), 0)
}

// L3: tokens of a seat grow strictly, whatever happens between two grants.
func TestFencingTokensGrowPerSeat(t *testing.T) {
	var last lease.Token
	w := newWorld(t, shared("cad", 1, 4))
	grant := func(what string) {
		t.Helper()
		r := w.Apply(w.index, checkout(1, "cad", 1)) // at the index of the last command: one batch
		if r.Refusal != nil {
			t.Fatalf("%s: %v", what, r.Refusal)
		}
		if l := r.Leases[0]; l.Seats[0] != 1 || l.Token <= last {
			t.Fatalf("%s: seat %d, token %d after %d", what, l.Seats[0], l.Token, last)
		} else {
			last = l.Token
		}
		w.Apply(w.index, lease.CheckIn{Session: session(1)})
	}
	grant("first")
	for range 5 {
		grant("again in one batch")
	}
	w.must(lease.RemoveLicence{Tenant: "default", ID: "L-1"})
	w.must(lease.InstallLicence{Licence: licence("L-1", shared("cad", 1, 4))})
	w.index = 1 // as after a restore into a new log
	grant("pool dropped and made again")
	for range 3 {
		w.must(lease.Fence{})
		w.wait(time.Hour)
		w.index = 1
		grant("fenced")
	}
}
