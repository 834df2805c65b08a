package client

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func TestHeartbeatKeepsLeaseActiveAtAThirdOfTheLifespan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		a, b := take(t, s, "cad"), take(t, s, "mesh")
		start := time.Now()
		for time.Since(start) < 20*time.Minute {
			time.Sleep(7 * time.Second)
			wantState(t, a, Active)
			wantState(t, b, Active)
		}
		// 1200 s at 32 to 40 s each: one heartbeat for both leases.
		if n := f.count("renew"); n < 30 || n > 38 {
			t.Errorf("%d heartbeats in 20 minutes, want 30 to 38", n)
		}
	})
}

func TestHeartbeatJitterIsEarlyAndNeverLate(t *testing.T) {
	for _, c := range []struct {
		random float64
		want   time.Duration
	}{{0, 40 * time.Second}, {0.5, 36 * time.Second}, {0.999999999, 32 * time.Second}} {
		bubble(t, func(t *testing.T) {
			f := newFake(t, "a:1")
			cfg := f.config("a:1")
			cfg.Jitter = func() float64 { return c.random }
			_, s := f.open(t, cfg, SessionConfig{})
			take(t, s, "cad")
			time.Sleep(c.want - time.Millisecond)
			synctest.Wait()
			if n := f.count("renew"); n != 0 {
				t.Errorf("random %v: heartbeat before %v", c.random, c.want)
			}
			time.Sleep(2 * time.Millisecond)
			synctest.Wait()
			if n := f.count("renew"); n != 1 {
				t.Errorf("random %v: %d heartbeats at %v, want 1", c.random, n, c.want)
			}
		})
	}
}

func TestCheckIntervalMakesHeartbeatMoreFrequentWithinItsFloor(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		cfg := f.config("a:1")
		cfg.CheckInterval, cfg.Jitter = time.Second, func() float64 { return 0 }
		_, s := f.open(t, cfg, SessionConfig{})
		take(t, s, "cad")
		time.Sleep(61 * time.Second)
		if n := f.count("renew"); n != 6 {
			t.Errorf("%d heartbeats in a minute, want 6: every 10 s", n)
		}
	})
}

func TestFrequentCheckoutsDoNotPutOffTheHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		for range 20 {
			take(t, s, "cad")
			time.Sleep(10 * time.Second)
		}
		if n := f.count("renew"); n < 4 {
			t.Errorf("%d heartbeats in 200 s, want at least 4", n)
		}
	})
}

func TestDeadlineCountsFromSendNotFromReceipt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.lifespan, f.grace = 30*time.Second, 10*time.Second
		cfg := f.config("a:1")
		cfg.AttemptTimeout = time.Minute
		_, s := f.open(t, cfg, SessionConfig{})
		f.after = func(string, any) error {
			time.Sleep(5 * time.Second) // the answer is slow
			return nil
		}
		sent := time.Now()
		l := take(t, s, "cad")
		f.set(func() { f.nodes["a:1"].blackhole, f.leader = true, "" })
		time.Sleep(time.Until(sent.Add(29939 * time.Millisecond)))
		wantState(t, l, Active)
		time.Sleep(2 * time.Millisecond) // 30 s less the margin of 60 ms
		wantState(t, l, Expiring)
		time.Sleep(time.Until(sent.Add(39919 * time.Millisecond)))
		wantState(t, l, Expiring)
		lost := l.Lost()
		if isClosed(lost) || !l.Valid() {
			t.Error("lost within its grace")
		}
		time.Sleep(2 * time.Millisecond)
		wantState(t, l, Lost)
		if !isClosed(lost) || l.Valid() || l.Reason() != "missed_heartbeat" {
			t.Errorf("after grace: valid %v, reason %q", l.Valid(), l.Reason())
		}
	})
}

func TestLostChannelClosesWithoutAnybodyAsking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		var changes atomic.Int32
		_, s := f.open(t, f.config("a:1"), SessionConfig{OnStateChange: func(c Change) {
			if want := []State{Expiring, Lost}[changes.Add(1)-1]; c.To != want {
				t.Errorf("change to %v, want %v", c.To, want)
			}
		}})
		l := take(t, s, "cad")
		lost := l.Lost()
		f.set(func() { f.leader = "" })
		start := time.Now()
		<-lost
		if d := time.Since(start); d < 179*time.Second || d > 180*time.Second {
			t.Errorf("lost after %v, want just under 180 s", d)
		}
		synctest.Wait()
		if changes.Load() != 2 {
			t.Errorf("%d changes, want expiring and lost", changes.Load())
		}
	})
}

func TestLeaseLostBySilenceComesBackWhenTheClusterStillHoldsIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		token := l.Token()
		f.set(func() { f.leader = "" })
		<-l.Lost()
		// The whole cluster was down: its time stood still, nobody lost anything.
		f.set(func() {
			f.leader = "a:1"
			for _, s := range f.sessions {
				s.renewed = time.Now()
			}
		})
		time.Sleep(DefaultRetryInterval + 5*time.Second)
		wantState(t, l, Active)
		if l.Token() != token || isClosed(l.Lost()) || l.Reason() != "" {
			t.Error("the lease did not come back whole")
		}
	})
}

