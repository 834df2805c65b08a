package lease

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// SessionID is the 128-bit identity of a session, minted by the client at random.
type SessionID [16]byte

func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// IsZero says whether no session is named.
func (id SessionID) IsZero() bool { return id == SessionID{} }

// ParseSessionID reads 32 hexadecimal digits, with or without UUID dashes.
func ParseSessionID(s string) (SessionID, error) {
	var id SessionID
	digits := make([]byte, 0, 32)
	for i := range len(s) {
		if s[i] != '-' {
			digits = append(digits, s[i])
		}
	}
	if len(digits) != 32 {
		return id, fmt.Errorf("session id %.40q: want 32 hexadecimal digits", s)
	}
	if _, err := hex.Decode(id[:], digits); err != nil {
		return id, fmt.Errorf("session id %.40q: want 32 hexadecimal digits", s)
	}
	if id.IsZero() {
		return id, fmt.Errorf("session id is all zeros: mint a random one")
	}
	return id, nil
}

// SecretDigest is the first half of the SHA-256 of a session's secret. The log and
// the snapshots hold digests only; the secret stays with the client.
type SecretDigest [16]byte

// ID names a lease for ever: slot number and how often the slot was used before.
// It is never given to another lease of the cluster.
type ID uint64

func (id ID) String() string { return strconv.FormatUint(uint64(id), 10) }

// Handle is the short decimal number by which people name a live lease. It is
// unique among live leases and reused after release.
type Handle uint32

// Token is a fencing token: the raft index of the entry that granted the lease. It
// grows strictly per seat, so a resource that remembers the highest token it saw
// can refuse a zombie (Kleppmann, "How to do distributed locking", 2016). When a
// batch grants one seat twice in one entry, the later grant's token is one higher.
type Token uint64

// Ref is what a holder shows for a lease: its id and the token it was granted with.
type Ref struct {
	ID    ID
	Token Token
}

// Principal says on whose behalf a session runs. It decides policy and sharing and
// is never an identity: two sessions with equal principals are two sessions.
type Principal struct {
	User, Host, IP, Display, VendorDefined, Project string
}

// Profile is how long a lease lives without a heartbeat.
type Profile struct {
	// Lifespan is the time from a heartbeat to the deadline; clients heartbeat at a
	// third of it. Grace follows: the seat stays charged, the client may go on.
	Lifespan, Grace time.Duration
}

// DefaultProfile applies where a licence names none.
var DefaultProfile = Profile{Lifespan: 120 * time.Second, Grace: 120 * time.Second}

// Profiles are the named profiles a licence may choose.
var Profiles = map[string]Profile{
	"default": DefaultProfile,
	"lan":     {Lifespan: 30 * time.Second, Grace: 30 * time.Second},
	"wan":     {Lifespan: 300 * time.Second, Grace: 300 * time.Second},
	"ci":      {Lifespan: 20 * time.Second, Grace: 10 * time.Second},
}

// Limits on a profile: below a second of lifespan a leader change alone would cost
// leases; a lease of more than a day without a heartbeat is a borrowed one.
const (
	MinLifespan = time.Second
	MaxLifespan = 24 * time.Hour
	MaxGrace    = 24 * time.Hour
)

// HeartbeatFraction: a client heartbeats this many times per lifespan.
const HeartbeatFraction = 3

// Mask says which fields of a principal must agree for two leases to share seats.
// The zero Mask never shares.
type Mask uint8

// The fields of a share mask, in FlexNet's letters (DUP_GROUP=UHDV).
const (
	MaskUser Mask = 1 << iota
	MaskHost
	MaskDisplay
	MaskVendor
)

// ShareRule lets several sessions of one masked principal be charged once.
type ShareRule struct {
	By Mask
	// MaxSessions is the most sessions one group may have, 1 to MaxShareSessions.
	MaxSessions int
}

// MaxShareSessions bounds every share rule, so that a group's work is constant.
const MaxShareSessions = 8

// DefaultShareRule applies where a licence names none: four sessions of one user on
// one host are charged once.
var DefaultShareRule = ShareRule{By: MaskUser | MaskHost, MaxSessions: 4}

