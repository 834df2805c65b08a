package history

// Process is who did an operation: a client's process number from 0, or one of the two
// below.
type Process int

// Processes that are no client.
const (
	// Nemesis makes faults. EDN: :nemesis.
	Nemesis Process = -1
	// Observer notes what clients know about themselves: beliefs. EDN: :observer.
	Observer Process = -2
)

// NextProcess is the number under which the client of p goes on after an :info, when
// concurrency clients run: as in Jepsen, p modulo concurrency names the client.
func NextProcess(p Process, concurrency int) Process { return p + Process(concurrency) }

// Type says how far an operation is.
type Type string

// The types; the package comment says what each means.
const (
	Invoke Type = "invoke"
	OK     Type = "ok"
	Fail   Type = "fail"
	Info   Type = "info"
)

// F is the kind of an operation; it decides the type of Op.Value.
type F string

// The kinds, with the type of their value.
const (
	FCheckout F = "checkout" // *Checkout
	FRenew    F = "renew"    // *Renew: one heartbeat that the workload made or the SDK reported
	FCheckin  F = "checkin"  // *Checkin
	FKill     F = "kill"     // *Kill
	FStatus   F = "status"   // *Status
	FLeases   F = "leases"   // *Leases
	FVerify   F = "verify"   // *Verify
	FWrite    F = "write"    // *Write: to the fenced toy resource
	FLicence  F = "licence"  // *Licence: apply or remove a licence file
	FTransfer F = "transfer" // *Transfer: hand leadership over, by the operator's word

	// What the rules workload does beside these.
	FLeave  F = "leave"  // *Leave: give up a place in the queue
	FBook   F = "book"   // *Book: keep seats for a job
	FCancel F = "cancel" // *Book: let go of them
	FBorrow F = "borrow" // *Borrow: take a seat offline
	FReturn F = "return" // *Return: give a borrowed seat back
	FRevoke F = "revoke" // *Return: forbid its use, by the operator's word
	FPolicy F = "policy" // *Policy: put another policy in place

	// Facts, of process :observer and type :info.
	FBelieve F = "believe" // *Believe
	FLost    F = "lost"    // *Lost

	// Faults, of process :nemesis and type :info.
	FStart F = "start" // *Fault: a fault begins
	FStop  F = "stop"  // *Fault: it is over; says whether it bit
	FPhase F = "phase" // *Phase
)

// Op is one line of a history.
type Op struct {
	// Index is the line's number from 0, Time its nanosecond. The Writer gives both.
	Index   int64   `edn:"index"`
	Time    int64   `edn:"time"`
	Process Process `edn:"process"`
	Type    Type    `edn:"type"`
	F       F       `edn:"f"`
	// Value is one of the types of this package, by F; nil is allowed.
	Value any `edn:"value"`
	// Error says in the harness's words why a :fail or :info is one.
	Error string `edn:"error,omitempty"`

	// Client names the logical client (a worker): it stays when the process number
	// changes. It is also sent as the session's instance_id, so that the log names it.
	Client string `edn:"client,omitempty"`
	// Node is the node that was asked, or that answered if that is known.
	Node string `edn:"node,omitempty"`
	// Request identifies what the application wants, see the package comment.
	Request string `edn:"request,omitempty"`
	// Session (32 hexadecimal digits), Incarnation and Seq are as sent; Seq is 0 where
	// the SDK does not tell it.
	Session     string `edn:"session,omitempty"`
	Incarnation uint64 `edn:"incarnation,omitempty"`
	Seq         uint64 `edn:"seq,omitempty"`
	// RaftIndex and Term are where the answer was applied (or, for reads, what it had
	// seen); 0 without an answer.
	RaftIndex uint64 `edn:"raft-index,omitempty"`
	Term      uint64 `edn:"term,omitempty"`
	// Transport is how it was asked: sdk, grpc or http.
	Transport string `edn:"transport,omitempty"`
}

// IsClient says whether a client did it, so that invocation and completion pair.
func (o *Op) IsClient() bool { return o.Process >= 0 }
