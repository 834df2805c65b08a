package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// fakeNode is a node with a real ledger and no cluster under it.
type fakeNode struct {
	id string

	mu       sync.Mutex
	book     *lease.Book
	index    uint64
	leading  bool
	epoch    fsm.Epoch
	known    bool
	peers    []cluster.Peer
	fail     error         // what Propose and Read return instead of working
	hold     chan struct{} // checkouts wait until it is closed
	held     int           // checkouts that wait there
	refused  func()        // called once, after the next refusal
	events   []lease.Event
	more     chan struct{} // closed when events are added
	usage    []lease.UsageRecord
	denials  []lease.DenialRecord
	moved    string // argument of TransferLeadership
	removed  string // argument of RemovePeer
	health   cluster.Autopilot
	proposed []lease.Command
	together []int // how many commands came with each ProposeAsync

	holdMany chan struct{} // what comes by ProposeAsync waits until it is closed
	heldMany int           // calls of ProposeAsync
	failEach error         // what becomes of each of its commands
	most     int           // how many commands it takes at once; 0: any number

	staleReads int
	tokens     *access.Table
}

const (
	fakeDay = lease.Calendar(1_790_000_000_000) // 2026-09-21
	dayMs   = 24 * 60 * 60 * 1000
)

func newFakeNode(t testing.TB) *fakeNode {
	t.Helper()
	n := &fakeNode{id: "n1-00000001", book: lease.NewBook(), leading: true, known: true, more: make(chan struct{})}
	n.epoch = fsm.Epoch{Index: 2, Term: 1, Node: n.id}
	n.peers = []cluster.Peer{{ID: n.id, Name: "n1", Voter: true, Leader: true, Health: "alive"}}
	_, err := n.Propose(context.Background(), lease.InstallLicence{Licence: testLicence()})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func testLicence() lease.Licence {
	grant := func(feature, serial string, count int) lease.Entitlement {
		return lease.Entitlement{Feature: feature, Version: "2026.0", Count: count, Serial: serial,
			Profile: lease.DefaultProfile, Share: lease.ShareRule{}}
	}
	expired := grant("old", "s4", 1)
	expired.Expiry = fakeDay - dayMs
	return lease.Licence{ID: "lic-1", Vendor: "acme", Tenant: lease.DefaultTenant, Text: []byte("signed"),
		Entitlements: []lease.Entitlement{grant("cad", "s1", 10), grant("solver", "s2", 5), grant("mesh", "s3", 1), expired}}
}

func (n *fakeNode) Propose(ctx context.Context, cmd lease.Command) (cluster.Applied, error) {
	n.mu.Lock()
	if _, ok := cmd.(lease.Checkout); ok && n.hold != nil {
		hold := n.hold
		n.held++
		n.mu.Unlock()
		select {
		case <-hold:
		case <-ctx.Done():
			return cluster.Applied{}, cluster.ErrUnknown
		}
		n.mu.Lock()
	}
	var after func()
	defer func() {
		n.mu.Unlock()
		if after != nil {
			after()
		}
	}()
	if n.fail != nil {
		return cluster.Applied{}, n.fail
	}
	if !n.leading {
		return cluster.Applied{}, &cluster.NotLeaderError{Leader: n.epoch}
	}
	n.index++
	n.proposed = append(n.proposed, cmd)
	n.book.Advance(lease.Time(n.index), fakeDay)
	reply, ok := n.applyAccess(cmd)
	if !ok {
		reply = n.book.Apply(n.index, cmd)
	}
	if reply.Refusal != nil {
		after, n.refused = n.refused, nil
	}
	if events := n.book.TakeEvents(); len(events) > 0 {
		n.events = append(n.events, events...)
		close(n.more)
		n.more = make(chan struct{})
	}
	return cluster.Applied{Index: n.index, Term: 1, Now: n.book.Now(), Reply: reply}, nil
}

func (n *fakeNode) ProposeAsync(cmds []lease.Command, answered func(int, []cluster.Proposed)) (func(error), error) {
	n.mu.Lock()
	if n.most > 0 && len(cmds) > n.most {
		n.mu.Unlock()
		return nil, cluster.ErrOverloaded
	}
	hold, failEach := n.holdMany, n.failEach
	n.heldMany++
	n.together = append(n.together, len(cmds))
	n.mu.Unlock()
	if hold == nil {
		hold = make(chan struct{})
		close(hold)
	}
	var once sync.Once
	tell := func(why error) {
		once.Do(func() {
			out := make([]cluster.Proposed, len(cmds))
			for i, cmd := range cmds {
				if out[i].Err = why; why == nil {
					out[i].Applied, out[i].Err = n.Propose(context.Background(), cmd)
				}
			}
			answered(0, out)
		})
	}
	go func() {
		<-hold
		tell(failEach)
	}()
	return func(cause error) { tell(fmt.Errorf("%w (%w)", cluster.ErrUnknown, cause)) }, nil
}

// applyAccess does what the state machine does with tokens.
func (n *fakeNode) applyAccess(cmd lease.Command) (reply lease.Reply, ok bool) {
	switch c := cmd.(type) {
	case fsm.CreateToken:
		n.tokens, reply.Refusal = n.tokens.Create(c.Token, c.First, n.book.Calendar())
	case fsm.RevokeToken:
		n.tokens, reply.Refusal = n.tokens.Revoke(c.ID, n.book.Calendar())
	default:
		return reply, false
	}
	return reply, true
}

func (n *fakeNode) Access() (*access.Table, lease.Calendar) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tokens, n.book.Calendar()
}

