package history

// Result is what the service answered: Granted, Done, or the reason code of a refusal
// as the API spells it (no_seats, fenced…).
type Result string

// Results that are no refusal.
const (
	// Granted is the result of a checkout that got its seats.
	Granted Result = "granted"
	// Done is the result of everything else that was carried out or answered.
	Done Result = "done"
	// Accepted and Rejected are what the fenced resource says to a write.
	Accepted Result = "accepted"
	Rejected Result = "rejected"
)

const (
	// Queued is the refusal of a checkout that has a place in the queue.
	Queued Result = "queued"
	// Fenced is the answer to a checkout asked again whose lease has ended meanwhile, and
	// the refusal of whoever names a token that is over.
	Fenced Result = "fenced"
)

// Refused says whether the answer is a definite no.
func (r Result) Refused() bool {
	return r != "" && r != Granted && r != Done && r != Accepted && r != Rejected
}

// Item is one line of a checkout.
type Item struct {
	Feature string `edn:"feature"`
	Version string `edn:"version,omitempty"`
	Count   int    `edn:"count"`
}

// Ref is a lease as its holder names it.
type Ref struct {
	ID    uint64 `edn:"id"`
	Token uint64 `edn:"token,omitempty"`
}

// Lease is a grant as an answer shows it. Times are milliseconds, as in the API.
type Lease struct {
	ID          uint64 `edn:"id"`
	Handle      uint64 `edn:"handle,omitempty"`
	Feature     string `edn:"feature,omitempty"`
	Version     string `edn:"version,omitempty"`
	Count       int    `edn:"count,omitempty"`
	Seats       []int  `edn:"seats,omitempty"`
	Token       uint64 `edn:"token,omitempty"`
	State       string `edn:"state,omitempty"`
	RemainingMS int64  `edn:"remaining-ms,omitempty"`
	GraceMS     int64  `edn:"grace-ms,omitempty"`
	// User, Host and Session are filled in listings.
	User    string `edn:"user,omitempty"`
	Host    string `edn:"host,omitempty"`
	Session string `edn:"session,omitempty"`
}

// Ended is a lease that is no more, and why (the API's release reason).
type Ended struct {
	ID      uint64 `edn:"id"`
	Token   uint64 `edn:"token,omitempty"`
	Feature string `edn:"feature,omitempty"`
	Count   int    `edn:"count,omitempty"`
	Reason  string `edn:"reason,omitempty"`
}

// Checkout asks for seats. From Result on the fields are the answer's.
type Checkout struct {
	Tenant string `edn:"tenant,omitempty"`
	Items  []Item `edn:"items"`
	User   string `edn:"user,omitempty"`
	Host   string `edn:"host,omitempty"`
	WaitMS int64  `edn:"wait-ms,omitempty"`
	// QueueMS is how long a place in the queue is wanted, Booking whose seats to use.
	QueueMS int64  `edn:"queue-ms,omitempty"`
	Booking string `edn:"booking,omitempty"`

	Result   Result  `edn:"result,omitempty"`
	Final    bool    `edn:"final,omitempty"`
	Replayed bool    `edn:"replayed,omitempty"`
	Leases   []Lease `edn:"leases,omitempty"`
	// Position is where it stands in the queue, if Result says Queued.
	Position int `edn:"position,omitempty"`
}

// Renew is a heartbeat. Leases are those held after it, Lost those that ended meanwhile.
type Renew struct {
	Held []Ref `edn:"held,omitempty"`

	Result Result  `edn:"result,omitempty"`
	Leases []Lease `edn:"leases,omitempty"`
	Lost   []Ended `edn:"lost,omitempty"`
}

// Checkin gives leases back: those in Refs, or all if it is empty.
type Checkin struct {
	Refs  []Ref `edn:"refs,omitempty"`
	Close bool  `edn:"close,omitempty"`

	Result   Result  `edn:"result,omitempty"`
	Replayed bool    `edn:"replayed,omitempty"`
	Released []Ended `edn:"released,omitempty"`
}

