// Package fsm turns the ledger into a replicated state machine. It is the only room that
// knows both raft and lease: it encodes commands into log entries, checks on apply that an
// entry belongs to the current epoch, lets the Book judge the commands, and writes and
// reads snapshots.
//
// Its words: an entry is one raft log entry, a batch of commands under one stamp of
// cluster time; an epoch is one leadership, named by the index of its Lead entry; the
// state hash is a chain over all entries that had an effect and what came of them.
//
// Its one rule: Apply is total and deterministic. It does no I/O, reads no clock and
// follows no map's order. What it cannot read (a flipped bit, an unknown version) stops
// the node rather than making it another replica.
//
// Its clock assumption: none. Time comes in the entries, from the leader's Clock; the
// epoch check makes sure that only one clock is listened to at a time.
package fsm
