package cluster

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// queue holds commands that wait for a batch. One lock guards it and the state of
// every call in it.
type queue struct {
	mu       sync.Mutex
	calls    []*call
	live     int // calls not withdrawn
	patient  int // of these, calls that may wait for company
	bytes    int // of the calls not withdrawn
	company  company
	inFlight int // calls taken whose entry is not over
	unknown  int // of these, calls that are not answered
	limit    int
	over     error         // set when closed
	wake     chan struct{} // holds one token when there may be work
	timer    *time.Timer   // take's
}

func newQueue(limit int) *queue {
	q := &queue{limit: limit, wake: make(chan struct{}, 1), timer: time.NewTimer(maxGather)}
	q.timer.Stop()
	return q
}

// push adds the calls of a party in order, all or none. The node's own commands (exempt)
// do not count against the limit: expirations are what frees seats when all are waiting.
func (q *queue) push(exempt bool, w *party) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over != nil {
		return q.over
	}
	if !exempt && q.live+len(w.calls) > q.limit {
		return ErrOverloaded
	}
	now := time.Now()
	before := q.wait(now)
	for i := range w.calls {
		c := &w.calls[i]
		q.calls = append(q.calls, c)
		switch {
		case c.patient:
			q.company.came(now, q.patient == 0)
			q.patient++
		case q.live == q.patient:
			q.company.eager = now
		}
		q.live++
		q.bytes += len(c.encoded)
	}
	q.company.crowd(now, q.live+q.unknown)
	// Who makes entries is woken when there is one to be made, and to look at the time.
	if wait := q.wait(now); wait == 0 || wait > 0 && (before < 0 || wait < before) {
		q.signal()
	}
	return nil
}

// wait is how long the calls that are there still wait for company: not at all, or for a
// time, or (less than 0) for other calls or an answer.
func (q *queue) wait(now time.Time) time.Duration {
	switch {
	case q.live == 0 || q.live < min(q.inFlight, fsm.MaxBatch):
		return -1
	case q.live >= fsm.MaxBatch || q.bytes >= maxGatheredBytes:
		return 0
	}
	return q.company.wait(now, q.live, q.live-q.patient, q.inFlight)
}

// left notes that a call is no longer in the queue.
func (q *queue) left(c *call) {
	q.live--
	q.bytes -= len(c.encoded)
	if c.patient {
		q.patient--
	}
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// withdraw takes out what of the party has not been taken, and says which that is.
func (q *queue) withdraw(w *party) []bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := make([]bool, len(w.calls))
	for i := range w.calls {
		c := &w.calls[i]
		if c.state == callQueued {
			c.state = callWithdrawn
			q.left(c)
		}
		out[i] = c.state == callWithdrawn
	}
	return out
}

// gatherTurns is how often the proposer lets others run before it makes an entry: whoever
// was woken by the last answers puts the next commands in then.
const gatherTurns = 3

// take removes the calls of the next entry, waiting for at least one, or for as many as are
// in flight: an entry costs every node a write, a sync and some wake-ups whatever is in it,
// so a small one beside a large one only makes both slower. What comes alone goes at once;
// what comes behind an entry waits for that at most, and renewals wait for company. It
// returns nil when ctx ends. Only one goroutine may take.
func (q *queue) take(ctx context.Context, maxCalls, maxBytes int) []*call {
	for {
		if ctx.Err() != nil {
			return nil
		}
		for range gatherTurns {
			runtime.Gosched()
		}
		batch, wait := q.takeNow(maxCalls, maxBytes)
		if len(batch) > 0 {
			return batch
		}
		var late <-chan time.Time
		if wait > 0 {
			q.timer.Reset(wait)
			late = q.timer.C
		}
		select {
		case <-q.wake:
		case <-late:
		case <-ctx.Done():
			return nil
		}
	}
}

// takeNow takes what may go; wait is how long to wait for company, if nothing else comes.
func (q *queue) takeNow(maxCalls, maxBytes int) (batch []*call, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wait = q.wait(time.Now()); wait != 0 {
		return nil, wait
	}
	bytes, n := 0, 0
	for _, c := range q.calls {
		if c.state == callQueued {
			if len(batch) == maxCalls || len(batch) > 0 && bytes+len(c.encoded) > maxBytes {
				break
			}
			c.state = callTaken
			q.left(c)
			bytes += len(c.encoded)
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
	q.inFlight += len(batch)
	q.unknown += len(batch)
	return batch, 0
}

// answering notes that so many calls of an entry are about to be answered: who hears it may
// come with its next call before the entry is over.
func (q *queue) answering(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.unknown -= n
}

// answered notes that the entry of so many calls is over.
func (q *queue) answered(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inFlight -= n
	q.company.over = time.Now()
	q.signal()
}

// close refuses all that waits and all that comes with err.
func (q *queue) close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = err
	for _, c := range q.calls {
		if c.state == callQueued {
			c.state = callWithdrawn
			c.answer(Proposed{Err: err})
		}
	}
	q.calls, q.live, q.patient, q.bytes = nil, 0, 0, 0
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.live
}
