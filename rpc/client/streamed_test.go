package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// streams is what a fake cluster does about streams.
type streams struct {
	offered bool
	full    bool // "overloaded" to whoever opens one
	tried   int  // opened or refused
	open    int
	// lost, asked with the method, ends the stream in place of the answer.
	lost func(method string) bool
	// held keeps an answer back until it is closed, nil does not.
	held chan struct{}
	// messages and carried count what came over streams.
	messages, carried int
}

func (n *fakeNode) Pipeline(stream grpc.BidiStreamingServer[pb.PipelineRequest, pb.PipelineResponse]) error {
	f := n.f
	f.mu.Lock()
	f.streams.tried++
	offered, full, leading, leader := f.streams.offered, f.streams.full, f.leader == n.addr, f.leader
	f.mu.Unlock()
	elsewhere := func(leader string) error {
		st, _ := status.New(codes.Unavailable, "not the leader").WithDetails(protoadapt.MessageV1Of(&pb.NotLeader{LeaderAddress: leader}))
		return st.Err()
	}
	switch {
	case !offered:
		return n.UnimplementedSeatsServer.Pipeline(stream)
	case full:
		return problem(codes.ResourceExhausted, lease.Overloaded, false, time.Second)
	case !leading:
		return elsewhere(leader)
	}
	f.set(func() { f.streams.open++ })
	defer f.set(func() { f.streams.open-- })
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f.set(func() { f.streams.messages++; f.streams.carried += len(r.Calls) })
		answers := &pb.PipelineResponse{}
		for _, call := range r.Calls {
			a, method := n.answer(stream.Context(), call)
			f.mu.Lock()
			lost, held := f.streams.lost != nil && f.streams.lost(method), f.streams.held
			leading, leader := f.leader == n.addr, f.leader
			f.mu.Unlock()
			if lost && !leading {
				return elsewhere(leader)
			}
			if lost {
				return status.Error(codes.Unavailable, "reset")
			}
			if held != nil {
				select {
				case <-held:
				case <-stream.Context().Done():
				}
			}
			answers.Answers = append(answers.Answers, a)
		}
		if err := stream.Send(answers); err != nil {
			return err
		}
	}
}

// answer does what the unary call does.
func (n *fakeNode) answer(ctx context.Context, call *pb.PipelineCall) (a *pb.PipelineAnswer, method string) {
	a = &pb.PipelineAnswer{Number: call.Number}
	var err error
	switch of := call.Of.(type) {
	case *pb.PipelineCall_Checkout:
		var r *pb.CheckoutResponse
		r, err = n.Checkout(ctx, of.Checkout)
		a.Of, method = &pb.PipelineAnswer_Checkout{Checkout: r}, "checkout"
	case *pb.PipelineCall_Checkin:
		var r *pb.CheckinResponse
		r, err = n.Checkin(ctx, of.Checkin)
		a.Of, method = &pb.PipelineAnswer_Checkin{Checkin: r}, "checkin"
	case *pb.PipelineCall_Renew:
		var r *pb.RenewResponse
		r, err = n.Renew(ctx, of.Renew)
		a.Of, method = &pb.PipelineAnswer_Renewed{Renewed: r}, "renew"
	}
	if err == nil {
		return a, method
	}
	p := &pb.Problem{Reason: string(UnknownOutcome)}
	for _, d := range status.Convert(err).Details() {
		switch d := d.(type) {
		case *pb.Problem:
			p = d
		case *pb.NotLeader:
			a.NotLeader, p = d, &pb.Problem{Reason: string(NotLeader)}
		}
	}
	a.Of = &pb.PipelineAnswer_Problem{Problem: p}
	return a, method
}

// streaming is a client whose calls go over a stream already, and some sessions of it.
func streaming(t *testing.T, sessions int, addrs ...string) (*fakeCluster, *Client, []*Session) {
	t.Helper()
	f := newFake(t, addrs...)
	f.total, f.streams.offered = math.MaxInt32, true
	c, s := f.open(t, f.config(addrs...), SessionConfig{})
	list := []*Session{s}
	for range sessions - 1 {
		more, err := c.OpenSession(t.Context(), SessionConfig{})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, more)
	}
	for range 2 {
		if err := take(t, list[0], "warm").Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.look(func(s streams) int { return s.open }); n != 1 {
		t.Fatalf("%d streams are open, want one", n)
	}
	return f, c, list
}

func (f *fakeCluster) look(at func(streams) int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return at(f.streams)
}

func TestManySessionsShareOneStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, _, list := streaming(t, 50, "a:1", "b:1")
		before := f.look(func(s streams) int { return s.carried })
		leases := make([]*Lease, len(list))
		var all sync.WaitGroup
		for i, s := range list {
			all.Go(func() {
				got, err := s.Checkout(t.Context(), Item{Feature: fmt.Sprint("f", i)})
				if err != nil || s.Renew(t.Context()) != nil {
					t.Error(i, err)
					return
				}
				leases[i] = got[0]
			})
		}
		all.Wait()
		ids := map[lease.ID]bool{}
		for i, l := range leases {
			if l.Feature() != fmt.Sprint("f", i) || ids[l.ID()] {
				t.Fatalf("session %d has %s, lease %d", i, l.Feature(), l.ID())
			}
			ids[l.ID()] = true
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		}
		carried := f.look(func(s streams) int { return s.carried }) - before
		if tried := f.look(func(s streams) int { return s.tried }); carried != 3*len(list) || tried != 1 {
			t.Errorf("%d calls over %d streams, want %d over one", carried, tried, 3*len(list))
		}
		if n := f.seatsInUse(); n != 0 {
			t.Errorf("%d seats in use", n)
		}
	})
}

func TestAnswerLostWithItsStreamIsAskedForAgainWithTheSameSeq(t *testing.T) {
	for _, method := range []string{"checkout", "checkin", "renew"} {
		t.Run(method, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f, _, list := streaming(t, 1, "a:1")
				s := list[0]
				var seqs []uint64
				losses := 0
				f.set(func() {
					f.streams.lost = func(m string) bool {
						if m == method {
							losses++
						}
						return m == method && losses == 1
					}
					f.before = func(_ string, req any) error {
						if r, ok := req.(interface{ GetSeq() uint64 }); ok {
							seqs = append(seqs, r.GetSeq())
						}
						return nil
					}
				})
				l := take(t, s, "cad")
				if err := s.Renew(t.Context()); err != nil {
					t.Error(err)
				}
				if !l.Valid() || f.seatsInUse() != 1 {
					t.Errorf("%v, %d seats in use", l.State(), f.seatsInUse())
				}
				if err := l.CheckIn(t.Context()); err != nil || f.seatsInUse() != 0 {
					t.Errorf("%v, %d seats in use", err, f.seatsInUse())
				}
				if want := map[string]string{"checkout": "[5 5 6]", "checkin": "[5 6 6]", "renew": "[5 6]"}[method]; fmt.Sprint(seqs) != want || losses < 2 {
					t.Errorf("seqs %v, want %s; %d tries", seqs, want, losses)
				}
			})
		})
	}
}

// The end of a stream names the new leader, and says nothing of the call that was on its
// way: it may have been applied.
func TestLeaderChangeInTheMiddleOfAStreamedCheckoutKeepsItsSeq(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, _, list := streaming(t, 1, "a:1", "b:1")
		f.set(func() {
			f.streams.lost = func(string) bool {
				moved := f.leader == "b:1"
				f.leader = "b:1"
				return !moved
			}
		})
		l := take(t, list[0], "cad")
		if n := f.seatsInUse(); n != 1 || !l.Valid() {
			t.Errorf("%d seats in use, the lease is %v", n, l.State())
		}
		for range 2 {
			if err := take(t, list[0], "more").Close(); err != nil {
				t.Error(err)
			}
		}
		synctest.Wait()
		if open, tried := f.look(func(s streams) int { return s.open }), f.look(func(s streams) int { return s.tried }); open != 1 || tried < 2 {
			t.Errorf("%d streams open of %d, want one at the new leader", open, tried)
		}
	})
}

// Who is told "not the leader" by the end of a stream must not believe that what was sent
// was not applied.
func TestCallThatWasOnItsWayWhenLeadershipWasLostHasAnUnknownOutcome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, _, list := streaming(t, 1, "a:1", "b:1")
		f.set(func() {
			f.streams.lost = func(string) bool {
				f.leader, f.hint = "nobody", ""
				return true
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := list[0].Checkout(ctx, Item{Feature: "cad"}); !reasonIs(err, UnknownOutcome) {
			t.Errorf("%v, want an unknown outcome: the seat is taken (%d)", err, f.seatsInUse())
		}
	})
}

