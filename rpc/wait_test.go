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

	// A release of something else does not wake bob.
	before := a.node.commands()
	id2, secret2, _ := a.checkout(t, "cad", "eve")
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id2, secret2))
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
	freed := time.Now()
	r := <-done
	if took := time.Since(freed); took > 5*time.Second {
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
	if got.status != 200 || time.Since(start) > 5*time.Second {
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
	go func() { granted <- a.post(t, "/v1/checkout", fmt.Sprintf(body, 60000)) }()
	eventually(t, "the request waits", func() bool { return len(a.waiters) == 1 })
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
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

func TestAQueuedAnswerHasThePositionAndTheSession(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, _ := a.checkout(t, "mesh", "ann")
	first := a.post(t, "/v1/checkout", `{"feature":"mesh","user":"bob","queue_ms":60000}`)
	wantRefusal(t, first, http.StatusAccepted, lease.InQueue)
	second := a.post(t, "/v1/checkout", `{"feature":"mesh","user":"eve","queue_ms":60000,"wait_ms":20}`)
	wantRefusal(t, second, http.StatusAccepted, lease.InQueue)
	if first.body["position"] != 1.0 || second.body["position"] != 2.0 {
		t.Fatal(first.text, second.text)
	}
	list := a.get(t, "/v1/queue?feature=mesh")
	if list.str(t, "places", 0, "user") != "bob" || list.str(t, "places", 1, "user") != "eve" || list.str(t, "places", 0, "session_id") != first.str(t, "session", "id") {
		t.Fatal(list.text)
	}
	// eve gives up; ann's seat goes to bob, who collects it by the session he was told.
	if left := a.post(t, "/v1/queue/leave", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, second.str(t, "session", "id"), second.str(t, "session", "secret"))); left.status != 200 {
		t.Fatal(left.text)
	}
	a.post(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret))
	got := a.post(t, "/v1/checkout", fmt.Sprintf(`{"feature":"mesh","user":"bob","queue_ms":60000,"session_id":%q,"session_secret":%q}`,
		first.str(t, "session", "id"), first.str(t, "session", "secret")))
	if got.status != 200 {
		t.Fatal(got.text)
	}
	if left := a.get(t, "/v1/queue"); left.text == "" || dig(left.body, "places", 0) != nil {
		t.Error(left.text)
	}
}

func TestACallerWhoGoesAwayWithoutASessionLosesItsPlace(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.checkout(t, "mesh", "ann")
	ctx, cancel := context.WithCancel(context.Background())
	client := pb.NewSeatsClient(a.dial(t))
	go func() { _, _ = client.Checkout(ctx, &pb.CheckoutRequest{Feature: "mesh", WaitMs: 60_000}) }()
	eventually(t, "one waits", func() bool { return waiting(a) })
	cancel()
	eventually(t, "its place is free", func() (free bool) {
		a.node.ReadStale(func(b *lease.Book) { free = b.QueueCounts() == 0 })
		return free
	})
	eventually(t, "nobody reads the events", func() bool {
		a.watch.mu.Lock()
		defer a.watch.mu.Unlock()
		return a.watch.idle == nil && len(a.watch.waiting) == 0
	})
}

func TestBookingsOverHTTP(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	const job = `{"id":"job-7","feature":"cad","count":9,"for_ms":"60000","user":"ann"}`
	made := a.post(t, "/v1/bookings", job)
	if made.status != 200 || made.str(t, "booking", "id") != "job-7" || made.str(t, "booking", "remaining_ms") != "60000" {
		t.Fatal(made.text)
	}
	if again := a.post(t, "/v1/bookings", job); again.status != 200 || again.body["replayed"] != true {
		t.Error(again.text)
	}
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"cad","count":2,"user":"bob"}`), http.StatusConflict, lease.NoSeats)
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"cad","user":"bob","booking":"job-7"}`), http.StatusForbidden, lease.Forbidden)
	if got := a.post(t, "/v1/checkout", `{"feature":"cad","count":2,"user":"ann","booking":"job-7"}`); got.status != 200 {
		t.Error(got.text)
	}
	if list := a.get(t, "/v1/bookings"); dig(list.body, "bookings", 0, "items", 0, "used") != 2.0 {
		t.Error(list.text)
	}
	if status := a.get(t, "/v1/status"); dig(status.body, "pools", 0, "reserved") != 7.0 {
		t.Error(status.text)
	}
	if gone := a.call(t, http.MethodDelete, "/v1/bookings/job-7", ""); gone.status != 200 {
		t.Error(gone.text)
	}
	wantRefusal(t, a.call(t, http.MethodDelete, "/v1/bookings/job-7", ""), http.StatusNotFound, lease.BookingUnknown)
	wantRefusal(t, a.post(t, "/v1/bookings", `{"feature":"cad","for_ms":"60000"}`), http.StatusBadRequest, lease.Invalid)
}

func TestAPartialCheckoutOverHTTP(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	got := a.post(t, "/v1/checkout", `{"items":[{"feature":"cad"},{"feature":"old"},{"feature":"mesh","count":2}],"partial":true}`)
	if got.status != 200 || dig(got.body, "leases", 1) != nil || got.str(t, "refused", 0, "reason") != "license_expired" || got.str(t, "refused", 1, "reason") != "too_many_requested" {
		t.Error(got.text)
	}
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"cad","partial":true,"wait_ms":5}`), http.StatusBadRequest, lease.Invalid)
}
