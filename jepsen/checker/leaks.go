package checker

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// stretch is a time in which a seat may be, or certainly is, in somebody's hands.
type stretch struct {
	feature  string
	seat     int // 0: a seat nobody knows the number of
	count    int // of such seats
	from, to int64
	certain  bool // a client believes in it all that time
}

// CheckLeaks is C5: once the faults are over and every lease that nobody holds had time
// to run out (lifespan, grace, two ticks and an election), the seats in use are those
// that clients have in their hands, no more and no less; and after all sessions were
// closed, none.
func CheckLeaks(r *Run) Verdict {
	j := newJury("C5", "no seat leaks")
	healed, ok := r.Phases[history.PhaseHealed]
	if !ok {
		j.missing("the run never came to the phase %q", history.PhaseHealed)
		return j.done("")
	}
	healed = max(healed, r.healed())
	closed, hasClosed := r.Phases[history.PhaseClosed]
	stretches := r.stretches()
	empty := map[string]int{}
	for i := range r.Pools {
		p := &r.Pools[i]
		wait := p.term() + p.term()/100 + 2*r.Limits.TickNS + r.Limits.ElectionNS
		var mine []stretch
		for _, s := range stretches {
			if s.feature == p.Feature {
				mine = append(mine, s)
			}
		}
		for _, pair := range r.Pairs { // ascending by invocation
			in, ok := usedBy(pair, p)
			if !ok || pair.Invoke.Time < healed+wait {
				continue
			}
			j.judged++
			asked, answered := pair.Invoke.Time, pair.Done.Time
			mine = slices.DeleteFunc(mine, func(s stretch) bool { return s.to < asked-wait })
			low, high := inHands(mine, asked, answered, wait)
			if in > high {
				j.guilty("operation %d: %d seats of %s are in use at %s, at most %d can be in anybody's hands", pair.Done.Index, in, p.Feature, seconds(answered), high)
			}
			if in < low {
				j.guilty("operation %d: %d seats of %s are in use at %s, clients believe in %d", pair.Done.Index, in, p.Feature, seconds(answered), low)
			}
			if hasClosed && asked >= max(closed, healed)+wait {
				empty[p.Feature]++
				if in != 0 {
					j.guilty("operation %d: %d seats of %s are in use %s after all sessions were closed", pair.Done.Index, in, p.Feature, seconds(asked-closed))
				}
			}
		}
		if empty[p.Feature] == 0 {
			j.missing("pool %s was not looked at %s after all sessions were closed", p.Feature, seconds(wait))
		}
	}
	return j.done("%d looks at pools after healing", j.judged)
}

// usedBy is what a consistent status answer says of the pool.
func usedBy(pair history.Pair, p *Pool) (n int, ok bool) {
	if !pair.OK() {
		return 0, false
	}
	v, isStatus := pair.Done.Value.(*history.Status)
	if !isStatus || v.Stale || v.Result != history.Done {
		return 0, false
	}
	for _, x := range v.Pools {
		if x.Feature == p.Feature && (p.Version == "" || x.Version == "" || x.Version == p.Version) {
			n, ok = n+x.InUse, true
		}
	}
	return n, ok
}

// inHands bounds the seats that are in somebody's hands from asked to answered. A seat
// that was let go less than wait ago may still be charged.
func inHands(list []stretch, asked, answered, wait int64) (low, high int) {
	sure, may := map[int]bool{}, map[int]bool{}
	hidden := 0
	for _, s := range list {
		if s.from > answered || s.to < asked-wait {
			continue
		}
		if s.seat == 0 {
			hidden += s.count
			continue
		}
		may[s.seat] = true
		if s.certain && s.from <= asked && s.to >= answered {
			sure[s.seat] = true
		}
	}
	return len(sure), len(may) + hidden
}

// stretches collects who may have had what, by their beginning.
func (r *Run) stretches() []stretch {
	var list []stretch
	kills := r.kills()
	for i := range r.Beliefs {
		b := &r.Beliefs[i]
		to := b.To
		if at, ok := kills.of(&b.Lease, b.From); ok {
			to = min(to, at)
		}
		for _, n := range b.Lease.Seats {
			list = append(list, stretch{b.Lease.Feature, n, 1, b.From, to, true})
		}
	}
	for _, p := range r.Pairs {
		switch v := p.Invoke.Value.(type) {
		case *history.Checkout:
			if !p.Unknown() {
				break
			}
			for _, it := range v.Items { // it may hold seats that nobody was told of
				list = append(list, stretch{it.Feature, 0, it.Count, p.Invoke.Time, p.Invoke.Time, false})
			}
			continue
		}
		if !p.OK() {
			continue
		}
		for _, x := range leasesIn(p.Done) {
			for _, n := range x.Seats {
				list = append(list, stretch{x.Feature, n, 1, p.Invoke.Time, p.Done.Time, false})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	return list
}

// leasesIn are the leases that an answer shows as held by whoever asked.
func leasesIn(op *history.Op) []history.Lease {
	switch v := op.Value.(type) {
	case *history.Checkout:
		return v.Leases
	case *history.Renew:
		return v.Leases
	}
	return nil
}
