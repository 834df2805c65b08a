package checker

import (
	"slices"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// ruledTest has three seats of cad, whose leases live for seven seconds.
func ruledTest() Test {
	t := miniTest()
	t.Ruled, t.Pools = true, []Pool{{Feature: "cad", Total: 3, LifespanNS: 4 * sec, GraceNS: 3 * sec}}
	return t
}

// Commands of a small log. Users are their own sessions.

func took(id uint64, user string, seats ...int) history.Command {
	return history.Command{Kind: history.KindCheckout, Session: user, User: user, Items: []history.Item{{Feature: "cad", Count: len(seats)}},
		Result: history.CommandResult{Leases: []history.AuditLease{{ID: id, Token: id, Feature: "cad", Count: len(seats), Seats: seats}}}}
}

func waits(ticket uint64, user string, n, priority int) history.Command {
	return history.Command{Kind: history.KindCheckout, Session: user, User: user, Items: []history.Item{{Feature: "cad", Count: n}}, WaitNS: 60 * sec,
		Result: history.CommandResult{Reason: "queued", Place: &history.AuditPlace{Ticket: ticket, Position: 1, Priority: priority}},
		Events: []history.AuditEvent{{Kind: history.EventQueued, Ticket: ticket, Session: user, User: user, Feature: "cad", Count: n}}}
}

// back is a check-in, and what comes of it for those who wait.
func back(id uint64, user string, then ...history.AuditEvent) history.Command {
	c := history.Command{Kind: history.KindCheckin, Session: user, Result: history.CommandResult{Released: []history.AuditEnded{{ID: id, Feature: "cad", Reason: "normal"}}}}
	if len(then) > 0 {
		c.Events = append([]history.AuditEvent{{Kind: history.EventEnded, ID: id, Feature: "cad", Reason: "normal"}}, then...)
	}
	return c
}

func served(id, ticket uint64, user string, seats ...int) []history.AuditEvent {
	return []history.AuditEvent{
		{Kind: history.EventGranted, ID: id, Token: id, Session: user, User: user, Feature: "cad", Count: len(seats), Seats: seats},
		{Kind: history.EventDequeued, Ticket: ticket, Session: user},
	}
}

func books(id string, n int, of int64) history.Command {
	return history.Command{Kind: history.KindBook, Booking: id, User: "job", ForNS: of, Items: []history.Item{{Feature: "cad", Count: n}}}
}

// uses is a job's checkout; it is refused for a reason, or gets seats.
func uses(id uint64, booking, reason string, seats ...int) history.Command {
	c := took(id, "job", seats...)
	if c.Booking = booking; reason != "" {
		c.Result = history.CommandResult{Reason: reason}
	}
	return c
}

func borrows(id uint64, user string, end int64, seats ...int) history.Command {
	c := took(id, user, seats...)
	c.Kind, c.Result.Leases[0].State, c.Result.Leases[0].DeadlineNS = history.KindBorrow, "borrowed", end
	return c
}

func revokes(id uint64) history.Command {
	return history.Command{Kind: history.KindRevoke, Refs: []history.Ref{{ID: id}},
		Result: history.CommandResult{Leases: []history.AuditLease{{ID: id, Feature: "cad", State: "quarantined"}}}}
}

// frees is a command that names a lease and ends it.
func frees(kind string, id uint64) history.Command {
	return history.Command{Kind: kind, ID: id, Refs: []history.Ref{{ID: id}},
		Result: history.CommandResult{Released: []history.AuditEnded{{ID: id, Feature: "cad"}}}}
}

func rule(kind, who string, seats int) history.PolicyRule {
	return history.PolicyRule{Kind: kind, Feature: "cad", WhoType: "user", Who: who, Seats: seats}
}

func policy(rules ...history.PolicyRule) history.Command {
	return history.Command{Kind: history.KindPolicy, Policy: &history.PolicyText{Rules: rules,
		Groups: []history.PolicyGroup{{Name: "fast", Members: []string{"fay"}, Priority: 5}}}}
}

// ruledRun makes a log of commands, one an entry; a number of seconds passes time.
func ruledRun(t *testing.T, ops []history.Op, steps ...any) *Run {
	t.Helper()
	a := &history.Audit{Node: "n1"}
	now := sec
	for _, s := range steps {
		c, ok := s.(history.Command)
		if !ok {
			now += int64(s.(int)) * sec
			continue
		}
		a.Entries = append(a.Entries, history.Entry{Index: uint64(len(a.Entries) + 1), Term: 1, NowNS: now, Commands: []history.Command{c}})
	}
	for i := range ops {
		ops[i].Index = int64(i)
	}
	r, err := NewRun(ruledTest(), ops, []*history.Audit{a})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSmallRuledRuns(t *testing.T) {
	for _, c := range []struct {
		name   string
		steps  []any
		check  Checker
		guilty bool
	}{
		{"all seats are taken", []any{took(1, "ann", 1, 2), took(2, "bob", 3)}, CheckPromised, false},
		{"one more is taken", []any{took(1, "ann", 1, 2), took(2, "bob", 3), took(3, "cid", 4)}, CheckPromised, true},
		{"a lease beside a booking", []any{books("j", 2, 9*sec), took(1, "ann", 1)}, CheckPromised, false},
		{"a lease of what is booked", []any{books("j", 2, 9*sec), took(1, "ann", 1, 2)}, CheckPromised, true},
		{"the job's own lease", []any{books("j", 2, 9*sec), took(1, "ann", 1), uses(2, "j", "", 2, 3)}, CheckPromised, false},
		{"a lease after the booking is over", []any{books("j", 2, 2*sec), 3, took(1, "ann", 1, 2, 3)}, CheckPromised, false},
		{"a booking of what is taken", []any{took(1, "ann", 1, 2), books("j", 2, 9*sec)}, CheckPromised, true},
		{"a booking of what a cancelled one had", []any{books("i", 2, 9*sec), history.Command{Kind: history.KindCancel, Booking: "i"}, books("j", 2, 9*sec)}, CheckPromised, false},
		{"the job's lease came back to its booking", []any{books("j", 2, 9*sec), uses(2, "j", "", 1, 2), back(2, "job"), took(1, "ann", 1, 2)}, CheckPromised, true},
		{"a seat beside the reserved ones", []any{policy(rule("reserve", "vip", 2)), took(1, "ann", 1)}, CheckPromised, false},
		{"a reserved seat for somebody else", []any{policy(rule("reserve", "vip", 2)), took(1, "ann", 1, 2)}, CheckPromised, true},
		{"a reserved seat for its own", []any{policy(rule("reserve", "vip", 2)), took(1, "ann", 1), took(2, "vip", 2, 3)}, CheckPromised, false},
		{"a reservation that came too late", []any{took(1, "ann", 1, 2), policy(rule("reserve", "vip", 2)), took(2, "vip", 3)}, CheckPromised, false},
		{"what a cancelled booking kept goes to who waits", []any{books("j", 3, 9*sec), waits(1, "bob", 1, 0),
			history.Command{Kind: history.KindCancel, Booking: "j", Events: served(2, 1, "bob", 1)}}, CheckPromised, false},
		{"what a policy keeps no more goes to who waits", []any{policy(rule("reserve", "vip", 3)), waits(1, "bob", 1, 0), func() history.Command {
			c := policy()
			c.Events = served(2, 1, "bob", 1)
			return c
		}()}, CheckPromised, false},
		{"a borrowed seat counts", []any{borrows(1, "ann", 99*sec, 1, 2), took(2, "bob", 3), took(3, "cid", 1)}, CheckPromised, true},

		{"served in order", []any{took(1, "ann", 1, 2, 3), waits(1, "bob", 1, 0), waits(2, "cid", 1, 0), back(1, "ann", slices.Concat(served(2, 1, "bob", 1), served(3, 2, "cid", 2))...)}, CheckQueue, false},
		{"served out of order", []any{took(1, "ann", 1, 2, 3), waits(1, "bob", 2, 0), waits(2, "cid", 2, 0), back(1, "ann", served(3, 2, "cid", 1, 2)...)}, CheckQueue, true},
		{"a newcomer takes what others wait for", []any{took(1, "ann", 1, 2), took(4, "dan", 3), waits(1, "bob", 2, 0), back(1, "ann", served(2, 1, "bob", 1, 2)...), back(4, "dan"),
			waits(2, "eve", 2, 0), took(5, "cid", 3)}, CheckQueue, true},
		{"a newcomer takes what nobody waits for", []any{took(1, "ann", 1, 2), waits(1, "bob", 2, 0), back(1, "ann", served(2, 1, "bob", 1, 2)...), took(5, "cid", 3)}, CheckQueue, false},
		{"a large request is passed by a small one", []any{took(1, "ann", 1, 2), waits(1, "bob", 3, 0), took(2, "cid", 3)}, CheckQueue, true},
		{"a large request waits until there is enough", []any{took(1, "ann", 1, 2), waits(1, "bob", 3, 0), back(1, "ann", served(2, 1, "bob", 1, 2, 3)...)}, CheckQueue, false},
		{"nobody is served although seats came free", []any{took(1, "ann", 1, 2, 3), waits(1, "bob", 1, 0), back(1, "ann")}, CheckQueue, true},
		{"what came free is reserved", []any{took(1, "ann", 1, 2, 3), policy(rule("reserve", "vip", 3)), waits(1, "bob", 1, 0), back(1, "ann")}, CheckQueue, false},
		{"a higher priority goes first", []any{policy(), took(1, "ann", 1, 2, 3), waits(1, "bob", 3, 0), waits(2, "fay", 3, 5), back(1, "ann", served(2, 2, "fay", 1, 2, 3)...)}, CheckQueue, false},
		{"a higher priority is passed", []any{policy(), took(1, "ann", 1, 2, 3), waits(1, "bob", 3, 0), waits(2, "fay", 3, 5), back(1, "ann", served(2, 1, "bob", 1, 2, 3)...)}, CheckQueue, true},
		{"a priority that nobody gave", []any{policy(), took(1, "ann", 1, 2, 3), waits(1, "bob", 3, 5)}, CheckQueue, true},
		{"who does not come back is passed", []any{took(1, "ann", 1, 2, 3), waits(1, "bob", 3, 0), 8, waits(2, "cid", 1, 0), back(1, "ann", served(2, 2, "cid", 1)...)}, CheckQueue, false},
		{"who is capped is passed", []any{policy(rule("max", "bob", 1)), took(1, "ann", 1, 2, 3), waits(1, "bob", 1, 0), waits(2, "cid", 3, 0), back(1, "ann", served(2, 2, "cid", 1, 2, 3)...)}, CheckQueue, false},
		{"a booking takes what others wait for", []any{took(1, "ann", 1, 2), waits(1, "bob", 2, 0), books("j", 1, 9*sec)}, CheckQueue, true},

		{"a borrowed seat runs out", []any{borrows(1, "ann", 5*sec, 1), 9, frees(history.KindExpire, 1), took(2, "bob", 1)}, CheckBorrowed, false},
		{"a borrowed seat is taken back early", []any{borrows(1, "ann", 5*sec, 1), 1, frees(history.KindExpire, 1), took(2, "bob", 1)}, CheckBorrowed, true},
		{"a borrowed seat is returned", []any{borrows(1, "ann", 5*sec, 1), frees(history.KindReturn, 1), took(2, "bob", 1)}, CheckBorrowed, false},
		{"its session's end takes a borrowed seat", []any{borrows(1, "ann", 5*sec, 1), back(1, "ann")}, CheckBorrowed, true},
		{"a borrowed seat is given to another", []any{borrows(1, "ann", 5*sec, 1), took(2, "bob", 1)}, CheckBorrowed, true},
		{"a revoked seat waits for its end", []any{borrows(1, "ann", 5*sec, 1), revokes(1), 9, frees(history.KindExpire, 1), took(2, "bob", 1)}, CheckBorrowed, false},
		{"a revoked seat comes free at once", []any{borrows(1, "ann", 5*sec, 1), frees(history.KindRevoke, 1), took(2, "bob", 1)}, CheckBorrowed, true},
		{"a revoked seat comes free before its end", []any{borrows(1, "ann", 5*sec, 1), revokes(1), 1, frees(history.KindExpire, 1)}, CheckBorrowed, true},

		{"a job gets what is booked", []any{books("j", 2, 9*sec), uses(2, "j", "", 1, 2)}, CheckBooked, false},
		{"a job is refused what is booked", []any{books("j", 2, 9*sec), uses(2, "j", "no_seats", 1, 2)}, CheckBooked, true},
		{"a job has to wait for what is booked", []any{books("j", 2, 9*sec), uses(2, "j", "queued", 1, 2)}, CheckBooked, true},
		{"a booking is forgotten", []any{books("j", 2, 9*sec), uses(2, "j", "booking_unknown", 1, 2)}, CheckBooked, true},
		{"a job comes too late", []any{books("j", 2, 2*sec), 3, uses(2, "j", "booking_unknown", 1, 2)}, CheckBooked, false},
		{"a job wants more than is booked", []any{books("j", 1, 9*sec), uses(2, "j", "no_seats", 1, 2)}, CheckBooked, false},
		{"a job is refused what came back to its booking", []any{books("j", 2, 9*sec), uses(2, "j", "", 1, 2), back(2, "job"), uses(3, "j", "no_seats", 1)}, CheckBooked, true},

		{"a cap is filled", []any{policy(rule("max", "ann", 2)), took(1, "ann", 1, 2)}, CheckPolicy, false},
		{"a cap is exceeded", []any{policy(rule("max", "ann", 1)), took(1, "ann", 1, 2)}, CheckPolicy, true},
		{"a cap is exceeded by one who waited", []any{policy(rule("max", "bob", 1)), took(1, "ann", 1, 2), waits(1, "bob", 2, 0), back(1, "ann", served(2, 1, "bob", 1, 2)...)}, CheckPolicy, true},
		{"a cap came later", []any{took(1, "ann", 1, 2), policy(rule("max", "ann", 1))}, CheckPolicy, false},
		{"a cap was lifted before", []any{policy(rule("max", "ann", 1)), policy(), took(1, "ann", 1, 2)}, CheckPolicy, false},
		{"a cap does not stop what is reserved", []any{policy(rule("max", "ann", 1), rule("reserve", "ann", 2)), took(1, "ann", 1, 2)}, CheckPolicy, false},
		{"somebody excluded is served", []any{policy(rule("exclude", "ann", 0)), took(1, "ann", 1)}, CheckPolicy, true},
		{"somebody else is excluded", []any{policy(rule("exclude", "bob", 0)), took(1, "ann", 1)}, CheckPolicy, false},
		{"somebody not included is served", []any{policy(rule("include", "bob", 0)), took(1, "ann", 1)}, CheckPolicy, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if v := c.check(ruledRun(t, nil, c.steps...)); (v.Result == Invalid) != c.guilty {
				t.Errorf("%s: %s %v", v.Name, v.Result, v.Evidence)
			}
		})
	}
}

// What clients saw is judged without the log, too.
func TestClientsSeeAQueueThatIsNotFair(t *testing.T) {
	ask := func(at, done int64, p history.Process, client string, result history.Result) []history.Op {
		v := &history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}, QueueMS: 20_000}
		op := history.Op{Time: at * sec, Process: p, Type: history.Invoke, F: history.FCheckout, Client: client, Request: client + "/1", Value: v}
		end, got := op, *v
		got.Result = result
		end.Time, end.Type, end.Value = done*sec, history.OK, &got
		return []history.Op{op, end}
	}
	shows := func(id uint64, ops []history.Op) []history.Op {
		ops[1].Value.(*history.Checkout).Leases = []history.Lease{{ID: id, Token: id, Feature: "cad", Count: 1, Seats: []int{1}}}
		return ops
	}
	bob := shows(1, ask(0, 1, 1, "bob", "granted"))
	// kills is an operator's, answered or not, of lease 7, which a listing shows as a session's.
	kills := func(session string, typ history.Type) []history.Op {
		lease := []history.Lease{{ID: 7, Token: 7, Feature: "cad", Session: session}}
		op := history.Op{Time: 2 * sec, Process: 2, Type: history.Invoke, F: history.FLeases, Value: &history.Leases{}}
		end, kill := op, op
		end.Type, end.Value = history.OK, &history.Leases{Result: history.Done, Leases: lease}
		kill.Time, kill.F, kill.Value = 3*sec, history.FKill, &history.Kill{IDs: []uint64{7}}
		killed := kill
		if killed.Type = typ; typ == history.OK {
			killed.Value = &history.Kill{IDs: []uint64{7}, Result: history.Done, Killed: lease}
		}
		return []history.Op{op, end, kill, killed}
	}
	ofAnn := func(ops []history.Op) []history.Op {
		ops[0].Session, ops[1].Session = "ann", "ann"
		return ops
	}
	for _, c := range []struct {
		name   string
		ops    [][]history.Op
		steps  []any
		guilty bool
	}{
		{"in order", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 0, "ann", "granted"), ask(5, 6, 1, "bob", "granted")}, nil, false},
		{"passed while it waits", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "bob", "granted"), ask(5, 6, 0, "ann", "queued")}, nil, true},
		{"served beside each other", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "bob", "granted"), ask(5, 6, 0, "ann", "granted")}, nil, false},
		{"its place was lost by silence", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(10, 11, 1, "bob", "granted"), ask(20, 21, 0, "ann", "queued")}, nil, false},
		{"what it got ended unheard", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "bob", "granted"), ask(7, 8, 0, "ann", "queued")}, nil, false},
		{"passed by a higher priority", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "fay", "granted"), ask(5, 6, 0, "ann", "queued")}, []any{policy()}, false},
		{"its place is older than its wish", [][]history.Op{ask(0, 1, 1, "bob", "max_reached"), ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "bob", "granted"), ask(5, 6, 0, "ann", "queued")}, nil, false},
		{"its place was lost by an exclusion", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "bob", "granted"), ask(5, 6, 0, "ann", "queued")}, []any{policy(rule("exclude", "ann", 0))}, false},
		{"somebody else is shown what it has", [][]history.Op{bob, ask(1, 2, 0, "ann", "queued"), shows(1, ask(3, 4, 1, "bob", "granted")), ask(5, 6, 0, "ann", "queued")}, nil, false},
		{"somebody else is served a second time", [][]history.Op{bob, ask(1, 2, 0, "ann", "queued"), shows(2, ask(3, 4, 1, "bob", "granted")), ask(5, 6, 0, "ann", "queued")}, nil, true},
		{"what it got was taken back unheard", [][]history.Op{ofAnn(ask(1, 2, 0, "ann", "queued")), kills("ann", history.OK), ask(3, 4, 1, "bob", "granted"), ofAnn(ask(5, 6, 0, "ann", "queued"))}, nil, false},
		{"what it got may have been taken back unheard", [][]history.Op{ofAnn(ask(1, 2, 0, "ann", "queued")), kills("ann", history.Info), ask(3, 4, 1, "bob", "granted"), ofAnn(ask(5, 6, 0, "ann", "queued"))}, nil, false},
		{"what another got was taken back", [][]history.Op{ofAnn(ask(1, 2, 0, "ann", "queued")), kills("cid", history.OK), ask(3, 4, 1, "bob", "granted"), ofAnn(ask(5, 6, 0, "ann", "queued"))}, nil, true},
		{"passed after something was taken back", [][]history.Op{kills("ann", history.OK), ofAnn(ask(4, 5, 0, "ann", "queued")), ask(6, 7, 1, "bob", "granted"), ofAnn(ask(8, 9, 0, "ann", "queued"))}, nil, true},
		{"passed by one with a reserved seat", [][]history.Op{ask(1, 2, 0, "ann", "queued"), ask(3, 4, 1, "vip", "granted"), ask(5, 6, 0, "ann", "queued")}, []any{policy(rule("reserve", "vip", 1))}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := ruledRun(t, slices.Concat(c.ops...), c.steps...)
			r.Pools[0].LifespanNS = 6 * sec // room for what happens in one
			if v := CheckQueue(r); (v.Result == Invalid) != c.guilty {
				t.Errorf("%s: %s %v", v.Name, v.Result, v.Evidence)
			}
		})
	}
}

