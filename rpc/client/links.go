package client

import (
	"context"
	"math"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

const (
	// connectTimeout bounds one TCP and TLS handshake.
	connectTimeout = 3 * time.Second
	// reconnectMax caps grpc's own pause between connection attempts: a node that is
	// back should be noticed well within a heartbeat.
	reconnectMax = time.Second
	// pingAfter and pingTimeout notice a path that was cut without a word while an
	// answer is awaited; 10 s is the least grpc allows.
	pingAfter   = 10 * time.Second
	pingTimeout = 5 * time.Second
	// maxRequest is what a node takes. Beyond it gRPC would answer "resource exhausted",
	// which also means "overloaded", and we would try again for nothing.
	maxRequest = 1 << 20
	// window is how much may be on its way to us, of a call and of a connection: 20 MB/s of a
	// backup over a path of 50 ms. grpc's own windows grow, and cost a ping for each answer on a
	// quiet connection, to measure the path.
	window = 1 << 20
)

// link is the one connection to one address.
type link struct {
	cc      *grpc.ClientConn
	users   int
	retired bool
	// heard is when something last came back over it.
	heard Instant
	// pipeline is the stream that sessions share, nil while there is none.
	pipeline *Pipeline
	// called is when sessions last called over it, calls how often, and unaryUntil says
	// for how long they are not to try a stream.
	called, unaryUntil Instant
	calls              uint64
}

// Invoke and NewStream make a link the connection that it is.
func (k *link) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return k.cc.Invoke(ctx, method, args, reply, opts...)
}

func (k *link) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return k.cc.NewStream(ctx, desc, method, opts...)
}

// links keeps one connection per address.
type links struct {
	options []grpc.DialOption
	mu      sync.Mutex
	byAddr  map[string]*link
	closed  bool
}

func newLinks(creds credentials.TransportCredentials, dial func(context.Context, string) (net.Conn, error)) *links {
	if dial == nil {
		d := &net.Dialer{Timeout: connectTimeout}
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
	return &links{byAddr: map[string]*link{}, options: []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(dial),
		// The name service must not be able to change how often we retry.
		grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent("seatkeeper-go"),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithUnaryInterceptor(refuseOversized),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.NewCodec(nil))),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: connectTimeout,
			Backoff: backoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMax}}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingAfter, Timeout: pingTimeout}),
	}}
}

// refuseOversized answers a request that no node would read.
func refuseOversized(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, send grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if m, ok := req.(proto.Message); ok && wire.Size(m) > maxRequest {
		return status.Errorf(codes.InvalidArgument, "the request has %d bytes, a node takes at most %d", wire.Size(m), maxRequest)
	}
	return send(ctx, method, req, reply, cc, opts...)
}

// take returns the connection to addr for one request; give it back with put.
func (l *links) take(addr string) (*link, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, closedError("client")
	}
	k := l.byAddr[addr]
	if k == nil {
		cc, err := grpc.NewClient(passthrough+addr, l.options...)
		if err != nil {
			return nil, err
		}
		k = &link{cc: cc, heard: math.MinInt64, unaryUntil: math.MinInt64}
		l.byAddr[addr] = k
	}
	k.users++
	return k, nil
}

func (l *links) put(k *link) {
	l.mu.Lock()
	k.users--
	last := k.users == 0 && k.retired
	l.mu.Unlock()
	if last {
		_ = k.cc.Close()
	}
}

func (l *links) noteHeard(k *link, now Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.heard = max(k.heard, now)
}

// retireSilent lets the next request to addr open a new connection if nothing came
// back over k since sent: after a silent cut TCP would go on sending into the void
// for minutes. Requests still waiting on k are not disturbed.
func (l *links) retireSilent(addr string, k *link, sent Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.heard < sent && l.byAddr[addr] == k {
		delete(l.byAddr, addr)
		k.retired = true
	}
}

// keepOnly retires the connections to addresses that are no longer known.
func (l *links) keepOnly(known func(addr string) bool) {
	l.mu.Lock()
	var idle []*link
	for addr, k := range l.byAddr {
		if known(addr) {
			continue
		}
		delete(l.byAddr, addr)
		k.retired = true
		if k.users == 0 {
			idle = append(idle, k)
		}
	}
	l.mu.Unlock()
	for _, k := range idle {
		_ = k.cc.Close()
	}
}

func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	all := l.byAddr
	l.byAddr = nil
	l.mu.Unlock()
	for _, k := range all {
		_ = k.cc.Close()
	}
}
