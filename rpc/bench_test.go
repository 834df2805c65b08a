package rpc

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	sdk "github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// BenchmarkIntercept is what every call costs beside its work.
func BenchmarkIntercept(b *testing.B) {
	s, err := New(Config{Node: &fakeNode{}})
	if err != nil {
		b.Fatal(err)
	}
	ctx := peer.NewContext(context.Background(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}})
	req := &pb.CheckoutRequest{SessionId: "0123456789abcdef0123456789abcdef", Feature: "cad"}
	info := &grpc.UnaryServerInfo{FullMethod: pb.Seats_Checkout_FullMethodName}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.intercept(ctx, req, info, func(ctx context.Context, req any) (any, error) { return req, nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefusal is what a call costs that finds no room.
func BenchmarkRefusal(b *testing.B) {
	s, err := New(Config{Node: &fakeNode{}, InFlight: 1, ClientInFlight: 1})
	if err != nil {
		b.Fatal(err)
	}
	info := &grpc.UnaryServerInfo{FullMethod: pb.Seats_Renew_FullMethodName}
	full := overloaded("full")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.intercept(context.Background(), &pb.RenewRequest{}, info, func(context.Context, any) (any, error) { return nil, full }); err == nil {
			b.Fatal("not refused")
		}
	}
}

// BenchmarkPipeline is what a checkout and a check-in cost over a stream that five clients
// share, without a cluster beneath: both sides of the wire, and the ledger once.
func BenchmarkPipeline(b *testing.B) {
	for name, streamed := range map[string]bool{"streamed": true, "unary": false} {
		b.Run(name, func(b *testing.B) { benchCycles(b, streamed) })
	}
}

func benchCycles(b *testing.B, streamed bool) {
	node := newFakeNode(b)
	a := startAPI(b, node, nil)
	cc := a.dial(b)
	var seats takes = pb.NewSeatsClient(cc)
	if streamed {
		p := sdk.OpenPipeline(b.Context(), cc)
		defer p.Close()
		seats = p
	}
	const clients = 5 // of the pool of ten
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ResetTimer()
	for c := range clients {
		all.Go(func() {
			id, seq := fmt.Sprintf("%032x", c+1), uint64(0)
			for left.Add(-1) >= 0 {
				seq++
				got, err := seats.Checkout(b.Context(), &pb.CheckoutRequest{Feature: "cad", User: "ann", Host: id, SessionId: id, SessionSecret: id, Incarnation: 1, Seq: seq})
				if err != nil {
					b.Error(err)
					return
				}
				seq++
				if _, err = seats.Checkin(b.Context(), &pb.CheckinRequest{SessionId: id, SessionSecret: id, Incarnation: 1, Seq: seq,
					Refs: []*pb.LeaseRef{{Id: got.Leases[0].Id, FencingToken: got.Leases[0].FencingToken}}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkRenew is what a unary heartbeat costs, both sides of the wire, without a cluster
// beneath.
func BenchmarkRenew(b *testing.B) {
	node := newFakeNode(b)
	a := startAPI(b, node, nil)
	seats := pb.NewSeatsClient(a.dial(b))
	const clients = 5
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for c := range clients {
		id := fmt.Sprintf("%032x", c+1)
		if _, err := seats.Checkout(b.Context(), &pb.CheckoutRequest{Feature: "cad", User: "ann", Host: id, SessionId: id, SessionSecret: id, Incarnation: 1, Seq: 1}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for c := range clients {
		all.Go(func() {
			id := fmt.Sprintf("%032x", c+1)
			for left.Add(-1) >= 0 {
				if _, err := seats.Renew(b.Context(), &pb.RenewRequest{SessionId: id, SessionSecret: id, Incarnation: 1}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

type takes interface {
	Checkout(ctx context.Context, r *pb.CheckoutRequest, opts ...grpc.CallOption) (*pb.CheckoutResponse, error)
	Checkin(ctx context.Context, r *pb.CheckinRequest, opts ...grpc.CallOption) (*pb.CheckinResponse, error)
}
