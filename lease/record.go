package lease

import "time"

// The records of the ledger. They are exported for one reader, the snapshot codec in
// fsm; everybody else sees Lease, PoolStatus and the like. Slices in them are never
// written into, only replaced, because frozen views share them.

// Header is the part of the ledger that is not in a table.
type Header struct {
	Now Time
	// Calendar is the licence calendar; Anchor and AnchorTime are the calendar and
	// cluster time of its last accepted jump.
	Calendar, Anchor Calendar
	AnchorTime       Time
	// HeldSince is when a wall clock first ran ahead of what is believable; 0: it does not.
	HeldSince Time
	// FenceUntil forbids checkouts before it.
	FenceUntil Time
	// Floor is below every token still to be given; High is the highest one given.
	Floor, High Token
	// Grants counts grants ever made; it makes lease ids unique.
	Grants uint64
	// Places counts places in the queue ever taken, Bookings bookings ever made.
	Places, Bookings uint64
}

// SessionRecord is one live session, or one closed so lately that a duplicate of one
// of its requests may still arrive.
type SessionRecord struct {
	ID          SessionID // zero: the slot is free
	Digest      SecretDigest
	Tenant      string
	Principal   Principal
	InstanceID  string
	Incarnation uint64
	// Seq is the last numbered request, Last what it came to.
	Seq  uint64
	Last Done
	// Renewed is the last heartbeat; it carries the deadlines of all the leases.
	Renewed Time
	Rev     uint64
	// Lifespan and Grace are the longest of any lease it had: how long it is remembered.
	Lifespan, Grace time.Duration
	// First and Last lease slot of its list, and how many there are.
	First, Tail uint32
	Leases      uint32
	Ephemeral   bool
	Closed      bool
	// Lost leases still to be told; the first Told of them were in an answer already.
	Lost []Lost
	Told int
}

// Done is what a numbered request came to: enough to answer it again.
type Done struct {
	Kind     DoneKind
	Refusal  *Refusal
	Granted  []Ref
	Released []Released
	Lost     []Lost
	// Refused are the items that a partial checkout did not get.
	Refused []Refused
}

// DoneKind tells the kinds of numbered requests apart.
type DoneKind uint8

// Kinds of numbered requests.
const (
	DoneNothing DoneKind = iota
	DoneCheckout
	DoneCheckIn
)

// LeaseRecord is one live lease.
type LeaseRecord struct {
	ID             ID // zero: the slot is free
	Token          Token
	Session, Group uint32
	Next, Prev     uint32 // in the session's list
	Count          uint32
	Granted        Time
	Since          Calendar
	// Profile is what the policy set when it was granted; zero: the pool's.
	Profile Profile
}

// GroupRecord is one charge: the seats that one lease, or the leases of one share
// group, hold together. It charges as many seats as its largest lease asks for.
type GroupRecord struct {
	Pool    uint32 // zero: the slot is free
	Seats   []uint32
	Members [MaxShareSessions]uint32 // lease slots
	N       uint8
	Shared  bool
}

// PoolRecord is one pool.
type PoolRecord struct {
	Tenant, Vendor, Feature, Version string // Feature empty: the slot is free
	Profile                          Profile
	Share                            ShareRule
	Terms
	Seats            vec[SeatRecord]
	Charged          uint32
	Grants, Releases uint64
	// SeatMillis is the sum of seats × milliseconds of cluster time over all ended leases.
	SeatMillis uint64
}

// SeatRecord is one numbered seat.
type SeatRecord struct {
	Group uint32 // zero: free
	Last  Token  // the highest token given for it
}

// tables is everything that a snapshot holds. A copy of it, taken by Freeze, stays as
// it is while the Book goes on.
type tables struct {
	Header
	// owners and mores go by session slot, groupMany by that of a charge.
	sessions  vec[sessionRow]
	owners    vec[owner]
	mores     vec[*sessionMore]
	spans     vec[Profile]
	leases    vec[leaseRow]
	groups    vec[groupRow]
	groupMany vec[*manyOf]
	pools     vec[PoolRecord]
	pins      vec[*Pin] // by lease slot
	// keys and overdrawn are of borrowing; the slices are replaced on every change.
	keys      []*BorrowKey
	overdrawn []Overdrawn
	draws     vec[DrawRecord] // of what few pools cost
	places    vec[*PlaceRecord]
	// stirred are the pools whose line is to be looked at with the next command.
	stirred      []uint32
	bookings     vec[*BookingRecord]
	bookedLeases vec[BookedLease] // by lease slot
	// licences are sorted by tenant and id; the slice is replaced on every change.
	licences []*Licence
	profiles vec[Profile] // by lease slot, of those that have one of their own
	// policies are sorted by tenant; the slice is replaced on every change.
	policies []*Policy
}

// eachSession, eachGroup and eachLease visit the used slots in order.
func (t *tables) eachSession(yield func(slot uint32, r *sessionRow) bool) {
	t.sessions.all(func(i uint32, r *sessionRow) bool { return r.ID.IsZero() || yield(i, r) })
}

func (t *tables) eachGroup(yield func(slot uint32, r *groupRow) bool) {
	t.groups.all(func(i uint32, r *groupRow) bool { return r.Pool == 0 || yield(i, r) })
}

func (t *tables) eachLease(yield func(slot uint32, r *leaseRow) bool) {
	t.leases.all(func(i uint32, r *leaseRow) bool { return r.free() || yield(i, r) })
}

// Frozen is an unchanging view of a Book, for a snapshot.
type Frozen struct{ t tables }

// Header returns the part that is not in a table.
func (f *Frozen) Header() Header { return f.t.Header }

// Licences returns the installed licences, by tenant and id.
func (f *Frozen) Licences() []*Licence { return f.t.licences }

// Sessions, Leases, Groups and Pools call yield for each used slot in order. A record is
// good until yield returns; what it refers to may be kept.
func (f *Frozen) Sessions(yield func(slot uint32, r *SessionRecord) bool) {
	var x SessionRecord
	f.t.eachSession(func(i uint32, r *sessionRow) bool {
		x = f.t.sessionRecord(i, r)
		return yield(i, &x)
	})
}

// Leases calls yield for each live lease in slot order.
func (f *Frozen) Leases(yield func(slot uint32, r *LeaseRecord) bool) {
	var x LeaseRecord
	f.t.eachLease(func(i uint32, r *leaseRow) bool {
		x = r.record(i)
		if p := f.t.profiles.at(i); p != nil {
			x.Profile = *p
		}
		return yield(i, &x)
	})
}

// Groups calls yield for each charge in slot order.
func (f *Frozen) Groups(yield func(slot uint32, r *GroupRecord) bool) {
	var x GroupRecord
	f.t.eachGroup(func(i uint32, r *groupRow) bool {
		x = f.t.groupRecord(i, r)
		return yield(i, &x)
	})
}

// Pools calls yield for each pool in slot order.
func (f *Frozen) Pools(yield func(slot uint32, r *PoolRecord) bool) {
	f.t.pools.all(func(i uint32, r *PoolRecord) bool { return r.Feature == "" || yield(i, r) })
}

// EachSeat calls yield for each seat of the pool that was ever used, in order.
func (p *PoolRecord) EachSeat(yield func(number uint32, s SeatRecord) bool) {
	p.Seats.all(func(i uint32, s *SeatRecord) bool { return *s == SeatRecord{} || yield(i, *s) })
}