// Kill takes leases back by the operator's word. The selectors narrow each other, as in
// the API.
type Kill struct {
	IDs     []uint64 `edn:"ids,omitempty"`
	Handles []uint64 `edn:"handles,omitempty"`
	User    string   `edn:"user,omitempty"`
	Host    string   `edn:"host,omitempty"`
	Session string   `edn:"session,omitempty"`
	Feature string   `edn:"feature,omitempty"`

	Result Result  `edn:"result,omitempty"`
	Killed []Lease `edn:"killed,omitempty"`
}

// Matches says whether the kill's selectors could mean this lease.
func (k *Kill) Matches(x *Lease) bool {
	return (len(k.IDs) == 0 || has(k.IDs, x.ID)) && (len(k.Handles) == 0 || x.Handle == 0 || has(k.Handles, x.Handle)) &&
		(k.User == "" || k.User == x.User) && (k.Host == "" || k.Host == x.Host) &&
		(k.Session == "" || k.Session == x.Session) && (k.Feature == "" || k.Feature == x.Feature)
}

func has(list []uint64, x uint64) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// PoolUse is one pool in a status answer.
type PoolUse struct {
	Tenant  string `edn:"tenant,omitempty"`
	Feature string `edn:"feature"`
	Version string `edn:"version,omitempty"`
	Total   int    `edn:"total"`
	InUse   int    `edn:"in-use"`
}

// NodeState is one node in a status answer.
type NodeState struct {
	ID      string `edn:"id"`
	Role    string `edn:"role,omitempty"`
	Applied uint64 `edn:"applied,omitempty"`
	Hash    string `edn:"hash,omitempty"`
}

// Status reads the pools. Stale asks for the node's own state without the leader.
type Status struct {
	Stale bool `edn:"stale,omitempty"`

	Result        Result      `edn:"result,omitempty"`
	Leader        string      `edn:"leader,omitempty"`
	Epoch         uint64      `edn:"epoch,omitempty"`
	ClusterTimeMS int64       `edn:"cluster-time-ms,omitempty"`
	Pools         []PoolUse   `edn:"pools,omitempty"`
	Nodes         []NodeState `edn:"nodes,omitempty"`
	Sessions      int         `edn:"sessions,omitempty"`
	Leases        int         `edn:"leases,omitempty"`
}

// Leases lists the live leases, of one feature if it is named. Complete says that the
// listing was one page.
type Leases struct {
	Feature string `edn:"feature,omitempty"`
	Stale   bool   `edn:"stale,omitempty"`

	Result   Result  `edn:"result,omitempty"`
	Complete bool    `edn:"complete,omitempty"`
	Leases   []Lease `edn:"leases,omitempty"`
}

// Verify asks whether a lease with this token is the live holder.
type Verify struct {
	ID    uint64 `edn:"id"`
	Token uint64 `edn:"token"`

	Result Result `edn:"result,omitempty"`
	Valid  bool   `edn:"valid"`
}

// Write is a write to the toy resource, which must accept it only with a token at least
// as high as any it saw. Order is the resource's own number of the request, from 1, in
// the order in which it judged them.
type Write struct {
	Resource string `edn:"resource"`
	ID       uint64 `edn:"id,omitempty"`
	Token    uint64 `edn:"token"`
	Data     string `edn:"data,omitempty"`

	Result  Result `edn:"result,omitempty"`
	Order   uint64 `edn:"order,omitempty"`
	Highest uint64 `edn:"highest,omitempty"`
}

// Licence applies (or with Remove removes) a licence.
type Licence struct {
	ID      string `edn:"id"`
	Remove  bool   `edn:"remove,omitempty"`
	Replace bool   `edn:"replace,omitempty"`

	Result Result `edn:"result,omitempty"`
}

// Transfer hands leadership over.
type Transfer struct {
	To string `edn:"to,omitempty"`

	Result Result `edn:"result,omitempty"`
}

// Believe says that a client believes from At on that it holds a lease, until Until
// unless another Believe moves that, or a Lost ends it. Both are on the harness's clock.
// At is when the answer had arrived; Until is what the client itself computed (its own
// deadline, grace included). It is noted at each answer that confirms the lease.
type Believe struct {
	Lease Lease `edn:"lease"`
	At    int64 `edn:"at"`
	Until int64 `edn:"until"`
}

