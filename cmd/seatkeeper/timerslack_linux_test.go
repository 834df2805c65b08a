package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Every thread of a server has the slack, Go's monitor too: of one that starts again for it
// under the same process id, and of one that has it from dev.
func TestServersHaveCoarseTimers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may look at the timer slack of another process")
	}
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("with one processor for Go the timers stay as they are")
	}
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 2, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.stop() })
	alone, ofDev := d.nodes[0], d.nodes[1]
	if err := ofDev.start(); err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{"started by hand": start(t, nil, "server", "--config", alone.Config).cmd.Process.Pid, "started by dev": ofDev.cmd.Process.Pid}
	for how, pid := range pids {
		eventually(t, "the timer slack of a server "+how, func() error { return slackOf(pid) })
	}
}

// slackOf says which thread of a process that runs has another slack.
func slackOf(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) < 3 {
		return fmt.Errorf("threads %v, %v", threads, err)
	}
	for _, thread := range threads {
		slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(thread), "timerslack_ns"))
		if err != nil {
			continue // it has ended
		}
		if got := strings.TrimSpace(string(slack)); got != fmt.Sprint(timerSlack) {
			return fmt.Errorf("thread %s has a slack of %s ns, want %d", filepath.Base(thread), got, timerSlack)
		}
	}
	return nil
}
