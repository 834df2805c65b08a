package main

import (
	"fmt"
	"strconv"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// Names of the rows and values of Seatkeeper's reports that the page looks for. A test of
// package bench compares them with what the reports have.
const (
	rowFailover       = "failover"
	valueSteadyCores  = "cores of the leader, heartbeat unary, 64 clients"
	valueAloneRatio   = "checkout alone / that bound (medians)"
	valueAlive        = "cores of the leader, heartbeats of all leases, batched"
	valueKills        = "kills"
	valueGrowth       = "checkout median at all leases / at few"
	valueExpiry       = "others' p99 while leases expire together / before"
	valueRestart      = "all nodes killed and started: to the next acknowledged checkout"
	valueHeap         = "heap per lease"
	valueRSS          = "resident set of the largest node at all leases"
	valueSnapshot     = "snapshot at all leases: applies stand still, mean"
	valueSixtyMean    = "mean of a checkout, 60 in flight"
	valuePoliteServed = "polite aggressors that were served"
)

// quietRows are what is measured beside each kind of aggressor.
var quietRows = []string{"quiet tenant beside polite ones", "quiet tenant beside rude ones", "quiet tenant beside streamed ones", "quiet clients in the tenant of a greedy one"}

// goal is something that was to be reached, and what was.
type goal struct {
	what, wanted string
	got          spread
	unit         string
	met          func(float64) bool // of the median; nil: it is only to be stated
}

func atLeast(x float64) func(float64) bool { return func(v float64) bool { return v >= x } }
func atMost(x float64) func(float64) bool  { return func(v float64) bool { return v <= x } }

func (g goal) verdict() string {
	switch {
	case len(g.got) == 0:
		return "not measured"
	case g.met == nil:
		return "stated"
	case g.met(g.got.median()):
		return "reached"
	}
	return "**not reached**"
}

func (g goal) text() string {
	switch {
	case len(g.got) == 0:
		return "–"
	case len(g.got) == 1:
		return short(g.got[0]) + g.unit
	}
	return g.got.String() + g.unit
}

// single is a value of a run that is of Seatkeeper alone, divided by unit.
func (r *results) single(run, name string, unit float64) spread {
	if report := r.Single[run]; report != nil {
		if v, ok := report.Find(name); ok {
			return spread{v.Value / unit}
		}
	}
	return nil
}

// singleRow is a field of a row of such a run, divided by unit.
func (r *results) singleRow(run, name string, f field, unit float64) spread {
	if report := r.Single[run]; report != nil {
		if row, ok := report.Row(name, 0); ok {
			return spread{f(row) / unit}
		}
	}
	return nil
}

// setting is a number that a run was told.
func (r *results) setting(run, name string) float64 {
	if report := r.Single[run]; report != nil {
		n, _ := strconv.ParseFloat(report.Settings[name], 64)
		return n
	}
	return 0
}

func (r *results) goals() []goal {
	list := r.speedGoals()
	list = append(list, r.failoverGoals()...)
	list = append(list, r.growthGoals()...)
	return append(list, r.surgeGoals()...)
}

func (r *results) speedGoals() (list []goal) {
	for _, n := range []int{64, 256} {
		etcd := better(r.of(etcdEach, n, perSecond), r.of(etcdOnce, n, perSecond))
		for _, s := range []struct {
			series
			name string
		}{{ours, "unary"}, {pipelined, "pipelined"}, {wal, "unary, log_store wal (opt-in)"}, {segments, "pipelined, log_store wal (opt-in)"}} {
			list = append(list, goal{fmt.Sprintf("durable cycles/s / etcd's better variant, %d clients, %s", n, s.name), "3 times (aim 5)",
				over(r.of(s.series, n, perSecond), etcd), " times", atLeast(3)})
		}
	}
	tail := lower(r.of(etcdEach, 64, p99), r.of(etcdOnce, 64, p99))
	for _, s := range []struct {
		series
		name string
	}{{ours, "unary"}, {pipelined, "pipelined"}, {wal, "unary, log_store wal (opt-in)"}, {segments, "pipelined, log_store wal (opt-in)"}} {
		list = append(list, goal{"p99 of a cycle / etcd's better variant, 64 clients, " + s.name, "below 0.33", over(r.of(s.series, 64, p99), tail), "", atMost(0.33)})
	}
	for _, n := range []int{1, 64, 256} {
		share := over(r.of(ours, n, perSecond), r.of(ourEcho, n, perSecond))
		for i := range share {
			share[i] *= 200
		}
		list = append(list, goal{fmt.Sprintf("share of the gRPC echo limit, unary, %s", count(n)), "to be stated", share, " %", nil})
	}
	unary, stream, batch := beatsOurs[0], beatsOurs[1], beatsOurs[3]
	return append(list,
		goal{"replicated heartbeats/s, unary / etcd's unreplicated unary, 64 clients", "1.5 times", over(r.of(unary, 64, perSecond), r.of(beatsEtcd[0], 64, perSecond)), " times", atLeast(1.5)},
		goal{"replicated heartbeats/s, streamed / etcd's unreplicated unary, 64 clients", "1.5 times", over(r.of(stream, 64, perSecond), r.of(beatsEtcd[0], 64, perSecond)), " times", atLeast(1.5)},
		goal{"replicated heartbeats/s, streamed, 64 clients", "above 60,000", r.of(stream, 64, perSecond), "", atLeast(60_000)},
		goal{"sessions renewed/s, streams of batches, 64 clients", "above 1,000,000", r.of(batch, 64, perSecond), "", atLeast(1_000_000)},
		goal{fmt.Sprintf("cores of the leader for %.0f live sessions of the default profile, unary", r.setting("steady", "sessions")), "below 0.25",
			r.single("steady", valueSteadyCores, 1), "", atMost(0.25)},
		goal{fmt.Sprintf("cores of the leader for %.0f leases, a session each, renewed in batches", r.setting("million", "leases")), "below 1",
			r.single("million", valueAlive, 1), "", atMost(1)},
		goal{"one checkout alone / (two fsyncs, a round trip, an echo)", "2 times", r.value(runCycle, valueAloneRatio), " times", atMost(2)},
		goal{"one checkout alone / (two fsyncs, a round trip, an echo), log_store wal (opt-in)", "2 times", r.value(runWal, valueAloneRatio), " times", atMost(2)},
	)
}

func (r *results) failoverGoals() []goal {
	kills := r.single("failover", valueKills, 1).median()
	p95 := func(row load.Row) float64 { return row.Latency.P95 }
	elections, minutes := r.elections()
	return []goal{
		{fmt.Sprintf("failover, median of %.0f kills", kills), "below 0.8 s", r.singleRow("failover", rowFailover, p50, 1e6), " s", atMost(0.8)},
		{fmt.Sprintf("failover, p95 of %.0f kills", kills), "below 1.5 s", r.singleRow("failover", rowFailover, p95, 1e6), " s", atMost(1.5)},
		{fmt.Sprintf("elections in %.0f minutes of full load", minutes), "none in 10 minutes", spread{elections}, "", atMost(0)},
	}
}

func (r *results) growthGoals() []goal {
	leases := fmt.Sprintf("%.0f leases", r.setting("million", "leases"))
	value := func(name string, unit float64) spread { return r.single("million", name, unit) }
	return []goal{
		{"checkout median at " + leases + fmt.Sprintf(" / at %.0f", r.setting("million", "few")), "1.3 times", value(valueGrowth, 1), " times", atMost(1.3)},
		{fmt.Sprintf("others' p99 while %.0f leases expire together / before", r.setting("million", "expiring")), "3 times", value(valueExpiry, 1), " times", atMost(3)},
		{"all nodes killed and started with " + leases + ": to the next checkout", "seconds (below 10)", value(valueRestart, 1), " s", atMost(10)},
		{"heap of the leader per lease at " + leases, "300 bytes", value(valueHeap, 1), " bytes", atMost(300)},
		{"resident set of a node at " + leases, "below 1 GB", value(valueRSS, 1e9), " GB", atMost(1)},
		{"a snapshot of " + leases + " stalls applies", "below 10 ms", value(valueSnapshot, 1), " ms", atMost(10)},
	}
}

func (r *results) surgeGoals() (list []goal) {
	n := r.setting("surge", "aggressive")
	for _, row := range quietRows {
		list = append(list, goal{row + ": p99 / alone", "3 times (aim 1.5)", r.single("surge", "p99, "+row+" / alone", 1), " times", atMost(3)})
	}
	for _, row := range quietRows {
		list = append(list, goal{row + ": refused or failed", "none", r.single("surge", "refused or failed, "+row, 1), "", atMost(0)})
	}
	return append(list,
		goal{valueSixtyMean, "below 5 ms", r.single("surge", valueSixtyMean, 1000), " ms", atMost(5)},
		goal{valuePoliteServed, fmt.Sprintf("all %.0f", n), r.single("surge", valuePoliteServed, 1), "", atLeast(n)})
}

func goalsTable(say sayer, r *results) {
	say("## What was to be reached\n")
	say("Of several rounds the median counts; the runs of Seatkeeper alone are one each. Everything that was acknowledged is on the disks of a")
	say("majority (fsync). Where processor time goes, before and after what was tried, stands in [rpc/DESIGN.md](rpc/DESIGN.md), *Where time goes*.\n")
	say("| what | wanted | got | |\n|---|---|---|---|")
	for _, g := range r.goals() {
		say("| %s | %s | %s | %s |", g.what, g.wanted, g.text(), g.verdict())
	}
	say("")
}
