package report

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

func TestSeriesHoldsANumberUntilItIsSetAgain(t *testing.T) {
	s := newSeries(newSpan(100, 4))
	s.set(0, 1)
	s.set(50, 3)
	s.set(50, 5) // for no time at all, but seen
	s.set(50, 2)
	s.set(90, 0)
	s.set(10, 4) // late: counts as 90
	s.done()
	for i, want := range []string{"1 1", "1 1", "2 5", "2.8 4"} {
		if got := fmt.Sprintf("%.3g %.3g", s.mean[i], s.peak[i]); got != want {
			t.Errorf("bucket %d: mean and peak %s, must be %s", i, got, want)
		}
	}
}

func TestEntriesLieWhereAnswersSay(t *testing.T) {
	m := &tape{}
	m.lead(1, 2, 0, "n1")
	m.entry(2, 2, 1*second)
	m.entry(4, 2, 2*second) // between two answers
	m.entry(5, 2, 4*second) // its own answer was late
	m.entry(6, 2, 5*second)
	m.entry(7, 2, 6*second) // after the last one
	m.call(11*second, 12*second, 0, history.FRenew, nil, &history.Renew{Result: history.Done}, history.OK, 2)
	m.call(14*second, 16*second, 0, history.FRenew, nil, &history.Renew{Result: history.Done}, history.OK, 6)
	m.call(14*second, 17*second, 1, history.FRenew, nil, &history.Renew{Result: history.Done}, history.OK, 6)
	m.call(14*second, 20*second, 2, history.FRenew, nil, &history.Renew{Result: history.Done}, history.OK, 5)
	m.phase(30*second, history.PhaseEnd)
	slices.SortStableFunc(m.ops, func(a, b history.Op) int { return int(a.Time - b.Time) })
	for i := range m.ops {
		m.ops[i].Index = int64(i)
	}
	r := m.run(t)
	r.Audits = append(r.Audits, &m.audit) // told twice, placed once
	var got []int64
	for _, e := range placeEntries(r) {
		got = append(got, e.at/second)
	}
	if want := []int64{11, 12, 13, 16, 16, 17}; !slices.Equal(got, want) {
		t.Errorf("%v, must be %v", got, want)
	}
}

func seats(t *testing.T, m *tape) *usage {
	t.Helper()
	r := m.run(t)
	log := placeEntries(r)
	p := findPools(r, log)
	return seatsOverTime(r, log, p, p.order)[0]
}

func TestSeatsOverTime(t *testing.T) {
	u := seats(t, small(""))
	at := func(s *series, sec float64) float64 { return s.mean[s.bucket(int64(sec*1e9))] }
	for _, x := range []struct {
		sec                           float64
		committed, believed, capacity float64
	}{{.5, 0, 0, 2}, {2, 1, 1, 2}, {5.5, 2, 2, 2}, {8.5, 1, 1, 2}, {9.5, 1, 0, 2}} {
		if c, b, k := at(u.committed, x.sec), at(u.believed, x.sec), at(u.capacity, x.sec); c != x.committed || b != x.believed || k != x.capacity {
			t.Errorf("at %v s: %v committed, %v believed, %v licensed; must be %v, %v, %v", x.sec, c, b, k, x.committed, x.believed, x.capacity)
		}
	}
	if f := drawSeats(u, nil); f.Over {
		t.Error("warns of more than there are")
	}
}

func TestSeatIssuedTwiceIsSeen(t *testing.T) {
	for share, over := range map[string]bool{"": true, "u": false} {
		m := small("")
		m.test.Pools[0].Total, m.test.Pools[0].ShareBy = 1, share
		m.audit.Entries[1].Commands[0].Licence.Entitlements[0].Count = 1
		if f := drawSeats(seats(t, m), nil); f.Over != over {
			t.Errorf("shared by %q: warns %v, must be %v", share, f.Over, over)
		}
	}
}

func TestReclaimedLeaseThatNoResultNames(t *testing.T) {
	m := &tape{test: checker.Test{Pools: []checker.Pool{{Feature: "cad", Total: 1}}}}
	m.lead(3, 2, 0, "n1")
	m.entry(4, 2, 1, history.Command{Kind: history.KindInstall, Tenant: "default", Licence: &history.LicenceFile{ID: "L", Tenant: "default",
		Entitlements: []history.Entitlement{{Feature: "cad", Count: 1, LifespanNS: second, GraceNS: second}}}})
	m.entry(5, 2, second, grant("cad", 5))
	second := grant("cad", 6)
	second.Session = "another"
	m.entry(6, 2, 9e9, second)
	for i := range m.audit.Entries {
		m.audit.Entries[i].HasEnded = false
	}
	m.phase(10e9, history.PhaseEnd)
	if u := seats(t, m); u.committed.highest() != 1 {
		t.Errorf("at most %v committed, must be 1", u.committed.highest())
	}
}

