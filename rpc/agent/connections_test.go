//go:build linux

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// servedAgent is an agent on a socket that everybody may use, with a cluster that nobody
// answers for.
func servedAgent(t *testing.T, b bounds, set Settings) (*Agent, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "skagent") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cl, err := client.New(client.Config{Addresses: []string{"127.0.0.1:1"}, BatchHeartbeats: true})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	a, err := New(Config{Settings: set, Client: cl, StateDir: filepath.Join(dir, "state"), Host: "ws1", User: "me", Version: "v1",
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: registry, Gatherer: registry,
		Face: func(r lease.Reason) (int, string) {
			if r == lease.Overloaded {
				return http.StatusTooManyRequests, "RESOURCE_EXHAUSTED"
			}
			return http.StatusBadRequest, "FAILED_PRECONDITION"
		}})
	if err != nil {
		t.Fatal(err)
	}
	a.bounds = b
	socket := filepath.Join(dir, "a.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	srv := a.Serve(l, "")
	t.Cleanup(func() {
		ended, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		a.Stop(ended)
		srv.Close()
	})
	return a, socket
}

var unhurried = bounds{time.Minute, time.Minute, time.Minute}

// dialAs connects as a user: the kernel notes who connects, so the thread that does takes
// that user's id, and never comes back.
func dialAs(socket string, uid int) (net.Conn, error) {
	type dialled struct {
		net.Conn
		error
	}
	got := make(chan dialled)
	go func() {
		if uid != os.Getuid() {
			runtime.LockOSThread()
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				got <- dialled{nil, errno}
				return
			}
		}
		conn, err := net.Dial("unix", socket)
		got <- dialled{conn, err}
	}()
	d := <-got
	return d.Conn, d.error
}

// askAs asks for the status on a connection of its own.
func askAs(t *testing.T, socket string, uid int) (int, problem) {
	t.Helper()
	c := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) { return dialAs(socket, uid) }}}
	resp, err := c.Get("http://agent/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var p problem
	if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, p
}

// until waits for a condition.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 20 s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestOneConnectionTooManyIsToldSo(t *testing.T) {
	a, socket := servedAgent(t, unhurried, Settings{Connections: 2})
	var idle []net.Conn
	for range 2 {
		conn, err := dialAs(socket, os.Getuid())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	until(t, "two connections", func() bool { return a.conns.count() == 2 })
	if status, p := askAs(t, socket, os.Getuid()); status != http.StatusTooManyRequests || p.Reason != "overloaded" || p.RetryAfterMS == 0 || p.Message == "" {
		t.Errorf("one too many is answered %d %+v", status, p)
	}
	idle[0].Close()
	until(t, "room", func() bool { return a.conns.count() == 1 })
	if status, p := askAs(t, socket, os.Getuid()); status != http.StatusOK {
		t.Errorf("when there is room again: %d %+v", status, p)
	}
}

func TestOneUserLeavesConnectionsAndWaitsToOthers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	a, socket := servedAgent(t, unhurried, Settings{UserConnections: 2, UserWaiting: 1})
	const ann, bob = 54321, 54322
	for range 2 {
		conn, err := dialAs(socket, bob)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	until(t, "two connections", func() bool { return a.conns.count() == 2 })
	if status, _ := askAs(t, socket, bob); status != http.StatusTooManyRequests {
		t.Errorf("the third of one user is answered %d", status)
	}
	for _, uid := range []int{ann, 0} {
		if status, p := askAs(t, socket, uid); status != http.StatusOK {
			t.Errorf("user %d is answered %d %+v", uid, status, p)
		}
	}
	r, err := http.NewRequest("GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.waiting(r, caller{uid: bob}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.waiting(r, caller{uid: bob}); err == nil {
		t.Error("one user waits as often as it likes")
	}
	if _, err := a.waiting(r, caller{uid: ann}); err != nil {
		t.Errorf("another user may not wait: %v", err)
	}
}

