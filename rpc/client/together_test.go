package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (n *fakeNode) RenewBatch(ctx context.Context, r *pb.RenewBatchRequest) (*pb.RenewBatchResponse, error) {
	return serve(n, ctx, "batch", r, func() (*pb.RenewBatchResponse, error) {
		f := n.f
		resp := &pb.RenewBatchResponse{}
		width := len(r.SessionSecrets) / len(r.Incarnations)
		for i, inc := range r.Incarnations {
			id := lease.SessionID(r.SessionIds[16*i:])
			s, err := f.find(id.String(), string(r.SessionSecrets[width*i:width*(i+1)]), inc)
			result, sum := pb.RenewResult_RENEW_RESULT_RENEWED, uint64(0)
			if err != nil {
				result = pb.RenewResult_RENEW_RESULT_SESSION_UNKNOWN
			} else {
				s.renewed = time.Now()
				if len(s.lost) > 0 && !f.forgetful {
					result = pb.RenewResult_RENEW_RESULT_RENEWED_WITH_NEWS
				}
				sum = lease.SumRefs(func(yield func(lease.Ref) bool) {
					for _, l := range s.leases {
						if !yield(lease.Ref{ID: lease.ID(l.Id), Token: lease.Token(l.FencingToken)}) {
							return
						}
					}
				})
			}
			resp.Results = append(resp.Results, result)
			resp.RemainingMs = append(resp.RemainingMs, uint32(f.lifespan.Milliseconds()))
			resp.GraceMs = append(resp.GraceMs, uint32(f.grace.Milliseconds()))
			resp.HeldSums = append(resp.HeldSums, sum)
		}
		if f.sumless {
			resp.HeldSums = nil
		}
		return resp, nil
	})
}

// openMany makes one client with n sessions that hold a seat each, begun at different
// times.
func (f *fakeCluster) openMany(t *testing.T, n int) []*Lease {
	t.Helper()
	f.set(func() { f.total = n })
	cfg := f.config("a:1")
	cfg.BatchHeartbeats = true
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeNow(c) })
	var leases []*Lease
	for i := range n {
		s, err := c.OpenSession(t.Context(), SessionConfig{Principal: lease.Principal{User: fmt.Sprint("u", i), Host: "h"}})
		if err != nil {
			t.Fatal(err)
		}
		leases = append(leases, take(t, s, "cad"))
		time.Sleep(40 * time.Second / time.Duration(n))
	}
	return leases
}

func TestHeartbeatsOfManySessionsAreOneMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		leases := f.openMany(t, 200)
		time.Sleep(2 * time.Minute) // they find each other
		f.set(func() { f.calls = nil })
		for range 100 {
			time.Sleep(6 * time.Second)
			for _, l := range leases {
				wantState(t, l, Active)
			}
		}
		// 600 s at 32 to 40 s each.
		if n := f.count("batch"); n < 15 || n > 19 {
			t.Errorf("%d messages for 200 sessions in ten minutes, want 15 to 19", n)
		}
		if n := f.count("renew"); n != 0 {
			t.Errorf("%d heartbeats went by themselves", n)
		}
	})
}

func TestASessionLearnsOfItsLossFromAMessageForMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		leases := f.openMany(t, 3)
		lost := leases[1].Lost()
		f.set(func() {
			s := f.sessions[leases[1].Session().ID().String()]
			l := s.leases[0]
			s.leases, s.lost = nil, []*pb.LostLease{{Id: l.Id, FencingToken: l.FencingToken, Feature: l.Feature, Reason: "removed_by_admin"}}
		})
		time.Sleep(41 * time.Second)
		synctest.Wait()
		if !isClosed(lost) || leases[1].Reason() != "removed_by_admin" {
			t.Errorf("lost: %v, reason %q", isClosed(lost), leases[1].Reason())
		}
		wantState(t, leases[0], Active)
		wantState(t, leases[2], Active)
	})
}

