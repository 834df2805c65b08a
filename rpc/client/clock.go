package client

import (
	"sync"
	"time"
)

// SystemClock reads the machine's clock that counts suspend. It is safe for
// concurrent use.
func SystemClock() Instant { return systemClock() }

// stepClock makes a clock that counts suspend from two that do not promise it: the
// monotonic one may stand still while the machine sleeps, the wall clock may be set.
// Each step takes the larger of the two, so it never stands still, never goes back,
// and is never slower than either; a wall clock set forward makes it jump, which
// ends a belief early and never late. (Comparing the totals since the start instead
// would stand still after a wall clock was set forward and back again.)
type stepClock struct {
	read func() (mono, wall time.Duration)

	mu         sync.Mutex
	mono, wall time.Duration
	now        Instant
}

func (c *stepClock) Now() Instant {
	c.mu.Lock()
	defer c.mu.Unlock()
	mono, wall := c.read()
	c.now = c.now.Add(max(mono-c.mono, wall-c.wall, 0))
	c.mono, c.wall = mono, wall
	return c.now
}

func newStepClock() *stepClock {
	start := time.Now()
	wallStart := start.Round(0)
	return &stepClock{read: func() (mono, wall time.Duration) {
		now := time.Now()
		return now.Sub(start), now.Round(0).Sub(wallStart)
	}}
}

var fallbackClock = sync.OnceValue(newStepClock)
