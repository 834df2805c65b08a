package rpc

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/metadata"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func TestTracingThatIsOffCostsNothing(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{}
	tk := &ticket{a: newAdmission(admitLimits{perTenant: 8, shared: 8, perClient: 8, total: 8}, m), tenant: "default", class: keeping}
	ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
	plain := testing.AllocsPerRun(200, func() {
		if err := tk.enter(ctx); err != nil {
			t.Fatal(err)
		}
		tk.leave()
	})
	tracingOff := testing.AllocsPerRun(200, func() {
		if s.tracing(pb.Seats_Checkout_FullMethodName) {
			t.Fatal("it is on")
		}
		if err := s.enter(ctx, tk); err != nil {
			t.Fatal(err)
		}
		tk.leave()
	})
	if tracingOff > plain {
		t.Errorf("%v allocations a call without a tracer, %v before", tracingOff, plain)
	}
}
