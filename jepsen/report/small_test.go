package report

import (
	"fmt"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

const second = int64(1e9)

// tape writes a run down.
type tape struct {
	test   checker.Test
	ops    []history.Op
	audit  history.Audit
	report checker.Report
}

func (t *tape) op(at int64, op history.Op) {
	op.Index, op.Time = int64(len(t.ops)), at
	t.ops = append(t.ops, op)
}

// call is an operation with its answer.
func (t *tape) call(from, to int64, p history.Process, f history.F, ask, answer any, typ history.Type, index uint64) {
	o := history.Op{Process: p, F: f, Type: history.Invoke, Value: ask, Client: fmt.Sprint("c", p), Session: fmt.Sprint("s", p)}
	t.op(from, o)
	o.Type, o.Value, o.RaftIndex, o.Term = typ, answer, index, 2
	if typ == history.Info || typ == history.Fail {
		o.Error = "no answer within 2 s"
	}
	t.op(to, o)
}

func (t *tape) fault(at int64, f history.F, v history.Fault) {
	t.op(at, history.Op{Process: history.Nemesis, Type: history.Info, F: f, Value: &v})
}

func (t *tape) phase(at int64, name string) {
	t.op(at, history.Op{Process: history.Nemesis, Type: history.Info, F: history.FPhase, Value: &history.Phase{Name: name}})
}

func (t *tape) believe(at, until int64, p history.Process, id uint64, feature string) {
	t.op(at, history.Op{Process: history.Observer, Type: history.Info, F: history.FBelieve, Client: fmt.Sprint("c", p), Session: fmt.Sprint("s", p),
		Value: &history.Believe{Lease: history.Lease{ID: id, Feature: feature, Count: 1, Seats: []int{1}}, At: at, Until: until}})
}

func (t *tape) entry(index, term uint64, now int64, commands ...history.Command) {
	t.audit.Entries = append(t.audit.Entries, history.Entry{Index: index, Term: term, Epoch: 3, NowNS: now, StampNS: now, Hash: "h", Commands: commands, HasEnded: true})
}

func (t *tape) lead(index, term uint64, now int64, node string) {
	t.audit.Entries = append(t.audit.Entries, history.Entry{Index: index, Term: term, NowNS: now, Hash: "h", Lead: &history.Lead{Node: node}})
}

func (t *tape) run(tb testing.TB) *checker.Run {
	tb.Helper()
	r, err := checker.NewRun(t.test, t.ops, []*history.Audit{&t.audit})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func granted(feature, user string, id uint64) (ask, answer *history.Checkout) {
	ask = &history.Checkout{Items: []history.Item{{Feature: feature, Count: 1}}, User: user}
	got := *ask
	got.Result, got.Leases = history.Granted, []history.Lease{{ID: id, Feature: feature, Count: 1, Seats: []int{1}, Token: id}}
	return ask, &got
}

func grant(feature string, id uint64) history.Command {
	return history.Command{Kind: history.KindCheckout, Session: "s", Items: []history.Item{{Feature: feature, Count: 1}},
		Result: history.CommandResult{Leases: []history.AuditLease{{ID: id, Token: id, Feature: feature, Count: 1, Seats: []int{1}}}}}
}

// small is ten seconds with two grants of a pool of two, a denial, a heartbeat that
// nobody answered, a partition that changed the leader, and a fault without effect.
// Every text that comes from outside ends in mark.
func small(mark string) *tape {
	cad := "cad" + mark
	t := &tape{test: checker.Test{Seed: 7, Name: "small" + mark, Started: "2026-01-02T03:04:05Z", Nodes: []string{"n1" + mark, "n2" + mark}, Concurrency: 3,
		Workload: "seats" + mark, Nemesis: []string{"partition-one" + mark}, Versions: map[string]string{"go" + mark: "go1" + mark},
		Pools:  []checker.Pool{{Feature: cad, Total: 2, LifespanNS: 4 * second, GraceNS: second}},
		Limits: checker.DefaultLimits()}}
	t.report = checker.Report{Result: checker.Invalid, Verdicts: []checker.Verdict{
		{Name: "C0", Title: "enough happened", Result: checker.Unknown, Summary: "6 operations" + mark, Evidence: []string{"renew/done: 0, at least 20" + mark}, Cases: 1},
		{Name: "C3", Title: "one believer", Result: checker.Invalid, Summary: "2 beliefs" + mark, Evidence: []string{"seat 1 of cad" + mark}, Cases: 4, Files: []string{"porcupine-" + mark + ".html"}},
		{Name: "C4", Title: "fencing tokens grow", Result: checker.Valid, Summary: "2 grants" + mark},
	}}
	t.lead(3, 2, 0, "n1"+mark)
	t.entry(4, 2, second/10, history.Command{Kind: history.KindInstall, Tenant: "default", Licence: &history.LicenceFile{ID: "L", Tenant: "default",
		Entitlements: []history.Entitlement{{Feature: cad, Count: 2}}}})
	t.entry(5, 2, second, grant(cad, 11))
	t.lead(7, 4, 4*second, "n2"+mark)
	t.entry(8, 4, 5*second, grant(cad, 12))
	t.entry(9, 4, 8*second, history.Command{Kind: history.KindCheckin, Session: "s", Result: history.CommandResult{Released: []history.AuditEnded{{ID: 11, Token: 11}}}})

	t.phase(0, history.PhaseWarm)
	ask, got := granted(cad, "ann"+mark, 11)
	t.call(second, second+10e6, 0, history.FCheckout, ask, got, history.OK, 5)
	t.believe(second+11e6, 9*second, 0, 11, cad)
	t.phase(3*second, history.PhaseFaults+mark)
	t.fault(3*second, history.FStart, history.Fault{ID: "f1-partition-one" + mark, Family: "partition-one" + mark, Nodes: []string{"n1" + mark}})
	ask, got = granted(cad, "bob"+mark, 12)
	t.call(3*second+1e6, 5*second, 1, history.FCheckout, ask, got, history.OK, 8)
	t.believe(5*second, 9*second, 1, 12, cad)
	denied := *ask
	denied.Result = history.Result("no_seats" + mark)
	t.call(5*second+1, 5*second+20e6, 2, history.FCheckout, ask, &denied, history.OK, 8)
	t.fault(6*second, history.FStop, history.Fault{ID: "f1-partition-one" + mark, Family: "partition-one" + mark, Bit: true, Proof: "12 packets" + mark})
	t.fault(6*second, history.FStart, history.Fault{ID: "f2-clock" + mark, Family: "clock-jump" + mark, NoMajority: true})
	t.call(6*second+1, 6*second+2e6, 2, history.FStatus, &history.Status{}, &history.Status{Result: history.Done, Leader: "n2" + mark,
		Nodes: []history.NodeState{{ID: "n1" + mark + "-0123abcd", Applied: 5}, {ID: "n2" + mark, Applied: 8}}}, history.OK, 8)
	t.fault(7*second, history.FStop, history.Fault{ID: "f2-clock" + mark, Family: "clock-jump" + mark, Proof: "not seen" + mark})
	t.call(7*second, 7*second+5e6, 2, history.FRenew, &history.Renew{Held: []history.Ref{{ID: 12}}}, &history.Renew{Held: []history.Ref{{ID: 12}}}, history.Info, 0)
	t.ops[len(t.ops)-1].Error += mark
	t.call(8*second, 8*second+5e6, 0, history.FCheckin, &history.Checkin{}, &history.Checkin{Result: history.Done, Released: []history.Ended{{ID: 11}}}, history.OK, 9)
	t.op(8*second+5e6, history.Op{Process: history.Observer, Type: history.Info, F: history.FLost, Client: "c0", Session: "s0", Value: &history.Lost{ID: 11, At: 8 * second, Cause: history.CauseReleased}})
	t.phase(10*second, history.PhaseEnd)
	return t
}
