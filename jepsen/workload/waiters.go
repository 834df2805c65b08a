package workload

import (
	"context"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// queueFor is how long a place in the queue is asked for: longer than anybody waits.
	queueFor = 20 * time.Second
	// waitAtServer is how long every other request lets the server wait.
	waitAtServer = 300 * time.Millisecond
	// holdFor is how long seats that were waited for are held, at most.
	holdFor = 1200 * time.Millisecond
)

// waiter is a worker that stands in the queue for one thing at a time.
type waiter struct {
	*worker
	h *holder
	// request is the wish at hand; empty: none.
	request string
	item    history.Item
	until   time.Time // what is held is given back then
}

// runWaiter waits for seats, holds them for a moment and gives them back. Now and then it
// gives up, properly or by not coming back.
func runWaiter(ctx context.Context, w *worker) error {
	a, err := w.api()
	if err != nil {
		return err
	}
	x := &waiter{worker: w, h: newHolder(a, w, "")}
	for ctx.Err() == nil {
		if w.control.Mode() == Closing {
			return x.h.closeSession(ctx)
		}
		if w.storming() {
			a.Drop()
		}
		x.step(ctx)
	}
	return nil
}

func (x *waiter) step(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	x.h.sweep()
	load := x.control.Mode() == Load
	session := x.h.id
	switch {
	case x.h.again != nil:
		_, err := x.h.askAgain(call)
		if err != nil {
			x.nap(ctx, askEvery)
		} else {
			x.request = "" // also if what it was granted is over by now: the next is another wish
		}
		x.settle(session)
	case len(x.h.held) > 0 && x.h.beatDue():
		_ = x.h.renew(call)
	case len(x.h.held) > 0 && load && time.Now().After(x.until):
		_ = x.h.checkin(call, false)
	case len(x.h.held) > 0:
		x.nap(ctx, 100*time.Millisecond)
	case x.request != "" && !load:
		x.giveUp(call)
	case x.request != "":
		x.ask(call)
		x.settle(session)
		if x.request != "" {
			x.pause(ctx, call)
		}
	case !load:
		x.nap(ctx, time.Second)
	default:
		x.think(ctx)
		x.request, x.item = x.h.voice.newRequest(), x.wish()
	}
}

// wish draws what is wanted next. Every third is a large one, which others could keep from
// ever being served.
func (x *waiter) wish() history.Item {
	feature := x.cfg.Queued
	switch k := x.rng.IntN(10); {
	case k < 1:
		feature = x.cfg.Booked
	case k < 3:
		feature = x.cfg.Borrowed
	}
	n := 1
	if x.number%3 == 0 && feature == x.cfg.Queued {
		n = 3
	}
	return history.Item{Feature: feature, Count: n}
}

// ask asks once for the wish at hand.
func (x *waiter) ask(ctx context.Context) {
	x.h.queue, x.h.wait = queueFor, 0
	if x.rng.IntN(2) == 0 {
		x.h.wait = waitAtServer
	}
	if _, err := x.h.checkout(ctx, x.request, x.item); err != nil {
		if typ, result, _ := judge(err); typ == history.OK && result != history.Queued {
			x.request = ""
		}
	}
}

// settle looks whether the wish is over: served, or its session gone.
func (x *waiter) settle(session string) {
	switch {
	case len(x.h.held) > 0:
		x.request = ""
		x.until = time.Now().Add(time.Duration(x.rng.Int64N(int64(holdFor))))
	case x.h.id != session:
		x.request = ""
	}
}

// pause waits until the next try, or ends the wait.
func (x *waiter) pause(ctx, call context.Context) {
	switch k := x.rng.IntN(100); {
	case x.h.again != nil: // whatever became of the last try comes first
	case k < 2:
		x.giveUp(call)
		return
	case k == 2:
		x.h.mint() // as if it had crashed: nobody asks for that place again
		x.request = ""
		return
	}
	x.nap(ctx, 100*time.Millisecond+time.Duration(x.rng.Int64N(int64(300*time.Millisecond))))
}

// giveUp leaves the queue. If nobody knows whether that was heard, the session is left
// behind: what it is granted is nobody's.
func (x *waiter) giveUp(ctx context.Context) {
	ask := history.Leave{}
	h := x.h
	r := &pb.QueueLeaveRequest{SessionId: h.id, SessionSecret: h.secret, Incarnation: h.incarnation, Tenant: h.tenant}
	o := h.voice.do(h.op(history.FLeave, h.voice.newRequest(), 0, &ask), func() outcome {
		answer, err := leaveQueue(ctx, h.api, r)
		if err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result = history.Done
		for _, l := range answer.Released {
			got.Released = append(got.Released, history.Ended{ID: l.Id, Token: l.FencingToken, Feature: l.Feature, Count: int(l.Count), Reason: l.Reason})
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	x.request = ""
	if o.err != nil {
		h.mint()
	}
}

func leaveQueue(ctx context.Context, a api, r *pb.QueueLeaveRequest) (*pb.QueueLeaveResponse, error) {
	if web, ok := a.(*httpAPI); ok {
		return post(ctx, web, "/v1/queue/leave", r, &pb.QueueLeaveResponse{})
	}
	return a.(*sdkAPI).c.Queue().QueueLeave(ctx, r)
}

// runSDKWaiter is an application that lets the SDK wait.
func runSDKWaiter(ctx context.Context, w *worker) error {
	a, err := newApplication(w)
	if err != nil {
		return err
	}
	if err := a.open(ctx, ""); err != nil {
		return err
	}
	stop := a.watch()
	defer stop()
	for ctx.Err() == nil {
		w.think(ctx)
		if w.control.Mode() == Closing {
			return a.close(ctx)
		}
		a.forget()
		if w.control.Mode() != Load {
			continue
		}
		if held := a.hold(); len(held) > 0 {
			w.nap(ctx, time.Duration(w.rng.Int64N(int64(holdFor))))
			w.sdkReturn(ctx, a, held[0])
			continue
		}
		a.checkoutWait(ctx, time.Second+time.Duration(w.rng.Int64N(int64(3*time.Second))), w.cfg.Queued)
	}
	a.crash()
	return nil
}

func (w *worker) sdkReturn(ctx context.Context, a *application, l *client.Lease) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a.checkin(ctx, l)
}

// refuseRule is refuse for the kinds of the rules workload.
func refuseRule(value any, result history.Result) any {
	switch v := value.(type) {
	case *history.Leave:
		c := *v
		c.Result = result
		return &c
	case *history.Book:
		c := *v
		c.Result = result
		return &c
	case *history.Borrow:
		c := *v
		c.Result = result
		return &c
	case *history.Return:
		c := *v
		c.Result = result
		return &c
	case *history.Policy:
		c := *v
		c.Result = result
		return &c
	}
	return value
}
