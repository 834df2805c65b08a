package main

import (
	"context"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// echoServer answers health checks and does nothing else.
func echoServer(ctx context.Context, args []string) error {
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	healthpb.RegisterHealthServer(s, health.NewServer())
	context.AfterFunc(ctx, s.Stop)
	return s.Serve(l)
}

// startEcho starts a server of nothing: what gRPC alone can do.
func startEcho(ctx context.Context, o options) (*peer, error) {
	free, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	p, err := self(o.dir, "echo", "echo-server", free[0])
	if err != nil {
		return nil, err
	}
	list := []*process{p}
	e := &echo{free[0]}
	if err := waitReady(ctx, list, e.once); err != nil {
		stopAll(list)
		return nil, err
	}
	return &peer{
		version: moduleVersion("google.golang.org/grpc"),
		steps:   []step{{"plain grpc echo", false, e.open}},
		notes:   []string{"a gRPC server that answers health checks: no disk, no replication, no work"},
		close:   func() { stopAll(list) },
	}, nil
}

type echo struct{ address string }

func (e *echo) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+e.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (e *echo) once(ctx context.Context) error {
	cc, err := e.dial()
	if err != nil {
		return err
	}
	defer cc.Close()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func (e *echo) open(_ context.Context, n int) (load.Maker, func(), error) {
	var conns []*grpc.ClientConn
	end := func() {
		for _, cc := range conns {
			_ = cc.Close()
		}
	}
	for range (n + clientsPerConn - 1) / clientsPerConn {
		cc, err := e.dial()
		if err != nil {
			end()
			return nil, nil, err
		}
		conns = append(conns, cc)
	}
	return func(_ context.Context, i int) (load.Worker, error) {
		return &echoer{healthpb.NewHealthClient(conns[i%len(conns)])}, nil
	}, end, nil
}

type echoer struct{ c healthpb.HealthClient }

func (e *echoer) Do(ctx context.Context, _ *load.Meter) error {
	_, err := e.c.Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

func (e *echoer) Close(context.Context) {}
