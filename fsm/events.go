package fsm

import "github.com/seatkeeper/seatkeeper/lease"

// keepEvents is how many events a node remembers for usage listings: some hours of a
// busy office. It is a window into what happened, kept per node, not part of the state.
const keepEvents = 32 << 10

// ring remembers the newest events.
type ring struct {
	kept    []lease.Event
	next    uint64 // events ever added; kept[next%keepEvents] is written next
	holes   bool   // some were missed: the node was restored from a snapshot
	last    []lease.Event
	changed chan struct{} // closed when seats come free
}

func newRing() ring { return ring{changed: make(chan struct{})} }

func (r *ring) add(events []lease.Event) {
	r.last = events
	freed := false
	for _, e := range events {
		if len(r.kept) < keepEvents {
			r.kept = append(r.kept, e)
		} else {
			r.kept[r.next%keepEvents] = e
		}
		r.next++
		freed = freed || e.Kind == lease.Ended
	}
	if freed {
		r.wake()
	}
}

func (r *ring) gap() {
	r.holes = true
	r.wake()
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

// Usage lists the newest usage records this node remembers that match, oldest first, at
// most limit. Empty names match everything, zero dates are open. complete is false when
// older ones may be missing.
func (f *FSM) Usage(tenant, feature string, from, to lease.Calendar, limit int) (records []lease.UsageRecord, complete bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	r := &f.events
	complete = !r.holes && r.next <= keepEvents
	for n := uint64(0); n < uint64(len(r.kept)) && len(records) < limit; n++ {
		e := &r.kept[(r.next-1-n)%keepEvents]
		if e.Kind != lease.Ended || tenant != "" && tenant != e.Tenant || feature != "" && feature != e.Feature ||
			from != 0 && e.Date < from || to != 0 && e.StartDate >= to {
			continue
		}
		records = append(records, e.Usage())
	}
	for i, j := 0, len(records)-1; i < j; i, j = i+1, j-1 {
		records[i], records[j] = records[j], records[i]
	}
	return records, complete
}
