package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// round makes the reports of a round in which everything does so many a second.
func round(ours, etcdEach, etcdOnce float64) map[string]*load.Report {
	got := map[string]*load.Report{}
	put := func(run, name string, clients int, perSecond float64) {
		if got[run] == nil {
			got[run] = &load.Report{Schema: load.Schema, System: run, Version: "v1", Notes: []string{"a note"}}
		}
		got[run].Rows = append(got[run].Rows, load.Row{Name: name, Clients: clients, Count: 1, PerSecond: perSecond,
			Latency: load.Latency{P50: 1e6 / perSecond, P99: 2e6 / perSecond}})
	}
	for _, n := range []int{1, 64} {
		put(runCycle, "cycle", n, ours)
		put(runCycle, "grpc echo", n, 10*ours)
		put(runPipelined, "cycle", n, 2*ours)
		put(runEtcd, "cycle, lease per checkout", n, etcdEach)
		put(runEtcd, "cycle, lease per session", n, etcdOnce)
		put(runEtcd, "heartbeat unary", n, 100)
		put(runHeartbeat, "heartbeat unary", n, 200)
		put(runRedis, "cycle", n, 1000)
		put(runEcho, "plain grpc echo", n, 5000)
	}
	return got
}

func TestRatiosAreTakenWithinTheirRound(t *testing.T) {
	// The machine is twice as fast in the second round, and the better variant of etcd
	// is another one: the ratio is 5 and 4.
	r := &results{Rounds: []map[string]*load.Report{round(1000, 100, 200), round(2000, 500, 400)}}
	for _, each := range r.ratios() {
		want := ""
		switch each.what {
		case "cycles/s, Seatkeeper unary / etcd's better variant, 64 clients":
			want = "4.50 (4.00..5.00)"
		case "cycles/s, Seatkeeper pipelined / etcd's better variant (unary), 64 clients":
			want = "9.00 (8.00..10.0)"
		case "share of the gRPC echo limit (two calls a cycle), 1 client":
			want = "0.20 (0.20..0.20)"
		case "heartbeats/s, replicated unary / etcd's unreplicated unary, 64 clients":
			want = "2.00 (2.00..2.00)"
		default:
			continue
		}
		if each.value.String() != want {
			t.Errorf("%s: %s, want %s", each.what, each.value, want)
		}
	}
	if n := len(r.ratios()); n != 18 {
		t.Errorf("%d ratios, want 18: nine for each number of clients", n)
	}
}

func TestPageAndPlotsAreMadeFromResultsAlone(t *testing.T) {
	r := &results{Rounds: []map[string]*load.Report{round(1000, 100, 200)}, Commands: []string{"seatkeeper bench cycle"}, Single: map[string]*load.Report{
		"surge": {Rows: []load.Row{{Name: "quiet tenant alone", Clients: 4, Latency: load.Latency{P50: 1, P90: 2, P95: 2, P99: 3, Max: 4}}}},
	}}
	text := string(page(r, "docs/bench"))
	for _, want := range []string{"Written by make bench", "## Ratios", "| 5.00 (5.00..5.00) | 3 or more, aim 5 |", "](docs/bench/surge.svg)", "## What was to be reached",
		"## What is not comparable", "seatkeeper bench cycle", "a note"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in the page", want)
		}
	}
	dir := t.TempDir()
	if err := drawPlots(r, dir); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(dir + "/*.svg")
	if len(files) != 4 {
		t.Errorf("plots: %v, want 4", files)
	}
	for _, f := range files {
		if data, err := os.ReadFile(f); err != nil || !strings.Contains(string(data), "<svg") {
			t.Errorf("%s is no SVG: %v", f, err)
		}
	}
}

func TestMedianIsOfAllRounds(t *testing.T) {
	for _, each := range []struct {
		s    spread
		want float64
	}{{nil, 0}, {spread{3}, 3}, {spread{3, 1}, 2}, {spread{9, 1, 4}, 4}} {
		before := slices.Clone(each.s)
		if got := each.s.median(); got != each.want || !slices.Equal(before, each.s) {
			t.Errorf("median of %v is %v, want %v", before, got, each.want)
		}
	}
}
