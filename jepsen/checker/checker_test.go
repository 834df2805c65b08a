package checker

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

func judge(t *testing.T, m *mini) (*Run, Report) {
	t.Helper()
	test, ops, audits := m.run()
	r, err := NewRun(test, ops, audits)
	if err != nil {
		t.Fatal(err)
	}
	return r, Judge(r, Options{Dir: t.TempDir()})
}

func red(rep Report) (names []string) {
	for _, v := range rep.Verdicts {
		if v.Result != Valid {
			names = append(names, v.Name)
		}
	}
	return names
}

func show(t *testing.T, rep Report) {
	t.Helper()
	for _, v := range rep.Verdicts {
		if v.Result == Valid {
			t.Logf("%s %s: %s", v.Name, v.Result, v.Summary)
			continue
		}
		t.Logf("%s %s: %s (%d)", v.Name, v.Result, v.Summary, v.Cases)
		for _, e := range v.Evidence[:min(5, len(v.Evidence))] {
			t.Log("   ", e)
		}
	}
}

func TestAGoodRunIsValid(t *testing.T) {
	seeds := uint64(8)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			_, rep := judge(t, newMini(seed))
			if rep.Exit() != ExitValid {
				show(t, rep)
				t.Errorf("exit %d", rep.Exit())
			}
		})
	}
}

// A leader whose clock a fault makes run fast reclaims early. That is held against nobody
// while the fault lasts, and for one term after it.
func TestAFastClockIsExcusedByItsFault(t *testing.T) {
	for seed := range uint64(6) {
		_, rep := judge(t, newMini(seed, "fast", "clock fault"))
		if bad := red(rep); len(bad) > 0 {
			show(t, rep)
			t.Errorf("seed %d: %v", seed, bad)
		}
	}
}

// Nodes need not tell everything: secrets, the licence calendar and what was reclaimed may
// be missing, a node that was started again tells entries twice, one that caught up by a
// snapshot starts late, and a log may end with what was never committed.
func TestAGoodRunIsValidWhateverNodesTell(t *testing.T) {
	for seed := range uint64(4) {
		test, ops, audits := newMini(20 + seed).run()
		for n, a := range audits {
			for i := range a.Entries {
				e := &a.Entries[i]
				e.WallMS, e.CalendarMS = e.CalendarMS, 0
				e.HasEnded, e.Ended = false, nil
				for k := range e.Commands {
					e.Commands[k].Digest = ""
				}
			}
			last := a.Entries[len(a.Entries)-1]
			switch n {
			case 0:
				a.Entries = slices.Concat(a.Entries[:300], a.Entries[200:])
			case 1:
				marker := a.Entries[250]
				marker.Snapshot, marker.Commands = true, nil
				a.Entries = slices.Insert(slices.Clone(a.Entries[251:]), 0, marker)
			case 2:
				a.Entries = slices.Delete(a.Entries, 100, 180) // lost when it was killed, and then in a snapshot
				a.Entries = append(a.Entries, history.Entry{Index: last.Index + 1, Term: 9, NowNS: last.NowNS + 100*sec, Hash: "?", Uncertain: true})
			}
		}
		r, err := NewRun(test, ops, audits)
		if err != nil {
			t.Fatal(err)
		}
		if rep := Judge(r, Options{}); rep.Exit() != ExitValid {
			show(t, rep)
			t.Errorf("seed %d: exit %d", 20+seed, rep.Exit())
		}
	}
}

