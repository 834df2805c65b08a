package fsm

import (
	"sync/atomic"

	"github.com/seatkeeper/seatkeeper/lease"
)

// keepEvents is how many places in the queue that ended a node remembers, for requests
// that wait: a reader is behind by one entry, or it looks for itself.
const keepEvents = 8 << 10

// ring tells what the last entry brought, and remembers whose wait has ended.
type ring struct {
	last  []lease.Event
	kept  []lease.Event // Dequeued
	next  uint64        // events ever kept; kept[next%keepEvents] is written next
	gaps  uint64        // how often the state was replaced
	more  chan struct{} // closed when there is more to read
	asked atomic.Bool   // somebody waits for more
}

func newRing() ring { return ring{more: make(chan struct{})} }

func (r *ring) add(events []lease.Event) {
	r.last = events
	before := r.next
	for _, e := range events {
		switch {
		case e.Kind != lease.Dequeued:
			continue
		case len(r.kept) < keepEvents:
			r.kept = append(r.kept, e)
		default:
			r.kept[r.next%keepEvents] = e
		}
		r.next++
	}
	if r.next > before {
		r.wake()
	}
}

// gap notes that the state was replaced: places may have ended unseen.
func (r *ring) gap() {
	r.gaps++
	r.wake()
}

func (r *ring) wake() {
	if r.asked.Swap(false) {
		close(r.more)
		r.more = make(chan struct{})
	}
}

// Mark is a place in the events of a node: what is before it was read.
type Mark struct {
	Next uint64 // the number of the next event
	Gaps uint64 // how often the state was replaced
}

// Mark gives the place behind the newest event.
func (f *FSM) Mark() Mark {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return Mark{f.events.next, f.events.gaps}
}

// DequeuedSince gives the places in the queue that ended since a mark, and the mark
// behind them; more is closed when there are others. whole is false when some were
// missed: the reader was too slow, or the state was replaced meanwhile.
func (f *FSM) DequeuedSince(m Mark) (events []lease.Event, to Mark, whole bool, more <-chan struct{}) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	r := &f.events
	r.asked.Store(true)
	first := max(m.Next, r.next-uint64(len(r.kept)))
	for n := first; n < r.next; n++ {
		events = append(events, r.kept[n%keepEvents])
	}
	return events, Mark{r.next, r.gaps}, first == m.Next && m.Gaps == r.gaps, r.more
}
