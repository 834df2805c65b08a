package checker

import (
	"cmp"
	"math"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/model"
)

// Run is everything that is judged.
type Run struct {
	Facts
	Ops     []history.Op
	Pairs   []history.Pair
	Beliefs []history.Belief
	// Audits are what the nodes applied; what is uncertain in their logs is in tails.
	Audits []*history.Audit
	tails  []*history.Audit

	log   Log
	acks  []ack // answered operations by raft index
	early []int64
	late  []int64
}

// ack is an answered operation with its place in the log.
type ack struct {
	index uint64
	pair  history.Pair
	read  bool
}

// NewRun puts a run together; an error means that the history itself is malformed.
func NewRun(t Test, ops []history.Op, audits []*history.Audit) (*Run, error) {
	facts, err := FactsOf(t, ops)
	if err != nil {
		return nil, err
	}
	pairs, err := history.Pairs(ops)
	if err != nil {
		return nil, err
	}
	r := &Run{Facts: facts, Ops: ops, Pairs: pairs, Beliefs: history.Beliefs(ops), tails: audits}
	for _, a := range audits {
		uncertain := func(e history.Entry) bool { return e.Uncertain }
		r.Audits = append(r.Audits, &history.Audit{Node: a.Node, Entries: slices.DeleteFunc(slices.Clone(a.Entries), uncertain)})
	}
	r.log = merge(r.Audits)
	if t.Ruled {
		r.log.told()
	} else {
		r.log.complete()
	}
	for _, p := range pairs {
		if p.OK() && p.Done.RaftIndex > 0 {
			r.acks = append(r.acks, ack{p.Done.RaftIndex, p, isRead(p.Done)})
		}
	}
	slices.SortStableFunc(r.acks, func(a, b ack) int { return cmp.Compare(a.index, b.index) })
	r.bounds()
	return r, nil
}

// isRead says whether an answer rests on the log without standing in it. A kill that met
// nothing is one.
func isRead(op *history.Op) bool {
	if v, ok := op.Value.(*history.Kill); ok {
		return len(v.Killed) == 0
	}
	return op.F == history.FStatus || op.F == history.FLeases || op.F == history.FVerify
}

// isStale says whether a read asked for a node's own state.
func isStale(op *history.Op) bool {
	switch v := op.Value.(type) {
	case *history.Status:
		return v.Stale
	case *history.Leases:
		return v.Stale
	}
	return false
}

// bounds prepares appliedBy and appliedAfter. Stale reads and reads say nothing about
// when an entry was proposed, but all show that it was applied.
func (r *Run) bounds() {
	n := len(r.acks)
	r.late, r.early = make([]int64, n+1), make([]int64, n+1)
	r.late[n], r.early[0] = math.MaxInt64, 0
	for i := n - 1; i >= 0; i-- {
		r.late[i] = min(r.late[i+1], r.acks[i].pair.Done.Time)
	}
	for i, a := range r.acks {
		r.early[i+1] = r.early[i]
		if !a.read {
			r.early[i+1] = max(r.early[i+1], a.pair.Invoke.Time)
		}
	}
}

// appliedBy is a time by which the entry at index was certainly committed: somebody had
// an answer that rests on it. MaxInt64 if nobody had.
func (r *Run) appliedBy(index uint64) int64 {
	at, _ := slices.BinarySearchFunc(r.acks, index, func(a ack, i uint64) int { return cmp.Compare(a.index, i) })
	return r.late[at]
}

// appliedAfter is a time before which the entry at index was certainly not proposed.
func (r *Run) appliedAfter(index uint64) int64 {
	at, _ := slices.BinarySearchFunc(r.acks, index+1, func(a ack, i uint64) int { return cmp.Compare(a.index, i) })
	return r.early[at]
}

// Log is the one log that the audits of all nodes make up.
type Log struct {
	Entries []*history.Entry // by index, without markers of snapshots
	at      map[uint64]*history.Entry
	ended   map[uint64][]history.AuditEnded // by index
	// restores are the entries that went back to a backup, and what they went back to.
	restores []restore
	// Whole says that it begins with the first entry and has no hole.
	Whole bool
	Why   string // why it is not whole
}

