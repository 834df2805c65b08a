//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// shell is one shell into which the lines of a page are typed.
type shell struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Reader
	err lockedBuffer
}

// startShell starts a shell whose processes all go with the test.
func startShell(t *testing.T, env ...string) *shell {
	t.Helper()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("bash is missing")
	}
	s := &shell{t: t}
	cmd := exec.Command(bash, "--norc")
	cmd.Env = append(withoutSettings(os.Environ()), append(env, "PATH="+filepath.Dir(programUnderTest(t))+":"+os.Getenv("PATH"))...)
	cmd.Stderr = &s.err
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if s.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		for end := time.Now().Add(devStopTimeout); syscall.Kill(-cmd.Process.Pid, 0) == nil && time.Now().Before(end); {
			_, _ = io.Copy(io.Discard, out) // until all that write to it have ended
			<-time.After(20 * time.Millisecond)
			_, _ = syscall.Wait4(cmd.Process.Pid, nil, syscall.WNOHANG, nil)
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	return s
}

// typed runs some lines and returns what they print.
func (s *shell) typed(lines string) string {
	s.t.Helper()
	const mark = "<that was it>"
	if _, err := fmt.Fprintf(s.in, "%s\necho; echo '%s'\n", lines, mark); err != nil {
		s.t.Fatal(err)
	}
	var text strings.Builder
	for {
		line, err := s.out.ReadString('\n')
		if err != nil {
			s.t.Fatalf("after %s: %v\n%s%s", lines, err, text.String(), s.err.String())
		}
		if strings.TrimSpace(line) == mark {
			return text.String()
		}
		text.WriteString(line)
	}
}

// answer is the JSON object among what was printed.
func (s *shell) answer(lines string) (got agentAnswer, keys map[string]any) {
	s.t.Helper()
	text := s.typed(lines)
	object := regexp.MustCompile(`(?m)^\{"(session|released|code)".*\}$`).FindString(text)
	if json.Unmarshal([]byte(object), &got) != nil || json.Unmarshal([]byte(object), &keys) != nil {
		s.t.Fatalf("%s prints no answer:\n%s%s", lines, text, s.err.String())
	}
	return got, keys
}

// indented are the blocks of a page that are indented by four spaces, as they stand there.
func indented(page string) (blocks []string) {
	for _, m := range regexp.MustCompile(`(?m)(?:^    .*\n)+`).FindAllString(page, -1) {
		blocks = append(blocks, regexp.MustCompile(`(?m)^    `).ReplaceAllString(m, ""))
	}
	return blocks
}

// The page's ten minutes, to the letter but for ports and folders that are the test's own.
func TestAgentsPageIsFollowedToTheLetter(t *testing.T) {
	inFull(t)
	t.Parallel()
	text, err := os.ReadFile("../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, _ := strings.Cut(string(text), "\n## Ten minutes\n")
	page, _, found := strings.Cut(page, "\n## ")
	blocks := indented(regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, ""))
	if !found || len(blocks) != 6 {
		t.Fatalf("%d blocks, want 6: %q", len(blocks), blocks)
	}
	dir, err := os.MkdirTemp("", "skdoc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	port, socket := takePorts(t), filepath.Join(dir, "agent.sock")
	ours := map[string]string{"/tmp/agent.sock": socket, "seatkeeper dev &": fmt.Sprintf("seatkeeper dev --port %d &", port)}
	var addresses []string
	for i := range 3 {
		address := loopback(port + portsPerNode*i)
		ours[loopback(apiPort+portsPerNode*i)] = address
		addresses = append(addresses, address)
	}
	for i := range blocks {
		blocks[i] = replaceAll(blocks[i], ours)
	}
	if !strings.Contains(blocks[0], strings.Join(addresses, ",")) {
		t.Fatalf("the page names other addresses than dev has: %s", blocks[0])
	}
	sh := startShell(t, "HOME="+dir)
	answering := func() {
		t.Helper()
		eventually(t, "the agent to answer", func() error {
			_, err := overSocket(socket).Get("http://agent/livez")
			if err != nil {
				return fmt.Errorf("%w\n%s", err, sh.err.String())
			}
			return nil
		})
	}
	sh.typed(blocks[0])
	answering()
	cluster := devReady{Addresses: addresses}
	eventually(t, "the cluster to be ready", func() error {
		code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": strings.Join(addresses, ",")}, "status")
		if code != 0 || !strings.Contains(out, "cad") {
			return errors.New(out + stderr)
		}
		return nil
	})

	taken, keys := sh.answer(blocks[1])
	one := taken.seat(t)
	var shown map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(blocks[2], "\n", "")), &shown); err != nil {
		t.Fatal(err)
	}
	sameKeys(t, "", shown, keys)
	if still, _ := sh.answer(blocks[3]); still.seat(t) != one {
		t.Errorf("the second call answers %+v, want %+v", still, one)
	}
	if back, _ := sh.answer(blocks[4]); len(back.Released) != 1 || back.Released[0].ID != one.ID {
		t.Errorf("the third call answers %+v", back)
	}
	if n := inUse(cluster.status(t), "cad"); n != 0 {
		t.Errorf("%d seats in use after the three calls", n)
	}
	lines := strings.SplitAfter(strings.TrimSpace(blocks[5]), "\n")
	if len(lines) != 3 {
		t.Fatalf("want three lines in %q", blocks[5])
	}
	held, _ := sh.answer(lines[0])
	two := held.seat(t)
	sh.typed(lines[1])
	answering()
	if status := sh.typed(lines[2]); !strings.Contains(status, two.ID+" ") || !strings.Contains(status, " "+two.FencingToken+" ") {
		t.Errorf("after the agent's death its status has no lease %s with token %s:\n%s%s", two.ID, two.FencingToken, status, sh.err.String())
	}
	followPython(t, string(text), socket)
	if n := inUse(cluster.status(t), "cad"); n != 1 {
		t.Errorf("%d seats in use after the program in Python, want the shell's", n)
	}
}

