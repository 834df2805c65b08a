package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func TestLostAnswerIsAskedForAgainWithTheSameSeq(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1")
		_, s := f.open(t, f.config("a:1", "b:1"), SessionConfig{})
		var seqs []uint64
		f.after = func(_ string, req any) error {
			r, ok := req.(*pb.CheckoutRequest)
			if !ok {
				return nil
			}
			seqs = append(seqs, r.Seq)
			if len(seqs) < 3 {
				return status.Error(codes.Unavailable, "connection reset")
			}
			return nil
		}
		take(t, s, "cad")
		if f.seatsInUse() != 1 || !slices.Equal(seqs, []uint64{1, 1, 1}) {
			t.Errorf("%d seats, seqs %v; want 1 seat by seq 1 three times", f.seatsInUse(), seqs)
		}
		take(t, s, "mesh")
		if seqs[3] != 2 {
			t.Errorf("the next request has seq %d, want 2", seqs[3])
		}
	})
}

func TestRefusals(t *testing.T) {
	cases := []struct {
		name  string
		err   error
		want  lease.Reason
		final bool
	}{
		{"no seats", problem(codes.Aborted, lease.NoSeats, false, 0), lease.NoSeats, false},
		{"no feature", problem(codes.NotFound, lease.NoFeature, true, 0), lease.NoFeature, true},
		{"bare code", status.Error(codes.Unauthenticated, "who are you"), Unauthenticated, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t, "a:1")
				f.before = func(string, any) error { return c.err }
				_, s := f.open(t, f.config("a:1"), SessionConfig{})
				start := time.Now()
				_, err := s.Checkout(t.Context(), Item{Feature: "cad", Count: 1})
				var e *Error
				if !errors.As(err, &e) || e.Reason != c.want || e.Final != c.final {
					t.Errorf("got %v", err)
				}
				if f.count("checkout") != 1 || time.Since(start) > time.Second {
					t.Errorf("%d tries in %v, want one", f.count("checkout"), time.Since(start))
				}
			})
		})
	}
}

func TestRequestNoNodeWouldReadIsNotSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		c, _ := f.open(t, f.config("a:1"), SessionConfig{})
		asked := false
		f.before = func(string, any) error { asked = true; return nil }
		_, err := c.Cluster().LicenseApply(t.Context(), &pb.LicenseApplyRequest{File: make([]byte, maxRequest)})
		if e := (*Error)(nil); !errors.As(err, &e) || e.Reason != lease.Invalid || !e.Final || asked {
			t.Errorf("error %v, sent: %v", err, asked)
		}
	})
}

func TestRefusedCheckoutCanBeAskedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.total = 0
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		for range 3 {
			if _, err := s.Checkout(t.Context(), Item{Feature: "cad", Count: 1}); ReasonOf(err) != lease.NoSeats {
				t.Fatalf("full: %v", err)
			}
		}
		f.set(func() { f.total = 1 })
		take(t, s, "cad")
	})
}

func TestRefusedSessionThatTheClusterForgotIsOpenedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.total = 0
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		_, _ = s.Checkout(t.Context(), Item{Feature: "cad", Count: 1})
		id := s.ID()
		f.set(func() { f.total = 1; clear(f.sessions) })
		take(t, s, "cad")
		if s.ID() != id {
			t.Error("an id that never held anything was thrown away")
		}
	})
}

func TestWaitTakesTheSeatWhenItComesFree(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.total = 0
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		time.AfterFunc(20*time.Second, func() { f.set(func() { f.total = 1 }) })
		start := time.Now()
		leases, err := s.CheckoutWait(t.Context(), time.Minute, Item{Feature: "cad", Count: 1})
		if err != nil || !leases[0].Valid() {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 20*time.Second || d > 20*time.Second+DefaultRetryInterval {
			t.Errorf("got it after %v", d)
		}
		f.set(func() { f.total = 1 })
		start = time.Now()
		if _, err := s.CheckoutWait(t.Context(), 30*time.Second, Item{Feature: "mesh", Count: 1}); ReasonOf(err) != lease.NoSeats {
			t.Errorf("nothing free: %v", err)
		}
		if d := time.Since(start); d < 30*time.Second || d > 31*time.Second {
			t.Errorf("gave up after %v, want 30 s", d)
		}
	})
}

