// Package client is the Go SDK of Seatkeeper: the part an application embeds to
// take a licence seat, keep it while it runs and give it back.
//
// Its words: a Client knows the cluster's nodes and finds the leader. A Session is
// one process run: it has an id and a secret minted here, one heartbeat for all it
// holds, and an optional state file with which the next run of the application
// takes over the seats of one that crashed. A Lease is a granted seat (or n of
// them); Lease.Valid is the question a licence check asks.
//
// Its one rule: a client stops believing in a lease before the cluster may give the
// seat to somebody else. Every answer says how long the lease still lives; the
// client counts that from the moment it SENT the request, takes off Margin for the
// drift of its clock, and keeps the latest end over all answers (Belief). Lease.Valid
// compares that end with the clock at the very moment it is called; no timer has to
// have fired, so a process that was paused or asleep knows at once.
//
//	active    a heartbeat was answered in time
//	expiring  one was missed; the seat is still charged, the application may go on
//	lost      grace is over, or the cluster said so; Lost() is closed
//
// A lease lost by silence alone (nobody could be reached) turns active again if the
// cluster, reached later, still holds it for this session: same seat, same fencing
// token. A lease that the cluster has ended never comes back.
//
// Its clock assumption: the local clock never stands still while real time passes,
// not even while the machine sleeps, and runs at most Margin slower than the
// cluster's. Linux gives CLOCK_BOOTTIME; elsewhere each step of the monotonic and of
// the wall clock is compared and the larger one counts.
//
// Requests that change something carry a sequence number. A lost answer is asked for
// again with the same number, on any node, so that a retry never takes a second
// seat. A node that does not lead names the leader; the client follows only to an
// address it was configured with, or that a configured node lists as a member.
package client
