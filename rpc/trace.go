package rpc

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A traced call is a span here with its admission, and what the cluster makes of it, below
// it. The caller's trace is taken up by the W3C's traceparent, whichever door it came
// through, and handed on where the call is forwarded. Attributes name methods, nodes and
// reasons: no user, no host, and nothing that opens a door.

// w3c reads and writes traceparent and tracestate.
var w3c propagation.TraceContext

// carrier is gRPC metadata as the propagator sees it.
type carrier metadata.MD

func (c carrier) Get(key string) string {
	if v := metadata.MD(c).Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}
func (c carrier) Set(key, value string) { metadata.MD(c).Set(key, value) }
func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

// tracing says whether calls of a method may be spans.
func (s *Server) tracing(method string) bool {
	return s.cfg.Tracer != nil && strings.HasPrefix(method, ownServices)
}

// beginSpan begins the span of a call that came in.
func (s *Server) beginSpan(ctx context.Context, method string) (context.Context, trace.Span) {
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = w3c.Extract(ctx, carrier(in))
	}
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	return s.cfg.Tracer.Start(ctx, strings.TrimPrefix(method, "/"), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", name),
		attribute.String("seatkeeper.node", s.cfg.Node.ID())))
}

// endSpan says how a call was answered; nil means well.
func endSpan(span trace.Span, st *status.Status) {
	span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(st.Code())))
	if st.Code() != grpccodes.OK {
		problem, elsewhere := details(st)
		if reason := problem.GetReason(); reason != "" {
			span.SetAttributes(attribute.String("seatkeeper.reason", reason))
		}
		if elsewhere == nil { // to be redirected is no error
			span.SetStatus(codes.Error, codeName(st.Code()))
		}
	}
	span.End()
}

// enter is ticket.enter as a span of a traced call.
func (s *Server) enter(ctx context.Context, t *ticket) error {
	if s.cfg.Tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return t.enter(ctx)
	}
	_, span := s.cfg.Tracer.Start(ctx, "seatkeeper.admission", trace.WithAttributes(attribute.String("seatkeeper.class", classNames[t.class])))
	defer span.End()
	err := t.enter(ctx)
	if err != nil {
		span.SetStatus(codes.Error, "refused")
	}
	return err
}

// forwarding begins the span of a forwarded call and puts its trace into what goes out.
func (s *Server) forwarding(ctx context.Context, to string, out metadata.MD) (context.Context, trace.Span) {
	if s.cfg.Tracer == nil {
		return ctx, noop.Span{}
	}
	ctx, span := s.cfg.Tracer.Start(ctx, "seatkeeper.forward", trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attribute.String("server.address", to)))
	w3c.Inject(ctx, carrier(out))
	return ctx, span
}
