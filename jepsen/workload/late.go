package workload

import (
	"context"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// lateWithin is how long after the end of its time a late client sends its heartbeat: any
// moment of the tick in which the leader finds the lease due.
const lateWithin = time.Second

// runLate is a client that wakes up when its lease is over, believes in it no more, and
// sends a heartbeat all the same. Either that or the reclaim comes first in the log, and
// what comes second must have no effect.
func runLate(ctx context.Context, w *worker) error {
	a, err := w.api()
	if err != nil {
		return err
	}
	h := newHolder(a, w, "")
	for ctx.Err() == nil {
		if w.control.Mode() != Load {
			return h.closeSession(ctx)
		}
		w.lateStep(ctx, h)
	}
	return nil
}

func (w *worker) lateStep(ctx context.Context, h *holder) {
	var longest int64
	for _, x := range h.held {
		longest = max(longest, x.lease.RemainingMS+x.lease.GraceMS)
	}
	if longest > 0 {
		w.sleep(ctx, time.Duration(longest)*time.Millisecond+time.Duration(w.rng.Int64N(int64(lateWithin))))
		h.sweep()
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if again, _ := h.askAgain(ctx); again {
		return
	}
	if longest > 0 && h.renew(ctx) == nil && len(h.held) > 0 {
		return
	}
	w.nap(ctx, 200*time.Millisecond)
	_, _ = h.checkout(ctx, h.voice.newRequest(), history.Item{Feature: sorted(w.cfg.Pools)[0], Count: 1})
}
