package rpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// A checkout that waits has its place in the ledger's queue, which decides who gets what.
// Here a request only sleeps until its place ends, speaks up for its session meanwhile,
// as often as the ledger asks, and collects what was granted.

// queueOf is how long the place of a request is kept.
func queueOf(r *pb.CheckoutRequest) time.Duration {
	return min(max(time.Duration(r.GetQueueMs())*time.Millisecond, waitOf(r)), lease.MaxWait)
}

// checkout proposes the command and, while it stands in the queue and time is left, waits
// there. keep is how long its place is kept, at least wait.
func (h *seats) checkout(ctx context.Context, cmd lease.Checkout, wait, keep time.Duration) (cluster.Applied, error) {
	if keep <= 0 {
		return h.s.propose(ctx, cmd)
	}
	now := time.Now()
	x := &sleeper{cmd: cmd, until: now.Add(wait), kept: now.Add(keep)}
	x.woken = h.s.watch.add(cmd.Session.ID) // before asking: no grant in between is missed
	defer h.s.watch.remove(cmd.Session.ID, x.woken)
	x.cmd.Wait = keep
	applied, err := h.s.propose(ctx, x.cmd)
	if wait <= 0 || !isQueued(err) {
		return applied, err
	}
	select {
	case h.s.waiters <- struct{}{}:
		defer func() { <-h.s.waiters }()
	default:
		return applied, overloaded("too many requests wait for seats at this node already")
	}
	h.s.metrics.waiting.Inc()
	defer h.s.metrics.waiting.Dec()
	return h.await(ctx, x, applied, err)
}

// sleeper is a request that waits: until is when it answers, kept when its place ends.
type sleeper struct {
	cmd         lease.Checkout
	until, kept time.Time
	woken       chan struct{}
}

// await asks again when the place has ended, often enough to keep it, and a last time at
// the end. While it sleeps it holds no ticket, so that sleepers do not keep others out.
func (h *seats) await(ctx context.Context, x *sleeper, applied cluster.Applied, queued error) (cluster.Applied, error) {
	ticket := ticketOf(ctx)
	nap := applied.Reply.Session.Heartbeat
	for {
		ticket.leave()
		if err := h.s.sleep(ctx, x.woken, nap, x.until); err != nil {
			return cluster.Applied{}, err
		}
		if ctx.Err() != nil {
			h.abandon(x)
			return applied, queued
		}
		now := time.Now()
		last := !now.Before(x.until)
		x.cmd.Wait = max(0, x.kept.Sub(now))
		if last && !x.kept.After(x.until) {
			x.cmd.Wait = 0 // the place ends with the request
		}
		if ticket.enter(ctx) != nil { // a crowd woke up with us
			if last {
				return applied, queued
			}
			nap = crowdPause + rand.N(crowdPause)
			continue
		}
		next, err := h.s.propose(ctx, x.cmd)
		if last || !isQueued(err) {
			if moved := (*cluster.NotLeaderError)(nil); errors.As(err, &moved) && x.cmd.Ephemeral {
				return applied, queued // a redirect would lose the session that has the place
			}
			return next, err
		}
		applied, queued, nap = next, err, next.Reply.Session.Heartbeat
	}
}

// abandon gives up the place of a caller who went away and cannot come back, because it
// was never told its session. Others keep theirs until lifespan and grace are over.
func (h *seats) abandon(x *sleeper) {
	if !x.cmd.Ephemeral {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.s.cfg.RequestTimeout)
	go func() {
		defer cancel()
		_, _ = h.s.propose(ctx, lease.CheckIn{Session: x.cmd.Session, Close: true, Reason: lease.ReleasedClientExit})
	}()
}

// sleep waits until it is woken, for nap, or until the wait is over. It fails when the
// server stops.
func (s *Server) sleep(ctx context.Context, woken <-chan struct{}, nap time.Duration, until time.Time) error {
	timer := time.NewTimer(min(nap, time.Until(until)))
	defer timer.Stop()
	select {
	case <-woken:
	case <-timer.C:
	case <-ctx.Done():
	case <-s.stopping:
		return cluster.ErrStopped
	}
	return nil
}

func isQueued(err error) bool {
	r, ok := err.(*lease.Refusal)
	return ok && r.Reason == lease.InQueue
}

// queuedError is the answer to a request that stands in the queue.
type queuedError struct {
	*lease.Refusal
	place   *lease.Place
	session *pb.Session
}

func (e *queuedError) Unwrap() error { return e.Refusal }

// queuedAnswer adds to the refusal of a request that is queued where it stands, and the
// session, with its secret if it was minted here.
func queuedAnswer(a cluster.Applied, minted string, err error) error {
	if !isQueued(err) || a.Reply.Place == nil {
		return err
	}
	session := sessionPB(a.Reply.Session)
	session.Secret = minted
	return &queuedError{Refusal: err.(*lease.Refusal), place: a.Reply.Place, session: session}
}

// watch wakes requests whose place in the queue has ended. One goroutine reads the node's
// events for all, from a mark on, and only while somebody waits.
type watch struct {
	node Node

	mu      sync.Mutex
	waiting map[lease.SessionID][]chan struct{}
	idle    chan struct{} // closed when nobody waits; nil while nobody reads
}

func newWatch(node Node) *watch {
	return &watch{node: node, waiting: map[lease.SessionID][]chan struct{}{}}
}

// add gives a channel that is told when a place of the session ends.
func (w *watch) add(id lease.SessionID) chan struct{} {
	woken := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting[id] = append(w.waiting[id], woken)
	if w.idle == nil {
		w.idle = make(chan struct{})
		go w.read(w.node.Mark(), w.idle)
	}
	return woken
}

func (w *watch) remove(id lease.SessionID, woken chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.waiting[id]
	for i, c := range list {
		if c == woken {
			list = append(list[:i], list[i+1:]...)
			break
		}
	}
	if w.waiting[id] = list; len(list) == 0 {
		delete(w.waiting, id)
	}
	if len(w.waiting) == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// read follows the events until nobody waits.
func (w *watch) read(at fsm.Mark, idle <-chan struct{}) {
	for {
		events, next, whole, more := w.node.DequeuedSince(at)
		at = next
		w.mu.Lock()
		for i := range events {
			if events[i].Kind == lease.Dequeued {
				tell(w.waiting[events[i].Session])
			}
		}
		if !whole {
			for _, list := range w.waiting {
				tell(list)
			}
		}
		w.mu.Unlock()
		select {
		case <-more:
		case <-idle:
			return
		}
	}
}

func tell(list []chan struct{}) {
	for _, c := range list {
		select {
		case c <- struct{}{}:
		default: // it was told already
		}
	}
}
