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
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// agentProcess is an agent, and its callers' way to it: plain HTTP and JSON, without any
// package of ours.
type agentProcess struct {
	*process
	s           *story
	dir, socket string
	extra       []string
	http        *http.Client
}

// overSocket speaks HTTP over a unix socket.
func overSocket(socket string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
}

// startAgent starts an agent with a state folder of its own.
func (s *story) startAgent(t *testing.T, extra ...string) *agentProcess {
	t.Helper()
	dir, err := os.MkdirTemp("", "skagent") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // other users get to the socket
		t.Fatal(err)
	}
	a := &agentProcess{s: s, dir: dir, socket: filepath.Join(dir, "a.sock"), extra: extra}
	a.http = overSocket(a.socket)
	a.again(t)
	return a
}

// again starts the agent, also after it was killed.
func (a *agentProcess) again(t *testing.T) {
	t.Helper()
	args := append([]string{"agent", "--socket", a.socket, "--socket-mode", "0666", "--state-dir", filepath.Join(a.dir, "state"), "--host", "ws1"}, a.extra...)
	a.process = start(t, []string{"SEATKEEPER_ADDR=" + a.s.address()}, args...)
	eventually(t, "the agent to answer", func() error {
		resp, err := a.http.Get("http://agent/livez")
		if err != nil {
			return fmt.Errorf("%w: %s", err, a.stderr.String())
		}
		return resp.Body.Close()
	})
}

type agentSeat struct {
	ID           string
	Feature      string
	FencingToken string `json:"fencing_token"`
	State        string
	Reason       string
}

type agentAnswer struct {
	Session struct {
		ID, Kind, State, User, Host, Revision string
		PID                                   int
	}
	Valid        bool
	Leases, Lost []agentSeat
	Released     []agentSeat
	// Of errors.
	Reason, Message, Code string
	Final                 bool
}

// ask posts a body, or gets a path when there is none.
func (a *agentProcess) ask(t *testing.T, path, body string) (int, agentAnswer) {
	t.Helper()
	return askOver(t, a.http, path, body)
}

func askOver(t *testing.T, c *http.Client, path, body string) (int, agentAnswer) {
	t.Helper()
	var resp *http.Response
	var err error
	if body == "" {
		resp, err = c.Get("http://agent" + path)
	} else {
		resp, err = c.Post("http://agent"+path, "application/json", strings.NewReader(body))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got agentAnswer
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%s answers %s: %v", path, data, err)
	}
	return resp.StatusCode, got
}

// must is ask for what is granted.
func (a *agentProcess) must(t *testing.T, path, body string) agentAnswer {
	t.Helper()
	status, got := a.ask(t, path, body)
	if status != http.StatusOK {
		t.Fatalf("%s %s answers %d %s: %s", path, body, status, got.Reason, got.Message)
	}
	return got
}

// seat is the one seat of a valid answer.
func (g agentAnswer) seat(t *testing.T) agentSeat {
	t.Helper()
	if !g.Valid || len(g.Leases) != 1 || len(g.Lost) != 0 {
		t.Fatalf("want one valid seat: %+v", g)
	}
	return g.Leases[0]
}

// program is a process that does nothing until it is killed.
func program(t *testing.T) *exec.Cmd {
	t.Helper()
	p := exec.Command("sleep", "600")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	return p
}

func end(p *exec.Cmd) { _ = p.Process.Kill(); _ = p.Wait() }

func forPID(feature string, pid int) string {
	return fmt.Sprintf(`{"feature":%q,"pid":%d}`, feature, pid)
}

