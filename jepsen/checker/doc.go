// Package checker judges a run of the chaos harness: its history, the logs its nodes
// applied, and what is known of the run (pools, limits, faults).
//
// Each checker, C0 to C12, is a function of a Run and gives a Verdict: valid, invalid
// with evidence, or unknown when it saw too little to say. A run is passed only if every
// verdict is valid; a run in which nothing happened is unknown, never valid. The checkers
// are deterministic and take linear or n·log n time, but for C2, whose search is bounded
// by steps.
//
//	C0   enough happened: operations, results, faults that bit, health before and after
//	C1   the log, replayed through an independent model, gives the answers that were given
//	C2   the answers of each pool are linearizable (porcupine), with the log and without
//	C3   at any real instant at most one client or share group believes in a seat
//	C4   fencing tokens grow per seat; a guarded resource never accepts an older one
//	C5   nothing leaks: seats in use are seats believed in, and none after all was closed
//	C6   a request takes its seats once, whatever was retried or reconnected
//	C7   replicas have equal hashes at equal log positions
//	C8   what was acknowledged is in the final log of a majority
//	C9   no gap in service is longer than promised, for clients that reach a majority
//	C10  no lease ends early
//	C11  cluster time never goes back, never outruns real time, and moves
//	C12  a read is never older than what completed before it
//
// A run of the rules workload (Test.Ruled) is also judged by
//
//	R1   never more seats are promised than there are: in hands, booked, reserved
//	R2   nobody overtakes in the queue, and nobody waits for what is there
//	R3   a borrowed seat is nobody else's before its end or return
//	R4   a booking is honoured
//	R5   a policy in force is obeyed
//
// What a verdict rests on: the harness's clock is monotonic and one for all clients; an
// invocation is stamped before it is sent and a completion after it arrived; the audits
// are what the nodes really applied (C7 compares them with the hashes that nodes showed
// while they ran).
package checker
