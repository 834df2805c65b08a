package lease

import "time"

// Reason is the code of a refusal. Programs compare reasons, never messages.
type Reason string

// The reasons the rules give. Each is returned when the words beside it hold.
const (
	NoSeats          Reason = "no_seats"           // all seats of the pool are charged
	NoFeature        Reason = "no_feature"         // no licence of the tenant has the feature
	BadVersion       Reason = "version"            // a licence has the feature, but not up to this version
	LicenseExpired   Reason = "license_expired"    // every fitting entitlement is past its expiry
	NotStarted       Reason = "not_started"        // every fitting entitlement starts later
	TooManyRequested Reason = "too_many_requested" // more seats asked than the licence counts
	SessionsExceeded Reason = "sessions_exceeded"  // the share group is full
	Fenced           Reason = "fenced"             // older incarnation, or a lease that is no longer this holder's
	StaleRequest     Reason = "stale_request"      // a sequence number lower than the session's last
	SessionUnknown   Reason = "session_unknown"    // never opened, closed or reclaimed
	Forbidden        Reason = "forbidden"          // the session's secret is wrong
	Invalid          Reason = "invalid"            // the request itself is wrong
	Overloaded       Reason = "overloaded"         // a limit is reached for now

	Excluded          Reason = "excluded"            // the policy excludes the principal
	NotIncluded       Reason = "not_included"        // the policy includes others only
	MaxReached        Reason = "max_reached"         // a cap of the policy is reached
	ReservedForOthers Reason = "reserved_for_others" // the free seats are kept for others
	TooSoon           Reason = "too_soon"            // the policy does not let a lease be taken back so early
	BorrowOff         Reason = "borrow_off"          // licence or policy forbid borrowing
	BorrowNoneLeft    Reason = "borrow_none_left"    // all seats that may be borrowed are
	BorrowTooLong     Reason = "borrow_too_long"     // longer than licence or policy let a seat be borrowed
)

// Refusal is a definite "no" that changed nothing. It is the error type of the
// rules: code, text for a person, and whether asking again can help.
type Refusal struct {
	Reason  Reason
	Message string
	// Final is true when the same request can never succeed as things stand
	// (no such feature), false when waiting may help (no seat free).
	Final bool
	// RetryAfter is when asking again makes sense; 0 means no hint.
	RetryAfter time.Duration
}

func (r *Refusal) Error() string { return string(r.Reason) + ": " + r.Message }