// merge takes each entry as most nodes have it (C7 says if they differ).
func merge(audits []*history.Audit) Log {
	l := Log{at: map[uint64]*history.Entry{}}
	votes := map[uint64]map[string]int{}
	first, firstIsMarker := uint64(math.MaxUint64), true
	var markers []*history.Entry
	for _, a := range sortedAudits(audits) {
		for i := range a.Entries {
			e := &a.Entries[i]
			if e.Index < first || e.Index == first && !e.Snapshot {
				first, firstIsMarker = e.Index, e.Snapshot
			}
			if e.Snapshot {
				markers = append(markers, e)
				continue
			}
			v := votes[e.Index]
			if v == nil {
				v = map[string]int{}
				votes[e.Index] = v
			}
			v[e.Hash]++
			if old := l.at[e.Index]; old == nil || v[e.Hash] > v[old.Hash] {
				l.at[e.Index] = e
			}
		}
	}
	for _, e := range l.at {
		l.Entries = append(l.Entries, e)
	}
	slices.SortFunc(l.Entries, func(a, b *history.Entry) int { return cmp.Compare(a.Index, b.Index) })
	switch {
	case len(l.Entries) == 0:
		l.Why = "no node's log is there"
	case firstIsMarker:
		l.Why = "the beginning of the log is in a snapshot on every node"
	default:
		l.Whole = true
		for _, m := range markers {
			if l.at[m.Index] == nil {
				l.Whole, l.Why = false, "entries before a snapshot are on no node"
			}
		}
	}
	return l
}

// complete adds to entries whose node did not tell it which leases ended in them, as the
// model has it. C1 says where the two disagree.
func (l *Log) complete() {
	l.ended = map[uint64][]history.AuditEnded{}
	house := model.New()
	for _, e := range l.Entries {
		for i := range e.Commands {
			if c := &e.Commands[i]; c.Kind == history.KindRestore && c.Restore != nil && c.Result.Reason == "" && !e.Stale {
				l.restores = append(l.restores, restore{at: e.Index, to: c.Restore.Index})
			}
		}
		if e.HasEnded {
			l.ended[e.Index] = e.Ended
		}
		if !l.Whole {
			continue
		}
		if house.Apply(e); !e.HasEnded {
			l.ended[e.Index] = house.Ended()
		}
	}
}

// told collects which leases ended as the nodes told it: each command says all that it did.
func (l *Log) told() {
	l.ended = map[uint64][]history.AuditEnded{}
	for _, e := range l.Entries {
		for i := range e.Commands {
			c := &e.Commands[i]
			if e.Stale || c.Result.Replayed {
				continue
			}
			if len(c.Events) == 0 {
				l.ended[e.Index] = append(l.ended[e.Index], c.Result.Released...)
			}
			for _, x := range c.Events {
				if x.Kind == history.EventEnded {
					l.ended[e.Index] = append(l.ended[e.Index], history.AuditEnded{ID: x.ID, Token: x.Token, Feature: x.Feature, Reason: x.Reason})
				}
			}
		}
	}
}

func sortedAudits(audits []*history.Audit) []*history.Audit {
	list := slices.Clone(audits)
	slices.SortStableFunc(list, func(a, b *history.Audit) int { return cmp.Compare(a.Node, b.Node) })
	return list
}

// between says whether some node tells of an entry after one index and before another.
func (l *Log) between(after, before uint64) bool {
	at, _ := slices.BinarySearchFunc(l.Entries, after+1, func(e *history.Entry, i uint64) int { return cmp.Compare(e.Index, i) })
	return at < len(l.Entries) && l.Entries[at].Index < before
}

// now is cluster time after the entry at index; ok is false if it is not there.
func (l *Log) now(index uint64) (ns int64, ok bool) {
	if e := l.at[index]; e != nil {
		return e.NowNS, true
	}
	at, _ := slices.BinarySearchFunc(l.Entries, index, func(e *history.Entry, i uint64) int { return cmp.Compare(e.Index, i) })
	if at == 0 || at == len(l.Entries) {
		return 0, false
	}
	return l.Entries[at-1].NowNS, true // an index of raft's own
}
