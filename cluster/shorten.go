package cluster

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/hashicorp/raft"
)

// shortenEvery is how often the growth of the log is looked at: at full load it grows by a
// few MiB meanwhile.
const shortenEvery = time.Second

// maxTrailing is about how much log is kept behind a snapshot for followers that were away:
// with entries of one command some hundred thousand of them, with full ones a thousand, which
// are 15 seconds and more of what three nodes can do. By entries alone it could be 600 MB,
// which every start reads through.
const maxTrailing = 64 << 20

// shorten has raft write a snapshot when the log since the last one has grown to
// SnapshotBytes and to the size of that snapshot. Raft itself counts entries, and of those
// one has up to 512 commands: by that count alone a minute of full load is a replay of half
// a minute after a restart. That a large state is not written for a little log is the rule
// of Redis for its append-only file: what is written is at most doubled by it. All nodes
// apply the same bytes: so each waits for up to half as many more, by chance, or all of them
// would be busy with their snapshots at the same time.
func (n *Node) shorten(ctx context.Context, snapshots raft.SnapshotStore) {
	ticker := time.NewTicker(shortenEvery)
	defer ticker.Stop()
	lateness := func() float64 { return 1 + rand.Float64()/2 }
	late := lateness()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		grown := n.fsm.Unsaved()
		n.metrics.unsaved.Set(float64(grown))
		enough := int64(float64(grown) / late)
		if enough < n.cfg.SnapshotBytes || n.replaying() || enough < newest(snapshots).Size {
			continue // the disk is asked last, and seldom
		}
		late = lateness()
		n.keepTrailing(snapshots, grown)
		if err := n.waitFuture(ctx, n.raft.Snapshot()); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && ctx.Err() == nil {
			n.log.Warn("the log could not be shortened by a snapshot; it is tried again", "log_bytes", grown, "error", err)
		}
	}
}

// newest describes the newest snapshot, by zeros if there is none.
func newest(snapshots raft.SnapshotStore) raft.SnapshotMeta {
	list, err := snapshots.List()
	if err != nil || len(list) == 0 {
		return raft.SnapshotMeta{}
	}
	return *list[0]
}

// keepTrailing sets how many entries raft keeps behind the snapshot that is about to be made,
// by the size of those since the last one: grown bytes in all.
func (n *Node) keepTrailing(snapshots raft.SnapshotStore, grown int64) {
	entries := n.raft.AppliedIndex() - min(newest(snapshots).Index, n.raft.AppliedIndex())
	keep := n.cfg.TrailingLogs
	if grown > 0 {
		keep = min(keep, max(MaxEntriesInFlight+1, maxTrailing*entries/uint64(grown)))
	}
	rc := n.raft.ReloadableConfig()
	if rc.TrailingLogs == keep {
		return
	}
	rc.TrailingLogs = keep
	if err := n.raft.ReloadConfig(rc); err != nil {
		n.log.Warn("the number of log entries that are kept stays as it was", "error", err)
	}
}

// replaying says whether this node is far behind what it knows to be committed, as after
// its start: then it has better things to do than to write its state down.
func (n *Node) replaying() bool {
	return n.raft.AppliedIndex()+MaxEntriesInFlight < n.raft.CommitIndex()
}