func (n *fakeNode) Read(_ context.Context, fn func(*lease.Book)) (fsm.Status, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fail != nil {
		return fsm.Status{}, n.fail
	}
	if !n.leading {
		return fsm.Status{}, &cluster.NotLeaderError{Leader: n.epoch}
	}
	fn(n.book)
	return n.status(), nil
}

func (n *fakeNode) ReadStale(fn func(*lease.Book)) fsm.Status {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.staleReads++
	fn(n.book)
	return n.status()
}

func (n *fakeNode) status() fsm.Status {
	return fsm.Status{ClusterID: "c-1", Epoch: n.epoch, AppliedIndex: n.index, AppliedTerm: 1,
		StateHash: [32]byte{0xab, byte(n.index)}, Now: n.book.Now(), Calendar: n.book.Calendar()}
}

func (n *fakeNode) Leader() (fsm.Epoch, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.epoch, n.known
}

func (n *fakeNode) Leading() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leading
}

func (n *fakeNode) Peers() []cluster.Peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.peers)
}

func (n *fakeNode) ID() string   { return n.id }
func (n *fakeNode) Name() string { return n.id[:2] }

func (n *fakeNode) RemovePeer(_ context.Context, id string) error {
	n.set(func() { n.removed = id })
	return nil
}

func (n *fakeNode) Autopilot() (cluster.Autopilot, error) {
	if !n.Leading() {
		return cluster.Autopilot{}, &cluster.NotLeaderError{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.health, nil
}

func (n *fakeNode) AddPeer(_ context.Context, ref, address string) (string, error) {
	if !n.Leading() {
		return "", &cluster.NotLeaderError{}
	}
	if n.fail != nil {
		return "", n.fail
	}
	return ref + "@" + address, nil
}

func (n *fakeNode) ReplacePeer(_ context.Context, old, next string, begun bool) (cluster.Replacement, error) {
	if !n.Leading() {
		return cluster.Replacement{}, &cluster.NotLeaderError{}
	}
	return cluster.Replacement{Old: old, New: next, Done: begun, Step: "a step"}, n.fail
}

func (n *fakeNode) TransferLeadership(_ context.Context, to string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.moved = "to " + to
	return n.fail
}

func (n *fakeNode) Mark() fsm.Mark {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fsm.Mark{Next: uint64(len(n.events))}
}

func (n *fakeNode) DequeuedSince(m fsm.Mark) ([]lease.Event, fsm.Mark, bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.events[m.Next:]), fsm.Mark{Next: uint64(len(n.events))}, true, n.more
}

func (n *fakeNode) Usage(q cluster.HistoryQuery) cluster.UsagePage {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := 0
	if q.Limit > 0 {
		left = max(0, len(n.usage)-q.Limit)
	}
	page := cluster.UsagePage{Records: n.usage[left:], Complete: true}
	if left > 0 {
		page.Next = lease.DenialID{Index: uint64(left)}
	}
	return page
}

func (n *fakeNode) Denials(cluster.HistoryQuery) cluster.DenialPage {
	n.mu.Lock()
	defer n.mu.Unlock()
	return cluster.DenialPage{Records: n.denials, Complete: true}
}

func (n *fakeNode) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *fakeNode) commands() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.proposed)
}

