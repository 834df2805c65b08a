package lease

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// PoolStatus is one pool as it is shown.
type PoolStatus struct {
	Tenant, Vendor, Feature, Version string
	Total, InUse, Reserved, Queued   int
	// Expiring counts leases of the pool past their deadline.
	Expiring int
	// OverdraftAllowed is how many seats above Total the policy lets be used.
	OverdraftAllowed int
	// ReservedFor says for whom the reserved seats are kept.
	ReservedFor []Reservation
	// Expiry is when the last valid entitlement ends, or if none is valid, ended; 0 means
	// never.
	Expiry Calendar
	Terms
	// Uncounted: the feature has no number of seats, nor has what pays for it. Total is then
	// only how many the ledger could number.
	Uncounted bool
	// OverUse is how many seats are in use beyond Total and what a policy allows above it:
	// they stay until they are returned.
	OverUse int
	// HeldBack is how many seats of Total cannot be had, because as many are in use beyond
	// what other pools of the feature have: seats of an earlier version or file.
	HeldBack int
	// Drawn is how many of InUse pay for other features, as tokens or as seats of a suite.
	Drawn int
	// InGrace is how many of Total are past their last day; the first end at GraceEnd.
	InGrace  int
	GraceEnd Calendar
	// LicensedOverdraft is how many seats above Total a policy may allow, by the licence.
	LicensedOverdraft int
	// Packages are those that bring seats of the pool.
	Packages []string
}

// Filter narrows a listing; empty fields match everything.
type Filter struct {
	Tenant, Feature, User, Host string
	State                       State
	Session                     SessionID
	ID                          ID
	Handle                      Handle
	Search                      string // part of what is shown; see found
}

// PreviewItem is what one item of a checkout would come to.
type PreviewItem struct {
	Item    Item
	Refusal *Refusal // nil: it would be granted
	Free    int      // seats free in the pools it could use
	// Position is where it would stand in the queue if it waited; 0: no wait would help.
	Position int
}

// Pools lists the pools of a tenant ("" = all), by tenant, feature, version.
func (b *Book) Pools(tenant string) []PoolStatus {
	expiring, drawn := b.expiringByPool(), b.drawnByPool()
	var out []PoolStatus
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature != "" && (tenant == "" || tenant == p.Tenant) && !b.past(i) {
			st := &b.state[i]
			out = append(out, PoolStatus{
				Terms: p.Terms, Uncounted: b.uncounted(p), OverUse: b.overUse(i), HeldBack: st.heldBack, Drawn: drawn[i],
				InGrace: st.inGrace, GraceEnd: st.graceEnd, LicensedOverdraft: st.overdraft, Packages: st.packages,
				Tenant: p.Tenant, Vendor: p.Vendor, Feature: p.Feature, Version: p.Version,
				Total: st.total, InUse: int(p.Charged), Reserved: b.kept(i) + b.booked(i), Queued: b.waiting(i), ReservedFor: b.reserved(i), OverdraftAllowed: b.overdraft(i), Expiring: expiring[i], Expiry: st.expiry,
			})
		}
		return true
	})
	slices.SortStableFunc(out, func(x, y PoolStatus) int {
		return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.Feature, y.Feature), CompareVersions(x.Version, y.Version), cmp.Compare(x.Vendor, y.Vendor))
	})
	return out
}

// past says that no line counts for the pool any more (removed, or superseded) and nothing
// of it is out or kept. Most such pools are forgotten at the next change of licences.
func (b *Book) past(i uint32) bool {
	return !b.state[i].licensed() && b.pools.at(i).Charged == 0 && b.booking.kept[i] == 0
}

// expiringByPool counts the leases past their deadline. It looks at those that the due
// index cannot rule out, not at all.
func (b *Book) expiringByPool() map[uint32]int {
	var longest Time
	b.pools.all(func(_ uint32, p *PoolRecord) bool {
		longest = max(longest, Time(p.Profile.Grace))
		return true
	})
	count := map[uint32]int{}
	b.spans.all(func(_ uint32, span *Profile) bool { // what a policy set is in its session's
		longest = max(longest, Time(span.Grace))
		return true
	})
	b.dueLeases.walk(b.Now()+longest, func(slot uint32) bool {
		l := b.leases.at(slot)
		pool := b.groups.at(l.Group).Pool
		if b.stateOf(slot) == Expiring {
			count[pool]++
		}
		return true
	})
	return count
}

