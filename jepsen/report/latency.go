package report

import (
	"math"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

const (
	latencyBuckets = 240
	rateBuckets    = 300
	// perDecade is how finely latencies are told apart: 30 a decade is 8 %.
	perDecade = 30
	// fastest and decades bound what is told apart: 10 µs to 1000 s.
	fastest = 10e3
	decades = 8
)

// spread counts latencies on a log scale.
type spread struct {
	bins [perDecade * decades]uint32
	n    uint32
	max  int64
}

func (s *spread) add(ns int64) {
	at := int(math.Log10(max(float64(ns), fastest)/fastest) * perDecade)
	s.bins[min(at, len(s.bins)-1)]++
	s.n++
	s.max = max(s.max, ns)
}

// quantile is the upper edge of the bin in which the q-th part ends, in ns.
func (s *spread) quantile(q float64) int64 {
	want := uint32(math.Ceil(q * float64(s.n)))
	var seen uint32
	for i, n := range s.bins {
		if seen += n; seen >= want && n > 0 {
			return min(s.max, int64(fastest*math.Pow(10, float64(i+1)/perDecade)))
		}
	}
	return s.max
}

// kind is one kind of operation over time.
type kind struct {
	f       history.F // empty: all
	spreads []*spread // by bucket; nil where nothing was answered
	whole   spread
	counts  [4]int // by class
	invoked int
}

// Classes of an outcome, as they are drawn.
const (
	classOK = iota
	classDenied
	classFail
	classInfo
)

var classNames = [4]string{"ok", "denied", "fail", "info"}

func classOf(op *history.Op) int {
	switch op.Type {
	case history.Fail:
		return classFail
	case history.Info:
		return classInfo
	}
	if res := history.ResultOf(op.Value); res.Refused() || res == history.Rejected {
		return classDenied
	}
	return classOK
}

// mostWords bounds how many different error texts are counted.
const mostWords = 1000

// work is what clients did.
type work struct {
	kinds []*kind // all first, then by number
	rates [4][]float64
	span  span // of the rates
	// perPool counts outcomes by pool and "f result".
	perPool map[pool]map[string]int
	errors  map[string]int
	classes [4]int
	invoked int
}

// workDone goes through the history once. It forgives what a malformed history has, so
// that its page can be looked at, too.
func workDone(ops []history.Op, end int64, p *pools) *work {
	w := &work{span: newSpan(end, rateBuckets), perPool: map[pool]map[string]int{}, errors: map[string]int{}}
	for c := range w.rates {
		w.rates[c] = make([]float64, rateBuckets)
	}
	all := &kind{spreads: make([]*spread, latencyBuckets)}
	byF := map[history.F]*kind{}
	s := newSpan(end, latencyBuckets)
	open := map[history.Process]*history.Op{}
	finish := func(began, done *history.Op, class int) {
		k := byF[began.F]
		if k == nil {
			k = &kind{f: began.F, spreads: make([]*spread, latencyBuckets)}
			byF[began.F] = k
		}
		w.count(done, class, p)
		for _, k := range []*kind{all, k} {
			k.invoked++
			k.counts[class]++
			if class > classDenied || k == all && began.F == history.FWrite {
				continue // a write asks the toy resource, not the service
			}
			b := s.bucket(done.Time)
			if k.spreads[b] == nil {
				k.spreads[b] = &spread{}
			}
			k.spreads[b].add(done.Time - began.Time)
			k.whole.add(done.Time - began.Time)
		}
	}
	for i := range ops {
		op := &ops[i]
		switch {
		case !op.IsClient():
		case op.Type == history.Invoke:
			open[op.Process] = op
		default:
			if began := open[op.Process]; began != nil {
				delete(open, op.Process)
				finish(began, op, classOf(op))
			}
		}
	}
	for _, began := range open {
		finish(began, began, classInfo) // never answered
	}
	for _, k := range byF {
		w.kinds = append(w.kinds, k)
	}
	slices.SortFunc(w.kinds, func(a, b *kind) int {
		if a.invoked != b.invoked {
			return b.invoked - a.invoked
		}
		if a.f < b.f {
			return -1
		}
		return 1
	})
	w.kinds = append([]*kind{all}, w.kinds...)
	w.classes, w.invoked = all.counts, all.invoked
	return w
}

func (w *work) count(done *history.Op, class int, p *pools) {
	w.rates[class][w.span.bucket(done.Time)] += 1 / w.span.seconds()
	outcome := string(history.ResultOf(done.Value))
	if class >= classFail || outcome == "" {
		outcome = classNames[class]
	}
	for _, k := range p.about(done) {
		m := w.perPool[k]
		if m == nil {
			m = map[string]int{}
			w.perPool[k] = m
		}
		m[string(done.F)+" "+outcome]++
	}
	if done.Error != "" {
		if _, ok := w.errors[done.Error]; ok || len(w.errors) < mostWords {
			w.errors[done.Error]++
		}
	}
}
