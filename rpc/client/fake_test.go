package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/protoadapt"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// fakeCluster is a small model of a cluster behind real gRPC servers on in-memory
// connections: nodes of which one leads, sessions, seats, seqs, deadlines.
type fakeCluster struct {
	mu       sync.Mutex
	total    int
	lifespan time.Duration
	grace    time.Duration
	nodes    map[string]*fakeNode
	leader   string // address
	sessions map[string]*fakeSession
	last     uint64 // last index: lease ids and tokens
	calls    []string
	// before runs ahead of a request on the leader, after behind it: an error of after
	// loses the answer of a request that was applied.
	before, after func(method string, req any) error
	peers         []string
	streams       streams
	forwards      int    // calls that ask to be forwarded
	hint          string // what followers say instead of the leader's address
	// forgetful: news of losses are gone; sumless: short answers name no leases.
	forgetful, sumless bool
	lent               map[uint64]bool // leases that are borrowed
}

type fakeNode struct {
	pb.UnimplementedSeatsServer
	pb.UnimplementedClusterServer
	f         *fakeCluster
	addr      string
	lis       *bufconn.Listener
	srv       *grpc.Server
	blackhole bool
	down      bool
	dials     int
}

type fakeSession struct {
	secret      string
	incarnation uint64
	seq         uint64
	refused     error
	closed      bool
	renewed     time.Time
	leases      []*pb.Lease
	lost        []*pb.LostLease
}

func newFake(t *testing.T, addrs ...string) *fakeCluster {
	f := &fakeCluster{total: 2, lifespan: 120 * time.Second, grace: 60 * time.Second, nodes: map[string]*fakeNode{}, lent: map[uint64]bool{},
		sessions: map[string]*fakeSession{}, leader: addrs[0], peers: addrs}
	for _, a := range addrs {
		f.addNode(t, a)
	}
	return f
}

func (f *fakeCluster) addNode(t *testing.T, addr string) *fakeNode {
	n := &fakeNode{f: f, addr: addr, lis: bufconn.Listen(1 << 16), srv: grpc.NewServer(grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}))} // as the node's own
	pb.RegisterSeatsServer(n.srv, n)
	pb.RegisterClusterServer(n.srv, n)
	pb.RegisterBorrowingServer(n.srv, &fakeLender{n: n, lender: lender{private: ed25519.NewKeyFromSeed(make([]byte, 32))}})
	go n.srv.Serve(n.lis)
	t.Cleanup(n.srv.Stop)
	f.nodes[addr] = n
	return n
}

func (f *fakeCluster) dial(ctx context.Context, addr string) (net.Conn, error) {
	f.mu.Lock()
	n := f.nodes[addr]
	var down, hole bool
	if n != nil {
		n.dials++
		down, hole = n.down, n.blackhole
	}
	f.mu.Unlock()
	switch {
	case n == nil || down:
		return nil, errors.New("connection refused")
	case hole:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.lis.DialContext(ctx)
}

func (f *fakeCluster) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeCluster) count(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == method {
			n++
		}
	}
	return n
}

func (f *fakeCluster) seatsInUse() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used()
}

func (f *fakeCluster) used() int {
	n := 0
	for _, s := range f.sessions {
		for _, l := range s.leases {
			n += int(l.Count)
		}
	}
	return n
}

// kill takes all leases back by the operator's word.
func (f *fakeCluster) kill() {
	for _, s := range f.sessions {
		for _, l := range s.leases {
			s.lost = append(s.lost, &pb.LostLease{Id: l.Id, FencingToken: l.FencingToken, Feature: l.Feature, Reason: "removed_by_admin"})
		}
		s.leases = nil
	}
}

func problem(code codes.Code, reason lease.Reason, final bool, retry time.Duration) error {
	st, err := status.New(code, "no: "+string(reason)).WithDetails(protoadapt.MessageV1Of(
		&pb.Problem{Reason: string(reason), Final: final, Message: "no: " + string(reason), RetryAfterMs: uint32(retry.Milliseconds())}))
	if err != nil {
		panic(err)
	}
	return st.Err()
}