// Two programs get seats through an agent. One is killed: its seat is free long before its
// lease is over. The agent is killed, the leader is killed, a third program dies meanwhile;
// the agent that starts again has the seat of the one that lives, with the same token, and
// gives back that of the one that does not.
func TestAgentKeepsSeatsOverItsOwnDeathAndFreesThoseOfTheDead(t *testing.T) {
	inFull(t)
	t.Parallel()
	slow := lease.Profile{Lifespan: 30 * time.Second, Grace: 60 * time.Second}
	s := startStory(t, unshared("cad", 5, slow))
	a := s.startAgent(t)
	first, second, third := program(t), program(t), program(t)
	one := a.must(t, "/v1/checkout", forPID("cad", first.Process.Pid)).seat(t)
	two := a.must(t, "/v1/checkout", forPID("cad", second.Process.Pid)).seat(t)
	three := a.must(t, "/v1/checkout", forPID("cad", third.Process.Pid)).seat(t)
	if one.ID == two.ID || two.ID == three.ID || s.inUse(t, "cad") != 3 {
		t.Fatalf("three programs have leases %s, %s, %s and %d seats", one.ID, two.ID, three.ID, s.inUse(t, "cad"))
	}
	if again := a.must(t, "/v1/checkout", forPID("cad", second.Process.Pid)).seat(t); again != two || s.inUse(t, "cad") != 3 {
		t.Errorf("asking again gives %+v, want %+v; %d seats in use", again, two, s.inUse(t, "cad"))
	}
	died := time.Now()
	end(first)
	s.waitInUse(t, "cad", 2)
	if took := time.Since(died); took > slow.Lifespan/2 {
		t.Errorf("a dead program's seat was free after %v: by expiry, not by its end", took)
	}

	a.signal(syscall.SIGKILL)
	<-a.exited
	end(third)
	s.leader(t).kill()
	a.again(t)
	kept := a.must(t, "/v1/session?pid="+strconv.Itoa(second.Process.Pid), "").seat(t)
	if kept.ID != two.ID || kept.FencingToken != two.FencingToken {
		t.Errorf("after both deaths the program has lease %s token %s, want %s %s", kept.ID, kept.FencingToken, two.ID, two.FencingToken)
	}
	s.waitInUse(t, "cad", 1)
	if took := time.Since(died); took > slow.Lifespan+slow.Grace {
		t.Errorf("the seat of the one that died meanwhile was free after %v: by expiry", took)
	}
	if resp, err := a.http.Get("http://agent/metrics"); err != nil {
		t.Error(err)
	} else {
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		for _, want := range []string{`resumed_total{outcome="holder gone"} 1`, `resumed_total{outcome="kept"} 1`} {
			if !strings.Contains(string(text), want) {
				t.Errorf("of the sessions that it took over its metrics do not say %s", want)
			}
		}
	}
	if code, out, _ := s.cli(t, "verify", two.ID, "--token", two.FencingToken); code != 0 {
		t.Errorf("the cluster does not know the seat: %d %s", code, out)
	}

	// A stop keeps the seats, and another run has them.
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Fatalf("the agent ends with %d: %s", code, a.stderr.String())
	}
	a.extra = []string{"--on-exit", "return"}
	a.again(t)
	if kept := a.must(t, "/v1/session?pid="+strconv.Itoa(second.Process.Pid), "").seat(t); kept.FencingToken != two.FencingToken {
		t.Errorf("after a stop the program has token %s, want %s", kept.FencingToken, two.FencingToken)
	}
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Fatalf("the agent ends with %d: %s", code, a.stderr.String())
	}
	if n := s.inUse(t, "cad"); n != 0 {
		t.Errorf("an agent that returns on exit left %d seats in use", n)
	}
	if left, _ := filepath.Glob(filepath.Join(a.dir, "state", "*.json")); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestAgentServesCallersOfEachKind(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, unshared("held", 2, patientProfile), unshared("timed", 2, patientProfile), unshared("told", 2, patientProfile),
		unshared("mine", 2, patientProfile), unshared("many", 300, patientProfile), unshared("shell", 1, patientProfile))
	a := s.startAgent(t)
	together(t, map[string]func(*testing.T){
		"a connection":          func(t *testing.T) { agentHold(t, s, a) },
		"a time to live":        func(t *testing.T) { agentTTL(t, s, a) },
		"a loss is told":        func(t *testing.T) { agentTellsLoss(t, s, a) },
		"another user":          func(t *testing.T) { agentAnotherUser(t, s, a) },
		"garbage":               func(t *testing.T) { agentGarbage(t, a) },
		"many in one heartbeat": func(t *testing.T) { agentMany(t, s, a) },
		"a shell with curl":     func(t *testing.T) { agentShell(t, s, a) },
	})
}

func agentHold(t *testing.T, s *story, a *agentProcess) {
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/v1/hold", strings.NewReader(`{"feature":"held"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := overSocket(a.socket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	line, err := bufio.NewReader(resp.Body).ReadBytes('\n')
	var got agentAnswer
	if err != nil || json.Unmarshal(line, &got) != nil {
		t.Fatalf("the first line is %q: %v", line, err)
	}
	got.seat(t)
	s.waitInUse(t, "held", 1)
	hangUp()
	began := time.Now()
	s.waitInUse(t, "held", 0)
	if took := time.Since(began); took > patientProfile.Grace/2 {
		t.Errorf("a closed connection's seat was free after %v", took)
	}
}