// sameKeys compares the names of two objects.
func sameKeys(t *testing.T, where string, want, got any) {
	t.Helper()
	switch want := want.(type) {
	case map[string]any:
		got, _ := got.(map[string]any)
		a, b := slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))
		b = slices.DeleteFunc(b, func(k string) bool { return k == "cluster_session_id" }) // for operators
		if !slices.Equal(a, b) {
			t.Errorf("the page shows %v in %q, the agent answers %v", a, where, b)
		}
		for k := range want {
			sameKeys(t, where+"."+k, want[k], got[k])
		}
	case []any:
		if got, _ := got.([]any); len(want) > 0 && len(got) > 0 {
			sameKeys(t, where, want[0], got[0])
		}
	}
}

func followPython(t *testing.T, page, socket string) {
	t.Helper()
	m := regexp.MustCompile("(?s)```python\n(.*?)```").FindStringSubmatch(page)
	if m == nil {
		t.Fatal("the page has no Python")
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Log("python3 is missing: its example is not tried")
		return
	}
	for feature, want := range map[string]string{"cad": "seat [", "nosuch": "no seat: "} {
		cmd := exec.Command(python, "-c", strings.Replace(m[1], `"cad"`, `"`+feature+`"`, 1))
		cmd.Env = append(os.Environ(), "SEATKEEPER_AGENT_SOCKET="+socket)
		out, err := cmd.CombinedOutput()
		if (err == nil) != (feature == "cad") || !strings.HasPrefix(string(out), want) {
			t.Errorf("the program in Python says %q: %v, want %q", out, err, want)
		}
	}
}

// sidecarPod is what the test needs of deploy/examples/sidecar.yaml.
type sidecarPod struct {
	Spec struct {
		InitContainers []struct {
			Args []string
			Env  []struct {
				Name  string
				Value any
			}
			StartupProbe struct{ Exec struct{ Command []string } } `yaml:"startupProbe"`
		} `yaml:"initContainers"`
		Containers []struct{ Command, Args []string }
	}
}

// The pod's two containers as two groups of processes: the seat goes with the program's
// container, and with the agent's when the pod ends.
func TestSidecarExampleHoldsASeatAsLongAsItsProgramRuns(t *testing.T) {
	inFull(t)
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is missing")
	}
	text, err := os.ReadFile("../../deploy/examples/sidecar.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "skpod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var pod sidecarPod
	if err := yaml.Unmarshal([]byte(replaceAll(string(text), map[string]string{"/run/seatkeeper": dir + "/run", "/var/lib/seatkeeper-agent": dir + "/lib",
		"/tmp/seat": dir + "/seat", "/usr/bin/seatkeeper": programUnderTest(t), "/data/input.dat": dir + "/input.dat"})), &pod); err != nil {
		t.Fatal(err)
	}
	s := startStory(t, unshared("solver", 1, patientProfile))
	sidecar, program := pod.Spec.InitContainers[0], pod.Spec.Containers[0]
	_, known, _ := run(t, nil, "config", "show", "-o", "json")
	for _, e := range sidecar.Env {
		key := "client." + strings.ToLower(strings.TrimPrefix(e.Name, "SEATKEEPER_"))
		if e.Name == "SEATKEEPER_AGENT_HOST" {
			key = "agent.host"
		}
		if !strings.Contains(known, `"`+key+`"`) {
			t.Errorf("nothing is set by %s", e.Name)
		}
	}
	agent := start(t, []string{"SEATKEEPER_ADDR=" + s.address(), "SEATKEEPER_AGENT_HOST=pod-1"}, sidecar.Args...)
	eventually(t, "the startup probe", func() error {
		probe := sidecar.StartupProbe.Exec.Command
		out, err := exec.Command(probe[0], probe[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s%s", err, out, agent.stderr.String())
		}
		return nil
	})
	if err := os.WriteFile(dir+"/solve", []byte("#!/bin/sh\ntest \"$1\" = "+dir+"/input.dat && echo solving && exec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	container := func() (kill func(), said *lockedBuffer) {
		said = &lockedBuffer{}
		cmd := exec.Command(program.Command[0], append(program.Command[1:], program.Args...)...)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		cmd.Stdout, cmd.Stderr = said, said
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = time.Second
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill = func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); _ = cmd.Wait() }
		t.Cleanup(kill)
		return kill, said
	}
	for range 2 { // the second time it starts again in the same pod
		kill, said := container()
		eventually(t, "the program to solve", func() error {
			if !strings.Contains(said.String(), "solving") {
				return errors.New(said.String() + agent.stderr.String())
			}
			return nil
		})
		if list := s.leases(t, "solver"); len(list) != 1 || list[0].Host != "pod-1" {
			t.Errorf("while it solves the seats are %v", list)
		}
		kill()
		s.waitInUse(t, "solver", 0)
	}
	_, said := container()
	s.waitInUse(t, "solver", 1)
	agent.signal(syscall.SIGTERM)
	if code := agent.exitCode(); code != 0 {
		t.Errorf("the sidecar ends with %d: %s%s", code, agent.stderr.String(), said.String())
	}
	if n := s.inUse(t, "solver"); n != 0 {
		t.Errorf("after the pod's end %d seats are in use", n)
	}
}
