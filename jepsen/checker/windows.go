package checker

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// The black-box half of C2. A window is a stretch of one pool's history; what is known of
// the pool at its beginning comes from answers alone. Whatever is not known (operations
// without an answer, leases that may have run out) may happen at any later moment or
// never, so that nothing is held against the service that could have been.

// maxInWindow bounds the doubtful things of one window; more make the search explode.
const maxInWindow = 24

// view is what answers say of a pool as time goes on.
type view struct {
	pool  *Pool
	ops   []timed // answered and unanswered operations, by call
	known map[uint64]bool
	// first is the answer that told of a lease first: that of its checkout, or of a heartbeat
	// if that came before.
	first map[uint64]*history.Op
	// dies is the earliest at which a lease may run out, by what answers promised of it. A
	// repeated answer promises less than a lease's whole term.
	dies map[uint64]int64
	// broken says whether a fault breaks the clocks in a stretch of time: then a promise
	// of time holds nobody.
	broken func(from, to int64) bool

	byReturn []int // ops by return, to be carried into the state
	next     int
	held     []taken
	ended    map[uint64]bool
	open     []timed // begun before the window, and not known to be over
	entered  int     // how many of ops went through open
}

// windowCount is how many windows of a pool were searched, and how many left out because
// too many processes were at work, or too much in them was unanswered.
type windowCount struct{ searched, crowded, vague int }

// windows searches one pool in windows.
func (l *linear) windows(p *Pool, until int64) (n windowCount) {
	v := l.r.view(p, until)
	for at := 0; at < len(v.ops); {
		size := min(windowOps, len(v.ops)-at)
		for size > smallWindow && v.processes(at, size) > windowProcesses {
			size = max(smallWindow, size/2)
		}
		if v.processes(at, size) > windowProcesses {
			n.crowded++
			at += size
			continue
		}
		result := Unknown
		for {
			from, ops := v.window(at, size)
			if len(ops)-size <= maxInWindow {
				result = l.search(p, from, ops, fmt.Sprintf("window-%d", v.ops[at].op))
			}
			if result != Unknown || size <= smallWindow {
				break
			}
			size = max(smallWindow, size/2)
		}
		switch result {
		case Invalid:
			l.j.guilty("pool %s: the answers from operation %d on (%d of them) cannot be put in order", p.Feature, v.ops[at].op, size)
			n.searched++
		case Valid:
			n.searched++
		default:
			n.vague++
		}
		l.j.judged++
		at += size
	}
	return n
}

// runsOut is the earliest at which something may run out that was asked for at from and
// promised for so long.
func (v *view) runsOut(from, promised int64) int64 {
	if v.broken(from, from+promised) {
		return from
	}
	return from + promised - rounding
}

func (v *view) processes(at, size int) int {
	seen := map[int]bool{}
	for _, o := range v.ops[at : at+size] {
		if !o.optional {
			seen[o.process] = true
		}
	}
	return len(seen)
}

// view collects the operations on a pool.
func (r *Run) view(p *Pool, until int64) *view {
	v := &view{pool: p, known: map[uint64]bool{}, first: map[uint64]*history.Op{}, dies: map[uint64]int64{}, broken: r.clockBroken, ended: map[uint64]bool{}}
	of := map[string][2]string{} // session to user and host
	for _, pair := range r.Pairs {
		if c, ok := pair.Invoke.Value.(*history.Checkout); ok {
			of[sessionOf(pair)] = [2]string{c.User, c.Host}
		}
		if pair.OK() {
			for _, x := range leasesIn(pair.Done) {
				v.known[x.ID] = true
				if f := v.first[x.ID]; f == nil || pair.Done.Time < f.Time {
					v.first[x.ID] = pair.Done
				}
				if x.Feature == p.Feature {
					v.dies[x.ID] = max(v.dies[x.ID], v.runsOut(pair.Invoke.Time, (x.RemainingMS+x.GraceMS)*1e6))
				}
			}
		}
	}
	for _, pair := range r.Pairs {
		if pair.Invoke.Time >= until || pair.Failed() {
			continue
		}
		op := pair.Invoke
		if pair.OK() {
			op = pair.Done
		}
		session := sessionOf(pair)
		t := timed{call: pair.Invoke.Time, began: pair.Invoke.Time, ret: forever, process: int(pair.Invoke.Process), op: op.Index, sdk: pair.Invoke.Transport == "sdk"}
		if pair.OK() {
			t.ret = pair.Done.Time
		}
		for _, s := range r.stepsOf(v, pair, op, "session "+session, of[session]) {
			s.known = v.known
			s.optional = s.optional || !pair.OK()
			t.step = s
			if s.optional && s.reason == anyLease {
				t.ret = forever // nobody knows what it took, if anything
			}
			v.ops = append(v.ops, t)
		}
	}
	v.settle()
	for i := range v.ops {
		v.byReturn = append(v.byReturn, i)
	}
	slices.SortStableFunc(v.byReturn, func(a, b int) int { return cmp.Compare(v.ops[a].ret, v.ops[b].ret) })
	return v
}

