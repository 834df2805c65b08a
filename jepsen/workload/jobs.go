package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// job is a worker that books seats, as a scheduler does, and then uses them.
type job struct {
	*worker
	h *holder
	c *client.Client
	// ask is the booking at hand; nil: none. sure: it was acknowledged.
	ask  *history.Book
	sure bool
	uses int // checkouts left
	jobs int
	then time.Time // what is held is given back, or the booking let go
}

// runJob books seats, takes some of them a moment later, gives them back, takes them once
// more, and cancels what is left or lets it run out.
func runJob(ctx context.Context, w *worker) error {
	a, err := newSDK(w.place, w.cfg.Addresses)
	if err != nil {
		return err
	}
	x := &job{worker: w, h: newHolder(a, w, ""), c: a.c}
	for ctx.Err() == nil {
		if w.control.Mode() == Closing {
			return x.h.closeSession(ctx)
		}
		x.step(ctx)
	}
	return nil
}

func (x *job) step(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	x.h.sweep()
	load := x.control.Mode() == Load
	switch {
	case x.h.again != nil:
		if _, err := x.h.askAgain(call); err != nil {
			x.nap(ctx, askEvery)
		}
	case len(x.h.held) > 0 && x.h.beatDue():
		_ = x.h.renew(call)
	case len(x.h.held) > 0 && load && time.Now().After(x.then):
		_ = x.h.checkin(call, false)
	case len(x.h.held) > 0:
		x.nap(ctx, 100*time.Millisecond)
	case x.ask != nil && !x.sure:
		x.book(call)
	case x.ask != nil && x.uses > 0 && load:
		x.nap(ctx, time.Duration(x.rng.Int64N(int64(time.Second))))
		x.use(call)
	case x.ask != nil:
		x.end(call)
	case !load:
		x.nap(ctx, time.Second)
	default:
		x.think(ctx)
		x.jobs++
		x.ask = &history.Book{ID: fmt.Sprintf("%s-%d", x.name, x.jobs), User: x.name, ForMS: 2500 + x.rng.Int64N(4000),
			Items: []history.Item{{Feature: x.cfg.Booked, Count: 1 + x.rng.IntN(2)}}}
		x.uses = 1 + x.rng.IntN(2)
		x.book(call)
	}
}

// book asks for the booking at hand: the same one again is the same one.
func (x *job) book(ctx context.Context) {
	it := x.ask.Items[0]
	r := &pb.BookingCreateRequest{Id: x.ask.ID, Items: []*pb.Item{{Feature: it.Feature, Count: int32(it.Count)}}, ForMs: uint64(x.ask.ForMS), User: x.ask.User}
	o := x.voice.do(history.Op{F: history.FBook, Value: x.ask, Request: x.ask.ID}, func() outcome {
		answer, err := x.c.Queue().BookingCreate(ctx, r)
		if err != nil {
			return outcome{err: err}
		}
		got := *x.ask
		got.Result, got.Replayed = history.Done, answer.Replayed
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	if o.err == nil {
		x.sure = true
		return
	}
	if typ, _, _ := judge(o.err); typ == history.OK {
		x.ask, x.sure = nil, false // a definite no
	}
}

// use takes all or some of what is booked.
func (x *job) use(ctx context.Context) {
	x.uses--
	it := x.ask.Items[0]
	it.Count = 1 + x.rng.IntN(it.Count)
	x.h.booking = x.ask.ID
	_, _ = x.h.checkout(ctx, x.h.voice.newRequest(), it)
	x.then = time.Now().Add(time.Duration(x.rng.Int64N(int64(holdFor))))
}

// end cancels the booking, or forgets it.
func (x *job) end(ctx context.Context) {
	if x.rng.IntN(2) == 0 {
		ask := history.Book{ID: x.ask.ID}
		x.voice.do(history.Op{F: history.FCancel, Value: &ask, Request: ask.ID + "/cancel"}, func() outcome {
			answer, err := x.c.Queue().BookingCancel(ctx, &pb.BookingCancelRequest{Id: ask.ID})
			if err != nil {
				return outcome{err: err}
			}
			got := ask
			got.Result = history.Done
			return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
		})
	}
	x.ask, x.sure = nil, false
}
