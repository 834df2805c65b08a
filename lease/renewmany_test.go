package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func beat(r lease.SessionRef) lease.Heartbeat {
	return lease.Heartbeat{ID: r.ID, Digest: r.Digest, Incarnation: r.Incarnation}
}

func TestRenewManyJudgesEachSessionByItself(t *testing.T) {
	lan := feature("mesh", 1)
	lan.Profile = lease.Profiles["lan"]
	w := newWorld(t, feature("cad", 9), lan)
	w.must(and(checkout(1, "cad", 1), "mesh", 1))
	w.must(checkout(2, "cad", 1))
	killed := w.must(checkout(3, "cad", 1)).Leases[0].Ref
	w.must(lease.Kill{Refs: []lease.Ref{killed}})
	w.must(checkout(4, "cad", 1))
	w.must(lease.CheckIn{Session: session(4), Close: true})
	next := session(5)
	w.must(checkout(5, "cad", 1))
	next.Incarnation = 2
	w.must(lease.Renew{Session: next})
	w.wait(20 * time.Second)

	wrong := beat(session(2))
	wrong.Digest[0]++
	r := w.must(lease.RenewMany{Sessions: []lease.Heartbeat{
		beat(session(1)), wrong, beat(session(2)), beat(session(3)), beat(session(4)), beat(session(5)), beat(session(77)), beat(session(1)),
	}})
	full, short, heart := 120*time.Second, 30*time.Second, 10*time.Second
	for i, want := range []lease.Renewed{
		{Leases: 2, Remaining: short, Grace: short, Heartbeat: heart},
		{Reason: lease.Forbidden},
		{Leases: 1, Remaining: full, Grace: full, Heartbeat: full / 3},
		{News: true, Remaining: full, Grace: full, Heartbeat: full / 3},
		{Reason: lease.SessionUnknown},
		{Reason: lease.Fenced},
		{Reason: lease.SessionUnknown},
		{Leases: 2, Remaining: short, Grace: short, Heartbeat: heart},
	} {
		got := r.Renewed[i]
		got.HeldSum = 0
		w.equal("answer", got, want)
	}
	w.equal("news stay news until they are told", len(w.must(lease.Renew{Session: session(3)}).Lost), 1)
	w.equal("and no longer", w.must(lease.RenewMany{Sessions: []lease.Heartbeat{beat(session(3))}}).Renewed[0].News, false)
	w.refused(lease.Invalid, lease.RenewMany{Sessions: make([]lease.Heartbeat, lease.MaxRenewMany+1)})
}

// The sum in a short answer is that of the leases which a whole answer would show: a
// holder can tell by it that the ledger does not know one of its leases (a backup was
// restored), or knows another.
func TestRenewManySumsTheLeasesThatAreHeld(t *testing.T) {
	w := newWorld(t, feature("cad", 9), feature("mesh", 9))
	w.must(checkout(1, "cad", 1))
	w.must(checkout(2, "cad", 1))
	short := func() uint64 {
		return w.must(lease.RenewMany{Sessions: []lease.Heartbeat{beat(session(1))}}).Renewed[0].HeldSum
	}
	whole := func() uint64 {
		return lease.SumRefs(func(yield func(lease.Ref) bool) {
			for _, l := range w.must(lease.Renew{Session: session(1)}).Leases {
				if !yield(l.Ref) {
					return
				}
			}
		})
	}
	one := short()
	w.equal("of one lease", one, whole())
	granted := w.must(checkout(1, "mesh", 1)).Leases
	two := short()
	w.equal("of two", two, whole())
	w.must(lease.CheckIn{Session: session(1), Refs: []lease.Ref{granted[0].Ref}})
	w.equal("of one again", short(), one)
	w.must(checkout(1, "mesh", 1))
	w.equal("of as many, but others", short() != two && short() == whole(), true)
}

// A heartbeat in a batch does to a ledger what one by itself does.
func TestRenewManyExtendsAsRenewDoes(t *testing.T) {
	ends := func(renew func(w *world)) (at []time.Duration) {
		w := newWorld(t, feature("cad", 9))
		for i := range 3 {
			w.must(checkout(byte(i+1), "cad", 1))
		}
		w.wait(100 * time.Second)
		renew(w)
		for range 400 {
			w.wait(time.Second)
			w.expireDue()
			if n := w.used("cad"); n < 3-len(at) {
				at = append(at, time.Duration(w.Now()))
			}
		}
		return at
	}
	alone := ends(func(w *world) {
		w.must(lease.Renew{Session: session(1)})
		w.must(lease.Renew{Session: session(3)})
	})
	together := ends(func(w *world) {
		w.must(lease.RenewMany{Sessions: []lease.Heartbeat{beat(session(1)), beat(session(3))}})
	})
	if len(alone) == 0 || len(alone) != len(together) {
		t.Fatalf("%v and %v", alone, together)
	}
	for i := range alone {
		if alone[i] != together[i] {
			t.Errorf("ended at %v by Renew and at %v by RenewMany", alone, together)
		}
	}
}

func BenchmarkRenewMany(b *testing.B) {
	const live, batch = 100_000, 1000
	book := full(b, live)
	cmds := make([]lease.RenewMany, live/batch)
	for i := range cmds {
		for k := range batch {
			cmds[i].Sessions = append(cmds[i].Sessions, beat(manySession((k*7919+i*batch)%live)))
		}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if r := book.Apply(1, cmds[i%len(cmds)]); r.Renewed[0].Reason != "" {
			b.Fatal(r.Renewed[0])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/batch, "ns/session")
}

// After a restore a holder may believe in a lease that the ledger lost. A short answer
// would confirm it, and it would be given to somebody else when the fence lifts.
func TestTheHeartbeatOfManySendsHoldersToAskAfterARestore(t *testing.T) {
	w := newWorld(t, feature("cad", 2), feature("mesh", 1))
	w.must(checkout(1, "cad", 1))
	news := func() bool {
		return w.must(lease.RenewMany{Sessions: []lease.Heartbeat{beat(session(1))}}).Renewed[0].News
	}
	w.equal("news before", news(), false)
	w.must(lease.Fence{})
	w.equal("news while the fence is up", news(), true)
	lost := lease.Ref{ID: 99, Token: 99} // granted since the backup
	w.equal("told", len(w.must(lease.Renew{Session: session(1), Held: []lease.Ref{lost}}).Lost), 1)
	for range 5 {
		w.wait(time.Minute)
		news()
	}
	w.equal("news afterwards", news(), false)
}
