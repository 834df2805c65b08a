package run

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/nemesis"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
	"github.com/seatkeeper/seatkeeper/jepsen/workload"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Config says what to run.
type Config struct {
	// Name names the run on the machine: letters, digits and dashes, short.
	Name string
	// Dir is where the run is stored.
	Dir string
	// Binary is the server.
	Binary string
	// Env is added to the servers' environment.
	Env   []string
	Nodes int
	// LogStore is the servers' log_store; empty means bolt.
	LogStore string
	Seed     uint64
	// Families are the faults: each once if Mixed is 0, else mixed at random for so long.
	Families []nemesis.Family
	Mixed    time.Duration
	// AtOnce is how many faults may overlap when mixed.
	AtOnce int
	// Rate is how many operations a second one worker starts.
	Rate float64
	// Bug is one that the clients are given, see workload.
	Bug string
	// Idle leaves the workers out: a run in which nothing happens.
	Idle bool
	// Ruled makes it a run of the rules workload.
	Ruled bool
	// Scene, if set, makes this a short run with workers and faults of its own.
	Scene *Scene
	// Only names the checkers that a scene is for; with Early it ends when one is red.
	Only  []string
	Early bool
	// Log is told in words what happens.
	Log func(format string, args ...any)
}

// Spans of a run's phases.
const (
	warmFor = 5 * time.Second
	// healedFor is load after the last fault, at least.
	healedFor = 6 * time.Second
	// quietFor is longer than a lease lives without a heartbeat, with two ticks and an
	// election: what nobody holds is free again after it.
	quietFor = maxTerm + 8*time.Second
	// closeWait bounds the end of all sessions.
	closeWait = 60 * time.Second
	// startWait bounds the start of the cluster.
	startWait = 60 * time.Second
)

// The pools of a run. Leases live for seconds, so that they end during faults.
const (
	lifespan = 4 * time.Second
	grace    = 2 * time.Second
	maxTerm  = lifespan + grace
	guarded  = "press"
	tenants  = 6
)

func pools() []node.Pool {
	return []node.Pool{
		{Feature: "cad", Count: 6, Lifespan: lifespan, Grace: grace},
		{Feature: "solver", Count: 3, Lifespan: 3 * time.Second, Grace: time.Second},
		{Feature: "mesh", Count: 2, Lifespan: lifespan, Grace: grace},
		{Feature: guarded, Count: 1, Lifespan: 2 * time.Second, Grace: time.Second},
	}
}

// world is a run under way.
type world struct {
	cfg     Config
	cluster *node.Cluster
	probe   *nemesis.Probe
	rec     *workload.Recorder
	writer  *history.Writer
	file    *os.File
	began   time.Time
	test    checker.Test
}

// Execute carries out a run and stores it. It takes everything away that it made, also
// when ctx ends early. Needs root.
func Execute(ctx context.Context, cfg Config) (err error) {
	if err := freshDir(cfg.Dir); err != nil {
		return err
	}
	w := &world{cfg: cfg}
	var nem *nemesis.Nemesis
	w.cluster, err = node.New(node.Options{Run: cfg.Name, Dir: cfg.Dir, Binary: cfg.Binary, Env: cfg.Env, Nodes: cfg.Nodes, LogStore: cfg.LogStore,
		Groups: []string{"c1", "c2", "c3", "spare"}, Seed: cfg.Seed, Surprise: func(n *node.Node, e node.Exit) {
			cfg.Log("%s ended by itself: %v: %s", n.Name, e, e.LastLine)
		}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.cluster.Close()) }()
	if err := w.found(ctx); err != nil {
		return err
	}
	working, stopWork := context.WithCancel(ctx)
	defer stopWork()
	load, err := w.begin(working)
	if err != nil {
		return err
	}
	spare := w.cluster.Group("spare")
	nem = nemesis.New(&nemesis.World{Cluster: w.cluster, Probe: w.probe, Rec: w.rec, Workers: load, Clients: w.cluster.Groups[:3],
		Spare: spare, Log: cfg.Log}, cfg.Seed)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go w.probe.Watch(watching, w.rec.Now)

	if cfg.Scene != nil {
		err = w.scene(ctx, nem, func() error { stopWork(); return load.Wait() })
	} else {
		err = w.phases(ctx, nem, load)
	}
	stopWatching()
	return errors.Join(err, w.store(nem))
}

