// Package explore visits every state that a few clients can bring the real state machine
// into: all interleavings of their requests, of duplicates and late copies, of expirations
// right and wrong, of leader changes and of passing time, breadth first to a bounded depth.
//
// Its words: a step is one thing that happens; a state is the state machine with all that
// the clients know and all that is under way; a counterexample is a list of steps.
//
// Its one rule: two states that differ only in names (raft indexes, tokens, lease ids,
// absolute times) are one state, or no search would end. Before each step a state machine
// is restored from the snapshot of the state before, so every edge also tests snapshots.
//
// Its clock assumption: real time moves in whole seconds for everybody at once; client
// clocks are slow by less than the margin; cluster time follows, or is forgotten.
package explore