// serve redirects if this node does not lead, else runs the hooks around the request.
func serve[T any](n *fakeNode, ctx context.Context, method string, req any, do func() (T, error)) (T, error) {
	var none T
	f := n.f
	f.mu.Lock()
	f.calls = append(f.calls, method)
	if len(metadata.ValueFromIncomingContext(ctx, forwardKey)) > 0 {
		f.forwards++
	}
	leading, hint := f.leader == n.addr, f.leader
	if f.hint != "" {
		hint = f.hint
	}
	before, after := f.before, f.after
	f.mu.Unlock()
	if !leading {
		st, _ := status.New(codes.Unavailable, "not the leader").WithDetails(protoadapt.MessageV1Of(&pb.NotLeader{LeaderAddress: hint}))
		return none, st.Err()
	}
	if before != nil {
		if err := before(method, req); err != nil {
			return none, err
		}
	}
	f.mu.Lock()
	f.expire()
	resp, err := do()
	f.mu.Unlock()
	if err == nil && after != nil {
		if err := after(method, req); err != nil {
			return none, err
		}
	}
	return resp, err
}

func (f *fakeCluster) expire() {
	for id, s := range f.sessions {
		if !s.closed && time.Since(s.renewed) >= f.lifespan+f.grace {
			delete(f.sessions, id)
		}
	}
}

func (f *fakeCluster) find(id, secret string, incarnation uint64) (*fakeSession, error) {
	s := f.sessions[id]
	switch {
	case s == nil || s.closed:
		return nil, problem(codes.NotFound, lease.SessionUnknown, true, 0)
	case s.secret != secret:
		return nil, problem(codes.PermissionDenied, lease.Forbidden, true, 0)
	case incarnation < s.incarnation:
		return nil, problem(codes.Aborted, lease.Fenced, true, 0)
	case incarnation > s.incarnation:
		s.incarnation, s.seq = incarnation, 0
	}
	return s, nil
}

func (f *fakeCluster) shown(s *fakeSession) []*pb.Lease {
	var list []*pb.Lease
	for _, l := range s.leases {
		left := f.lifespan - time.Since(s.renewed)
		state := "active"
		if left <= 0 {
			left, state = 0, "expiring"
		}
		if f.lent[l.Id] {
			state = "borrowed"
		}
		list = append(list, &pb.Lease{Id: l.Id, Handle: 7, Feature: l.Feature, Count: l.Count, FencingToken: l.FencingToken,
			State: state, RemainingMs: uint32(left.Milliseconds()), GraceMs: uint32(f.grace.Milliseconds()), Seats: []int32{1}})
	}
	return list
}

func (f *fakeCluster) info(id string, s *fakeSession) *pb.Session {
	return &pb.Session{Id: id, Incarnation: s.incarnation, HeartbeatMs: uint32(f.lifespan.Milliseconds() / 3)}
}

func (n *fakeNode) Checkout(ctx context.Context, r *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	return serve(n, ctx, "checkout", r, func() (*pb.CheckoutResponse, error) {
		f := n.f
		if strings.Join(md.Get("authorization"), "") != "Bearer secret-token" {
			return nil, problem(codes.Unauthenticated, Unauthenticated, true, 0)
		}
		s := f.sessions[r.SessionId]
		if s == nil && r.Seq <= 1 {
			s = &fakeSession{secret: r.SessionSecret, incarnation: r.Incarnation, renewed: time.Now()}
			f.sessions[r.SessionId] = s
		}
		s, err := f.find(r.SessionId, r.SessionSecret, r.Incarnation)
		if err != nil {
			return nil, err
		}
		if r.Seq < s.seq {
			return nil, problem(codes.Aborted, lease.StaleRequest, true, 0)
		}
		if r.Seq == s.seq && r.Seq != 0 {
			return &pb.CheckoutResponse{Session: f.info(r.SessionId, s), Leases: f.shown(s), Replayed: true}, s.refused
		}
		s.seq, s.refused = r.Seq, nil
		var got []*pb.Lease
		for _, it := range r.Items {
			i := slices.IndexFunc(s.leases, func(l *pb.Lease) bool { return l.Feature == it.Feature })
			if i < 0 {
				if f.used()+int(max(it.Count, 1)) > f.total {
					s.refused = problem(codes.Aborted, lease.NoSeats, false, 0)
					return nil, s.refused
				}
				f.last++
				s.leases = append(s.leases, &pb.Lease{Id: f.last, Feature: it.Feature, Count: max(it.Count, 1), FencingToken: 100 + f.last})
			}
		}
		s.renewed = time.Now()
		for _, l := range f.shown(s) {
			if slices.ContainsFunc(r.Items, func(it *pb.Item) bool { return it.Feature == l.Feature }) {
				got = append(got, l)
			}
		}
		return &pb.CheckoutResponse{Session: f.info(r.SessionId, s), Leases: got}, nil
	})
}

