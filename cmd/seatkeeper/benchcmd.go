package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/bench"
	"github.com/seatkeeper/seatkeeper/bench/load"
)

// benchFlags are what all benchmarks have in common.
type benchFlags struct {
	feature            string
	tenants            []string
	nodes, port        int
	dir, logStore      string
	serverCPUs, myCPUs []int
	settings           []string // more of the servers' environment
}

// addOwn adds the flags of the cluster and of the CPUs.
func (f *benchFlags) addOwn(cmd *cobra.Command) {
	p := cmd.PersistentFlags()
	p.StringVar(&f.feature, "feature", "seat", "feature to check out; with --addr its pool needs a seat for each client")
	p.StringSliceVar(&f.tenants, "tenants", nil, "with --addr: tenants to spread the clients over (default: --tenant)")
	p.IntVar(&f.nodes, "nodes", 3, "servers to start, without --addr")
	p.IntVar(&f.port, "port", 0, "API port of the first server (default: any free ones)")
	p.StringVar(&f.dir, "data-dir", "", "where the servers keep their data (default: a temporary folder on a real disk, removed at the end)")
	p.StringVar(&f.logStore, "log-store", "bolt", "log_store of the servers: bolt or wal")
	p.IntSliceVar(&f.serverCPUs, "server-cpus", nil, "CPUs of the servers (Linux), for example 0")
	p.IntSliceVar(&f.myCPUs, "client-cpus", nil, "CPUs of the clients (Linux), for example 1")
}

// loadFlags are those of a benchmark that makes load in steps.
type loadFlags struct {
	clients          []int
	warmup, duration time.Duration
	rate             float64
}

func (f *loadFlags) add(cmd *cobra.Command, clients []int) {
	cmd.Flags().IntSliceVar(&f.clients, "clients", clients, "clients at the same time, one step for each number")
	f.addTimes(cmd)
	cmd.Flags().Float64Var(&f.rate, "rate", 0, "operations a second in all: an open loop, whose latency counts from when each should have begun; 0: as fast as answers come")
}

func (f *loadFlags) addTimes(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.duration, "duration", 10*time.Second, "how long each step is measured")
	cmd.Flags().DurationVar(&f.warmup, "warmup", 2*time.Second, "how long each step runs before it is measured; thrown away")
}

func (a *app) benchCommand() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster: speed, failover, fairness, growth",
		Long: `Measures a cluster as its clients see it. With --addr that is a running one; without,
three servers of this binary are started on loopback with their data on a real disk,
and removed at the end. Numbers depend on the machine: compare ratios of one run.

Do not run it against a cluster that people use: it takes all it can get.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.addOwn(cmd)
	cmd.AddCommand(a.benchCycleCommand(&f), a.benchHeartbeatCommand(&f), a.benchFailoverCommand(&f),
		a.benchSurgeCommand(&f), a.benchMillionCommand(&f), a.benchAggressorsCommand(&f))
	return cmd
}

func (a *app) benchCycleCommand(f *benchFlags) *cobra.Command {
	b := bench.Cycle{Probe: 2 * time.Second}
	cmd := &cobra.Command{
		Use:   "cycle",
		Short: "Checkout and check-in, beside what gRPC and the disk alone can do",
		Long: `Every client takes a seat and gives it back, over and over: a new lease each time in a