// Whoever sends nothing, half a request, or does not read its answers is cut.
func TestSlowCallersAreCut(t *testing.T) {
	a, socket := servedAgent(t, bounds{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond}, Settings{})
	for name, request := range map[string]string{
		"nothing":        "",
		"half a header":  "GET /livez HTTP/1.1\r\nHost: a",
		"half a request": "POST /v1/checkout HTTP/1.1\r\nHost: agent\r\nContent-Length: 100\r\n\r\n{",
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		if answer, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || strings.Contains(string(answer), " 200 ") {
			t.Errorf("%s: it is not cut: %v %q", name, err, answer)
		}
		conn.Close()
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	for err == nil { // it asks on and on, and reads nothing
		_, err = fmt.Fprint(conn, "GET /v1/status HTTP/1.1\r\nHost: agent\r\n\r\n")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a caller that reads no answers is not cut")
	}
	until(t, "all of them gone", func() bool { return a.conns.count() == 0 && a.calls.count() == 0 })
}

func TestATimeToLiveStandsStillWhileSomebodyWaits(t *testing.T) {
	a, _ := servedAgent(t, unhurried, Settings{})
	h := a.newHolder(record{ID: "x", Kind: byTTL, TTLMillis: time.Hour.Milliseconds()})
	armed := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.timer != nil
	}
	h.restart()
	if !armed() {
		t.Fatal("its time does not run")
	}
	first, second := h.pause(), h.pause()
	if armed() {
		t.Error("its time runs while two calls wait")
	}
	first()
	h.restart() // by a renewal
	if armed() {
		t.Error("its time runs while a call waits")
	}
	if second(); !armed() {
		t.Error("its time does not run when nobody waits any more")
	}
}

// A connection may be back before the agent that starts again begins to wait for it.
func TestAConnectionThatIsBackEarlyIsNotWaitedFor(t *testing.T) {
	a, _ := servedAgent(t, unhurried, Settings{})
	h := a.newHolder(record{ID: "x", Kind: byConnection})
	h.join()
	if h.restart(); h.timer != nil {
		t.Error("the seats of an open connection would be given back")
	}
}

func TestNothingIsSaidOfSeatsThatAreLeavingOrLeftToTheNextRun(t *testing.T) {
	a, _ := servedAgent(t, unhurried, Settings{})
	me := caller{uid: os.Getuid(), user: "me"}
	h, made, err := a.claim(me, byTTL, &checkoutRequest{SessionID: strings.Repeat("a", 32)})
	if err != nil || !made {
		t.Fatal(made, err)
	}
	unreachable := func(err error) bool {
		var r *refusal
		return errors.As(err, &r) && r.reason == client.Unreachable && r.retryMS > 0
	}
	a.end(h, whyReturned)
	if _, _, err := a.claim(me, byTTL, &checkoutRequest{SessionID: h.id}); !unreachable(err) {
		t.Errorf("a session that is being given back is claimed again: %v", err)
	}
	if _, _, err := a.claim(caller{uid: 54322}, byTTL, &checkoutRequest{SessionID: h.id}); unreachable(err) || err == nil {
		t.Errorf("another user learns of it: %v", err)
	}
	a.drop(h)
	if h, _, err = a.claim(me, byTTL, &checkoutRequest{SessionID: h.id}); err != nil {
		t.Fatalf("a session that was given back cannot be made again: %v", err)
	}
	if err := a.begin(h); err != nil {
		t.Fatal(err)
	}
	before := h.view().Session.State
	h.suspend()
	if after := h.view(); before != "ready" || after.Session.State != "resuming" || len(after.Lost) != 0 {
		t.Errorf("left to the next run a session is %+v, and was %s before", after, before)
	}
	if shown, err := h.shown(); !unreachable(err) {
		t.Errorf("whoever asks for a session that was left to the next run is told %+v, %v", shown, err)
	}
	a.mu.Lock()
	a.stopping = true
	a.mu.Unlock()
	if _, err := a.find(me, h.id, 0); !unreachable(err) {
		t.Errorf("while it stops: %v", err)
	}
}
