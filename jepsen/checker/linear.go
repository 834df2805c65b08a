package checker

import (
	"cmp"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// Bounds of the search for a linearization.
const (
	// chunk is how many operations of the patched history are searched at once. The log
	// gives the state at each cut, and C1 that the cuts agree with real time.
	chunk = 400
	// windowOps and windowProcesses bound what is searched without the log: beyond them
	// the search explodes.
	windowOps, windowProcesses = 300, 10
	// smallWindow is where halving a window that is too hard ends.
	smallWindow = 16
	// searchSteps bounds one search.
	searchSteps = 60_000
	// mostPages is how many visualisations are written.
	mostPages = 10
)

// forever is the return of an operation that was never answered.
const forever = math.MaxInt64 / 2

// CheckLinear is C2: the answers about each pool are those of one pool used by one client
// at a time. It is searched for twice with porcupine: patched, that is with what the log
// says of unanswered operations and of leases that ran out, over the whole history; and
// black-box, from answers alone, in windows. dir is where pages about failures go.
func CheckLinear(r *Run, dir string) Verdict {
	l := &linear{r: r, j: newJury("C2", "each pool is linearizable"), dir: dir}
	until := r.licencesStill()
	patched, windows, crowded, vague := 0, 0, 0, 0
	steps := l.patch()
	for i := range r.Pools {
		p := &r.Pools[i]
		if r.pool(p.Feature, "") != p {
			l.j.note("pool %s has several versions: left to C1", p.Feature)
			l.j.v.Cases--
			continue
		}
		patched += l.whole(p, steps[p.Feature], until)
		w := l.windows(p, min(until, l.r.beforeRestores()))
		windows, crowded, vague = windows+w.searched, crowded+w.crowded, vague+w.vague
		if w.searched <= w.vague {
			l.j.missing("pool %s: without the log %d windows could be searched, %d had more than %d processes and in %d too much was unanswered",
				p.Feature, w.searched, w.crowded, windowProcesses, w.vague)
		}
		if len(steps[p.Feature]) == 0 {
			l.j.missing("pool %s: the log says nothing of it", p.Feature)
		}
	}
	return l.j.done("%d operations with the log; %d windows without it (left out: %d with too many processes, %d with too much unanswered)", patched, windows, crowded, vague)
}

type linear struct {
	r     *Run
	j     *jury
	dir   string
	pages int
}

// timed is a step with the interval in which it took effect.
type timed struct {
	step
	call, ret int64
	process   int
	op        int64 // line of the history, -1 for entries of the log
	began     int64 // when it was asked; call may be later, in a window
	settled   int64 // when a later answer shows what became of it (windows)
	sdk       bool  // asked by the SDK, which gives back by itself what nobody was told of
}

// licencesStill is when a licence was first changed while clients were at work: pools
// are not of constant size from then on, and are left to C1.
func (r *Run) licencesStill() int64 {
	used := false
	for _, p := range r.Pairs {
		switch p.Invoke.F {
		case history.FCheckout:
			used = true
		case history.FLicence:
			if used {
				return p.Invoke.Time
			}
		}
	}
	return math.MaxInt64
}

// search looks for a linearization. A search that is given up is Unknown.
func (l *linear) search(p *Pool, from poolState, ops []timed, name string) Result {
	var list []porcupine.Operation
	for _, o := range ops {
		list = append(list, porcupine.Operation{ClientId: max(0, o.process), Input: o.step, Output: o.step, Call: o.call, Return: o.ret})
	}
	m, over := p.porcupineModel(from, searchSteps)
	switch ok := porcupine.CheckOperations(m, list); {
	case ok:
		return Valid
	case over():
		return Unknown
	}
	if l.dir != "" && l.pages < mostPages {
		l.pages++
		m, _ := p.porcupineModel(from, searchSteps)
		_, info := porcupine.CheckOperationsVerbose(m, list, 0)
		file := fmt.Sprintf("porcupine-%s-%s.html", p.Feature, name)
		if err := porcupine.VisualizePath(m, info, filepath.Join(l.dir, file)); err == nil {
			l.j.v.Files = append(l.j.v.Files, file)
		}
	}
	return Invalid
}

// whole searches the patched history chunk by chunk, in the order of the log.
func (l *linear) whole(p *Pool, ops []timed, until int64) int {
	state := newState(nil)
	n := 0
	for at := 0; at < len(ops); at += chunk {
		part := ops[at:min(at+chunk, len(ops))]
		if slices.ContainsFunc(part, func(o timed) bool { return o.call > until }) {
			break
		}
		next, inOrder := state, true
		for _, o := range part {
			ok, s := p.apply(next, o.step)
			if inOrder = inOrder && ok; !ok {
				s = p.force(next, o.step)
			}
			next = s
		}
		l.j.judged++
		n += len(part)
		verdict := l.search(p, state, part, fmt.Sprintf("log-%d", at))
		switch {
		case verdict == Invalid, verdict == Unknown && !inOrder:
			l.j.guilty("pool %s: operations %d to %d of the patched history cannot be put in order", p.Feature, at, at+len(part)-1)
		case verdict == Unknown && !inTime(part):
			l.j.missing("pool %s: the search of operations %d to %d was given up", p.Feature, at, at+len(part)-1)
		}
		state = next
	}
	return n
}

// inTime says whether the order of the steps contradicts no real time: then, if it is
// legal too, it is itself what the search looks for.
func inTime(ops []timed) bool {
	var latest int64
	for _, o := range ops {
		if latest = max(latest, o.call); o.ret < latest {
			return false
		}
	}
	return true
}

// patch makes the steps of each pool out of the log, with the intervals of the answers
// where there were some, and of what is known of the log's times where not.
func (l *linear) patch() map[string][]timed {
	r := l.r
	out := map[string][]timed{}
	if !r.log.Whole {
		l.j.missing("the history cannot be patched: %s", r.log.Why)
		return out
	}
	where := map[uint64]string{} // lease to feature
	next := 0
	for _, e := range r.log.Entries {
		first := next
		for ; next < len(r.acks) && r.acks[next].index <= e.Index; next++ {
			if a := r.acks[next]; a.read && a.index < e.Index {
				l.look(out, a)
			}
		}
		here := r.acks[first:next]
		used := make([]bool, len(here))
		// How many steps a lease's feature had before this entry, or before the restore in it
		// that took the lease.
		before := map[uint64]int{}
		for _, x := range r.log.ended[e.Index] {
			before[x.ID] = len(out[where[x.ID]])
		}
		for i := range e.Commands {
			c := &e.Commands[i]
			if c.Kind == history.KindRestore {
				for _, x := range r.log.ended[e.Index] {
					if x.Reason != missed {
						before[x.ID] = len(out[where[x.ID]])
					}
				}
			}
			t := timed{op: -1}
			t.call, t.ret = r.span(e.Index)
			for n, a := range here {
				if !used[n] && !a.read && a.index == e.Index && meant(a.pair, c) && differs(a.pair.Done, c) == "" {
					used[n] = true
					t.call, t.ret, t.op, t.process = a.pair.Invoke.Time, a.pair.Done.Time, a.pair.Done.Index, int(a.pair.Invoke.Process)
					break
				}
			}
			r.logged(out, where, e, c, t)
		}
		r.reclaimed(out, where, e, before)
		for _, a := range here {
			if a.read && a.index == e.Index {
				l.look(out, a)
			}
		}
	}
	for ; next < len(r.acks); next++ {
		if r.acks[next].read {
			l.look(out, r.acks[next])
		}
	}
	return out
}

// span is when an entry took effect, as far as answers tell. Where they contradict each
// other C1 says so, and the span is wide.
func (r *Run) span(index uint64) (call, ret int64) {
	call, ret = r.appliedAfter(index), min(r.appliedBy(index), forever)
	return min(call, ret), max(call, ret)
}

// look adds a read of a pool's use.
func (l *linear) look(out map[string][]timed, a ack) {
	v, ok := a.pair.Done.Value.(*history.Status)
	if !ok || v.Stale || v.Result != history.Done {
		return
	}
	for _, p := range v.Pools {
		out[p.Feature] = append(out[p.Feature], timed{step: step{kind: stepLook, used: p.InUse},
			call: a.pair.Invoke.Time, ret: a.pair.Done.Time, process: int(a.pair.Invoke.Process), op: a.pair.Done.Index})
	}
}

// logged adds the steps that one command of the log is.
func (r *Run) logged(out map[string][]timed, where map[uint64]string, e *history.Entry, c *history.Command, t timed) {
	if e.Stale {
		return
	}
	add := func(feature string, s step) {
		t.step = s
		out[feature] = append(out[feature], t)
	}
	session := "session " + c.Session
	switch c.Kind {
	case history.KindCheckout:
		if reason := c.Result.Reason; reason != "" {
			if p := r.soleDenied(c.Items, reason); p != nil && !c.Result.Replayed {
				add(p.Feature, step{kind: stepDeny, session: session, group: p.group(c.User, c.Host, c.Session), count: c.Items[0].Count, reason: reason})
			}
			return
		}
		for _, x := range c.Result.Leases {
			if p := r.pool(x.Feature, x.Version); p != nil {
				where[x.ID] = x.Feature
				add(x.Feature, step{kind: stepGrant, session: session, group: p.group(c.User, c.Host, c.Session), lease: x.ID, count: x.Count, seats: x.Seats})
			}
		}
	case history.KindRenew:
		byFeature(c.Result.Leases, func(x history.AuditLease) (string, uint64) { return x.Feature, x.ID }, func(feature string, ids []uint64) {
			add(feature, step{kind: stepHold, session: session, leases: ids})
		})
	case history.KindCheckin, history.KindKill, history.KindExpire:
		if c.Result.Replayed {
			return
		}
		byFeature(c.Result.Released, func(x history.AuditEnded) (string, uint64) { return where[x.ID], x.ID }, func(feature string, ids []uint64) {
			add(feature, step{kind: stepRelease, session: session, leases: ids})
			for _, id := range ids {
				delete(where, id)
			}
		})
	}
}

// reclaimed adds the leases that ended in the entry without a command that says so. They
// made room for a checkout, or a restore took them, so they go before what the entry did
// to their pool.
func (r *Run) reclaimed(out map[string][]timed, where map[uint64]string, e *history.Entry, before map[uint64]int) {
	ended := slices.Clone(r.log.ended[e.Index])
	// The last place first: then none moves another.
	slices.SortStableFunc(ended, func(a, b history.AuditEnded) int { return cmp.Compare(before[b.ID], before[a.ID]) })
	for _, x := range ended {
		id := x.ID
		feature, ok := where[id]
		if !ok {
			continue
		}
		delete(where, id)
		call, ret := r.span(e.Index)
		out[feature] = slices.Insert(out[feature], before[id], timed{step: step{kind: stepRelease, leases: []uint64{id}}, call: call, ret: ret, op: -1})
	}
}

// soleDenied is the pool that a denial is about; nil if it can be about several things.
func (r *Run) soleDenied(items []history.Item, reason string) *Pool {
	if len(items) != 1 || reason != "no_seats" && reason != "sessions_exceeded" {
		return nil
	}
	return r.pool(items[0].Feature, "")
}

// byFeature groups ids by feature, in the order in which the features first appear.
func byFeature[T any](list []T, key func(T) (feature string, id uint64), take func(feature string, ids []uint64)) {
	var order []string
	ids := map[string][]uint64{}
	for _, x := range list {
		f, id := key(x)
		if ids[f] == nil {
			order = append(order, f)
		}
		ids[f] = append(ids[f], id)
	}
	for _, f := range order {
		take(f, ids[f])
	}
}
