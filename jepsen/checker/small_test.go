package checker

import (
	"cmp"
	"slices"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// Cases that a whole run shows to two judgements at once, each alone.
func TestSmallRuns(t *testing.T) {
	answered := func(at, done int64, p history.Process, f history.F, index uint64, v any) []history.Op {
		op := history.Op{Time: at, Process: p, Type: history.Invoke, F: f, Value: v}
		end := op
		end.Time, end.Type, end.RaftIndex = done, history.OK, index
		return []history.Op{op, end}
	}
	renew := &history.Renew{Result: history.Done}
	grant := func(index, id, token uint64) history.Entry {
		return history.Entry{Index: index, Term: 1, Commands: []history.Command{{Kind: history.KindCheckout,
			Result: history.CommandResult{Leases: []history.AuditLease{{ID: id, Token: token, Feature: "cad", Count: 1, Seats: []int{1}}}}}}}
	}
	phase := []history.Op{{Process: history.Nemesis, Type: history.Info, F: history.FPhase, Value: &history.Phase{Name: history.PhaseHealed}}}
	used := func(n int) *history.Status {
		return &history.Status{Result: history.Done, Pools: []history.PoolUse{{Feature: "cad", Total: 3, InUse: n}}}
	}
	asked := func(at int64, index, id uint64) []history.Op {
		x := answered(at, at+1, 0, history.FCheckout, index, &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}},
			Result: history.Granted, Leases: []history.Lease{{ID: id, Token: index, Feature: "cad", Count: 1, Seats: []int{1}}}})
		for i := range x {
			x[i].Client, x[i].Request = "c", "c/1"
		}
		return x
	}
	lasting := func(x []history.Op) []history.Op { // so that it cannot have run out
		x[0].Value.(*history.Checkout).Leases[0].RemainingMS = 60_000
		return x
	}
	closed := func(at int64, result history.Result) []history.Op {
		x := answered(at, at+1, 0, history.FCheckin, 0, &history.Checkin{Close: true, Result: result})
		x[0].Client, x[1].Client = "c", "c"
		return x
	}
	ends := func(index, id uint64) history.Entry {
		gone := []history.AuditEnded{{ID: id, Feature: "cad", Reason: "normal"}}
		return history.Entry{Index: index, Term: 1, HasEnded: true, Ended: gone,
			Commands: []history.Command{{Kind: history.KindCheckin, Result: history.CommandResult{Released: gone}}}}
	}
	kill := func(index, id uint64) history.Entry {
		gone := []history.AuditEnded{{ID: id, Feature: "cad", Reason: "removed_by_admin"}}
		return history.Entry{Index: index, Term: 1, HasEnded: true, Ended: gone,
			Commands: []history.Command{{Kind: history.KindKill, Result: history.CommandResult{Released: gone}}}}
	}
	// taken is a checkout by a session that a client keeps for a request of its own.
	taken := func(index, id uint64, session string) history.Entry {
		e := grant(index, id, index)
		e.Commands[0].Session, e.Commands[0].Incarnation, e.Commands[0].Seq, e.Commands[0].InstanceID = session, 1, 1, "c"
		e.Commands[0].Result.Leases[0].Seats = []int{int(id)}
		return e
	}
	// unsure is a request whose answer never came, asked in that session.
	unsure := func(request, session string) []history.Op {
		return []history.Op{{Type: history.Invoke, F: history.FCheckout, Client: "c", Request: request, Session: session, Incarnation: 1, Seq: 1,
			Value: &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}}}}
	}
	twice := [][]history.Op{unsure("c/1", "a"), unsure("c/1", "b"), unsure("c/2", "d")}
	for i := range twice {
		twice[i][0].Process = history.Process(i)
	}
	refused := func(reason history.Result) []history.Op {
		x := answered(0, 9, 0, history.FCheckout, 0, &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}, Result: reason})
		x[0].Client, x[0].Request, x[1].Client, x[1].Request = "c", "c/1", "c", "c/1"
		return x
	}
	believes := func(at int64, client string, id uint64) []history.Op {
		return []history.Op{{Time: at, Process: history.Observer, Type: history.Info, F: history.FBelieve, Client: client, Session: client,
			Value: &history.Believe{Lease: history.Lease{ID: id, Token: id, Feature: "cad", Version: "1.0", Count: 1, Seats: []int{1}, User: client, Host: client}, At: at, Until: at + 100}}}
	}
	taking := func(k history.Kill) []history.Op { return answered(10, 20, 5, history.FKill, 0, &k) }
	// reclaimed is an entry in which a checkout took the seat of a lease that ran out, and
	// then its session sent a heartbeat.
	reclaimed := func(at int64, shown ...history.AuditLease) history.Entry {
		return history.Entry{Index: 9, Term: 1, NowNS: at, HasEnded: true, Ended: []history.AuditEnded{{ID: 1, Feature: "cad", Reason: missed}},
			Commands: []history.Command{{Kind: history.KindCheckout, Session: "z", Result: history.CommandResult{Reason: "no_seats"}},
				{Kind: history.KindRenew, Session: "a", Incarnation: 1, Result: history.CommandResult{Leases: shown}}}}
	}
	over := miniTest().Pools[0].LifespanNS + miniTest().Pools[0].GraceNS + sec
	// More looks than are searched at once: the state is carried from one search to the next.
	looks := func(n int) (list []history.Op) {
		for i := range int64(2 * chunk) {
			list = append(list, answered(20+10*i, 25+10*i, 1, history.FStatus, 5, used(n))...)
		}
		return list
	}
	linearInLog := func(r *Run) Verdict { return CheckLinear(r, "") }
	for _, c := range []struct {
		name   string
		ops    [][]history.Op
		log    []history.Entry
		check  Checker
		guilty bool
	}{
		{"the log follows real time", [][]history.Op{answered(0, 5, 0, history.FRenew, 9, renew), answered(10, 15, 1, history.FRenew, 10, renew)}, nil, CheckWitness, false},
		{"the log contradicts real time", [][]history.Op{answered(0, 5, 0, history.FRenew, 10, renew), answered(10, 15, 1, history.FRenew, 9, renew)}, nil, CheckWitness, true},
		{"tokens in the log grow", nil, []history.Entry{grant(3, 1, 3), grant(4, 2, 4)}, CheckFencing, false},
		{"a token in the log comes twice", nil, []history.Entry{grant(3, 1, 3), grant(4, 2, 3)}, CheckFencing, true},
		{"a request is asked again after its lease was killed", [][]history.Op{asked(0, 3, 1), asked(10, 5, 2)},
			[]history.Entry{grant(3, 1, 3), kill(4, 1), grant(5, 2, 5)}, CheckOnce, false},
		{"a request is asked again and its lease is killed later", [][]history.Op{asked(0, 3, 1), asked(10, 5, 2)},
			[]history.Entry{grant(3, 1, 3), grant(5, 2, 5), kill(6, 1)}, CheckOnce, true},
		{"a request without an answer is asked again in the same session", twice, []history.Entry{taken(3, 1, "a")}, CheckOnce, false},
		{"a request without an answer is asked again in another session", twice, []history.Entry{taken(3, 1, "a"), taken(4, 2, "b")}, CheckOnce, true},
		{"a seat is another's while its holder believes in it", [][]history.Op{believes(0, "a", 1), believes(30, "b", 2)}, nil, CheckBelief, true},
		{"a try of a kill whose answer was lost took the lease", [][]history.Op{believes(0, "a", 1), taking(history.Kill{IDs: []uint64{1}, Result: history.Done}), believes(30, "b", 2)}, nil, CheckBelief, false},
		{"such a try took it by its user", [][]history.Op{believes(0, "a", 1), taking(history.Kill{User: "a", Result: history.Done}), believes(30, "b", 2)}, nil, CheckBelief, false},
		{"a kill is of another lease", [][]history.Op{believes(0, "a", 1), taking(history.Kill{IDs: []uint64{7}, Result: history.Done}), believes(30, "b", 2)}, nil, CheckBelief, true},
		{"a kill is refused", [][]history.Op{believes(0, "a", 1), taking(history.Kill{IDs: []uint64{1}, Result: "permission_denied"}), believes(30, "b", 2)}, nil, CheckBelief, true},
		{"a request is granted, not heard of, and asked again when its lease has ended", [][]history.Op{refused("fenced")}, []history.Entry{taken(3, 1, "a")}, CheckOnce, false},
		{"a request is refused and granted", [][]history.Op{refused("no_seats")}, []history.Entry{taken(3, 1, "a")}, CheckOnce, true},
		{"a heartbeat comes after the reclaim in one entry", nil, []history.Entry{taken(3, 1, "a"), reclaimed(over)}, CheckExpiry, false},
		{"a reclaim comes after the heartbeat in one entry", nil, []history.Entry{taken(3, 1, "a"), reclaimed(over, history.AuditLease{ID: 1})}, CheckExpiry, true},
		{"leases that ended together end before what is seen after them", [][]history.Op{asked(0, 3, 1), asked(10, 4, 2), looks(0)},
			[]history.Entry{grant(3, 1, 3), grant(4, 2, 4), {Index: 5, Term: 1, HasEnded: true, Commands: []history.Command{{Kind: history.KindTick}},
				Ended: []history.AuditEnded{{ID: 1, Feature: "cad"}, {ID: 2, Feature: "cad"}}}}, linearInLog, false},
		{"a restore takes what was granted in its own entry", [][]history.Op{asked(0, 3, 1), asked(10, 5, 2), looks(0)},
			[]history.Entry{grant(3, 1, 3), {Index: 5, Term: 1, HasEnded: true, Commands: append(grant(5, 2, 5).Commands, history.Command{Kind: history.KindRestore}),
				Ended: []history.AuditEnded{{ID: 1, Feature: "cad", Reason: "removed_by_admin"}, {ID: 2, Feature: "cad", Reason: "removed_by_admin"}}}}, linearInLog, false},
		{"a session is closed by a try whose answer was lost", [][]history.Op{lasting(asked(0, 3, 1)), closed(10, "session_unknown"), answered(20, 25, 1, history.FStatus, 5, used(0))},
			[]history.Entry{grant(3, 1, 3), ends(4, 1)}, linearInLog, false},
		{"a session was never closed and its seat is free", [][]history.Op{lasting(asked(0, 3, 1)), answered(20, 25, 1, history.FStatus, 5, used(0))},
			[]history.Entry{grant(3, 1, 3), ends(4, 1)}, linearInLog, true},
		{"a lease that did not end is seen as free", [][]history.Op{asked(0, 3, 1), asked(10, 4, 2), looks(0)},
			[]history.Entry{grant(3, 1, 3), grant(4, 2, 4), {Index: 5, Term: 1, HasEnded: true, Commands: []history.Command{{Kind: history.KindTick}},
				Ended: []history.AuditEnded{{ID: 1, Feature: "cad"}}}}, linearInLog, true},
		{"nothing is in use and nobody holds anything", [][]history.Op{phase, answered(100*sec, 101*sec, 0, history.FStatus, 5, used(0))}, nil, CheckLeaks, false},
		{"a seat is in use that nobody holds", [][]history.Op{phase, answered(100*sec, 101*sec, 0, history.FStatus, 5, used(1))}, nil, CheckLeaks, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ops []history.Op
			for _, list := range c.ops {
				ops = append(ops, list...)
			}
			for i := range ops {
				ops[i].Index = int64(i)
			}
			r, err := NewRun(miniTest(), ops, []*history.Audit{{Node: "n1", Entries: c.log}})
			if err != nil {
				t.Fatal(err)
			}
			if v := c.check(r); (v.Result == Invalid) != c.guilty {
				t.Errorf("%s: %s %v", v.Name, v.Result, v.Evidence)
			}
		})
	}
}