func TestCallThatIsGivenUpLeavesTheStreamUsable(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, c, list := streaming(t, 2, "a:1")
		held := make(chan struct{})
		f.set(func() { f.streams.held = held })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := list[0].Checkout(ctx, Item{Feature: "cad"})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !reasonIs(err, UnknownOutcome) {
			t.Errorf("given up: %v, want an unknown outcome", err)
		}
		p := c.links.byAddr["a:1"].pipeline
		p.mu.Lock()
		for _, x := range slices.Concat(p.out, slices.Collect(maps.Values(p.waiting))) {
			if x.call.GetCheckout() != nil { // a heartbeat that asks what became of it may be there
				t.Error("the stream still knows the call")
			}
		}
		p.mu.Unlock()
		f.set(func() { f.streams.held = nil })
		close(held)
		take(t, list[1], "cad")
		synctest.Wait()
		if tried := f.look(func(s streams) int { return s.tried }); tried != 1 {
			t.Errorf("%d streams, want the same one", tried)
		}
		time.Sleep(time.Minute) // the heartbeat finds what nobody wants, and returns it
		if n := f.seatsInUse(); n != 1 {
			t.Errorf("%d seats in use, want the other session's", n)
		}
	})
}

func TestStreamedRefusalsLookLikeUnaryOnes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, _, list := streaming(t, 1, "a:1")
		f.set(func() { f.total = 0 })
		if _, err := list[0].Checkout(t.Context(), Item{Feature: "cad"}); !reasonIs(err, lease.NoSeats) {
			t.Errorf("%v, want no seats", err)
		}
		busy := 2
		f.set(func() {
			f.total = 5
			f.before = func(string, any) error {
				if busy--; busy >= 0 {
					return problem(codes.ResourceExhausted, lease.Overloaded, false, 3*time.Second)
				}
				return nil
			}
		})
		began := time.Now()
		take(t, list[0], "cad")
		if took := time.Since(began); took < 6*time.Second {
			t.Errorf("asked again after %v, was told to wait 3 s twice", took)
		}
	})
}

// A node without streams, or with none to spare, costs one question now and then.
func TestCallsAreUnaryWhereThereAreNoStreams(t *testing.T) {
	for name, set := range map[string]func(*streams){
		"not offered": func(s *streams) { s.offered = false },
		"full":        func(s *streams) { s.offered, s.full = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t, "a:1")
				set(&f.streams)
				_, s := f.open(t, f.config("a:1"), SessionConfig{})
				for range 10 {
					if err := take(t, s, "cad").Close(); err != nil {
						t.Fatal(err)
					}
				}
				if n := f.look(func(s streams) int { return s.tried }); n != 1 || f.count("checkout") != 10 {
					t.Errorf("a stream was tried %d times in %d checkouts, want once in 10", n, f.count("checkout"))
				}
				f.set(func() { f.streams = streams{offered: true, tried: 1} })
				time.Sleep(unaryAfterNone)
				for range 2 {
					take(t, s, "cad")
				}
				if n := f.look(func(s streams) int { return s.open }); n != 1 {
					t.Errorf("%d streams after a while, want one", n)
				}
			})
		})
	}
}

// One session and its heartbeat do not keep a stream open.
func TestQuietClientKeepsNoStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f, _, list := streaming(t, 1, "a:1")
		take(t, list[0], "cad")
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := f.look(func(s streams) int { return s.open }); n != 0 {
			t.Errorf("%d streams are open after minutes of heartbeats alone", n)
		}
		if f.count("renew") < 5 || f.seatsInUse() != 1 {
			t.Errorf("%d heartbeats, %d seats", f.count("renew"), f.seatsInUse())
		}
	})
}

func TestPipelineSendsTogetherWhatComesTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		f.streams.offered = true
		c, _ := f.open(t, f.config("a:1"), SessionConfig{})
		k, err := c.links.take("a:1")
		if err != nil {
			t.Fatal(err)
		}
		defer c.links.put(k)
		p := OpenPipeline(t.Context(), k)
		defer p.Close()
		const calls = 3*messageCalls + 1
		var all sync.WaitGroup
		p.mu.Lock() // they wait here, and then all come together
		for range calls {
			all.Go(func() {
				_, err := p.Renew(t.Context(), &pb.RenewRequest{SessionId: "nobody"})
				if v := judge(err, true); v.err == nil || v.err.Reason != lease.SessionUnknown {
					t.Error(err)
				}
			})
		}
		p.mu.Unlock()
		all.Wait()
		if n, carried := f.look(func(s streams) int { return s.messages }), f.look(func(s streams) int { return s.carried }); carried != calls || n > calls/2 {
			t.Errorf("%d calls in %d messages", carried, n)
		}
		if _, err := p.Renew(t.Context(), &pb.RenewRequest{SessionSecret: strings.Repeat("x", maxRequest)}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("an oversized request: %v", err)
		}
		p.Close()
		if _, err := p.Renew(t.Context(), &pb.RenewRequest{}); err == nil || p.Err() == nil {
			t.Error("a closed stream takes calls")
		}
	})
}
