package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Reasons after which a request may be made again.
const (
	overloaded     = "overloaded" // refused before the ledger saw it
	notLeader      = "not_leader"
	unknownOutcome = "unknown_outcome"
)

// Reasons after which a session is of no more use.
const (
	sessionUnknown = "session_unknown"
	staleRequest   = "stale_request"
)

// holder is one session on the raw wire. It is used by one goroutine.
type holder struct {
	w           *Wire
	i           int
	tenant      string
	id, secret  string
	seq         uint64
	held        []*pb.LeaseRef
	refs        []*pb.LeaseRef // kept between cycles, to allocate less
	opened      bool
	items       []*pb.Item
	user        string
	incarnation uint64
	streamed    bool // over the stream of its connection
}

// takes is what a holder asks for: unary calls, or the same over a stream.
type takes interface {
	Checkout(ctx context.Context, r *pb.CheckoutRequest, opts ...grpc.CallOption) (*pb.CheckoutResponse, error)
	Checkin(ctx context.Context, r *pb.CheckinRequest, opts ...grpc.CallOption) (*pb.CheckinResponse, error)
}

func (h *holder) seats() (takes, error) {
	if h.streamed {
		return h.w.pipe(h.i)
	}
	cc, err := h.w.conn(h.i)
	if err != nil {
		return nil, err
	}
	return pb.NewSeatsClient(cc), nil
}

// newHolder makes a session that is opened by its first checkout.
func (w *Wire) newHolder(i, clients int, features ...string) *holder {
	h := &holder{w: w, i: i, tenant: w.target.tenant(i, clients), user: fmt.Sprintf("user-%d", i), incarnation: 1}
	for _, f := range features {
		h.items = append(h.items, &pb.Item{Feature: f})
	}
	h.renew()
	return h
}

// renew gives the holder another session.
func (h *holder) renew() {
	var id, secret [16]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	h.id, h.secret = hex.EncodeToString(id[:]), hex.EncodeToString(secret[:])
	h.seq, h.opened, h.held = 0, false, nil
}

// checkout takes all items of the holder.
func (h *holder) checkout(ctx context.Context) error {
	seats, err := h.seats()
	if err != nil {
		return load.Fatal(err)
	}
	call, cancel := h.w.target.call(ctx)
	defer cancel()
	h.seq++
	answer, err := seats.Checkout(call, &pb.CheckoutRequest{Items: h.items, User: h.user, Host: "bench",
		SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Seq: h.seq, Tenant: h.tenant})
	if err != nil {
		return h.failed(ctx, err)
	}
	h.opened, h.held = true, h.refs[:0]
	for _, l := range answer.Leases {
		h.held = append(h.held, &pb.LeaseRef{Id: l.Id, FencingToken: l.FencingToken})
	}
	h.refs = h.held
	return nil
}

// checkin gives all of them back, and ends the session if asked to.
func (h *holder) checkin(ctx context.Context, end bool) error {
	seats, err := h.seats()
	if err != nil {
		return load.Fatal(err)
	}
	call, cancel := h.w.target.call(ctx)
	defer cancel()
	h.seq++
	_, err = seats.Checkin(call, &pb.CheckinRequest{SessionId: h.id, SessionSecret: h.secret,
		Incarnation: h.incarnation, Seq: h.seq, Refs: h.held, Close: end, Tenant: h.tenant})
	if err != nil {
		return h.failed(ctx, err)
	}
	h.held = nil
	if end {
		h.renew()
	}
	return nil
}

// heartbeat renews the session once.
func (h *holder) heartbeat(ctx context.Context) error {
	cc, err := h.w.conn(h.i)
	if err != nil {
		return load.Fatal(err)
	}
	call, cancel := h.w.target.call(ctx)
	defer cancel()
	_, err = pb.NewSeatsClient(cc).Renew(call, &pb.RenewRequest{SessionId: h.id, SessionSecret: h.secret,
		Incarnation: h.incarnation, Tenant: h.tenant})
	return h.w.reasoned(ctx, err)
}

// failed says why a call failed. After anything but a plain refusal before the ledger
// nobody knows what was done: the next cycle has a new session, and the old one's
// leases expire.
func (h *holder) failed(ctx context.Context, err error) error {
	reasoned := h.w.reasoned(ctx, err)
	if r, ok := reasoned.(*load.Reasoned); ok && r.Reason == overloaded {
		h.seq--
		return reasoned
	}
	h.renew()
	return reasoned
}

// leave gives back what is held.
func (h *holder) leave(ctx context.Context) {
	if h.opened {
		_ = h.checkin(ctx, true)
	}
}

// sdkHolder is one session of the SDK.
type sdkHolder struct {
	c *client.Client
	s *client.Session
}

// sessionsPerClient of the SDK share its one connection, and its tenant.
const sessionsPerClient = sharedInTenant

// sdkClients makes the SDK's clients of a step: one client has one connection, so
// several sessions share one as they do in an agent.
type sdkClients struct{ list []*client.Client }

func (t *Target) sdkClients(clients, perClient int) (*sdkClients, error) {
	s := &sdkClients{}
	for i := range (clients + perClient - 1) / perClient {
		c, err := client.New(client.Config{Addresses: t.Addresses, Token: t.Token, Tenant: t.tenant(i, clients), CallTimeout: callBound})
		if err != nil {
			return nil, err
		}
		s.list = append(s.list, c)
	}
	return s, nil
}

func (s *sdkClients) session(ctx context.Context, i, perClient int) (*sdkHolder, error) {
	c := s.list[i/perClient]
	var cfg client.SessionConfig
	cfg.Principal.User, cfg.Principal.Host = fmt.Sprintf("user-%d", i), "bench"
	session, err := c.OpenSession(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &sdkHolder{c, session}, nil
}

func (s *sdkClients) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callBound)
	defer cancel()
	for _, c := range s.list {
		_ = c.Close(ctx)
	}
}

// sdkReason counts an error of the SDK by its reason.
func sdkReason(err error) error {
	if err == nil {
		return nil
	}
	reason := string(client.ReasonOf(err))
	if reason == "" {
		reason = "error"
	}
	var pause time.Duration
	if e, ok := err.(*client.Error); ok {
		pause = e.RetryAfter
	}
	return &load.Reasoned{Reason: reason, Pause: pause, Err: err}
}