session that stays (with --fresh a new session too). In the same run the gRPC echo,
fsync and a TCP round trip are measured, so that shares of those limits can be stated.`,
		Args: cobra.NoArgs,
	}
	var l loadFlags
	l.add(cmd, []int{1, 64, 256})
	cmd.Flags().StringVar(&b.Via, "via", bench.ViaRaw, "raw: a gRPC call for each request; pipeline: clients of a connection share a stream; sdk: sessions of the Go SDK")
	cmd.Flags().BoolVar(&b.Fresh, "fresh", false, "open and end a session in each cycle")
	cmd.Flags().BoolVar(&b.Limits, "limits", true, "measure gRPC echo, fsync and round trip too")
	cmd.Flags().DurationVar(&b.Probe, "probe", b.Probe, "how long each of those is measured")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b.Clients, b.Warmup, b.Duration, b.Rate = l.clients, l.warmup, l.duration, l.rate
		return a.bench(cmd, *f, benchNeeds{seats: mostOf(l.clients), clients: mostOf(l.clients)}, b)
	}
	return cmd
}

func (a *app) benchHeartbeatCommand(f *benchFlags) *cobra.Command {
	b := bench.Heartbeat{PerMessage: bench.DefaultPerMessage, Window: bench.DefaultWindow}
	cmd := &cobra.Command{
		Use:   "heartbeat",
		Short: "Renewals, each of them replicated",
		Args:  cobra.NoArgs,
	}
	var l loadFlags
	l.add(cmd, []int{1, 64})
	cmd.Flags().StringSliceVar(&b.Forms, "form", bench.Forms, "forms of heartbeat to measure")
	cmd.Flags().IntVar(&b.Sessions, "sessions", 0, "sessions in all, shared out to the clients (default: as many as they need)")
	cmd.Flags().IntVar(&b.PerMessage, "per-message", b.PerMessage, "sessions renewed by one message of the batched forms")
	cmd.Flags().IntVar(&b.Window, "window", b.Window, "messages of a stream that are on their way at once")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b.Clients, b.Warmup, b.Duration, b.Rate = l.clients, l.warmup, l.duration, l.rate
		return a.bench(cmd, *f, benchNeeds{seats: b.Need(), clients: mostOf(l.clients)}, b)
	}
	return cmd
}

func (a *app) benchFailoverCommand(f *benchFlags) *cobra.Command {
	b := bench.Failover{Kills: 50, Clients: 16, Rest: 500 * time.Millisecond}
	cmd := &cobra.Command{
		Use:   "failover",
		Short: "Kill the leader under load: when is the next checkout acknowledged",
		Args:  cobra.NoArgs,
	}
	cmd.Flags().IntVar(&b.Kills, "kills", b.Kills, "how often the leader is killed (SIGKILL)")
	cmd.Flags().IntVar(&b.Clients, "clients", b.Clients, "raw clients and as many of the SDK that check out all the time")
	cmd.Flags().DurationVar(&b.Rest, "rest", b.Rest, "how long the cluster is whole between two kills")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return a.bench(cmd, *f, benchNeeds{seats: 2 * b.Clients, clients: b.Clients, own: true}, b)
	}
	return cmd
}

func (a *app) benchSurgeCommand(f *benchFlags) *cobra.Command {
	b := bench.Surge{Quiet: 4, QuietRate: 100, Aggressive: 500}
	cmd := &cobra.Command{
		Use:   "surge",
		Short: "One tenant misbehaves: what does a quiet one feel",
		Long: `The quiet tenant is measured alone, beside clients of another tenant that retry as the
