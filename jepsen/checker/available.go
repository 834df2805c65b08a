package checker

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckAvailable is C9: the longest time without an answer, for clients that reach a
// majority and ask, in and right after each fault, is within the limit. A fault that
// leaves no majority is judged from its end on. Reads of a node's own state do not count.
func CheckAvailable(r *Run) Verdict {
	j := newJury("C9", "service goes on")
	var served []history.Pair
	for _, p := range r.Pairs {
		if p.OK() && !isStale(p.Done) && p.Invoke.F != history.FWrite {
			served = append(served, p)
		}
	}
	slices.SortStableFunc(served, func(a, b history.Pair) int { return cmp.Compare(a.Done.Time, b.Done.Time) })
	longest := map[string]int64{}
	for i := range r.Faults {
		w := &r.Faults[i]
		gap, at, ok := r.longestGap(w, served)
		if !ok {
			continue // nobody who could be served asked: C0 counts that
		}
		j.judged++
		longest[w.Family] = max(longest[w.Family], gap)
		limit := r.Limits.GapNS
		if x, ok := r.Limits.GapsNS[w.Family]; ok {
			limit = x
		}
		if limit > 0 && gap > limit {
			j.guilty("fault %s (%s): no answer for %s from %s on; at most %s is promised", w.ID, w.Family, seconds(gap), seconds(at), seconds(limit))
		}
	}
	var parts []string
	for _, family := range slices.Sorted(maps.Keys(longest)) {
		parts = append(parts, fmt.Sprintf("%s %s", family, seconds(longest[family])))
	}
	return j.done("longest gap: %s", strings.Join(parts, ", "))
}

// Gaps gives the longest gap in service of each fault, in the order of r.Faults; -1 where
// nobody who could be served asked.
func Gaps(r *Run) []int64 {
	var served []history.Pair
	for _, p := range r.Pairs {
		if p.OK() && !isStale(p.Done) && p.Invoke.F != history.FWrite {
			served = append(served, p)
		}
	}
	slices.SortStableFunc(served, func(a, b history.Pair) int { return cmp.Compare(a.Done.Time, b.Done.Time) })
	list := make([]int64, len(r.Faults))
	for i := range r.Faults {
		gap, _, ok := r.longestGap(&r.Faults[i], served)
		if list[i] = gap; !ok {
			list[i] = -1
		}
	}
	return list
}

// longestGap looks at the time from the fault's start (its end, if it leaves no majority)
// to the first answer after its end.
func (r *Run) longestGap(w *Window, served []history.Pair) (gap, at int64, ok bool) {
	from := w.From
	if w.NoMajority {
		from = w.To
	}
	begin, _ := slices.BinarySearchFunc(served, from, func(p history.Pair, t int64) int { return cmp.Compare(p.Done.Time, t) })
	last := from
	look := func(to int64) {
		if to-last <= gap && ok {
			return
		}
		if a, demand := r.demand(max(last, r.majorityBack(last, to)), to); demand {
			if ok = true; to-a > gap {
				gap, at = to-a, a
			}
		}
	}
	for _, p := range served[begin:] {
		if r.cutOff(p) {
			continue
		}
		look(p.Done.Time)
		if last = p.Done.Time; last > w.To {
			return gap, at, ok
		}
	}
	look(r.End)
	return gap, at, ok
}

// majorityBack is the end of the last fault without a majority that meets [from, to].
func (r *Run) majorityBack(from, to int64) int64 {
	t := from
	for i := range r.Faults {
		if w := &r.Faults[i]; w.NoMajority && w.From <= to && w.To >= from {
			t = max(t, min(w.To, to))
		}
	}
	return t
}

// demand is the first moment in [from, to] at which somebody who reaches a majority waits
// for an answer.
func (r *Run) demand(from, to int64) (at int64, ok bool) {
	const longest = int64(60e9) // no operation waits longer
	begin, _ := slices.BinarySearchFunc(r.Pairs, from-longest, func(p history.Pair, t int64) int { return cmp.Compare(p.Invoke.Time, t) })
	for _, p := range r.Pairs[begin:] {
		if p.Invoke.Time > to {
			break
		}
		ended := p.Invoke.Time + longest
		if p.Done != nil {
			ended = p.Done.Time
		}
		if ended < from || p.Invoke.F == history.FWrite || isStale(p.Invoke) || r.cutOff(p) {
			continue
		}
		return max(from, p.Invoke.Time), true
	}
	return 0, false
}

// cutOff says whether the client could not reach a majority for part of the operation.
func (r *Run) cutOff(p history.Pair) bool {
	until := p.Invoke.Time
	if p.Done != nil {
		until = p.Done.Time
	}
	for i := range r.Faults {
		w := &r.Faults[i]
		if w.From <= until && p.Invoke.Time <= w.To && slices.Contains(w.CutOff, p.Invoke.Client) {
			return true
		}
	}
	return false
}
