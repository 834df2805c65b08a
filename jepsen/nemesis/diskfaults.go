//go:build linux

package nemesis

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
)

func diskFamilies() []Family {
	knob := func(name string, last time.Duration, down bool, f disk.Faults) Family {
		return Family{Name: name, For: last, begin: func(_ context.Context, a *attempt) (*active, error) { return a.badDisk(f, down) }}
	}
	const long = 8 * time.Second
	return []Family{
		knob("slow-disk", processFor, true, disk.Faults{WriteDelay: 3 * time.Millisecond, SyncDelay: 80 * time.Millisecond}),
		// Longer than the server's own patience with a leader that commits nothing.
		knob("hung-disk", 14*time.Second, true, disk.Faults{Hang: true}),
		knob("eio", long, true, disk.Faults{WriteError: true, SyncError: true}),
		knob("full-disk", long, true, disk.Faults{Full: true}),
		{Name: "lying-fsync", For: processFor, begin: lyingFsync},
		{Name: "bit-flip-log", For: 5 * time.Second, begin: func(_ context.Context, a *attempt) (*active, error) {
			return a.damage(a.logFiles(), flipBits)
		}},
		{Name: "bit-flip-snapshot", For: 5 * time.Second, Needs: hasSnapshot, begin: func(_ context.Context, a *attempt) (*active, error) {
			return a.damage("snapshots/*/state.bin", flipBits)
		}},
		{Name: "truncate-log", For: 5 * time.Second, begin: func(_ context.Context, a *attempt) (*active, error) {
			return a.damage(a.logFiles(), truncate)
		}},
	}
}

// badDisk makes a disk misbehave. The leader's is the more interesting one.
func (a *attempt) badDisk(faults disk.Faults, down bool) (*active, error) {
	x := a.leader()
	if x == nil || x.Disk.Faults() != (disk.Faults{}) {
		return nil, errNotNow
	}
	before, exits := x.Disk.Counts(), len(x.Exits())
	one := []*node.Node{x}
	f := &active{make: func(context.Context) error { x.Disk.SetFaults(faults); return nil },
		end: func(context.Context) (bool, string, error) {
			x.Disk.SetFaults(disk.Faults{})
			c := x.Disk.Counts().Minus(before)
			proof := fmt.Sprintf("%s: of %d writes and %d syncs %d were slow, %d hung, %d failed, %d found no room",
				x.Name, c.Writes, c.Syncs, c.Delayed, c.Hung, c.Failed, c.NoRoom)
			if now := x.Exits(); len(now) > exits {
				last := now[len(now)-1]
				proof += fmt.Sprintf("; the process ended %d times, last by %v: %q", len(now)-exits, last, last.LastLine)
			}
			return c.Touched() > 0, proof, x.Start()
		}}
	if down {
		return f.on(one, one), nil
	}
	return f.on(one, nil), nil
}

// lyingFsync lets a disk promise what it does not do, and kills the process: its writes
// are in the machine's memory and survive that. (With a power failure they would not,
// and no consensus stands a disk that lies then.)
func lyingFsync(_ context.Context, a *attempt) (*active, error) {
	f, err := a.badDisk(disk.Faults{Lie: true}, true)
	if err != nil {
		return nil, err
	}
	x := f.nodes[0]
	before := x.Disk.Counts()
	f.end = func(ctx context.Context) (bool, string, error) {
		err := x.Kill()
		lied, pending := x.Disk.Counts().Minus(before).Lied, x.Disk.Pending()
		x.Disk.SetFaults(disk.Faults{})
		x.Disk.Settle()
		if err == nil {
			err = x.Start()
		}
		return lied > 0, fmt.Sprintf("%s: %d syncs were lies, %d changes rested on them when it was killed", x.Name, lied, pending), err
	}
	return f, nil
}

func hasSnapshot(w *World) string {
	for _, x := range w.Cluster.Nodes {
		if found, _ := filepath.Glob(x.Disk.Path("data/snapshots/*/state.bin")); len(found) > 0 {
			return ""
		}
	}
	return "no node has a snapshot yet"
}

