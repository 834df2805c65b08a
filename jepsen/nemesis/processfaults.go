//go:build linux

package nemesis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

const (
	processFor = 4 * time.Second
	// startWait bounds the start of a server that is expected to come up.
	startWait = 20 * time.Second
)

func processFamilies() []Family {
	return []Family{
		{Name: "kill", For: processFor, begin: func(_ context.Context, a *attempt) (*active, error) { return a.kill(a.either()) }},
		{Name: "pause", For: processFor, begin: func(_ context.Context, a *attempt) (*active, error) {
			return a.standstill(a.either(), (*node.Node).Pause, (*node.Node).Resume)
		}},
		{Name: "freeze", For: processFor, Needs: controller("freezer"), begin: func(_ context.Context, a *attempt) (*active, error) {
			return a.standstill(a.either(), (*node.Node).Freeze, (*node.Node).Thaw)
		}},
		{Name: "starve-cpu", For: processFor, Needs: controller("cpu"), begin: starveCPU},
		{Name: "starve-memory", For: processFor, Needs: controller("memory"), begin: starveMemory},
		{Name: "starve-files", For: processFor, begin: starveFiles},
		{Name: "power-one", For: 2 * time.Second, begin: power(disk.All, false)},
		{Name: "power-one-prefix", For: 2 * time.Second, begin: power(disk.Prefix, false)},
		{Name: "power-one-torn", For: 2 * time.Second, begin: power(disk.Torn, false)},
		{Name: "power-all", For: 2 * time.Second, Alone: true, begin: power(disk.All, true)},
		{Name: "power-all-torn", For: 2 * time.Second, Alone: true, begin: power(disk.Torn, true)},
		{Name: "rolling-restart", For: time.Second, Alone: true, begin: rollingRestart},
	}
}

func controller(name string) func(*World) string {
	return func(*World) string {
		if node.Controllers()[name] {
			return ""
		}
		return "this machine has no " + name + " controller of control groups version 1"
	}
}

// kill ends the process and starts it again.
func (a *attempt) kill(x *node.Node) (*active, error) {
	if x == nil {
		return nil, errNotNow
	}
	one := []*node.Node{x}
	pid := x.PID()
	f := &active{make: func(context.Context) error { return x.Kill() },
		end: func(context.Context) (bool, string, error) {
			err := x.Start()
			exits := x.Exits()
			return len(exits) > 0, fmt.Sprintf("%s: pid %d ended by %v", x.Name, pid, exits[len(exits)-1]), err
		}}
	return f.on(one, one), nil
}

// standstill stops a process that does not notice, and lets it go on.
func (a *attempt) standstill(x *node.Node, stop, resume func(*node.Node) error) (*active, error) {
	if x == nil {
		return nil, errNotNow
	}
	one := []*node.Node{x}
	var since time.Time
	f := &active{make: func(context.Context) error { since = time.Now(); return stop(x) },
		end: func(context.Context) (bool, string, error) {
			silent := !a.Probe.Answers(x)
			err := resume(x)
			return silent, fmt.Sprintf("%s stood still for %v, answered: %v", x.Name, time.Since(since).Round(time.Millisecond), !silent), err
		}}
	return f.on(one, one), nil
}

func starveCPU(_ context.Context, a *attempt) (*active, error) {
	x := a.either()
	if x == nil {
		return nil, errNotNow
	}
	share := 0.01 + 0.05*a.rng.Float64()
	before := x.Throttled()
	one := []*node.Node{x}
	f := &active{make: func(context.Context) error { return x.StarveCPU(share) },
		end: func(context.Context) (bool, string, error) {
			err := x.StarveCPU(0)
			held := x.Throttled() - before
			return held > 0, fmt.Sprintf("%s had %.0f %% of a processor, was held up %d times", x.Name, 100*share, held), err
		}}
	return f.on(one, one), nil
}

// squeezes are the shares of its memory that a server may be left, in percent, tried in
// turn: the kernel refuses a limit that it cannot get down to, and of a heap it can take
// nothing. At the last ones the next page that is asked for is one too many.
var squeezes = []int64{66, 80, 90, 95, 98, 100, 100, 101}

