package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// page writes BENCHMARKS.md.
func page(r *results, plots string) []byte {
	var b bytes.Buffer
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	say("<!-- Written by make bench. Do not edit: measure again. -->")
	say("# Benchmarks\n")
	if r.Quick {
		say("**A quick run (`make bench QUICK=1`): it shows that everything works. The numbers are not to be quoted.**\n")
	}
	say("All servers and all clients share one machine, so only ratios of one run say something. Systems are measured in turn,")
	say("round after round; a ratio is taken within its round. Written as median (least..most) of %d rounds.\n", len(r.Rounds))
	goalsTable(say, r)
	machine(say, r)
	say("## Ratios\n")
	say("| ratio | measured | goal |\n|---|---|---|")
	for _, each := range r.ratios() {
		say("| %s | %s | %s |", each.what, each.value, each.goal)
	}
	say("\n## Checkout and check-in\n")
	say("One cycle takes a seat and gives it back. Cycles a second:\n")
	table(say, r, cycles, perSecond, 1)
	say("\nUnary: every checkout and every check-in is a gRPC call of its own, in ours as in etcd's. Pipelined: the clients of one connection (32)")
	say("share one gRPC stream of it, as sessions of the SDK do; each still waits for its answer before it asks again, and every answer is on")
	say("the disks of a majority all the same. etcd has no such stream for transactions, so this row compares what the systems offer, not how")
	say("well they do the same thing.\n")
	say("\n![cycles a second](%s/cycles.svg)\n", plots)
	say("Latency of a whole cycle in milliseconds, p50:\n")
	table(say, r, cycles, p50, 1000)
	say("\np99:\n")
	table(say, r, cycles, p99, 1000)
	say("\n![p99 of a cycle](%s/latency.svg)\n", plots)
	say("What gRPC alone can do, calls a second:\n")
	table(say, r, []series{ourEcho, plainEcho}, perSecond, 1)
	alone(say, r)
	say("\n## Heartbeats\n")
	say("Sessions renewed a second:\n")
	table(say, r, heartbeats, perSecond, 1)
	say("\n![heartbeats a second](%s/heartbeats.svg)\n", plots)
	singles(say, r, plots)
	notComparable(say)
	notes(say, r)
	say("## Commands\n")
	say("`make bench` (or `make bench QUICK=1`) ran, in turn:\n")
	say("```\n%s\n```\n", strings.Join(r.Commands, "\n"))
	say("From %s to %s: %.0f minutes.", r.Began.Format(time.RFC3339), r.Ended.Format(time.RFC3339), r.Ended.Sub(r.Began).Minutes())
	return b.Bytes()
}

type sayer func(format string, args ...any)

func machine(say sayer, r *results) {
	first := r.Rounds[0][runCycle]
	m := first.Machine
	say("## Machine and versions\n")
	say("| | |\n|---|---|")
	say("| CPU | %d × %s |\n| memory | %.0f GiB |\n| kernel | %s, %s |\n| file system | %s |\n| Go | %s |", m.Cores, m.CPU, float64(m.Memory)/(1<<30), m.Kernel, m.Arch, m.FileSystem, m.Go)
	var quiet []string
	for _, round := range r.Rounds {
		quiet = append(quiet, round[runCycle].Machine.LoadBefore)
	}
	say("| load average before each round | %s |", strings.Join(quiet, ", "))
	say("| fsync of a 4 KiB page, median | %s µs |", r.of(series{run: runCycle, row: "fsync"}, 1, p50))
	say("| round trip over loopback TCP, median | %s µs |", r.of(series{run: runCycle, row: "tcp round trip"}, 1, p50))
	elections, minutes := r.elections()
	say("| elections of Seatkeeper under load alone, all runs | %.0f in %.0f minutes of load |", elections, minutes)
	say("| Seatkeeper | %s |", first.Version)
	for _, name := range []string{runEtcd, runRedis, runEcho} {
		say("| %s | %s |", map[string]string{runEtcd: "etcd", runRedis: "Redis", runEcho: "grpc of the echo"}[name], r.Rounds[0][name].Version)
	}
	say("")
}

// table has a line for each series and a column for each number of clients.
func table(say sayer, r *results, list []series, f field, unit float64) {
	clients := r.clients(list...)
	head, rule := "| |", "|---|"
	for _, n := range clients {
		head += " " + count(n) + " |"
		rule += "---|"
	}
	say("%s\n%s", head, rule)
	for _, s := range list {
		line := "| " + s.title + " |"
		for _, n := range clients {
			v := r.of(s, n, f)
			for i := range v {
				v[i] /= unit
			}
			line += " " + v.String() + " |"
		}
		say("%s", line)
	}
}

func alone(say sayer, r *results) {
	checkout := r.of(series{run: runCycle, row: "cycle checkout"}, 1, p50)
	bound := r.value(runCycle, "two fsyncs, one TCP round trip and one gRPC echo (medians)")
	if len(checkout) == 0 || len(bound) == 0 {
		return
	}
	say("\nOne checkout alone takes %s µs (median); two fsyncs, a TCP round trip and a gRPC echo, measured in the same run, %s µs.", checkout, bound)
}

