package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// ownServices is the prefix of the services that are admitted and authenticated;
// health and reflection stand outside.
const ownServices = "/seatkeeper.v1."

// operatorCalls is the prefix of those that authenticate themselves.
const operatorCalls = "/seatkeeper.v1.Operator/"

// intercept is what every unary call passes, whichever door it came through.
func (s *Server) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (resp any, err error) {
	start := time.Now()
	s.metrics.inFlight.Inc()
	defer s.metrics.inFlight.Dec()
	if s.tracing(info.FullMethod) {
		var span trace.Span
		ctx, span = s.beginSpan(ctx, info.FullMethod)
		defer func() { endSpan(span, status.Convert(err)) }()
	}
	defer func() {
		// A bug in answering one request must not cost all others their leader. What is
		// replicated is judged elsewhere, and a panic there does end the process.
		if bug := recover(); bug != nil {
			resp, err = nil, s.bug(info.FullMethod, bug, debug.Stack())
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

// bug notes a panic and returns the answer of the request that met it.
func (s *Server) bug(method string, bug any, stack []byte) error {
	s.metrics.bugs.Inc()
	s.cfg.Logger.Error("a request met a bug", "method", method, "error", bug, "stack", string(stack))
	return refused(&lease.Refusal{Reason: UnknownOutcome, Message: "the node met a bug in this request; its log has the details"}).Err()
}

// interceptStream is what every stream passes. The operator's authenticate and count
// themselves, because JSON callers reach them by another way.
func (s *Server) interceptStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	defer func() {
		if bug := recover(); bug != nil {
			err = s.bug(info.FullMethod, bug, debug.Stack())
		}
	}()
	if !strings.HasPrefix(info.FullMethod, ownServices) {
		return next(service, stream)
	}
	method, judged := info.FullMethod, info.FullMethod
	if _, known := rules[method]; !known {
		method, judged = unknownMethods, pb.Access_WhoAmI_FullMethodName // whoever has a token may hear that
	} else if strings.HasPrefix(method, operatorCalls) {
		return next(service, stream)
	}
	if _, err = s.authenticate(stream.Context(), judged, nil); err == nil {
		err = next(service, stream)
	}
	var st *status.Status
	if err != nil {
		st = statusOf(err, s.cfg.Node.ID(), s.cfg.Node.Leader)
		err = st.Err()
	}
	s.metrics.ended(method, st) // its time is not that of a request: it lasts for days
	return err
}

// unknownMethods stands for all methods that this build does not serve, in metrics: their
// names are the callers'.
const unknownMethods = "unknown"

// unknownMethod answers calls that this build does not know, most likely those of a newer
// program: it says which version it is and what to do, where grpc would only say "unknown".
func (s *Server) unknownMethod(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	name, ours := strings.CutPrefix(method, ownServices)
	if !ours {
		return status.Errorf(codes.Unimplemented, "no such method: %.200s", method)
	}
	message := fmt.Sprintf("%s runs version %s, which does not know %.100s: upgrade it, or use a program of its version", s.cfg.Node.ID(), s.cfg.Version, name)
	st, err := status.New(codes.Unimplemented, message).WithDetails(&pb.Problem{Reason: string(NotUpgraded), Final: true, Message: message})
	if err != nil {
		return err // cannot happen: the detail is a plain message
	}
	return st.Err()
}

// serve authenticates, admits, bounds and, where asked to, forwards one call.
func (s *Server) serve(ctx context.Context, req any, method string, next grpc.UnaryHandler) (any, error) {
	who, err := s.authenticate(ctx, method, req)
	var notLeader *cluster.NotLeaderError
	if errors.As(err, &notLeader) && asksForward(ctx) && !hopped(ctx) {
		return s.forwardUnknown(ctx, method, req, who)
	}
	if err != nil {
		return nil, err
	}
	tenant, err := tenantOf(req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout+waitOf(req))
	defer cancel()
	a := &asker{Context: ctx, caller: who}
	a.ticket = ticket{a: s.admission, tenant: s.roomFor(tenant, who), class: classOf(method), client: clientOf(req, who)}
	t := &a.ticket
	if conn := connOf(ctx); conn != nil {
		if n := conn.inFlight.Add(1); n > int64(s.cfg.ConnInFlight) && t.class != keeping {
			conn.inFlight.Add(-1)
			return nil, s.admission.refuse(t, "connection")
		}
		defer conn.inFlight.Add(-1)
	}
	if err := s.enter(ctx, t); err != nil {
		return nil, err
	}
	defer t.leave()
	resp, err := next(a, req)
	if errors.As(err, &notLeader) && asksForward(ctx) && !hopped(ctx) {
		t.leave() // the leader has its own door
		return s.forward(ctx, method, req)
	}
	return resp, err
}

// asker is the context of a call that was let in: who calls, and the ticket.
type asker struct {
	context.Context
	caller caller
	ticket ticket
}

type (
	askerKey  struct{}
	callerKey struct{}
)

// Value finds the asker itself and leaves the rest to the context around.
func (a *asker) Value(key any) any {
	switch key.(type) {
	case askerKey:
		return a
	case callerKey:
		return a.caller
	}
	return a.Context.Value(key)
}

func ticketOf(ctx context.Context) *ticket {
	if a, ok := ctx.Value(askerKey{}).(*asker); ok {
		return &a.ticket
	}
	return nil
}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

func connOf(ctx context.Context) *connAddr {
	if p, ok := peer.FromContext(ctx); ok {
		conn, _ := p.Addr.(*connAddr)
		return conn
	}
	return nil
}

// clientOf says who within the tenant asks.
func clientOf(req any, who caller) client {
	if r, ok := req.(interface{ GetSessionId() string }); ok && r.GetSessionId() != "" {
		return client{name: r.GetSessionId()}
	}
	if r, ok := req.(interface {
		GetUser() string
		GetHost() string
	}); ok && (r.GetUser() != "" || r.GetHost() != "") {
		return client{r.GetUser(), r.GetHost()}
	}
	return client{host: who.IP}
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
