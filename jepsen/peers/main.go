package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1)
	}
}

// commands by name; the servers are started by the program itself.
var commands = map[string]func(context.Context, []string) error{
	"run":         runPeer,
	"compare":     compare,
	"etcd-member": etcdMember,
	"echo-server": echoServer,
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if command := commands[args[0]]; command != nil {
			return command(ctx, args[1:])
		}
	}
	return errors.New("use: peers run|compare (-h says more)")
}

// options are those of one run of one peer.
type options struct {
	clients, heartbeats []int
	warmup, duration    time.Duration
	beatTime            time.Duration
	dir                 string
}

// peer is a system under load.
type peer struct {
	version string
	// steps are measured one after the other for each number of clients.
	steps []step
	notes []string
	close func()
}

// step is one workload; a heartbeat has numbers of clients and a length of its own.
type step struct {
	name      string
	heartbeat bool
	// open makes what the clients share; the returned function closes it.
	open func(ctx context.Context, clients int) (load.Maker, func(), error)
}

var systems = map[string]func(ctx context.Context, o options) (*peer, error){
	"etcd":  startEtcd,
	"redis": startRedis,
	"echo":  startEcho,
}

func runPeer(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	var o options
	system := flags.String("system", "etcd", "etcd, redis or echo")
	clients := flags.String("clients", "1,64,256", "clients at the same time, one step for each number")
	heartbeats := flags.String("heartbeats", "1,64", "the same for heartbeats")
	flags.DurationVar(&o.beatTime, "heartbeat-duration", 5*time.Second, "how long each step of heartbeats is measured")
	flags.DurationVar(&o.duration, "duration", 8*time.Second, "how long each step is measured")
	flags.DurationVar(&o.warmup, "warmup", 2*time.Second, "how long each step runs before; thrown away")
	flags.StringVar(&o.dir, "data-dir", "", "folder on a disk (default: a temporary one)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	start := systems[*system]
	if start == nil {
		return fmt.Errorf("system %q: use etcd, redis or echo", *system)
	}
	var err error
	if o.clients, err = numbers(*clients); err != nil {
		return err
	}
	if o.heartbeats, err = numbers(*heartbeats); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "peers-"+*system+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	p, err := start(ctx, o)
	if err != nil {
		return err
	}
	defer p.close()
	r := load.NewReport("peer", *system, p.version, dir)
	r.Settings = map[string]string{"clients": *clients, "duration": o.duration.String(), "warmup": o.warmup.String()}
	r.Notes = p.notes
	if err := measure(ctx, p, o, r); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(r)
}

func measure(ctx context.Context, p *peer, o options, r *load.Report) error {
	for _, s := range p.steps {
		clients, duration := o.clients, o.duration
		if s.heartbeat {
			clients, duration = o.heartbeats, o.beatTime
		}
		for _, n := range clients {
			makeWorker, end, err := s.open(ctx, n)
			if err != nil {
				return fmt.Errorf("%s, %d clients: %w", s.name, n, err)
			}
			rows, err := load.Run(ctx, load.Step{Name: s.name, Clients: n, Warmup: o.warmup, Duration: duration}, makeWorker)
			end()
			if err != nil {
				return fmt.Errorf("%s, %d clients: %w", s.name, n, err)
			}
			r.Rows = append(r.Rows, rows...)
		}
	}
	return nil
}

func numbers(list string) ([]int, error) {
	var ns []int
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is no number of clients", s)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// moduleVersion is the version of a module in this binary, replacements counted.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range info.Deps {
		if m.Path != path {
			continue
		}
		if m.Replace != nil {
			return m.Replace.Version
		}
		return m.Version
	}
	return "unknown"
}
