package lease

import "time"

// Reply is the answer to one command. Refusal is nil when it was done.
type Reply struct {
	Refusal *Refusal
	Session SessionInfo
	// Leases are the leases granted (Checkout) or held now (Renew), with what
	// remains of them at the time of this answer, also when the answer is a replay.
	Leases []Lease
	// Lost are leases the client may still believe in, and why they ended.
	Lost []Lost
	// Released are the leases ended by CheckIn, Kill or Expire.
	Released []Released
	// Renewed are the answers to a RenewMany, one for each of its sessions, in order.
	Renewed []Renewed
	// PolicyVersion is that of the policy in place after an ApplyPolicy; PolicySame says
	// that it said the same before.
	PolicyVersion uint64
	PolicySame    bool
	// Lent is what the token for a borrowed lease says beside the lease (Borrow, RenewBorrow).
	Lent *Lent
	// Refused are the items that a partial checkout did not get.
	Refused []Refused
	// Place is set when the checkout is refused as InQueue.
	Place *Place
	// Booking is the one made or cancelled.
	Booking *Booking
	// Replayed is true when the request had its effect before.
	Replayed bool
}

// SessionInfo is what a client is told of its session.
type SessionInfo struct {
	ID          SessionID
	Incarnation uint64
	// Heartbeat is how often to renew: a third of the shortest lifespan held.
	Heartbeat time.Duration
}

// Lease is a grant as it is shown. It is a copy; the ledger's own record is private.
type Lease struct {
	Ref
	Handle           Handle
	Tenant           string
	Feature, Version string
	Count            int
	// Seats are the numbers of the seats charged; leases of one share group show
	// the same numbers.
	Seats []int
	State State
	// Remaining is the time to the deadline, never below 0. Grace is what follows it.
	Remaining, Grace time.Duration
	Since            Calendar
	Session          SessionID
	Principal        Principal
	InstanceID       string
	// Rev is the revision an Expire must name.
	Rev uint64
	// Deadline is when it turns expiring unless renewed.
	Deadline Time
	// Until is the calendar date until which a borrowed lease was given; 0: it is none.
	Until Calendar
	// Vendor signed the seats. Charge names what the lease charges: leases with the same
	// charge are of one share group, and are charged once.
	Vendor string
	Charge uint32
	// Overdraft: it has a seat above the licensed count.
	Overdraft bool
}

// Lost is a lease that ended without its holder's doing.
type Lost struct {
	Ref
	Feature string
	Reason  Release
}

// Released is the closing record of one lease.
type Released struct {
	Ref
	Feature string
	Count   int
	Reason  Release
}

// UsageRecord is a closed interval of use: each ended lease makes exactly one.
type UsageRecord struct {
	Lease            ID
	Tenant           string
	Feature, Version string
	Count            int
	Session          SessionID
	Principal        Principal
	// Start and End are cluster times; the Calendar fields are the same instants for people.
	Start, End         Time
	StartDate, EndDate Calendar
	Reason             Release
	// Vendor signed the seats; Charge is that of the Event.
	Vendor string
	Charge uint32
}
