package lease

import (
	"fmt"
	"slices"
	"strings"
)

// recount derives the totals of all pools from the entitlements valid now, and when
// that next changes. A pool may charge more than its new total: those seats stay until
// they are returned, and none is granted meanwhile.
func (b *Book) recount() {
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature != "" {
			b.state[i] = poolState{seats: b.state[i].seats}
		}
		return true
	})
	b.nextDate = 0
	now := b.Header.Calendar
	next := func(d Calendar) {
		if d > now && (b.nextDate == 0 || d < b.nextDate) {
			b.nextDate = d
		}
	}
	before := b.superseded()
	for _, x := range b.licences {
		for i := range x.Entitlements {
			e := &x.Entitlements[i]
			next(e.Start)
			next(e.Expiry)
			next(e.GraceEnd())
		}
		x.lines(func(e *Entitlement, pkg string) {
			// A package's components stand and fall with it.
			named := *e
			if pkg != "" {
				named.Feature = pkg
			}
			b.state[b.poolOf(x, e)].add(e, pkg, standing(x, &named, before, now))
		})
	}
	b.recountDraws()
	b.countPackages()
	b.policePools()
	b.findKin()
	b.restandAll()
}

// add counts one line.
func (st *poolState) add(e *Entitlement, pkg string, s Standing) {
	switch s {
	case Expired:
		if st.expired = true; !st.valid { // shown until another line is valid
			st.expiry = max(st.expiry, e.Expiry)
		}
		return
	case NotYet:
		st.early = true
		return
	case Superseded:
		return
	}
	if !st.valid || st.expiry != 0 && (e.Expiry == 0 || e.Expiry > st.expiry) {
		st.expiry = e.Expiry
	}
	st.valid = true
	seats := e.Count
	if e.Uncounted {
		seats = MaxSeats
	}
	st.total = min(st.total+seats, MaxSeats)
	st.overdraft = min(st.overdraft+e.Overdraft, MaxSeats)
	if s == InGrace {
		st.inGrace = min(st.inGrace+seats, MaxSeats)
		if st.graceEnd == 0 || e.GraceEnd() < st.graceEnd {
			st.graceEnd = e.GraceEnd()
		}
	}
	if pkg != "" && !slices.Contains(st.packages, pkg) {
		st.packages = append(st.packages, pkg)
	}
}

// recountDraws bounds the pools that draw on others by what these have.
func (b *Book) recountDraws() {
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature == "" || p.Draw.Of == "" || !b.state[i].valid {
			return true
		}
		st := &b.state[i]
		sum, most := 0, 0
		for _, t := range b.payers(p) {
			seats := b.state[t].total * p.Draw.Per / p.Draw.Cost
			sum, most = min(sum+seats, MaxSeats), max(most, seats)
		}
		st.total, st.most = min(st.total, sum), min(most, MaxCount*p.Draw.Per/p.Draw.Cost)
		return true
	})
}

// largest is the most seats that one checkout can get of the pool.
func (b *Book) largest(i uint32) int {
	st := &b.state[i]
	switch {
	case st.most > 0:
		return min(st.total+b.overdraft(i), st.most)
	case b.pools.at(i).Uncounted:
		return MaxUncounted
	}
	return b.seatsOf(i)
}

// MaxUncounted bounds one checkout of an uncounted feature. Its seats are numbered like
// others, so that what is in use can be shown, and must not fill the ledger.
const MaxUncounted = 10_000

// otherwise says why a feature without seats cannot be had, if it is known by name.
func (b *Book) otherwise(tenant, feature string, pools []uint32) *Refusal {
	if parts := b.packages[featureKey{tenant, feature}]; parts != "" {
		return refuse(NoFeature, "%s is a package; check out what it consists of: %s", feature, parts)
	}
	for _, i := range pools {
		if p := b.pools.at(i); b.state[i].valid && p.Draw.Of != "" {
			return refuse(NoFeature, "feature %s: a seat costs %d of %s, and no licence of %s is valid", feature, p.Draw.Cost, p.Draw.Of, p.Draw.Of)
		}
	}
	return nil
}

