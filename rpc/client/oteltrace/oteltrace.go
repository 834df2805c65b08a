// Package oteltrace makes the calls of the SDK spans of OpenTelemetry, and hands the trace on
// to the cluster by the W3C's traceparent. It needs OpenTelemetry's API only; which traces
// are recorded, and where they go, is the application's to set up.
package oteltrace

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// scope names who made the spans.
const scope = "github.com/seatkeeper/seatkeeper/rpc/client"

// New returns a tracer for client.Config. Calls made within a recorded span become its
// children, one for each node that was tried; heartbeats belong to no call and make none.
func New(provider trace.TracerProvider) client.Tracer { return tracer{provider.Tracer(scope)} }

type tracer struct{ of trace.Tracer }

func (t tracer) Recording(ctx context.Context) bool { return trace.SpanFromContext(ctx).IsRecording() }

func (t tracer) Start(ctx context.Context, method, address string) (context.Context, []string, func(error)) {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	ctx, span := t.of.Start(ctx, strings.TrimPrefix(method, "/"), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("rpc.system", "grpc"), attribute.String("rpc.service", service), attribute.String("rpc.method", name),
		attribute.String("server.address", address)))
	carry := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carry)
	var pairs []string
	for k, v := range carry {
		pairs = append(pairs, k, v)
	}
	return ctx, pairs, func(err error) {
		st := status.Convert(err)
		span.SetAttributes(attribute.Int("rpc.grpc.status_code", int(st.Code())))
		if err != nil {
			span.SetStatus(codes.Error, st.Code().String())
		}
		span.End()
	}
}
