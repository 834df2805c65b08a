package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestRenewCarriesAllLeasesForward(t *testing.T) {
	lan := feature("mesh", 1)
	lan.Profile = lease.Profiles["lan"]
	w := newWorld(t, feature("cad", 1), lan)
	w.must(and(checkout(1, "cad", 1), "mesh", 1))
	w.wait(20 * time.Second)
	r := w.must(lease.Renew{Session: session(1)})
	w.equal("leases", len(r.Leases), 2)
	w.equal("cad", r.Leases[0].Remaining, 120*time.Second)
	w.equal("mesh", r.Leases[1].Remaining, 30*time.Second)
	w.equal("heartbeat", r.Session.Heartbeat, 10*time.Second) // of the shortest
	w.must(lease.CheckIn{Session: session(1), Refs: []lease.Ref{r.Leases[1].Ref}})
	w.equal("heartbeat", w.must(lease.Renew{Session: session(1)}).Session.Heartbeat, 40*time.Second)
}

func TestWhatIsLostIsToldOnceAndAgainWhileItIsBelieved(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	a := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	w.must(lease.Kill{Refs: []lease.Ref{a}})
	told := lease.Lost{Ref: a, Feature: "cad", Reason: lease.ReleasedByAdmin}
	for _, c := range []struct {
		held []lease.Ref
		want []lease.Lost
	}{
		{nil, []lease.Lost{told}},
		{[]lease.Ref{a}, []lease.Lost{told}}, // the answer may have been lost
		{[]lease.Ref{a}, []lease.Lost{told}},
		{nil, nil},
		{[]lease.Ref{a}, []lease.Lost{{Ref: a}}}, // forgotten, still not held
		{[]lease.Ref{{ID: 77, Token: 1}}, []lease.Lost{{Ref: lease.Ref{ID: 77, Token: 1}}}}, // never was
	} {
		r := w.must(lease.Renew{Session: session(1), Held: c.held})
		if len(r.Lost) != len(c.want) || len(r.Lost) > 0 && r.Lost[0] != c.want[0] {
			t.Fatalf("held %v: told %+v, want %+v", c.held, r.Lost, c.want)
		}
	}
}

func TestAWrongTokenIsToldAsLost(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	a := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	forged := lease.Ref{ID: a.ID, Token: a.Token + 1}
	r := w.must(lease.Renew{Session: session(1), Held: []lease.Ref{forged}})
	if len(r.Leases) != 1 || len(r.Lost) != 1 || r.Lost[0].Ref != forged {
		t.Fatalf("%+v", r)
	}
}

func TestWhatIsToldIsBounded(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	var last lease.Ref
	for range lease.MaxLost + 10 {
		last = w.must(checkout(1, "cad", 1)).Leases[0].Ref
		w.must(lease.Kill{Refs: []lease.Ref{last}})
	}
	r := w.must(lease.Renew{Session: session(1)})
	if len(r.Lost) != lease.MaxLost || r.Lost[lease.MaxLost-1].Ref != last {
		t.Fatalf("%d told", len(r.Lost))
	}
	w.refused(lease.Invalid, lease.Renew{Session: session(1), Held: make([]lease.Ref, lease.MaxLeasesPerSession+lease.MaxLost+1)})
}

func TestRenewOfNobody(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.refused(lease.SessionUnknown, lease.Renew{Session: session(1)})
}
