package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// findLeader bounds the search for a leader: many elections fit.
	findLeader = 30 * time.Second
	// askLeader is the pause between two questions and the bound of one.
	askLeader, askOne = 5 * time.Millisecond, 500 * time.Millisecond
	// callBound is how long one raw call may take; beyond it counts as an error.
	callBound = 10 * time.Second
	// window is the SDK's for what is on its way to a client.
	window = 1 << 20
)

// Wire is the raw way to the leader: generated clients on connections of our own,
// without the SDK's retries, so that what is measured is the server.
type Wire struct {
	target *Target
	conns  int

	mu     sync.Mutex
	byAddr map[string][]*grpc.ClientConn
	pipes  map[*grpc.ClientConn]*client.Pipeline
	leader string
}

// Dial finds the leader and prepares so many connections to it.
func (t *Target) Dial(ctx context.Context, conns int) (*Wire, error) {
	w := &Wire{target: t, conns: max(conns, 1), byAddr: map[string][]*grpc.ClientConn{}, pipes: map[*grpc.ClientConn]*client.Pipeline{}}
	if _, err := w.Find(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// connsFor is how many connections so many clients share.
func connsFor(clients int) int { return (clients + clientsPerConn - 1) / clientsPerConn }

// Close closes all connections.
func (w *Wire) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.byAddr {
		for _, c := range list {
			if c != nil {
				_ = c.Close()
			}
		}
	}
	w.byAddr = map[string][]*grpc.ClientConn{}
	clear(w.pipes)
}

// to returns connection i to one node.
func (w *Wire) to(address string, i int) (*grpc.ClientConn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.byAddr[address]
	if list == nil {
		list = make([]*grpc.ClientConn, w.conns)
		w.byAddr[address] = list
	}
	i %= w.conns
	if list[i] == nil {
		cc, err := w.target.connect(address)
		if err != nil {
			return nil, err
		}
		list[i] = cc
	}
	return list[i], nil
}

func (t *Target) connect(address string) (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("seatkeeper-bench"),
		// As the SDK: windows that grow cost a ping beside each answer of a quiet connection.
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		// A node that was killed comes back within a second or two; do not miss it.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second,
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond}})}
	return grpc.NewClient("passthrough:///"+address, opts...)
}

// call bounds one call and signs it.
func (t *Target) call(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = t.signed(ctx)
	return context.WithTimeout(ctx, callBound)
}

func (t *Target) signed(ctx context.Context) context.Context {
	if t.Token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+t.Token)
}

// Leader is the address of the node that led when last asked.
func (w *Wire) Leader() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader
}

// conn returns connection i to the leader.
func (w *Wire) conn(i int) (*grpc.ClientConn, error) { return w.to(w.Leader(), i) }

// pipe returns the stream that the clients of connection i to the leader share.
func (w *Wire) pipe(i int) (*client.Pipeline, error) {
	cc, err := w.conn(i)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pipes[cc]
	if p == nil || p.Err() != nil {
		p = client.OpenPipeline(w.target.signed(context.Background()), cc)
		w.pipes[cc] = p
	}
	return p, nil
}

// Find asks the nodes until one names a leader that answers for itself.
func (w *Wire) Find(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(w.target.signed(ctx), findLeader)
	defer cancel()
	var last error
	for {
		for _, a := range w.target.Addresses {
			leader, err := w.ask(ctx, a)
			if err != nil {
				last = err
				continue
			}
			w.mu.Lock()
			w.leader = leader
			w.mu.Unlock()
			return leader, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("no leader found: %w", errors.Join(last, ctx.Err()))
		case <-time.After(askLeader):
		}
	}
}

// ask asks one node who leads. A node may name one that has just died: only what the
// leader says of itself counts.
func (w *Wire) ask(ctx context.Context, address string) (string, error) {
	cc, err := w.to(address, 0)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, askOne)
	defer cancel()
	answer, err := pb.NewClusterClient(cc).StatusLeader(ctx, &pb.StatusLeaderRequest{})
	if err != nil {
		return "", err
	}
	if answer.Address == "" {
		return "", errors.New("no leader is known")
	}
	if answer.Address == address {
		return address, nil
	}
	if cc, err = w.to(answer.Address, 0); err != nil {
		return "", err
	}
	named := answer.Address
	answer, err = pb.NewClusterClient(cc).StatusLeader(ctx, &pb.StatusLeaderRequest{})
	if err != nil {
		return "", err
	}
	if answer.Address != named {
		return "", fmt.Errorf("%s does not say that it leads", named)
	}
	return named, nil
}

// reasoned turns an error of a raw call into one that the load counts by its reason.
// It finds the new leader first when the old one is gone.
func (w *Wire) reasoned(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	r := reasonOf(err)
	if r.Reason == notLeader && ctx.Err() == nil {
		if _, e := w.Find(ctx); e != nil {
			return load.Fatal(e)
		}
		r.Pause = 0
	}
	return r
}

// transportReason begins the reason of a status that no server gave one for.
const transportReason = "grpc_"

// reasonOf reads the reason out of a status; a "no" of the server names its own.
func reasonOf(err error) *load.Reasoned {
	st, _ := status.FromError(err)
	for _, d := range st.Details() {
		if p, ok := d.(*pb.Problem); ok {
			return &load.Reasoned{Reason: p.Reason, Pause: time.Duration(p.RetryAfterMs) * time.Millisecond, Err: err}
		}
	}
	if st.Code() == codes.Unavailable {
		return &load.Reasoned{Reason: notLeader, Pause: askLeader, Err: err}
	}
	return &load.Reasoned{Reason: transportReason + st.Code().String(), Err: err}
}
