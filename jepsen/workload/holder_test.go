package workload

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
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
			if _, err := h.checkout(t.Context(), "a/1", history.Item{Feature: "cad", Count: 1}); err != nil {
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

// deafThenNobody is a service whose first answer is lost and which then refuses to listen.
type deafThenNobody struct {
	api
	asked []uint64
}

func (s *deafThenNobody) Checkout(_ context.Context, r *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	switch s.asked = append(s.asked, r.Seq); len(s.asked) {
	case 1:
		return nil, context.DeadlineExceeded
	case 2:
		return nil, &client.Error{Reason: client.NotLeader}
	}
	return &pb.CheckoutResponse{}, nil
}

// A number that may have been heard once is not given to another request because a later
// try was certainly not heard.
func TestANumberInDoubtStaysWithItsRequest(t *testing.T) {
	service := &deafThenNobody{}
	recorded(t, 5, func(r *Recorder) {
		w := &worker{cfg: &Config{}, voice: r.voice("a", "grpc"), rng: rand.New(rand.NewPCG(1, 1))}
		h := newHolder(service, w, "")
		_, _ = h.checkout(t.Context(), "a/1", history.Item{Feature: "cad", Count: 1})
		for h.again != nil && len(service.asked) < 10 {
			_, _ = h.askAgain(t.Context())
		}
		_, _ = h.checkout(t.Context(), "a/2", history.Item{Feature: "cad", Count: 1})
	})
	if want := []uint64{1, 1, 1, 2}; !slices.Equal(service.asked, want) {
		t.Errorf("numbers %v, want %v", service.asked, want)
	}
}