// Entitlement is one signed grant line of a licence.
type Entitlement struct {
	Feature string
	// Version is the highest version covered; versions compare as decimals.
	Version string
	Count   int
	// Start is the first instant of validity, Expiry the first instant after it;
	// zero means open.
	Start, Expiry Calendar
	// Serial is unique per vendor: the same serial is never counted twice.
	Serial  string
	Profile Profile
	Share   ShareRule
	Terms
	// Overdraft is how many seats a policy may allow above Count, flagged. Like counts they
	// add up in a pool.
	Overdraft int
	// GraceDays is how many days of 24 hours after Expiry the feature stays usable, with
	// an alarm.
	GraceDays int
	// Issued is when the line was issued, for Supersedes; 0: with the licence.
	Issued Calendar
	// Supersedes names features of the same tenant and vendor whose lines issued before
	// this one count no more, from the Start of this one on.
	Supersedes []string
	// Zone is how far, in minutes, the days of Start and Expiry are ahead of UTC. The dates
	// here are instants already; it is kept to write them as they were read.
	Zone    int
	Package Package
}

// Licence is a verified licence file: what InstallLicence puts into the Book.
type Licence struct {
	ID, Vendor, Tenant string
	// Cluster is the id of the only cluster that may use it; empty means any.
	Cluster      string
	Issued       Calendar
	Entitlements []Entitlement
	// Text is the signed file itself, kept to be shown and backed up.
	Text []byte
}

// Limits of the ledger, each with its reason.
const (
	// MaxItems bounds the features of one checkout, so that one command stays small
	// beside a batch of 512 in an entry of at most 512 KiB.
	MaxItems = 64
	// MaxCount bounds the seats of one item and of one entitlement.
	MaxCount = 1_000_000
	// MaxNameLen bounds every name and principal field, in bytes.
	MaxNameLen = 128
	// MaxEntitlements bounds one licence file; more would not fit one log entry.
	MaxEntitlements = 2000
	// MaxLeasesPerSession bounds the work of one heartbeat and the size of its reply.
	MaxLeasesPerSession = 1024
	// MaxLost is how many ended leases a session is still told about.
	MaxLost = 64
)

// DefaultTenant is used where a request names none.
const DefaultTenant = "default"

// State is the state of a live lease; it is derived from its deadline, never stored.
type State uint8

// A lease is active while its heartbeat is current and expiring after one was
// missed, while its grace runs. After that it is due, and reclaimed by an entry. Gone is
// what a client that can no longer believe in it calls it.
const (
	Gone State = iota
	Active
	Expiring
	// Borrowed, Lingering and Quarantined leases are pinned: their end is fixed.
	Borrowed
	Lingering
	Quarantined
)

// ParseState reads the name of a live lease's state; an empty one is 0.
func ParseState(name string) (State, error) {
	if name == "" {
		return 0, nil
	}
	for s := Active; s <= Quarantined; s++ {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("state %.40q: want active, expiring, borrowed, lingering or quarantined", name)
}

func (s State) String() string {
	switch s {
	case Active:
		return "active"
	case Expiring:
		return "expiring"
	case Borrowed:
		return "borrowed"
	case Lingering:
		return "lingering"
	case Quarantined:
		return "quarantined"
	}
	return "lost"
}

// Release says why a lease ended. The numbers are those of RLM's report log, which
// log analysers know.
type Release uint8

// Release reasons; each ended lease has exactly one.
const (
	ReleasedNormal          Release = 1
	ReleasedClientExit      Release = 2
	ReleasedByAdmin         Release = 3
	ReleasedTimeout         Release = 4
	ReleasedLingerOver      Release = 5
	ReleasedDequeued        Release = 6
	ReleasedMissedHeartbeat Release = 11
)

func (r Release) String() string {
	switch r {
	case ReleasedNormal:
		return "normal"
	case ReleasedClientExit:
		return "client_exit"
	case ReleasedByAdmin:
		return "removed_by_admin"
	case ReleasedTimeout:
		return "timeout"
	case ReleasedLingerOver:
		return "linger_over"
	case ReleasedDequeued:
		return "dequeued"
	case ReleasedMissedHeartbeat:
		return "missed_heartbeat"
	}
	return "release_" + strconv.Itoa(int(r))
}
