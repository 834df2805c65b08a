package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestKillFreesAtOnceAndTheHolderIsTold(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	a := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	r := w.must(lease.Kill{Refs: []lease.Ref{a, a}, By: "root"})
	if len(r.Released) != 1 || r.Released[0].Reason != lease.ReleasedByAdmin {
		t.Fatalf("%+v", r)
	}
	if _, ok := w.Verify(a); ok {
		t.Fatal("the zombie's token was verified")
	}
	w.must(checkout(2, "cad", 1))
	told := w.must(lease.Renew{Session: session(1), Held: []lease.Ref{a}})
	if len(told.Leases) != 0 || len(told.Lost) != 1 || told.Lost[0].Reason != lease.ReleasedByAdmin {
		t.Fatalf("told %+v", told)
	}
}

func TestKillOfAWrongTokenChangesNothing(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	a := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	for _, r := range []lease.Ref{{ID: a.ID, Token: a.Token + 1}, {ID: a.ID + 1, Token: a.Token}, {}} {
		w.equal("released", len(w.must(lease.Kill{Refs: []lease.Ref{r}}).Released), 0)
	}
	w.equal("by id alone", len(w.must(lease.Kill{Refs: []lease.Ref{{ID: a.ID}}}).Released), 1)
}