// sessionOf names the session of an operation, as far as anybody knows.
func sessionOf(pair history.Pair) string {
	switch {
	case pair.Done != nil && pair.Done.Session != "":
		return pair.Done.Session
	case pair.Invoke.Session != "":
		return pair.Invoke.Session
	}
	return "of " + pair.Invoke.Client
}

// stepsOf says what an operation did, or may have done, to the view's pool.
func (r *Run) stepsOf(v *view, pair history.Pair, op *history.Op, session string, who [2]string) []step {
	p := v.pool
	ofPool := func(feature string) bool { return feature == p.Feature }
	group := p.group(who[0], who[1], session)
	granted := func(y *history.Lease) step {
		return step{kind: stepGrant, session: session, group: group, lease: y.ID, token: y.Token, count: max(y.Count, len(y.Seats)), seats: y.Seats}
	}
	switch x := op.Value.(type) {
	case *history.Checkout:
		if !pair.OK() {
			for _, it := range x.Items {
				if ofPool(it.Feature) {
					return []step{{kind: stepGrant, session: session, group: group, count: it.Count}}
				}
			}
			return nil
		}
		if x.Result.Refused() {
			if r.soleDenied(x.Items, string(x.Result)) == p && !x.Replayed {
				return []step{{kind: stepDeny, session: session, group: group, count: x.Items[0].Count, reason: string(x.Result)}}
			}
			return nil
		}
		for i := range x.Leases {
			if ofPool(x.Leases[i].Feature) {
				return []step{granted(&x.Leases[i])}
			}
		}
	case *history.Renew:
		var ids []uint64
		var steps []step
		for i := range x.Leases {
			switch y := &x.Leases[i]; {
			case !ofPool(y.Feature):
			case v.first[y.ID] == pair.Done: // its checkout was not answered before
				steps = append(steps, granted(y))
			default:
				ids = append(ids, y.ID)
			}
		}
		if len(ids) > 0 && pair.OK() {
			steps = append(steps, step{kind: stepHold, session: session, leases: ids})
		}
		return steps
	case *history.Checkin:
		var ids []uint64
		for _, y := range x.Released {
			if ofPool(y.Feature) {
				ids = append(ids, y.ID)
			}
		}
		if !pair.OK() || x.Replayed || x.Result.Refused() {
			// A repeated answer tells of an effect that came before it was asked for. A
			// refusal may be the answer to a second try: "no such session" is what a session
			// hears that its first try has closed.
			return []step{{kind: stepRelease, session: session, gone: ids, reason: ownLease}}
		}
		if len(ids) > 0 {
			return []step{{kind: stepRelease, session: session, leases: ids}}
		}
	case *history.Kill:
		var ids []uint64
		owners := map[uint64]string{}
		for _, y := range x.Killed {
			if ofPool(y.Feature) {
				ids = append(ids, y.ID)
				owners[y.ID] = "session " + y.Session
			}
		}
		if !pair.OK() {
			return []step{{kind: stepRelease, reason: anyLease}}
		}
		var steps []step
		if len(ids) > 0 {
			steps = append(steps, step{kind: stepRelease, leases: ids, owners: owners})
		}
		return append(steps, earlierTry(x, ids)...)
	case *history.Status:
		if n, ok := usedBy(pair, p); ok {
			return []step{{kind: stepLook, used: n}}
		}
	}
	return nil
}

// earlierTry is what a kill may have taken before the try that was answered, which names
// only what it took itself.
func earlierTry(x *history.Kill, named []uint64) (steps []step) {
	if x.Result.Refused() {
		return nil
	}
	for _, id := range x.IDs {
		if !slices.Contains(named, id) {
			steps = append(steps, step{kind: stepRelease, leases: []uint64{id}, optional: true})
		}
	}
	if len(x.IDs) == 0 && len(x.Killed) == 0 {
		steps = append(steps, step{kind: stepRelease, reason: anyLease, optional: true})
	}
	return steps
}

