package disk

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Faults is how a disk misbehaves. The zero value is a good disk.
type Faults struct {
	// WriteDelay and SyncDelay make each write and each fsync that much slower.
	WriteDelay, SyncDelay time.Duration
	// Hang lets no write and no fsync return until it is taken off.
	Hang bool
	// Lie makes fsync say yes and do nothing.
	Lie bool
	// WriteError and SyncError fail with EIO.
	WriteError, SyncError bool
	// Full fails every write with ENOSPC, as a copy-on-write file system does, and
	// reports no free space.
	Full bool
}

// Counts is what the disk's faults did.
type Counts struct {
	Writes, Syncs                       uint64
	Delayed, Hung, Lied, Failed, NoRoom uint64
}

// Touched is how many operations suffered.
func (c Counts) Touched() uint64 { return c.Delayed + c.Hung + c.Lied + c.Failed + c.NoRoom }

// Minus is what came on top of an earlier reading.
func (c Counts) Minus(o Counts) Counts {
	return Counts{c.Writes - o.Writes, c.Syncs - o.Syncs, c.Delayed - o.Delayed, c.Hung - o.Hung, c.Lied - o.Lied,
		c.Failed - o.Failed, c.NoRoom - o.NoRoom}
}

// gate is what every write and fsync passes.
type gate struct {
	mu      sync.Mutex
	faults  Faults
	changed chan struct{} // closed when faults are changed

	writes, syncs, delayed, hung, lied, failed, noRoom atomic.Uint64
}

func newGate() *gate { return &gate{changed: make(chan struct{})} }

func (g *gate) set(f Faults) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.faults = f
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gate) get() (Faults, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.faults, g.changed
}

func (g *gate) counts() Counts {
	return Counts{Writes: g.writes.Load(), Syncs: g.syncs.Load(), Delayed: g.delayed.Load(), Hung: g.hung.Load(),
		Lied: g.lied.Load(), Failed: g.failed.Load(), NoRoom: g.noRoom.Load()}
}

// write is passed by everything that changes something.
func (g *gate) write() syscall.Errno {
	g.writes.Add(1)
	f := g.wait()
	switch {
	case f.WriteError:
		g.failed.Add(1)
		return syscall.EIO
	case f.Full:
		g.noRoom.Add(1)
		return syscall.ENOSPC
	}
	if f.WriteDelay > 0 {
		g.delayed.Add(1)
		time.Sleep(f.WriteDelay)
	}
	return 0
}

// sync is passed by every fsync; lie is true when it must do nothing.
func (g *gate) sync() (lie bool, errno syscall.Errno) {
	g.syncs.Add(1)
	f := g.wait()
	if f.SyncError {
		g.failed.Add(1)
		return false, syscall.EIO
	}
	if f.SyncDelay > 0 {
		g.delayed.Add(1)
		time.Sleep(f.SyncDelay)
	}
	if f.Lie {
		g.lied.Add(1)
	}
	return f.Lie, 0
}

// wait returns the faults once the disk does not hang.
func (g *gate) wait() Faults {
	f, changed := g.get()
	if f.Hang {
		g.hung.Add(1)
	}
	for f.Hang {
		<-changed
		f, changed = g.get()
	}
	return f
}
