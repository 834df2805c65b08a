package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// leadRetry is the pause after a Lead entry that came to nothing.
const leadRetry = 50 * time.Millisecond

// epoch is one leadership of this node. Everything it runs lives under one context:
// what establish starts, revoke stops and waits for.
type epoch struct {
	cancel context.CancelFunc
	tasks  sync.WaitGroup

	// Set once the Lead entry is committed.
	fsm.Epoch
	proposer *proposer
	verifier *verifier
	progress progress
}

// followLeadership turns raft's notifications into epochs until the node stops. Raft
// keeps only the newest notification, so "true" after "true" means that leadership
// was lost and won in between: that is a new epoch as well.
func (n *Node) followLeadership(ctx context.Context) {
	var e *epoch
	for {
		select {
		case leading := <-n.raft.LeaderCh():
			n.revoke(e)
			if e = nil; leading {
				e = n.establish(ctx)
			}
		case ended := <-n.epochOver:
			if n.begunAnew(ended, e) {
				n.revoke(e)
				e = n.establish(ctx)
			}
		case <-ctx.Done():
			n.revoke(e)
			return
		}
	}
}

// establish starts an epoch. It does not wait for the Lead entry, so that the loss of
// leadership is noticed meanwhile.
func (n *Node) establish(ctx context.Context) *epoch {
	ctx, cancel := context.WithCancel(ctx)
	e := &epoch{cancel: cancel}
	e.tasks.Go(func() { n.watch(ctx, &e.progress) })
	e.tasks.Go(func() {
		base, ok := n.proposeLead(ctx, e)
		if !ok {
			return
		}
		// The clock is read after the reply: what the commit took is lost, not counted.
		n.serve(ctx, e, newClock(base, n.clocks.leaderClock()))
	})
	return e
}

// revoke ends an epoch and returns when all it started has stopped.
func (n *Node) revoke(e *epoch) {
	if e == nil {
		return
	}
	n.current.CompareAndSwap(e, nil)
	e.cancel()
	e.tasks.Wait()
	n.replaced.Store(nil)
	n.stability.forget()
	n.metrics.revoked()
}

// proposeLead commits the entry that makes this leadership known to every state
// machine: barrier, clock base and redirect address in one. It goes on trying while
// raft says that this node leads.
func (n *Node) proposeLead(ctx context.Context, e *epoch) (base lease.Time, ok bool) {
	for {
		out, err := n.tryLead(ctx, e)
		if err == nil && out.Epoch.Index == out.Index {
			e.Epoch = out.Epoch
			e.progress.committed.Add(1)
			return out.Now, true
		}
		if ctx.Err() == nil {
			n.log.Warn("Lead entry not committed", "error", err)
		}
		select {
		case <-time.After(leadRetry):
		case <-ctx.Done():
			return 0, false
		}
	}
}

func (n *Node) tryLead(ctx context.Context, e *epoch) (fsm.Outcome, error) {
	id := n.fsm.Status().ClusterID
	if id == "" {
		// Only the first Lead of a cluster names it; a later one cannot rename it.
		id = n.newClusterID
	}
	lead := fsm.Lead{Node: n.id, APIAddress: n.cfg.APIAddress, ClusterID: id, Version: n.cfg.Version}
	entry, err := fsm.EncodeLead(lead, lease.CalendarOf(n.clocks.Wall()))
	if err != nil {
		return fsm.Outcome{}, err
	}
	if n.handOver != nil {
		if stray := n.handOver(entry); stray != nil {
			n.raft.Apply(stray, enqueueTimeout)
		}
	}
	e.progress.inFlight.Add(1)
	future := n.raft.Apply(entry, enqueueTimeout)
	type answer struct {
		out fsm.Outcome
		err error
	}
	answers := make(chan answer, 1)
	n.waiters.Go(func() {
		out, err := outcomeOf(future)
		e.progress.inFlight.Add(-1)
		answers <- answer{out, err}
	})
	select {
	case a := <-answers:
		return a.out, a.err
	case <-ctx.Done(): // the watchdog ends a wait that takes too long
		return fsm.Outcome{}, ctx.Err()
	}
}

// serve makes the epoch usable and runs its duties until ctx ends.
func (n *Node) serve(ctx context.Context, e *epoch, c clock) {
	e.proposer = &proposer{
		epoch: e.Epoch, raft: n.raft, clocks: n.clocks, clock: c,
		queue:   newQueue(n.cfg.MaxQueue),
		slots:   make(chan struct{}, n.cfg.EntriesInFlight),
		waiters: &n.waiters, progress: &e.progress, metrics: n.metrics, warn: n.log.Warn, handOver: n.handOver,
		version: n.fsm.LogVersion,
		tracer:  n.cfg.Tracer, applies: &n.applies,
		over: func() { n.superseded(e) },
	}
	e.verifier = &verifier{
		term: e.Term, ctx: ctx, raft: n.raft, waiters: &n.waiters, count: n.metrics.verifies.Inc,
		mark: n.acks.mark,
		confirmed: func(mark uint64) bool {
			return n.votersSince(e.Term, mark)
		},
	}
	e.tasks.Go(func() { e.proposer.run(ctx) })
	e.tasks.Go(func() { n.expire(ctx, e) })
	e.tasks.Go(func() { n.tendMembers(ctx, e) })
	n.current.Store(e)
	if ctx.Err() != nil { // revoked meanwhile: revoke may have looked too early
		n.current.CompareAndSwap(e, nil)
		return
	}
	n.metrics.established(e.Epoch)
	n.log.Info("leading", "epoch", e.Index, "term", e.Term)
}

// votersSince says whether a majority of voters, this node among them, has answered
// a request of term that was sent after mark. Raft's own VerifyLeader also counts
// non-voters, and answers to requests sent before it was asked: after a pause those
// may be older than a new leader's writes.
func (n *Node) votersSince(term, mark uint64) bool {
	voters, yes := 0, 0
	for _, s := range n.configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		voters++
		if string(s.ID) == n.id || n.acks.since(s.ID, term, mark) {
			yes++
		}
	}
	return yes > voters/2
}
