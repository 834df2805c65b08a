package client

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seatkeeper/seatkeeper/lease"
)

func readState(t *testing.T, path string) (s savedState) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRestartAdoptsTheLeasesOfTheCrashedRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "app.json")
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		c, s := f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		if readState(t, path).Incarnation != 1 {
			t.Error("not stored before use")
		}
		first, ref := s.ID(), take(t, s, "cad").Ref()
		f.set(func() { f.nodes["a:1"].down = true })
		closeNow(c) // a crash: nothing is returned

		f.set(func() {
			f.nodes["a:1"].down = false
			f.before = func(method string, _ any) error {
				if method == "renew" && readState(t, path).Incarnation != 2 {
					t.Error("incarnation used before it was stored")
				}
				return nil
			}
		})
		_, s = f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		if s.ID() != first || s.Incarnation() != 2 {
			t.Errorf("session %v incarnation %d", s.ID(), s.Incarnation())
		}
		adopted := s.Leases()
		if len(adopted) != 1 || adopted[0].Ref() != ref || !adopted[0].Valid() {
			t.Fatalf("adopted %v", adopted)
		}
		again := take(t, s, "cad")
		if again.Ref() != ref || f.seatsInUse() != 1 {
			t.Errorf("asked again: %v, %d seats in use", again.Ref(), f.seatsInUse())
		}
		// A view does not return what a checkout holds.
		if err := adopted[0].Close(); err != nil || f.seatsInUse() != 1 || !again.Valid() {
			t.Errorf("closing the view: %v, %d seats", err, f.seatsInUse())
		}
		if err := again.Close(); err != nil || f.seatsInUse() != 0 {
			t.Errorf("closing the lease: %v, %d seats", err, f.seatsInUse())
		}
	})
}

func TestRestartAfterExpiryMintsANewSession(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.json")
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		c, s := f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		old := s.ID()
		take(t, s, "cad")
		f.set(func() { f.nodes["a:1"].down = true })
		closeNow(c)
		time.Sleep(10 * time.Minute)
		f.set(func() { f.nodes["a:1"].down = false })
		_, s = f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		if s.ID() == old || s.Incarnation() != 1 || readState(t, path).SessionID != s.ID().String() {
			t.Error("want a new id, stored")
		}
	})
}

func TestCloseReturnsAllAndForgetsTheState(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.json")
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		a, b := take(t, s, "cad"), take(t, s, "mesh")
		f.before = func(string, any) error {
			if a.Valid() || b.Valid() {
				t.Error("still valid when the cluster is told")
			}
			return nil
		}
		lost := a.Lost()
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) || f.seatsInUse() != 0 || !isClosed(lost) {
			t.Errorf("state file: %v, %d seats", err, f.seatsInUse())
		}
		if _, err := s.Checkout(t.Context(), Item{Feature: "cad"}); ReasonOf(err) != Closed {
			t.Errorf("checkout after close: %v", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestCloseWithoutAClusterSaysSoAndStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.json")
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		l := take(t, s, "cad")
		f.set(func() { f.leader = "" })
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if err := s.Close(ctx); ReasonOf(err) != Unreachable || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if l.Valid() {
			t.Error("valid after close")
		}
		if _, err := os.Stat(path); err != nil {
			t.Error("the state of a session that was not ended is gone")
		}
		n := f.count("renew")
		time.Sleep(5 * time.Minute)
		if f.count("renew") != n {
			t.Error("the heartbeat goes on")
		}
	})
}

func TestCloseInterruptsAWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.total = 0
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		result := make(chan error, 1)
		go func() {
			_, err := s.CheckoutWait(context.Background(), time.Hour, Item{Feature: "cad", Count: 1})
			result <- err
		}()
		time.Sleep(time.Minute)
		start := time.Now()
		if err := s.Close(t.Context()); err != nil || time.Since(start) > time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := <-result; err == nil {
			t.Error("the wait ended with a lease")
		}
	})
}

func TestStateFileIsPrivateAndNotShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.json")
	f := newFake(t, "a:1")
	c, s := f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if _, err := c.OpenSession(t.Context(), SessionConfig{StateFile: path}); !errors.Is(err, ErrStateInUse) {
		t.Errorf("second user: %v", err)
	}
	fresh, err := c.OpenSession(t.Context(), SessionConfig{StateFile: path, FreshIfInUse: true})
	if err != nil || fresh.ID() == s.ID() {
		t.Errorf("fresh session: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OpenSession(t.Context(), SessionConfig{StateFile: path}); err != nil {
		t.Errorf("after the first user closed: %v", err)
	}
}

func TestDamagedStateStartsAfresh(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "torn": `{"version":1,"sess`, "short secret": `{"version":1,"session_id":"00000000000000000000000000000001","session_secret":"00","incarnation":1}`} {
		path := filepath.Join(t.TempDir(), "app.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{StateFile: path})
		if s.Incarnation() != 1 || readState(t, path).SessionID != s.ID().String() {
			t.Errorf("%s: incarnation %d", name, s.Incarnation())
		}
	}
	for _, name := range []string{"", "..", "a/b", `a\b`, "a\x00"} {
		if _, err := StatePath(name); err == nil {
			t.Errorf("application name %q accepted", name)
		}
	}
}

func TestTwoCheckoutsShareALeaseUntilTheLastIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		a, b := take(t, s, "cad"), take(t, s, "cad")
		for range 2 { // the second Close of one claim counts nothing
			if err := a.Close(); err != nil || f.seatsInUse() != 1 || !b.Valid() || a.Valid() {
				t.Fatalf("%v, %d seats, a %v, b %v", err, f.seatsInUse(), a.Valid(), b.Valid())
			}
		}
		if err := b.Close(); err != nil || f.seatsInUse() != 0 {
			t.Errorf("%v, %d seats", err, f.seatsInUse())
		}
	})
}

func TestSeveralFeaturesAreTakenTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		leases, err := s.Checkout(t.Context(), Item{Feature: "cad", Count: 1}, Item{Feature: "mesh", Count: 1})
		if err != nil || len(leases) != 2 || leases[0].Feature() != "cad" || leases[1].Feature() != "mesh" || leases[0].Count() != 1 {
			t.Fatalf("%v, %v", leases, err)
		}
		if _, err := s.Checkout(t.Context()); ReasonOf(err) != lease.Invalid {
			t.Errorf("nothing asked for: %v", err)
		}
	})
}

func TestUnreachableCheckInIsMadeGoodByTheHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		_, s := f.open(t, f.config("a:1"), SessionConfig{})
		l := take(t, s, "cad")
		f.set(func() { f.leader = "" })
		if err := l.Close(); ReasonOf(err) != Unreachable || l.Valid() {
			t.Errorf("%v, valid %v", err, l.Valid())
		}
		f.set(func() { f.leader = "a:1" })
		time.Sleep(time.Minute)
		if f.seatsInUse() != 0 {
			t.Error("the seat was never returned")
		}
	})
}

func TestLicenceCheckFromTheEnvironment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		t.Setenv(EnvAddr, "a:1")
		f := newFake(t, "a:1")
		cfg := f.config()
		lic, err := Checkout(t.Context(), "cad:2026.1", WithConfig(cfg))
		if err != nil || !lic.Valid() {
			t.Fatal(err)
		}
		if err := lic.Close(); err != nil || f.seatsInUse() != 0 || lic.Valid() {
			t.Errorf("close: %v, %d seats", err, f.seatsInUse())
		}
		f.set(func() {
			f.before = func(string, any) error { return problem(codes.NotFound, lease.NoFeature, true, 0) }
		})
		if _, err := Checkout(t.Context(), "cad", WithConfig(cfg)); ReasonOf(err) != lease.NoFeature {
			t.Errorf("no such feature: %v", err)
		}
		if _, err := Checkout(t.Context(), ":1", WithConfig(cfg)); ReasonOf(err) != lease.Invalid {
			t.Errorf("no feature named: %v", err)
		}
	})
}
