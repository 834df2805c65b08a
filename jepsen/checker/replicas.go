package checker

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckReplicas is C7: all nodes have the same chain hash at the same log position, in
// what they show and tell while they run, in their snapshots, and in a fresh replay of
// their log (which an audit is).
func CheckReplicas(r *Run) Verdict {
	j := newJury("C7", "replicas are equal")
	type seen struct{ hash, by string }
	known := map[uint64]seen{}
	compared := 0
	look := func(index uint64, hash, by string) {
		if hash == "" || index == 0 {
			return
		}
		old, ok := known[index]
		if !ok {
			known[index] = seen{hash, by}
			return
		}
		compared++
		j.judged++
		if old.hash != hash {
			j.guilty("at %d %s has the hash %.16s and %s has %.16s", index, old.by, old.hash, by, hash)
		}
	}
	first := map[uint64]*history.Entry{}
	for _, a := range sortedAudits(r.Audits) {
		for i := range a.Entries {
			e := &a.Entries[i]
			if !e.Stale { // a stale entry leaves the hash of another position
				look(e.Index, e.Hash, a.Node)
			}
			if e.Snapshot {
				continue
			}
			if e.Told != "" {
				j.guilty("entry %d gave %s the hash %.16s when it applied it, and %.16s when its log was replayed", e.Index, a.Node, e.Told, e.Hash)
			}
			if o := first[e.Index]; o == nil {
				first[e.Index] = e
			} else if o.Term != e.Term || o.Stale != e.Stale || o.NowNS != e.NowNS || len(o.Commands) != len(e.Commands) {
				j.guilty("entry %d differs on %s: term %d, stale %t, time %d, %d commands; elsewhere %d, %t, %d, %d",
					e.Index, a.Node, e.Term, e.Stale, e.NowNS, len(e.Commands), o.Term, o.Stale, o.NowNS, len(o.Commands))
			}
		}
	}
	shown := 0
	for _, p := range r.Pairs {
		if !p.OK() {
			continue
		}
		if v, ok := p.Done.Value.(*history.Status); ok {
			for _, n := range v.Nodes {
				if n.Hash != "" {
					shown++
					look(n.Applied, n.Hash, n.ID+" (as it ran)")
				}
			}
		}
	}
	return j.done("%d hashes of %d nodes compared, %d of them shown by running nodes", compared, len(r.Audits), shown)
}

// CheckDurable is C8: what was acknowledged stands in the final log of a majority of the
// nodes, at the index and in the term of the answer. A node whose log begins after a
// snapshot has what came before if its chain hash agrees where its log begins.
func CheckDurable(r *Run) Verdict {
	j := newJury("C8", "what was acknowledged is kept")
	majority := len(r.Nodes)/2 + 1
	if len(r.Audits) < majority {
		j.missing("final logs of %d nodes; a majority of %d is %d", len(r.Audits), len(r.Nodes), majority)
		return j.done("")
	}
	type holding struct {
		node    string
		entries map[uint64]*history.Entry
		before  uint64 // all entries up to here are in its snapshot
	}
	var nodes []holding
	for _, a := range sortedAudits(r.tails) {
		h := holding{node: a.Node, entries: map[uint64]*history.Entry{}}
		for i := range a.Entries {
			e := &a.Entries[i]
			if !e.Snapshot {
				h.entries[e.Index] = e
			} else if m := r.log.at[e.Index]; m == nil || m.Hash == e.Hash {
				h.before = max(h.before, e.Index)
			}
		}
		nodes = append(nodes, h)
	}
	acks := slices.Clone(r.acks)
	slices.SortStableFunc(acks, func(a, b ack) int { return cmp.Compare(a.pair.Done.Index, b.pair.Done.Index) })
	for _, a := range acks {
		if a.read {
			continue
		}
		j.judged++
		have := 0
		for _, n := range nodes {
			e := n.entries[a.index]
			if e == nil && a.index <= n.before || e != nil && (a.pair.Done.Term == 0 || e.Term == a.pair.Done.Term) {
				have++
			}
		}
		if have < majority {
			j.guilty("operation %d (%s of %s) was answered at %d in term %d; %d of %d nodes have it", a.pair.Done.Index, a.pair.Done.F,
				a.pair.Done.Client, a.index, a.pair.Done.Term, have, len(r.Nodes))
		}
	}
	return j.done("%d acknowledged operations looked for on %d nodes", j.judged, len(r.Audits))
}
