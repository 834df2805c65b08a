package history

// An audit is the log that one node applied, with what came of each entry, told by the
// node itself ("seatkeeper debug log"). Two forms have the same fields: JSON lines with
// keys in snake_case, as the command prints them, and EDN lines with keywords in
// kebab-case, as a run keeps them (audit-NODE.edn). Numbers may be JSON strings.
//
// One line is one log entry:
//
//	{"index":7,"term":2,"epoch":5,"now_ns":1000,"stamp_ns":1000,"calendar_ms":1,"stale":false,"hash":"ab…","commands":[…]}
//	{"index":5,"term":2,"now_ns":0,"calendar_ms":1,"hash":"cd…","lead":{"node":"n1-1a2b3c4d","api_address":"10.0.0.1:7800"}}
//
// Entries of raft's own (no-op, membership) are left out. A node that was started again may
// tell entries twice. Where a node's log begins after
// a snapshot, one line {"index":…,"term":…,"now_ns":…,"hash":…,"snapshot":true} stands
// for what came before.

// Entry is one applied log entry.
type Entry struct {
	Index uint64 `edn:"index"`
	Term  uint64 `edn:"term"`
	// Epoch is the epoch the entry was proposed for; 0 in a Lead entry.
	Epoch uint64 `edn:"epoch,omitempty"`
	// StampNS is the cluster time that the proposer put into the entry; NowNS is cluster
	// time after it was applied.
	StampNS int64 `edn:"stamp-ns,omitempty"`
	NowNS   int64 `edn:"now-ns"`
	// WallMS is the proposer's wall clock in the entry, CalendarMS the licence calendar
	// after it was applied (0: not told), both in Unix milliseconds.
	WallMS     int64 `edn:"wall-ms,omitempty"`
	CalendarMS int64 `edn:"calendar-ms,omitempty"`
	// Stale: the entry was of a deposed leader and changed nothing.
	Stale bool `edn:"stale,omitempty"`
	// Hash is the chain hash after the entry, in hexadecimal.
	Hash string `edn:"hash"`
	// Told is the hash that the node told of this very entry when it applied it, if that
	// was another.
	Told     string    `edn:"told,omitempty"`
	Lead     *Lead     `edn:"lead,omitempty"`
	Commands []Command `edn:"commands,omitempty"`
	// Ended lists every lease that ended in the entry, if HasEnded: also those that were
	// reclaimed to serve a checkout, which no result names.
	Ended    []AuditEnded `edn:"ended,omitempty"`
	HasEnded bool         `edn:"has-ended,omitempty"`
	Snapshot bool         `edn:"snapshot,omitempty"`
	// Uncertain: it stands in the node's log, and nothing shows that it was committed.
	Uncertain bool `edn:"uncertain,omitempty"`
}

// Lead starts an epoch.
type Lead struct {
	Node       string `edn:"node"`
	APIAddress string `edn:"api-address,omitempty"`
	ClusterID  string `edn:"cluster-id,omitempty"`
}

// Command kinds in an audit.
const (
	KindCheckout      = "checkout"
	KindRenew         = "renew"
	KindRenewMany     = "renew_many"
	KindCheckin       = "checkin"
	KindExpire        = "expire"
	KindExpireSession = "expire_session"
	KindKill          = "kill"
	KindInstall       = "install_licence"
	KindRemove        = "remove_licence"
	KindFence         = "fence"
	KindTick          = "tick"
	KindRestorePart   = "restore_part" // of a backup; it changes nothing
	KindRestore       = "restore"

	KindPolicy        = "apply_policy"
	KindLeave         = "leave"
	KindDequeue       = "dequeue"
	KindBook          = "make_booking"
	KindCancel        = "cancel_booking"
	KindExpireBooking = "expire_booking"
	KindBorrow        = "borrow"
	KindRenewBorrow   = "renew_borrow"
	KindReturn        = "return_early"
	KindRevoke        = "revoke_borrow"
)

