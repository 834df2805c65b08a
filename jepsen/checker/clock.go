package checker

import (
	"cmp"
	"math"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckTime is C11: cluster time never goes back, never moves by more than one step at
// once, never runs faster than real time, and moves while nothing is wrong.
func CheckTime(r *Run) Verdict {
	j := newJury("C11", "cluster time")
	r.timeInLogs(j)
	r.timeShown(j)
	r.timeNotFast(j)
	healthy := r.timeMoves(j)
	return j.done("%d entries and answers looked at, %d healthy stretches", j.judged, healthy)
}

func (r *Run) timeInLogs(j *jury) {
	for _, a := range sortedAudits(r.Audits) {
		for i := 1; i < len(a.Entries); i++ {
			e, last := &a.Entries[i], &a.Entries[i-1]
			if e.Index <= last.Index {
				continue // the node was started again, and tells entries twice
			}
			j.judged++
			step := e.NowNS - last.NowNS
			switch {
			case step < 0:
				j.guilty("%s, entry %d: cluster time goes back by %s", a.Node, e.Index, seconds(-step))
			case e.Lead != nil && step > 0:
				j.guilty("%s, entry %d: the start of an epoch moves cluster time by %s", a.Node, e.Index, seconds(step))
			case r.Limits.MaxStepNS > 0 && step > r.Limits.MaxStepNS && !e.Snapshot && !last.Snapshot && !r.log.between(last.Index, e.Index):
				j.guilty("%s, entry %d: cluster time jumps by %s", a.Node, e.Index, seconds(step))
			}
		}
	}
}

// timeShown: a status that was asked after another was answered shows no earlier time.
func (r *Run) timeShown(j *jury) {
	var asked []history.Pair
	for _, p := range r.Pairs {
		if v, ok := statusOf(p); ok && !v.Stale && v.ClusterTimeMS > 0 {
			asked = append(asked, p)
		}
	}
	answered := slices.Clone(asked)
	slices.SortStableFunc(answered, func(a, b history.Pair) int { return cmp.Compare(a.Done.Time, b.Done.Time) })
	var high int64
	next := 0
	for _, p := range asked {
		for ; next < len(answered) && answered[next].Done.Time < p.Invoke.Time; next++ {
			v, _ := statusOf(answered[next])
			high = max(high, v.ClusterTimeMS)
		}
		j.judged++
		if v, _ := statusOf(p); v.ClusterTimeMS < high {
			j.guilty("operation %d shows cluster time %d ms after %d ms were shown", p.Done.Index, v.ClusterTimeMS, high)
		}
	}
}

func statusOf(p history.Pair) (*history.Status, bool) {
	if !p.OK() {
		return nil, false
	}
	v, ok := p.Done.Value.(*history.Status)
	return v, ok && v.Result == history.Done
}

// timeNotFast: from one entry to a later one cluster time moves by no more than real time
// from asking for the first to the answer that rests on the second.
func (r *Run) timeNotFast(j *jury) {
	base := int64(math.MaxInt64) // least of cluster time minus real time at an earlier entry
	for _, a := range r.acks {
		if r.clockBroken(a.pair.Invoke.Time, a.pair.Done.Time) {
			base = math.MaxInt64
			continue
		}
		now, ok := r.log.now(a.index)
		if !ok {
			continue
		}
		if !a.read {
			base = min(base, now-a.pair.Invoke.Time)
		}
		j.judged++
		if base != math.MaxInt64 && now-a.pair.Done.Time > base+rounding {
			j.guilty("operation %d: by entry %d cluster time ran %s ahead of real time", a.pair.Done.Index, a.index, seconds(now-a.pair.Done.Time-base))
			base = now - a.pair.Done.Time // told once, not for ever after
		}
	}
}

// timeMoves: in each stretch without a fault, cluster time keeps nine tenths of real
// time's pace, but for one step per change of leader.
func (r *Run) timeMoves(j *jury) (healthy int) {
	for _, s := range r.quietStretches() {
		var first, last *ack
		for i := range r.acks {
			a := &r.acks[i]
			if a.read || a.pair.Invoke.Time < s[0] || a.pair.Done.Time > s[1] {
				continue
			}
			if first == nil {
				first = a
			}
			last = a
		}
		if first == nil || last.pair.Invoke.Time-first.pair.Done.Time < 5*r.Limits.TickNS {
			continue
		}
		t0, ok0 := r.log.now(first.index)
		t1, ok1 := r.log.now(last.index)
		if !ok0 || !ok1 {
			continue
		}
		healthy++
		j.judged++
		passed := last.pair.Invoke.Time - first.pair.Done.Time
		lost := r.Limits.MaxStepNS + 2*r.Limits.TickNS
		for _, e := range r.log.Entries {
			if e.Lead != nil && e.Index > first.index && e.Index <= last.index {
				lost += r.Limits.MaxStepNS + r.Limits.ElectionNS
			}
		}
		if t1-t0 < passed*9/10-lost {
			j.guilty("between operations %d and %d cluster time moved by %s in %s without a fault", first.pair.Done.Index, last.pair.Done.Index, seconds(t1-t0), seconds(passed))
		}
	}
	if healthy == 0 {
		j.missing("no stretch without faults is long enough to see cluster time move")
	}
	return healthy
}

// quietStretches are the times without a fault, less an election after each.
func (r *Run) quietStretches() [][2]int64 {
	faults := slices.Clone(r.Faults)
	slices.SortStableFunc(faults, func(a, b Window) int { return cmp.Compare(a.From, b.From) })
	var list [][2]int64
	var from int64
	for _, w := range faults {
		if w.From > from {
			list = append(list, [2]int64{from, w.From})
		}
		from = max(from, w.To+r.Limits.ElectionNS)
	}
	if r.End > from {
		list = append(list, [2]int64{from, r.End})
	}
	return list
}

// CheckReads is C12: a read that is not explicitly stale has seen everything that was
// answered before it was asked.
func CheckReads(r *Run) Verdict {
	j := newJury("C12", "reads are never stale")
	acks := make([]ack, 0, len(r.acks))
	for _, a := range r.acks {
		if !isStale(a.pair.Done) {
			acks = append(acks, a)
		}
	}
	answered := slices.Clone(acks)
	slices.SortStableFunc(acks, func(a, b ack) int { return cmp.Compare(a.pair.Invoke.Time, b.pair.Invoke.Time) })
	slices.SortStableFunc(answered, func(a, b ack) int { return cmp.Compare(a.pair.Done.Time, b.pair.Done.Time) })
	var high ack
	next := 0
	for _, a := range acks {
		for ; next < len(answered) && answered[next].pair.Done.Time < a.pair.Invoke.Time; next++ {
			if answered[next].index > high.index {
				high = answered[next]
			}
		}
		if !a.read {
			continue
		}
		j.judged++
		if a.index < high.index {
			j.guilty("operation %d (%s on %s) read at %d, and operation %d had been answered at %d before it was asked",
				a.pair.Done.Index, a.pair.Done.F, a.pair.Done.Node, a.index, high.pair.Done.Index, high.index)
		}
	}
	return j.done("%d reads", j.judged)
}
