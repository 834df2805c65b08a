package cluster

import (
	"errors"
	"fmt"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Outcomes of Propose stay apart (DESIGN: done, refused, not applied, unknown):
//
//	nil                 done, or refused by the rules (Applied.Reply.Refusal)
//	*NotLeaderError     not in the log, and never will be: ask the leader
//	ErrNotApplied       not in the log, and never will be: safe to retry anywhere
//	ErrUnknown          may or may not happen: retry with the same seq
//	ErrOverloaded       not in the log: this node has all the work it takes
//	ErrTooLarge         not in the log, and never will be: do not retry
//	*VersionError       not in the log, and never will be: a member must be upgraded first
//	ErrStopped          not in the log: this node is going away, ask another
var (
	// ErrNotApplied is returned when the command is certainly not in the log.
	ErrNotApplied = errors.New("not applied: safe to retry")
	// ErrUnknown is returned when leadership, time or the node was lost after the
	// command had been handed to raft.
	ErrUnknown = errors.New("outcome unknown: retry with the same seq")
	// ErrOverloaded is returned when the proposer's queue is full.
	ErrOverloaded = errors.New("overloaded: too many commands in flight")
	// ErrTooLarge is returned for a command that fits into no log entry. It is not in
	// the log, and trying again does not help.
	ErrTooLarge = errors.New("command is too large for a log entry")
	// ErrStopped is returned by a node that is shutting down; nothing was applied.
	ErrStopped = errors.New("node is stopping")
)

// NotLeaderError is returned by a node that does not lead, or not yet: nothing was
// applied. Leader is the last epoch this node knows; its APIAddress may be empty.
type NotLeaderError struct{ Leader fsm.Epoch }

func (e *NotLeaderError) Error() string {
	if e.Leader.APIAddress == "" {
		return "not the leader, and no leader is known"
	}
	return fmt.Sprintf("not the leader: ask %s at %s", e.Leader.Node, e.Leader.APIAddress)
}

// Applied is what a proposed command came to.
type Applied struct {
	Index, Term uint64
	Now         lease.Time
	Reply       lease.Reply
}

// Proposed is the outcome of one of many commands proposed together.
type Proposed struct {
	Applied Applied
	Err     error // as Propose returns it
}

// Peer is one member of the raft group.
type Peer struct {
	ID, Name, Address, APIAddress string
	Voter, Leader                 bool
	// Health is gossip's opinion ("alive", "left", "failed", "unknown"): a hint only.
	Health string
}
