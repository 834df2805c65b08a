package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestLeaseExpiresAfterLifespanAndGrace(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	p := lease.DefaultProfile
	w.must(checkout(1, "cad", 1))
	w.wait(p.Lifespan - 1)
	if s := w.must(lease.Renew{Session: session(1)}).Leases[0].State; s != lease.Active {
		t.Fatalf("state %v", s)
	}
	w.wait(p.Lifespan)
	l, _ := w.Leases(lease.Filter{}, 0, 10)
	if l[0].State != lease.Expiring || l[0].Remaining != 0 || w.expireDue() != 0 {
		t.Fatalf("one heartbeat missed: %+v", l[0])
	}
	if s := w.must(lease.Renew{Session: session(1)}).Leases[0].State; s != lease.Active {
		t.Fatal("a heartbeat in grace did not make it active again")
	}
	w.wait(p.Lifespan + p.Grace - 1)
	if n := w.expireDue(); n != 0 {
		t.Fatal("reclaimed before its grace was over")
	}
	w.wait(1)
	if n := w.expireDue(); n != 1 || w.used("cad") != 0 {
		t.Fatalf("%d reclaimed, %d in use", n, w.used("cad"))
	}
	if n := w.expireDue(); n != 1 {
		t.Fatal("the session without leases was not forgotten")
	}
	w.refused(lease.SessionUnknown, lease.Renew{Session: session(1)})
}

func TestDueSeatsComeBackBeforeADenial(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace)
	w.must(checkout(2, "cad", 1))
	if r := w.must(lease.Renew{Session: session(1)}); len(r.Leases) != 0 || len(r.Lost) != 1 || r.Lost[0].Reason != lease.ReleasedMissedHeartbeat {
		t.Fatalf("the old holder is told %+v", r)
	}
}

func TestExpireIsJudgedAgain(t *testing.T) {
	setup := func() (*world, lease.Expire) {
		w := newWorld(t, feature("cad", 1))
		w.must(checkout(1, "cad", 1))
		w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace)
		return w, w.Due(1)[0].(lease.Expire)
	}
	w, e := setup()
	w.must(lease.Renew{Session: session(1)})
	w.refused(lease.Fenced, e) // the heartbeat came first
	w, e = setup()
	e.Token++
	w.refused(lease.Fenced, e)
	w, e = setup()
	e.Rev--
	w.refused(lease.Fenced, e)
	w, e = setup()
	w.must(e)
	w.must(checkout(2, "cad", 1))
	w.refused(lease.Fenced, e) // names the predecessor
}

func TestAFullShareGroupReclaimsBeforeADenial(t *testing.T) {
	w := newWorld(t, shared("cad", 5, 2))
	for n := byte(1); n <= 2; n++ {
		w.must(as(checkout(n, "cad", 1), "ann", "ws1"))
	}
	w.wait(lease.DefaultProfile.Lifespan)
	w.must(lease.Renew{Session: session(2)})
	w.refused(lease.SessionsExceeded, as(checkout(3, "cad", 1), "ann", "ws1"))
	w.wait(lease.DefaultProfile.Grace)
	w.must(as(checkout(3, "cad", 1), "ann", "ws1"))
	w.equal("seats", w.used("cad"), 1)
}

// What is due longest goes first, and no more than is needed.
func TestReclaimTakesTheLongestDueFirst(t *testing.T) {
	w := newWorld(t, feature("cad", 2))
	w.must(checkout(1, "cad", 1))
	w.wait(time.Second)
	w.must(checkout(2, "cad", 1))
	w.wait(time.Hour)
	w.must(checkout(3, "cad", 1))
	w.equal("lost by the first", len(w.must(lease.Renew{Session: session(1)}).Lost), 1)
	w.equal("held by the second", len(w.must(lease.Renew{Session: session(2)}).Leases), 1)
}

// A request is a heartbeat: what is due of its own session and nobody asked for goes on,
// as it does with a heartbeat that comes before the entry that would reclaim it.
func TestARequestRevivesWhatIsDueInOtherPools(t *testing.T) {
	w := newWorld(t, feature("cad", 1), feature("mesh", 1))
	w.must(checkout(1, "cad", 1))
	w.must(checkout(2, "mesh", 1))
	w.wait(time.Hour)
	r := w.must(checkout(1, "mesh", 1))
	w.equal("leases", len(r.Leases), 1)
	r = w.must(lease.Renew{Session: session(1)})
	w.equal("lost", len(r.Lost), 0)
	w.equal("held", len(r.Leases), 2)
	w.equal("lost by the other", len(w.must(lease.Renew{Session: session(2)}).Lost), 1)
}

func TestEachProfileHasItsOwnDeadline(t *testing.T) {
	for name, p := range lease.Profiles {
		e := feature("cad", 1)
		e.Profile = p
		w := newWorld(t, e)
		r := w.must(checkout(1, "cad", 1))
		w.equal(name+" remaining", r.Leases[0].Remaining, p.Lifespan)
		w.equal(name+" heartbeat", r.Session.Heartbeat, p.Lifespan/lease.HeartbeatFraction)
		w.wait(p.Lifespan + p.Grace - 1)
		w.equal(name+" due early", w.expireDue(), 0)
		w.wait(1)
		if _, ok := w.Verify(r.Leases[0].Ref); ok {
			t.Fatalf("%s: a lease past its grace was verified", name)
		}
		w.expireDue()
		w.equal(name+" in use", w.used("cad"), 0)
	}
}

func TestDueIsBoundedAndComesToAnEnd(t *testing.T) {
	w := newWorld(t, feature("cad", 20))
	for n := range byte(20) {
		w.must(checkout(n+1, "cad", 1))
	}
	w.wait(time.Hour)
	rounds := 0
	for ; len(w.Due(7)) > 0; rounds++ {
		w.equal("bounded", len(w.Due(7)) <= 7, true)
		for _, c := range w.Due(7) {
			w.must(c)
		}
	}
	w.equal("rounds", rounds, 6) // 20 leases, then 20 sessions
	sessions, leases := w.Counts()
	w.equal("left", sessions+leases, 0)
}

// A heartbeat does not move what ends at a fixed time, so one that comes first in the log
// does not keep it either.
func TestAHeartbeatDoesNotKeepWhatEndsAtAFixedTime(t *testing.T) {
	expire := func(w *world) {
		t.Helper()
		due := w.Due(10)
		w.equal("due", len(due), 1)
		w.must(lease.Renew{Session: session(2)})
		w.must(due[0])
	}
	w := lendingWorld(t, lendable("cad", 1, 24))
	w.must(borrow(2, "cad", 10*time.Second))
	w.wait(10 * time.Second)
	expire(w)

	w = ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleLinger, "cad", lease.Subject{}, 10*time.Second)}}, feature("cad", 1))
	w.must(checkout(2, "cad", 1))
	w.must(lease.CheckIn{Session: session(2)})
	w.wait(10 * time.Second)
	expire(w)

	// What is not over is kept, as is an offer that was collected since.
	w = newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	w.wait(30 * time.Second)
	w.must(lease.CheckIn{Session: session(1)})
	w.wait(lease.DefaultProfile.Lifespan)
	due := w.Due(10)
	w.equal("due", len(due), 1)
	w.must(lease.Renew{Session: session(2)})
	w.refused(lease.Fenced, due[0])
	w.hold("cad", 2)
}
