package lease

import "slices"

// EventKind tells events apart.
type EventKind uint8

// Kinds of events.
const (
	Granted EventKind = iota + 1
	Ended
	Denied
	// Queued is a request that begins to wait in the queue, Dequeued one that leaves it,
	// with seats (a Granted follows in the same entry) or without.
	Queued
	Dequeued
)

func (k EventKind) String() string {
	switch k {
	case Granted:
		return "checkout"
	case Ended:
		return "release"
	case Denied:
		return "denied"
	case Queued:
		return "queued"
	case Dequeued:
		return "dequeued"
	}
	return "unknown"
}

// Event is something that happened to a lease or, if denied, did not. Every Granted is
// followed by exactly one Ended for the same lease.
type Event struct {
	Kind EventKind
	// At and Date are when; Start and StartDate when the lease was granted (Ended).
	At, Start        Time
	Date, StartDate  Calendar
	Lease            Ref
	Tenant           string
	Feature, Version string
	Count            int
	Session          SessionID
	Principal        Principal
	Release          Release // Ended
	Reason           Reason  // Denied; Dequeued without seats
	// Final says that asking again cannot help as things stand (Denied).
	Final bool
	// Vendor signed the seats; of a Denied it is the one whose seats were asked for, if
	// there is one.
	Vendor string
	// Charge names what the lease charges (Granted, Ended): leases of one pool with the same
	// charge at one instant share their seats. It is given to others later.
	Charge uint32
	// Ticket is that of the place (Queued, Dequeued).
	Ticket uint64
}

// Usage gives the usage record of an Ended event.
func (e Event) Usage() UsageRecord {
	return UsageRecord{
		Lease: e.Lease.ID, Tenant: e.Tenant, Feature: e.Feature, Version: e.Version, Count: e.Count,
		Session: e.Session, Principal: e.Principal, Start: e.Start, End: e.At,
		StartDate: e.StartDate, EndDate: e.Date, Reason: e.Release, Vendor: e.Vendor, Charge: e.Charge,
	}
}

// Happened is how many events TakeEvents would return.
func (b *Book) Happened() int { return len(b.events) }

// keptEvents is how large a room for events is kept from one TakeEvents to the next, some
// 300 KB: two for each command of a full entry.
const keptEvents = 1024

// TakeEvents returns what happened since the last call, in order. The slice is the caller's.
func (b *Book) TakeEvents() []Event {
	if len(b.events) == 0 {
		return nil
	}
	taken := slices.Clone(b.events)
	if cap(b.events) > keptEvents {
		b.events = nil
		return taken
	}
	clear(b.events) // or it would keep their strings
	b.events = b.events[:0]
	return taken
}