// api is a server on a real port.
type api struct {
	*Server
	node *fakeNode
	addr string
}

func startAPI(t testing.TB, node *fakeNode, change func(*Config)) *api {
	t.Helper()
	cfg := Config{Node: node, Version: "test", Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Error})}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve returned %v after Shutdown, want nil", err)
			}
		case <-time.After(5 * time.Second):
			t.Error("Serve did not return after Shutdown")
		}
	})
	a := &api{Server: s, node: node, addr: l.Addr().String()}
	node.set(func() {
		for i, p := range node.peers {
			if p.ID == node.id {
				node.peers[i].APIAddress = a.addr
			}
		}
		if node.epoch.Node == node.id {
			node.epoch.APIAddress = a.addr
		}
	})
	return a
}

func (a *api) dial(t testing.TB) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+a.addr, grpc.WithNoProxy(),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// answer is one HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	text   string
}

func (r answer) str(t *testing.T, path ...any) string {
	t.Helper()
	v := dig(r.body, path...)
	s, ok := v.(string)
	if !ok {
		t.Fatalf("%v is %v (%T), want a string, in %s", path, v, v, r.text)
	}
	return s
}

func dig(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

// noRedirect is curl without -L; it shares no connection between tests.
func noRedirect(t *testing.T) *http.Client {
	transport := &http.Transport{Proxy: nil}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func (a *api) call(t *testing.T, method, path, body string, header ...string) answer {
	t.Helper()
	return callWith(t, noRedirect(t), method, "http://"+a.addr+path, body, header...)
}

func (a *api) post(t *testing.T, path, body string, header ...string) answer {
	t.Helper()
	return a.call(t, http.MethodPost, path, body, header...)
}

func (a *api) get(t *testing.T, path string) answer {
	t.Helper()
	return a.call(t, http.MethodGet, path, "")
}

func callWith(t *testing.T, c *http.Client, method, url, body string, header ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl --data does
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	if bytes.HasPrefix(text, []byte("{")) {
		if err := json.Unmarshal(text, &got.body); err != nil {
			t.Fatalf("not JSON: %v: %s", err, text)
		}
	}
	return got
}

// checkout takes seats for a new session, which must work.
func (a *api) checkout(t *testing.T, feature, user string) (id, secret string, got answer) {
	t.Helper()
	got = a.post(t, "/v1/checkout", fmt.Sprintf(`{"feature":%q,"user":%q,"host":"ws1"}`, feature, user))
	if got.status != http.StatusOK {
		t.Fatalf("checkout of %s: %d %s", feature, got.status, got.text)
	}
	return got.str(t, "session", "id"), got.str(t, "session", "secret"), got
}

// wantRefusal checks the status, the reason and the shape of an error.
func wantRefusal(t *testing.T, got answer, status int, reason lease.Reason, words ...string) {
	t.Helper()
	if got.status != status || got.body["reason"] != string(reason) {
		t.Fatalf("got %d %s, want %d %s", got.status, got.text, status, reason)
	}
	for _, field := range []string{"code", "message", "reason", "final", "retry_after_ms"} {
		if _, ok := got.body[field]; !ok {
			t.Errorf("the error has no %q: %s", field, got.text)
		}
	}
	if len(got.body) != 5 && reason != lease.InQueue {
		t.Errorf("the error has other fields than the five: %s", got.text)
	}
	for _, w := range words {
		if !strings.Contains(got.str(t, "message"), w) {
			t.Errorf("message %q does not name %q", got.body["message"], w)
		}
	}
}

// eventually waits for a condition; there is no event to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}
