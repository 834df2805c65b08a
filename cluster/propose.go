package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// applier is what the proposer needs of raft. Apply waits at most timeout for the
// entry to be taken; the future's Error may then block until leadership is lost, and
// longer if a disk hangs.
type applier interface {
	Apply(entry []byte, timeout time.Duration) raft.ApplyFuture
}

// errEpochOver is what the queue answers once leadership is gone; Node.Propose turns
// it into a NotLeaderError.
var errEpochOver = errors.New("epoch is over")

// call is one command on its way. Its state belongs to the queue's lock.
type call struct {
	cmd   lease.Command
	size  int
	state callState
	done  chan result // takes one result, never blocks
}

type callState uint8

const (
	callQueued    callState = iota // may still be taken out
	callTaken                      // encoded, or about to be: the outcome is raft's
	callWithdrawn                  // its caller gave up before it was taken
)

type result struct {
	applied Applied
	err     error
}

func newCall(cmd lease.Command) (*call, error) {
	size := fsm.EncodedSize(cmd)
	if size > fsm.MaxEntryBytes-entryOverhead {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, size, fsm.MaxEntryBytes-entryOverhead)
	}
	return &call{cmd: cmd, size: size, done: make(chan result, 1)}, nil
}

// entryOverhead is kept free in an entry for what stands around the commands.
const entryOverhead = 256

// queue holds commands that wait for a batch. One lock guards it and the state of
// every call in it.
type queue struct {
	mu    sync.Mutex
	calls []*call
	live  int // calls not withdrawn
	limit int
	over  error         // set when closed
	wake  chan struct{} // holds one token when there may be work
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

// push adds calls in order, all or none. The node's own commands (exempt) do not
// count against the limit: expirations are what frees seats when all are waiting.
func (q *queue) push(exempt bool, calls ...*call) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return q.over
	}
	if !exempt && q.live+len(calls) > q.limit {
		return ErrOverloaded
	}
	q.calls = append(q.calls, calls...)
	q.live += len(calls)
	q.signal()
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw takes c out if it has not been taken, and says whether it did.
func (q *queue) withdraw(c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if c.state != callQueued {
		return false
	}
	c.state = callWithdrawn
	q.live--
	return true
}

