package rpc

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

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
