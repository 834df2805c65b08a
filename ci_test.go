//go:build linux

package seatkeeper_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// ciStep runs a step of CI with little patience.
func ciStep(t *testing.T, bound string, command ...string) (code int, output string, took time.Duration) {
	t.Helper()
	cmd := exec.Command(".ci/step", append([]string{"trial", bound}, command...)...)
	cmd.Env = append(os.Environ(), "STEP_GRACE=1")
	cmd.WaitDelay = time.Minute // what survives holds the output open
	begin := time.Now()
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out), time.Since(begin)
}

// A hang costs one bound and says which step it was; nothing of the step goes on, not even
// what has a session of its own and ignores every kind request.
func TestAStepOfCIThatHangsIsNamedAndEndedWithAllItStarted(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	script := `(trap "" QUIT TERM HUP; exec setsid sh -c 'trap "" QUIT TERM HUP; echo $$ >> ` + pids + `; while :; do sleep 1; done') & echo $! >> ` + pids + `; wait`
	code, out, took := ciStep(t, "1", "sh", "-c", script)
	if code == 0 || !strings.Contains(out, "CI: step trial exceeded its bound of 1 s") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if took > 30*time.Second {
		t.Errorf("a bound of a second took %s", took)
	}
	list, err := os.ReadFile(pids)
	if err != nil || len(strings.Fields(string(list))) != 2 {
		t.Fatalf("the step started %q (%v)", list, err)
	}
	for _, pid := range strings.Fields(string(list)) {
		state, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && !regexp.MustCompile(`\) [ZX] `).Match(state) {
			t.Errorf("process %s goes on: %s", pid, state)
		}
	}
}

func TestAStepOfCIThatEndsIsJudgedByItsExitCode(t *testing.T) {
	for _, c := range []struct {
		script string
		want   int
	}{{"true", 0}, {"exit 3", 3}} {
		code, out, _ := ciStep(t, "60", "sh", "-c", c.script)
		if code != c.want || out != "== trial\n" {
			t.Errorf("%s: exit code %d, want %d\n%s", c.script, code, c.want, out)
		}
	}
}

// Go programs that hang say where.
func TestAHangingGoProgramShowsItsGoroutines(t *testing.T) {
	if os.Getenv("HANG") != "" {
		<-time.After(time.Hour)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	code, out, _ := ciStep(t, "1", "env", "HANG=1", self, "-test.run", "^"+t.Name()+"$")
	if code == 0 || !strings.Contains(out, "SIGQUIT") || !strings.Contains(out, t.Name()) {
		t.Errorf("exit code %d, no goroutines in\n%s", code, out)
	}
}

// Every step of CI is a target of the Makefile, and has a bound.
func TestEveryStepOfCIHasABound(t *testing.T) {
	run, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile(`(?m)^step (.*)$`).FindAllStringSubmatch(string(run), -1)
	for _, s := range steps {
		m := regexp.MustCompile(`^(\d+)(?: -j2)?((?: [a-z][a-z-]*)+)(?: #.*)?$`).FindStringSubmatch(s[1])
		if m == nil {
			t.Errorf("step %s: want a bound in seconds and targets", s[1])
			continue
		}
		for target := range strings.FieldsSeq(m[2]) {
			if !strings.Contains(string(makefile), "\n"+target+": ") {
				t.Errorf("the Makefile has no target %s", target)
			}
		}
	}
	if len(steps) < 10 {
		t.Errorf("%d steps were read", len(steps))
	}
}
