package cluster

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestClockStamps(t *testing.T) {
	const base = lease.Time(1000 * time.Second)
	const anchor = 77 * time.Hour
	type step struct {
		at     time.Duration // since the anchor
		commit bool          // the stamp is committed at once
		want   time.Duration // stamp, since base
	}
	for _, tc := range []struct {
		name  string
		steps []step
		lost  time.Duration
	}{
		{"starts at the base", []step{{0, true, 0}}, 0},
		{"runs slow by one in 500", []step{{time.Second, true, 998 * time.Millisecond}, {2 * time.Second, true, 1996 * time.Millisecond}}, 0},
		{"rounds against itself", []step{{1, true, 0}, {501, true, 499}}, 0},
		{"is not moved by a clock that goes back", []step{{time.Second, true, 998 * time.Millisecond}, {500 * time.Millisecond, true, 998 * time.Millisecond}, {-time.Hour, true, 998 * time.Millisecond}}, 0},
		{"is held at MaxStep past the last commit", []step{{time.Minute, false, MaxStep}, {2 * time.Minute, false, MaxStep}}, 120*time.Second - 240*time.Millisecond - MaxStep},
		{"never catches up", []step{
			{10 * time.Second, true, MaxStep},               // 6.98 s are forgotten
			{11 * time.Second, true, MaxStep + 998_000_000}, // one more second, not eight
			{12 * time.Second, true, MaxStep + 1_996_000_000},
		}, 6980 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClock(base, anchor)
			for i, s := range tc.steps {
				got := c.stamp(anchor + s.at)
				if got != base.Add(s.want) {
					t.Errorf("step %d at %v: %v past the base, want %v", i, s.at, got.Sub(base), s.want)
				}
				if s.commit {
					c.commit(got, anchor+s.at)
				}
			}
			if c.lost != tc.lost {
				t.Errorf("lost %v, want %v", c.lost, tc.lost)
			}
		})
	}
}

// Two entries hang through one outage: the second was stamped in it, and may not make
// it cost twice.
func TestOneOutageCostsOneMaxStep(t *testing.T) {
	c := newClock(0, 0)
	first, second := c.stamp(time.Second), c.stamp(4*time.Second)
	const end = time.Minute
	c.commit(first, end)
	c.commit(second, end)
	if got := c.stamp(end); got > lease.Time(MaxStep) {
		t.Errorf("an outage of a minute moved time by %v", time.Duration(got))
	}
}

// Whatever the leader's clock and its commits do: time never goes back, never runs
// faster than real time between any two stamps (C2), costs at most MaxStep for a gap
// (C3), and what is lost stays lost (C4).
func TestClockKeepsItsPromisesOnRandomRuns(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		c := newClock(lease.Time(rnd.Int64N(1e15)), time.Duration(rnd.Int64N(1e15)))
		rate := 1 + (rnd.Float64()-0.5)*0.003 // a crystal within the margin
		var real time.Duration
		mono := c.anchor
		type seen struct {
			real time.Duration
			t    lease.Time
		}
		var all []seen
		lastCommit, lost := c.base, c.lost
		for range 300 {
			d := time.Duration(rnd.ExpFloat64() * float64(time.Second))
			if rnd.IntN(20) == 0 {
				d *= 60
			}
			real += d
			mono += time.Duration(float64(d) * rate)
			s := c.stamp(mono)
			switch {
			case s.Sub(lastCommit) > MaxStep:
				t.Fatalf("seed %d: %v past the last commit", seed, s.Sub(lastCommit))
			case c.lost < lost:
				t.Fatalf("seed %d: lost time went from %v to %v", seed, lost, c.lost)
			}
			lost = c.lost
			for _, p := range all {
				if s < p.t || s.Sub(p.t) > real-p.real {
					t.Fatalf("seed %d: time moved by %v while %v passed", seed, s.Sub(p.t), real-p.real)
				}
			}
			if rnd.IntN(3) > 0 { // stamps that were not accepted bind nobody
				c.commit(s, mono)
				lastCommit = s
				all = append(all, seen{real, s})
			}
		}
	}
}
