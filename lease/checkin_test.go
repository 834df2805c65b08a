package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestCheckInGivesBackWhatItNames(t *testing.T) {
	setup := func(t *testing.T) (w *world, cad, mesh lease.Ref) {
		w = newWorld(t, feature("cad", 1), feature("mesh", 1))
		l := w.must(and(checkout(1, "cad", 1), "mesh", 1)).Leases
		return w, l[0].Ref, l[1].Ref
	}
	forge := func(r lease.Ref) lease.Ref { r.Token++; return r }
	bare := func(r lease.Ref) lease.Ref { r.Token = 0; return r }
	for _, c := range []struct {
		name           string
		refs           func(cad, mesh lease.Ref) []lease.Ref
		close          bool
		reason         lease.Reason
		released, lost int
		cad, mesh      int
	}{
		{"nothing named: all", func(_, _ lease.Ref) []lease.Ref { return nil }, false, "", 2, 0, 0, 0},
		{"one", func(c, _ lease.Ref) []lease.Ref { return []lease.Ref{c} }, false, "", 1, 0, 0, 1},
		{"one by id alone", func(_, m lease.Ref) []lease.Ref { return []lease.Ref{bare(m)} }, false, "", 1, 0, 1, 0},
		{"one named twice", func(c, _ lease.Ref) []lease.Ref { return []lease.Ref{c, bare(c), c} }, false, "", 1, 0, 0, 1},
		{"wrong token", func(c, _ lease.Ref) []lease.Ref { return []lease.Ref{forge(c)} }, false, lease.Fenced, 0, 0, 1, 1},
		{"one right, one wrong", func(c, m lease.Ref) []lease.Ref { return []lease.Ref{c, forge(m)} }, false, "", 1, 1, 0, 1},
		{"wrong, then right, of one lease", func(c, _ lease.Ref) []lease.Ref { return []lease.Ref{forge(c), c} }, false, "", 1, 1, 0, 1},
		{"unknown", func(_, _ lease.Ref) []lease.Ref { return []lease.Ref{{ID: 99}} }, false, lease.Fenced, 0, 0, 1, 1},
		{"close gives all back", func(c, _ lease.Ref) []lease.Ref { return []lease.Ref{c} }, true, "", 2, 0, 0, 0},
		{"close with a wrong one", func(c, _ lease.Ref) []lease.Ref { return []lease.Ref{forge(c)} }, true, "", 2, 1, 0, 0},
		{"too many", func(c, _ lease.Ref) []lease.Ref { return make([]lease.Ref, lease.MaxLeasesPerSession+1) }, false, lease.Invalid, 0, 0, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, cad, mesh := setup(t)
			r := w.do(lease.CheckIn{Session: session(1), Refs: c.refs(cad, mesh), Close: c.close})
			reason := lease.Reason("")
			if r.Refusal != nil {
				reason = r.Refusal.Reason
			}
			if reason != c.reason || len(r.Released) != c.released || len(r.Lost) != c.lost || w.used("cad") != c.cad || w.used("mesh") != c.mesh {
				t.Fatalf("%+v; cad %d, mesh %d", r, w.used("cad"), w.used("mesh"))
			}
		})
	}
}

// A zombie gives nothing of its successor back.
func TestCheckInNeverTouchesASuccessor(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	old := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	w.must(lease.Kill{Refs: []lease.Ref{old}})
	next := w.must(checkout(2, "cad", 1)).Leases[0].Ref
	for _, r := range []lease.Ref{old, {ID: old.ID}, next, {ID: next.ID}} {
		w.refused(lease.Fenced, lease.CheckIn{Session: session(1), Refs: []lease.Ref{r}})
	}
	w.equal("seats", w.used("cad"), 1)
}

func TestCheckInSaysWhy(t *testing.T) {
	for in, want := range map[lease.Release]lease.Release{
		0: lease.ReleasedNormal, lease.ReleasedNormal: lease.ReleasedNormal, lease.ReleasedClientExit: lease.ReleasedClientExit,
		lease.ReleasedByAdmin: lease.ReleasedNormal, // not a client's word
	} {
		w := newWorld(t, feature("cad", 1))
		w.must(checkout(1, "cad", 1))
		w.TakeEvents()
		r := w.must(lease.CheckIn{Session: session(1), Reason: in})
		w.equal("reason", r.Released[0].Reason, want)
		w.equal("event", w.TakeEvents()[0].Release, want)
		w.equal("told as lost", len(w.must(lease.Renew{Session: session(1)}).Lost), 0)
	}
}

func TestCheckInOfNothingHeldIsDone(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("released", len(w.must(lease.CheckIn{Session: session(1)}).Released), 0)
	w.refused(lease.SessionUnknown, lease.CheckIn{Session: session(2)})
}