// starveMemory leaves a server less memory than it has, or no more than that: the kernel
// takes pages away, or the process.
func starveMemory(_ context.Context, a *attempt) (*active, error) {
	x := a.either()
	if x == nil {
		return nil, errNotNow
	}
	before, exits := x.MemoryRefused(), len(x.Exits())
	var used, limit int64
	one := []*node.Node{x}
	f := &active{make: func(context.Context) (err error) {
		for _, share := range squeezes {
			used = x.MemoryUsed()
			limit = used / 100 * share
			if err = x.StarveMemory(limit); !errors.Is(err, syscall.EBUSY) {
				break
			}
		}
		return err
	}, end: func(context.Context) (bool, string, error) {
		err := x.StarveMemory(0)
		refused, ended := x.MemoryRefused()-before, len(x.Exits())-exits
		return refused > 0 || ended > 0, fmt.Sprintf("%s was limited to %d KiB of %d KiB: refused %d times, ended %d times",
			x.Name, limit>>10, used>>10, refused, ended), err
	}}
	return f.on(one, one), nil
}

// starveFiles leaves a server no descriptor for new connections.
func starveFiles(_ context.Context, a *attempt) (*active, error) {
	x := a.either()
	if x == nil {
		return nil, errNotNow
	}
	open := 0
	one := []*node.Node{x}
	f := &active{make: func(context.Context) (err error) {
		const lowest = 8 // what a server has open at least
		open, err = x.LimitFiles(lowest)
		return err
	}, end: func(context.Context) (bool, string, error) {
		silent := !a.Probe.Answers(x)
		var err error
		if x.Running() {
			_, err = x.LimitFiles(0)
		}
		return silent, fmt.Sprintf("%s had %d descriptors and got no more: new connections answered: %v", x.Name, open, !silent), err
	}}
	return f.on(one, one), nil
}

// power fails the power of one node or of all.
func power(mode disk.Mode, all bool) func(context.Context, *attempt) (*active, error) {
	return func(_ context.Context, a *attempt) (*active, error) {
		victims := a.Cluster.Nodes
		if !all {
			x := a.either()
			if x == nil {
				return nil, errNotNow
			}
			victims = []*node.Node{x}
		}
		for _, x := range victims {
			if x.Disk.Faults().Lie {
				return nil, errNotNow // a disk that lies about fsync breaks any consensus
			}
		}
		var losses []string
		records := 0
		f := &active{make: func(context.Context) error {
			errs := make(chan error, len(victims))
			for _, x := range victims {
				go func() { errs <- x.Kill() }()
			}
			var failed []error
			for range victims {
				failed = append(failed, <-errs)
			}
			for _, x := range victims {
				loss, err := x.Disk.PowerFailure(mode, a.rng)
				records += loss.Records
				losses = append(losses, fmt.Sprintf("%s lost %d of %d changes (%d bytes, %d left by a torn write)", x.Name, loss.Records, loss.Pending, loss.Bytes, loss.Torn))
				failed = append(failed, err)
			}
			return errors.Join(failed...)
		}, end: func(context.Context) (bool, string, error) {
			var failed []error
			for _, x := range victims {
				failed = append(failed, x.Start())
			}
			return records > 0, strings.Join(losses, ", "), errors.Join(failed...)
		}}
		return f.on(victims, victims), nil
	}
}

// rollingRestart restarts every node kindly, one after the other.
func rollingRestart(_ context.Context, a *attempt) (*active, error) {
	if len(a.free) < len(a.Cluster.Nodes) {
		return nil, errNotNow
	}
	nodes := a.shuffled()
	var told []string
	f := &active{make: func(ctx context.Context) error {
		var errs []error
		for _, x := range nodes {
			began := time.Now()
			errs = append(errs, x.Stop(), x.Start(), a.Probe.WaitHealthy(ctx, startWait, a.Cluster.Nodes...))
			exits := x.Exits()
			told = append(told, fmt.Sprintf("%s: %v, back after %v", x.Name, exits[len(exits)-1], time.Since(began).Round(time.Millisecond)))
		}
		return errors.Join(errs...)
	}, end: func(context.Context) (bool, string, error) {
		return len(told) == len(nodes), strings.Join(told, ", "), nil
	}}
	return f.on(nodes, nil), nil
}

// heal takes everything off one node and starts it.
func heal(x *node.Node) error {
	x.Disk.SetFaults(disk.Faults{})
	var errs []error
	has := node.Controllers()
	if has["freezer"] {
		errs = append(errs, x.Thaw())
	}
	if has["cpu"] {
		errs = append(errs, x.StarveCPU(0))
	}
	if has["memory"] {
		errs = append(errs, x.StarveMemory(0))
	}
	if x.Running() {
		_, err := x.LimitFiles(0)
		errs = append(errs, err, x.Resume())
	}
	return errors.Join(append(errs, x.Start())...)
}
