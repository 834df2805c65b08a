package explore

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Result says what a search came to.
type Result struct {
	States, Edges, Depth int
	// Complete is false when MaxStates ended the search before Depth did.
	Complete bool
	// Violation is nil when all invariants held; Steps then lists how it was broken, in as
	// few steps as possible.
	Violation error
	Letter    string
	Steps     []string
}

func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d states, %d edges, depth %d", r.States, r.Edges, r.Depth)
	if !r.Complete {
		b.WriteString(" (ended by the limit on states)")
	}
	if r.Violation != nil {
		fmt.Fprintf(&b, "\n%v, after:", r.Violation)
		for i, s := range r.Steps {
			fmt.Fprintf(&b, "\n  %2d. %s", i+1, s)
		}
	}
	return b.String()
}

// Run visits all states, breadth first, on all cores.
func Run(cfg Config) (*Result, error) {
	// Each edge restores and writes a snapshot: nearly all of it is garbage at once.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	first, err := start(cfg)
	if err != nil {
		return nil, err
	}
	r := &Result{States: 1, Complete: true}
	known := map[key]bool{}
	layer := []*world{first}
	for r.Depth = 0; r.Depth < cfg.Depth && len(layer) > 0; r.Depth++ {
		found := expand(layer)
		layer = nil
		for _, f := range found {
			r.Edges += f.edges
			if f.broken != nil && r.Violation == nil {
				return r.broken(f.broken, f.brokenAt)
			}
			for i, w := range f.worlds {
				if !known[f.keys[i]] {
					known[f.keys[i]] = true
					layer = append(layer, w)
				}
			}
		}
		if r.States += len(layer); r.States > cfg.MaxStates {
			r.Complete = false
			return r, nil
		}
	}
	return r, nil
}

func (r *Result) broken(err error, w *world) (*Result, error) {
	var v *violation
	if !errors.As(err, &v) {
		return nil, fmt.Errorf("%w, after %q", err, w.steps())
	}
	r.Depth++
	r.Violation, r.Letter, r.Steps = err, v.letter, w.steps()
	return r, nil
}

// found is what follows from one part of a layer.
type found struct {
	worlds   []*world
	keys     []key
	edges    int
	broken   error
	brokenAt *world
}

// expand takes every possible step from every state of a layer.
func expand(layer []*world) []found {
	const part = 256
	parts := (len(layer) + part - 1) / part
	out := make([]found, parts)
	var workers sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := range next {
				out[i].expand(layer[i*part : min(len(layer), (i+1)*part)])
			}
		})
	}
	for i := range parts {
		next <- i
	}
	close(next)
	workers.Wait()
	return out
}

func (f *found) expand(layer []*world) {
	seen := map[key]bool{}
	for _, w := range layer {
		for _, s := range w.next() {
			x := w.clone()
			x.step = s.name
			f.edges++
			k, err := x.take(s)
			if err != nil {
				f.broken, f.brokenAt = err, x
				return
			}
			if !seen[k] {
				seen[k] = true
				f.worlds, f.keys = append(f.worlds, x), append(f.keys, k)
			}
		}
	}
}

// take takes one step and checks what the clients believe then.
func (w *world) take(s step) (k key, err error) {
	m, err := w.restore()
	if err != nil {
		return k, err
	}
	if err := s.do(w, m); err != nil {
		return k, err
	}
	if err := w.believers(); err != nil {
		return k, err
	}
	m.Read(func(b *lease.Book) { m.book = b })
	return w.key(m), nil
}
