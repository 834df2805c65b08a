package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Every thread of a server has the slack, Go's monitor too, and the process is still the
// one that was started.
func TestServersHaveCoarseTimers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may look at the timer slack of another process")
	}
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("with one processor for Go the timers stay as they are")
	}
	c := startStory(t, seats("cad", 1, patientProfile))
	pid := c.nodes[0].cmd.Process.Pid
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil || len(threads) < 3 {
		t.Fatalf("threads %v, %v", threads, err)
	}
	for _, thread := range threads {
		slack, err := os.ReadFile(filepath.Join("/proc", filepath.Base(thread), "timerslack_ns"))
		if err != nil {
			continue // it has ended
		}
		if got := strings.TrimSpace(string(slack)); got != fmt.Sprint(timerSlack) {
			t.Errorf("thread %s has a slack of %s ns, want %d", filepath.Base(thread), got, timerSlack)
		}
	}
}