// usage words how full the pools are, and what pays for them.
func (b *Book) usage(pools []uint32) string {
	used, total, booked, waiting := 0, 0, 0, 0
	paid := ""
	for _, i := range pools {
		p := b.pools.at(i)
		used += int(p.Charged)
		total = min(total+b.state[i].total, MaxSeats)
		booked, waiting = booked+b.booked(i), max(waiting, b.waiting(i))
		if p.Draw.Of == "" || paid != "" {
			continue
		}
		have, left := 0, 0
		for _, t := range b.payers(p) {
			have, left = have+b.state[t].total, left+b.free(t)
		}
		what := fmt.Sprintf("a seat costs %d of", p.Draw.Cost)
		if p.Draw.Suite {
			what = "it comes with the suite"
		}
		paid = fmt.Sprintf("; %s %s, of which %d of %d are free", what, p.Draw.Of, left, have)
	}
	if booked > 0 {
		paid = fmt.Sprintf(", %d booked", booked) + paid
	}
	if waiting > 0 {
		paid = fmt.Sprintf(", %d in the queue", waiting) + paid
	}
	paid = b.heldBackOf(pools) + paid
	return fmt.Sprintf("%d of %d in use%s", used, total, paid)
}

// countPackages notes what each package consists of.
func (b *Book) countPackages() {
	b.packages = map[featureKey]string{}
	for _, x := range b.licences {
		for i := range x.Entitlements {
			e := &x.Entitlements[i]
			var parts []string
			for _, c := range e.Package.Components {
				parts = append(parts, c.Feature)
			}
			if parts != nil {
				b.packages[featureKey{x.Tenant, e.Feature}] = strings.Join(parts, ", ")
			}
		}
	}
}

// dropUnusedPools forgets pools without entitlement and without a charged seat. Their
// seats' tokens are covered by the floor from then on.
func (b *Book) dropUnusedPools() {
	used := map[uint32]bool{}
	for _, x := range b.licences {
		x.lines(func(e *Entitlement, _ string) { used[b.poolOf(x, e)] = true })
	}
	var drop []uint32
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature != "" && p.Charged == 0 && !used[i] && b.booking.kept[i] == 0 {
			drop = append(drop, i)
		}
		return true
	})
	for _, i := range drop {
		p := b.pools.mut(b.gen, i)
		k := featureKey{p.Tenant, p.Feature}
		b.poolsByFeature[k] = slices.DeleteFunc(b.poolsByFeature[k], func(x uint32) bool { return x == i })
		if len(b.poolsByFeature[k]) == 0 {
			delete(b.poolsByFeature, k)
		}
		if p.Draw.Of != "" {
			k := featureKey{p.Tenant, p.Draw.Of}
			b.drawers[k] = slices.DeleteFunc(b.drawers[k], func(x uint32) bool { return x == i })
			if len(b.drawers[k]) == 0 {
				delete(b.drawers, k)
			}
		}
		b.countPool(p.Tenant, -1)
		*p = PoolRecord{}
		b.state[i] = poolState{}
		if int(i) < len(b.policing.pools) {
			b.policing.pools[i] = nil
		}
		b.poolSlots.put(i)
	}
	if len(drop) > 0 {
		b.Floor = max(b.Floor, b.High)
		b.findKin()
	}
}

// graceAlarm warns of seats that are there by grace alone.
func (st *poolState) graceAlarm(p *PoolRecord) string {
	what := fmt.Sprintf("%d seats are", st.inGrace)
	if p.Uncounted {
		what = "its licence is"
	}
	return fmt.Sprintf("feature %s: %s past the last day and usable by grace until %s; install a new licence",
		p.Feature, what, st.graceEnd.Time().Format("2006-01-02 15:04 UTC"))
}
