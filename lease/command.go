package lease

import "time"

// Command is one request to the Book. Commands are values: all that was decided
// outside (identity, digests, verified licences) is in them.
type Command interface{ isCommand() }

// SessionRef names a session and shows the right to act for it.
type SessionRef struct {
	ID     SessionID
	Digest SecretDigest
	// Incarnation counts the process runs of the session, from 1; 0 means "the
	// current one" (plain curl). A higher one fences all lower ones.
	Incarnation uint64
	// Seq numbers the requests of one incarnation that change something; the same
	// number again is the same request (one effect, same answer). 0 means "not
	// numbered": such a request is never taken for an earlier one.
	Seq uint64
}

// Item is one line of a checkout: Count seats of Feature at Version or later.
type Item struct {
	Feature, Version string
	Count            int
}

// Checkout takes seats for every item or for none. It opens the session if it does
// not exist and Seq is at most 1; a later Seq proves that it once existed, and is
// answered session_unknown.
type Checkout struct {
	Tenant     string
	Session    SessionRef
	Principal  Principal
	InstanceID string
	Items      []Item
	// Ephemeral marks a session whose id the server minted for this one request: no
	// duplicate of it can arrive, so nothing of it is kept after it is closed.
	Ephemeral bool
	// Tentative says that the same request will be tried again when seats come free: a
	// refusal that is not final leaves its Seq unused.
	Tentative bool
	// Wait asks for a place in the queue where there are no seats, with its deadline so
	// far from now, at most MaxWait. It implies Tentative. The session's place for the same
	// items is kept; without Wait it is given up, whatever the answer.
	Wait time.Duration
	// Booking names the booking whose seats to use.
	Booking string
	// Partial takes the items that can be had, if any can. It does not wait.
	Partial bool
	// borrow is how long the seats are wanted offline: set by Borrow only.
	borrow time.Duration
}

// Renew is the heartbeat: it extends every lease of the session. With a higher
// incarnation it resumes the session for a new process run. Held, if given, is what
// the client believes it holds; what it no longer holds is answered in Reply.Lost.
type Renew struct {
	Session SessionRef
	Held    []Ref
	// Idle is how long nobody has worked with the program; 0: it does not say.
	Idle time.Duration
}

// CheckIn gives leases back; with no Refs all of them. A Ref without a token is
// matched by id alone (plain curl). Close also ends the session. Reason 0 means
// ReleasedNormal.
type CheckIn struct {
	Session SessionRef
	Refs    []Ref
	Close   bool
	Reason  Release
}

// Expire reclaims a lease whose grace has run out. The leader proposes it; the Book
// judges it again, so one that is early or meant for an older state has no effect.
type Expire struct {
	Ref
	// Rev is the revision the proposer saw; every renewal makes it grow.
	Rev uint64
}

// ExpireSession forgets a session that has no lease left and has not been heard of
// for its longest lifespan and grace.
type ExpireSession struct {
	ID  SessionID
	Rev uint64
}

// Kill takes leases back at once, by the operator's word. Their holders learn of it
// at their next heartbeat; until then only the fencing token protects a resource.
type Kill struct {
	Refs []Ref
	By   string // who asked, for the audit trail
}

// InstallLicence adds a verified licence, or with Replace puts it in the place of
// the installed one with the same id, in one step.
type InstallLicence struct {
	Licence Licence
	Replace bool
}

// RemoveLicence takes a licence away. Seats in use beyond what is left stay until
// they are returned.
type RemoveLicence struct {
	Tenant, ID string
}

// Fence forbids checkouts until every lease that may have been granted after the
// backup just restored has run out, and lifts all future fencing tokens above all
// that were given then.
type Fence struct{}

// Tick carries nothing: it is proposed to let cluster time pass.
type Tick struct{}

func (Checkout) isCommand()       {}
func (Renew) isCommand()          {}
func (CheckIn) isCommand()        {}
func (Expire) isCommand()         {}
func (ExpireSession) isCommand()  {}
func (Kill) isCommand()           {}
func (InstallLicence) isCommand() {}
func (RemoveLicence) isCommand()  {}
func (Fence) isCommand()          {}
func (Tick) isCommand()           {}
