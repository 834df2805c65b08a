//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// patience bounds every wait in these tests; they run beside others on small machines.
const patience = 30 * time.Second

// eventually waits until check has no objection.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	if err := waitFor(t.Context(), what, patience, func(context.Context) error { return check() }); err != nil {
		t.Fatal(err)
	}
}

// process is a seatkeeper process of its own.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr lockedBuffer
	exited chan struct{}
}

// lockedBuffer may be read while the process writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// programUnderTest is the copy of this test binary that TestMain put into the PATH.
func programUnderTest(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("seatkeeper")
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// start starts the program as a process.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(programUnderTest(t), args...), exited: make(chan struct{})}
	p.cmd.Env = append(withoutSettings(os.Environ()), env...)
	p.cmd.Stderr = &p.stderr
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.stdout = w, bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		// Kindly first: after a failure, too, a cluster takes its folder along.
		p.signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(devStopTimeout):
			p.signal(os.Kill)
			<-p.exited
		}
		out.Close()
	})
	return p
}

// line returns the next line of the process's output.
func (p *process) line() string {
	p.t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		p.signal(os.Kill)
		<-p.exited
		p.t.Fatalf("%v ended without a line: %s", p.cmd.Args, p.stderr.String())
	}
	return strings.TrimSuffix(line, "\n")
}

func (p *process) signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// exitCode waits for the end of the process.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%v does not end", p.cmd.Args)
		return -1
	}
}

// startDevProcess runs seatkeeper dev and waits for its ready line.
func startDevProcess(t *testing.T) (*process, devReady) {
	t.Helper()
	port := takePorts(t)
	p := start(t, nil, "dev", "--port", strconv.Itoa(port), "-o", "json")
	var ready devReady
	if err := json.Unmarshal([]byte(p.line()), &ready); err != nil {
		t.Fatal(err)
	}
	return p, ready
}

// cli runs a command against the cluster and expects an exit code.
func (r devReady) cli(t *testing.T, want int, args ...string) string {
	t.Helper()
	code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": strings.Join(r.Addresses, ",")}, args...)
	if code != want {
		t.Fatalf("seatkeeper %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, stderr)
	}
	return out
}

func (r devReady) status(t *testing.T) *pb.StatusResponse {
	t.Helper()
	var st pb.StatusResponse
	if err := protojson.Unmarshal([]byte(r.cli(t, 0, "status", "-o", "json")), &st); err != nil {
		t.Fatal(err)
	}
	return &st
}

func inUse(st *pb.StatusResponse, feature string) int32 {
	for _, p := range st.Pools {
		if p.Feature == feature {
			return p.InUse
		}
	}
	return -1
}

func (r devReady) node(id string) devReadyNode {
	for _, n := range r.Nodes {
		if strings.HasPrefix(id, n.Name+"-") {
			return n
		}
	}
	return devReadyNode{}
}

// One cluster for all that needs no death of a node; the next test kills.
func TestDevClusterServesCommandsAndCurl(t *testing.T) {
	dev, ready := startDevProcess(t)
	t.Run("curl gets a seat from each node", func(t *testing.T) { testCurl(t, ready) })
	t.Run("single steps", func(t *testing.T) { testSingleSteps(t, ready) })
	t.Run("lists in each format", func(t *testing.T) { testFormats(t, ready) })
	t.Run("kill", func(t *testing.T) { testKill(t, ready) })
	t.Run("run", func(t *testing.T) { testRun(t, ready) })
	t.Run("licences", func(t *testing.T) { testLicences(t, ready) })
	t.Run("leadership is handed on", func(t *testing.T) { testTransfer(t, ready) })
	t.Run("a second cluster on these ports", func(t *testing.T) {
		port := ready.Addresses[0][strings.LastIndexByte(ready.Addresses[0], ':')+1:]
		code, _, stderr := run(t, nil, "dev", "--port", port)
		if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, ready.Addresses[0]+" of node-1 is in use") || !strings.Contains(stderr, "--port") {
			t.Errorf("exit code %d, stderr %q", code, stderr)
		}
	})
	t.Run("metrics are those of the list", func(t *testing.T) { testMetrics(t, ready) })
	t.Run("garbage on every port", func(t *testing.T) { testGarbage(t, ready) })

	dev.signal(syscall.SIGINT)
	if code := dev.exitCode(); code != 0 {
		t.Errorf("dev ends with %d: %s", code, dev.stderr.String())
	}
	assertGone(t, ready)
}