// Leases lists live leases that match f in slot order, starting after the slot named by
// cursor (0 = from the start), at most limit (at least 1); next is 0 at the end.
func (b *Book) Leases(f Filter, cursor uint64, limit int) (leases []Lease, next uint64) {
	limit = max(limit, 1)
	add := func(slot uint32) bool {
		if slot <= uint32(min(cursor, maxSlot)) || !b.matches(slot, f) {
			return true
		}
		if len(leases) == limit {
			next = uint64(leases[limit-1].Handle)
			return false
		}
		leases = append(leases, b.show(slot))
		return true
	}
	switch {
	case f.ID != 0:
		if slot := b.lookup(f.ID); slot != 0 {
			add(slot)
		}
	case f.Handle != 0:
		if l := b.leases.at(uint32(f.Handle)); l != nil && !l.free() {
			add(uint32(f.Handle))
		}
	case !f.Session.IsZero():
		var slots []uint32
		if s := b.findSession(f.Session); s != 0 {
			b.each(b.sessions.at(s), func(slot uint32, _ *leaseRow) { slots = append(slots, slot) })
		}
		slices.Sort(slots)
		for _, slot := range slots {
			if !add(slot) {
				break
			}
		}
	default:
		b.leases.from(uint32(min(cursor, maxSlot)), func(i uint32, l *leaseRow) bool { return l.free() || add(i) })
	}
	return leases, next
}

func (b *Book) matches(slot uint32, f Filter) bool {
	l := b.leases.at(slot)
	s := b.sessions.at(l.Session)
	p := b.pools.at(b.groups.at(l.Group).Pool)
	return (f.Tenant == "" || f.Tenant == p.Tenant) && (f.Feature == "" || f.Feature == p.Feature) &&
		(f.User == "" || f.User == b.principalOf(l.Session).User) && (f.Host == "" || f.Host == b.principalOf(l.Session).Host) &&
		(f.State == 0 || f.State == b.stateOf(slot)) && (f.Session.IsZero() || f.Session == s.ID) &&
		(f.ID == 0 || f.ID == l.id(slot)) && (f.Handle == 0 || uint32(f.Handle) == slot) && (f.Search == "" || b.found(slot, f.Search))
}

// Verify returns the live lease that r names, if its token is current and it is not past
// deadline and grace.
func (b *Book) Verify(r Ref) (Lease, bool) {
	slot := b.lookup(r.ID)
	if slot == 0 || b.leases.at(slot).Token != r.Token || b.leaseDue(slot) <= b.Now() || !b.claimed(slot) {
		return Lease{}, false
	}
	return b.show(slot), true
}

// Preview says what the checkout would get, changing nothing. ok says whether all items
// together would be granted. Seats that are due but not reclaimed yet count as taken.
func (b *Book) Preview(c Checkout) (items []PreviewItem, ok bool) {
	if c.Session.ID.IsZero() {
		c.Session.ID = SessionID{1} // nobody's: a checkout without a session opens one
	}
	if r := normalize(&c); r != nil {
		return []PreviewItem{{Refusal: r}}, false
	}
	var s *sessionRow
	principal := c.Principal
	slot := b.findSession(c.Session.ID)
	if slot != 0 && !b.sessions.at(slot).closed() && b.owner(slot).tenant() == c.Tenant {
		s = b.sessions.at(slot)
		principal = b.principalOf(slot)
	}
	ok = true
	for _, it := range c.Items {
		p := b.planItem(&c, s, principal, it, nil)
		x := PreviewItem{Item: it, Refusal: p.refusal}
		if pools, refusal := b.fitting(c.Tenant, it); refusal == nil {
			for _, i := range pools {
				x.Free += b.room(i, principal, &c)
				if p.refusal != nil && waits(p.refusal) {
					_, places := b.ahead(i, principal, &c)
					x.Position = max(x.Position, places+1)
				}
			}
		}
		ok = ok && p.refusal == nil
		items = append(items, x)
	}
	if plans, refusal := b.plan(slot, s, &c); refusal != nil {
		ok = false
		refuseTogether(items, plans, refusal)
	}
	return items, ok
}