func TestKilledLeaseIsBelievedInNoMore(t *testing.T) {
	m := small("")
	kill := &history.Kill{IDs: []uint64{12}}
	done := *kill
	done.Result, done.Killed = history.Done, []history.Lease{{ID: 12}}
	last := m.ops[len(m.ops)-1]
	m.ops = slices.DeleteFunc(m.ops, func(op history.Op) bool { return op.Time > 6*second })
	m.call(6*second+second/2, 7*second, 9, history.FKill, kill, &done, history.OK, 0)
	m.op(last.Time, last)
	u := seats(t, m)
	if got := u.believed.mean[u.believed.bucket(6*second+second*3/4)]; got != 1 {
		t.Errorf("%v believed after the kill was asked for, must be 1", got)
	}
}

func TestWithoutALogStatusTellsTheUse(t *testing.T) {
	m := small("")
	m.audit.Entries = nil
	for i := range m.ops {
		if v, ok := m.ops[i].Value.(*history.Status); ok && v.Result == history.Done {
			v.Pools = []history.PoolUse{{Tenant: "default", Feature: "cad", Total: 2, InUse: 2}}
		}
	}
	u := seats(t, m)
	if f := drawSeats(u, nil); u.committed.highest() != 2 || !strings.Contains(f.Note, "no log") {
		t.Errorf("at most %v committed, %q", u.committed.highest(), f.Note)
	}
}

func TestQuantilesAreCloseToTheTruth(t *testing.T) {
	var s spread
	for i := range int64(1000) {
		s.add((i + 1) * 1e6)
	}
	for q, want := range map[float64]float64{.5: 500e6, .99: 990e6, 1: 1000e6} {
		if got := float64(s.quantile(q)); got < want*.92 || got > want*1.09 {
			t.Errorf("q %v is %v, must be about %v", q, got, want)
		}
	}
}

func TestLagIsBehindTheForemost(t *testing.T) {
	f := raftOf(small("").run(t), nil, nil)
	b := newSpan(10*second, lagBuckets).bucket(6*second + 2e6)
	if f.lags["n1"][b] != 3 || f.lags["n2"][b] != 0 {
		t.Errorf("n1 %v, n2 %v behind; must be 3 and 0", f.lags["n1"][b], f.lags["n2"][b])
	}
}

func TestFamiliesHaveAColour(t *testing.T) {
	for name, want := range map[string]string{"partition-ring": "network", "kill": "process", "power-all-torn": "power", "bit-flip-log": "disk",
		"clock-rate": "clock", "leader-flap": "cluster", "meteor": "other"} {
		if got := classOfFamily(name); got != want {
			t.Errorf("%s is %s, must be %s", name, got, want)
		}
	}
}

func TestGapBeyondThePromiseIsMarked(t *testing.T) {
	m := small("")
	m.test.Limits.GapsNS = map[string]int64{"partition-one": second}
	r := m.run(t)
	list := familiesOf(r, checker.Gaps(r))
	if len(list) != 2 || !list[0].Over() || list[0].Longest < second || list[1].Over() {
		t.Errorf("families %+v", list)
	}
}

func TestCommandRepeatsTheRun(t *testing.T) {
	m := small("")
	if got := guessRepeat(m.run(t)); got != "make jepsen SEED=7" {
		t.Error(got)
	}
	r := m.run(t)
	r.Faults[1].From = r.Faults[0].From
	r.Phases[history.PhaseHealed] = r.Phases[history.PhaseFaults] + 1800*second
	if got := guessRepeat(r); got != "make jepsen-long HOURS=0.5 NODES=2 SEED=7" {
		t.Error(got)
	}
}

func TestTicksAreRound(t *testing.T) {
	labels := func(list []tick) (s string) {
		for _, x := range list {
			s += x.label + " "
		}
		return strings.TrimSpace(s)
	}
	for top, want := range map[float64]string{0: "0 1", 1: "0 1", 3: "0 1 2 3", 6: "0 2 4 6", 45: "0 20 40", 400: "0 100 200 300 400", 1e6: "0 500000 1000000"} {
		list, scale := countTicks(top, 1)
		if got := labels(list); got != want || scale < top {
			t.Errorf("up to %v: %s on a scale of %v, must be %s", top, got, scale, want)
		}
	}
	for end, want := range map[int64]string{10 * second: "0 s 2 s 4 s 6 s 8 s 10 s", 260 * second: "0 s 1:00 2:00 3:00 4:00", 7200 * second: "0 s 30:00 1:00:00 1:30:00 2:00:00"} {
		if got := labels(timeTicks(end, 6)); got != want {
			t.Errorf("%d s: %s, must be %s", end/second, got, want)
		}
	}
}