func agentTTL(t *testing.T, s *story, a *agentProcess) {
	held := a.must(t, "/v1/checkout", `{"feature":"timed","ttl_ms":1500}`)
	held.seat(t)
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
		<-time.After(300 * time.Millisecond)
		a.must(t, "/v1/renew", fmt.Sprintf(`{"session_id":%q}`, held.Session.ID)).seat(t)
	}
	s.waitInUse(t, "timed", 0) // renewed no more
	if status, got := a.ask(t, "/v1/renew", fmt.Sprintf(`{"session_id":%q}`, held.Session.ID)); status != http.StatusNotFound || got.Reason != "session_unknown" {
		t.Errorf("a renewal after the end is answered %d %+v", status, got)
	}
	back := a.must(t, "/v1/checkout", `{"feature":"timed","ttl_ms":600000}`)
	// Asked for twice it is returned once.
	a.must(t, "/v1/checkout", fmt.Sprintf(`{"feature":"timed","ttl_ms":600000,"session_id":%q}`, back.Session.ID))
	if got := a.must(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q,"lease_ids":[%q]}`, back.Session.ID, back.seat(t).ID)); len(got.Released) != 1 {
		t.Errorf("a return is answered %+v", got)
	}
	if n := s.inUse(t, "timed"); n != 0 {
		t.Errorf("after the return %d seats are in use", n)
	}
}

func agentTellsLoss(t *testing.T, s *story, a *agentProcess) {
	p := program(t)
	held := a.must(t, "/v1/checkout", forPID("told", p.Process.Pid))
	held.seat(t)
	told := make(chan agentAnswer, 1)
	go func() {
		_, got := askOver(t, overSocket(a.socket), fmt.Sprintf("/v1/watch?session_id=%s&since=%s&timeout_ms=30000", held.Session.ID, held.Session.Revision), "")
		told <- got
	}()
	if code, _, stderr := s.cli(t, "kill", "--feature", "told"); code != 0 {
		t.Fatalf("kill: %s", stderr)
	}
	select {
	case got := <-told:
		if got.Valid || len(got.Lost) != 1 || got.Lost[0].Reason != "removed_by_admin" {
			t.Errorf("whoever watches is told %+v", got)
		}
	case <-time.After(patience):
		t.Fatal("whoever watches is told nothing")
	}
	if got := a.must(t, "/v1/session?pid="+strconv.Itoa(p.Process.Pid), ""); got.Valid {
		t.Errorf("the answer calls a lost seat valid: %+v", got)
	}
	// It may ask for another.
	a.must(t, "/v1/checkout", forPID("told", p.Process.Pid)).seat(t)
}

// asUser speaks to the agent as another user. The kernel notes who connects, so the thread
// that connects takes that user's id; it never comes back.
func asUser(t *testing.T, socket string, uid int) *http.Client {
	t.Helper()
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		type dialled struct {
			net.Conn
			error
		}
		got := make(chan dialled)
		go func() {
			runtime.LockOSThread()
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
				got <- dialled{nil, errno}
				return
			}
			conn, err := net.Dial("unix", socket)
			got <- dialled{conn, err}
		}()
		d := <-got
		return d.Conn, d.error
	}}}
}

func agentAnotherUser(t *testing.T, s *story, a *agentProcess) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	const ann, bob = 54321, 54322
	annSays, bobSays := asUser(t, a.socket, ann), asUser(t, a.socket, bob)
	status, held := askOver(t, annSays, "/v1/checkout", `{"feature":"mine","ttl_ms":60000}`)
	if status != http.StatusOK || held.Session.User != "uid-54321" || held.Session.Host != "ws1" {
		t.Fatalf("a user without a name is answered %d %+v", status, held)
	}
	if list := s.leases(t, "mine"); len(list) != 1 || list[0].User != "uid-54321" {
		t.Errorf("the cluster knows it as %v", list)
	}
	for path, body := range map[string]string{
		"/v1/checkin":  fmt.Sprintf(`{"session_id":%q}`, held.Session.ID),
		"/v1/renew":    fmt.Sprintf(`{"session_id":%q}`, held.Session.ID),
		"/v1/checkout": fmt.Sprintf(`{"feature":"mine","session_id":%q}`, held.Session.ID),
		"/v1/session?session_id=" + held.Session.ID:         "",
		"/v1/watch?since=0&session_id=" + held.Session.ID:   "",
		"/v1/watch?timeout_ms=0&since=0&session_id=nosuch1": "",
	} {
		if status, got := askOver(t, bobSays, path, body); status != http.StatusNotFound || got.Reason != "session_unknown" {
			t.Errorf("another user's %s is answered %d %+v", path, status, got)
		}
	}
	for body, want := range map[string]string{
		`{"feature":"mine","user":"root"}`:             "forbidden",
		`{"feature":"mine","host":"elsewhere"}`:        "forbidden",
		forPID("mine", os.Getpid()):                    "forbidden",
		`{"feature":"mine","pid":1}`:                   "forbidden",
		`{"feature":"mine","pid":-1}`:                  "invalid",
		`{"feature":"mine","pid":4194304}`:             "invalid",
		`{"feature":"mine","session_id":"short"}`:      "invalid",
		`{"feature":"mine","pid":1,"ttl_ms":99999999}`: "forbidden",
	} {
		if _, got := askOver(t, bobSays, "/v1/checkout", body); got.Reason != want {
			t.Errorf("another user's %s is answered %+v, want %s", body, got, want)
		}
	}
	if status, got := askOver(t, annSays, "/v1/session?session_id="+held.Session.ID, ""); status != http.StatusOK || !got.Valid {
		t.Errorf("after all that its own user is answered %d %+v", status, got)
	}
	// Root may act for others, as a job scheduler does.
	if got := a.must(t, "/v1/checkout", `{"feature":"mine","user":"ann","host":"ws7"}`); got.Session.User != "ann" || got.Session.Host != "ws7" {
		t.Errorf("root asks for ann and gets %+v", got)
	}
	a.must(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q}`, held.Session.ID))
}

