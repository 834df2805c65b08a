package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/bench/load"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// forgetful is a server that does what it is asked for and loses the answers it is told to.
type forgetful struct {
	pb.UnimplementedSeatsServer
	mu    sync.Mutex
	lose  []codes.Code // of the next answers; OK: not lost
	asked []string
}

func (f *forgetful) next(what string, seq uint64, session string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, fmt.Sprint(what, " ", seq, " ", session[:4]))
	if len(f.lose) == 0 {
		return nil
	}
	code := f.lose[0]
	f.lose = f.lose[1:]
	return status.Error(code, "lost")
}

func (f *forgetful) Checkout(_ context.Context, r *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	return &pb.CheckoutResponse{Leases: []*pb.Lease{{Id: 7, FencingToken: 8}}}, f.next("checkout", r.Seq, r.SessionId)
}

func (f *forgetful) Checkin(_ context.Context, r *pb.CheckinRequest) (*pb.CheckinResponse, error) {
	if len(r.Refs) != 1 || r.Refs[0].Id != 7 {
		return nil, status.Error(codes.Internal, "not the lease that was granted")
	}
	return &pb.CheckinResponse{}, f.next("checkin", r.Seq, r.SessionId)
}

// Or every answer that a kill swallows leaves a seat behind, until nobody gets one.
func TestAProberAsksAgainWithTheSameNumber(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, f := grpc.NewServer(), &forgetful{lose: []codes.Code{codes.Unavailable, codes.DeadlineExceeded, codes.OK, codes.Canceled, codes.OK}}
	pb.RegisterSeatsServer(s, f)
	go func() { _ = s.Serve(l) }()
	defer s.Stop()
	w := &Wire{target: &Target{Addresses: []string{l.Addr().String()}, Tenants: []string{"a"}, Feature: "seat"}, conns: 1, byAddr: map[string][]*grpc.ClientConn{}}
	defer w.Close()
	p := w.newProber(0, 1)
	for range 6 {
		_ = p.try(t.Context())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := p.h.id[:4]
	want := []string{"checkout 1 " + id, "checkout 1 " + id, "checkout 1 " + id, "checkin 2 " + id, "checkin 2 " + id, "checkout 3 " + id}
	if !slices.Equal(f.asked, want) {
		t.Errorf("asked %q, want %q", f.asked, want)
	}
}

func TestWhatClientsWereToldIsNamedWhenNobodyIsServed(t *testing.T) {
	a := newFirstAck()
	a.no(&load.Reasoned{Reason: "before_the_kill"})
	a.expect(time.Now())
	a.acked(time.Now().Add(-time.Minute)) // sent before the kill
	for range 3 {
		a.no(&load.Reasoned{Reason: "sessions_exceeded", Err: errors.New("as many as may share it do")})
	}
	_, err := a.wait(t.Context(), time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "sessions_exceeded (3 times); at last: sessions_exceeded: as many as may share it do") || strings.Contains(err.Error(), "before_the_kill") {
		t.Errorf("error %v", err)
	}
	a.acked(time.Now().Add(time.Minute))
	if took, err := a.wait(t.Context(), time.Minute); err != nil || took <= 0 {
		t.Errorf("%v, %v", took, err)
	}
}