// After a restore the ledger may know another lease of the session than the session
// itself, and remember no loss: the short answer must confirm nothing then.
func TestAShortAnswerAboutOtherLeasesConfirmsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		leases := f.openMany(t, 3)
		f.set(func() {
			f.forgetful = true
			l := f.sessions[leases[1].Session().ID().String()].leases[0]
			l.Id, l.FencingToken = 9999, 9999
		})
		time.Sleep(41 * time.Second)
		synctest.Wait()
		if leases[1].Valid() || leases[1].Reason() != lease.Fenced {
			t.Errorf("valid %v, reason %q: want lost, fenced", leases[1].Valid(), leases[1].Reason())
		}
		wantState(t, leases[0], Active)
	})
}

func TestHeartbeatsGoOneByOneWhereNodesTakeNoneTogether(t *testing.T) {
	for name, old := range map[string]func(f *fakeCluster){
		"not at all": func(f *fakeCluster) {
			f.before = func(method string, _ any) error {
				if method == "batch" {
					return problem(codes.Unimplemented, lease.Invalid, true, 0)
				}
				return nil
			}
		},
		"without sums": func(f *fakeCluster) { f.sumless = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t, "a:1")
				f.set(func() { old(f) })
				leases := f.openMany(t, 3)
				for range 50 {
					time.Sleep(5 * time.Second)
					for _, l := range leases {
						wantState(t, l, Active)
					}
				}
				if n := f.count("batch"); n > 1 {
					t.Errorf("%d messages were tried in 250 s, want one", n)
				}
			})
		})
	}
}

func TestSessionsInOneMessageOutliveAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		leases := f.openMany(t, 20)
		f.set(func() { f.nodes["a:1"].down, f.leader = true, "" })
		time.Sleep(150 * time.Second)
		for _, l := range leases {
			if !l.Valid() {
				t.Fatalf("lost in its grace: %s", l.Reason())
			}
		}
		f.set(func() { f.nodes["a:1"].down, f.leader = false, "a:1" })
		time.Sleep(10 * time.Second)
		for _, l := range leases {
			wantState(t, l, Active)
		}
	})
}

func TestARememberedSessionIsResumedAfterASuspend(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		var kept SavedSession
		remember := func(s SavedSession) error { kept = s; return nil }
		_, first := f.open(t, f.config("a:1"), SessionConfig{Remember: remember})
		l := take(t, first, "cad")
		first.Suspend()
		if l.Valid() || f.seatsInUse() != 1 || f.count("checkin") != 0 {
			t.Fatalf("after a suspend: valid %v, %d seats in use, %d returns", l.Valid(), f.seatsInUse(), f.count("checkin"))
		}
		_, second := f.open(t, f.config("a:1"), SessionConfig{Remember: remember, Resumed: kept})
		if second.ID() != first.ID() || second.Incarnation() != 2 || kept.Incarnation != 2 {
			t.Errorf("session %s run %d (kept %d), want %s run 2", second.ID(), second.Incarnation(), kept.Incarnation, first.ID())
		}
		if held := second.Leases(); len(held) != 1 || held[0].Ref() != l.Ref() || !held[0].Valid() {
			t.Errorf("the next run holds %v, want lease %v", held, l.Ref())
		}
	})
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		c, err := New(f.config("a:1"))
		if err != nil {
			t.Fatal(err)
		}
		defer closeNow(c)
		full := errors.New("no space")
		if _, err := c.OpenSession(t.Context(), SessionConfig{Remember: func(SavedSession) error { return full }}); !errors.Is(err, full) {
			t.Errorf("a session that cannot be remembered opens: %v", err)
		}
	})
}

// What only a whole heartbeat can say is said.
func TestASessionThatTellsIdleTimeAsksByItself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "a:1")
		leases := f.openMany(t, 3)
		f.set(func() { f.total++ })
		var told atomic.Int64
		s, err := leases[0].Session().c.OpenSession(t.Context(), SessionConfig{Idle: func() time.Duration { told.Add(1); return time.Minute }})
		if err != nil {
			t.Fatal(err)
		}
		take(t, s, "cad")
		time.Sleep(2 * time.Minute)
		if n := told.Load(); n < 3 {
			t.Errorf("it was asked for its idle time %d times in three intervals", n)
		}
	})
}