// answeredOp is an operation and its answer, which raft's log has where time is.
func answeredOp(at, done int64, p history.Process, f history.F, session string, v any) []history.Op {
	x := history.Op{Time: at, Process: p, Type: history.Invoke, F: f, Session: session, Value: v}
	y := x
	y.Time, y.Type, y.RaftIndex = done, history.OK, uint64(done)
	return []history.Op{x, y}
}

// seatOne is the grant of a lease that lasts, on the first seat.
func seatOne(id uint64) *history.Checkout {
	return &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}, Result: history.Granted,
		Leases: []history.Lease{{ID: id, Token: id, Feature: "cad", Count: 1, Seats: []int{1}, RemainingMS: 60_000}}}
}

// A check-in that is answered late may have freed its seat before the window that its
// answer is in.
func TestAReleaseMayComeBeforeItsWindow(t *testing.T) {
	back := answeredOp(10, 100, 0, history.FCheckin, "a", &history.Checkin{Result: history.Done, Released: []history.Ended{{ID: 1, Feature: "cad"}}})
	for used, want := range map[int]Result{1: Valid, 2: Invalid} {
		look := &history.Status{Result: history.Done, Pools: []history.PoolUse{{Feature: "cad", Total: 3, InUse: used}}}
		ops := slices.Concat(answeredOp(0, 3, 0, history.FCheckout, "a", seatOne(1)), back[:1], answeredOp(20, 30, 1, history.FCheckout, "b", seatOne(2)),
			answeredOp(90, 95, 2, history.FStatus, "", look), back[1:])
		for i := range ops {
			ops[i].Index = int64(i)
		}
		r, err := NewRun(miniTest(), ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := r.view(&r.Pools[0], forever)
		from, list := v.window(3, 1)
		l := &linear{r: r, j: newJury("C2", "")}
		if got := l.search(&r.Pools[0], from, list, ""); got != want {
			t.Errorf("%d in use: %s, want %s", used, got, want)
		}
	}
}

// A check-in whose first answer was lost is over when it is answered again, and its seat
// may be others' from then on.
func TestAReleaseToldAgainIsOverAfterwards(t *testing.T) {
	lost := answeredOp(10, 20, 0, history.FCheckin, "a", &history.Checkin{})
	lost[1].Type, lost[1].RaftIndex = history.Info, 0
	for _, replayed := range []bool{true, false} {
		ops := slices.Concat(answeredOp(0, 3, 0, history.FCheckout, "a", seatOne(1)), lost)
		want := Invalid
		if replayed {
			want = Valid
			ops = append(ops, answeredOp(25, 30, 3, history.FCheckin, "a", &history.Checkin{Result: history.Done, Replayed: true, Released: []history.Ended{{ID: 1, Feature: "cad"}}})...)
		} else {
			ops = ops[:2] // it was never given back
		}
		at := len(ops) / 2
		ops = append(ops, answeredOp(40, 50, 1, history.FCheckout, "b", seatOne(2))...)
		for i := range ops {
			ops[i].Index = int64(i)
		}
		r, err := NewRun(miniTest(), ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := r.view(&r.Pools[0], forever)
		from, list := v.window(at, 1)
		l := &linear{r: r, j: newJury("C2", "")}
		if got := l.search(&r.Pools[0], from, list, ""); got != want {
			t.Errorf("told again %t: %s, want %s", replayed, got, want)
		}
	}
}

// What a kill took is gone when it is answered: also what an earlier try of it took, which
// the answer does not name, and what its holder hears of only later.
func TestWhatAKillTookIsGone(t *testing.T) {
	next := answeredOp(40, 50, 1, history.FCheckout, "b", seatOne(2))
	for _, c := range []struct {
		name string
		told int64 // when the first holder hears of its lease
		kill history.Kill
		want Result
	}{
		{"it is named", 3, history.Kill{IDs: []uint64{1}, Result: history.Done, Killed: []history.Lease{{ID: 1, Feature: "cad"}}}, Valid},
		{"an earlier try took it", 3, history.Kill{IDs: []uint64{1}, Result: history.Done}, Valid},
		{"an earlier try took it by its feature", 3, history.Kill{Feature: "cad", Result: history.Done}, Valid},
		{"the kill was refused", 3, history.Kill{IDs: []uint64{1}, Result: "permission_denied"}, Invalid},
		{"the kill was of another", 3, history.Kill{IDs: []uint64{7}, Result: history.Done}, Invalid},
		{"its holder heard of it afterwards", 60, history.Kill{IDs: []uint64{1}, Result: history.Done, Killed: []history.Lease{{ID: 1, Feature: "cad"}}}, Valid},
	} {
		first, kill := answeredOp(0, c.told, 0, history.FCheckout, "a", seatOne(1)), answeredOp(10, 20, 5, history.FKill, "", &c.kill)
		ops := slices.Concat(first, kill, next)
		slices.SortStableFunc(ops, func(x, y history.Op) int { return cmp.Compare(x.Time, y.Time) })
		for i := range ops {
			ops[i].Index = int64(i)
		}
		r, err := NewRun(miniTest(), ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, whole := range []bool{false, true} { // the kill before the window, and in it
			v := r.view(&r.Pools[0], forever)
			at := 1
			if !whole {
				at = len(v.ops) - 1
			}
			from, list := v.window(at, len(v.ops)-at)
			l := &linear{r: r, j: newJury("C2", "")}
			if got := l.search(&r.Pools[0], from, list, ""); got != c.want {
				t.Errorf("%s (in the window: %t): %s, want %s", c.name, whole, got, c.want)
			}
		}
	}
}

// A checkout whose answer was lost may have got a seat. The SDK finds such a seat with its
// next heartbeat and gives it back, which is no operation of the history; others do not.
func TestTheSDKGivesBackWhatNobodyWasToldOf(t *testing.T) {
	for transport, want := range map[string]Result{"sdk": Valid, "grpc": Invalid} {
		op := func(at, done int64, p history.Process, f history.F, typ history.Type, v any) []history.Op {
			x := history.Op{Time: at, Process: p, Type: history.Invoke, F: f, Session: "a", Transport: transport, Value: v}
			if f == history.FStatus {
				x.Session = ""
			}
			y := x
			y.Time, y.Type = done, typ
			return []history.Op{x, y}
		}
		look := func(at int64, used int) []history.Op {
			return op(at, at+2, 2, history.FStatus, history.OK, &history.Status{Result: history.Done, Pools: []history.PoolUse{{Feature: "cad", Total: 3, InUse: used}}})
		}
		ask := &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}}
		ops := slices.Concat(op(0, 5, 0, history.FCheckout, history.Info, ask), look(10, 1), look(20, 0))
		for i := range ops {
			ops[i].Index = int64(i)
		}
		r, err := NewRun(miniTest(), ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := r.view(&r.Pools[0], forever)
		from, list := v.window(0, 3)
		l := &linear{r: r, j: newJury("C2", "")}
		if got := l.search(&r.Pools[0], from, list, ""); got != want {
			t.Errorf("%s: %s, want %s", transport, got, want)
		}
	}
}

// A checkout whose answer was lost is asked again. A heartbeat that comes between tells of
// its lease first, and the seat is in use from then on.
func TestAHeartbeatMayTellOfALeaseFirst(t *testing.T) {
	op := func(at, done int64, p history.Process, f history.F, session string, v any) []history.Op {
		x := history.Op{Time: at, Process: p, Type: history.Invoke, F: f, Session: session, Value: v}
		y := x
		y.Time, y.Type, y.RaftIndex = done, history.OK, uint64(done)
		return []history.Op{x, y}
	}
	lease := []history.Lease{{ID: 1, Token: 1, Feature: "cad", Count: 1, Seats: []int{1}, RemainingMS: 60_000}}
	ask := history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}}
	lost := op(0, 5, 0, history.FCheckout, "a", &ask)
	lost[1].Type, lost[1].RaftIndex = history.Info, 0
	again := ask
	again.Result, again.Replayed, again.Leases = history.Granted, true, lease
	for used, want := range map[int]Result{1: Valid, 0: Invalid} {
		look := &history.Status{Result: history.Done, Pools: []history.PoolUse{{Feature: "cad", Total: 3, InUse: used}}}
		ops := slices.Concat(lost, op(10, 12, 1, history.FRenew, "a", &history.Renew{Result: history.Done, Leases: lease}),
			op(14, 16, 2, history.FStatus, "", look), op(20, 22, 1, history.FCheckout, "a", &again), op(24, 26, 2, history.FStatus, "", look))
		for i := range ops {
			ops[i].Index = int64(i)
		}
		r, err := NewRun(miniTest(), ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		for at := range 3 { // the window may begin with the checkout, the heartbeat or the look
			v := r.view(&r.Pools[0], forever)
			from, list := v.window(at, len(v.ops)-at)
			l := &linear{r: r, j: newJury("C2", "")}
			if got := l.search(&r.Pools[0], from, list, ""); got != want {
				t.Errorf("%d in use, from step %d: %s, want %s", used, at, got, want)
			}
		}
	}
}

// An operator may end a lease whose holder was never told of it.
func TestAKillMayEndWhatNobodyWasToldOf(t *testing.T) {
	for owner, want := range map[string]Result{"a": Valid, "b": Invalid} {
		op := func(at int64, p history.Process, f history.F, typ history.Type, v any) []history.Op {
			x := history.Op{Time: at, Process: p, Type: history.Invoke, F: f, Value: v}
			if f == history.FCheckout {
				x.Session = "a"
			}
			y := x
			y.Time, y.Type = at+2, typ
			return []history.Op{x, y}
		}
		look := func(at int64, used int) []history.Op {
			return op(at, 2, history.FStatus, history.OK, &history.Status{Result: history.Done, Pools: []history.PoolUse{{Feature: "cad", Total: 3, InUse: used}}})
		}
		ops := slices.Concat(op(0, 0, history.FCheckout, history.Info, &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}}), look(10, 1),
			op(20, 3, history.FKill, history.OK, &history.Kill{Result: history.Done, Killed: []history.Lease{{ID: 1, Token: 1, Feature: "cad", Session: owner}}}), look(30, 0))
		for i := range ops {
			ops[i].Index = int64(i)
		}
		r, err := NewRun(miniTest(), ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		v := r.view(&r.Pools[0], forever)
		from, list := v.window(0, len(v.ops))
		l := &linear{r: r, j: newJury("C2", "")}
		if got := l.search(&r.Pools[0], from, list, ""); got != want {
			t.Errorf("of session %s: %s, want %s", owner, got, want)
		}
	}
}