// assertGone checks that a dev cluster left nothing behind.
func assertGone(t *testing.T, ready devReady) {
	t.Helper()
	if _, err := os.Stat(ready.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there", ready.DataDir)
	}
	for _, pid := range ready.PIDs {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("server %d still runs: %v", pid, err)
		}
	}
}

func testCurl(t *testing.T, ready devReady) {
	leader := ready.node(ready.status(t).Leader)
	body := `{"feature":"cad","user":"%s","host":"ws1"}`
	for i, address := range ready.Addresses {
		resp, err := http.Post("http://"+address+"/v1/checkout", "application/x-www-form-urlencoded", strings.NewReader(fmt.Sprintf(body, "curl"+strconv.Itoa(i))))
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var answer pb.CheckoutResponse
		if err := protojson.Unmarshal(data, &answer); err != nil || resp.StatusCode != http.StatusOK || len(answer.Leases) != 1 || answer.Session.Secret == "" {
			t.Fatalf("%s answers %d %s (%v)", address, resp.StatusCode, data, err)
		}
		renew := fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, answer.Session.Id, answer.Session.Secret)
		if resp, err = http.Post("http://"+address+"/v1/checkin", "", strings.NewReader(renew)); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("checkin at %s: %v %v", address, resp, err)
		}
		resp.Body.Close()
		if address == leader.Address {
			continue
		}
		stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		if resp, err = stay.Post("http://"+address+"/v1/checkout", "", strings.NewReader(fmt.Sprintf(body, "x"))); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if want := "http://" + leader.Address + "/v1/checkout"; resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Location") != want {
			t.Errorf("follower %s answers %d to %q, want 307 to %q", address, resp.StatusCode, resp.Header.Get("Location"), want)
		}
	}
	if n := inUse(ready.status(t), "cad"); n != 0 {
		t.Errorf("%d cad seats in use, want 0", n)
	}
}

func testSingleSteps(t *testing.T, ready devReady) {
	state := filepath.Join(t.TempDir(), "job.seat")
	var first, again pb.CheckoutResponse
	mustJSON(t, ready.cli(t, 0, "checkout", "cad:2026.0", "mesh", "-n", "2", "--state", state, "-o", "json"), &first)
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("state file: %v %v, want mode 0600", info.Mode(), err)
	}
	if len(first.Leases) != 2 || first.Leases[0].Count != 2 {
		t.Fatalf("leases %v, want 2 seats of two features", first.Leases)
	}
	mustJSON(t, ready.cli(t, 0, "checkout", "cad:2026.0", "mesh", "-n", "2", "--state", state, "-o", "json"), &again)
	if len(again.Leases) != 2 || again.Leases[0].Id != first.Leases[0].Id || again.Leases[0].FencingToken != first.Leases[0].FencingToken {
		t.Errorf("asking again gave %v, want the leases %v", again.Leases, first.Leases)
	}
	if out := ready.cli(t, 0, "renew", "--state", state); !strings.Contains(out, "active") {
		t.Errorf("renew says %s", out)
	}
	id, token := strconv.FormatUint(first.Leases[0].Id, 10), strconv.FormatUint(first.Leases[0].FencingToken, 10)
	ready.cli(t, 0, "verify", id, "--token", token)
	ready.cli(t, 77, "verify", id, "--token", "1")
	ready.cli(t, 75, "checkout", "mesh", "--user", "other")
	ready.cli(t, 75, "preview", "mesh", "--user", "other")
	ready.cli(t, 0, "preview", "cad")
	ready.cli(t, 1, "checkout", "no-such-feature")
	ready.cli(t, 1, "checkout", "cad:9999.0")
	ready.cli(t, 0, "checkin", id, "--state", state)
	if st := ready.status(t); inUse(st, "cad") != 0 || inUse(st, "mesh") != 2 {
		t.Errorf("after returning cad: cad %d, mesh %d in use", inUse(st, "cad"), inUse(st, "mesh"))
	}
	ready.cli(t, 0, "checkin", "--all", "--state", state)
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Error("the state file outlived its session")
	}
	if n := inUse(ready.status(t), "mesh"); n != 0 {
		t.Errorf("%d mesh seats in use, want 0", n)
	}
	// Without a state file the secret goes by the environment.
	var loose pb.CheckoutResponse
	mustJSON(t, ready.cli(t, 0, "checkout", "cad", "-o", "json"), &loose)
	env := map[string]string{"SEATKEEPER_ADDR": ready.Addresses[0], "SEATKEEPER_SESSION_SECRET": loose.Session.Secret}
	if code, _, stderr := run(t, env, "checkin", "--session", loose.Session.Id); code != 0 {
		t.Errorf("checkin by secret: %d %s", code, stderr)
	}
	env["SEATKEEPER_SESSION_SECRET"] = "wrong"
	if code, _, _ := run(t, env, "renew", "--session", loose.Session.Id); code == 0 {
		t.Error("a closed session is renewed with a wrong secret")
	}
}

