package workload

import (
	"context"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// reconnectLeases is how many leases a session of the reconnect workload holds: one, or
// several of different features.
const reconnectLeases = 3

// runReconnect is the story of a client whose connection breaks while it holds seats (or
// while it asks for them) and that asks again for the same: it must end up with what
// it asked for once, not twice. It comes back in one of three ways: on a new connection
// with the same number, on a new connection with a new number, and as a new run of the
// application.
func runReconnect(ctx context.Context, w *worker) error {
	a, err := w.api()
	if err != nil {
		return err
	}
	h := newHolder(a, w, "")
	for ctx.Err() == nil {
		w.think(ctx)
		switch w.control.Mode() {
		case Closing:
			return h.closeSession(ctx)
		case Quiet:
			w.seatsStep(ctx, h)
		default:
			w.reconnectRound(ctx, h)
		}
	}
	return nil
}

// reconnectRound takes leases, loses the connection, and asks again.
func (w *worker) reconnectRound(ctx context.Context, h *holder) {
	features := []string{w.feature()}
	if w.rng.IntN(2) == 0 {
		features = w.pools()
		features = features[:min(len(features), reconnectLeases)]
	}
	request := h.voice.newRequest()
	items := make([]history.Item, len(features))
	for i, f := range features {
		items[i] = history.Item{Feature: f, Count: 1}
	}
	ask := func(within time.Duration) {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		if again, _ := h.askAgain(ctx); !again {
			_, _ = h.checkout(ctx, request, items...)
		}
	}
	if w.rng.IntN(6) == 0 {
		// The connection breaks before the answer can be here: milliseconds.
		ask(time.Duration(1+w.rng.IntN(4)) * time.Millisecond)
	} else {
		ask(callTimeout)
	}
	if w.rng.IntN(2) == 0 {
		h.api.Drop()
	} else if h.again == nil {
		func() {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			_ = h.resume(ctx)
		}()
	}
	ask(callTimeout) // for what it may hold already
	for range 2 {
		if w.control.Mode() != Load {
			return
		}
		w.think(ctx)
		w.keep(ctx, h)
	}
	if h.again == nil {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		_ = h.checkin(ctx, w.rng.IntN(3) == 0)
	}
}

// keep renews if it is time.
func (w *worker) keep(ctx context.Context, h *holder) {
	h.sweep()
	if !h.beatDue() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_ = h.renew(ctx)
}

// runFenced works on the guarded resource while it believes in its seat, and sometimes
// after: a client that stood still writes with a token that is old by then.
func runFenced(ctx context.Context, w *worker, resource *Resource) error {
	a, err := w.api()
	if err != nil {
		return err
	}
	h := newHolder(a, w, "")
	for n := 0; ctx.Err() == nil; n++ {
		w.think(ctx)
		if w.control.Mode() == Closing {
			return h.closeSession(ctx)
		}
		w.keep(ctx, h)
		w.fencedStep(ctx, h, resource, n)
	}
	return nil
}

func (w *worker) fencedStep(ctx context.Context, h *holder, resource *Resource, n int) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if again, _ := h.askAgain(ctx); again || w.control.Mode() != Load {
		return
	}
	ids := h.ids()
	if len(ids) == 0 {
		w.patiently(ctx, func() bool {
			got, _ := h.checkout(ctx, h.voice.newRequest(), history.Item{Feature: w.cfg.Guarded, Count: 1})
			return len(got) > 0 || h.again != nil
		})
		return
	}
	held := h.held[ids[0]].lease
	switch k := w.rng.IntN(20); {
	case k < 4:
		_ = h.checkin(ctx, false, held.ID)
		if w.rng.IntN(2) == 0 {
			w.write(h, resource, held, n) // too late: somebody may have it
		}
	case k == 4: // stands still for longer than its lease
		w.sleep(ctx, callTimeout)
		w.write(h, resource, held, n)
	case k < 9:
		_ = h.renew(ctx) // before its time: else a short run sees too few and goes on for long
	default:
		w.write(h, resource, held, n)
	}
}

func (w *worker) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// write asks the resource. It is in this process and answers always.
func (w *worker) write(h *holder, resource *Resource, held history.Lease, n int) {
	ask := history.Write{Resource: resource.Name, ID: held.ID, Token: held.Token, Data: w.name + "/" + time.Duration(n).String()}
	h.voice.do(h.op(history.FWrite, "", 0, &ask), func() outcome {
		got := ask
		accepted, order, highest := resource.Write(held.Token, ask.Data)
		got.Result, got.Order, got.Highest = history.Rejected, order, highest
		if accepted {
			got.Result = history.Accepted
		}
		return outcome{value: &got}
	})
}