// window gives the state before ops[at:at+size] and all that may have happened since.
func (v *view) window(at, size int) (poolState, []timed) {
	start, end := v.ops[at].call, int64(forever)
	if at+size < len(v.ops) {
		end = v.ops[at+size].call
	}
	v.carry(at, start)
	var list []timed
	add := func(o timed) {
		if o.kind == stepGrant && v.ended[o.lease] {
			return // told late: what took the lease away was answered before the window
		}
		o.call = max(o.call, start)
		if o.ret >= end { // what it met may lie beyond the window
			o.optional, o.ret = true, forever
		}
		if o.optional && (o.kind == stepHold || o.kind == stepLook || o.kind == stepDeny) {
			return
		}
		list = append(list, o)
	}
	here := v.ops[at : at+size]
	for _, o := range v.open {
		if o.kind == stepHold || o.kind == stepLook || o.kind == stepDeny {
			continue // it began before the window, and may tell of what was before it
		}
		if o.kind != stepRelease || len(o.leases) > 0 {
			// A release may have had its effect before the window, and its seats be others'.
			o.optional = o.optional || o.kind == stepRelease
			add(o)
		}
	}
	for _, o := range here {
		if o.kind != stepRelease || len(o.leases) > 0 {
			add(o)
		}
	}
	grants := slices.Clone(v.held)
	for _, o := range list {
		if o.kind == stepGrant {
			grants = append(grants, taken{lease: o.lease, session: o.session})
		}
	}
	for _, o := range slices.Concat(v.open, here) {
		if o.kind == stepRelease && len(o.leases) == 0 {
			mayRelease(o, grants, add)
		}
	}
	for _, o := range list { // so may one that nobody was told of
		dies := v.runsOut(o.began, v.pool.term())
		if o.sdk {
			dies = o.began
		}
		if o.kind == stepGrant && o.lease == 0 && dies < end {
			add(timed{step: step{kind: stepRelease, session: o.session, leases: []uint64{0}, optional: true}, call: dies, ret: forever, op: -1})
		}
	}
	for _, t := range grants { // a lease may run out
		if dies, ok := v.dies[t.lease]; ok && dies < end {
			add(timed{step: step{kind: stepRelease, leases: []uint64{t.lease}, optional: true}, call: dies, ret: forever, op: -1})
		}
	}
	return newState(slices.Clone(v.held)), list
}

// mayRelease turns an unanswered check-in or kill into one doubtful release for each
// lease that it may have meant.
func mayRelease(o timed, grants []taken, add func(timed)) {
	o.optional, o.ret = true, forever
	own := o.session
	for _, t := range grants {
		if o.reason == anyLease || t.session == own {
			o.leases, o.session = []uint64{t.lease}, t.session
			add(o)
		}
	}
}

// Whose leases an unanswered release may have meant.
const (
	anyLease = "any"
	ownLease = "own"
)

// carry brings the state forward to the window that begins with ops[at] at start.
func (v *view) carry(at int, start int64) {
	for ; v.next < len(v.byReturn) && v.ops[v.byReturn[v.next]].ret < start; v.next++ {
		o := v.ops[v.byReturn[v.next]]
		switch o.kind {
		case stepGrant:
			v.carryGrant(o)
		case stepRelease:
			for _, id := range slices.Concat(o.leases, o.gone) {
				v.ended[id] = true
			}
			v.held = slices.DeleteFunc(v.held, func(x taken) bool { return v.ended[x.lease] })
		}
	}
	for ; v.entered < at; v.entered++ {
		v.open = append(v.open, v.ops[v.entered])
	}
	v.open = slices.DeleteFunc(v.open, func(o timed) bool {
		return o.ret < start || o.optional && (o.settled < start && !v.mayStillEnd(o) || o.call < start-v.pool.term()-doubtNS)
	})
}

// mayStillEnd says whether an unanswered check-in may have ended a lease that still counts
// as held: a later answer to its session that does not name the lease settles nothing.
func (v *view) mayStillEnd(o timed) bool {
	return o.kind == stepRelease && o.reason == ownLease && slices.ContainsFunc(v.held, func(x taken) bool { return x.session == o.session })
}

// doubtNS is how long after a lease's term an unanswered operation is still thought to
// be on its way.
const doubtNS = int64(120e9)

// carryGrant seats a lease. Whoever sat there with a lower token is gone: the lease ran
// out, or was given back unseen.
func (v *view) carryGrant(o timed) {
	if v.ended[o.lease] || slices.ContainsFunc(v.held, func(x taken) bool { return x.lease == o.lease }) {
		return
	}
	rivals := func(x taken) bool {
		return x.group != o.group && slices.ContainsFunc(x.seats, func(n int) bool { return slices.Contains(o.seats, n) })
	}
	if slices.ContainsFunc(v.held, func(x taken) bool { return rivals(x) && x.token > o.token }) {
		v.ended[o.lease] = true
		return
	}
	v.held = slices.DeleteFunc(v.held, rivals)
	v.held = append(v.held, taken{o.lease, o.session, o.group, o.count, o.seats, o.token})
}

// settle notes for each unanswered operation when a later answer to its session shows
// what became of it: a session does one thing after the other.
func (v *view) settle() {
	first := map[string]int64{} // session to the earliest later answer
	for i := len(v.ops) - 1; i >= 0; i-- {
		o := &v.ops[i]
		o.settled = forever
		if o.session == "" {
			continue
		}
		if t, ok := first[o.session]; ok {
			o.settled = t
		}
		if t, ok := first[o.session]; !o.optional && (!ok || o.ret < t) {
			first[o.session] = o.ret
		}
	}
}
