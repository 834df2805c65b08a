// Package workload is what clients do to the service while it is being broken: take
// seats and give them back, come back after a lost connection or a crash, write to a
// resource that is guarded by fencing tokens, read from every node, and come in crowds.
//
// Its words: a worker is one client doing one thing at a time; a place is where it runs
// (a network namespace); a holder is a session that a worker keeps by hand; the recorder
// writes the history; the resource is the guarded toy.
//
// Its one rule: what is written down is what the client knew, when it knew it. An
// operation is noted before it is sent and after its answer; a belief is noted not
// earlier than it began and its end not later than it ended.
//
// Workers use the service as anybody would: by the SDK's sessions, by the SDK's generated
// clients, and by plain HTTP with JSON.
//
// Its clock is the recorder's; leases are timed by the SDK's own clock and rules.
package workload
