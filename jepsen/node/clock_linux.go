package node

import (
	"errors"
	"fmt"
	"time"
)

// Clock is how a process's clocks are bent. The zero value bends nothing.
type Clock struct {
	// Jump is added to the wall clock.
	Jump time.Duration
	// Rate is by how much the monotonic and the wall clock run too fast: 0.1 is 10 %;
	// below 0 is too slow.
	Rate float64
}

// ErrNoClock is returned where a process's clocks cannot be bent.
var ErrNoClock = errors.New("a process's clocks can be bent on amd64 only")

// clock is what was done to the clocks of the running process.
type clock struct {
	table uint64 // address of the table that the patch reads
	// mono and wall are the table's present rows.
	mono, wall row
}

// row bends one clock: t becomes t + offset + ((t-base)·num >> 32).
type row struct{ base, offset, num int64 }

func (r row) at(t int64) int64 {
	return t + r.offset + int64(float64(t-r.base)*float64(r.num)/(1<<32))
}

// next is the row that goes on from r at t without a step, at another rate.
func (r row) next(t int64, rate float64) row {
	return row{base: t, offset: r.at(t) - t, num: int64(rate * (1 << 32))}
}

// Bend changes the clocks of the running process from now on. The monotonic clock never
// steps: taking a rate off leaves what it had gained. The wall clock goes back to the
// true time when Jump and Rate are 0.
func (n *Node) Bend(c Clock) error {
	n.life.Lock()
	defer n.life.Unlock()
	pid := n.PID()
	if pid == 0 {
		return fmt.Errorf("%s does not run", n.Name)
	}
	stopped, err := n.standStill(pid)
	if err != nil {
		return err
	}
	defer stopped()
	if n.clock == nil {
		n.clock, err = patchClock(pid)
		if err != nil {
			return err
		}
	}
	mono, wall := n.clockReadings()
	n.clock.mono = n.clock.mono.next(mono, c.Rate)
	n.clock.wall = row{base: wall, offset: int64(c.Jump), num: int64(c.Rate * (1 << 32))}
	return n.clock.write(pid)
}