func agentGarbage(t *testing.T, a *agentProcess) {
	for name, c := range map[string]struct {
		path, body string
		want       int
	}{
		"no JSON":              {"/v1/checkout", "garbage", 400},
		"two objects":          {"/v1/checkout", `{"feature":"x"}{"feature":"y"}`, 400},
		"an unknown key":       {"/v1/checkout", `{"feature":"x","secret":"y"}`, 400},
		"nothing asked":        {"/v1/checkout", `{}`, 400},
		"a count below zero":   {"/v1/checkout", `{"feature":"x","count":-1}`, 400},
		"feature and items":    {"/v1/checkout", `{"feature":"x","items":[{"feature":"y"}]}`, 400},
		"a wait for ever":      {"/v1/checkout", `{"feature":"x","wait_ms":99999999999}`, 400},
		"a hold with a pid":    {"/v1/hold", `{"feature":"x","pid":1}`, 400},
		"too large":            {"/v1/checkout", `{"feature":"` + strings.Repeat("x", 1<<20) + `"}`, 400},
		"deep":                 {"/v1/checkout", strings.Repeat(`{"items":[`, 5000), 400},
		"no such feature":      {"/v1/checkout", `{"feature":"nosuch"}`, 404},
		"no such session":      {"/v1/renew", `{"session_id":"0123456789abcdef0123456789abcdef"}`, 404},
		"no session":           {"/v1/checkin", `{}`, 400},
		"no such path":         {"/v1/nosuch", `{}`, 400},
		"a watch without zero": {"/v1/watch?session_id=x", "", 400},
	} {
		if status, got := a.ask(t, c.path, c.body); status != c.want || got.Message == "" || got.Code == "" || strings.Contains(got.Message, "\n") ||
			name == "too large" && !strings.Contains(got.Message, "more than 65536 bytes") {
			t.Errorf("%s is answered %d %+v, want %d", name, status, got, c.want)
		}
	}
	for name, text := range map[string]string{
		"noise":          strings.Repeat("\x00\xff\x16\x03", 4096),
		"a huge header":  "GET /livez HTTP/1.1\r\nHost: agent\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n",
		"a false length": "POST /v1/checkout HTTP/1.1\r\nHost: agent\r\nContent-Length: 99999999999\r\n\r\n",
	} {
		conn, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		// The agent may hang up in the middle of it.
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.UnixConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		conn.Close()
		if bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
			t.Errorf("%s is answered %.100q", name, answer)
		}
	}
	if resp, err := a.http.Get("http://agent/metrics"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("after all that it answers %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
}

// countOf adds up a counter of all nodes for one method.
func (s *story) countOf(t *testing.T, method string) (n int) {
	t.Helper()
	for _, node := range s.nodes {
		resp, err := http.Get("http://" + node.API + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, "seatkeeper_rpc_requests_total{code=\"OK\",method=\"") && strings.Contains(line, method+`"`) {
				f := strings.Fields(line)
				x, err := strconv.ParseFloat(f[len(f)-1], 64)
				if err != nil {
					t.Fatal(err)
				}
				n += int(x)
			}
		}
	}
	return n
}