// singles are the runs of Seatkeeper alone.
func singles(say sayer, r *results, plots string) {
	for _, each := range []struct{ name, title, goal, plot string }{
		{"steady", "What heartbeats cost", "Sessions of the default profile renew every 40 s; each renewal is replicated. Goal: 100,000 sessions cost the leader less than a quarter of a core.", ""},
		{"failover", "Failover", "Goal: median below 0.8 s and p95 below 1.5 s to the next acknowledged checkout, default settings.", ""},
		{"surge", "A tenant that misbehaves", "Servers on one CPU, all clients on the other. Goals: the quiet tenant's p99 within 3 times its value alone (aim 1.5), none of its requests refused; mean at 60 in flight below 5 ms; all polite aggressors are served.", "surge.svg"},
		{"million", "Growth", "Goals: checkout median within 1.3 times, at most 300 bytes of heap per lease, below 1 GB resident, others' p99 within 3 times while leases expire together, seconds to serve after a restart.", ""},
	} {
		report := r.Single[each.name]
		if report == nil {
			continue
		}
		say("## %s\n\n%s\n", each.title, each.goal)
		rowsTable(say, report)
		if each.plot != "" {
			say("![%s](%s/%s)\n", each.title, plots, each.plot)
		}
	}
}

func rowsTable(say sayer, report *load.Report) {
	say("| | clients | per second | p50 ms | p95 ms | p99 ms | max ms | mean ms | refused or failed |\n|---|---|---|---|---|---|---|---|---|")
	for _, row := range report.Rows {
		l := row.Latency
		ms := func(us float64) string { return short(us / 1000) }
		if l == (load.Latency{}) {
			ms = func(float64) string { return "" }
		}
		var failed []string
		for _, reason := range slices.Sorted(maps.Keys(row.Errors)) {
			failed = append(failed, fmt.Sprintf("%s %d", reason, row.Errors[reason]))
		}
		if row.Unsent > 0 {
			failed = append(failed, fmt.Sprintf("not begun in time %d", row.Unsent))
		}
		say("| %s | %d | %s | %s | %s | %s | %s | %s | %s |", row.Name, row.Clients, perSecondText(row), ms(l.P50), ms(l.P95), ms(l.P99), ms(l.Max), ms(l.Mean), strings.Join(failed, ", "))
	}
	say("")
	if len(report.Values) > 0 {
		say("| | |\n|---|---|")
		for _, v := range report.Values {
			text := strings.TrimSpace(short(v.Value) + " " + v.Unit)
			switch {
			case v.Unit == "clients" || v.Unit == "times" || v.Unit == "requests":
				text = fmt.Sprintf("%.0f", v.Value)
			case v.Unit == "bytes" && v.Value > 10<<20:
				text = fmt.Sprintf("%.0f MiB", v.Value/(1<<20))
			}
			say("| %s | %s |", v.Name, text)
		}
		say("")
	}
}

// perSecondText is empty where a rate says nothing.
func perSecondText(row load.Row) string {
	if row.PerSecond == 0 {
		return ""
	}
	return short(row.PerSecond)
}

func notComparable(say sayer) {
	say("## What is not comparable\n")
	for _, line := range []string{
		"Redis is one node: what it acknowledged is on one disk. Seatkeeper and etcd acknowledge when a majority of three has it on disk.",
		"An etcd KeepAlive is answered from the leader's memory and renews nothing in the log; every heartbeat of Seatkeeper is a replicated, synced entry.",
		"The etcd and Redis workers do the least that a seat needs. There is no policy, no licence, no dedupe of retries, no usage record; etcd's clients never want the same key.",
		"With one lease per session etcd frees nothing if a client forgets one of several seats; a lease per checkout is the closer equivalent, but the ratio to the better variant is what counts here: of the two the one with more cycles, or the lower p99, in each round.",
		"log_store wal is opt-in. The default is bolt, and the rows without a name for the log are of it.",
		"Seatkeeper's clients are spread over tenants, because a server takes only so many requests at once from each; etcd and Redis have no such limit.",
		"Batched and streamed heartbeats have many renewals in one message or on their way; unary ones have one per client.",
		"Nodes and clients share the CPUs and the disk; there is no network. On separate machines all rates are higher and all ratios different.",
		"The other licence servers are not measured: they cannot be had as packages.",
	} {
		say("- %s", line)
	}
	say("")
}

// notes are what the runs themselves say, each once.
func notes(say sayer, r *results) {
	say("## What the runs say\n")
	var seen []string
	add := func(report *load.Report) {
		if report == nil {
			return
		}
		for _, n := range report.Notes {
			line := fmt.Sprintf("%s, %s: %s", report.System, report.Bench, n)
			if !slices.Contains(seen, line) {
				seen = append(seen, line)
				say("- %s", line)
			}
		}
	}
	for _, name := range []string{runCycle, runPipelined, runWal, runSegments, runHeartbeat, runEtcd, runRedis, runEcho} {
		add(r.Rounds[0][name])
	}
	for _, name := range []string{"steady", "failover", "surge", "million"} {
		add(r.Single[name])
	}
	say("")
}