// found starts the servers and installs the licences.
func (w *world) found(ctx context.Context) error {
	w.probe = nemesis.NewProbe(w.cluster, w.cluster.Group("spare"))
	if err := w.cluster.Start(); err != nil {
		return err
	}
	if err := w.probe.WaitHealthy(ctx, startWait, w.cluster.Nodes...); err != nil {
		return err
	}
	files := map[string][]node.Pool{"": w.pools()}
	for i := range w.tenants() {
		files[tenant(i)] = []node.Pool{{Feature: workload.CrowdFeature(tenant(i)), Count: 4, Lifespan: lifespan, Grace: grace}}
	}
	c, err := client.New(client.Config{Addresses: w.cluster.Addresses(), Dial: dialFrom(w.cluster.Group("spare"))})
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	for name, list := range files {
		id := "default"
		if name != "" {
			id = name
		}
		signed, err := w.cluster.Sign("L-"+id, id, list)
		if err != nil {
			return err
		}
		if err := install(ctx, c, signed); err != nil {
			return fmt.Errorf("licence of %s: %w", id, err)
		}
	}
	return nil
}

// install puts a licence in, again while nobody knows whether it is in.
func install(ctx context.Context, c *client.Client, signed []byte) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for again := false; ; again = true {
		_, err := c.Cluster().LicenseApply(ctx, &pb.LicenseApplyRequest{File: signed, Replace: again})
		if client.ReasonOf(err) != client.UnknownOutcome || ctx.Err() != nil {
			return err
		}
	}
}

// ruled says whether the rules workload works.
func (w *world) ruled() bool { return w.cfg.Ruled || w.cfg.Scene != nil && w.cfg.Scene.Ruled }

func (w *world) pools() []node.Pool {
	switch {
	case w.ruled():
		return ruledPools()
	case w.cfg.Scene != nil:
		return w.cfg.Scene.pools()
	}
	return pools()
}

func (w *world) tenants() int {
	if w.cfg.Scene != nil || w.cfg.Ruled {
		return 0
	}
	return tenants
}

func tenant(i int) string { return fmt.Sprintf("crowd-%d", i+1) }

func dialFrom(g *node.Group) func(ctx context.Context, address string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		return g.Namespace.DialContext(ctx, "tcp", address)
	}
}

