package workload

import (
	"context"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// borrower is a worker that takes seats offline.
type borrower struct {
	*worker
	h *holder
	c *client.Client
	// ask is a request to borrow without an answer so far.
	ask *pb.BorrowRequest
	// seat is what is borrowed; nil: nothing. until is its end on the history's clock,
	// session the one that borrowed it, under which it is believed in.
	seat    *history.Lease
	session string
	token   string
	until   int64
	// back is the token of a return that may not have been heard.
	back    string
	backRef history.Return
}

// runBorrower borrows a seat, one that it holds or a new one, believes in it until its end
// whatever the cluster says, and returns it early or not at all.
func runBorrower(ctx context.Context, w *worker) error {
	a, err := newSDK(w.place, w.cfg.Addresses)
	if err != nil {
		return err
	}
	x := &borrower{worker: w, h: newHolder(a, w, ""), c: a.c}
	for ctx.Err() == nil {
		x.step(ctx)
		if w.control.Mode() == Closing && x.seat == nil && x.back == "" && x.ask == nil {
			return x.h.closeSession(ctx)
		}
	}
	return nil
}

func (x *borrower) step(ctx context.Context) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	x.h.sweep()
	mode := x.control.Mode()
	switch {
	case x.h.again != nil:
		_, _ = x.h.askAgain(call)
	case x.back != "":
		x.giveBack(call)
	case x.ask != nil:
		x.borrow(call)
	case x.seat != nil && x.rec.Now() >= x.until:
		x.seat = nil // it ran out
	case x.seat != nil && mode == Closing:
		x.returnSeat(call)
	case x.seat != nil:
		x.nap(ctx, 200*time.Millisecond)
		switch k := x.rng.IntN(100); {
		case k < 4 && mode == Load:
			x.returnSeat(call)
		case k < 7 && mode == Load:
			x.longer(call)
		}
	case mode != Load:
		x.nap(ctx, 200*time.Millisecond)
	case len(x.h.held) > 0:
		x.begin()
	default:
		x.think(ctx)
		if x.rng.IntN(2) == 0 {
			x.begin()
			return
		}
		_, _ = x.h.checkout(call, x.h.voice.newRequest(), history.Item{Feature: x.cfg.Borrowed, Count: 1})
	}
}

// begin draws a new request, of the session that holds a seat, if it does.
func (x *borrower) begin() {
	x.h.seq++
	x.ask = &pb.BorrowRequest{Feature: x.cfg.Borrowed, Count: 1, TermMs: 2000 + uint64(x.rng.Int64N(6000)), User: x.h.user, Host: x.h.host, InstanceId: x.name,
		SessionId: x.h.id, SessionSecret: x.h.secret, Incarnation: x.h.incarnation, Seq: x.h.seq}
}

func (x *borrower) borrow(ctx context.Context) {
	r := x.ask
	ask := history.Borrow{Item: history.Item{Feature: r.Feature, Count: int(r.Count)}, TermMS: int64(r.TermMs), User: r.User, Host: r.Host}
	var answer *pb.BorrowResponse
	sent := x.rec.Now()
	o := x.voice.do(x.h.op(history.FBorrow, r.SessionId+"/borrow", r.Seq, &ask), func() outcome {
		var err error
		if answer, err = x.c.Borrowing().Borrow(ctx, r); err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result, got.Replayed, got.Leases = history.Granted, answer.Replayed, []history.Lease{leaseOf(answer.Lease)}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	if o.err != nil {
		if typ, _, _ := judge(o.err); typ == history.OK {
			x.ask = nil
			x.leaveSession(ctx)
		}
		return
	}
	x.ask = nil
	l := leaseOf(answer.Lease)
	delete(x.h.held, l.ID) // from now on it is believed in until its end
	x.seat, x.session, x.token = &l, r.SessionId, answer.Token
	x.until = 0
	x.believe(sent, &l)
	x.leaveSession(ctx)
}

// believe notes until when the holder of a token uses its seat: as long after it asked as
// the answer says that there remains.
func (x *borrower) believe(sent int64, l *history.Lease) {
	x.until = max(x.until, sent+l.RemainingMS*1e6)
	x.voice.fact(history.FBelieve, x.session, &history.Believe{Lease: *l, At: x.rec.Now(), Until: x.until})
}

// leaveSession ends the session that borrowed: the seat must stay. The next trip has its own.
func (x *borrower) leaveSession(ctx context.Context) {
	if x.rng.IntN(2) == 0 || len(x.h.held) > 0 {
		_ = x.h.checkin(ctx, true)
		if x.h.again != nil {
			return // it is asked again, and a new session begun then
		}
	}
	x.h.mint()
}

// longer moves the end of the seat.
func (x *borrower) longer(ctx context.Context) {
	sent := x.rec.Now()
	answer, err := x.c.Borrowing().RenewBorrow(ctx, &pb.RenewBorrowRequest{Token: x.token, TermMs: 2000 + uint64(x.rng.Int64N(4000))})
	if err != nil {
		return // the seat stays as it was, as far as its holder knows
	}
	l := leaseOf(answer.Lease)
	x.token = answer.Token
	x.believe(sent, &l)
}

// returnSeat ends the use of the seat, and then says so.
func (x *borrower) returnSeat(ctx context.Context) {
	x.voice.fact(history.FLost, x.session, &history.Lost{ID: x.seat.ID, Token: x.seat.Token, At: x.rec.Now(), Cause: history.CauseReleased})
	x.back, x.backRef = x.token, history.Return{ID: x.seat.ID, Token: x.seat.Token}
	x.seat = nil
	x.giveBack(ctx)
}

func (x *borrower) giveBack(ctx context.Context) {
	ask := x.backRef
	o := x.voice.do(history.Op{F: history.FReturn, Value: &ask, Request: x.name + "/return"}, func() outcome {
		answer, err := x.c.Borrowing().ReturnBorrow(ctx, &pb.ReturnBorrowRequest{Token: x.back})
		if err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result = history.Done
		if l := answer.Released; l != nil {
			got.Released = []history.Ended{{ID: l.Id, Token: l.FencingToken, Feature: l.Feature, Count: int(l.Count), Reason: l.Reason}}
		}
		return outcome{value: &got, index: answer.RaftIndex, term: answer.Term}
	})
	if o.err != nil {
		if typ, _, _ := judge(o.err); typ != history.OK {
			return
		}
	}
	x.back = ""
}
