//go:build linux

package nemesis

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

func clockFamilies() []Family {
	return []Family{
		{Name: "clock-jump", For: processFor, Needs: bendable, begin: clockJump(-48*time.Hour, -time.Minute, 30*time.Second, time.Hour, 400*24*time.Hour)},
		{Name: "clock-rate", For: 6 * time.Second, Needs: bendable, begin: clockRate},
		{Name: "uptime-offset", For: time.Second, begin: uptimeOffset},
	}
}

func bendable(*World) string {
	if runtime.GOARCH == "amd64" {
		return ""
	}
	return node.ErrNoClock.Error()
}

// clockJump sets the wall clock of the leader's process forward or back.
func clockJump(jumps ...time.Duration) func(context.Context, *attempt) (*active, error) {
	return func(_ context.Context, a *attempt) (*active, error) {
		x := a.leader()
		if x == nil {
			return nil, errNotNow
		}
		jump := jumps[a.rng.IntN(len(jumps))]
		one := []*node.Node{x}
		f := &active{make: func(context.Context) error { return x.Bend(node.Clock{Jump: jump}) },
			end: func(context.Context) (bool, string, error) {
				shown, err := a.Probe.ServerTime(x)
				off := time.Duration(shown-time.Now().Unix()) * time.Second
				// Whole seconds, and the way of the answer.
				bit := err == nil && (off-jump).Abs() <= 3*time.Second
				if x.Running() {
					err = x.Bend(node.Clock{})
				}
				return bit, fmt.Sprintf("%s shows a wall clock that is off by %v (%v were asked for)", x.Name, off, jump), err
			}}
		return f.on(one, nil), nil
	}
}

// clockRate lets the leader's clocks run too fast or too slow, far beyond the margin
// that the protocol allows for. What the monotonic clock gained it keeps.
func clockRate(_ context.Context, a *attempt) (*active, error) {
	x := a.leader()
	if x == nil {
		return nil, errNotNow
	}
	rates := []float64{-0.3, 0.4}
	rate := rates[a.rng.IntN(len(rates))]
	var since time.Time
	one := []*node.Node{x}
	f := &active{breaksClock: true,
		make: func(context.Context) error { since = time.Now(); return x.Bend(node.Clock{Rate: rate}) },
		end: func(context.Context) (bool, string, error) {
			shown, err := a.Probe.ServerTime(x)
			off := time.Duration(shown-time.Now().Unix()) * time.Second
			want := time.Duration(rate * float64(time.Since(since)))
			bit := err == nil && off != 0 && (off-want).Abs() <= 1500*time.Millisecond
			if x.Running() {
				err = x.Bend(node.Clock{})
			}
			return bit, fmt.Sprintf("%s ran %+.0f %% for %v and is off by about %v", x.Name, 100*rate, time.Since(since).Round(time.Millisecond), off), err
		}}
	return f.on(one, nil), nil
}

// uptimeOffset restarts a node on a machine that has been up for longer.
func uptimeOffset(_ context.Context, a *attempt) (*active, error) {
	x := a.anyFree()
	if x == nil {
		return nil, errNotNow
	}
	offset := time.Duration(1+a.rng.IntN(90)) * 24 * time.Hour
	one := []*node.Node{x}
	f := &active{make: func(context.Context) error {
		if err := x.Kill(); err != nil {
			return err
		}
		x.UptimeOffset = offset
		return x.Start()
	}, end: func(ctx context.Context) (bool, string, error) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/timens_offsets", x.PID()))
		proof := fmt.Sprintf("%s: %s", x.Name, strings.Join(strings.Fields(string(data)), " "))
		return err == nil && strings.Contains(proof, fmt.Sprint(int64(offset/time.Second))), proof, err
	}}
	return f.on(one, one), nil
}
