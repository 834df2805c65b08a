package fsm

import "github.com/seatkeeper/seatkeeper/lease"

// ring tells what the last entry brought, and wakes those who wait for seats.
type ring struct {
	last    []lease.Event
	changed chan struct{} // closed when seats come free
}

func newRing() ring { return ring{changed: make(chan struct{})} }

func (r *ring) add(events []lease.Event) {
	r.last = events
	for _, e := range events {
		if e.Kind == lease.Ended {
			r.wake()
			return
		}
	}
}

func (r *ring) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Released returns a channel that is closed when seats next come free on this node.
func (f *FSM) Released() <-chan struct{} {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.events.changed
}
