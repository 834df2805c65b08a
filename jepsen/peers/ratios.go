package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// spread is a number in every round.
type spread []float64

func (s spread) median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

func (s spread) String() string {
	if len(s) == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s..%s)", short(s.median()), short(slices.Min(s)), short(slices.Max(s)))
}

// short writes a number with about three digits.
func short(f float64) string {
	switch {
	case f >= 10_000:
		return fmt.Sprintf("%.1fk", f/1000)
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

// count says how many clients.
func count(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprintf("%d clients", n)
}

// what is read of a row.
type field func(load.Row) float64

func perSecond(r load.Row) float64 { return r.PerSecond }
func p50(r load.Row) float64       { return r.Latency.P50 }
func p99(r load.Row) float64       { return r.Latency.P99 }

// series is one line of a table: a row of one run.
type series struct {
	title    string
	run, row string
}

// of is the field of a series in every round.
func (r *results) of(s series, clients int, f field) spread {
	var out spread
	for _, round := range r.Rounds {
		report := round[s.run]
		if report == nil {
			continue
		}
		if row, ok := report.Row(s.row, clients); ok {
			out = append(out, f(row))
		}
	}
	return out
}

// value is a value of a run in every round.
func (r *results) value(run, name string) spread {
	var out spread
	for _, round := range r.Rounds {
		if report := round[run]; report != nil {
			if v, ok := report.Find(name); ok {
				out = append(out, v.Value)
			}
		}
	}
	return out
}

// elections counts them in all runs that kill nobody, and the minutes of load in these.
func (r *results) elections() (n, minutes float64) {
	count := func(report *load.Report) {
		if report == nil {
			return
		}
		v, _ := report.Find("elections during the run")
		n += v.Value
		for _, row := range report.Rows {
			if !strings.HasSuffix(row.Name, "checkout") && !strings.HasSuffix(row.Name, "checkin") { // parts of rows
				minutes += (row.Seconds + row.WarmupSeconds) / 60
			}
		}
	}
	for _, round := range r.Rounds {
		count(round[runCycle])
		count(round[runPipelined])
		count(round[runWal])
		count(round[runSegments])
		count(round[runHeartbeat])
	}
	count(r.Single["steady"])
	count(r.Single["surge"])
	return n, minutes
}

// over divides round by round: what changed between rounds changed for both.
func over(a, b spread) spread {
	var out spread
	for i := range min(len(a), len(b)) {
		if b[i] > 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return out
}

// better is the larger of the two in every round.
func better(a, b spread) spread {
	out := slices.Clone(a)
	for i := range min(len(a), len(b)) {
		out[i] = max(a[i], b[i])
	}
	return out
}

// lower is the smaller of the two in every round.
func lower(a, b spread) spread {
	out := slices.Clone(a)
	for i := range min(len(a), len(b)) {
		out[i] = min(a[i], b[i])
	}
	return out
}

var (
	ours       = series{"Seatkeeper, 3 nodes, durable: cycle, unary", runCycle, "cycle"}
	pipelined  = series{"Seatkeeper, 3 nodes, durable: cycle, pipelined (calls share streams)", runPipelined, "cycle"}
	wal        = series{"Seatkeeper, 3 nodes, durable: cycle, unary, log in segment files (log_store: wal)", runWal, "cycle"}
	segments   = series{"Seatkeeper, 3 nodes, durable: cycle, pipelined, log in segment files (log_store: wal)", runSegments, "cycle"}
	etcdEach   = series{"etcd, 3 members, lease per checkout (unary)", runEtcd, "cycle, lease per checkout"}
	etcdOnce   = series{"etcd, 3 members, lease per session (unary)", runEtcd, "cycle, lease per session"}
	redisOne   = series{"Redis, 1 node, appendfsync always", runRedis, "cycle"}
	plainEcho  = series{"plain gRPC echo (two are one cycle)", runEcho, "plain grpc echo"}
	ourEcho    = series{"health check of the leader", runCycle, "grpc echo"}
	cycles     = []series{ours, pipelined, wal, segments, etcdEach, etcdOnce, redisOne}
	beatsOurs  = []series{{"Seatkeeper, unary", runHeartbeat, "heartbeat unary"}, {"Seatkeeper, streams", runHeartbeat, "heartbeat stream"}, {"Seatkeeper, 100 sessions a message", runHeartbeat, "heartbeat batch"}, {"Seatkeeper, streams of 100 sessions a message", runHeartbeat, "heartbeat stream-batch"}}
	beatsEtcd  = []series{{"etcd KeepAlive, unary, NOT replicated", runEtcd, "heartbeat unary"}, {"etcd KeepAlive, streams, NOT replicated", runEtcd, "heartbeat stream"}}
	heartbeats = slices.Concat(beatsOurs, beatsEtcd)
)

// clients are the numbers of clients of a series, in order.
func (r *results) clients(list ...series) []int {
	var out []int
	for _, round := range r.Rounds {
		for _, s := range list {
			if report := round[s.run]; report != nil {
				for _, row := range report.Rows {
					if row.Name == s.row && !slices.Contains(out, row.Clients) {
						out = append(out, row.Clients)
					}
				}
			}
		}
	}
	slices.SortFunc(out, cmp.Compare[int])
	return out
}

// ratio is one line of the table that the whole comparison is for.
type ratio struct {
	what, goal string
	value      spread
}

func (r *results) ratios() []ratio {
	var list []ratio
	add := func(what, goal string, v spread) {
		if len(v) > 0 {
			list = append(list, ratio{what, goal, v})
		}
	}
	for _, n := range r.clients(ours) {
		rate := func(s series) spread { return r.of(s, n, perSecond) }
		goal := ""
		if n > 1 {
			goal = "3 or more, aim 5"
		}
		etcd := better(rate(etcdEach), rate(etcdOnce))
		add(fmt.Sprintf("cycles/s, Seatkeeper unary / etcd's better variant, %s", count(n)), goal, over(rate(ours), etcd))
		add(fmt.Sprintf("cycles/s, Seatkeeper pipelined / etcd's better variant (unary), %s", count(n)), goal, over(rate(pipelined), etcd))
		add(fmt.Sprintf("cycles/s, Seatkeeper unary, log_store wal / etcd's better variant, %s", count(n)), goal, over(rate(wal), etcd))
		add(fmt.Sprintf("cycles/s, Seatkeeper pipelined, log_store wal / etcd's better variant (unary), %s", count(n)), goal, over(rate(segments), etcd))
		add(fmt.Sprintf("cycles/s, Seatkeeper pipelined / unary, %s", count(n)), "", over(rate(pipelined), rate(ours)))
		add(fmt.Sprintf("cycles/s, Seatkeeper / etcd with a lease per checkout, %s", count(n)), "", over(rate(ours), rate(etcdEach)))
		add(fmt.Sprintf("cycles/s, Seatkeeper / Redis (one node), %s", count(n)), "", over(rate(ours), rate(redisOne)))
	}
	for _, n := range r.clients(ours) {
		lat := func(s series) spread { return r.of(s, n, p99) }
		goal := ""
		if n == 64 {
			goal = "below 0.33"
		}
		etcd := lower(lat(etcdEach), lat(etcdOnce))
		add(fmt.Sprintf("p99 of a cycle, Seatkeeper unary / etcd's better variant, %s", count(n)), goal, over(lat(ours), etcd))
		add(fmt.Sprintf("p99 of a cycle, Seatkeeper pipelined / etcd's better variant (unary), %s", count(n)), goal, over(lat(pipelined), etcd))
		add(fmt.Sprintf("p99 of a cycle, Seatkeeper unary, log_store wal / etcd's better variant, %s", count(n)), goal, over(lat(wal), etcd))
		add(fmt.Sprintf("p99 of a cycle, Seatkeeper pipelined, log_store wal / etcd's better variant (unary), %s", count(n)), goal, over(lat(segments), etcd))
	}
	for _, n := range r.clients(ours) {
		twice := over(r.of(ours, n, perSecond), r.of(ourEcho, n, perSecond))
		for i := range twice {
			twice[i] *= 2
		}
		add(fmt.Sprintf("share of the gRPC echo limit (two calls a cycle), %s", count(n)), "", twice)
	}
	add("one checkout alone / (two fsyncs + round trip + echo), medians", "2 or less", r.value(runCycle, valueAloneRatio))
	add("one checkout alone / (two fsyncs + round trip + echo), medians, log_store wal", "2 or less", r.value(runWal, valueAloneRatio))
	for _, n := range r.clients(beatsOurs...) {
		goal := ""
		if n == 64 {
			goal = "1.5 or more"
		}
		add(fmt.Sprintf("heartbeats/s, replicated unary / etcd's unreplicated unary, %s", count(n)), goal,
			over(r.of(beatsOurs[0], n, perSecond), r.of(beatsEtcd[0], n, perSecond)))
		add(fmt.Sprintf("heartbeats/s, replicated on streams / etcd's unreplicated unary, %s", count(n)), "",
			over(r.of(beatsOurs[1], n, perSecond), r.of(beatsEtcd[0], n, perSecond)))
	}
	return list
}

func printRatios(w io.Writer, r *results) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "RATIO, median (min..max) of %d rounds\tVALUE\tGOAL\n", len(r.Rounds))
	for _, each := range r.ratios() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", each.what, each.value, each.goal)
	}
	t.Flush()
}