func mustJSON(t *testing.T, text string, into proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

func testFormats(t *testing.T, ready devReady) {
	for _, args := range [][]string{{"status"}, {"leases"}, {"usage"}, {"members"}, {"license", "list"}, {"operator", "raft", "list-peers"}} {
		out := ready.cli(t, 0, append(args, "-o", "json")...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%v -o json is not JSON: %s", args, out)
		}
		ready.cli(t, 0, append(args, "-o", "yaml")...)
	}
	// The API's own names and forms.
	resp, err := http.Get("http://" + ready.Addresses[0] + "/v1/status?stale=true")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var api, cli map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&api); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(ready.cli(t, 0, "status", "-o", "json")), &cli); err != nil {
		t.Fatal(err)
	}
	for name, value := range api {
		if fmt.Sprintf("%T", cli[name]) != fmt.Sprintf("%T", value) {
			t.Errorf("field %s: the API answers %T, the command prints %T", name, value, cli[name])
		}
	}
	if head := strings.Fields(ready.cli(t, 0, "operator", "raft", "list-peers")); head[0] != "Node" || head[1] != "ID" || head[2] != "Address" {
		t.Errorf("list-peers begins with %v, want Consul's columns", head[:3])
	}
}

func testKill(t *testing.T, ready devReady) {
	state := filepath.Join(t.TempDir(), "s")
	ready.cli(t, 0, "checkout", "solver", "--user", "ann", "--host", "h1", "--state", state)
	ready.cli(t, 0, "checkout", "solver", "--user", "bob", "--host", "h2")
	if out := ready.cli(t, 0, "kill", "--user", "ann", "--dry-run"); !strings.Contains(out, "1 lease(s) would be taken back") {
		t.Errorf("dry run says %s", out)
	}
	if n := inUse(ready.status(t), "solver"); n != 2 {
		t.Fatalf("after a dry run %d seats are in use, want 2", n)
	}
	ready.cli(t, 0, "kill", "--user", "ann", "--host", "h1")
	if n := inUse(ready.status(t), "solver"); n != 1 {
		t.Errorf("after the kill %d seats are in use, want 1", n)
	}
	if out := ready.cli(t, 1, "renew", "--state", state); !strings.Contains(out, "removed_by_admin") {
		t.Errorf("the holder learns: %s", out)
	}
	ready.cli(t, 0, "kill", "--feature", "solver")
}

