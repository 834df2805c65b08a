package lease

import (
	"hash/maphash"
	"slices"
	"time"
)

// Book is the ledger: all tenants, pools, sessions and leases of one cluster. It is
// not safe for concurrent use; fsm guards it. Every command costs O(log n) at worst in
// live leases, apart from licence changes (which visit the pools) and reclaiming what
// is due (each lease once).
type Book struct {
	tables
	// gen owns the pages that may be written; Freeze starts a new one.
	gen uint64

	spanUse spanUse
	// lastRefused is the refusal remembered last, to be shared.
	lastRefused *sessionMore

	// What follows is derived from the tables and rebuilt by reindex.
	sessionSlots, leaseSlots, groupSlots, poolSlots numbers
	sessionByID                                     slotIndex
	groupByShare                                    slotIndex // of shared charges
	poolsByFeature                                  map[featureKey][]uint32
	drawers                                         map[featureKey][]uint32 // pools by what their seats draw on
	state                                           []poolState             // by pool slot
	drawByHolder                                    slotIndex               // of suites
	drawOf                                          map[uint32]uint32       // charge to draw; only ever asked for one
	drawSlots                                       numbers
	dueLeases                                       duePools
	dueSessions                                     dueIndex // those without a lease
	liveSessions, liveLeases                        int
	tenants                                         map[string]*tenantUse
	unleased, strangers                             int                   // sessions that never had a lease; those of tenants without pools
	lentSeats                                       map[uint32]int        // borrowed, by pool slot
	packages                                        map[featureKey]string // what each consists of
	queue                                           queueState
	booking                                         bookingState
	offers                                          int // leases from the queue that were not collected
	// nextDate is the next calendar date at which some entitlement starts or ends.
	nextDate Calendar

	events   []Event
	policing policing
}

// poolState is what is derived for one pool.
type poolState struct {
	total   int
	expiry  Calendar // last end among the valid entitlements, else among the expired; 0 = never
	expired bool     // has entitlements, all past
	early   bool     // has entitlements, none started
	seats   numbers
	// overdraft is how many seats above total a policy may allow: the sum of what the
	// entitlements valid now say.
	overdraft int
	valid     bool     // has an entitlement that counts now
	inGrace   int      // of total: seats that are past their last day
	graceEnd  Calendar // when the first of these end
	most      int      // with a draw: the largest that one payer could pay
	packages  []string // that bring seats now
	// kin are the other pools of the feature; over and heldBack are kept for those that have
	// any: see carry.
	kin            *kin
	over, heldBack int
}

// licensed says whether an installed licence has the pool, valid now or not.
func (st *poolState) licensed() bool { return st.valid || st.expired || st.early }

type featureKey struct{ tenant, feature string }

// NewBook returns an empty ledger at time 0.
func NewBook() *Book {
	b := &Book{gen: 1, spanUse: spanUse{at: map[Profile]uint32{}}}
	b.reindex()
	return b
}

// Now is the cluster time of the last Advance.
func (b *Book) Now() Time { return b.Header.Now }

// Calendar is the calendar date the licence dates are judged by.
func (b *Book) Calendar() Calendar { return b.Header.Calendar }

// Apply carries out one command at log position index (the raft index of its entry).
func (b *Book) Apply(index uint64, cmd Command) Reply {
	r := b.carryOut(index, cmd)
	b.serve(index)
	return r
}

func (b *Book) carryOut(index uint64, cmd Command) Reply {
	switch c := cmd.(type) {
	case Checkout:
		return b.checkout(index, c)
	case Renew:
		return b.renew(c)
	case RenewMany:
		return b.renewMany(c)
	case CheckIn:
		return b.checkIn(c)
	case Expire:
		return b.expire(c)
	case ExpireSession:
		return b.expireSession(c)
	case Kill:
		return b.kill(c)
	case InstallLicence:
		return b.installLicence(c)
	case RemoveLicence:
		return b.removeLicence(c)
	case ApplyPolicy:
		return b.applyPolicy(c)
	case Fence:
		return b.fence()
	case Leave:
		return b.leave(c)
	case Dequeue:
		return b.dequeue(c)
	case MakeBooking:
		return b.makeBooking(c)
	case CancelBooking:
		return b.cancelBooking(c)
	case ExpireBooking:
		return b.expireBooking(c)
	case Tick:
		return Reply{}
	case Borrow:
		return b.borrow(index, c)
	case RenewBorrow:
		return b.renewBorrow(c)
	case ReturnEarly:
		return b.returnEarly(c)
	case RevokeBorrow:
		return b.revokeBorrow(c)
	case RotateBorrowKey:
		return b.rotateBorrowKey(c)
	}
	return Reply{Refusal: refuse(Invalid, "unknown command %T", cmd)}
}

// Freeze returns a view that stays as it is. It costs a few words; pages written
// afterwards are copied once.
func (b *Book) Freeze() *Frozen {
	f := &Frozen{b.tables}
	b.gen++
	return f
}

// Counts returns how many sessions and leases are live.
func (b *Book) Counts() (sessions, leases int) { return b.liveSessions, b.liveLeases }

