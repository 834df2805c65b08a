package rpc

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// requestsTo reads how many calls a node counted for a method.
func requestsTo(t *testing.T, a *api, method string) (n int) {
	t.Helper()
	families, err := a.cfg.Gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "seatkeeper_rpc_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "method" && strings.HasSuffix(l.GetValue(), "/"+method) {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

func dialTCP(t *testing.T, a *api) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// closed says whether the other end closes the connection within its deadline.
func closed(c net.Conn) bool {
	_, err := io.Copy(io.Discard, c)
	ne, ok := err.(net.Error)
	return !ok || !ne.Timeout()
}

func TestOversizedBodiesAreRefused(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	big := `{"feature":"` + strings.Repeat("x", MaxBody) + `"}`
	wantRefusal(t, a.post(t, "/v1/checkout", big), http.StatusRequestEntityTooLarge, lease.Invalid, "too large")

	_, err := pb.NewSeatsClient(a.dial(t)).Checkout(context.Background(), &pb.CheckoutRequest{Feature: strings.Repeat("x", MaxBody)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Error("gRPC:", err)
	}
	resp := a.call(t, http.MethodGet, "/livez", "", "X-Junk", strings.Repeat("x", 4*MaxHeader))
	if resp.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Error("headers:", resp.status)
	}
	a.checkout(t, "cad", "ann")
}

func TestGarbageClosesThatConnectionOnly(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	_, _, _ = a.checkout(t, "cad", "ann")
	random := make([]byte, 4096)
	r := rand.NewChaCha8([32]byte{7})
	_, _ = r.Read(random)
	for name, bytes := range map[string]string{
		"random":            string(random),
		"zeros":             strings.Repeat("\x00", 100),
		"TLS hello":         "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("a", 200),
		"HTTP without end":  "GET /" + strings.Repeat("a", 2*MaxHeader+8192),
		"bad HTTP":          "GET nonsense\r\n\r\n",
		"preface then junk": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + strings.Repeat("\xff", 100),
		"huge frame":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\x00\x00\x00\x00\x00",
		"negative length":   "POST /v1/checkout HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
	} {
		c := dialTCP(t, a)
		_, _ = io.WriteString(c, bytes)
		if !closed(c) {
			t.Errorf("%s: the connection stays open", name)
		}
	}
	a.checkout(t, "cad", "bob")
}

func openConns(a *api) int {
	a.mu.Lock()
	l := a.listener
	a.mu.Unlock()
	if l == nil {
		return 0 // Serve has just been called
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
}

func TestConnectionsAreCapped(t *testing.T) {
	a := startAPI(t, newFakeNode(t), func(c *Config) { c.Connections = 20 })
	var silent []net.Conn
	for range 20 {
		silent = append(silent, dialTCP(t, a))
	}
	eventually(t, "all 20 are held", func() bool { return openConns(a) == 20 })
	for range 5 {
		if !closed(dialTCP(t, a)) {
			t.Fatal("a connection over the cap stays open")
		}
	}
	for _, c := range silent[:2] {
		_ = c.Close()
	}
	eventually(t, "closed connections make room", func() bool { return openConns(a) == 18 })
	a.checkout(t, "cad", "ann")
}

func TestIdleGRPCConnectionIsNotSniffedForLong(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	c := dialTCP(t, a)
	_, _ = io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	// The server's SETTINGS come without a request having been sent.
	head := make([]byte, 9)
	if _, err := io.ReadFull(bufio.NewReader(c), head); err != nil || head[3] != 4 {
		t.Errorf("first frame % x, %v: want SETTINGS", head, err)
	}
}

func TestOverloadRefusesCheckoutsAndKeepsHeartbeats(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.InFlight, c.AdmitWait = 3, time.Millisecond })
	id, secret, _ := a.checkout(t, "cad", "ann")
	hold := make(chan struct{})
	node.set(func() { node.hold = hold })
	answers := make(chan error, 3)
	client := pb.NewSeatsClient(a.dial(t))
	for i := range 3 {
		go func() {
			_, err := client.Checkout(context.Background(), &pb.CheckoutRequest{Feature: "cad", User: fmt.Sprint(i)})
			answers <- err
		}()
	}
	eventually(t, "three checkouts are in flight", func() bool {
		node.mu.Lock()
		defer node.mu.Unlock()
		return node.held == 3
	})

	got := a.post(t, "/v1/checkout", `{"feature":"cad","user":"late"}`)
	wantRefusal(t, got, http.StatusTooManyRequests, lease.Overloaded, "default")
	if after := got.header.Get("Retry-After"); after != "1" && after != "2" {
		t.Errorf("Retry-After %q", after)
	}
	who := fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, id, secret)
	for _, path := range []string{"/v1/renew", "/v1/checkin"} {
		if got := a.post(t, path, who); got.status != 200 {
			t.Errorf("%s under overload: %d %s", path, got.status, got.text)
		}
	}
	got = a.post(t, "/v1/preview", `{"feature":"cad","tenant":"other"}`)
	if got.status != 200 {
		t.Error("another tenant is refused:", got.text)
	}
	close(hold)
	for range 3 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing is kept of idle tenants", func() bool {
		a.admission.mu.Lock()
		defer a.admission.mu.Unlock()
		return len(a.admission.tenants) == 0
	})
}

func TestNodeOverloadIsRetryable(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	node.set(func() { node.fail = cluster.ErrOverloaded })
	got := a.post(t, "/v1/checkout", `{"feature":"cad"}`)
	wantRefusal(t, got, http.StatusTooManyRequests, lease.Overloaded)
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestRequestsAreBoundedInTime(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.RequestTimeout = 20 * time.Millisecond })
	node.set(func() { node.hold = make(chan struct{}) })
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"cad"}`), 503, UnknownOutcome)
}

// A bug in answering one request is told as such, and the node goes on.
func TestBugInOneRequestDoesNotEndTheNode(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.Logger = hclog.NewNullLogger() })
	bug := func() { panic("a bug") } // called once, on the way out of a refusal
	a.checkout(t, "mesh", "ann")
	node.set(func() { node.refused = bug })
	got := a.post(t, "/v1/checkout", `{"feature":"mesh","user":"bob"}`)
	wantRefusal(t, got, http.StatusServiceUnavailable, UnknownOutcome)
	node.set(func() { node.refused = bug })
	if _, err := pb.NewSeatsClient(a.dial(t)).Checkout(t.Context(), &pb.CheckoutRequest{Feature: "mesh", User: "eve"}); status.Code(err) != codes.Unknown {
		t.Errorf("by gRPC: %v", err)
	}
	a.checkout(t, "cad", "ann")
}