// begin opens the history and starts the workers.
func (w *world) begin(ctx context.Context) (*workload.Workers, error) {
	cfg := workload.Config{Addresses: w.cluster.Addresses(), Seed: w.cfg.Seed, Rate: w.cfg.Rate, Pools: map[string]int{"cad": 5, "solver": 3, "mesh": 2},
		Guarded: guarded, Bug: w.cfg.Bug, Dir: filepath.Join(w.cfg.Dir, "clients"),
		Crew: workload.Crew{SDK: 3, GRPC: 3, HTTP: 3, Reconnect: 2, Crash: 2, Fenced: 2, Readers: 2, Surge: 6}}
	if w.ruled() {
		cfg.Queued, cfg.Booked, cfg.Borrowed, cfg.Crew = queuedPool, bookedPool, borrowedPool, ruledCrew
	}
	switch {
	case w.cfg.Idle:
		cfg.Crew = workload.Crew{}
	case w.cfg.Scene != nil:
		cfg.Crew = w.cfg.Scene.Crew
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	for _, n := range w.cluster.Nodes {
		cfg.Names = append(cfg.Names, n.Name)
	}
	for i := range w.tenants() {
		cfg.Tenants = append(cfg.Tenants, tenant(i))
	}
	for _, g := range w.cluster.Groups[:3] {
		cfg.Places = append(cfg.Places, workload.Place{Name: g.Name, Dial: g.Namespace.DialContext})
	}
	file, err := os.Create(filepath.Join(w.cfg.Dir, historyFile))
	if err != nil {
		return nil, err
	}
	w.file, w.began = file, time.Now()
	w.writer = history.NewWriter(file, func() time.Duration { return time.Since(w.began) })
	concurrency := cfg.Workers() + 1 // and the last reader
	w.rec = workload.NewRecorder(w.writer, concurrency)
	w.describe(cfg, concurrency)
	if err := writeEDN(w.cfg.Dir, testFile, &w.test); err != nil {
		return nil, err
	}
	return workload.Start(ctx, cfg, w.rec)
}

// gapAlone is the longest gap that one fault alone may make: a leader whose disk hangs
// needs four seconds to give up, and its election and the clients' next try come on top.
const gapAlone = 10 * time.Second

// describe fills in what test.edn says.
func (w *world) describe(load workload.Config, concurrency int) {
	version, _ := w.cluster.Command("version")
	w.test = checker.Test{Seed: w.cfg.Seed, Name: w.cfg.Name, Started: w.began.UTC().Format(time.RFC3339), Nodes: load.Names, Concurrency: concurrency,
		Workload: fmt.Sprintf("sdk %d, grpc %d, http %d, reconnect %d, crash %d, fenced %d, readers %d, surge %d at %.1f/s each",
			load.SDK, load.GRPC, load.HTTP, load.Reconnect, load.Crash, load.Fenced, load.Readers, load.Surge, load.Rate),
		Versions: map[string]string{"seatkeeper": string(version), "go": runtime.Version()},
		Limits:   checker.DefaultLimits(), Require: checker.DefaultRequire()}
	if w.cfg.Mixed == 0 {
		w.test.Limits.GapNS = int64(gapAlone)
	}
	if w.ruled() {
		describeRuled(&w.test, load)
	}
	for _, f := range w.cfg.Families {
		w.test.Nemesis = append(w.test.Nemesis, f.Name)
	}
	for _, p := range w.pools() {
		w.test.Pools = append(w.test.Pools, checker.Pool{Tenant: "default", Feature: p.Feature, Version: "1.0", Total: p.Count,
			LifespanNS: int64(p.Lifespan), GraceNS: int64(p.Grace)})
	}
}

// phases is the run itself.
func (w *world) phases(ctx context.Context, nem *nemesis.Nemesis, load *workload.Workers) error {
	var errs []error
	w.rec.Phase(history.PhaseWarm)
	sleep(ctx, warmFor)
	w.rec.Phase(history.PhaseFaults)
	load.Control.SetSurge(true)
	if w.cfg.Mixed > 0 {
		within, cancel := context.WithTimeout(ctx, w.cfg.Mixed)
		errs = append(errs, nem.Mixed(within, w.cfg.Families, w.cfg.AtOnce))
		cancel()
		errs = append(errs, nem.Once(ctx, nem.Harmless(w.cfg.Families))) // chance was against them
	} else {
		errs = append(errs, nem.Once(ctx, w.cfg.Families))
	}
	load.Control.SetSurge(false)
	if ctx.Err() != nil {
		return errors.Join(append(errs, ctx.Err())...) // all of it is taken away at once
	}
	if err := nem.Heal(context.WithoutCancel(ctx)); err != nil {
		errs = append(errs, fmt.Errorf("after healing: %w", err))
	}
	w.rec.Phase(history.PhaseHealed)
	sleep(ctx, healedFor)
	if !w.cfg.Idle {
		errs = append(errs, w.untilEnough(ctx))
	}
	load.Control.SetMode(workload.Quiet)
	w.rec.Phase(history.PhaseQuiet)
	last := workload.NewObserver(w.rec, workload.Place{Name: "spare", Dial: w.cluster.Group("spare").Namespace.DialContext}, w.cluster.Addresses())
	sleep(ctx, quietFor)
	last.Look(ctx)
	load.Control.SetMode(workload.Closing)
	ended := make(chan error, 1)
	go func() { ended <- load.Wait() }()
	select {
	case err := <-ended:
		errs = append(errs, err)
	case <-time.After(closeWait):
		return errors.Join(append(errs, fmt.Errorf("some client did not close its session within %v", closeWait))...)
	}
	w.rec.Phase(history.PhaseClosed)
	sleep(ctx, quietFor)
	last.Look(ctx)
	w.rec.Phase(history.PhaseEnd)
	return errors.Join(append(errs, ctx.Err())...)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// store stops the servers and writes down what is left to write.
func (w *world) store(nem *nemesis.Nemesis) error {
	errs := []error{w.writer.Flush(), w.file.Close()}
	var events []any
	for _, e := range nem.Events() {
		events = append(events, e)
	}
	for _, c := range w.probe.Changes() {
		events = append(events, c)
	}
	errs = append(errs, writeLines(w.cfg.Dir, nemesisFile, events))
	if w.cfg.Scene != nil {
		errs = append(errs, w.stopAll())
	}
	for _, n := range w.cluster.Nodes {
		errs = append(errs, n.Stop())
	}
	for _, n := range w.cluster.Nodes[:w.cfg.Nodes] {
		errs = append(errs, w.audit(n))
	}
	w.cfg.Log("packets: %+v", w.cluster.Switch.Total())
	for c, n := range w.rec.Counts() {
		w.cfg.Log("%s %s %s: %d", c.F, c.Type, c.Result, n)
	}
	return errors.Join(errs...)
}

func readAppliedFile(path, node string) (*history.Audit, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readApplied(f, node)
}

// audit asks the binary what a stopped node applied.
func (w *world) audit(n *node.Node) error {
	path := filepath.Join(w.cfg.Dir, "nodes", n.Name, "applied.jsonl")
	out, err := w.cluster.Command("debug", "log", "--data-dir", n.DataDir())
	if err != nil {
		w.cfg.Log("no audit of %s: %v", n.Name, err)
		return nil // the checkers say what they miss
	}
	if err := os.WriteFile(path, out, 0o644); err != nil {
		return err
	}
	final, err := readAppliedFile(path, n.Name)
	if err != nil {
		return err
	}
	if w.cluster.Audited {
		told, err := readAppliedFile(n.Audit, n.Name)
		if err != nil {
			return err
		}
		final = whole(final, told)
	} else {
		w.cfg.Log("the server keeps no audit log: what a snapshot of %s has swallowed is not known", n.Name)
	}
	return writeAudit(w.cfg.Dir, final)
}