// take removes the calls of the next entry, waiting for at least one. It returns
// nil when ctx ends.
func (q *queue) take(ctx context.Context, maxCalls, maxBytes int) []*call {
	for {
		if ctx.Err() != nil {
			return nil
		}
		if batch := q.takeNow(maxCalls, maxBytes); len(batch) > 0 {
			return batch
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *queue) takeNow(maxCalls, maxBytes int) (batch []*call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bytes, n := 0, 0
	for _, c := range q.calls {
		if c.state == callQueued {
			if len(batch) == maxCalls || len(batch) > 0 && bytes+c.size > maxBytes {
				break
			}
			c.state = callTaken
			q.live--
			bytes += c.size
			batch = append(batch, c)
		}
		n++
	}
	clear(q.calls[:n]) // let go of what was answered
	if q.calls = q.calls[n:]; len(q.calls) == 0 {
		q.calls = nil
	} else {
		q.signal()
	}
	return batch
}

// close refuses all that waits and all that comes with err.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = err
	for _, c := range q.calls {
		if c.state == callQueued {
			c.state = callWithdrawn
			c.done <- result{err: err}
		}
	}
	q.calls, q.live = nil, 0
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.live
}

// proposer makes log entries of commands during one epoch. run is its only
// goroutine; each entry in flight has one more that waits for its future.
type proposer struct {
	epoch    fsm.Epoch
	raft     applier
	clocks   Clocks
	queue    *queue
	slots    chan struct{} // one token per entry in flight
	waiters  *waiters
	progress *progress
	metrics  *metrics
	warn     func(msg string, args ...any)
	handOver func([]byte) []byte // may be nil

	mu    sync.Mutex // guards clock
	clock clock
}

// progress is what the watchdog looks at.
type progress struct {
	inFlight     atomic.Int64  // entries handed over and unanswered
	committed    atomic.Uint64 // entries of this epoch that were applied
	transferring atomic.Uint64 // entries refused because of a leadership transfer
}

// run batches until ctx ends, then refuses what was never encoded.
func (p *proposer) run(ctx context.Context) {
	defer p.queue.close(errEpochOver)
	for {
		// A slot comes first: while both are taken, commands gather for the next entry.
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		batch := p.queue.take(ctx, fsm.MaxBatch, fsm.MaxEntryBytes-entryOverhead)
		if batch == nil {
			<-p.slots
			return
		}
		p.metrics.queue.Set(float64(p.queue.len()))
		p.send(batch)
	}
}

// send encodes one entry, hands it to raft and has its future waited for. It owns a
// slot, which is given back when the future answers and not sooner: what nobody
// waits for any more is still in the log.
func (p *proposer) send(batch []*call) {
	entry, batch := p.encode(batch)
	if len(batch) == 0 {
		<-p.slots
		return
	}
	p.metrics.batch.Observe(float64(len(batch)))
	p.metrics.inFlight.Inc()
	p.progress.inFlight.Add(1)
	start := time.Now()
	if p.handOver != nil {
		if stray := p.handOver(entry); stray != nil {
			p.raft.Apply(stray, enqueueTimeout)
		}
	}
	future := p.raft.Apply(entry, enqueueTimeout)
	p.waiters.Go(func() {
		out, err := outcomeOf(future)
		if err == nil && len(out.Replies) != len(batch) {
			p.warn("entry has the wrong number of answers", "want", len(batch), "got", len(out.Replies))
			err = ErrUnknown
		}
		p.settle(out, err, start)
		for i, c := range batch {
			r := result{err: err}
			if err == nil {
				r.applied = Applied{Index: out.Index, Term: out.Term, Now: out.Now, Reply: out.Replies[i]}
			}
			c.done <- r
		}
		<-p.slots
	})
}

// settle notes what an answered entry means for the clock and the watchdog.
func (p *proposer) settle(out fsm.Outcome, err error, start time.Time) {
	p.metrics.inFlight.Dec()
	p.progress.inFlight.Add(-1)
	switch {
	case err == nil:
		p.progress.committed.Add(1)
		p.metrics.committed(start)
		p.mu.Lock()
		p.clock.commit(out.Now, p.clocks.leaderClock())
		p.mu.Unlock()
	case errors.Is(err, raft.ErrLeadershipTransferInProgress):
		p.progress.transferring.Add(1)
	}
}

// encode stamps and encodes the batch. A command that cannot be encoded is answered
// here and left out, so that it does not spoil its neighbours.
func (p *proposer) encode(batch []*call) ([]byte, []*call) {
	p.mu.Lock()
	stamp := p.clock.stamp(p.clocks.leaderClock())
	p.metrics.lost.Set(p.clock.lost.Seconds())
	p.mu.Unlock()
	calendar := lease.CalendarOf(p.clocks.Wall())
	cmds := make([]lease.Command, len(batch))
	for i, c := range batch {
		cmds[i] = c.cmd
	}
	entry, err := fsm.EncodeBatch(p.epoch.Index, stamp, calendar, cmds)
	if err == nil {
		return entry, batch
	}
	if len(batch) == 1 {
		batch[0].done <- result{err: fmt.Errorf("%w: %v", ErrNotApplied, err)}
		return nil, nil
	}
	good := batch[:0:0]
	for _, c := range batch {
		if _, err := fsm.EncodeBatch(p.epoch.Index, stamp, calendar, []lease.Command{c.cmd}); err != nil {
			c.done <- result{err: fmt.Errorf("%w: %v", ErrNotApplied, err)}
			continue
		}
		good = append(good, c)
	}
	if len(good) == 0 {
		return nil, nil
	}
	if len(good) == len(batch) { // only the whole is too much: let them try again
		for _, c := range good {
			c.done <- result{err: fmt.Errorf("%w: %v", ErrNotApplied, err)}
		}
		return nil, nil
	}
	return p.encode(good)
}

// wait returns c's result, or takes c out when ctx ends first.
func (p *proposer) wait(ctx context.Context, c *call) (Applied, error) {
	select {
	case r := <-c.done:
		return r.applied, r.err
	case <-ctx.Done():
	}
	if p.queue.withdraw(c) {
		return Applied{}, fmt.Errorf("%w (%w)", ErrNotApplied, ctx.Err())
	}
	select {
	case r := <-c.done: // both were ready: what is known is better
		return r.applied, r.err
	default:
		return Applied{}, fmt.Errorf("%w (%w)", ErrUnknown, ctx.Err())
	}
}

// propose queues one command and waits for its outcome.
func (p *proposer) propose(ctx context.Context, cmd lease.Command) (Applied, error) {
	c, err := newCall(cmd)
	if err != nil {
		return Applied{}, err
	}
	if ctx.Err() != nil {
		return Applied{}, fmt.Errorf("%w (%w)", ErrNotApplied, ctx.Err())
	}
	if err := p.queue.push(false, c); err != nil {
		return Applied{}, err
	}
	return p.wait(ctx, c)
}

// proposeOwn queues the node's own commands and waits for them all, or for ctx.
func (p *proposer) proposeOwn(ctx context.Context, cmds []lease.Command) error {
	calls := make([]*call, 0, len(cmds))
	for _, cmd := range cmds {
		c, err := newCall(cmd)
		if err != nil {
			return err
		}
		calls = append(calls, c)
	}
	if err := p.queue.push(true, calls...); err != nil {
		return err
	}
	for _, c := range calls {
		if _, err := p.wait(ctx, c); err != nil {
			for _, rest := range calls {
				p.queue.withdraw(rest)
			}
			return err
		}
	}
	return nil
}

// outcomeOf waits for the future and says what became of its entry. It may block for
// as long as raft does, so it is called from goroutines that nobody waits for
// without a deadline.
func outcomeOf(f raft.ApplyFuture) (fsm.Outcome, error) {
	if err := f.Error(); err != nil {
		return fsm.Outcome{}, outcomeError(err)
	}
	out, ok := f.Response().(fsm.Outcome)
	switch {
	case !ok:
		return fsm.Outcome{}, fmt.Errorf("%w (the state machine answered %T)", ErrUnknown, f.Response())
	case out.Stale:
		return out, fmt.Errorf("%w (the entry was of an older epoch)", ErrNotApplied)
	}
	return out, nil
}

// outcomeError sorts raft's errors: only these few are raised before the entry can
// reach a log (BatchApplyCh is off, or ErrEnqueueTimeout would not be among them).
func outcomeError(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader):
		return errEpochOver
	case errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%w (%w)", ErrNotApplied, err)
	}
	return fmt.Errorf("%w (%w)", ErrUnknown, err)
}
