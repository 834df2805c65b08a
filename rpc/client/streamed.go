package client

import (
	"context"
	"errors"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// pipelineAfter: a connection's calls share a stream when they come closer together
	// than this. A process with one session and its heartbeat needs none.
	pipelineAfter = time.Second
	// unaryAfterNone and unaryAfterFull are how long calls stay unary after a node said that
	// it has no streams, or none to spare.
	unaryAfterNone = 5 * time.Minute
	unaryAfterFull = 30 * time.Second
)

// seatsOver is what sessions call over one connection: the stream that they share where
// there is one, unary calls elsewhere.
func (c *Client) seatsOver(cc grpc.ClientConnInterface) seatsCalls {
	k, ok := cc.(*link)
	if !ok || c.cfg.Forward { // a stream is served by the leader alone
		return pb.NewSeatsClient(cc)
	}
	return &sharedSeats{c: c, k: k}
}

// seatsCalls are the calls that a stream carries.
type seatsCalls interface {
	Checkout(ctx context.Context, r *pb.CheckoutRequest, opts ...grpc.CallOption) (*pb.CheckoutResponse, error)
	Checkin(ctx context.Context, r *pb.CheckinRequest, opts ...grpc.CallOption) (*pb.CheckinResponse, error)
	Renew(ctx context.Context, r *pb.RenewRequest, opts ...grpc.CallOption) (*pb.RenewResponse, error)
}

type sharedSeats struct {
	c *Client
	k *link
}

func (s *sharedSeats) Checkout(ctx context.Context, r *pb.CheckoutRequest, opts ...grpc.CallOption) (*pb.CheckoutResponse, error) {
	if r.WaitMs == 0 && r.QueueMs == 0 {
		if a, err, streamed := s.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Checkout{Checkout: r}}, opts); streamed {
			return a.GetCheckout(), err
		}
	}
	return pb.NewSeatsClient(s.k).Checkout(ctx, r, opts...)
}

func (s *sharedSeats) Checkin(ctx context.Context, r *pb.CheckinRequest, opts ...grpc.CallOption) (*pb.CheckinResponse, error) {
	if a, err, streamed := s.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Checkin{Checkin: r}}, opts); streamed {
		return a.GetCheckin(), err
	}
	return pb.NewSeatsClient(s.k).Checkin(ctx, r, opts...)
}

func (s *sharedSeats) Renew(ctx context.Context, r *pb.RenewRequest, opts ...grpc.CallOption) (*pb.RenewResponse, error) {
	if a, err, streamed := s.do(ctx, &pb.PipelineCall{Of: &pb.PipelineCall_Renew{Renew: r}}, opts); streamed {
		return a.GetRenewed(), err
	}
	return pb.NewSeatsClient(s.k).Renew(ctx, r, opts...)
}

// do sends a call over the stream. streamed is false when there is none: nothing was sent,
// and a unary call is to be made.
func (s *sharedSeats) do(ctx context.Context, call *pb.PipelineCall, opts []grpc.CallOption) (a *pb.PipelineAnswer, err error, streamed bool) {
	if t := s.c.cfg.Tracer; t != nil && t.Recording(ctx) {
		return nil, nil, false
	}
	p := s.c.links.pipeline(s.k, s.c)
	if p == nil {
		return nil, nil, false
	}
	a, sent, err := p.do(ctx, call)
	if sent {
		for _, o := range opts {
			if to, ok := o.(grpc.PeerCallOption); ok {
				to.PeerAddr.Addr = overPipeline{}
			}
		}
		return a, err, true
	}
	if ctx.Err() == nil && s.c.links.mayBeUnary(s.k, err, s.c.now()) {
		return nil, nil, false
	}
	return nil, err, true
}

// overPipeline stands for the address of a request that was sent.
type overPipeline struct{}

var _ net.Addr = overPipeline{}

func (overPipeline) Network() string { return "pipeline" }
func (overPipeline) String() string  { return "pipeline" }

// pipeline returns the stream of a connection, nil when its calls are to be unary. It
// opens one when calls come close together.
func (l *links) pipeline(k *link, c *Client) *Pipeline {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := c.now()
	last := k.called
	k.called, k.calls = now, k.calls+1
	if k.pipeline != nil && k.pipeline.Err() == nil {
		return k.pipeline
	}
	k.pipeline = nil
	if l.closed || k.calls == 1 || now.Sub(last) > pipelineAfter || now < k.unaryUntil {
		return nil
	}
	ctx := c.ctx
	if c.cfg.Token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.cfg.Token)
	}
	k.pipeline = OpenPipeline(ctx, k.cc)
	return k.pipeline
}

// mayBeUnary says whether a request that was not sent may go by itself, after how the
// stream ended: it was idle, or the node has none for us.
func (l *links) mayBeUnary(k *link, err error, now Instant) bool {
	if errors.Is(err, errPipelineOver) {
		return true
	}
	after := time.Duration(0)
	switch status.Code(err) {
	case codes.Unimplemented:
		after = unaryAfterNone
	case codes.ResourceExhausted:
		after = unaryAfterFull
	default:
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	k.unaryUntil = max(k.unaryUntil, now.Add(after))
	return true
}
