//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/bench"
	"github.com/seatkeeper/seatkeeper/bench/load"
)

// benchReport runs a benchmark as a process, which starts its own servers.
func benchReport(t *testing.T, args ...string) *load.Report {
	t.Helper()
	tmp := t.TempDir()
	p := start(t, []string{"TMPDIR=" + tmp}, append([]string{"bench", "-o", "json"}, args...)...)
	out := new(strings.Builder)
	_, _ = p.stdout.WriteTo(out)
	<-p.exited
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("bench %v: exit code %d: %s", args, code, p.stderr.String())
	}
	r := &load.Report{}
	if err := json.Unmarshal([]byte(out.String()), r); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if left, _ := filepath.Glob(tmp + "/*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return r
}

// Tests never look at how fast it is.
func TestBenchStartsServersMeasuresAndLeavesNothing(t *testing.T) {
	inFull(t)
	r := benchReport(t, "cycle", "--nodes", "1", "--clients", "1,4", "--duration", "500ms", "--warmup", "50ms", "--probe", "50ms")
	if r.Schema != load.Schema || r.Bench != "cycle" || r.System != "seatkeeper" || r.Settings["clients"] != "1,4" || r.Machine.Cores < 1 {
		t.Errorf("report %+v", r)
	}
	for _, n := range []int{1, 4} {
		if row, ok := r.Row(bench.RowCycle, n); !ok || row.Count < 1 || row.Failed() > 0 {
			t.Errorf("%d clients: %+v", n, row)
		}
		if _, ok := r.Find(bench.EchoShare(n)); !ok {
			t.Errorf("%d clients: no share of the echo limit", n)
		}
	}
	if _, ok := r.Find(bench.ValueAloneRatio); !ok {
		t.Error("nothing is said of one checkout alone")
	}
}

func TestBenchFailoverKillsAndWaits(t *testing.T) {
	inFull(t)
	r := benchReport(t, "failover", "--kills", "1", "--clients", "2", "--rest", "10ms")
	for _, name := range []string{bench.RowFailover, bench.RowFailoverSDK} {
		if row, ok := r.Row(name, 0); !ok || row.Count != 1 || row.Latency.Min <= 0 {
			t.Errorf("%s: %+v, want one kill", name, row)
		}
	}
}

func TestBenchSurgeRunsAggressorsInAProcessOfTheirOwn(t *testing.T) {
	inFull(t)
	r := benchReport(t, "surge", "--nodes", "1", "--aggressive", "10", "--duration", "1s", "--warmup", "50ms")
	for _, style := range bench.Styles {
		if row, ok := r.Row(bench.RowAggressors(style), 10); !ok || row.Count < 1 {
			t.Errorf("%s aggressors: %+v", style, row)
		}
	}
}

func TestBenchRefusesWhatItCannotDo(t *testing.T) {
	for name, args := range map[string][]string{
		"kill somebody else's servers": {"bench", "failover", "--addr", "127.0.0.1:1"},
		"TLS":                          {"bench", "cycle", "--addr", "https://127.0.0.1:1"},
		"a benchmark that is none":     {"bench", "sprint"},
		"a number that is none":        {"bench", "cycle", "--clients", "many"},
	} {
		if code, _, stderr := run(t, nil, args...); code != exitUsage {
			t.Errorf("%s: exit code %d, want %d: %s", name, code, exitUsage, stderr)
		}
	}
}

func TestBenchTableAndBarSayWhatWasMeasured(t *testing.T) {
	r := load.NewReport("cycle", "seatkeeper", "v1", os.TempDir())
	r.Rows = append(r.Rows, load.Row{Name: "cycle", Clients: 64, PerSecond: 1234, Errors: map[string]int64{"overloaded": 3}, Latency: load.Latency{P50: 1500, P99: 2_000_000}})
	r.Add("heap", 200, "bytes")
	r.Notes = append(r.Notes, "warm-up is thrown away")
	var out strings.Builder
	table := newTable(&out)
	drawBench(table, r)
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1234", "1.5ms", "2s", "overloaded 3", "200 bytes", "- warm-up is thrown away"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	var drawn strings.Builder
	b := newStepBar(&drawn)
	b.draw("kills", 0, 0, 5, 10)
	if got := drawn.String(); !strings.Contains(got, "[############............] kills: 5 of 10") {
		t.Errorf("bar %q", got)
	}
}
