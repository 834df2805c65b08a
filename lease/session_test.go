package lease_test

import (
	"slices"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestTheSameNumberHasOneEffectAndTheSameAnswer(t *testing.T) {
	w := newWorld(t, feature("cad", 5))
	ask := numbered(checkout(1, "cad", 2), 1)
	first := w.must(ask)
	w.wait(30 * time.Second)
	again := w.must(ask)
	if !again.Replayed || again.Leases[0].Ref != first.Leases[0].Ref || again.Session != first.Session {
		t.Fatalf("again: %+v, first: %+v", again, first)
	}
	w.equal("current remaining", again.Leases[0].Remaining, lease.DefaultProfile.Lifespan-30*time.Second)
	w.equal("seats", w.used("cad"), 2)

	give := lease.CheckIn{Session: numberedSession(1, 2)}
	back := w.must(give)
	w.must(checkout(2, "cad", 5)) // the seats are somebody else's now
	again = w.must(give)
	if !again.Replayed || !slices.Equal(again.Released, back.Released) || w.used("cad") != 5 {
		t.Fatalf("again: %+v, first %+v, used %d", again, back, w.used("cad"))
	}
	w.refused(lease.StaleRequest, ask)
	w.equal("seats", w.used("cad"), 5)
}

func TestReplayTellsWhatWasLostSince(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	ask := numbered(checkout(1, "cad", 1), 1)
	first := w.must(ask).Leases[0]
	w.must(lease.Kill{Refs: []lease.Ref{first.Ref}})
	w.must(checkout(2, "cad", 1))
	r := w.must(ask)
	if !r.Replayed || len(r.Leases) != 0 || len(r.Lost) != 1 || r.Lost[0] != (lease.Lost{Ref: first.Ref, Feature: "cad", Reason: lease.ReleasedByAdmin}) {
		t.Fatalf("replay: %+v", r)
	}
}

func TestNumbersOutOfOrderOrOfAnotherKindHaveNoEffect(t *testing.T) {
	w := newWorld(t, feature("cad", 5), feature("mesh", 1))
	w.must(numbered(checkout(1, "cad", 1), 1))
	w.must(numbered(checkout(1, "mesh", 1), 5)) // gaps are fine
	for _, c := range []lease.Command{
		numbered(checkout(1, "cad", 1), 4),
		numbered(checkout(1, "cad", 1), 1),
		lease.CheckIn{Session: numberedSession(1, 1)},
		lease.CheckIn{Session: numberedSession(1, 5)}, // that number was a checkout
	} {
		w.refused(lease.StaleRequest, c)
	}
	w.equal("seats", w.used("cad")+w.used("mesh"), 2)
}

func TestARefusedNumberIsNeverGrantedLater(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	for _, ask := range []lease.Checkout{
		numbered(checkout(2, "cad", 1), 0), numbered(checkout(2, "cad", 1), 1), // opens the session only to remember
		numbered(checkout(2, "cad", 1), 2),
	} {
		w.refused(lease.NoSeats, ask)
	}
	w.must(lease.CheckIn{Session: session(1)})
	r := w.do(numbered(checkout(2, "cad", 1), 2))
	if r.Refusal == nil || r.Refusal.Reason != lease.NoSeats || !r.Replayed || w.used("cad") != 0 {
		t.Fatalf("late duplicate: %+v", r)
	}
	w.refused(lease.StaleRequest, numbered(checkout(2, "cad", 1), 1))
	w.must(numbered(checkout(2, "cad", 1), 3))
}

func TestATentativeRefusalLeavesItsNumberUnused(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	ask := numbered(checkout(2, "cad", 1), 1)
	ask.Tentative = true
	w.refused(lease.NoSeats, ask)
	sessions, _ := w.Counts()
	w.equal("sessions", sessions, 1)
	w.must(lease.CheckIn{Session: session(1)})
	if r := w.must(ask); r.Replayed || len(r.Leases) != 1 {
		t.Fatalf("tried again: %+v", r)
	}
	final := numbered(checkout(3, "none", 1), 1)
	final.Tentative = true
	w.refused(lease.NoFeature, final)
	w.equal("a final refusal is remembered", w.do(final).Replayed, true)
}

func TestANewIncarnationResumesAndFencesTheOlder(t *testing.T) {
	w := newWorld(t, feature("cad", 2), feature("mesh", 1))
	first := w.must(numbered(checkout(1, "cad", 2), 1)).Leases[0]
	w.must(numbered(checkout(1, "mesh", 1), 2))
	second := session(1)
	second.Incarnation = 2
	r := w.must(lease.Renew{Session: second})
	if len(r.Leases) != 2 || r.Leases[0].Ref != first.Ref || r.Session.Incarnation != 2 {
		t.Fatalf("resumed: %+v", r)
	}
	for _, c := range []lease.Command{
		lease.Renew{Session: session(1)}, numbered(checkout(1, "cad", 2), 3), numbered(checkout(1, "mesh", 1), 2), lease.CheckIn{Session: session(1), Close: true},
	} {
		w.refused(lease.Fenced, c)
	}
	second.Seq = 1 // numbering starts again
	r = w.must(lease.CheckIn{Session: second, Refs: []lease.Ref{first.Ref}})
	if r.Replayed || len(r.Released) != 1 || w.used("cad") != 0 {
		t.Fatalf("first request of the second run: %+v", r)
	}
	current := session(1)
	current.Incarnation = 0
	w.equal("the current one", w.must(lease.Renew{Session: current}).Session.Incarnation, uint64(2))
}

func TestAClosedSessionIsRememberedUntilItWouldHaveRunOut(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	ask := numbered(checkout(1, "cad", 1), 1)
	w.must(ask)
	w.wait(time.Minute)
	w.must(lease.CheckIn{Session: numberedSession(1, 2), Close: true})
	w.refused(lease.SessionUnknown, ask) // a late duplicate
	w.refused(lease.SessionUnknown, lease.Renew{Session: session(1)})
	w.refused(lease.SessionUnknown, lease.CheckIn{Session: session(1)})
	w.equal("seats", w.used("cad"), 0)
	sessions, _ := w.Counts()
	w.equal("live sessions", sessions, 0)
	w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace - time.Minute - 1)
	w.equal("due early", w.expireDue(), 0)
	w.wait(1)
	w.equal("forgotten", w.expireDue(), 1)
	w.must(ask)
}