func TestARunThatDoesNothingIsNotConclusive(t *testing.T) {
	for _, c := range []struct {
		name  string
		empty func(tp *tape)
	}{
		{"no operation at all", func(tp *tape) { tp.ops, tp.audits = nil, nil }},
		{"no fault was made", func(tp *tape) {
			for i := range tp.ops { // they stay in the history as facts of another kind
				if _, ok := tp.ops[i].Value.(*history.Fault); ok {
					tp.ops[i].F, tp.ops[i].Value = "note", nil
				}
			}
		}},
		{"no fault bit", func(tp *tape) {
			for i := range tp.ops {
				if v, ok := tp.ops[i].Value.(*history.Fault); ok {
					v.Bit = false
				}
			}
		}},
		{"the workload was throttled to nothing", func(tp *tape) { tp.test, tp.ops, tp.audits = newMini(3, "throttled").run() }},
		{"nobody was at work in the fault", func(tp *tape) { tp.test.Require.PerFault = 100000 }},
		{"the nodes' logs are missing", func(tp *tape) { tp.audits = nil }},
		{"one node's log is missing", func(tp *tape) { tp.audits = tp.audits[:2] }},
		{"every node's log begins in a snapshot", func(tp *tape) {
			for _, a := range tp.audits {
				a.Entries = a.Entries[100:]
				a.Entries[0].Snapshot = true
			}
		}},
		{"it ended before anything healed", func(tp *tape) {
			tp.ops = slices.DeleteFunc(tp.ops, func(op history.Op) bool { return op.Time > 39*sec })
			for _, a := range tp.audits {
				a.Entries = slices.DeleteFunc(a.Entries, func(e history.Entry) bool { return e.NowNS > 39*sec })
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var tp tape
			tp.test, tp.ops, tp.audits = newMini(3).run()
			c.empty(&tp)
			r, err := NewRun(tp.test, tp.ops, tp.audits)
			if err != nil {
				t.Fatal(err)
			}
			if rep := Judge(r, Options{}); rep.Exit() != ExitNotConclusive {
				show(t, rep)
				t.Errorf("exit %d, want %d", rep.Exit(), ExitNotConclusive)
			}
		})
	}
}

func TestARunSaysWhatItLacks(t *testing.T) {
	for _, c := range []struct {
		bug  string
		want int // at least; 0: nothing
	}{{"none", 0}, {"throttled", 4}} { // of solver, for which nobody is at work
		test, ops, _ := newMini(3, c.bug).run()
		r, err := NewRun(test, ops, nil)
		if err != nil {
			t.Fatal(err)
		}
		if lacks := r.Lacks(); len(lacks) < c.want || c.want == 0 && len(lacks) > 0 {
			t.Errorf("%s: %q", c.bug, lacks)
		}
	}
}

func TestJudgingIsDeterministic(t *testing.T) {
	times := 3
	if testing.Short() { // make stories does it all
		times = 1
	}
	for _, bug := range []string{"none", "capacity", "forget", "early"} {
		_, first := judge(t, newMini(5, bug))
		for range times {
			_, again := judge(t, newMini(5, bug))
			if a, b := string(history.MarshalEDN(first)), string(history.MarshalEDN(again)); a != b {
				t.Errorf("%s:\n%s\n%s", bug, a, b)
			}
		}
	}
}

// A stored run is judged as the one in memory.
func TestARunSurvivesItsFiles(t *testing.T) {
	test, ops, audits := newMini(4).run()
	var file bytes.Buffer
	w := history.NewWriter(&file, timesOf(ops))
	for _, op := range ops {
		w.Append(op)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	read, err := history.Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	var stored []*history.Audit
	for _, a := range audits {
		var b bytes.Buffer
		if err := history.WriteAudit(&b, a); err != nil {
			t.Fatal(err)
		}
		s, err := history.ReadAudit(&b, a.Node)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, s)
	}
	var storedTest Test
	if err := history.UnmarshalEDN(history.MarshalEDN(test), &storedTest); err != nil {
		t.Fatal(err)
	}
	var reports []string
	for _, r := range []struct {
		t   Test
		ops []history.Op
		a   []*history.Audit
	}{{test, ops, audits}, {storedTest, read, stored}} {
		run, err := NewRun(r.t, r.ops, r.a)
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, string(history.MarshalEDN(Judge(run, Options{}))))
	}
	if reports[0] != reports[1] {
		t.Errorf("in memory:\n%s\nfrom files:\n%s", reports[0], reports[1])
	}
}

// timesOf is a clock that tells the times the operations have already.
func timesOf(ops []history.Op) func() time.Duration {
	next := 0
	return func() time.Duration { next++; return time.Duration(ops[next-1].Time) }
}
