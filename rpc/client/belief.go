package client

import "github.com/seatkeeper/seatkeeper/lease"

// The client's half of the lease protocol is a rule, so it stands with the rules; the
// SDK gives it the names its users see.
type (
	// Instant is one reading of the client's clock, which counts suspend.
	Instant = lease.Instant
	// State is what a client believes of a lease.
	State = lease.State
	// Belief is how long a client may believe in one lease.
	Belief = lease.Belief
)

// The states of a lease as its holder sees it.
const (
	// Lost: the cluster said so, or nothing was confirmed for too long.
	Lost = lease.Gone
	// Active: the last heartbeat was answered in time.
	Active = lease.Active
	// Expiring: a heartbeat was missed, grace runs, the application may go on.
	Expiring = lease.Expiring
)

// Margin is the drift between the client's and the cluster's clock that a Belief allows
// for, as a fraction.
const Margin = 1.0 / lease.MarginParts
