package client

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Item is one line of a checkout: Count seats (0 means 1) of Feature at Version or
// later.
type Item = lease.Item

// membersEvery is how often the member list is learnt again: nodes are replaced by
// people, in minutes at the fastest.
const membersEvery = 5 * time.Minute

// membersRetry is the same after nobody could say.
const membersRetry = 30 * time.Second

// Client is the way to one cluster. It is safe for concurrent use, keeps one
// connection per node, and may carry any number of sessions.
type Client struct {
	cfg    Config
	now    func() Instant
	jitter func() float64
	links  *links
	routes *routes
	// together is nil when each session sends its own heartbeats.
	together *together

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu       sync.Mutex
	sessions map[*Session]bool
	// membersAsked and membersNext say when the member list is asked for again.
	membersAsked bool
	membersNext  Instant
}

// New makes a client. It connects to nobody yet. The error is of Config.Validate, or
// names a certificate file that cannot be read.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	endpoints, err := cfg.endpoints()
	if err != nil {
		return nil, err
	}
	creds := insecure.NewCredentials()
	if endpoints[0].secure {
		t, err := cfg.tlsConfig()
		if err != nil {
			return nil, err
		}
		creds = credentials.NewTLS(t)
	}
	c := &Client{cfg: cfg, now: cfg.Clock, jitter: cfg.Jitter, links: newLinks(creds, cfg.Dial),
		routes: &routes{}, sessions: map[*Session]bool{}}
	if cfg.Tracer != nil {
		c.links.options = append(c.links.options, grpc.WithChainUnaryInterceptor(traced(cfg.Tracer)))
	}
	for _, e := range endpoints {
		c.routes.configured = append(c.routes.configured, e.hostPort)
	}
	if c.now == nil {
		c.now = SystemClock
	}
	if c.jitter == nil {
		c.jitter = rand.Float64
	}
	if cfg.BatchHeartbeats {
		c.together = &together{turn: make(chan struct{}, 1)}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Close closes every session (which returns its seats, as long as ctx allows) and then
// the connections. The error joins those of the sessions; all is stopped regardless.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	var open []*Session
	for s := range c.sessions {
		open = append(open, s)
	}
	c.mu.Unlock()
	errs := make([]error, len(open))
	var wg sync.WaitGroup
	for i, s := range open {
		wg.Go(func() { errs[i] = s.Close(ctx) })
	}
	wg.Wait()
	c.cancel()
	c.links.close()
	return errors.Join(errs...)
}

// Seats and Cluster are the generated clients with this client's retries and
// redirects. Requests that may not be repeated safely (a checkout without a seq,
// licence changes, leadership transfer) are not retried once their outcome is unknown.
func (c *Client) Seats() pb.SeatsClient     { return pb.NewSeatsClient(c) }
func (c *Client) Cluster() pb.ClusterClient { return pb.NewClusterClient(c) }

// Access is the same for access tokens.
func (c *Client) Access() pb.AccessClient   { return pb.NewAccessClient(c) }
func (c *Client) History() pb.HistoryClient { return pb.NewHistoryClient(c) }

// Membership is the same for the members of the cluster.
func (c *Client) Membership() pb.MembershipClient { return pb.NewMembershipClient(c) }

// Tenants is the same for what each tenant has and uses.
func (c *Client) Tenants() pb.TenantsClient { return pb.NewTenantsClient(c) }

// Tenant is the tenant requests are made for; empty means the cluster's default.
func (c *Client) Tenant() string { return c.cfg.Tenant }

// Preview says what a checkout by p would get, and why not, taking nothing.
func (c *Client) Preview(ctx context.Context, p lease.Principal, items ...Item) (*pb.PreviewResponse, error) {
	p = fillPrincipal(p)
	return c.Seats().Preview(ctx, &pb.PreviewRequest{Items: wireItems(items), User: p.User, Host: p.Host,
		Display: p.Display, VendorDefined: p.VendorDefined, Project: p.Project, Tenant: c.cfg.Tenant})
}

// Verify says whether the lease with this fencing token is the live holder.
func (c *Client) Verify(ctx context.Context, ref lease.Ref) (*pb.VerifyResponse, error) {
	return c.Seats().Verify(ctx, &pb.VerifyRequest{LeaseId: uint64(ref.ID), FencingToken: uint64(ref.Token), Tenant: c.cfg.Tenant})
}

// Status shows the cluster. stale takes the first node's own view, without the leader.
func (c *Client) Status(ctx context.Context, stale bool) (*pb.StatusResponse, error) {
	return c.Cluster().Status(ctx, &pb.StatusRequest{Tenant: c.cfg.Tenant, Stale: stale})
}

func wireItems(items []Item) []*pb.Item {
	wire := make([]*pb.Item, len(items))
	for i, it := range items {
		// A count beyond the wire's range must not wrap round into a sensible one.
		count := int32(min(max(it.Count, -1), math.MaxInt32))
		wire[i] = &pb.Item{Feature: it.Feature, Version: it.Version, Count: count}
	}
	return wire
}
