package node

import (
	"os"
	"os/exec"
	"testing"
)

func TestAProcessIsNamedByItsStartToo(t *testing.T) {
	self, err := ProcessOf(os.Getpid())
	if err != nil || !self.Alive() {
		t.Fatalf("%+v, %v", self, err)
	}
	if other := (Process{self.PID, self.Start + 1}); other.Alive() {
		t.Error("another process of the same number counts as this one")
	}
}

func TestUndoEndsOnlyWhatItNames(t *testing.T) {
	sleeper := func() (*exec.Cmd, Process) {
		t.Helper()
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := ProcessOf(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, p
	}
	_, named := sleeper()
	_, other := sleeper()
	m := made{Processes: []Process{named, {other.PID, other.Start + 1}}}
	if err := m.undo(); err != nil {
		t.Fatal(err)
	}
	if running(named) {
		t.Error("what was named still runs")
	}
	if !running(other) {
		t.Error("a process was ended that has only the number of one that was named")
	}
}
