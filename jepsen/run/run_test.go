package run

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// applied is what "seatkeeper debug log" prints.
const applied = `{"snapshot":{"index":"2","term":"1","epoch":"1","now_ns":"5","calendar_ms":"9","leases":[]},"hash":"aa"}
{"index":"3","term":"2","now_ns":"5","stamp_ns":"0","calendar_ms":"1000","epoch":"3","stale":false,"hash":"bb","lead":{"node":"n1-1","api_address":"10.0.0.1:7800","cluster_id":"c"},"commands":[]}
{"index":"4","term":"2","now_ns":"6","stamp_ns":"6","calendar_ms":"1001","epoch":"3","stale":false,"hash":"cc","commands":[{"kind":"install_licence","licence":{"id":"L","tenant":"default","entitlements":[{"feature":"cad","version":"1.0","count":2,"start_ms":"0","expiry_ms":"0","serial":"s","lifespan_ns":"7","grace_ns":"8","share_by":3,"share_max_sessions":4}]},"result":{}}]}
{"index":"5","term":"2","now_ns":"7","stamp_ns":"7","calendar_ms":"1002","epoch":"3","stale":false,"hash":"dd","commands":[{"kind":"checkout","session":"ab","seq":"1","principal":{"user":"ann","host":"ws1"},"items":[{"feature":"cad","version":"","count":1}],"result":{"leases":[{"id":"18446744073709551615","token":"5","feature":"cad","count":1,"seats":[1],"deadline_ns":"14"}]}},{"kind":"expire","refs":[{"id":"7","token":"3"}],"rev":"2","result":{}},{"kind":"checkin","refs":[{"id":"9","token":"4"}],"reason":1,"result":{"released":[{"id":"9","token":"4","feature":"cad","reason":"normal"}]}}]}
{"dropped":3}
`

func TestTheServersLogBecomesAnAudit(t *testing.T) {
	a, err := readApplied(strings.NewReader(applied), "n1")
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Entries) != 4 {
		t.Fatalf("%d entries", len(a.Entries))
	}
	if e := a.Entries[0]; !e.Snapshot || e.Index != 2 || e.Hash != "aa" {
		t.Errorf("snapshot %+v", e)
	}
	if e := a.Entries[1]; e.Lead == nil || e.Epoch != 0 || e.WallMS != 1000 {
		t.Errorf("lead %+v", e)
	}
	if e := a.Entries[2].Commands[0].Licence.Entitlements[0]; e.ShareBy != "uh" || e.ShareMax != 4 || e.LifespanNS != 7 {
		t.Errorf("entitlement %+v", e)
	}
	c := a.Entries[3].Commands
	if c[0].User != "ann" || c[0].Host != "ws1" || c[0].Result.Leases[0].ID != 1<<64-1 {
		t.Errorf("checkout %+v", c[0])
	}
	if c[1].ID != 7 || c[1].Token != 3 || c[1].Rev != 2 {
		t.Errorf("expire %+v", c[1])
	}
	if c[2].Reason != "normal" || len(c[2].Result.Released) != 1 {
		t.Errorf("check-in %+v", c[2])
	}
}

func TestWhatASnapshotSwallowedIsToldByTheRunningNode(t *testing.T) {
	e := func(index uint64, hash string) history.Entry { return history.Entry{Index: index, Hash: hash} }
	final := &history.Audit{Node: "n1", Entries: []history.Entry{{Index: 3, Hash: "c", Snapshot: true}, e(4, "d")}}
	told := &history.Audit{Entries: []history.Entry{e(1, "a"), e(2, "b"), e(3, "c"), e(1, "a"), e(2, "x"), e(4, "d"), e(5, "lost")}}
	var got []string
	for _, x := range whole(final, told).Entries {
		got = append(got, x.Hash)
	}
	if want := "a b x c c d"; strings.Join(got, " ") != want {
		t.Errorf("hashes %v, want %s", got, want)
	}
}

func TestANodeThatToldAnotherHashThanItsReplayIsNoted(t *testing.T) {
	final := &history.Audit{Entries: []history.Entry{{Index: 1, Term: 1, Hash: "a"}, {Index: 2, Term: 1, Hash: "b"}, {Index: 3, Term: 2, Hash: "c"}}}
	told := &history.Audit{Entries: []history.Entry{{Index: 1, Term: 1, Hash: "a"}, {Index: 2, Term: 1, Hash: "x"}, {Index: 3, Term: 1, Hash: "lost with its disk"}}}
	var got []string
	for _, e := range whole(final, told).Entries {
		got = append(got, e.Told)
	}
	if want := []string{"", "x", ""}; !slices.Equal(got, want) {
		t.Errorf("told otherwise %q, want %q", got, want)
	}
}

// stored makes the folder of a run with this history.
func stored(t *testing.T, ops string) string {
	t.Helper()
	dir := t.TempDir()
	test := checker.Test{Nodes: []string{"n1", "n2", "n3"}, Pools: []checker.Pool{{Feature: "cad", Total: 2, LifespanNS: 4e9, GraceNS: 2e9}},
		Limits: checker.DefaultLimits(), Require: checker.DefaultRequire()}
	if err := writeEDN(dir, testFile, &test); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/"+historyFile, []byte(ops), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestARunInWhichNothingHappenedIsNotConclusive(t *testing.T) {
	for name, ops := range map[string]string{
		"no operation": "",
		"phases only":  `{:index 0, :time 1, :process :nemesis, :type :info, :f :phase, :value {:name "healed"}}` + "\n",
		"a fault that did not bite": `{:index 0, :time 1, :process :nemesis, :type :info, :f :start, :value {:id "f1", :family "kill", :bit false}}
{:index 1, :time 2, :process :nemesis, :type :info, :f :stop, :value {:id "f1", :family "kill", :bit false}}
`,
	} {
		report, err := Judge(stored(t, ops))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if report.Exit() != checker.ExitNotConclusive {
			t.Errorf("%s: %s", name, report.Result)
		}
	}
}

func TestAFolderThatHoldsARunIsNotWrittenOver(t *testing.T) {
	if err := freshDir(stored(t, "")); err == nil {
		t.Error("the folder was taken")
	}
}

func TestEveryMutantNamesAKnownChecker(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range Mutants() {
		if seen[m.Name] || (m.Broken == "") == (m.Client == "") || m.Checker == "" || m.Scene == nil || m.What == "" {
			t.Errorf("mutant %+v", m)
		}
		seen[m.Name] = true
	}
}