// refuseTogether notes a refusal that no item alone gives: on the item that met it, or
// on all if it is meant for the whole request.
func refuseTogether(items []PreviewItem, plans []plan, refusal *Refusal) {
	if n := len(plans); n > 0 && plans[n-1].refusal == refusal {
		items[n-1].Refusal = refusal
		return
	}
	for i := range items {
		items[i].Refusal = refusal
	}
}

// Licences lists the installed licences of a tenant ("" = all), by tenant and id.
func (b *Book) Licences(tenant string) []Licence {
	var out []Licence
	for _, x := range b.licences {
		if tenant == "" || tenant == x.Tenant {
			out = append(out, *x)
		}
	}
	return out
}

// Alarms lists what an operator should look at, one line each.
func (b *Book) Alarms() []string {
	var out []string
	if b.HeldSince != 0 {
		out = append(out, "the leader's wall clock runs ahead of what is believable; licence dates follow cluster time until it is checked")
	}
	if b.FenceUntil > b.Now() {
		out = append(out, "restored from a backup, or recovered without its majority: checkouts wait for "+b.FenceUntil.Sub(b.Now()).Round(1e9).String())
	}
	out = append(out, b.softAlarms()...)
	borne := map[*kin]int{}
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature == "" {
			return true // a slot of the page that was never used
		}
		out = append(out, b.overAlarms(i, p, borne)...)
		if st := &b.state[i]; st.graceEnd != 0 {
			out = append(out, st.graceAlarm(p))
		}
		return true
	})
	for _, o := range b.Overdrawn("") {
		out = append(out, fmt.Sprintf("feature %s: %s of lease %d taken from their borrower at once; until %s two may use the same", o.Feature, seatsText(o.Count), o.ID, o.Until.Time().Format(time.DateTime)))
	}
	return out
}

// How many keys of the due index are put right at once, at most: an entry has at most as
// many commands, and under 1,000 a second are enough for a million leases.
const (
	settleStep = 512
	// dueStep bounds how long DueStep keeps the ledger from other work: some milliseconds.
	dueStep = 2048
)

// Due returns up to limit commands (Expire, then ExpireSession) whose time has come.
func (b *Book) Due(limit int) []Command {
	for {
		if due, done := b.DueStep(limit); done {
			return due
		}
	}
}

// DueStep does what Due does, in short steps. If done is false it stopped early, with its
// indexes in order a bit further than before, and shall be asked again.
func (b *Book) DueStep(limit int) (due []Command, done bool) {
	leases, done := b.dueLeases.dueBy(b.lookedUntil(), limit, dueStep, b.leaseDue)
	for _, slot := range leases {
		l := b.leases.at(slot)
		due = append(due, Expire{Ref: Ref{l.id(slot), l.Token}, Rev: b.sessions.at(l.Session).Rev})
	}
	if !done || len(due) == limit {
		return due, done
	}
	sessions, done := b.dueSessions.dueBy(b.Now(), limit-len(due), dueStep, b.sessionDue)
	for _, slot := range sessions {
		s := b.sessions.at(slot)
		due = append(due, ExpireSession{ID: s.ID, Rev: s.Rev})
	}
	if !done || len(due) == limit {
		return due, done
	}
	return b.dueOthers(due, limit)
}

// lookedUntil is up to when Due looks: now. A proposer that is early does no harm as long
// as Expire is judged again.
func (b *Book) lookedUntil() Time {
	if Broken(GuardExpireTime) {
		return b.Now().Add(time.Second)
	}
	return b.Now()
}
