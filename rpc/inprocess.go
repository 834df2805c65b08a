package rpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// inProcess is the connection between the JSON side and the services: it calls the
// same handlers through the same interceptor as the gRPC server does. It is not a
// socket, so the caller's address stays in the context, where nobody can forge it,
// and calls that wait for seats use up no stream.
type inProcess struct {
	intercept grpc.UnaryServerInterceptor
	methods   map[string]inProcessMethod
}

type inProcessMethod struct {
	service any
	desc    grpc.MethodDesc
}

func newInProcess(intercept grpc.UnaryServerInterceptor) *inProcess {
	return &inProcess{intercept: intercept, methods: make(map[string]inProcessMethod)}
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *inProcess) RegisterService(desc *grpc.ServiceDesc, service any) {
	for _, m := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+m.MethodName] = inProcessMethod{service, m}
	}
}

// Invoke implements grpc.ClientConnInterface.
func (c *inProcess) Invoke(ctx context.Context, method string, args, reply any, _ ...grpc.CallOption) error {
	m, ok := c.methods[method]
	if !ok {
		return status.Errorf(codes.Unimplemented, "no such method: %s", method)
	}
	if out, ok := metadata.FromOutgoingContext(ctx); ok {
		ctx = metadata.NewIncomingContext(ctx, out)
	}
	decode := func(into any) error {
		proto.Merge(into.(proto.Message), args.(proto.Message))
		return nil
	}
	resp, err := m.desc.Handler(m.service, ctx, decode, c.intercept)
	if err != nil {
		return err
	}
	proto.Merge(reply.(proto.Message), resp.(proto.Message))
	return nil
}

// NewStream implements grpc.ClientConnInterface. No JSON path streams.
func (c *inProcess) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Error(codes.Unimplemented, "streams are served by gRPC only")
}
