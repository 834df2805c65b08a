package lease

import "time"

// Instant is one reading of a client's clock: nanoseconds since an arbitrary start,
// never decreasing, counting the time a machine was suspended. It is not cluster time.
type Instant int64

// Add returns t+d.
func (t Instant) Add(d time.Duration) Instant { return t + Instant(d) }

// Sub returns the span from u to t.
func (t Instant) Sub(u Instant) time.Duration { return time.Duration(t - u) }

// MarginParts is 1/ρ: leader and client each run their clocks slow by 1/500 = 0.002. Quartz
// stays below 0.0002 and a slewing NTP daemon below 0.0005; it costs 0.24 s of a lease
// of two minutes.
const MarginParts = 500

// Shorten takes the margin off a span, rounding towards the shorter one.
func Shorten(d time.Duration) time.Duration { return d - (d+MarginParts-1)/MarginParts }

// Belief is the client's half of the lease protocol: how long a holder may believe in
// one lease. It ends before the ledger gives the seat away, because it counts from the
// instant the request was sent, on a clock that runs slow. The zero Belief is Gone.
type Belief struct {
	active, grace Instant
	confirmed     bool
	over          bool
}

// Confirm takes in one answer: the request was sent at sent, and the cluster answered
// that remaining is left to the deadline and grace follows it. The later end wins, so
// answers may arrive in any order. An answer with nothing remaining confirms nothing: it
// does not say how much of the grace has gone. After End it has no effect.
func (b *Belief) Confirm(sent Instant, remaining, grace time.Duration) {
	if b.over || remaining <= 0 {
		return
	}
	active := sent.Add(Shorten(remaining))
	end := sent.Add(Shorten(remaining + max(grace, 0)))
	if !b.confirmed {
		b.active, b.grace, b.confirmed = active, end, true
		return
	}
	b.active, b.grace = max(b.active, active), max(b.grace, end)
}

// End makes the belief Gone for good: the cluster said so, or the seat was returned.
func (b *Belief) End() { b.over = true }

// Ended says whether End was called.
func (b Belief) Ended() bool { return b.over }

// State is what may be believed at now: Active, Expiring (the application may go on),
// or Gone.
func (b Belief) State(now Instant) State {
	switch {
	case b.over || !b.confirmed || now >= b.grace:
		return Gone
	case now < b.active:
		return Active
	}
	return Expiring
}

// Remaining is how long the lease may still be used at now, grace included.
func (b Belief) Remaining(now Instant) time.Duration {
	if b.State(now) == Gone {
		return 0
	}
	return b.grace.Sub(now)
}

// NextChange is the next instant at which State changes by the passing of time. ok is
// false when it is Gone already.
func (b Belief) NextChange(now Instant) (at Instant, ok bool) {
	switch b.State(now) {
	case Active:
		return min(b.active, b.grace), true
	case Expiring:
		return b.grace, true
	}
	return 0, false
}
