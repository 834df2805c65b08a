package main

import (
	"bufio"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

// testMetrics compares what a node that has worked exposes with docs/metrics.md, by which
// alert rules and dashboards go.
func testMetrics(t *testing.T, ready devReady) {
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	listed, always := map[string]string{}, 0
	for _, m := range regexp.MustCompile("(?m)^\\| `(seatkeeper_[a-z_]+)` \\| ([a-z]+) \\| ([a-z, ]*)\\|").FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = m[2]
	}
	resp, err := http.Get("http://" + ready.Addresses[0] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	told := map[string]string{}
	for in := bufio.NewScanner(resp.Body); in.Scan(); {
		if f := strings.Fields(in.Text()); len(f) == 4 && f[1] == "TYPE" && strings.HasPrefix(f[2], "seatkeeper_") {
			told[f[2]] = f[3]
		}
	}
	for name, kind := range told {
		library := strings.HasPrefix(name, "seatkeeper_raft_") || strings.HasPrefix(name, "seatkeeper_memberlist_")
		if listed[name] != kind && !(library && listed[name] == "") {
			t.Errorf("%s is a %s, docs/metrics.md has %q", name, kind, listed[name])
		}
	}
	for name, kind := range listed {
		plain := regexp.MustCompile("`" + name + "` \\| " + kind + " \\| +\\|").MatchString(string(text))
		if !plain {
			continue // shows up with its first use
		}
		always++
		if _, ok := told[name]; !ok && !strings.HasPrefix(name, "seatkeeper_raft_") {
			t.Errorf("docs/metrics.md lists %s, which no node tells", name)
		}
	}
	if always < 20 {
		t.Errorf("%d metrics of the list are always there", always)
	}
	for _, name := range []string{"seatkeeper_pool_seats", "seatkeeper_pool_seats_in_use", "seatkeeper_rpc_requests_total"} {
		if told[name] == "" {
			t.Errorf("%s is not told", name)
		}
	}
}