func testRun(t *testing.T, ready devReady) {
	env := []string{"SEATKEEPER_ADDR=" + strings.Join(ready.Addresses, ",")}
	shell := func(script string) *process {
		return start(t, env, "run", "cad,solver", "-n", "2", "--", "sh", "-c", script)
	}
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "kill -9 $$": 128 + 9, "test -n \"$SEATKEEPER_FENCING_TOKEN\"": 0} {
		if got := shell(script).exitCode(); got != want {
			t.Errorf("sh -c %q: exit code %d, want %d", script, got, want)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1} {
		// The shell runs its trap between two commands, so it must run short ones.
		p := shell(fmt.Sprintf(`trap "echo got; exit 42" %d; echo up; while :; do sleep 0.02; done`, s))
		if up := p.line(); up != "up" {
			t.Fatalf("the command says %q", up)
		}
		if n := inUse(ready.status(t), "solver"); n != 2 {
			t.Errorf("while it runs %d solver seats are in use, want 2", n)
		}
		p.signal(s)
		if got := p.exitCode(); got != 42 {
			t.Errorf("%v: exit code %d, want the command's 42: %s", s, got, p.stderr.String())
		}
	}
	if st := ready.status(t); inUse(st, "cad") != 0 || inUse(st, "solver") != 0 {
		t.Errorf("after all ended: cad %d, solver %d in use", inUse(st, "cad"), inUse(st, "solver"))
	}
	// All taken: refused at once, or served as soon as a seat is free.
	ready.cli(t, 0, "checkout", "solver", "-n", "5", "--user", "hog", "--host", "h")
	busy := start(t, env, "run", "solver", "--", "true")
	if got := busy.exitCode(); got != 75 || strings.Count(busy.stderr.String(), "\n") != 1 {
		t.Errorf("no seat free: exit code %d, want 75 and one line: %s", got, busy.stderr.String())
	}
	waiting := start(t, env, "run", "solver", "--wait", "1m", "--", "sh", "-c", "echo got it")
	ready.cli(t, 0, "kill", "--user", "hog")
	if line := waiting.line(); line != "got it" || waiting.exitCode() != 0 {
		t.Errorf("the one that waited says %q, exit code %d", line, waiting.exitCode())
	}
}

func testLicences(t *testing.T, ready devReady) {
	doc := write(t, "more.txt", string(sampleLicence("more-1", "acme", []sampleFeature{{"extra", "1.0", 3, "ci", ""}}, time.Now())))
	signed := filepath.Join(t.TempDir(), "more.lic")
	ready.cli(t, 0, "license", "sign", doc, "--key", ready.SignerFile, "--out", signed)
	ready.cli(t, 0, "license", "apply", signed)
	if code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": ready.Addresses[0]}, "license", "apply", signed); code == 0 || strings.Count(stderr, "\n") != 1 {
		t.Errorf("the same licence twice: exit code %d, stderr %q", code, stderr)
	}
	ready.cli(t, 77, "license", "apply", doc) // not signed
	if out := ready.cli(t, 0, "license", "list", "more-1", "--text"); !strings.Contains(out, "feature: extra") {
		t.Errorf("license list --text says %s", out)
	}
	ready.cli(t, 0, "license", "remove", "more-1")
	ready.cli(t, 1, "checkout", "extra")
}

func testTransfer(t *testing.T, ready devReady) {
	old := ready.status(t).Leader
	ready.cli(t, 0, "operator", "raft", "transfer-leader")
	eventually(t, "another leader", func() error {
		if now := ready.status(t).Leader; now == old {
			return fmt.Errorf("%s still leads", old)
		}
		return nil
	})
	ready.cli(t, 0, "operator", "raft", "transfer-leader", "--id", old)
}

func testGarbage(t *testing.T, ready devReady) {
	for _, n := range ready.Nodes {
		for _, address := range []string{n.Address, n.RaftAddress, n.GossipAddress} {
			c, err := net.DialTimeout("tcp", address, patience)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(bytes.Repeat([]byte{0xff, 0, 'x', '\n'}, 4096))
			c.Close()
		}
		u, err := net.Dial("udp", n.GossipAddress)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = u.Write([]byte("garbage"))
		u.Close()
	}
	ready.cli(t, 0, "checkout", "mesh", "--user", "after", "--host", "garbage")
	ready.cli(t, 0, "kill", "--user", "after")
}

