package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/trace"

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
	encoded fsm.Encoded
	state   callState
	patient bool // it may wait for company; see company
	to      *party
	at      int // its place in the party
}

type callState uint8

const (
	callQueued    callState = iota // may still be taken out
	callTaken                      // encoded, or about to be: the outcome is raft's
	callWithdrawn                  // its caller gave up before it was taken
)

// party is what one caller waits for: one command or many, one wake-up for all.
type party struct {
	calls  []call
	done   chan struct{} // closed when every call is answered
	traced *traced       // nil: the call is not traced
	// told is called with what is known instead, for callers that do not wait.
	told func(first int, answers []Proposed)
	// allowed is the log version; what needs a higher one is not proposed.
	allowed uint32

	mu      sync.Mutex
	answers []Proposed
	known   []bool
	left    int
	over    bool // told has been told of everything
}

// newParty encodes the commands. Either all can be proposed or none is.
func newParty(cmds []lease.Command, allowed uint32) (*party, error) {
	w := &party{allowed: allowed, calls: make([]call, len(cmds)), done: make(chan struct{}),
		answers: make([]Proposed, len(cmds)), known: make([]bool, len(cmds)), left: len(cmds)}
	for i, cmd := range cmds {
		if err := w.encode(i, cmd); err != nil {
			return nil, err
		}
	}
	if len(cmds) == 0 {
		close(w.done)
	}
	return w, nil
}

// lone is a party of one in one piece of memory.
type lone struct {
	party
	call    [1]call
	answers [1]Proposed
	known   [1]bool
}

func newLone(cmd lease.Command, allowed uint32) (*party, error) {
	l := &lone{}
	l.party = party{allowed: allowed, calls: l.call[:], done: make(chan struct{}), answers: l.answers[:], known: l.known[:], left: 1}
	return &l.party, l.encode(0, cmd)
}

func (w *party) encode(i int, cmd lease.Command) (err error) {
	w.calls[i], err = w.encoded(i, cmd)
	return err
}

// encoded makes the party's call i of a command.
func (w *party) encoded(i int, cmd lease.Command) (call, error) {
	encoded, err := fsm.EncodeCommand(cmd)
	if err != nil {
		return call{}, fmt.Errorf("%w: %v", ErrNotApplied, err)
	}
	if len(encoded) > fsm.MaxEntryBytes-entryOverhead {
		return call{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(encoded), fsm.MaxEntryBytes-entryOverhead)
	}
	if w.allowed < fsm.LatestVersion { // else nothing that this build knows needs more
		if needs := encoded.Needs(); needs > w.allowed {
			return call{}, &VersionError{What: "this", Needs: needs, Cluster: w.allowed}
		}
	}
	return call{encoded: encoded, patient: patient(cmd), to: w, at: i}, nil
}

// answer tells one call's caller what came of it. It never blocks.
func (c *call) answer(p Proposed) { c.to.answer(c.at, []Proposed{p}) }

// answer says what came of the calls from first on.
func (w *party) answer(first int, list []Proposed) {
	if w.told != nil {
		if w.note(first, len(list)) {
			w.told(first, list)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	copy(w.answers[first:], list)
	for i := range list {
		w.known[first+i] = true
	}
	if w.left -= len(list); w.left == 0 {
		close(w.done)
	}
}

// soFar copies what is known; what is not may be in the log, or was withdrawn.
func (w *party) soFar(withdrawn []bool, cause error) []Proposed {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]Proposed, len(w.answers))
	for i := range out {
		switch {
		case w.known[i]: // both were ready: what is known is better
			out[i] = w.answers[i]
		case withdrawn[i]:
			out[i].Err = fmt.Errorf("%w (%w)", ErrNotApplied, cause)
		default:
			out[i].Err = fmt.Errorf("%w (%w)", ErrUnknown, cause)
		}
	}
	return out
}

// entryOverhead is kept free in an entry for what stands around the commands.
const entryOverhead = 256

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
	version  func() uint32       // the log version now
	tracer   trace.Tracer        // nil: nothing is traced
	applies  *applies            // when entries were applied, where there is a tracer
	over     func()              // called when an entry of the same term has begun another epoch; may be nil

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
	entry, err := p.join(batch)
	if err != nil { // cannot happen: each command and their sum were measured
		p.queue.answering(len(batch))
		for _, c := range batch {
			c.answer(Proposed{Err: fmt.Errorf("%w: %v", ErrNotApplied, err)})
		}
		p.queue.answered(len(batch))
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
		p.tell(batch, start, len(entry), out, err)
		if out.Epoch.Term == p.epoch.Term && out.Epoch.Index > p.epoch.Index && p.over != nil {
			p.over()
		}
		answers := make([]Proposed, len(batch))
		for i := range answers {
			r := &answers[i]
			if r.Err = err; err == nil {
				r.Applied = Applied{Index: out.Index, Term: out.Term, Now: out.Now, Reply: out.Replies[i]}
			}
		}
		p.queue.answering(len(batch))
		answerRuns(batch, answers)
		p.queue.answered(len(batch))
		<-p.slots
	})
}

// answerRuns tells every caller once of what stands next to each other.
func answerRuns(batch []*call, answers []Proposed) {
	for i := 0; i < len(batch); {
		c, j := batch[i], i+1
		for j < len(batch) && batch[j].to == c.to && batch[j].at == batch[j-1].at+1 {
			j++
		}
		c.to.answer(c.at, answers[i:j:j])
		i = j
	}
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

// join stamps the batch and makes one entry of it.
func (p *proposer) join(batch []*call) ([]byte, error) {
	p.mu.Lock()
	stamp := p.clock.stamp(p.clocks.leaderClock())
	p.metrics.lost.Set(p.clock.lost.Seconds())
	p.mu.Unlock()
	cmds := make([]fsm.Encoded, len(batch))
	for i, c := range batch {
		cmds[i] = c.encoded
	}
	return fsm.JoinBatch(p.epoch.Index, stamp, lease.CalendarOf(p.clocks.Wall()), cmds)
}

// submit queues a party and waits until all of it is answered or ctx ends, in which case
// what was not yet taken is taken out. Its error means that nothing was queued.
func (p *proposer) submit(ctx context.Context, exempt bool, w *party) ([]Proposed, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w (%w)", ErrNotApplied, ctx.Err())
	}
	if err := p.queue.push(exempt, w); err != nil {
		return nil, err
	}
	select {
	case <-w.done:
		return w.answers, nil
	case <-ctx.Done():
		return w.soFar(p.queue.withdraw(w), ctx.Err()), nil
	}
}

// propose queues one command and waits for its outcome.
func (p *proposer) propose(ctx context.Context, cmd lease.Command) (Applied, error) {
	w, err := newLone(cmd, p.version())
	if err != nil {
		return Applied{}, err
	}
	w.traced = p.follow(ctx)
	answers, err := p.submit(ctx, false, w)
	if err != nil {
		return Applied{}, err
	}
	return answers[0].Applied, answers[0].Err
}

// proposeOwn queues the node's own commands and waits for them all, or for ctx.
func (p *proposer) proposeOwn(ctx context.Context, cmds []lease.Command) error {
	w, err := newParty(cmds, p.version())
	if err != nil {
		return err
	}
	answers, err := p.submit(ctx, true, w)
	for i := range answers {
		if answers[i].Err != nil {
			return answers[i].Err
		}
	}
	return err
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