func TestSuspendIsSeenAtTheFirstLook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		clock := &bubbleClock{start: time.Now()}
		cfg := f.config("a:1")
		cfg.Clock = clock.now
		_, s := f.open(t, cfg, SessionConfig{})
		l := take(t, s, "cad")
		clock.suspend(3 * time.Minute) // no timer has moved
		if l.Valid() {
			t.Error("valid after sleeping past the deadline")
		}
		synctest.Wait()
		if f.count("renew") == 0 {
			t.Error("no heartbeat at once after waking up")
		}
	})
}

func TestSuspendIsNoticedWithoutALook(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		clock := &bubbleClock{start: time.Now()}
		cfg := f.config("a:1")
		cfg.Clock = clock.now
		_, s := f.open(t, cfg, SessionConfig{})
		take(t, s, "cad")
		time.Sleep(time.Second)
		clock.suspend(time.Minute)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		if f.count("renew") == 0 {
			t.Error("no heartbeat within 6 s of waking up")
		}
	})
}

func TestKilledLeaseIsLostAtTheNextHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		f.set(f.kill)
		<-l.Lost()
		if l.Reason() != "removed_by_admin" || l.Valid() {
			t.Errorf("reason %q, valid %v", l.Reason(), l.Valid())
		}
		if n := f.count("renew"); n != 1 {
			t.Errorf("%d heartbeats, want 1", n)
		}
	})
}

func TestUnknownSessionLosesItsLeasesAndMintsANewId(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l, id := take(t, s, "cad"), s.ID()
		f.set(func() { clear(f.sessions) })
		<-l.Lost()
		if l.Reason() != lease.SessionUnknown || s.ID() == id {
			t.Errorf("reason %q, id changed: %v", l.Reason(), s.ID() != id)
		}
		if again := take(t, s, "cad"); !again.Valid() {
			t.Error("the new session gets no seat")
		}
	})
}

func TestCheckoutOnAnUnknownSessionRetriesWithANewOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		old := take(t, s, "cad")
		f.set(func() { clear(f.sessions) })
		if !take(t, s, "mesh").Valid() || old.Valid() {
			t.Error("want the new lease valid and the old one lost")
		}
	})
}

func TestNewerRunFencesThisOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		f.set(func() { f.sessions[s.ID().String()].incarnation = 9 })
		<-l.Lost()
		if l.Reason() != lease.Fenced {
			t.Errorf("reason %q", l.Reason())
		}
		if _, err := s.Checkout(t.Context(), Item{Feature: "cad"}); ReasonOf(err) != lease.Fenced {
			t.Errorf("checkout by a fenced run: %v", err)
		}
		if err := s.Close(t.Context()); err != nil || f.seatsInUse() != 1 {
			t.Errorf("a fenced run's close: %v, %d seats; it must not return its successor's", err, f.seatsInUse())
		}
	})
}

func TestHeartbeatSurvivesRefusedToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		f.set(func() {
			f.before = func(string, any) error { return problem(codes.PermissionDenied, lease.Forbidden, true, 0) }
		})
		time.Sleep(70 * time.Second)
		wantState(t, l, Active)
		if n := f.count("renew"); n > 60 {
			t.Errorf("%d heartbeats while refused", n)
		}
		f.set(func() { f.before = nil })
		time.Sleep(80 * time.Second)
		wantState(t, l, Active)
	})
}

func TestFailedHeartbeatIsRetriedWellBeforeTheDeadline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		var failing atomic.Int32
		f.set(func() {
			f.before = func(method string, _ any) error {
				if failing.Add(1) <= 3 {
					return problem(codes.Unavailable, UnknownOutcome, false, 0)
				}
				return nil
			}
		})
		time.Sleep(60 * time.Second)
		if failing.Load() < 4 {
			t.Errorf("%d tries by half the lifespan, want 3 failures and a success", failing.Load())
		}
		time.Sleep(61 * time.Second)
		wantState(t, l, Active)
	})
}

func TestLeaseOfAnAbandonedCheckoutIsReturned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		keep := take(t, s, "mesh")
		f.set(func() {
			f.after = func(method string, _ any) error {
				if method == "checkout" {
					time.Sleep(time.Minute) // the answer never gets through
				}
				return nil
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Checkout(ctx, Item{Feature: "cad", Count: 1}); ReasonOf(err) != UnknownOutcome {
			t.Errorf("abandoned checkout: %v", err)
		}
		if f.seatsInUse() != 2 {
			t.Fatal("the request was not applied: the test tests nothing")
		}
		time.Sleep(5 * time.Second)
		if f.seatsInUse() != 1 || !keep.Valid() {
			t.Errorf("%d seats in use, want the abandoned one back and the other kept", f.seatsInUse())
		}
	})
}

func TestExpiringAnswerIsNotBelievedButRenewed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		f.after = func(method string, req any) error {
			if r, ok := req.(*pb.CheckoutRequest); ok && r.Seq == 1 {
				f.set(func() {
					f.after = nil
					for _, x := range f.sessions {
						x.renewed = x.renewed.Add(-f.lifespan - f.grace/2)
					}
				})
				return problem(codes.Unavailable, UnknownOutcome, false, 0)
			}
			return nil
		}
		l := take(t, s, "cad")
		wantState(t, l, Active)
		if f.count("renew") != 1 {
			t.Errorf("%d renewals, want one at once", f.count("renew"))
		}
	})
}
