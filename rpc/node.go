package rpc

import (
	"context"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// Node is what the API needs of the cluster node it serves.
type Node interface {
	backups
	membership
	// Propose replicates one command and returns what it came to. Its errors keep
	// the outcomes apart: *cluster.NotLeaderError, cluster.ErrNotApplied,
	// cluster.ErrOverloaded and cluster.ErrStopped were not applied;
	// cluster.ErrUnknown may have been.
	Propose(ctx context.Context, cmd lease.Command) (cluster.Applied, error)
	// ProposeAsync has commands replicated next to each other and returns at once. What
	// came of each, as Propose would return it, is told once, for neighbours together,
	// from any goroutine; answered must not block. giveUp has all the rest answered now,
	// as not applied or unknown. An error, one of Propose's, means that nothing was
	// queued and nothing is told.
	ProposeAsync(cmds []lease.Command, answered func(first int, answers []cluster.Proposed)) (giveUp func(cause error), err error)
	// Read calls fn with the ledger and returns once it is certain that the view
	// reflects every write acknowledged before Read began; until then what fn saw
	// must not be used. Elsewhere than on the leader: *cluster.NotLeaderError. fn may
	// be called more than once and must not keep the Book.
	Read(ctx context.Context, fn func(*lease.Book)) (fsm.Status, error)
	// ReadStale calls fn with this node's own ledger.
	ReadStale(fn func(*lease.Book)) fsm.Status
	// Access returns the access tokens as this node knows them, and the date that their
	// ends are judged by. Every request asks.
	Access() (*access.Table, lease.Calendar)
	// Leader returns the last known epoch; false means no live leader is known.
	Leader() (fsm.Epoch, bool)
	// Leading says whether this node leads and may serve.
	Leading() bool
	// Peers lists the members of the raft group, this node too.
	Peers() []cluster.Peer
	// ID is the full server id, NAME-INCARNATION; Name is the configured name.
	ID() string
	Name() string
	// TransferLeadership hands leadership to the member with this id ("" = the most
	// current one) and returns when that is done or has failed.
	TransferLeadership(ctx context.Context, to string) error
	// RemovePeer takes the member with this id out of the raft group; it refuses this
	// node itself and one that is alive.
	RemovePeer(ctx context.Context, id string) error
	// Mark gives the place behind the newest event that this node has applied.
	Mark() fsm.Mark
	// DequeuedSince gives the places in the queue that ended since a mark, and the mark behind
	// them; more is closed
	// when there are others. whole is false when some were missed.
	DequeuedSince(m fsm.Mark) (events []lease.Event, to fsm.Mark, whole bool, more <-chan struct{})
	// Usage and Denials list the newest records that this node keeps and that match, oldest
	// first.
	Usage(q cluster.HistoryQuery) cluster.UsagePage
	Denials(q cluster.HistoryQuery) cluster.DenialPage
}