// Command is one command of an entry; which fields are set depends on Kind.
type Command struct {
	Kind   string `edn:"kind"`
	Tenant string `edn:"tenant,omitempty"` // checkout, remove_licence

	Session     string `edn:"session,omitempty"` // 32 hexadecimal digits; checkout, renew, checkin, expire_session
	Digest      string `edn:"digest,omitempty"`  // of the secret, hexadecimal; empty: not told
	Incarnation uint64 `edn:"incarnation,omitempty"`
	Seq         uint64 `edn:"seq,omitempty"`

	// checkout
	User          string `edn:"user,omitempty"`
	Host          string `edn:"host,omitempty"`
	Display       string `edn:"display,omitempty"`
	VendorDefined string `edn:"vendor-defined,omitempty"`
	InstanceID    string `edn:"instance-id,omitempty"`
	Items         []Item `edn:"items,omitempty"`
	Ephemeral     bool   `edn:"ephemeral,omitempty"`
	Tentative     bool   `edn:"tentative,omitempty"`

	// Refs: held (renew), named (checkin; none means all), meant (kill).
	Refs   []Ref  `edn:"refs,omitempty"`
	Close  bool   `edn:"close,omitempty"`  // checkin
	Reason string `edn:"reason,omitempty"` // checkin: the release reason asked for

	// expire and expire_session
	ID    uint64 `edn:"id,omitempty"`
	Token uint64 `edn:"token,omitempty"`
	Rev   uint64 `edn:"rev,omitempty"`

	Licence   *LicenceFile `edn:"licence,omitempty"` // install_licence
	Replace   bool         `edn:"replace,omitempty"`
	LicenceID string       `edn:"licence-id,omitempty"` // remove_licence

	Restore *AuditRestore `edn:"restore,omitempty"` // restore, restore_part
	By      string        `edn:"by,omitempty"`      // kill, restore

	Renewals []Renewal `edn:"renewals,omitempty"` // renew_many

	// WaitNS is how long a place in the queue is wanted, Booking the booking whose seats a
	// checkout uses, or which is made or cancelled; ForNS is how long it is to last.
	WaitNS  int64  `edn:"wait-ns,omitempty"`
	Booking string `edn:"booking,omitempty"`
	ForNS   int64  `edn:"for-ns,omitempty"`
	Ticket  uint64 `edn:"ticket,omitempty"` // leave, dequeue
	// Borrow is what commands of borrowing have beside the others, Policy the one applied.
	Borrow *AuditBorrow `edn:"borrow,omitempty"`
	Policy *PolicyText  `edn:"policy,omitempty"`
	// Events is all that the command did, in this order, where its result does not say it.
	Events []AuditEvent `edn:"events,omitempty"`

	Result CommandResult `edn:"result"`
}

// Renewal is one session of a renew_many and what came of it.
type Renewal struct {
	Session     string `edn:"session"`
	Digest      string `edn:"digest,omitempty"`
	Incarnation uint64 `edn:"incarnation,omitempty"`
	Reason      string `edn:"reason,omitempty"` // why it was refused
	Leases      int    `edn:"leases,omitempty"`
	RemainingNS int64  `edn:"remaining-ns,omitempty"` // to the first deadline
	News        bool   `edn:"news,omitempty"`         // something was lost and not told
}

// AuditRestore is the backup that a restore went back to: the state after the entry at
// Index, with the chain hash Hash.
type AuditRestore struct {
	Sum       string `edn:"sum"`
	Index     uint64 `edn:"index,omitempty"`
	Hash      string `edn:"hash,omitempty"`
	ClusterID string `edn:"cluster-id,omitempty"`
	Offset    uint64 `edn:"offset,omitempty"`
	Size      uint64 `edn:"size,omitempty"`
}

// CommandResult is what a command came to.
type CommandResult struct {
	// Reason is the refusal's code; empty means done.
	Reason   string       `edn:"reason,omitempty"`
	Final    bool         `edn:"final,omitempty"`
	Replayed bool         `edn:"replayed,omitempty"`
	Leases   []AuditLease `edn:"leases,omitempty"`
	Lost     []AuditEnded `edn:"lost,omitempty"`
	Released []AuditEnded `edn:"released,omitempty"`
	Place    *AuditPlace  `edn:"place,omitempty"` // of a checkout that is queued
}

