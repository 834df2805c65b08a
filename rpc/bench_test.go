package rpc

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

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
