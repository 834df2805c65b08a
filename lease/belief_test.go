package lease_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestBeliefFollowsTheClock(t *testing.T) {
	at := func(s float64) lease.Instant { return lease.Instant(s * float64(time.Second)) }
	var b lease.Belief
	if b.State(0) != lease.Gone || b.Remaining(0) != 0 {
		t.Error("the zero belief believes something")
	}
	b.Confirm(at(10), 100*time.Second, 50*time.Second)
	for _, c := range []struct {
		now  lease.Instant
		want lease.State
	}{{at(10), lease.Active}, {at(109.799), lease.Active}, {at(109.8), lease.Expiring}, {at(159.699), lease.Expiring}, {at(159.7), lease.Gone}, {at(1e6), lease.Gone}} {
		if got := b.State(c.now); got != c.want {
			t.Errorf("at %v s: %v, want %v", time.Duration(c.now).Seconds(), got, c.want)
		}
	}
	b.Confirm(at(5), 100*time.Second, 50*time.Second)
	if b.State(at(159.6)) != lease.Expiring {
		t.Error("an older answer shortened the belief")
	}
	b.Confirm(at(170), 0, 50*time.Second)
	if b.State(at(171)) != lease.Gone {
		t.Error("an answer with nothing remaining was believed")
	}
	b.Confirm(at(200), 100*time.Second, 50*time.Second)
	if b.State(at(201)) != lease.Active {
		t.Error("lost by silence, then confirmed: want active")
	}
	b.End()
	b.Confirm(at(210), 100*time.Second, 50*time.Second)
	if b.State(at(211)) != lease.Gone || !b.Ended() {
		t.Error("an ended belief came back")
	}
}

func TestBeliefEndsBeforeTheClusterMayReclaim(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		// Real time 0 is the send; the cluster stamps the grant later, and its clock may
		// run Margin faster than the client's.
		wire := time.Duration(r.Int64N(int64(10 * time.Second)))
		remaining := time.Duration(1 + r.Int64N(int64(24*time.Hour)))
		grace := time.Duration(r.Int64N(int64(24 * time.Hour)))
		start := lease.Instant(r.Int64N(1 << 60))
		var b lease.Belief
		b.Confirm(start, remaining, grace)
		reclaim := wire + remaining + grace // real time, by a perfect cluster clock
		slow := float64(reclaim) * (1 - 1.0/lease.MarginParts)
		if now := start.Add(time.Duration(slow) + 1); b.State(now) != lease.Gone {
			t.Fatalf("still %v at reclaim: remaining %v grace %v", b.State(now), remaining, grace)
		}
		if at, ok := b.NextChange(start); ok && b.State(at) == b.State(at-1) {
			t.Fatalf("no change at NextChange: remaining %v grace %v", remaining, grace)
		}
	}
}
