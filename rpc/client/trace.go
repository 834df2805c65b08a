package client

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// Tracer makes calls part of a trace. The package oteltrace below this one has one for
// OpenTelemetry; the SDK itself depends on none.
type Tracer interface {
	// Recording says whether what is done with ctx is recorded. Only then is Start called,
	// and only then does a call go by itself instead of over the stream that a session's
	// calls share, because its trace travels with it.
	Recording(ctx context.Context) bool
	// Start begins the span of one try at one node. carry are pairs of names and values that
	// go along with the request (traceparent…); end is called once, with the answer's error.
	Start(ctx context.Context, method, address string) (called context.Context, carry []string, end func(error))
}

// traced puts tries into the trace of the call that they belong to.
func traced(t Tracer) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, send grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if !t.Recording(ctx) {
			return send(ctx, method, req, reply, cc, opts...)
		}
		ctx, carry, end := t.Start(ctx, method, addressOf(cc))
		err := send(metadata.AppendToOutgoingContext(ctx, carry...), method, req, reply, cc, opts...)
		end(err)
		return err
	}
}

// addressOf is the host:port of one of our connections.
func addressOf(cc *grpc.ClientConn) string { return cc.Target()[len(passthrough):] }

// passthrough stands before the addresses of our connections: they are dialled as they are.
const passthrough = "passthrough:///"