// AuditBorrow is for how long (borrow, renew_borrow) and whether at once (revoke_borrow).
type AuditBorrow struct {
	TermNS int64 `edn:"term-ns,omitempty"`
	AtOnce bool  `edn:"at-once,omitempty"`
}

// AuditPlace is where a checkout stands in the queue.
type AuditPlace struct {
	Ticket   uint64 `edn:"ticket"`
	Position int    `edn:"position,omitempty"`
	Priority int    `edn:"priority,omitempty"`
}

// Kinds of AuditEvent.
const (
	EventGranted  = "checkout"
	EventEnded    = "release"
	EventQueued   = "queued"
	EventDequeued = "dequeued"
)

// AuditEvent is one thing that happened to a lease or to a place in the queue.
type AuditEvent struct {
	Kind       string `edn:"kind"`
	ID         uint64 `edn:"id,omitempty"`
	Token      uint64 `edn:"token,omitempty"`
	Ticket     uint64 `edn:"ticket,omitempty"`
	Session    string `edn:"session,omitempty"`
	User       string `edn:"user,omitempty"`
	Feature    string `edn:"feature,omitempty"`
	Version    string `edn:"version,omitempty"`
	Count      int    `edn:"count,omitempty"`
	Seats      []int  `edn:"seats,omitempty"`
	DeadlineNS int64  `edn:"deadline-ns,omitempty"`
	Reason     string `edn:"reason,omitempty"`
}

// PolicyText is a policy in the API's words.
type PolicyText struct {
	Groups []PolicyGroup `edn:"groups,omitempty"`
	Rules  []PolicyRule  `edn:"rules,omitempty"`
}

// PolicyGroup is a set of users.
type PolicyGroup struct {
	Name     string   `edn:"name"`
	Members  []string `edn:"members,omitempty"`
	Priority int      `edn:"priority,omitempty"`
}

// PolicyRule is one rule: what, about which feature and whom, and how many seats.
type PolicyRule struct {
	Kind    string `edn:"kind"`
	Feature string `edn:"feature,omitempty"`
	WhoType string `edn:"who-type,omitempty"`
	Who     string `edn:"who,omitempty"`
	Seats   int    `edn:"seats,omitempty"`
}

// AuditLease is a lease in a result.
type AuditLease struct {
	ID         uint64 `edn:"id"`
	Handle     uint64 `edn:"handle,omitempty"`
	Token      uint64 `edn:"token"`
	Feature    string `edn:"feature"`
	Version    string `edn:"version,omitempty"`
	Count      int    `edn:"count"`
	Seats      []int  `edn:"seats"`
	DeadlineNS int64  `edn:"deadline-ns"`
	GraceNS    int64  `edn:"grace-ns,omitempty"`
	Rev        uint64 `edn:"rev,omitempty"`
	Session    string `edn:"session,omitempty"`
	State      string `edn:"state,omitempty"`
}

// AuditEnded is a lease that ended, and why.
type AuditEnded struct {
	ID      uint64 `edn:"id"`
	Token   uint64 `edn:"token"`
	Feature string `edn:"feature,omitempty"`
	Reason  string `edn:"reason,omitempty"`
}

// LicenceFile is a licence as it was installed.
type LicenceFile struct {
	ID           string        `edn:"id"`
	Vendor       string        `edn:"vendor,omitempty"`
	Tenant       string        `edn:"tenant"`
	Entitlements []Entitlement `edn:"entitlements"`
}

// Entitlement is one line of a licence. ShareBy is any of the letters u (user), h (host),
// d (display), v (vendor defined); empty shares nothing.
type Entitlement struct {
	Feature    string `edn:"feature"`
	Version    string `edn:"version,omitempty"`
	Count      int    `edn:"count"`
	StartMS    int64  `edn:"start-ms,omitempty"`
	ExpiryMS   int64  `edn:"expiry-ms,omitempty"`
	Serial     string `edn:"serial,omitempty"`
	LifespanNS int64  `edn:"lifespan-ns"`
	GraceNS    int64  `edn:"grace-ns"`
	ShareBy    string `edn:"share-by,omitempty"`
	ShareMax   int    `edn:"share-max,omitempty"`
}

// Audit is what one node said of itself.
type Audit struct {
	Node    string
	Entries []Entry
}
