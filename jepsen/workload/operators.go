package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// changeEvery is how often an operator does something, on average.
const changeEvery = 1500 * time.Millisecond

// runOperator changes the policy and revokes borrowed seats.
func runOperator(ctx context.Context, w *worker) error {
	a, err := newSDK(w.place, w.cfg.Addresses)
	if err != nil {
		return err
	}
	for n := 0; ctx.Err() == nil; {
		if w.control.Mode() == Closing {
			return nil
		}
		if w.control.Mode() == Load {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			if w.rng.IntN(2) == 0 {
				w.revoke(call, a)
			}
			switch w.rng.IntN(5) {
			case 0:
				newHolder(a, w, "").kill(call, w.cfg.Queued)
			default:
				w.policy(call, a.c, n)
				n++
			}
			cancel()
		}
		w.sleep(ctx, changeEvery/2+time.Duration(w.rng.Int64N(int64(changeEvery))))
	}
	return nil
}

// policy puts one of a few policies in place. Jobs and borrowers are in none: what they are
// promised no rule of somebody else may take away.
func (w *worker) policy(ctx context.Context, c *client.Client, n int) {
	name, p := w.draw(n)
	ask := history.Policy{Name: name}
	w.voice.do(history.Op{F: history.FPolicy, Value: &ask, Request: w.voice.newRequest()}, func() outcome {
		answer, err := pb.NewPoliciesClient(c).PolicyApply(ctx, &pb.PolicyApplyRequest{Policy: p})
		if err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result, got.Version = history.Done, answer.Version
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
}

// The waiters that policies name.
const (
	capped   = "capped"
	fast     = "fast"
	favoured = "waiter-3" // has seats reserved
	shunned  = "shunned"  // are excluded now and then
)

// draw makes the n-th policy: priorities always, and by turns a cap, a reservation, an
// exclusion, or all of them.
func (w *worker) draw(n int) (name string, p *pb.Policy) {
	p = &pb.Policy{Groups: []*pb.PolicyGroup{
		{Name: fast, Members: []string{"waiter-1", "webwaiter-1"}, Priority: 10},
		{Name: capped, Members: []string{"waiter-2", "webwaiter-2", "sdkwaiter-2"}},
		{Name: shunned, Members: []string{"waiter-4", "webwaiter-4"}},
	}}
	seats := 1 + w.rng.IntN(2)
	capRule := &pb.PolicyRule{Kind: "max", Feature: w.cfg.Queued, WhoType: "group", Who: capped, Seats: int32(seats)}
	keep := &pb.PolicyRule{Kind: "reserve", Feature: w.cfg.Queued, WhoType: "user", Who: favoured, Seats: int32(seats)}
	shun := &pb.PolicyRule{Kind: "exclude", Feature: w.cfg.Queued, WhoType: "group", Who: shunned}
	switch n % 5 {
	case 0:
		p.Rules = append(p.Rules, capRule)
	case 1:
		p.Rules = append(p.Rules, keep, shun)
	case 2:
		p.Rules = append(p.Rules, capRule, keep)
	case 3:
		p.Rules = append(p.Rules, shun, capRule)
	}
	return fmt.Sprintf("%d of %d", n%5, seats), p
}

// revoke forbids the use of some borrowed seat, whose holder does not hear of it.
func (w *worker) revoke(ctx context.Context, a *sdkAPI) {
	listed := readLeases(ctx, w.voice, a, "", w.cfg.Borrowed, false, "")
	if listed == nil {
		return
	}
	for _, l := range listed.Leases {
		if l.State != "borrowed" {
			continue
		}
		ask := history.Return{ID: l.Id, Token: l.FencingToken}
		w.voice.do(history.Op{F: history.FRevoke, Value: &ask, Request: w.voice.newRequest()}, func() outcome {
			answer, err := a.c.Borrowing().RevokeBorrow(ctx, &pb.RevokeBorrowRequest{LeaseId: l.Id})
			if err != nil {
				return outcome{err: err}
			}
			got := ask
			got.Result = history.Done
			return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
		})
		return
	}
}