// fence starts the time after a restore in which leases may be held that the ledger
// does not know.
func (b *Book) fence() Reply {
	longest := max(DefaultProfile.Lifespan+DefaultProfile.Grace, b.longestProfile())
	b.pools.all(func(_ uint32, p *PoolRecord) bool {
		longest = max(longest, p.Profile.Lifespan+p.Profile.Grace)
		return true
	})
	b.FenceUntil = max(b.FenceUntil, b.Now().Add(longest))
	b.High = max(b.High, b.Floor) + generation
	b.Floor = b.High
	return Reply{}
}

// generation is how far a restore lifts the tokens: more entries than a cluster can
// write between a backup and its restore.
const generation = 1 << 32

// poolAt is the pool of a live lease.
func (b *Book) poolAt(slot uint32) uint32 { return b.groups.at(b.leases.at(slot).Group).Pool }

// leaseDue is when a lease may be reclaimed.
func (b *Book) leaseDue(slot uint32) Time {
	if p := b.pinAt(slot); p != nil {
		return p.End
	}
	return b.deadlineOf(slot).Add(b.profileOf(slot).Grace)
}

// sessionDue is when a session without leases may be forgotten.
func (b *Book) sessionDue(slot uint32) Time {
	s := b.sessions.at(slot)
	span := b.spanOf(s)
	return s.Renewed.Add(span.Lifespan).Add(span.Grace)
}

// show makes the copy of a lease that answers carry.
func (b *Book) show(slot uint32) Lease {
	l := b.leases.at(slot)
	p := b.pools.at(b.groups.at(l.Group).Pool)
	s := b.sessions.at(l.Session)
	end, grace := b.deadlineOf(slot), b.profileOf(slot).Grace
	x := Lease{
		Ref: Ref{l.id(slot), l.Token}, Handle: Handle(slot),
		Tenant: p.Tenant, Feature: p.Feature, Version: p.Version, Count: int(l.Count),
		Seats: make([]int, l.Count), State: Active,
		Remaining: max(0, end.Sub(b.Now())), Grace: grace,
		Since: l.Since, Session: s.ID, Principal: b.principalOf(l.Session), InstanceID: b.owner(l.Session).instance(),
		Rev: s.Rev, Deadline: end, Vendor: p.Vendor, Charge: l.Group,
	}
	for i, n := range b.seats(l.Group)[:l.Count] {
		x.Seats[i] = int(n)
	}
	if end <= b.Now() {
		x.State = Expiring
		x.Grace = max(0, end.Add(grace).Sub(b.Now()))
	}
	x.Overdraft = b.aboveCount(slot)
	b.showPin(slot, &x)
	return x
}

// lookup finds the slot of a live lease by id; 0 if there is none.
func (b *Book) lookup(id ID) uint32 {
	slot := uint32(id & maxSlot)
	if l := b.leases.at(slot); id != 0 && l != nil && !l.free() && l.id(slot) == id {
		return slot
	}
	return 0
}

// slotBits is how much of a lease id names its slot; the rest counts grants.
const (
	slotBits = 24
	maxSlot  = 1<<slotBits - 1
)

// MaxLeases and MaxSessions bound the ledger: what the id has room for, less a margin.
const (
	MaxLeases   = 10_000_000
	MaxSessions = 10_000_000
	// MaxSeats bounds the seats of one pool, whatever its entitlements add up to: more
	// could not all be charged to somebody (MaxLeases).
	MaxSeats = 10_000_000
)

// reindex rebuilds everything that is derived from the tables.
func (b *Book) reindex() {
	b.sessionByID, b.groupByShare = newSlotIndex(maphash.MakeSeed()), newSlotIndex(maphash.MakeSeed())
	b.poolsByFeature, b.drawers = map[featureKey][]uint32{}, map[featureKey][]uint32{}
	b.state = nil
	b.dueLeases, b.dueSessions = duePools{}, dueIndex{}
	b.liveSessions, b.liveLeases = 0, 0
	b.tenants, b.unleased, b.strangers = map[string]*tenantUse{}, 0, 0
	f := Frozen{b.tables}
	var taken []uint32
	f.Pools(func(i uint32, p *PoolRecord) bool {
		taken = append(taken, i)
		b.indexPool(i, p)
		var held []uint32
		p.EachSeat(func(n uint32, s SeatRecord) bool {
			if s.Group != 0 {
				held = append(held, n)
			}
			return true
		})
		b.state[i].seats = numbersWithout(held)
		return true
	})
	b.poolSlots, taken = numbersWithout(taken), nil
	b.eachSession(func(i uint32, s *sessionRow) bool {
		taken = append(taken, i)
		b.sessionByID.add(b.sessionHash(i), i, b.sessionHash)
		if s.Leases == 0 {
			b.dueSessions.push(i, b.sessionDue(i))
		}
		b.liveSessions += s.liveCount()
		b.countSession(b.owner(i).tenant(), s.liveCount(), s.unleasedCount())
		return true
	})
	b.sessionSlots, taken = numbersWithout(taken), nil
	b.eachLease(func(i uint32, l *leaseRow) bool {
		taken = append(taken, i)
		b.liveLeases++
		b.dueLeases.push(b.poolAt(i), i, b.leaseDue(i))
		return true
	})
	b.leaseSlots, taken = numbersWithout(taken), nil
	b.eachGroup(func(i uint32, g *groupRow) bool {
		taken = append(taken, i)
		if g.Shared {
			b.groupByShare.add(b.groupHash(i), i, b.groupHash)
		}
		return true
	})
	b.groupSlots = numbersWithout(taken)
	b.lentSeats = b.countLent()
	b.indexDraws()
	b.reindexQueue()
	b.reindexBookings()
	stirred := b.stirred // what was already looked at is not looked at again
	b.recount()
	b.police()
	b.restandAll() // what a policy allows above the totals decides where one can wait
	b.stirred = stirred
}

