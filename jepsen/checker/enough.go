package checker

import (
	"fmt"
	"maps"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckEnough is C0: whether so much happened that the other verdicts mean something. It
// never finds a run invalid, only not conclusive.
func CheckEnough(r *Run) Verdict {
	j := newJury("C0", "enough happened to judge")
	need := func(where, what string, have, want int) {
		if j.judged++; have < want {
			j.missing("%s%s: %d, at least %d are needed", where, what, have, want)
		}
	}
	r.enoughAnswers(need)
	r.enoughFaults(need, j)
	answered := 0
	for _, p := range r.Pairs {
		if p.OK() {
			answered++
		}
	}
	if len(r.Pools) == 0 {
		j.missing("the run names no pool")
	}
	if len(r.Audits) < len(r.Nodes) || len(r.Audits) == 0 {
		j.missing("audits of %d nodes, there are %d nodes", len(r.Audits), len(r.Nodes))
	}
	for _, phase := range []string{history.PhaseHealed, history.PhaseClosed} {
		if _, ok := r.Phases[phase]; !ok {
			j.missing("the run never came to the phase %q", phase)
		}
	}
	return j.done("%d operations, %d answered, %d faults", len(r.Pairs), answered, len(r.Faults))
}

// Lacks says of which answers a run, as far as it has come, has too few.
func (r *Run) Lacks() (list []string) {
	r.enoughAnswers(func(where, what string, have, want int) {
		if have < want {
			list = append(list, fmt.Sprintf("%s%s: %d of %d", where, what, have, want))
		}
	})
	return list
}

func (r *Run) enoughAnswers(need func(where, what string, have, want int)) {
	count := r.tally()
	for _, key := range slices.Sorted(maps.Keys(r.Require.Overall)) {
		need("", key, count[key], r.Require.Overall[key])
	}
	for i := range r.Pools {
		p := &r.Pools[i]
		for _, key := range slices.Sorted(maps.Keys(r.Require.PerPool)) {
			need("pool "+p.Feature+": ", key, count[p.Feature+" "+key], r.Require.PerPool[key])
		}
	}
}

// enoughFaults looks at the faults: each family bit, people were at work meanwhile, and
// all was well before and after.
func (r *Run) enoughFaults(need func(where, what string, have, want int), j *jury) {
	if len(r.Faults) == 0 {
		j.missing("there was no fault: the nemesis did nothing")
		return
	}
	bit := map[string]int{}
	want := maps.Clone(r.Require.Faults)
	if want == nil {
		want = map[string]int{}
	}
	first := r.Faults[0].From
	for i := range r.Faults {
		w := &r.Faults[i]
		first = min(first, w.From)
		want[w.Family] = max(want[w.Family], 1)
		if w.Bit {
			bit[w.Family]++
		}
	}
	for _, family := range slices.Sorted(maps.Keys(want)) {
		need("fault "+family+": ", "bit", bit[family], want[family])
	}
	inside := make([]int, len(r.Faults))
	before, after := 0, 0
	healed := r.healed()
	invoked := make([]int64, len(r.Pairs)) // ascending, as the pairs are
	for n, p := range r.Pairs {
		invoked[n] = p.Invoke.Time
		if p.OK() && p.Done.Time < first {
			before++
		}
		if p.OK() && p.Invoke.Time > healed {
			after++
		}
	}
	for i := range r.Faults {
		from, _ := slices.BinarySearch(invoked, r.Faults[i].From)
		to, _ := slices.BinarySearch(invoked, r.Faults[i].To+1)
		inside[i] = to - from
		need(fmt.Sprintf("fault %s (%s): ", r.Faults[i].ID, r.Faults[i].Family), "operations meanwhile", inside[i], r.Require.PerFault)
	}
	need("before the first fault: ", "operations answered", before, r.Require.Healthy)
	need("after the last fault: ", "operations answered", after, r.Require.Healthy)
}

// tally counts answers by "f/result", also by "feature f/result" where a feature is named.
func (r *Run) tally() map[string]int {
	count := map[string]int{}
	for _, p := range r.Pairs {
		if !p.OK() {
			continue
		}
		key := string(p.Done.F) + "/" + string(history.ResultOf(p.Done.Value))
		count[key]++
		for _, feature := range featuresOf(p.Done) {
			count[feature+" "+key]++
		}
	}
	return count
}

// featuresOf names the features an answer is about, each once.
func featuresOf(op *history.Op) []string {
	var list []string
	add := func(f string) {
		if f != "" && !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	switch v := op.Value.(type) {
	case *history.Checkout:
		for _, it := range v.Items {
			add(it.Feature)
		}
	case *history.Renew:
		for _, x := range v.Leases {
			add(x.Feature)
		}
	case *history.Checkin:
		for _, x := range v.Released {
			add(x.Feature)
		}
	case *history.Kill:
		for _, x := range v.Killed {
			add(x.Feature)
		}
	case *history.Status:
		for _, x := range v.Pools {
			add(x.Feature)
		}
	}
	return list
}
