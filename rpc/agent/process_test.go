//go:build linux

package agent

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestTheEndOfAProcessIsNoticed(t *testing.T) {
	for name, wait := range map[string]func(process, context.Context) error{"by the kernel": process.ended, "by looking": process.poll} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("sleep", "600")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			p, uid, err := identify(cmd.Process.Pid)
			if err != nil || uid != os.Getuid() || !p.alive() {
				t.Fatalf("%+v of %d: %v", p, uid, err)
			}
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := wait(p, short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a living process has ended: %v", err)
			}
			told := make(chan error, 1)
			go func() { told <- wait(p, t.Context()) }()
			// It stays a zombie until the deferred Wait: that has ended, too.
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-told:
				if err != nil || p.alive() {
					t.Errorf("after its end: %v, alive %v", err, p.alive())
				}
			case <-time.After(20 * time.Second):
				t.Fatal("nobody noticed")
			}
		})
	}
}

func TestAPidThatIsUsedAgainIsAnotherProcess(t *testing.T) {
	p, _, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	earlier := process{PID: p.PID, Start: p.Start + "0"}
	if !p.alive() || earlier.alive() {
		t.Errorf("alive: %v, and one with the pid and another start: %v", p.alive(), earlier.alive())
	}
	if err := earlier.ended(t.Context()); err != nil {
		t.Errorf("waiting for one that is no more: %v", err)
	}
}

func TestGateHoldsLimitsInAllAndByUser(t *testing.T) {
	var g gate
	for i, c := range []struct {
		uid  int
		want bool
	}{{1, true}, {1, true}, {1, false}, {2, true}, {2, false}} {
		if got := g.enter(c.uid, 3, 2); got != c.want {
			t.Errorf("call %d of user %d: %v, want %v", i, c.uid, got, c.want)
		}
	}
	g.leave(1)
	if !g.enter(2, 3, 2) || g.count() != 3 || g.enter(1, 3, 2) {
		t.Errorf("after one left: %d inside", g.count())
	}
}
