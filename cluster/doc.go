// Package cluster is one node: it keeps the replicated state machine of package fsm
// going on hashicorp/raft, finds the other nodes by gossip, and turns the commands of
// many clients into few log entries.
//
// Its words: a node has a name and an incarnation, which lives in its data directory;
// together they are its server id. Winning an election starts an epoch: the leader
// commits a Lead entry, and only when that entry is applied does it propose, stamp or
// serve. An epoch has a clock, a proposer, a verifier, an expirer and a watchdog, all
// under one context; when leadership ends, all of them have stopped before the next
// epoch begins.
//
// Its one rule: say what is known and nothing more. A proposal is done, certainly not
// in the log, or unknown (see ErrUnknown), and a read is answered only after a
// majority has confirmed the leader after the read.
//
// Its clock assumption: the leader's monotonic clock runs at most one part in
// ClockMargin too fast. It may stop, and it may be as slow as it likes. Wall clocks
// are passed on for licence dates and decide nothing here.
//
// There are two ways in. Start opens a data directory and ports. New takes the parts
// ready-made: the simulator gives it disks, networks and clocks of its own and runs
// whole clusters on virtual time. Therefore the package has no package-level state,
// starts no goroutine that outlives Shutdown, opens no socket outside Start, and waits
// for nothing without a deadline. DESIGN.md says why things are as they are.
package cluster
