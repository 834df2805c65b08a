package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// results are everything that one comparison showed; the page is made from them alone.
type results struct {
	Began, Ended time.Time
	Quick        bool
	// Commands as they ran, in order, without repetitions.
	Commands []string
	// Rounds hold the runs that are compared, by name; all systems are in each.
	Rounds []map[string]*load.Report
	// Single runs are of Seatkeeper alone.
	Single map[string]*load.Report
}

// Names of the runs of a round.
const (
	runCycle     = "cycle"
	runPipelined = "cycle, pipelined"
	runWal       = "cycle, log_store wal"
	runSegments  = "cycle, pipelined, log_store wal"
	runHeartbeat = "heartbeat"
	runEtcd      = "etcd"
	runRedis     = "redis"
	runEcho      = "echo"
)

// plan says how long everything takes.
type plan struct {
	rounds             int
	clients, beatCount string
	duration, warmup   string // of a step of cycles
	beatTime, beatWarm string // of a step of heartbeats, and of the echo
	probe              string
	sessions           string
	singleTime         string // of a step of the runs that are of Seatkeeper alone

	kills, leases, fall        string
	steadyRate, steadySessions string
	expiryLife                 string
}

// The full plan is to end within 25 minutes on two quiet cores: a round takes some four and
// a half minutes, the runs of Seatkeeper alone some ten in all, most of which go to 50 kills
// and to a million leases.
var (
	fullPlan = plan{rounds: 3, clients: "1,64,256", beatCount: "1,64", duration: "6s", warmup: "1500ms", beatTime: "4s", beatWarm: "1s", probe: "1500ms",
		sessions: "20000", kills: "50", leases: "1000000", fall: "100000", steadySessions: "100000", steadyRate: "2500", singleTime: "10s", expiryLife: "30s"}
	quickPlan = plan{rounds: 2, clients: "1,64", beatCount: "64", duration: "1500ms", warmup: "500ms", beatTime: "1500ms", beatWarm: "500ms", probe: "500ms",
		sessions: "2000", kills: "5", leases: "50000", fall: "10000", steadySessions: "5000", steadyRate: "125", singleTime: "2s", expiryLife: "10s"}
)

// comparison is one on its way.
type comparison struct {
	plan       plan
	seatkeeper string
	self       string
	results    *results
}

func compare(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	seatkeeper := flags.String("seatkeeper", "bin/seatkeeper", "the binary that is measured")
	out := flags.String("out", "BENCHMARKS.md", "the page to write")
	plots := flags.String("plots", "docs/bench", "folder of the plots; the page links to it by its path from the page")
	keep := flags.String("keep", "bin/bench.json", "where all numbers are kept")
	from := flags.String("from", "", "write the page from numbers that were kept, measure nothing")
	quick := flags.Bool("quick", false, "short steps and two rounds: shows that everything works, not how fast")
	rounds := flags.Int("rounds", 0, "rounds (default: 3, quick 2)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := &results{}
	if *from != "" {
		data, err := os.ReadFile(*from)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, r); err != nil {
			return err
		}
	} else {
		c := &comparison{plan: fullPlan, seatkeeper: *seatkeeper, results: r}
		if *quick {
			c.plan = quickPlan
		}
		if *rounds > 0 {
			c.plan.rounds = *rounds
		}
		r.Quick = *quick
		if err := c.run(ctx, *keep); err != nil {
			return err
		}
	}
	if err := drawPlots(r, *plots); err != nil {
		return err
	}
	link, err := filepath.Rel(filepath.Dir(*out), *plots)
	if err != nil {
		return err
	}
	if err := os.WriteFile(*out, page(r, filepath.ToSlash(link)), 0o644); err != nil {
		return err
	}
	printRatios(os.Stdout, r)
	fmt.Printf("\nwritten: %s and %s/*.svg\n", *out, *plots)
	return nil
}