func TestRetryAfterIsHonouredWithJitter(t *testing.T) {
	for _, c := range []struct {
		random   float64
		min, max time.Duration
	}{{0, 3 * time.Second, 3100 * time.Millisecond}, {0.99, 4400 * time.Millisecond, 4600 * time.Millisecond}} {
		bubble(t, func(t *testing.T) {
			f := newFake(t, "a:1")
			var refusals atomic.Int32
			f.before = func(string, any) error {
				if refusals.Add(1) == 1 {
					return problem(codes.ResourceExhausted, lease.Overloaded, false, 3*time.Second)
				}
				return nil
			}
			cfg := f.config("a:1")
			cfg.Jitter = func() float64 { return c.random }
			_, s := f.open(t, cfg, SessionConfig{})
			start := time.Now()
			take(t, s, "cad")
			if d := time.Since(start); d < c.min || d > c.max {
				t.Errorf("random %v: asked again after %v, want %v to %v", c.random, d, c.min, c.max)
			}
		})
	}
}

func TestRetryAfterBeyondTheDeadlineIsToldAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.before = func(string, any) error {
			return problem(codes.ResourceExhausted, lease.Overloaded, false, 20*time.Second)
		}
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.Checkout(ctx, Item{Feature: "cad", Count: 1})
		if ReasonOf(err) != lease.Overloaded || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestBackOffIsFullJitterWithinGrowingBounds(t *testing.T) {
	for n, bound := range map[int]time.Duration{0: 100 * time.Millisecond, 1: 200 * time.Millisecond, 5: 3200 * time.Millisecond, 6: 5 * time.Second, 1000: 5 * time.Second} {
		if got := fullJitter(n, 5*time.Second, 0); got != 0 {
			t.Errorf("try %d, random 0: %v", n, got)
		}
		if got := fullJitter(n, 5*time.Second, 0.5); got != bound/2 {
			t.Errorf("try %d, random 0.5: %v, want %v", n, got, bound/2)
		}
	}
	if got := retryAfter(time.Hour, 0, time.Second, 0); got != maxRetryAfter {
		t.Errorf("an hour's hint: %v", got)
	}
}

func TestRedirectGoesToALearntMember(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1", "c:1")
		f.leader = "c:1"
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		start := time.Now()
		take(t, s, "cad")
		if f.count("peers") != 1 || f.nodes["b:1"].dials != 0 || time.Since(start) > 50*time.Millisecond {
			t.Errorf("%d member lists, %d dials of b, %v", f.count("peers"), f.nodes["b:1"].dials, time.Since(start))
		}
	})
}

func TestRedirectToAnUnknownAddressIsNotFollowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1")
		evil := f.addNode(t, "evil:1")
		f.hint, f.leader = "evil:1", "evil:1"
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := s.Checkout(ctx, Item{Feature: "cad", Count: 1})
		if ReasonOf(err) != Unreachable || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if evil.dials != 0 {
			t.Error("the token was taken to an address nobody vouched for")
		}
	})
}

func TestLearntNodeCannotAddMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1")
		f.leader = "b:1"
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		take(t, s, "cad") // learns b
		evil := f.addNode(t, "evil:1")
		f.set(func() {
			f.nodes["a:1"].down = true
			f.peers = []string{"a:1", "b:1", "evil:1"}
			f.hint, f.leader = "evil:1", "evil:1"
		})
		f.nodes["a:1"].srv.Stop()
		time.Sleep(10 * time.Minute)
		if evil.dials != 0 {
			t.Error("followed a redirect that only a learnt node vouched for")
		}
	})
}

func TestLeaderMovesBetweenNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1", "c:1")
		_, s := f.open(t, f.config("a:1", "b:1", "c:1"), SessionConfig{})
		l := take(t, s, "cad")
		for i := range 30 {
			f.set(func() { f.leader = []string{"b:1", "c:1", "a:1"}[i%3] })
			time.Sleep(50 * time.Second)
			wantState(t, l, Active)
		}
	})
}

func TestClientWithOneAddressSurvivesTheLossOfThatNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		time.Sleep(time.Second)
		f.set(func() { f.nodes["a:1"].down, f.leader = true, "b:1" })
		f.nodes["a:1"].srv.Stop()
		time.Sleep(10 * time.Minute)
		wantState(t, l, Active)
	})
}

func TestBlackHoledFirstAddressCostsOneAttempt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1", "c:1")
		f.nodes["a:1"].blackhole, f.leader = true, "c:1"
		_, s := f.open(t, f.config("a:1", "b:1", "c:1"), SessionConfig{})
		start := time.Now()
		l := take(t, s, "cad")
		if d := time.Since(start); d > DefaultAttemptTimeout+100*time.Millisecond {
			t.Errorf("took %v", d)
		}
		start = time.Now()
		f.set(func() { f.leader = "b:1" })
		take(t, s, "mesh")
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("the black hole was tried again: %v", d)
		}
		time.Sleep(10 * time.Minute)
		wantState(t, l, Active)
	})
}

