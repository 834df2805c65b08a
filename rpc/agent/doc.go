// Package agent keeps seats for the processes of one machine, or of one pod, that cannot
// keep them themselves: it listens on a local socket and speaks plain HTTP and JSON there,
// so that a program in any language is a client with three calls.
//
// Its words: a caller is who is at the other end of a connection, by the system's word
// (the peer's user id), never by its own. A holder is one caller's claim: a process, an
// open connection, or a lease by the clock. Each holder has a session of its own with the
// cluster, so that the share rules judge two processes as they would judge two programs
// with an SDK; the heartbeats of all sessions go out in one message.
//
//	process     ends when the process ends (pid and start time, never the pid alone)
//	connection  ends when the connection is closed
//	ttl         ends when nobody renewed it for its time to live
//
// Its one rule: a seat outlives its holder by no more than it takes to tell the cluster,
// and a holder outlives the agent. All that is needed to go on is on the disk before a
// session is first used; an agent that starts again looks which holders are still there,
// resumes their sessions (same leases, same fencing tokens) and returns the others' seats.
//
// What it says of a lease is what the SDK believes at that moment: "valid" ends before the
// cluster may give the seat to somebody else. While a session is being resumed nothing is
// said at all.
//
// It assumes that the local clock never stands still while real time passes (see package
// client). Times to live are measured on the clock that stops while the machine sleeps,
// for then nobody can renew.
package agent
