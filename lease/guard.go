package lease

// Guard names one rule that keeps the promises. Each can be taken away, in builds with
// the tag "mutants" only, to show that some test turns red without it.
type Guard string

// The guards, by the room that asks.
const (
	GuardEpoch        Guard = "epoch"         // fsm: an entry of another epoch changes nothing
	GuardStamp        Guard = "stamp"         // fsm: time is what the entry says, not what a clock shows
	GuardTerm         Guard = "term"          // fsm: nor one of another raft term
	GuardDedupeSaved  Guard = "dedupe-saved"  // fsm: dedupe state is part of the snapshot
	GuardLostTime     Guard = "lost-time"     // cluster: a leader that could not commit forgets that time
	GuardRebase       Guard = "rebase"        // cluster: a new leader starts from the committed time
	GuardMonotonic    Guard = "monotonic"     // cluster: leader time is monotonic, not wall-clock time
	GuardVerifyRead   Guard = "verify-read"   // cluster: a read is answered after a leader check
	GuardSync         Guard = "sync"          // cluster: what the log has written is on the disk
	GuardOwnWrite     Guard = "own-write"     // cluster: a leader applies what its own disk has
	GuardOwnCommit    Guard = "own-commit"    // cluster: a leader tells others of commits that its own disk has
	GuardIdentity     Guard = "identity"      // cluster: an empty data directory is another server
	GuardSendTime     Guard = "send-time"     // simulated client: deadlines count from send, not from receipt
	GuardSuspend      Guard = "suspend"       // simulated client: its clock counts suspend
	GuardExpireTime   Guard = "expire-time"   // lease: Expire is judged again by deadline and grace
	GuardExpireRev    Guard = "expire-rev"    // lease: Expire must name the current revision
	GuardExpireToken  Guard = "expire-token"  // lease: Expire must name the current token
	GuardSeq          Guard = "seq"           // lease: the same seq has one effect
	GuardStaleSeq     Guard = "stale-seq"     // lease: a lower seq has none
	GuardIncarnation  Guard = "incarnation"   // lease: an older incarnation is fenced
	GuardReattach     Guard = "reattach"      // lease: asking again for what is held gives the same lease
	GuardCapacity     Guard = "capacity"      // lease: never more seats than the total
	GuardToken        Guard = "token"         // lease: tokens grow per seat
	GuardRelease      Guard = "release"       // lease: a check-in frees its seats
	GuardOrder        Guard = "order"         // lease: leases are returned in the order they were taken
	GuardClosed       Guard = "closed"        // lease: a closed session is remembered for a while
	GuardCalendar     Guard = "calendar-hold" // lease: a calendar jump that outruns cluster time is held
	GuardLinger       Guard = "linger"        // lease: a seat stays charged for as long as it lingers
	GuardHeld         Guard = "held"          // lease: what comes back counts no more under caps and reservations
	GuardReserve      Guard = "reserve"       // lease: seats reserved for others are kept
	GuardReserveFirst Guard = "reserve-first" // lease: a reserved seat is not stopped by MAX or INCLUDE
	GuardExclude      Guard = "exclude"       // lease: who is excluded gets nothing
	GuardMax          Guard = "max"           // lease: a cap holds
	GuardInclude      Guard = "include"       // lease: others than those included get nothing
	GuardQuarantine   Guard = "quarantine"    // lease: the seat of a revoked borrow stays charged until its end
	GuardDraw         Guard = "draw"          // lease: what pays for a charge grows and shrinks with it
	GuardOvertake     Guard = "overtake"      // lease: nobody overtakes a place in the queue who could delay it
	GuardServe        Guard = "serve"         // lease: seats that come free go to those who wait
	GuardOffer        Guard = "offer"         // lease: a grant from the queue that nobody collects ends
	GuardBooked       Guard = "booked"        // lease: booked seats are kept from others
	GuardLack         Guard = "lack"          // lease: a place that has what it lacked is looked at for the next thing
	GuardLentKept     Guard = "lent-kept"     // lease: no check-in gives a borrowed seat back
	GuardCarry        Guard = "carry"         // lease: what is out of a replaced licence counts against its new seats
)