// Lost says that a client's belief in a lease ended at At, before its deadline. At must be
// read before a release is sent: what is noted later would make a belief look longer than
// it was. Cause is one of the constants below or the service's release reason.
type Lost struct {
	ID    uint64 `edn:"id"`
	Token uint64 `edn:"token,omitempty"`
	At    int64  `edn:"at"`
	Cause string `edn:"cause,omitempty"`
}

// Causes of a Lost that no release reason names.
const (
	CauseReleased = "released" // about to be given back
	CauseCrashed  = "crashed"  // the client was killed: it believes nothing any more
)

// Fault is one fault of the nemesis. FStart notes it with Bit false; FStop repeats it with
// what was observed. Fault ids are unique in a run.
type Fault struct {
	ID string `edn:"id"`
	// Family is the fault's name: partition-halves, kill, power-all…
	Family string `edn:"family"`
	// Nodes are those it was done to.
	Nodes []string `edn:"nodes,omitempty"`
	// CutOff are the clients that cannot reach a majority while it lasts.
	CutOff []string `edn:"cut-off,omitempty"`
	// NoMajority: no majority of nodes works while it lasts, so nobody can be served.
	NoMajority bool `edn:"no-majority,omitempty"`
	// BreaksClock: a process's clock runs wrong by more than the documented margin, so
	// what rests on that margin is not promised while it lasts.
	BreaksClock bool `edn:"breaks-clock,omitempty"`

	// Bit says that it had an effect, Proof how that was seen (packets dropped, records
	// rolled back, another leader).
	Bit   bool   `edn:"bit"`
	Proof string `edn:"proof,omitempty"`
}

// Phase marks a turn of the run.
type Phase struct {
	Name string `edn:"name"`
}

// The phases a run has, in this order.
const (
	PhaseWarm   = "warm"   // load without faults
	PhaseFaults = "faults" // load with faults
	PhaseHealed = "healed" // all faults are over; load goes on
	PhaseQuiet  = "quiet"  // clients hold what they hold, nobody asks for more
	PhaseClosed = "closed" // every session was closed
	PhaseEnd    = "end"    // the last reads were made
)

// valueOf makes an empty value for a kind of operation; nil if the kind is unknown.
func valueOf(f F) any {
	switch f {
	case FCheckout:
		return &Checkout{}
	case FRenew:
		return &Renew{}
	case FCheckin:
		return &Checkin{}
	case FKill:
		return &Kill{}
	case FStatus:
		return &Status{}
	case FLeases:
		return &Leases{}
	case FVerify:
		return &Verify{}
	case FWrite:
		return &Write{}
	case FLicence:
		return &Licence{}
	case FTransfer:
		return &Transfer{}
	case FLeave:
		return &Leave{}
	case FBook, FCancel:
		return &Book{}
	case FBorrow:
		return &Borrow{}
	case FReturn, FRevoke:
		return &Return{}
	case FPolicy:
		return &Policy{}
	case FBelieve:
		return &Believe{}
	case FLost:
		return &Lost{}
	case FStart, FStop:
		return &Fault{}
	case FPhase:
		return &Phase{}
	}
	return nil
}

// ResultOf is the result in a completion's value; empty if it has none.
func ResultOf(value any) Result {
	switch v := value.(type) {
	case *Checkout:
		return v.Result
	case *Renew:
		return v.Result
	case *Checkin:
		return v.Result
	case *Kill:
		return v.Result
	case *Status:
		return v.Result
	case *Leases:
		return v.Result
	case *Verify:
		return v.Result
	case *Write:
		return v.Result
	case *Licence:
		return v.Result
	case *Transfer:
		return v.Result
	case *Leave:
		return v.Result
	case *Book:
		return v.Result
	case *Borrow:
		return v.Result
	case *Return:
		return v.Result
	case *Policy:
		return v.Result
	}
	return ""
}
