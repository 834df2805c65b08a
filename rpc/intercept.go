package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// ownServices is the prefix of the services that are admitted and authenticated;
// health and reflection stand outside.
const ownServices = "/seatkeeper.v1."

// intercept is what every unary call passes, whichever door it came through.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	defer func() {
		// A bug in answering one request must not cost all others their leader. What is
		// replicated is judged elsewhere, and a panic there does end the process.
		if bug := recover(); bug != nil {
			s.metrics.bugs.Inc()
			s.cfg.Logger.Error("a request met a bug", "method", info.FullMethod, "error", bug, "stack", string(debug.Stack()))
			st := refused(&lease.Refusal{Reason: UnknownOutcome, Message: "the node met a bug in this request; its log has the details"})
			resp, err = nil, st.Err()
		}
	}()
	serve := s.serve
	if !strings.HasPrefix(info.FullMethod, ownServices) {
		serve = func(ctx context.Context, req any, _ string, next grpc.UnaryHandler) (any, error) {
			return next(ctx, req)
		}
	}
	resp, err = serve(ctx, req, info.FullMethod, next)
	if err == nil {
		s.metrics.answered(info.FullMethod, nil, time.Since(start))
		return resp, nil
	}
	st := statusOf(err, s.cfg.Node.ID(), s.cfg.Node.Leader)
	s.metrics.answered(info.FullMethod, st, time.Since(start))
	return nil, st.Err()
}

// serve authenticates, admits, bounds and, where asked to, forwards one call.
func (s *Server) serve(ctx context.Context, req any, method string, next grpc.UnaryHandler) (any, error) {
	who, err := s.authenticate(ctx, method, req)
	if err != nil {
		return nil, err
	}
	tenant, err := tenantOf(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout+waitOf(req))
	defer cancel()
	t := &ticket{a: s.admission, key: tenantClass{tenant, classOf(method)}}
	if err := t.enter(ctx); err != nil {
		return nil, err
	}
	defer t.leave()
	ctx = context.WithValue(ctx, callerKey{}, who)
	ctx = context.WithValue(ctx, ticketKey{}, t)
	resp, err := next(ctx, req)
	var notLeader *cluster.NotLeaderError
	if errors.As(err, &notLeader) && asksForward(ctx) && !hopped(ctx) {
		t.leave() // the leader has its own door
		return s.forward(ctx, method, req)
	}
	return resp, err
}

type ticketKey struct{}

func ticketOf(ctx context.Context) *ticket {
	t, _ := ctx.Value(ticketKey{}).(*ticket)
	return t
}

func tenantOf(req any) (string, error) {
	r, ok := req.(interface{ GetTenant() string })
	if !ok || r.GetTenant() == "" {
		return lease.DefaultTenant, nil
	}
	if err := checkName("tenant", r.GetTenant()); err != nil {
		return "", err
	}
	return r.GetTenant(), nil
}

// waitOf is how long the request may wait for seats on top of its own work.
func waitOf(req any) time.Duration {
	r, ok := req.(*pb.CheckoutRequest)
	if !ok {
		return 0
	}
	return min(time.Duration(r.GetWaitMs())*time.Millisecond, MaxWait)
}

// Headers and metadata keys by which callers and nodes talk about forwarding.
const (
	forwardKey = "x-seatkeeper-forward" // "1": forward instead of redirecting
	hopKey     = "x-seatkeeper-hop"     // set between nodes: never forward or gather again
)

func asksForward(ctx context.Context) bool { return metadataIs(ctx, forwardKey, "1") }
func hopped(ctx context.Context) bool      { return metadataIs(ctx, hopKey, "1") }

func metadataIs(ctx context.Context, key, value string) bool {
	for _, v := range metadata.ValueFromIncomingContext(ctx, key) {
		if v == value {
			return true
		}
	}
	return false
}

// codeName is the gRPC code in the spelling of its specification.
func codeName(c codes.Code) string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return fmt.Sprintf("CODE_%d", c)
}

var codeNames = func() map[codes.Code]string {
	names := make(map[codes.Code]string)
	for _, n := range []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
		"ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
		"UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"} {
		names[codes.Code(len(names))] = n
	}
	return names
}()