func TestLeaderKilledAndBackKeepsLeasesAndState(t *testing.T) {
	inFull(t)
	dev, ready := startDevProcess(t)
	state := filepath.Join(t.TempDir(), "s")
	var before pb.CheckoutResponse
	mustJSON(t, ready.cli(t, 0, "checkout", "cad", "-n", "3", "--state", state, "-o", "json"), &before)

	leader := ready.node(ready.status(t).Leader)
	if err := syscall.Kill(leader.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var renewed pb.RenewResponse
	mustJSON(t, ready.cli(t, 0, "renew", "--state", state, "-o", "json"), &renewed)
	if len(renewed.Leases) != 1 || renewed.Leases[0].Id != before.Leases[0].Id || renewed.Leases[0].FencingToken != before.Leases[0].FencingToken {
		t.Fatalf("before the kill %v, after it %v", before.Leases, renewed.Leases)
	}
	st := ready.status(t)
	if now := ready.node(st.Leader); now.Name == leader.Name || inUse(st, "cad") != 3 {
		t.Errorf("leader %s, cad in use %d; want another leader and 3", now.Name, inUse(st, "cad"))
	}
	ready.cli(t, 0, "checkout", "mesh", "--user", "new", "--host", "h")

	back := start(t, nil, "server", "--config", leader.Config)
	eventually(t, "the same state on all nodes", func() error {
		_, err := sameState(ready.status(t), 3)
		return err
	})
	ready.cli(t, 0, "checkin", "--state", state)

	// Two of three gone: no leader. Status says so from what is left, and exits 2.
	back.signal(syscall.SIGKILL)
	left := ready.node(ready.status(t).Leader)
	for _, n := range ready.Nodes {
		if n.Name != leader.Name && n.Name != left.Name {
			_ = syscall.Kill(n.PID, syscall.SIGKILL)
		}
	}
	eventually(t, "a status without a leader", func() error {
		code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": left.Address}, "status")
		if code != 2 || !strings.Contains(stderr, "no leader") || !strings.Contains(out, "cad") {
			return fmt.Errorf("exit code %d\n%s%s", code, out, stderr)
		}
		return nil
	})
	ready.cli(t, 69, "checkout", "cad")
	dev.signal(syscall.SIGTERM)
	if code := dev.exitCode(); code != 0 {
		t.Errorf("dev ends with %d: %s", code, dev.stderr.String())
	}
}

func TestServersDieWithTheirParent(t *testing.T) {
	dev, ready := startDevProcess(t)
	t.Cleanup(func() { os.RemoveAll(ready.DataDir) })
	dev.signal(os.Kill)
	<-dev.exited
	eventually(t, "the end of all servers", func() error {
		for _, pid := range ready.PIDs {
			// A killed orphan may stay as a zombie where nobody collects it.
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err == nil && !bytes.Contains(stat, []byte(") Z ")) {
				return fmt.Errorf("%d still runs", pid)
			}
		}
		return nil
	})
}

func TestDemoTellsItsStoryAndLeavesNothing(t *testing.T) {
	p := start(t, nil, "demo")
	out, _ := io.ReadAll(p.stdout)
	if code := p.exitCode(); code != 0 || !strings.Contains(string(out), "nothing is left behind") {
		t.Fatalf("exit code %d\n%s%s", code, out, p.stderr.String())
	}
}

func TestServerSaysInOneLineWhyItDoesNotStart(t *testing.T) {
	port := takePorts(t)
	address := func(p int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p)) }
	config := func(dir string, first int) string {
		return write(t, "node.yaml", fmt.Sprintf("name: n1\ndata_dir: %s\napi: {bind: %s}\nraft: {bind: %s}\ngossip: {bind: %s}\n",
			dir, address(first), address(first+1), address(first+2)))
	}
	dir := t.TempDir()
	server := start(t, nil, "server", "--config", config(filepath.Join(dir, "n1"), port))
	eventually(t, "a leader", func() error {
		if code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": address(port)}, "status"); code != 0 {
			return errors.New(stderr)
		}
		return nil
	})
	notADir := write(t, "file", "x")
	for _, c := range []struct{ name, config, want string }{
		{"API port in use", config(filepath.Join(dir, "n2"), port), "api.bind " + address(port) + " is in use"},
		{"Raft port in use", config(filepath.Join(dir, "n3"), port-1), address(port)},
		{"data in use", config(filepath.Join(dir, "n1"), port+portsPerNode), "in use"},
		{"no parent directory", config(filepath.Join(dir, "no", "such"), port+portsPerNode), filepath.Join(dir, "no")},
		{"data directory is a file", config(notADir, port+portsPerNode), notADir},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, nil, "server", "--config", c.config)
			code := p.exitCode()
			lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
			if last := lines[len(lines)-1]; code == 0 || !strings.HasPrefix(last, "seatkeeper: ") || !strings.Contains(last, c.want) {
				t.Errorf("exit code %d, last line %q, want %q in it", code, last, c.want)
			}
		})
	}
	server.signal(syscall.SIGTERM)
	if code := server.exitCode(); code != 0 {
		t.Errorf("the server ends with %d: %s", code, server.stderr.String())
	}
}