func TestAnEphemeralSessionIsForgottenAtOnce(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	c := checkout(1, "cad", 1)
	c.Ephemeral = true
	w.must(c)
	w.must(lease.CheckIn{Session: session(1), Close: true})
	w.equal("due", len(w.Due(10)), 0)
	n := 0
	w.Freeze().Sessions(func(uint32, *lease.SessionRecord) bool { n++; return true })
	w.equal("sessions kept", n, 0)
}

func TestASessionIsKeptFromOthers(t *testing.T) {
	thief := session(1)
	thief.Digest[3]++
	stolen := checkout(1, "cad", 1)
	stolen.Session = thief
	otherTenant := checkout(1, "cad", 1)
	otherTenant.Tenant = "other"
	w := newWorld(t, feature("cad", 2))
	held := w.must(checkout(1, "cad", 1)).Leases[0]
	higher := thief
	higher.Incarnation = 9
	for _, c := range []lease.Command{
		stolen, lease.Renew{Session: thief}, lease.CheckIn{Session: thief, Close: true}, lease.Renew{Session: higher}, otherTenant,
	} {
		w.refused(lease.Forbidden, c)
	}
	r := w.must(lease.Renew{Session: session(1)})
	w.equal("still held", r.Leases[0].Ref, held.Ref)
	w.must(lease.CheckIn{Session: session(1), Close: true})
	w.refused(lease.Forbidden, lease.Renew{Session: thief}) // also when it is closed
}

func TestExpireSessionIsJudgedAgain(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.refused(lease.SessionUnknown, lease.ExpireSession{ID: lease.SessionID{9}})
	w.refused(lease.Fenced, lease.ExpireSession{ID: session(1).ID, Rev: 2}) // early
	w.wait(time.Hour)
	due := w.Due(1)[0].(lease.ExpireSession)
	early := due
	early.Rev--
	w.refused(lease.Fenced, early)
	w.must(lease.Renew{Session: session(1)})
	w.refused(lease.Fenced, due) // the heartbeat came first
	w.must(checkout(1, "cad", 1))
	w.wait(time.Hour)
	w.refused(lease.Fenced, lease.ExpireSession{ID: session(1).ID, Rev: 4}) // its lease goes first
}
