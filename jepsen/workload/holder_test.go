package workload

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// lostCheckin is a service with one lease, of whose check-in no answer comes back.
type lostCheckin struct {
	api
	lease *pb.Lease
}

func (s lostCheckin) Checkout(context.Context, *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	return &pb.CheckoutResponse{Leases: []*pb.Lease{s.lease}}, nil
}

func (s lostCheckin) Renew(context.Context, *pb.RenewRequest) (*pb.RenewResponse, error) {
	return &pb.RenewResponse{Leases: []*pb.Lease{s.lease}}, nil
}

func (s lostCheckin) Checkin(context.Context, *pb.CheckinRequest) (*pb.CheckinResponse, error) {
	return nil, context.DeadlineExceeded
}

// What a client gives back it believes in no more, even if the answer to the check-in is
// lost and a renewal still shows the lease.
func TestALeaseThatIsBeingReturnedIsNotBelievedInAgain(t *testing.T) {
	for _, ids := range [][]uint64{{7}, nil} {
		ops := recorded(t, 5, func(r *Recorder) {
			service := lostCheckin{lease: &pb.Lease{Id: 7, Feature: "cad", FencingToken: 3, RemainingMs: 60_000}}
			w := &worker{cfg: &Config{}, voice: r.voice("a", "grpc"), rng: rand.New(rand.NewPCG(1, 1))}
			h := newHolder(service, w, "")
			if _, err := h.checkout(t.Context(), "a/1", 0, history.Item{Feature: "cad", Count: 1}); err != nil {
				t.Fatal(err)
			}
			if err := h.checkin(t.Context(), false, ids...); err == nil {
				t.Fatal("the check-in was answered")
			}
			if err := h.renew(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
		believes, lost := 0, 0
		for _, op := range ops {
			switch op.F {
			case history.FBelieve:
				believes++
			case history.FLost:
				lost++
			}
		}
		if believes != 1 || lost != 1 {
			t.Errorf("check-in of %v: believed %d times, lost %d times", ids, believes, lost)
		}
	}
}
