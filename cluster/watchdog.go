package cluster

import (
	"context"
	"fmt"
	"time"
)

// transferStuck is how long raft may refuse entries because of a leadership transfer
// that nobody asked for. Its flag is set for one election timeout at most, unless it
// is never cleared at all.
const transferStuck = 5 * time.Second

// watch ends the process of a leader that cannot work: one whose entries do not come
// back (a hung disk does not cost raft its leadership), or one that raft keeps in a
// leadership transfer for ever. A leader that still applies what others wrote, as all of it
// after a restart, is at work: its own entries come after that. It counts its own ticks and not the clock, so that a
// process that was stopped for a minute is not blamed for that minute.
func (n *Node) watch(ctx context.Context, p *progress) {
	const every = 500 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var stalled, stuck time.Duration
	committed, refused, applied := p.committed.Load(), p.transferring.Load(), n.fsm.Status().AppliedIndex
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		now := p.committed.Load()
		progressed := now != committed
		committed = now
		before := applied
		applied = n.fsm.Status().AppliedIndex
		if progressed || applied != before || p.inFlight.Load() == 0 {
			stalled = 0
		} else if stalled += every; stalled >= n.cfg.Watchdog {
			n.fail(fmt.Sprintf("leader has committed nothing of its own for %v: is the disk hung?", stalled))
			return
		}
		refusals := p.transferring.Load()
		switch {
		case progressed || n.transferring.Load() > 0:
			stuck = 0
		case refusals != refused || stuck > 0: // once refused, silence proves nothing
			stuck += every
		}
		refused = refusals
		if stuck >= transferStuck {
			n.fail(fmt.Sprintf("raft has been in a leadership transfer for %v that nobody asked for", stuck))
			return
		}
	}
}

// fail reports why this node must stop, once.
func (n *Node) fail(reason string) {
	n.failOnce.Do(func() {
		n.log.Error("giving up", "reason", reason)
		go n.cfg.Fatal(reason)
	})
}
