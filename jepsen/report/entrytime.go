package report

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// placed is a log entry with its place on the harness's clock.
type placed struct {
	*history.Entry
	at int64
}

// placeEntries takes every entry that any node told of, once, in the order of the log,
// and estimates when it was applied.
func placeEntries(r *checker.Run) []placed {
	list := unite(r.Audits)
	anchored := anchor(list, r.Ops)
	last := -1 // the latest anchor
	for i := range list {
		if !anchored[i] {
			continue
		}
		between(list, last, i)
		last = i
	}
	between(list, last, len(list))
	var t int64
	for i := range list {
		t = max(t, min(list[i].at, r.End))
		list[i].at = t
	}
	return list
}

func unite(audits []*history.Audit) []placed {
	var list []placed
	for _, a := range audits {
		for i := range a.Entries {
			if e := &a.Entries[i]; !e.Snapshot {
				list = append(list, placed{Entry: e})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b placed) int { return cmp.Compare(a.Index, b.Index) })
	return slices.CompactFunc(list, func(a, b placed) bool { return a.Index == b.Index })
}

// anchor sets the times of those entries that an answer rests on.
func anchor(list []placed, ops []history.Op) []bool {
	type seen struct {
		index uint64
		at    int64
	}
	var answers []seen
	for i := range ops {
		if op := &ops[i]; op.IsClient() && op.Type == history.OK && op.RaftIndex > 0 {
			answers = append(answers, seen{op.RaftIndex, op.Time})
		}
	}
	slices.SortStableFunc(answers, func(a, b seen) int { return cmp.Compare(a.index, b.index) })
	for i := len(answers) - 2; i >= 0; i-- {
		answers[i].at = min(answers[i].at, answers[i+1].at)
	}
	anchored := make([]bool, len(list))
	k := 0
	for i := range list {
		for k < len(answers) && answers[k].index < list[i].Index {
			k++
		}
		if k < len(answers) && answers[k].index == list[i].Index {
			list[i].at, anchored[i] = answers[k].at, true
		}
	}
	return anchored
}

// between places the entries between two anchors; from may be -1 and to the length.
func between(list []placed, from, to int) {
	for i := from + 1; i < to; i++ {
		e := &list[i]
		switch {
		case from >= 0 && to < len(list):
			a, b := &list[from], &list[to]
			e.at = a.at
			if b.NowNS > a.NowNS {
				e.at += int64(float64(b.at-a.at) * float64(e.NowNS-a.NowNS) / float64(b.NowNS-a.NowNS))
			}
		case from >= 0:
			e.at = list[from].at + e.NowNS - list[from].NowNS
		case to < len(list):
			e.at = list[to].at - (list[to].NowNS - e.NowNS)
		default:
			e.at = e.NowNS
		}
	}
}