func TestBlackHoleIsAskedLastDuringAnElection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1", "c:1")
		f.nodes["a:1"].blackhole, f.leader = true, "c:1"
		cfg := f.config("a:1", "b:1", "c:1")
		cfg.Jitter = func() float64 { return 0.1 }
		_, s := f.open(t, cfg, SessionConfig{})
		take(t, s, "cad")
		time.Sleep(10 * time.Second)                   // a's rest is over
		f.set(func() { f.leader, f.hint = "", "a:1" }) // the followers still believe in a
		start := time.Now()
		time.AfterFunc(DefaultAttemptTimeout+time.Second/2, func() { f.set(func() { f.leader = "b:1" }) })
		take(t, s, "mesh")
		// One try of a, then laps without it.
		if d := time.Since(start); d > DefaultAttemptTimeout+time.Second {
			t.Errorf("took %v: the dead node was asked in every lap", d)
		}
	})
}

func TestSilentLeaderThatOthersNameIsAskedAgainSoon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1", "c:1")
		f.nodes["a:1"].blackhole, f.leader = true, "a:1"
		cfg := f.config("a:1", "b:1", "c:1")
		cfg.Jitter = func() float64 { return 0.1 }
		_, s := f.open(t, cfg, SessionConfig{})
		start := time.Now()
		time.AfterFunc(DefaultAttemptTimeout, func() { f.set(func() { f.nodes["a:1"].blackhole = false }) })
		take(t, s, "cad")
		if d := time.Since(start); d > DefaultAttemptTimeout+namedRest+time.Second/2 {
			t.Errorf("took %v", d)
		}
	})
}

func TestSilentConnectionIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		take(t, s, "cad")
		time.Sleep(time.Second) // the member list is asked for
		var hang atomic.Bool
		hang.Store(true)
		f.set(func() {
			f.before = func(string, any) error {
				if hang.Swap(false) {
					time.Sleep(time.Hour) // the path swallows it
				}
				return nil
			}
		})
		start := time.Now()
		take(t, s, "mesh")
		if d := time.Since(start); d > 3*time.Second || f.nodes["a:1"].dials != 2 {
			t.Errorf("%v and %d connections, want a second one after 2 s", d, f.nodes["a:1"].dials)
		}
	})
}

func TestUnreachableClusterEndsWithTheContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1")
		f.nodes["a:1"].down, f.nodes["b:1"].blackhole = true, true
		_, s := f.open(t, f.config("a:1", "b:1"), SessionConfig{})
		start := time.Now()
		_, err := s.Checkout(context.Background(), Item{Feature: "cad", Count: 1})
		if ReasonOf(err) != Unreachable || time.Since(start) != DefaultCallTimeout {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if !strings.Contains(err.Error(), "refused") && !strings.Contains(err.Error(), "deadline") {
			t.Errorf("no cause in %q", err)
		}
	})
}

func TestRetryCountBoundsTheLaps(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.leader = ""
		cfg := f.config("a:1")
		cfg.RetryCount = 5
		c, s := f.open(t, cfg, SessionConfig{})
		if _, err := s.Checkout(t.Context(), Item{Feature: "cad", Count: 1}); ReasonOf(err) != Unreachable || f.count("checkout") != 5 {
			t.Errorf("%v after %d tries", err, f.count("checkout"))
		}
		if _, err := c.Status(t.Context(), false); ReasonOf(err) != Unreachable || f.count("status") != 5 {
			t.Errorf("%v after %d tries", err, f.count("status"))
		}
	})
}

func TestGeneratedClientsAreRedirectedAndUnsafeCallsAreNotRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1", "b:1")
		f.leader = "b:1"
		c, _ := f.open(t, f.config("a:1"), SessionConfig{})
		if st, err := c.Status(t.Context(), false); err != nil || st.Leader != "b:1" {
			t.Fatalf("status: %v, %v", st, err)
		}
		f.after = func(string, any) error { return status.Error(codes.Unavailable, "reset") }
		_, err := c.Cluster().TransferLeadership(t.Context(), &pb.TransferLeadershipRequest{})
		if ReasonOf(err) != UnknownOutcome || f.count("transfer") != 1 {
			t.Errorf("%v after %d tries", err, f.count("transfer"))
		}
	})
}