// A hundred sessions with a heartbeat each second: without messages for many that would
// be a hundred calls a second.
func agentMany(t *testing.T, s *story, a *agentProcess) {
	const sessions = 100
	ids := make([]string, sessions)
	var all sync.WaitGroup
	turns := make(chan struct{}, 8)
	for i := range sessions {
		all.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			status, got := askOver(t, a.http, "/v1/checkout", `{"feature":"many","ttl_ms":600000}`)
			if status != http.StatusOK || !got.Valid {
				t.Errorf("session %d is answered %d %+v", i, status, got)
			}
			ids[i] = got.Session.ID
		})
	}
	all.Wait()
	if n := s.inUse(t, "many"); n != sessions {
		t.Fatalf("%d seats in use, want %d", n, sessions)
	}
	alone, batches := s.countOf(t, "Renew"), s.countOf(t, "RenewBatch")
	began := time.Now()
	<-time.After(2 * storyLifespan)
	alone, batches = s.countOf(t, "Renew")-alone, s.countOf(t, "RenewBatch")-batches
	beats := int(time.Since(began)/storyHeartbeat) * sessions
	if batches == 0 || alone+batches > beats/4 {
		t.Errorf("%d messages for many and %d for one in %v: want far fewer than %d", batches, alone, time.Since(began), beats)
	}
	for _, id := range ids {
		a.must(t, "/v1/session?session_id="+id, "").seat(t)
	}
}

// The example's script, as it is.
func agentShell(t *testing.T, s *story, a *agentProcess) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is missing")
	}
	run := func(args ...string) (string, error) {
		cmd := exec.Command("sh", append([]string{"../../deploy/examples/client.sh"}, args...)...)
		cmd.Env = append(os.Environ(), "SEATKEEPER_AGENT_SOCKET="+a.socket)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("shell", "echo", "worked"); err != nil || out != "worked\n" {
		t.Errorf("the script says %q: %v", out, err)
	}
	s.waitInUse(t, "shell", 0)
	out, err := run("nosuch", "true")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitNoSeat || !strings.Contains(out, "no_feature") {
		t.Errorf("without a feature the script says %q: %v", out, err)
	}
}

func TestAgentSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := os.Mkdir(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := write(t, "file", "x")
	for name, c := range map[string]struct {
		args []string
		want string
		code int
	}{
		"a folder for all":    {[]string{"--state-dir", open}, "can be read by others", exitError1},
		"a file for a socket": {[]string{"--socket", file}, "is no socket", exitConfig},
		"a long path":         {[]string{"--socket", "/tmp/" + strings.Repeat("x", 200)}, "choose a shorter one", exitConfig},
		"a mode":              {[]string{"--socket-mode", "0777"}, "0600", exitConfig},
		"a group":             {[]string{"--socket-mode", "0660", "--socket-group", "nosuchgroup"}, "no such group", exitConfig},
		"an open port":        {[]string{"--listen", "0.0.0.0:7805"}, "reachable from other hosts", exitConfig},
		"on exit":             {[]string{"--on-exit", "burn"}, "keep", exitConfig},
		"nowhere":             {[]string{"--socket", "none"}, "nowhere to listen", exitConfig},
	} {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "s")
			args := append([]string{"agent", "--state-dir", state, "--socket", filepath.Join(dir, "x.sock")}, c.args...)
			code, _, stderr := run(t, nil, args...)
			if code != c.code || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, %q: want %d and %q", code, stderr, c.code, c.want)
			}
		})
	}
	code, _, stderr := run(t, nil, "agent", "status", "--socket", filepath.Join(dir, "nobody.sock"))
	if code != exitUnreachable || !strings.Contains(stderr, "no agent listens") {
		t.Errorf("without an agent status exits %d: %s", code, stderr)
	}
}