// run measures everything: the systems in turn, round after round, so that a machine
// that changes meanwhile changes for all of them.
func (c *comparison) run(ctx context.Context, keep string) error {
	var err error
	if c.self, err = os.Executable(); err != nil {
		return err
	}
	c.results.Began = time.Now().UTC().Truncate(time.Second)
	p := c.plan
	ours := func(bench string, args ...string) []string {
		return append([]string{c.seatkeeper, "bench", bench, "-o", "json"}, args...)
	}
	cycle := func(args ...string) []string {
		return ours("cycle", append(args, "--clients", p.clients, "--duration", p.duration, "--warmup", p.warmup)...)
	}
	peer := func(system, duration, warmup string) []string {
		return []string{c.self, "run", "-system", system, "-clients", p.clients, "-duration", duration, "-warmup", warmup,
			"-heartbeats", p.beatCount, "-heartbeat-duration", p.beatTime}
	}
	round := []struct {
		name string
		args []string
	}{
		{runCycle, cycle("--probe", p.probe)},
		{runEtcd, peer("etcd", p.duration, p.warmup)},
		{runPipelined, cycle("--via", "pipeline", "--limits=false")},
		{runWal, cycle("--log-store", "wal", "--probe", p.probe)},
		{runSegments, cycle("--via", "pipeline", "--log-store", "wal", "--limits=false")},
		{runHeartbeat, ours("heartbeat", "--clients", p.beatCount, "--duration", p.beatTime, "--warmup", p.beatWarm, "--sessions", p.sessions)},
		{runRedis, peer("redis", p.duration, p.warmup)},
		{runEcho, peer("echo", p.beatTime, p.beatWarm)},
	}
	for i := range p.rounds {
		got := map[string]*load.Report{}
		for _, each := range round {
			c.say("round %d of %d: %s", i+1, p.rounds, each.name)
			if got[each.name], err = c.measure(ctx, each.args); err != nil {
				return err
			}
		}
		c.results.Rounds = append(c.results.Rounds, got)
		slices.Reverse(round) // A B B A: nobody is always the one who comes after
	}
	c.results.Single = map[string]*load.Report{}
	for _, each := range []struct {
		name string
		args []string
	}{
		{"steady", ours("heartbeat", "--form", "unary", "--clients", "64", "--sessions", p.steadySessions, "--rate", p.steadyRate, "--duration", p.singleTime, "--warmup", p.warmup)},
		{"failover", ours("failover", "--kills", p.kills)},
		{"surge", ours("surge", "--duration", p.singleTime, "--warmup", p.warmup, "--server-cpus", "0", "--client-cpus", "1")},
		{"million", ours("million", "--leases", p.leases, "--expiring", p.fall, "--duration", p.singleTime, "--warmup", p.warmup, "--lifespan", p.expiryLife)},
	} {
		c.say("%s", each.name)
		if c.results.Single[each.name], err = c.measure(ctx, each.args); err != nil {
			return err
		}
	}
	c.results.Ended = time.Now().UTC().Truncate(time.Second)
	data, err := json.MarshalIndent(c.results, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(keep, data, 0o644)
}

func (c *comparison) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6s  %s\n", time.Since(c.results.Began).Round(time.Second), fmt.Sprintf(format, args...))
}

// measure runs one command and reads its report.
func (c *comparison) measure(ctx context.Context, args []string) (*load.Report, error) {
	line := strings.Join(append([]string{filepath.Base(args[0])}, args[1:]...), " ")
	if !slices.Contains(c.results.Commands, line) {
		c.results.Commands = append(c.results.Commands, line)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	// An interrupt lets it end its servers.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 30 * time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(complaint.String()))
	}
	r := &load.Report{}
	if err := json.Unmarshal(out, r); err != nil {
		return nil, fmt.Errorf("%s: %w", line, err)
	}
	if r.Schema != load.Schema {
		return nil, errors.New(line + ": the report has the schema " + r.Schema)
	}
	return r, nil
}
