package rpc

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func waiting(a *api) bool { return len(a.waiters) > 0 }

func TestWaitGetsTheSeatWhenItIsReleased(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, _ := a.checkout(t, "mesh", "ann")
	client := pb.NewSeatsClient(a.dial(t))
	type result struct {
		got *pb.CheckoutResponse
		err error
	}
	done := make(chan result, 1)
	go func() {
		got, err := client.Checkout(context.Background(), &pb.CheckoutRequest{Feature: "mesh", User: "bob", WaitMs: 60_000})
		done <- result{got, err}
	}()
	eventually(t, "bob waits", func() bool { return waiting(a) })
	eventually(t, "a sleeper holds no ticket", func() bool { return a.admission.inFlight() == 0 })

	// A release of something else wakes bob, but makes no log entry for his "no".
	before := a.node.commands()
	id2, secret2, _ := a.checkout(t, "cad", "eve")
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id2, secret2))
	eventually(t, "bob looks", func() bool {
		a.node.mu.Lock()
		defer a.node.mu.Unlock()
		return a.node.staleReads > 0
	})
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
	freed := time.Now()
	r := <-done
	if took := time.Since(freed); took > waitRecheck/2 {
		t.Errorf("bob looked by himself after %s instead of being woken", took)
	}
	if r.err != nil || len(r.got.GetLeases()) != 1 || r.got.GetSession().GetSecret() == "" {
		t.Fatal(r.got, r.err)
	}
	if n := a.node.commands() - before; n != 4 {
		t.Errorf("%d log entries, want two of eve, one of ann, one of bob", n)
	}
	if n := len(a.waiters); n != 0 {
		t.Errorf("%d waiters left", n)
	}
}

func TestSeatThatComesFreeDuringTheRefusalIsNotMissed(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "mesh", "ann")
	node.set(func() {
		node.refused = func() { // once, before the caller can start to wait
			a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
		}
	})
	start := time.Now()
	got := a.post(t, "/v1/checkout", `{"feature":"mesh","user":"bob","wait_ms":60000}`)
	if got.status != 200 || time.Since(start) > waitRecheck/2 {
		t.Errorf("%d after %s: %s", got.status, time.Since(start), got.text)
	}
}

func TestWaitEndsWithNoSeats(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.checkout(t, "mesh", "ann")
	start := time.Now()
	got := a.post(t, "/v1/checkout", `{"feature":"mesh","user":"bob","wait_ms":60}`)
	wantRefusal(t, got, http.StatusConflict, lease.NoSeats)
	if took := time.Since(start); took < 60*time.Millisecond {
		t.Errorf("gave up after %s", took)
	}
	if got.body["final"] != false {
		t.Error("no_seats is final")
	}
}

// A numbered request that waits is one request however often it is proposed: refused on
// the way, granted at the end, and refused for good only when its time is over.
func TestWaitKeepsItsNumberUntilTheAnswerIsFinal(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "mesh", "ann")
	const body = `{"feature":"mesh","user":"bob","session_id":"0123456789abcdef0123456789abcdef","session_secret":"s","seq":1,"wait_ms":%d}`
	granted := make(chan answer, 1)
	released := node.Released()
	go func() { granted <- a.post(t, "/v1/checkout", fmt.Sprintf(body, 60000)) }()
	eventually(t, "the request waits", func() bool { return len(a.waiters) == 1 })
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
	<-released
	if got := <-granted; got.status != 200 {
		t.Fatalf("%d: %s", got.status, got.text)
	}
	const other = `{"feature":"mesh","user":"eve","session_id":"1123456789abcdef0123456789abcdef","session_secret":"s","seq":1,"wait_ms":%d}`
	wantRefusal(t, a.post(t, "/v1/checkout", fmt.Sprintf(other, 50)), http.StatusConflict, lease.NoSeats)
	a.post(t, "/v1/checkin", `{"session_id":"0123456789abcdef0123456789abcdef","session_secret":"s","close":true}`)
	// The answer was final: a late copy of the request takes nothing.
	wantRefusal(t, a.post(t, "/v1/checkout", fmt.Sprintf(other, 0)), http.StatusConflict, lease.NoSeats)
}

func TestWaitIsForSeatsOnly(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"nope","wait_ms":60000}`), 404, lease.NoFeature)
}

func TestWaitersAreBounded(t *testing.T) {
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Waiters = 1 })
	a.checkout(t, "mesh", "ann")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	client := pb.NewSeatsClient(a.dial(t))
	go func() { _, _ = client.Checkout(ctx, &pb.CheckoutRequest{Feature: "mesh", WaitMs: 60_000}) }()
	eventually(t, "one waits", func() bool { return waiting(a) })
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"mesh","wait_ms":60000}`), 429, lease.Overloaded)
	cancel()
	eventually(t, "a caller who goes away frees the place", func() bool { return !waiting(a) })
}

func TestShutdownSendsWaitersHomeNotApplied(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.checkout(t, "mesh", "ann")
	client := pb.NewSeatsClient(a.dial(t))
	done := make(chan error, 1)
	go func() {
		_, err := client.Checkout(context.Background(), &pb.CheckoutRequest{Feature: "mesh", WaitMs: 60_000})
		done <- err
	}()
	eventually(t, "one waits", func() bool { return waiting(a) })
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := a.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	err := <-done
	if p, _ := details(status.Convert(err)); p.GetReason() != string(NotLeader) {
		t.Error(err)
	}
}
