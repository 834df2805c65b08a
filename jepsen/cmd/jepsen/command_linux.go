package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/nemesis"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
	"github.com/seatkeeper/seatkeeper/jepsen/run"
)

// settings are the flags of all commands that make a run.
type settings struct {
	binary, store, families string
	only, logStore          string
	nodes, atOnce           int
	seed                    uint64
	rate, hours             float64
	idle                    bool
	workload                string
}

func command(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "jepsen: name one of run, long, mutants, replay, clean, can")
		return checker.ExitNotConclusive
	}
	var s settings
	f := flag.NewFlagSet("jepsen "+args[0], flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&s.binary, "binary", "bin/seatkeeper", "the server, built without cgo")
	f.StringVar(&s.store, "store", "bin/jepsen", "folder in which runs are stored")
	f.StringVar(&s.families, "faults", "", "fault families, comma separated (default: all)")
	f.StringVar(&s.logStore, "log-store", "bolt", "how the servers keep their log: bolt or wal")
	f.IntVar(&s.nodes, "nodes", 3, "nodes of the cluster")
	f.IntVar(&s.atOnce, "at-once", 2, "faults that may overlap when mixed")
	f.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "seed of the schedule")
	f.Float64Var(&s.rate, "rate", 4, "operations a second of each client")
	f.Float64Var(&s.hours, "hours", 1, "how long faults are mixed")
	f.StringVar(&s.only, "mutants", "", "mutants to try, comma separated (default: all)")
	f.StringVar(&s.workload, "workload", "plain", "what clients do: plain, rules (queue, bookings, borrowing, policies), or both, one run after the other")
	f.BoolVar(&s.idle, "idle", false, "let no client work (the run is not conclusive then)")
	if err := f.Parse(args[1:]); err != nil {
		return checker.ExitNotConclusive
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c := &cli{settings: s, out: stdout, err: stderr}
	switch args[0] {
	case "run":
		return c.runs(ctx, 0)
	case "long":
		return c.runs(ctx, time.Duration(s.hours*float64(time.Hour)))
	case "mutants":
		return c.mutants(ctx)
	case "replay":
		if f.NArg() != 1 {
			fmt.Fprintln(stderr, "jepsen replay: name the folder of a run")
			return checker.ExitNotConclusive
		}
		return c.judge(f.Arg(0))
	case "clean":
		return c.clean()
	case "can":
		if err := run.Possible(); err != nil {
			return c.fail("cannot run here: %s", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return checker.ExitValid
	}
	fmt.Fprintf(stderr, "jepsen: no command is called %q\n", args[0])
	return checker.ExitNotConclusive
}

type cli struct {
	settings
	out, err io.Writer
}

func (c *cli) fail(format string, args ...any) int {
	fmt.Fprintf(c.err, "jepsen: "+format+"\n", args...)
	return checker.ExitNotConclusive
}

// families are those that were named, or all.
func (c *cli) chosen() ([]nemesis.Family, error) {
	if c.settings.families == "" {
		return nemesis.All(), nil
	}
	return nemesis.Named(strings.Split(c.settings.families, ",")...)
}

// config makes the config of one run.
func (c *cli) config(name string, families []nemesis.Family) (run.Config, error) {
	binary, err := filepath.Abs(c.binary)
	if err != nil {
		return run.Config{}, err
	}
	store, err := filepath.Abs(c.store)
	if err != nil {
		return run.Config{}, err
	}
	began := time.Now()
	return run.Config{Name: fmt.Sprintf("sk%d", os.Getpid()), Dir: filepath.Join(store, began.UTC().Format("20060102T150405")+"-"+name),
		Binary: binary, Nodes: c.nodes, LogStore: c.logStore, Seed: c.seed, Families: families, AtOnce: c.atOnce, Rate: c.rate, Idle: c.idle,
		Log: func(format string, args ...any) {
			fmt.Fprintf(c.out, "%8.3f  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
		}}, nil
}

// ready says what keeps a run from starting, after cleaning up after earlier ones.
func (c *cli) ready() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root: network namespaces, mounts and control groups; nothing was run")
	}
	if _, err := os.Stat(c.binary); err != nil {
		return fmt.Errorf("no server at %s: build it first", c.binary)
	}
	cleaned, err := node.CleanAll()
	for _, name := range cleaned {
		fmt.Fprintf(c.out, "cleaned up after %s\n", name)
	}
	return err
}

// rulesShare is the part of a mixed run of both workloads that the rules have.
const rulesShare = 4

// ruledFaults are those that the rules workload meets unless others are named: one of each
// kind of trouble. A restore is not among them: R1 to R5 do not follow it.
const ruledFaults = "kill,pause,partition-leader,partition-ring,power-all,power-one-torn,hung-disk,full-disk,clock-jump,transfer,membership,delay,loss,client-cut,half-open,retry-storm"

// runs carries out one run for each workload that was asked for.
func (c *cli) runs(ctx context.Context, mixed time.Duration) int {
	if err := c.ready(); err != nil {
		return c.fail("%v", err)
	}
	families, err := c.chosen()
	if err != nil {
		return c.fail("%v", err)
	}
	ruled := slices.DeleteFunc(slices.Clone(families), func(f nemesis.Family) bool { return f.Name == "backup-restore" })
	if c.settings.families == "" && mixed == 0 {
		if ruled, err = nemesis.Named(strings.Split(ruledFaults, ",")...); err != nil {
			return c.fail("%v", err)
		}
	}
	switch c.workload {
	case "plain":
		return c.run(ctx, mixed, families, false)
	case "rules":
		return c.run(ctx, mixed, ruled, true)
	case "both":
		first := c.run(ctx, mixed-mixed/rulesShare, families, false)
		if ctx.Err() != nil {
			return first
		}
		return graver(first, c.run(ctx, mixed/rulesShare, ruled, true))
	}
	return c.fail("-workload is plain, rules or both, not %q", c.workload)
}

// graver is the exit code of two runs: invalid before not conclusive.
func graver(a, b int) int {
	if a == checker.ExitInvalid || b == checker.ExitInvalid {
		return checker.ExitInvalid
	}
	return max(a, b)
}

func (c *cli) run(ctx context.Context, mixed time.Duration, families []nemesis.Family, ruled bool) int {
	name := fmt.Sprintf("seed%d", c.seed)
	if ruled {
		name += "-rules"
	}
	cfg, err := c.config(name, families)
	if err != nil {
		return c.fail("%v", err)
	}
	cfg.Mixed, cfg.Ruled = mixed, ruled
	fmt.Fprintf(c.out, "seed %d, stored in %s\n", c.seed, cfg.Dir)
	if err := run.Execute(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			return c.fail("stopped by a signal: nothing was judged")
		}
		c.fail("%v", err)
	}
	return c.judge(cfg.Dir)
}

// judge judges a stored run and prints its verdicts.
func (c *cli) judge(dir string) int {
	report, err := run.Judge(dir)
	if err != nil {
		return c.fail("%s: %v", dir, err)
	}
	for _, v := range report.Verdicts {
		fmt.Fprintf(c.out, "%-4s %-8s %s: %s\n", v.Name, v.Result, v.Title, v.Summary)
		for _, e := range v.Evidence {
			fmt.Fprintf(c.out, "       %s\n", e)
		}
	}
	fmt.Fprintf(c.out, "%s: %s\n", report.Result, dir)
	return report.Exit()
}

func (c *cli) clean() int {
	cleaned, err := node.CleanAll()
	for _, name := range cleaned {
		fmt.Fprintf(c.out, "cleaned up after %s\n", name)
	}
	if err != nil {
		return c.fail("%v", err)
	}
	if len(cleaned) == 0 {
		fmt.Fprintln(c.out, "nothing was left")
	}
	return checker.ExitValid
}
