package checker

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckBelief is C3: at any instant of real time at most one client, or one share group,
// believes that it holds a seat, and no seat beyond the licensed ones is believed in. A
// lease that an operator took back is left out from the moment that was asked: nobody
// promises anything of it but the fencing token.
func CheckBelief(r *Run) Verdict {
	j := newJury("C3", "one believer per seat at any instant")
	type seat struct {
		feature, version string
		number           int
	}
	type stay struct {
		from, to int64
		group    string
		b        *history.Belief
	}
	kills := r.kills()
	seats := map[seat][]stay{}
	var order []seat
	for i := range r.Beliefs {
		b := &r.Beliefs[i]
		pool := r.pool(b.Lease.Feature, b.Lease.Version)
		group := "session " + b.Session
		if pool != nil {
			group = pool.group(b.Lease.User, b.Lease.Host, b.Session)
		}
		to := b.To
		if at, ok := kills.of(&b.Lease, b.From); ok {
			to = min(to, at)
		}
		if to <= b.From || r.clockBroken(b.From, to) {
			continue
		}
		for _, n := range b.Lease.Seats {
			j.judged++
			if pool != nil && (n < 1 || n > pool.Total) {
				j.guilty("%s believes in seat %d of %s from %s on; %d are licensed", b.Client, n, b.Lease.Feature, seconds(b.From), pool.Total)
			}
			k := seat{b.Lease.Feature, b.Lease.Version, n}
			if seats[k] == nil {
				order = append(order, k)
			}
			seats[k] = append(seats[k], stay{b.From, to, group, b})
		}
	}
	for _, k := range order {
		list := seats[k]
		slices.SortStableFunc(list, func(a, b stay) int { return cmp.Compare(a.from, b.from) })
		// first is the stay that lasts longest so far, other the longest of another group.
		var first, other *stay
		for i := range list {
			s := &list[i]
			rival := first
			if rival != nil && rival.group == s.group {
				rival = other
			}
			if rival != nil && rival.to > s.from {
				j.guilty("seat %d of %s: %s (lease %d, token %d) and %s (lease %d, token %d) both believe in it from %s to %s", k.number, k.feature,
					rival.b.Client, rival.b.Lease.ID, rival.b.Lease.Token, s.b.Client, s.b.Lease.ID, s.b.Lease.Token, seconds(s.from), seconds(min(rival.to, s.to)))
			}
			switch {
			case first == nil || s.group == first.group && s.to > first.to:
				first = s
			case s.group != first.group && s.to > first.to:
				first, other = s, first
			case s.group != first.group && (other == nil || s.to > other.to):
				other = s
			}
		}
	}
	return j.done("%d beliefs in %d seats", len(r.Beliefs), len(order))
}

// killed says from when on leases were taken back by the operator's word.
type killed struct {
	byID      map[uint64]int64
	selectors []*history.Op // kills by selector
}

// kills collects them. What a kill says that it took back is not all: an earlier try of it,
// whose answer was lost with a leader, may have taken the rest. All that it means is gone.
func (r *Run) kills() killed {
	k := killed{byID: map[uint64]int64{}}
	note := func(id uint64, t int64) {
		if old, ok := k.byID[id]; !ok || t < old {
			k.byID[id] = t
		}
	}
	for _, p := range r.Pairs {
		asked, ok := p.Invoke.Value.(*history.Kill)
		if !ok || p.Failed() {
			continue
		}
		if p.OK() {
			v := p.Done.Value.(*history.Kill)
			if v.Result.Refused() {
				continue
			}
			for _, x := range v.Killed {
				note(x.ID, p.Invoke.Time)
			}
		}
		for _, id := range asked.IDs {
			note(id, p.Invoke.Time)
		}
		if len(asked.IDs) == 0 {
			k.selectors = append(k.selectors, p.Invoke)
		}
	}
	return k
}

// of says from when on the lease, held since from, may have been taken back.
func (k *killed) of(x *history.Lease, from int64) (at int64, ok bool) {
	at, ok = k.byID[x.ID]
	for _, op := range k.selectors {
		if op.Time >= from && op.Value.(*history.Kill).Matches(x) && (!ok || op.Time < at) {
			at, ok = op.Time, true
		}
	}
	return at, ok
}
