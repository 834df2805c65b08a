package report

import (
	"cmp"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
)

func (v *view) gaps(families []*family) {
	var longest int64 = 1
	for _, f := range families {
		longest = max(longest, f.Longest)
	}
	// The bars end at the longest gap: a promise far beyond it would make them all short.
	for _, f := range families {
		row := gapRow{family: f, Gap: durationText(f.Longest), Lasting: durationText(f.Lasted), Share: 100 * float64(max(f.Longest, 0)) / float64(longest)}
		if row.LimitText = "none"; f.Limit > 0 {
			row.LimitText = durationText(f.Limit)
			if f.Limit <= longest {
				row.LimitShare = 100 * float64(f.Limit) / float64(longest)
			}
		}
		v.Gaps = append(v.Gaps, row)
	}
	slices.SortStableFunc(v.Gaps, func(a, b gapRow) int { return cmp.Compare(b.Longest, a.Longest) })
}

func (v *view) counts(w *work, p *pools) {
	for _, k := range w.kinds {
		row := kindRow{Name: string(k.f), Invoked: thousands(k.invoked), OK: some(k.counts[classOK]), Denied: some(k.counts[classDenied]),
			Fail: some(k.counts[classFail]), Info: some(k.counts[classInfo]), P50: "–", P99: "–", Max: "–"}
		if row.Name == "" {
			row.Name = "all"
		}
		if k.whole.n > 0 {
			row.P50, row.P99, row.Max = durationText(k.whole.quantile(.5)), durationText(k.whole.quantile(.99)), durationText(k.whole.max)
		}
		if n := float64(k.invoked); n > 0 {
			row.OKShare, row.DeniedShare = 100*float64(k.counts[classOK])/n, 100*float64(k.counts[classDenied])/n
			row.FailShare, row.InfoShare = 100*float64(k.counts[classFail])/n, 100*float64(k.counts[classInfo])/n
		}
		v.Kinds = append(v.Kinds, row)
	}
	v.poolTable(w, p)
	texts := slices.Collect(maps.Keys(w.errors))
	sort.Slice(texts, func(i, j int) bool {
		return w.errors[texts[i]] > w.errors[texts[j]] || w.errors[texts[i]] == w.errors[texts[j]] && texts[i] < texts[j]
	})
	for _, t := range texts[:min(len(texts), mostErrors)] {
		v.Errors = append(v.Errors, errorRow{thousands(w.errors[t]), clip(t, mostLetters)})
	}
}

// mostColumns bounds the kinds of outcome in the table of pools.
const mostColumns = 40

func (v *view) poolTable(w *work, p *pools) {
	totals := map[string]int{}
	for _, m := range w.perPool {
		for k, n := range m {
			totals[k] += n
		}
	}
	v.PoolColumns = slices.Sorted(maps.Keys(totals))
	v.PoolColumns = v.PoolColumns[:min(len(v.PoolColumns), mostColumns)]
	order := slices.Clone(p.order)
	for _, k := range slices.SortedFunc(maps.Keys(w.perPool), func(a, b pool) int { return strings.Compare(a.String(), b.String()) }) {
		if _, known := p.sizes[k]; !known {
			order = append(order, k) // asked for, never there
		}
	}
	v.PoolsLeftOut = max(0, len(order)-mostPoolRows)
	for _, k := range order[:min(len(order), mostPoolRows)] {
		row := poolRow{Name: clip(k.String(), 80)}
		for _, c := range v.PoolColumns {
			row.Cells = append(row.Cells, some(w.perPool[k][c]))
		}
		v.PoolRows = append(v.PoolRows, row)
	}
	for i, c := range v.PoolColumns {
		v.PoolColumns[i] = clip(c, 60)
	}
}

// some is a number, or nothing for none.
func some(n int) string {
	if n == 0 {
		return ""
	}
	return thousands(n)
}

func (v *view) faults(r *checker.Run, gaps []int64) {
	var invoked []int64
	for i := range r.Ops {
		if op := &r.Ops[i]; op.IsClient() && op.Type == "invoke" {
			invoked = append(invoked, op.Time)
		}
	}
	slices.Sort(invoked) // as they are, unless the history is malformed
	v.FaultsLeftOut = max(0, len(r.Faults)-mostFaultRows)
	for i := range r.Faults[:min(len(r.Faults), mostFaultRows)] {
		w := &r.Faults[i]
		from, _ := slices.BinarySearch(invoked, w.From)
		to, _ := slices.BinarySearch(invoked, w.To+1)
		v.Faults = append(v.Faults, faultRow{ID: clip(w.ID, 60), Family: clip(w.Family, 40), Class: classOfFamily(w.Family), Where: joined(w.Nodes, w.CutOff),
			When: timeText(w.From), Lasted: durationText(w.To - w.From), Proof: clip(w.Proof, 300), Gap: durationText(gaps[i]),
			Meanwhile: thousands(to - from), Bit: w.Bit, NoMajority: w.NoMajority})
	}
}
