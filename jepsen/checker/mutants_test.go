package checker

import (
	"slices"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// tape is a recorded run that a mutation may change.
type tape struct {
	test   Test
	ops    []history.Op
	audits []*history.Audit
}

// completion finds the first answered operation of a kind at or after a time for which
// pick says yes.
func (tp *tape) completion(f history.F, from int64, pick func(op *history.Op) bool) *history.Op {
	for i := range tp.ops {
		op := &tp.ops[i]
		if op.F == f && op.Time >= from && (op.Type == history.OK || op.Type == history.Info && op.Process < 0) && pick(op) {
			return op
		}
	}
	panic("the recorded run has no such operation")
}

func (tp *tape) invocation(done *history.Op) *history.Op {
	for i := int(done.Index) - 1; i >= 0; i-- {
		if tp.ops[i].Process == done.Process {
			return &tp.ops[i]
		}
	}
	panic("no invocation")
}

// command finds a command in every node's log.
func (tp *tape) command(kind string, pick func(e *history.Entry, c *history.Command) bool) (found []*history.Command) {
	for _, a := range tp.audits {
		for i := range a.Entries {
			e := &a.Entries[i]
			if len(e.Commands) == 1 && e.Commands[0].Kind == kind && pick(e, &e.Commands[0]) {
				found = append(found, &e.Commands[0])
				break
			}
		}
	}
	return found
}

// entry finds the first entry from an index on for which pick says yes.
func (tp *tape) entry(from uint64, pick func(e *history.Entry) bool) *history.Entry {
	for i := range tp.audits[0].Entries {
		if e := &tp.audits[0].Entries[i]; e.Index >= from && pick(e) {
			return e
		}
	}
	panic("the recorded run has no such entry")
}

// reason is why a lease ended.
func (tp *tape) reason(id uint64) (why string) {
	tp.entry(0, func(e *history.Entry) bool {
		return slices.ContainsFunc(e.Ended, func(x history.AuditEnded) bool { why = x.Reason; return x.ID == id })
	})
	return why
}

func any1(*history.Op) bool { return true }

func isGrant(op *history.Op) bool { return op.Value.(*history.Checkout).Result == history.Granted }

// append adds an operation at the end, where nobody else is at work.
func (tp *tape) append(op history.Op) {
	last := tp.ops[len(tp.ops)-1]
	op.Index, op.Time = last.Index+1, last.Time+1e6
	tp.ops = append(tp.ops, op)
}

var mutations = []struct {
	name   string
	bugs   []string // of the service or the client
	mutate func(tp *tape)
	red    string // exactly these are not valid
	// may are those that are red too where the run happens to show it to them.
	may string
}{
	{"an answer shows another token than the log", nil, func(tp *tape) {
		v := tp.completion(history.FRenew, 5*sec, func(op *history.Op) bool { return len(op.Value.(*history.Renew).Leases) > 0 }).Value.(*history.Renew)
		v.Leases[0].Token++
	}, "C1", ""},
	{"an answer says that it repeats another, and the log that it does not", nil, func(tp *tape) {
		tp.completion(history.FCheckout, 5*sec, isGrant).Value.(*history.Checkout).Replayed = true
	}, "C1", "C2"},
	{"a renewal gives a longer deadline than it may", nil, func(tp *tape) {
		for _, c := range tp.command(history.KindRenew, func(_ *history.Entry, c *history.Command) bool { return len(c.Result.Leases) > 0 }) {
			leases := slices.Clone(c.Result.Leases)
			leases[0].DeadlineNS += sec
			c.Result.Leases = leases
		}
	}, "C1", ""},
	// C2 sees it too, if the lease of that answer is over by then.
	{"the log has an order that real time contradicts", nil, func(tp *tape) {
		// One answer says it was applied where a tick stands that came much later; between the
		// two a lease runs out.
		ranOut := tp.entry(0, func(e *history.Entry) bool {
			return slices.ContainsFunc(e.Ended, func(x history.AuditEnded) bool { return x.Reason == missed })
		})
		op := tp.completion(history.FRenew, 0, func(op *history.Op) bool { return op.RaftIndex+20 > ranOut.Index && op.RaftIndex < ranOut.Index })
		op.RaftIndex = tp.entry(op.RaftIndex+40, func(e *history.Entry) bool {
			return len(e.Commands) == 1 && e.Commands[0].Kind == history.KindTick
		}).Index
	}, "C1 C10 C11 C12", "C2"},

	{"a status shows one seat less", nil, func(tp *tape) {
		op := tp.completion(history.FStatus, 10*sec, func(op *history.Op) bool { return op.Value.(*history.Status).Pools[0].InUse == 3 })
		op.Value.(*history.Status).Pools[0].InUse = 2
	}, "C1 C2", ""},
	{"a denial while seats are free", nil, func(tp *tape) {
		for _, typ := range []history.Type{history.Invoke, history.OK} { // all is over, and the pools are empty
			v := history.Checkout{Items: []history.Item{{Feature: "cad", Count: 1}}}
			if typ == history.OK {
				v.Result = "no_seats"
			}
			tp.append(history.Op{Process: 900, Type: typ, F: history.FCheckout, Session: "late", Value: &v})
		}
	}, "C2", ""},

	{"a client believes too long", nil, func(tp *tape) {
		// Its release is forgotten, and somebody else gets the seat before its deadline.
		until := map[uint64]*history.Believe{}
		lost := tp.completion(history.FLost, 10*sec, func(op *history.Op) bool {
			for i := range tp.ops[:op.Index] {
				if b, ok := tp.ops[i].Value.(*history.Believe); ok {
					until[b.Lease.ID] = b
				}
			}
			own := until[op.Value.(*history.Lost).ID]
			return op.Value.(*history.Lost).Cause == history.CauseReleased && slices.ContainsFunc(tp.ops[op.Index:], func(o history.Op) bool {
				b, ok := o.Value.(*history.Believe)
				return ok && b.At < own.Until && b.Lease.Feature == own.Lease.Feature && b.Lease.User != own.Lease.User && slices.Equal(b.Lease.Seats, own.Lease.Seats)
			})
		})
		lost.Value = &history.Lost{ID: 1, At: lost.Time}
	}, "C3", ""},
	{"a client believes in a seat beyond the licence", nil, func(tp *tape) {
		id := tp.completion(history.FBelieve, 10*sec, any1).Value.(*history.Believe).Lease.ID
		for i := range tp.ops { // as often as it is confirmed
			if b, ok := tp.ops[i].Value.(*history.Believe); ok && b.Lease.ID == id {
				b.Lease.Seats = []int{4}
			}
		}
	}, "C3", ""},
	{"a client counts its deadline from the answer and adds some", []string{"late deadline"}, nil, "C3 C5", ""},

	{"a guarded resource accepts an old token", nil, func(tp *tape) {
		for _, token := range []uint64{1000, 999} {
			w := history.Write{Resource: "plotter", Token: token}
			tp.append(history.Op{Process: 900, Type: history.Invoke, F: history.FWrite, Value: &w})
			done := w
			done.Result, done.Order = history.Accepted, 1000+1000-token
			tp.append(history.Op{Process: 900, Type: history.OK, F: history.FWrite, Value: &done})
		}
	}, "C4", ""},
	{"a resource rejects the current token", nil, func(tp *tape) {
		op := tp.completion(history.FWrite, 5*sec, func(op *history.Op) bool { return op.Value.(*history.Write).Result == history.Accepted })
		op.Value.(*history.Write).Result = history.Rejected
	}, "C4", ""},
	// C2 takes the higher token of a seat for the later one, where nobody gave it back between.
	{"tokens from a local counter", []string{"token"}, nil, "C1 C4", "C2"},

	{"a seat that clients believe in is not charged", nil, func(tp *tape) {
		at := tp.ops[len(tp.ops)-1].Time - 2*sec
		tp.append(history.Op{Process: history.Observer, Type: history.Info, F: history.FBelieve, Client: "x", Session: "x",
			Value: &history.Believe{Lease: history.Lease{ID: 5000, Feature: "cad", Version: "2.0", Seats: []int{1}}, At: at, Until: at + 10*sec}})
	}, "C5", ""},
	{"a seat stays charged after all was closed", nil, func(tp *tape) {
		for i := range tp.ops {
			if v, ok := tp.ops[i].Value.(*history.Status); ok && v.Result == history.Done && tp.ops[i].Time > 96*sec {
				v.Pools[1].InUse = 1
			}
		}
	}, "C1 C2 C5", ""},

	{"a retry has a second effect", []string{"dedupe"}, nil, "C1 C2 C6", ""},
	{"a retry has a new identity", []string{"new request"}, nil, "C6", ""},
	{"two answers to one request name two leases", nil, func(tp *tape) {
		a := tp.completion(history.FCheckout, 5*sec, func(op *history.Op) bool {
			return isGrant(op) && tp.reason(op.Value.(*history.Checkout).Leases[0].ID) == "normal" // nothing excuses a second one
		})
		b := tp.completion(history.FCheckout, a.Time+1, func(op *history.Op) bool { return op.Client == a.Client && isGrant(op) })
		tp.invocation(b).Request = a.Request
	}, "C6", ""},

	{"one node has another hash", nil, func(tp *tape) { tp.audits[1].Entries[200].Hash = "ffff" }, "C7", ""},
	{"one node told another hash than its log gives", nil, func(tp *tape) { tp.audits[1].Entries[200].Told = "ffff" }, "C7", ""},
	{"a running node showed another hash", nil, func(tp *tape) {
		tp.completion(history.FStatus, 20*sec, any1).Value.(*history.Status).Nodes[0].Hash = "eeee"
	}, "C7", ""},
	{"one node applied a command differently", nil, func(tp *tape) {
		tp.audits[2].Entries[150].Commands = nil
		tp.audits[2].Entries[150].NowNS += 5
	}, "C7", ""},

	{"two nodes lost the tail of their logs", nil, func(tp *tape) {
		for _, a := range tp.audits[1:] {
			a.Entries = a.Entries[:len(a.Entries)-60]
		}
	}, "C8", ""},
	{"an answer of another term", nil, func(tp *tape) {
		tp.completion(history.FRenew, 60*sec, any1).Term = 9
	}, "C8", ""},

	{"an outage of twelve seconds", []string{"outage"}, nil, "C9", ""},
	{"a gap above the limit of its fault", nil, func(tp *tape) { tp.test.Limits.GapsNS = map[string]int64{"kill": sec} }, "C9", ""},

	{"leases are reclaimed early", []string{"early"}, nil, "C1 C2 C10", ""},
	{"a client is told too early that its lease ran out", nil, func(tp *tape) {
		op := tp.completion(history.FRenew, 5*sec, func(op *history.Op) bool { return len(op.Value.(*history.Renew).Leases) > 0 })
		id := op.Value.(*history.Renew).Leases[0].ID
		next := tp.completion(history.FRenew, op.Time+1, any1)
		v := next.Value.(*history.Renew)
		v.Lost = append(v.Lost, history.Ended{ID: id, Reason: missed})
	}, "C10", ""},

	// C2 misses what ran out by the wrong time, if it is asked for.
	{"time runs backwards with a new leader", []string{"backwards"}, nil, "C1 C11", "C2"},
	{"cluster time runs fast", []string{"fast"}, nil, "C2 C10 C11", ""},
	{"cluster time stands still", []string{"stuck"}, nil, "C5 C11", ""},
	{"a status shows an earlier time", nil, func(tp *tape) {
		tp.completion(history.FStatus, 30*sec, any1).Value.(*history.Status).ClusterTimeMS -= 2000
	}, "C11", ""},

	{"a status from the past", nil, func(tp *tape) {
		older := func(op *history.Op) *history.Op { // that shows the same pools
			for i := range tp.ops[:op.Index] {
				o := &tp.ops[i]
				if v, ok := o.Value.(*history.Status); ok && o.Type == history.OK && o.Time > op.Time-4*sec && o.Time < op.Time-2*sec &&
					slices.Equal(v.Pools, op.Value.(*history.Status).Pools) {
					return o
				}
			}
			return nil
		}
		op := tp.completion(history.FStatus, 30*sec, func(op *history.Op) bool { return older(op) != nil })
		op.RaftIndex, op.Value.(*history.Status).ClusterTimeMS = older(op).RaftIndex, 0
	}, "C12", ""},
	{"a verification from the past", nil, func(tp *tape) {
		// The lease was there already.
		older := func(op *history.Op) *history.Op {
			v := op.Value.(*history.Verify)
			for i := range tp.ops[:op.Index] {
				if o := &tp.ops[i]; v.Valid && o.Type == history.OK && o.RaftIndex > v.Token && o.RaftIndex < op.RaftIndex && o.Time > op.Time-sec/2 && o.Time < tp.invocation(op).Time {
					return o
				}
			}
			return nil
		}
		op := tp.completion(history.FVerify, 30*sec, func(op *history.Op) bool { return older(op) != nil })
		op.RaftIndex = older(op).RaftIndex
	}, "C12", ""},

	{"one seat too many is granted", []string{"capacity"}, nil, "C0 C1 C2 C3", ""},
	{"a check-in forgets its seats", []string{"forget"}, nil, "C1 C2", ""},
	{"nobody reclaims what a crashed client held", []string{"leak"}, nil, "C0 C1 C5 C10", ""},
}

// mutationSeeds are the runs that a mutation is tried on. It must show in each: one could be
// lucky, and what shows in three does not hang on what their clients happen to do.
const mutationSeeds = 3

func TestEveryMutationTurnsItsCheckersRed(t *testing.T) {
	seeds := uint64(mutationSeeds)
	if testing.Short() { // the rest goes with the long stories
		seeds = 1
	}
	for _, mu := range mutations {
		t.Run(mu.name, func(t *testing.T) {
			t.Parallel()
			for seed := range seeds {
				var tp tape
				tp.test, tp.ops, tp.audits = newMini(seed, mu.bugs...).run()
				if mu.mutate != nil {
					mu.mutate(&tp)
				}
				r, err := NewRun(tp.test, tp.ops, tp.audits)
				if err != nil {
					t.Fatal(err)
				}
				rep := Judge(r, Options{Dir: t.TempDir()})
				must := strings.Fields(mu.red)
				got := slices.DeleteFunc(red(rep), func(name string) bool {
					return !slices.Contains(must, name) && slices.Contains(strings.Fields(mu.may), name)
				})
				if !slices.Equal(got, must) {
					show(t, rep)
					t.Errorf("seed %d: not valid: %v; want %v", seed, got, must)
				}
				if rep.Exit() != ExitInvalid {
					t.Errorf("seed %d: exit %d", seed, rep.Exit())
				}
			}
		})
	}
}

// A bug is found whatever else the run happened to do, not in one lucky run only.
func TestServiceBugsAreFoundInOtherRunsToo(t *testing.T) {
	for _, c := range []struct {
		bug, name string
	}{
		{"capacity", "C3"}, {"token", "C4"}, {"early", "C10"}, {"leak", "C5"}, {"backwards", "C11"},
		{"fast", "C11"}, {"stuck", "C11"}, {"forget", "C1"}, {"outage", "C9"},
		{"dedupe", "C6"}, {"new request", "C6"},
	} {
		t.Run(c.bug, func(t *testing.T) {
			t.Parallel()
			seeds := uint64(4)
			if testing.Short() { // make stories tries all
				seeds = 1
			}
			for seed := range seeds {
				if _, rep := judge(t, newMini(100+seed, c.bug)); rep.Of(c.name).Result != Invalid {
					t.Errorf("seed %d: %s is %s", 100+seed, c.name, rep.Of(c.name).Result)
				}
			}
		})
	}
}