// change is damage to a file, and what was there.
type change struct {
	path   string
	was    []byte
	is     []byte
	length int64 // before a truncation
	words  string
}

// damage changes a file of a node while it is down, starts it, and repairs the file
// when the fault is over. Nothing is repaired that the server has written over since.
func (a *attempt) damage(pattern string, do func(*attempt, string) (change, error)) (*active, error) {
	x := a.anyFree()
	if x == nil {
		return nil, errNotNow
	}
	found, _ := filepath.Glob(x.Disk.Path("data/" + pattern))
	if len(found) == 0 {
		return nil, errNotNow
	}
	var c change
	exits := 0
	one := []*node.Node{x}
	f := &active{make: func(context.Context) (err error) {
		if err := x.Kill(); err != nil {
			return err
		}
		exits = len(x.Exits())
		// Through the disk's own bytes, and unmounted, so that no cache shows the old ones.
		if err := x.Disk.Unmount(); err != nil {
			return err
		}
		if c, err = do(a, found[len(found)-1]); err != nil {
			return err
		}
		return x.Start()
	}, end: func(context.Context) (bool, string, error) {
		now := x.Exits()
		proof := fmt.Sprintf("%s: %s", x.Name, c.words)
		stopped := len(now) > exits
		if stopped {
			last := now[len(now)-1]
			proof += fmt.Sprintf("; the server refused it: %v, %q", last, last.LastLine)
		} else {
			proof += "; the server did not notice"
		}
		if err := x.Kill(); err != nil {
			return stopped, proof, err
		}
		if err := x.Disk.Unmount(); err != nil {
			return stopped, proof, err
		}
		err := c.repair(!stopped)
		if err == nil {
			err = x.Start()
		}
		return stopped, proof, err
	}}
	return f.on(one, one), nil
}

// logFiles are the files that hold the entries of the log; the last one is written to.
func (a *attempt) logFiles() string {
	if a.Cluster.LogStore == "wal" {
		return "wal/*.wal"
	}
	return "raft.db"
}

// used is what has been written of a file that got its size at once.
func used(data []byte) []byte { return bytes.TrimRight(data, "\x00") }

// flipBits flips one bit in each of several bytes that are in use.
func flipBits(a *attempt, path string) (change, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return change{}, err
	}
	// The last entries are read at every start: damage lies in their neighbourhood.
	const flips, tries = 24, 100_000
	c := change{path: path, length: int64(len(data))}
	bad := append([]byte(nil), data...)
	n := 0
	for i := 0; i < tries && n < flips; i++ {
		if at := a.rng.IntN(max(len(used(data)), 1)); bad[at] != 0 && bad[at] == data[at] {
			bad[at] ^= 1 << a.rng.IntN(8)
			n++
		}
	}
	c.was, c.is = data, bad
	c.words = fmt.Sprintf("%d bits flipped in %d bytes of %s", n, len(data), filepath.Base(path))
	return c, os.WriteFile(path, bad, 0o600)
}

// truncate cuts off the second half of a file.
func truncate(_ *attempt, path string) (change, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return change{}, err
	}
	half := int64(len(used(data)) / 2)
	return change{path: path, was: data, length: int64(len(data)), words: fmt.Sprintf("%s cut from %d to %d bytes", filepath.Base(path), len(data), half)},
		os.Truncate(path, half)
}

// repair puts back what was damaged. If the server ran on the damaged file, only
// bytes that are still as the damage left them are put back.
func (c change) repair(ran bool) error {
	if !ran {
		return os.WriteFile(c.path, c.was, 0o600)
	}
	if c.is == nil {
		return nil // it ran on a shorter file and made it its own
	}
	now, err := os.ReadFile(c.path)
	if err != nil {
		return err
	}
	for i := range min(len(now), len(c.is)) {
		if c.is[i] != c.was[i] && now[i] == c.is[i] {
			now[i] = c.was[i]
		}
	}
	return os.WriteFile(c.path, now, 0o600)
}