// indexPool makes a pool findable by feature, lowest version first.
func (b *Book) indexPool(i uint32, p *PoolRecord) {
	for int(i) >= len(b.state) {
		b.state = append(b.state, poolState{})
	}
	b.state[i] = poolState{}
	b.countPool(p.Tenant, 1)
	k := featureKey{p.Tenant, p.Feature}
	list := append(b.poolsByFeature[k], i)
	slices.SortFunc(list, func(x, y uint32) int { return comparePools(b.pools.at(x), b.pools.at(y)) })
	b.poolsByFeature[k] = list
	if p.Draw.Of != "" {
		k := featureKey{p.Tenant, p.Draw.Of}
		b.drawers[k] = append(b.drawers[k], i)
	}
}

// Advance lets time pass to t, never back, and offers the proposer's wall clock.
func (b *Book) Advance(t Time, wall Calendar) {
	passed := max(0, t.Sub(b.Now()))
	b.Header.Now = max(b.Header.Now, t)
	b.dueLeases.settle(b.Now(), settleStep, b.leaseDue)
	b.dueSessions.settle(b.Now(), settleStep, b.sessionDue)
	b.advanceCalendar(passed, wall)
	if b.nextDate != 0 && b.Header.Calendar >= b.nextDate {
		b.recount()
		b.rebook()
	}
}

// Limits of the licence calendar.
const (
	// CalendarSlack is how far a wall clock may run ahead of cluster time since the last
	// accepted date: time lost in outages, and clock corrections.
	CalendarSlack = 5 * time.Minute
	// CalendarHold is how long, in cluster time, a wall clock must stay ahead before the
	// calendar follows it: long enough for an operator to see the alarm.
	CalendarHold = time.Hour
	// calendarDrift is how much faster than cluster time (one part in so many) a wall
	// clock may run for good. Cluster time is slow on purpose, by its clock margin and by
	// what each change of leader costs; without this that alone would use up the slack
	// in two days and raise the alarm.
	calendarDrift = 100
	// calendarStep is how often, in cluster time, the anchor follows such a drift.
	calendarStep = time.Minute
)

// advanceCalendar follows the wall clock while it is believable. It never goes back, so
// winding a clock back never revives a licence; a jump ahead is held, so one wrong clock
// does not end all licences.
func (b *Book) advanceCalendar(passed time.Duration, wall Calendar) {
	h := &b.Header
	if h.Calendar == 0 || Broken(GuardCalendar) {
		if wall > h.Calendar {
			h.Calendar, h.Anchor, h.AnchorTime = wall, wall, h.Now
		}
		return
	}
	believable := h.Anchor + Calendar((h.Now.Sub(h.AnchorTime)+CalendarSlack)/time.Millisecond)
	switch {
	case wall <= believable:
		h.HeldSince = 0
		h.Calendar = max(h.Calendar, wall)
		h.followDrift(wall)
	case h.HeldSince == 0:
		h.HeldSince = max(h.Now, 1)
		fallthrough
	default:
		// Cluster time is the best guess at how much of the jump is real.
		ms := Calendar(h.Now/Time(time.Millisecond)) - Calendar((h.Now-Time(passed))/Time(time.Millisecond))
		h.Calendar = min(h.Calendar+ms, believable)
		if h.Now.Sub(h.HeldSince) >= CalendarHold {
			h.Calendar, h.Anchor, h.AnchorTime, h.HeldSince = wall, wall, h.Now, 0
		}
	}
}

// followDrift moves the anchor towards an accepted wall clock that runs a little faster
// than cluster time. What it gives per step is bounded, so many small jumps come to no
// more than the drift.
func (h *Header) followDrift(wall Calendar) {
	elapsed := h.Now.Sub(h.AnchorTime)
	if elapsed < calendarStep {
		return
	}
	expected := h.Anchor + Calendar(elapsed/time.Millisecond)
	ahead := min(wall-expected, Calendar(elapsed/calendarDrift/time.Millisecond))
	h.Anchor, h.AnchorTime = expected+max(0, ahead), h.AnchorTime.Add(elapsed.Truncate(time.Millisecond))
}