// Whoever was told that seats are booked for it relies on that, whatever the log says.
func TestClientsSeeABookingThatIsNotHonoured(t *testing.T) {
	op := func(at int64, f history.F, v, answer any) []history.Op {
		x := history.Op{Time: at * sec, Type: history.Invoke, F: f, Client: "job", Value: v}
		y := x
		y.Time, y.Type, y.Value = at*sec+1, history.OK, answer
		return []history.Op{x, y}
	}
	items := []history.Item{{Feature: "cad", Count: 1}}
	booked := op(1, history.FBook, &history.Book{ID: "j", ForMS: 9000, Items: items}, &history.Book{ID: "j", ForMS: 9000, Items: items, Result: history.Done})
	use := func(at int64, result history.Result) []history.Op {
		return op(at, history.FCheckout, &history.Checkout{Items: items, Booking: "j"}, &history.Checkout{Items: items, Booking: "j", Result: result})
	}
	cancelled := op(2, history.FCancel, &history.Book{ID: "j"}, &history.Book{ID: "j", Result: history.Done})
	for _, c := range []struct {
		name   string
		ops    [][]history.Op
		guilty bool
	}{
		{"honoured", [][]history.Op{booked, use(5, history.Granted)}, false},
		{"refused", [][]history.Op{booked, use(5, "no_seats")}, true},
		{"unknown", [][]history.Op{booked, use(5, "booking_unknown")}, true},
		{"over", [][]history.Op{booked, use(15, "booking_unknown")}, false},
		{"cancelled", [][]history.Op{booked, cancelled, use(5, "booking_unknown")}, false},
		{"used before", [][]history.Op{booked, use(3, history.Granted), use(5, "no_seats")}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if v := CheckBooked(ruledRun(t, slices.Concat(c.ops...))); (v.Result == Invalid) != c.guilty {
				t.Errorf("%s: %s %v", v.Name, v.Result, v.Evidence)
			}
		})
	}
}
