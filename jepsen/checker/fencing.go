package checker

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

type seatKey struct {
	feature, version string
	number           int
}

// CheckFencing is C4: every new grant of a seat has a higher token than all before it, in
// the log and as clients saw it; and the toy resource, which knows tokens only, never
// accepted one that was older than one it had accepted.
func CheckFencing(r *Run) Verdict {
	j := newJury("C4", "fencing tokens grow")
	grants := r.tokensInLog(j)
	r.tokensAnswered(j)
	writes := r.writes(j)
	return j.done("%d grants in the log, %d writes to guarded resources", grants, writes)
}

func (r *Run) tokensInLog(j *jury) int {
	last := map[seatKey]uint64{}
	known := map[uint64]bool{}
	grants := 0
	for _, e := range r.log.Entries {
		for i := range e.Commands {
			c := &e.Commands[i]
			if c.Kind != history.KindCheckout {
				continue
			}
			for _, x := range c.Result.Leases {
				if known[x.ID] {
					continue
				}
				known[x.ID] = true
				grants++
				j.judged++
				for _, n := range x.Seats {
					k := seatKey{x.Feature, x.Version, n}
					if x.Token <= last[k] {
						j.guilty("entry %d: seat %d of %s is granted with token %d after %d", e.Index, n, x.Feature, x.Token, last[k])
					}
					last[k] = max(last[k], x.Token)
				}
			}
		}
	}
	return grants
}

// tokensAnswered compares grants of which one was answered before the other was asked.
func (r *Run) tokensAnswered(j *jury) {
	type grant struct {
		asked, answered int64
		x               history.Lease
	}
	bySeat := map[seatKey][]grant{}
	var order []seatKey
	for _, p := range r.Pairs {
		if !p.OK() {
			continue
		}
		v, ok := p.Done.Value.(*history.Checkout)
		if !ok || v.Replayed {
			continue
		}
		for _, x := range v.Leases {
			j.judged++
			for _, n := range x.Seats {
				k := seatKey{x.Feature, x.Version, n}
				if bySeat[k] == nil {
					order = append(order, k)
				}
				bySeat[k] = append(bySeat[k], grant{p.Invoke.Time, p.Done.Time, x})
			}
		}
	}
	for _, k := range order {
		asked := bySeat[k] // by the time they were asked, as the pairs are
		answered := slices.Clone(asked)
		slices.SortStableFunc(answered, func(a, b grant) int { return cmp.Compare(a.answered, b.answered) })
		var high grant
		next := 0
		for _, g := range asked {
			for ; next < len(answered) && answered[next].answered < g.asked; next++ {
				if answered[next].x.Token > high.x.Token {
					high = answered[next]
				}
			}
			if g.x.ID != high.x.ID && g.x.Token <= high.x.Token {
				j.guilty("seat %d of %s: lease %d was granted with token %d after lease %d with %d", k.number, k.feature, g.x.ID, g.x.Token, high.x.ID, high.x.Token)
			}
		}
	}
}

// writes judges what the guarded resources did, in their own order.
func (r *Run) writes(j *jury) int {
	byResource := map[string][]*history.Op{}
	var order []string
	for _, p := range r.Pairs {
		if !p.OK() {
			continue
		}
		if v, ok := p.Done.Value.(*history.Write); ok {
			if byResource[v.Resource] == nil {
				order = append(order, v.Resource)
			}
			byResource[v.Resource] = append(byResource[v.Resource], p.Done)
		}
	}
	n := 0
	for _, name := range order {
		list := byResource[name]
		slices.SortStableFunc(list, func(a, b *history.Op) int {
			return cmp.Compare(a.Value.(*history.Write).Order, b.Value.(*history.Write).Order)
		})
		var high uint64
		for _, op := range list {
			v := op.Value.(*history.Write)
			n++
			j.judged++
			if v.Result == history.Accepted && v.Token < max(high, v.Highest) {
				j.guilty("operation %d: resource %s accepted token %d after %d", op.Index, name, v.Token, max(high, v.Highest))
			}
			if v.Result == history.Rejected && v.Highest != 0 && v.Token >= v.Highest {
				j.guilty("operation %d: resource %s rejected token %d, the highest it saw is %d", op.Index, name, v.Token, v.Highest)
			}
			if v.Result == history.Accepted {
				high = max(high, v.Token)
			}
		}
	}
	return n
}
