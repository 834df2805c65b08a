package client

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// holding is what the session knows of one lease. Session.mu guards it.
type holding struct {
	ref              lease.Ref
	handle           lease.Handle
	feature, version string
	count            int
	seats            []int
	belief           Belief
	// fresh is a record that was never confirmed yet.
	fresh bool
	// shown is the state last told to the outside, lost its channel.
	shown  State
	lost   chan struct{}
	reason lease.Reason
	// claims counts the checkouts that got this lease and were not closed: asking again
	// for what a session holds gives the same lease.
	claims int
}

// Lease is one checkout's hold on granted seats. It is safe for concurrent use.
type Lease struct {
	s *Session
	h *holding
	// claimed and closed are guarded by s.mu.
	claimed, closed bool
	// owned is set when the lease brought its own client (package-level Checkout).
	owned bool
}

// confirm takes in a lease as an answer shows it; the request was sent at sent.
func (h *holding) confirm(sent Instant, l *pb.Lease) {
	h.handle = lease.Handle(l.Handle)
	h.feature, h.version, h.count = l.Feature, l.Version, int(l.Count)
	h.seats = h.seats[:0:0]
	for _, n := range l.Seats {
		h.seats = append(h.seats, int(n))
	}
	if l.State == lease.Active.String() || l.State == lease.Borrowed.String() || l.State == "" {
		h.belief.Confirm(sent, time.Duration(l.RemainingMs)*time.Millisecond, time.Duration(l.GraceMs)*time.Millisecond)
	}
}

// end makes the lease lost for good by our own doing: no change is announced.
func (h *holding) end(reason string) {
	h.belief.End()
	h.reason = lease.Reason(reason)
	if h.shown != Lost {
		close(h.lost)
	}
	h.shown = Lost
}

// show brings the outside up to date with the state at now. The caller holds mu.
func (s *Session) show(h *holding, now Instant) {
	from, to := h.shown, h.belief.State(now)
	if from == to {
		return
	}
	h.shown = to
	switch {
	case to == Lost:
		if !h.belief.Ended() {
			h.reason = lease.Reason(lease.ReleasedMissedHeartbeat.String())
		}
		close(h.lost)
	case from == Lost:
		h.reason = ""
		h.lost = make(chan struct{})
	}
	fresh := h.fresh
	h.fresh = false
	if fresh || s.cfg.OnStateChange == nil {
		return // a grant is no change: the caller has it as the result
	}
	// A callback that hangs must not eat the memory: the oldest news go first.
	if len(s.changes) >= maxChanges {
		s.changes = s.changes[1:]
	}
	s.changes = append(s.changes, Change{Lease: &Lease{s: s, h: h}, From: from, To: to, Reason: h.reason})
	if !s.delivering {
		s.delivering = true
		go s.deliver()
	}
}

// maxChanges bounds the news that wait for a slow callback: every lease of a session
// can change twice.
const maxChanges = 2 * lease.MaxLeasesPerSession

// deliver calls OnStateChange for all that waits, then ends.
func (s *Session) deliver() {
	for {
		s.mu.Lock()
		if len(s.changes) == 0 {
			s.delivering = false
			s.mu.Unlock()
			return
		}
		next := s.changes[0]
		s.changes = s.changes[1:]
		s.mu.Unlock()
		s.cfg.OnStateChange(next)
	}
}

// end makes a lease lost because the cluster said so. The caller holds mu.
func (s *Session) end(h *holding, reason lease.Reason) {
	h.belief.End()
	h.reason = reason
	s.show(h, s.c.now())
}

// State is what may be believed at this moment, by the clock.
func (l *Lease) State() State {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return l.state(l.s.c.now())
}

// state also closes Lost at once when a timer is late. The caller holds mu.
func (l *Lease) state(now Instant) State {
	if l.closed {
		return Lost
	}
	l.s.show(l.h, now)
	if l.h.shown != Active {
		l.s.nudge()
	}
	return l.h.shown
}

// Valid says whether the application may go on using the seat: active or expiring, at
// the moment of the call.
func (l *Lease) Valid() bool { return l.State() != Lost }

// Lost returns a channel that is closed when the lease is lost or closed. If a lease
// that was lost by silence comes back, later calls return a new channel.
func (l *Lease) Lost() <-chan struct{} {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.closed {
		return alreadyClosed
	}
	l.state(l.s.c.now())
	return l.h.lost
}

// alreadyClosed is the Lost channel of closed leases.
var alreadyClosed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Reason is why the lease was lost: missed_heartbeat, removed_by_admin, fenced,
// session_unknown…; empty while it is not.
func (l *Lease) Reason() lease.Reason {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.state(l.s.c.now())
	return l.h.reason
}

// Remaining is how long the seat may still be used without another heartbeat.
func (l *Lease) Remaining() time.Duration {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.closed {
		return 0
	}
	return l.h.belief.Remaining(l.s.c.now())
}

// Ref is the lease's id and fencing token: what a guarded resource checks.
func (l *Lease) Ref() lease.Ref { return l.h.ref }

// ID names the lease for ever.
func (l *Lease) ID() lease.ID { return l.h.ref.ID }

// Token is the fencing token: it grows with each grant of a seat.
func (l *Lease) Token() lease.Token { return l.h.ref.Token }

// Session is the session that holds the lease.
func (l *Lease) Session() *Session { return l.s }

// Handle is the number by which people name the lease.
func (l *Lease) Handle() lease.Handle {
	return get(l, func(h *holding) lease.Handle { return h.handle })
}

// Feature is what was granted.
func (l *Lease) Feature() string { return get(l, func(h *holding) string { return h.feature }) }

// Version is the highest version the licence covers.
func (l *Lease) Version() string { return get(l, func(h *holding) string { return h.version }) }

// Count is how many seats were granted.
func (l *Lease) Count() int { return get(l, func(h *holding) int { return h.count }) }

// Seats are the numbers of the seats.
func (l *Lease) Seats() []int {
	return get(l, func(h *holding) []int { return slices.Clone(h.seats) })
}

func get[T any](l *Lease, read func(*holding) T) T {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	return read(l.h)
}

// closeTimeout bounds Lease.Close: an application that ends does not wait longer.
const closeTimeout = 10 * time.Second

// Close gives the seat back within 10 s; see CheckIn. It suits defer.
func (l *Lease) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return l.CheckIn(ctx)
}

// CheckIn gives the seat back. From its first moment the lease is not valid here. If
// several checkouts of the session share the lease, the last one returns it. If the
// cluster cannot be reached it says so, and the session goes on trying. A second call
// does nothing.
func (l *Lease) CheckIn(ctx context.Context) error {
	if l.owned {
		return l.s.c.Close(ctx)
	}
	s := l.s
	s.mu.Lock()
	if l.closed {
		s.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.claimed {
		l.h.claims--
	}
	if l.h.claims > 0 || l.h.belief.Ended() {
		s.mu.Unlock()
		return nil
	}
	l.h.end(lease.ReleasedNormal.String())
	delete(s.held, l.h.ref.ID)
	s.returning[l.h.ref.ID] = l.h.ref
	s.mu.Unlock()
	return s.giveBack(ctx, l.h.ref.ID)
}

func sortLeases(list []*Lease) {
	slices.SortFunc(list, func(a, b *Lease) int { return cmp.Compare(a.h.ref.ID, b.h.ref.ID) })
}