func (n *fakeNode) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.RenewResponse, error) {
	return serve(n, ctx, "renew", r, func() (*pb.RenewResponse, error) {
		s, err := n.f.find(r.SessionId, r.SessionSecret, r.Incarnation)
		if err != nil {
			return nil, err
		}
		s.renewed = time.Now()
		return &pb.RenewResponse{Session: n.f.info(r.SessionId, s), Leases: n.f.shown(s), Lost: s.lost}, nil
	})
}

func (n *fakeNode) Checkin(ctx context.Context, r *pb.CheckinRequest) (*pb.CheckinResponse, error) {
	return serve(n, ctx, "checkin", r, func() (*pb.CheckinResponse, error) {
		s, err := n.f.find(r.SessionId, r.SessionSecret, r.Incarnation)
		if err != nil {
			return nil, err
		}
		if r.Seq < s.seq {
			return nil, problem(codes.Aborted, lease.StaleRequest, true, 0)
		}
		s.seq = r.Seq
		s.leases = slices.DeleteFunc(s.leases, func(l *pb.Lease) bool {
			return len(r.Refs) == 0 || slices.ContainsFunc(r.Refs, func(x *pb.LeaseRef) bool { return x.Id == l.Id && x.FencingToken == l.FencingToken })
		})
		s.closed = r.Close
		return &pb.CheckinResponse{}, nil
	})
}

// fakeLender lends what a session of the fake holds.
type fakeLender struct {
	lender
	n *fakeNode
}

func (x *fakeLender) Borrow(ctx context.Context, r *pb.BorrowRequest) (*pb.BorrowResponse, error) {
	return serve(x.n, ctx, "borrow", r, func() (*pb.BorrowResponse, error) {
		s, err := x.n.f.find(r.SessionId, r.SessionSecret, r.Incarnation)
		if err != nil {
			return nil, err
		}
		for _, l := range s.leases {
			if l.Feature == r.Feature {
				x.n.f.lent[l.Id] = true
				term := time.Duration(r.TermMs) * time.Millisecond
				return &pb.BorrowResponse{Token: x.token(l.Id, r, term), Jwks: x.jwks(), Lease: &pb.Lease{Id: l.Id, RemainingMs: uint32(r.TermMs)}}, nil
			}
		}
		return nil, problem(codes.Aborted, lease.BorrowNoneLeft, false, 0)
	})
}

func (n *fakeNode) StatusPeers(context.Context, *pb.StatusPeersRequest) (*pb.StatusPeersResponse, error) {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	n.f.calls = append(n.f.calls, "peers")
	var resp pb.StatusPeersResponse
	for _, a := range n.f.peers {
		resp.Peers = append(resp.Peers, &pb.Peer{ApiAddress: a})
	}
	return &resp, nil
}

func (n *fakeNode) Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	return serve(n, ctx, "status", r, func() (*pb.StatusResponse, error) { return &pb.StatusResponse{Leader: n.addr}, nil })
}

func (n *fakeNode) TransferLeadership(ctx context.Context, r *pb.TransferLeadershipRequest) (*pb.TransferLeadershipResponse, error) {
	return serve(n, ctx, "transfer", r, func() (*pb.TransferLeadershipResponse, error) { return &pb.TransferLeadershipResponse{}, nil })
}

// bubbleClock is the bubble's time, plus what a suspended machine slept.
type bubbleClock struct {
	start time.Time
	mu    sync.Mutex
	slept time.Duration
}

func (c *bubbleClock) now() Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Instant(time.Since(c.start) + c.slept)
}

func (c *bubbleClock) suspend(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slept += d
}

func (f *fakeCluster) config(addrs ...string) Config {
	clock := &bubbleClock{start: time.Now()}
	return Config{Addresses: addrs, Token: "secret-token", Dial: f.dial, Clock: clock.now}
}

// open makes a client and a session that are closed when the test ends.
func (f *fakeCluster) open(t *testing.T, cfg Config, sc SessionConfig) (*Client, *Session) {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(c) })
	s, err := c.OpenSession(t.Context(), sc)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

// closeNow drops a client without returning anything, as a crash does.
func closeNow(c *Client) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(ctx)
}

func take(t *testing.T, s *Session, features ...string) *Lease {
	t.Helper()
	var items []Item
	for _, f := range features {
		items = append(items, Item{Feature: f, Count: 1})
	}
	leases, err := s.Checkout(t.Context(), items...)
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func wantState(t *testing.T, l *Lease, want State) {
	t.Helper()
	if got := l.State(); got != want {
		t.Errorf("state is %v, want %v", got, want)
	}
}

// bubble runs a test on virtual time; goroutines that outlive it fail it.
func bubble(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, test)
}
