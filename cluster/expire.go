package cluster

import (
	"context"
	"time"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// expireBatch is how many due leases are proposed at a time: half an entry, so that
// clients keep the other half when thousands come due at once.
const expireBatch = fsm.MaxBatch / 2

// expire is an epoch's heartbeat: every tick it lets cluster time move if nothing
// else did, and proposes what is due. The state machine judges each expiration
// again, so a late or repeated one does no harm.
func (n *Node) expire(ctx context.Context, e *epoch) {
	ticker := time.NewTicker(n.cfg.Tick)
	defer ticker.Stop()
	seen := e.progress.committed.Load()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if now := e.progress.committed.Load(); now == seen {
			n.proposeOwn(ctx, e, []lease.Command{lease.Tick{}})
		}
		for ctx.Err() == nil {
			due := n.fsm.Due(expireBatch)
			if len(due) == 0 {
				break
			}
			n.metrics.expired.Add(float64(len(due)))
			if !n.proposeOwn(ctx, e, due) || len(due) < expireBatch {
				break
			}
		}
		seen = e.progress.committed.Load()
	}
}

// proposeOwn proposes the node's own commands and waits for them for a few ticks.
func (n *Node) proposeOwn(ctx context.Context, e *epoch, cmds []lease.Command) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*n.cfg.Tick)
	defer cancel()
	if err := e.proposer.proposeOwn(ctx, cmds); err != nil {
		n.log.Debug("own commands not applied", "commands", len(cmds), "error", err)
		return false
	}
	return true
}
