package report

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// lagBuckets is how finely lags are drawn.
const lagBuckets = 400

// leadership is one epoch, from its Lead entry to the next.
type leadership struct {
	node     string
	term     uint64
	index    uint64
	from, to int64
}

// change is a change of leader as the harness saw it from outside.
type change struct {
	At     int64
	Leader string
	Term   uint64
}

// raftFacts are what is known of raft.
type raftFacts struct {
	nodes   []string
	leaders []leadership
	seen    []change
	terms   *series
	lags    map[string][]float64 // by node and bucket; -1 is unknown
	entries int
	last    uint64
}

var incarnation = regexp.MustCompile(`-[0-9a-f]{8}$`)

// nodeName takes the incarnation off a server id.
func nodeName(id string) string { return incarnation.ReplaceAllString(id, "") }

func raftOf(r *checker.Run, log []placed, seen []change) *raftFacts {
	f := &raftFacts{nodes: slices.Clone(r.Nodes), terms: newSeries(newSpan(r.End, lagBuckets)), lags: map[string][]float64{}, entries: len(log), seen: seen}
	for _, e := range log {
		f.last = e.Index
		if e.Lead == nil {
			continue
		}
		if n := len(f.leaders); n > 0 {
			f.leaders[n-1].to = e.at
		}
		name := nodeName(e.Lead.Node)
		f.leaders = append(f.leaders, leadership{name, e.Term, e.Index, e.at, r.End})
		f.know(name)
		f.terms.set(e.at, float64(e.Term))
	}
	if len(f.leaders) == 0 { // no log: what was seen from outside
		slices.SortStableFunc(seen, func(a, b change) int { return cmp.Compare(a.At, b.At) })
		for i, c := range seen {
			to := r.End
			if i+1 < len(seen) {
				to = seen[i+1].At
			}
			f.leaders = append(f.leaders, leadership{nodeName(c.Leader), c.Term, 0, c.At, to})
			f.know(nodeName(c.Leader))
			f.terms.set(c.At, float64(c.Term))
		}
	}
	f.terms.done()
	f.lag(r)
	slices.SortFunc(f.nodes, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	return f
}

// mostNodes bounds how many nodes are drawn.
const mostNodes = 12

func (f *raftFacts) know(name string) {
	if name != "" && !slices.Contains(f.nodes, name) && len(f.nodes) < mostNodes {
		f.nodes = append(f.nodes, name)
	}
}

// changes is how often another epoch began.
func (f *raftFacts) changes() int { return max(0, len(f.leaders)-1) }

// lag is how many entries each node was behind the foremost one in a status answer, at
// worst in each bucket.
func (f *raftFacts) lag(r *checker.Run) {
	s := newSpan(r.End, lagBuckets)
	for i := range r.Ops {
		v, ok := r.Ops[i].Value.(*history.Status)
		if !ok || v.Stale || v.Result != history.Done {
			continue
		}
		var head uint64
		applied := map[string]uint64{} // of several incarnations the foremost
		for _, n := range v.Nodes {
			head = max(head, n.Applied)
			name := nodeName(n.ID)
			applied[name] = max(applied[name], n.Applied)
		}
		for name, at := range applied {
			f.know(name)
			if at == 0 || !slices.Contains(f.nodes, name) {
				continue // not told
			}
			list := f.lags[name]
			if list == nil {
				list = slices.Repeat([]float64{-1}, lagBuckets)
				f.lags[name] = list
			}
			b := s.bucket(r.Ops[i].Time)
			list[b] = max(list[b], float64(head-at))
		}
	}
}