SDK does, and beside ones that ignore every refusal, each on its own connection or many on
shared streams. On a small machine keep servers and clients apart: --server-cpus 0
--client-cpus 1.`,
		Args: cobra.NoArgs,
	}
	var l loadFlags
	l.addTimes(cmd)
	cmd.Flags().IntVar(&b.Quiet, "quiet", b.Quiet, "clients of the quiet tenant")
	cmd.Flags().Float64Var(&b.QuietRate, "quiet-rate", b.QuietRate, "cycles a second of the quiet tenant")
	cmd.Flags().IntVar(&b.Aggressive, "aggressive", b.Aggressive, "clients of the other tenant")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b.Warmup, b.Duration = l.warmup, l.duration
		return a.bench(cmd, *f, benchNeeds{seats: 4 * (b.Aggressive + 100), tenants: 2}, surge{b})
	}
	return cmd
}

func (a *app) benchMillionCommand(f *benchFlags) *cobra.Command {
	b := bench.Million{Leases: 1_000_000, PerSession: 1, Few: 1000, Expiring: 100_000, Clients: 16,
		Lifespan: 30 * time.Second, Grace: time.Second, Restart: true}
	cmd := &cobra.Command{
		Use:   "million",
		Short: "A million leases: growth, memory, expiry, restart, snapshots",
		Args:  cobra.NoArgs,
	}
	var l loadFlags
	l.addTimes(cmd)
	cmd.Flags().IntVar(&b.Leases, "leases", b.Leases, "leases to fill")
	cmd.Flags().IntVar(&b.Few, "few", b.Few, "leases to compare with")
	cmd.Flags().IntVar(&b.PerSession, "per-session", b.PerSession, "leases in a session, filled by one checkout")
	cmd.Flags().IntVar(&b.Expiring, "expiring", b.Expiring, "leases that fall due together; 0 leaves that out")
	cmd.Flags().DurationVar(&b.Lifespan, "lifespan", b.Lifespan, "lifespan of those: longer than they take to fill")
	cmd.Flags().IntVar(&b.Clients, "clients", b.Clients, "clients that check out and in meanwhile")
	cmd.Flags().BoolVar(&b.Restart, "restart", b.Restart, "kill all servers at the end and start them again")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		b.Warmup, b.Duration = l.warmup, l.duration
		// Batches make few entries of many leases: with the default there might be no
		// snapshot to measure.
		f.settings = []string{fmt.Sprintf("SEATKEEPER_SNAPSHOTS_ENTRIES=%d", millionSnapshots)}
		return a.bench(cmd, *f, benchNeeds{seats: b.Clients, clients: b.Clients, tenants: bench.MillionTenants, million: &b, own: true}, b)
	}
	return cmd
}

// millionSnapshots is after how many entries a node makes a snapshot in bench million, a
// quarter of the default.
const millionSnapshots = 8192

// benchAggressorsCommand is the other side of surge, in a process of its own.
func (a *app) benchAggressorsCommand(f *benchFlags) *cobra.Command {
	var g bench.Aggression
	cmd := &cobra.Command{Use: "aggressors", Hidden: true, Args: cobra.NoArgs}
	var l loadFlags
	l.addTimes(cmd)
	cmd.Flags().IntVar(&g.Clients, "clients", 500, "clients")
	cmd.Flags().StringVar(&g.Style, "style", bench.StylePolite, "polite, rude or streamed")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load.GiveWay(); err != nil {
			return fmt.Errorf("priority of the aggressors: %w", err)
		}
		g.Working = func() { fmt.Fprintln(a.stderr, aggressorsWork) }
		g.Tenant, g.Warmup, g.Duration = a.cfg.Client.Tenant, l.warmup, l.duration
		return a.bench(cmd, *f, benchNeeds{seats: g.Clients}, g)
	}
	return cmd
}

// aggressorsWork is what the aggressors' process says when they begin.
const aggressorsWork = "aggressors work"

// watchedText keeps what a process says and waits for a word.
type watchedText struct {
	strings.Builder
	word string
	seen func()
}

func (w *watchedText) Write(p []byte) (int, error) {
	n, err := w.Builder.Write(p)
	if strings.Contains(w.String(), w.word) {
		w.seen()
	}
	return n, err
}

// surge starts the aggressors as a process.
type surge struct{ bench.Surge }

func (s surge) Run(ctx context.Context, t *bench.Target, r *load.Report) error {
	s.Aggressors = func(ctx context.Context, g bench.Aggression, working func()) (*load.Report, error) {
		binary, err := os.Executable()
		if err != nil {
			return nil, err
		}
		cmd := exec.CommandContext(ctx, binary, "bench", "aggressors", "--addr", strings.Join(t.Addresses, ","),
			"--tenant", g.Tenant, "--feature", t.Feature, "--clients", strconv.Itoa(g.Clients), "--style", g.Style,
			"--warmup", g.Warmup.String(), "--duration", g.Duration.String(), "-o", "json")
		cmd.Env = withoutSettings(os.Environ())
		if t.Token != "" {
			cmd.Env = append(cmd.Env, "SEATKEEPER_TOKEN="+t.Token)
		}
		said := &watchedText{word: aggressorsWork, seen: working}
		cmd.Stderr = said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, oneLine(said.String()))
		}
		got := &load.Report{}
		return got, json.Unmarshal(out, got)
	}
	return s.Surge.Run(ctx, t, r)
}

// bench runs one benchmark and prints its report.
func (a *app) bench(cmd *cobra.Command, f benchFlags, needs benchNeeds, b bench.Benchmark) (err error) {
	ctx, stop := signal.NotifyContext(cmd.Context(), stopSignals...)
	defer stop()
	t, end, err := a.benchTarget(ctx, f, needs)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return err
	}
	if len(f.myCPUs) > 0 {
		if err := load.Pin(f.myCPUs); err != nil {
			return fmt.Errorf("--client-cpus: %w", err)
		}
		runtime.GOMAXPROCS(len(f.myCPUs))
	}
	r := load.NewReport(cmd.Name(), "seatkeeper", buildVersion(), t.DataDir)
	r.Settings = benchSettings(cmd, t)
	if isTerminal(a.stderr) {
		t.Progress = newStepBar(a.stderr).step
	}
	if err := t.Measure(ctx, r, b); err != nil {
		if ctx.Err() != nil && cmd.Context().Err() == nil {
			return exitf(exitError1, "interrupted: nothing is reported")
		}
		return apiError(err)
	}
	return a.print(r, func(out *table) { drawBench(out, r) })
}

// benchSettings are the values of all flags of the benchmark, given or not.
func benchSettings(cmd *cobra.Command, t *bench.Target) map[string]string {
	s := map[string]string{"nodes": strconv.Itoa(len(t.Addresses)), "tenants": strconv.Itoa(len(t.Tenants))}
	for _, name := range []string{"clients", "duration", "warmup", "rate", "via", "fresh", "form", "sessions", "per-message", "window", "kills", "quiet", "quiet-rate",
		"aggressive", "leases", "few", "per-session", "expiring", "lifespan", "log-store", "server-cpus", "client-cpus"} {
		if flag := cmd.Flags().Lookup(name); flag != nil && flag.Value.String() != "[]" {
			s[name] = strings.Trim(flag.Value.String(), "[]")
		}
	}
	return s
}

func mostOf(list []int) int {
	most := 1
	for _, n := range list {
		most = max(most, n)
	}
	return most
}
