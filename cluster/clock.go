package cluster

import (
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// clock proposes cluster time during one epoch:
//
//	c = base + (mono-anchor)·(1-ρ) - lost
//
// It never runs ahead of real time since the epoch's Lead entry, and never more
// than MaxStep ahead of what is committed. What is cut off there goes into lost for
// good: making it up later would let a lease end sooner than its holder counts on.
//
// It is a plain value without a lock; the batcher owns it.
type clock struct {
	base      lease.Time    // T at the Lead entry
	anchor    time.Duration // monotonic reading taken after Lead's reply
	lost      time.Duration // time this leader has forgotten; only grows
	committed lease.Time    // the last T known to be committed
	last      lease.Time    // the last stamp given
}

// newClock starts the clock of an epoch. mono must be read after the reply that
// carried base: time between the two is then lost, never counted twice.
func newClock(base lease.Time, mono time.Duration) clock {
	if lease.Broken(lease.GuardRebase) {
		base = lease.Time(mono)
	}
	return clock{base: base, anchor: mono, committed: base, last: base}
}

// read returns cluster time at the monotonic reading mono, and forgets what is beyond
// MaxStep.
func (c *clock) read(mono time.Duration) lease.Time {
	elapsed := max(mono-c.anchor, 0)
	slow := elapsed - (elapsed+ClockMargin-1)/ClockMargin
	t := c.base.Add(slow - c.lost)
	if limit := c.committed.Add(MaxStep); t > limit {
		if !lease.Broken(lease.GuardLostTime) {
			c.lost += t.Sub(limit)
		}
		t = limit
	}
	return t
}

// stamp returns the cluster time to propose at the monotonic reading mono.
func (c *clock) stamp(mono time.Duration) lease.Time {
	c.last = max(c.last, c.read(mono))
	return c.last
}

// commit notes that an entry of this epoch with time t was found committed at mono.
// It reads the clock first: what passed while that entry hung must be forgotten
// before the limit moves on, or entries stamped during one outage would each add a
// MaxStep to its cost.
func (c *clock) commit(t lease.Time, mono time.Duration) {
	c.read(mono)
	c.committed = max(c.committed, t)
}
