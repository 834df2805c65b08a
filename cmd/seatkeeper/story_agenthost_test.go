//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// One host, and agents as people run them: two users' beside each other, one on a TCP port,
// one whose config changes, one that is stopped while its callers ask.
func TestAgentsOfOneHost(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, unshared("two", 4, patientProfile), unshared("tcp", 2, patientProfile), unshared("few", 9, patientProfile),
		unshared("kept", 2, patientProfile), unshared("led", 2, patientProfile), unshared("own", 2, patientProfile))
	together(t, map[string]func(*testing.T){
		"several":                       func(t *testing.T) { agentsBesideEachOther(t, s) },
		"a TCP port":                    func(t *testing.T) { agentOnTCP(t, s) },
		"a config that changes":         func(t *testing.T) { agentReloads(t, s) },
		"a stop is no loss":             func(t *testing.T) { agentStopIsNoLoss(t, s) },
		"a session of the caller's own": func(t *testing.T) { agentSessionOfItsOwn(t, s) },
	})
	// A change of leader is nothing to the programs.
	a := s.startAgent(t)
	p := program(t)
	before := a.must(t, "/v1/checkout", forPID("led", p.Process.Pid)).seat(t)
	s.leader(t).kill()
	eventually(t, "a checkout by the new leader", func() error {
		if status, got := a.ask(t, "/v1/checkout", `{"feature":"led","ttl_ms":60000}`); status != http.StatusOK {
			return fmt.Errorf("%d %s", status, got.Message)
		}
		return nil
	})
	if after := a.must(t, "/v1/session?pid="+strconv.Itoa(p.Process.Pid), "").seat(t); after.FencingToken != before.FencingToken || after.ID != before.ID {
		t.Errorf("after a change of leader it has %+v, want %+v", after, before)
	}
}

func agentsBesideEachOther(t *testing.T, s *story) {
	first, second := s.startAgent(t), s.startAgent(t)
	p, q := program(t), program(t)
	one := first.must(t, "/v1/checkout", forPID("two", p.Process.Pid)).seat(t)
	two := second.must(t, "/v1/checkout", forPID("two", q.Process.Pid)).seat(t)
	if one.ID == two.ID {
		t.Fatalf("two agents have one lease: %+v", one)
	}
	if status, got := first.ask(t, "/v1/session?pid="+strconv.Itoa(q.Process.Pid), ""); status != http.StatusNotFound {
		t.Errorf("the first knows what the second keeps: %d %+v", status, got)
	}
	for want, args := range map[string][]string{
		"another agent listens on " + first.socket: {"--socket", first.socket, "--state-dir", filepath.Join(t.TempDir(), "s")},
		"is used by another agent":                 {"--socket", first.socket + "2", "--state-dir", filepath.Join(first.dir, "state")},
	} {
		code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": s.address()}, append([]string{"agent"}, args...)...)
		if code != exitError1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "--state-dir") {
			t.Errorf("%v: exit code %d, %q, want %q and what to do", args, code, stderr, want)
		}
	}
	second.signal(syscall.SIGKILL)
	<-second.exited
	if got := first.must(t, "/v1/session?pid="+strconv.Itoa(p.Process.Pid), "").seat(t); got != one {
		t.Errorf("the death of one agent changes what another keeps: %+v, want %+v", got, one)
	}
	second.again(t)
	if got := second.must(t, "/v1/session?pid="+strconv.Itoa(q.Process.Pid), "").seat(t); got.FencingToken != two.FencingToken {
		t.Errorf("after its death the second has token %s, want %s", got.FencingToken, two.FencingToken)
	}
	if n := s.inUse(t, "two"); n != 2 {
		t.Errorf("%d seats in use, want 2", n)
	}
}

func freeTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func agentOnTCP(t *testing.T, s *story) {
	dir, address := t.TempDir(), freeTCP(t)
	tokenFile := filepath.Join(dir, "token")
	args := []string{"--socket", "none", "--listen", address, "--token-file", tokenFile}
	env := []string{"SEATKEEPER_ADDR=" + s.address()}
	p := start(t, env, append([]string{"agent", "--state-dir", filepath.Join(dir, "state")}, args...)...)
	status := func() (int, string, string) { return run(t, nil, append([]string{"agent", "status"}, args...)...) }
	eventually(t, "the agent to answer", func() error {
		if code, _, stderr := status(); code != 0 {
			return errors.New(stderr + p.stderr.String())
		}
		return nil
	})
	if info, err := os.Stat(tokenFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token's file: %v %v, want mode 0600", info, err)
	}
	data, err := os.ReadFile(tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(string(data))
	ask := func(path, body string, headers ...string) (int, agentAnswer) {
		req, err := http.NewRequest("POST", "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got agentAnswer
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, got
	}
	const seat = `{"feature":"tcp","ttl_ms":60000}`
	for name, headers := range map[string][]string{
		"no token":       nil,
		"another token":  {"Authorization", "Bearer " + strings.Repeat("0", len(token))},
		"half the token": {"Authorization", "Bearer " + token[:len(token)/2]},
		"a browser":      {"Authorization", "Bearer " + token, "Origin", "https://evil.example.com"},
	} {
		if status, got := ask("/v1/checkout", seat, headers...); status != http.StatusUnauthorized || got.Reason != "unauthenticated" || len(got.Leases) != 0 {
			t.Errorf("%s is answered %d %+v", name, status, got)
		}
	}
	code, got := ask("/v1/checkout", seat, "Authorization", "Bearer "+token)
	if code != http.StatusOK {
		t.Fatalf("with the token: %d %+v", code, got)
	}
	got.seat(t)
	if _, out, _ := status(); !strings.Contains(out, got.Session.ID) || strings.Contains(out+p.stderr.String(), token) {
		t.Errorf("status says\n%s\nand the log\n%s", out, p.stderr.String())
	}
	if err := os.Chmod(tokenFile, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := status(); code != exitConfig || !strings.Contains(stderr, "chmod 600") {
		t.Errorf("a token that others may read: %d %s", code, stderr)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exitCode(); code != 0 {
		t.Errorf("it ends with %d: %s", code, p.stderr.String())
	}
}

func agentReloads(t *testing.T, s *story) {
	file := filepath.Join(t.TempDir(), "agent.yaml")
	config := func(text string) {
		if err := os.WriteFile(file, []byte("agent: {"+text+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config("sessions: 2, on_exit: keep")
	a := s.startAgent(t, "--config", file)
	const seat = `{"feature":"few","ttl_ms":600000}`
	first := a.must(t, "/v1/checkout", seat)
	a.must(t, "/v1/checkout", seat)
	status, got := a.ask(t, "/v1/checkout", seat)
	if status != http.StatusTooManyRequests || got.Reason != "overloaded" || got.Final || !strings.Contains(got.Message, "agent.sessions") {
		t.Errorf("the third of two sessions is answered %d %+v", status, got)
	}
	reload := func(want string) {
		t.Helper()
		n := strings.Count(a.stderr.String(), want)
		a.signal(syscall.SIGHUP)
		eventually(t, "the log to say "+want, func() error {
			if strings.Count(a.stderr.String(), want) == n {
				return errors.New(a.stderr.String())
			}
			return nil
		})
	}
	config("sessions: 3, on_exit: return")
	reload("config reloaded")
	a.must(t, "/v1/checkout", seat)
	config("sessions: 1, sesions: 2")
	reload("config not reloaded: the old one stays")
	if !strings.Contains(a.stderr.String(), `did you mean \"agent.sessions\"`) && !strings.Contains(a.stderr.String(), "sesions") {
		t.Errorf("the log does not name the mistake: %s", a.stderr.String())
	}
	config("sessions: 1, on_exit: return")
	reload("config reloaded")
	if again := a.must(t, "/v1/session?session_id="+first.Session.ID, "").seat(t); again.FencingToken != first.Leases[0].FencingToken {
		t.Errorf("a lower limit changes what is there: %+v", again)
	}
	if _, got := a.ask(t, "/v1/checkout", seat); got.Reason != "overloaded" {
		t.Errorf("above the lower limit: %+v", got)
	}
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Errorf("it ends with %d: %s", code, a.stderr.String())
	}
	s.waitInUse(t, "few", 0) // on_exit was reloaded, too
}

// Callers that ask while the agent stops and starts again are told what is so, or nothing;
// never that a seat is lost which is kept.
func agentStopIsNoLoss(t *testing.T, s *story) {
	a := s.startAgent(t)
	p := program(t)
	before := a.must(t, "/v1/checkout", forPID("kept", p.Process.Pid)).seat(t)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://agent/v1/hold", strings.NewReader(`{"feature":"kept"}`))
	if err != nil {
		t.Fatal(err)
	}
	held, err := overSocket(a.socket).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Body.Close()
	lines := bufio.NewReader(held.Body)
	line, err := lines.ReadBytes('\n')
	var first agentAnswer
	if err != nil || json.Unmarshal(line, &first) != nil {
		t.Fatalf("%q %v", line, err)
	}
	first.seat(t)
	done := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				resp, err := a.http.Get("http://agent/v1/session?pid=" + strconv.Itoa(p.Process.Pid))
				if err != nil {
					<-time.After(time.Millisecond)
					continue // it is down
				}
				var got agentAnswer
				err = json.NewDecoder(resp.Body).Decode(&got)
				resp.Body.Close()
				if err == nil && resp.StatusCode == http.StatusOK && !got.Valid || err == nil && resp.StatusCode != http.StatusOK && got.Reason != "unreachable" {
					t.Errorf("while the agent starts again a caller is told %d %+v", resp.StatusCode, got)
					return
				}
			}
		})
	}
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Errorf("it ends with %d: %s", code, a.stderr.String())
	}
	if rest, _ := io.ReadAll(lines); strings.Contains(string(rest), `"valid":false`) {
		t.Errorf("whoever holds by a connection is told of a loss: %s", rest)
	}
	a.again(t)
	after := a.must(t, "/v1/session?pid="+strconv.Itoa(p.Process.Pid), "").seat(t)
	close(done)
	asking.Wait()
	if after.FencingToken != before.FencingToken {
		t.Errorf("after the stop it has token %s, want %s", after.FencingToken, before.FencingToken)
	}
	// The holder by connection comes back with its session, in time.
	again, err := overSocket(a.socket).Post("http://agent/v1/hold", "application/json",
		strings.NewReader(fmt.Sprintf(`{"feature":"kept","session_id":%q}`, first.Session.ID)))
	if err != nil {
		t.Fatal(err)
	}
	line, _ = bufio.NewReader(again.Body).ReadBytes('\n')
	var back agentAnswer
	if err := json.Unmarshal(line, &back); err != nil || back.seat(t).FencingToken != first.Leases[0].FencingToken {
		t.Errorf("back with its session it has %s (%v), want token %s", line, err, first.Leases[0].FencingToken)
	}
	again.Body.Close()
	s.waitInUse(t, "kept", 1)
}

// A checkout whose answer was lost is sent again with the session that the caller minted.
func agentSessionOfItsOwn(t *testing.T, s *story) {
	a := s.startAgent(t)
	own := `{"feature":"own","ttl_ms":60000,"session_id":"` + strings.Repeat("0a", 16) + `"}`
	one := a.must(t, "/v1/checkout", own)
	if two := a.must(t, "/v1/checkout", own); two.seat(t) != one.seat(t) {
		t.Errorf("asking again gives %+v, want %+v", two, one)
	}
	a.must(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q}`, one.Session.ID))
	if three := a.must(t, "/v1/checkout", own); three.seat(t).FencingToken == one.seat(t).FencingToken {
		t.Errorf("after its return the same lease is granted again: %+v", three)
	}
	if left, _ := filepath.Glob(filepath.Join(a.dir, "state", "*.json")); len(left) != 1 {
		t.Errorf("the record of the session that was made again is %v", left)
	}
	a.must(t, "/v1/checkin", fmt.Sprintf(`{"session_id":%q}`, one.Session.ID))
}

// With TLS and tokens: the agent has what a client has, keeps seats over its death, says
// plainly when its token is taken away, and shows its secrets to nobody.
func TestAgentOnASecureCluster(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startSecure(t, func(c *Config) { c.ACL.Required = true })
	secret := s.bootstrap()
	admin := s.settings("ann", secret)
	s.ready(admin)
	s.applyLicence(admin, unshared("cad", 3, patientProfile))
	out, _ := s.cli(0, admin, "token", "create", "--role", "client", "-o", "json")
	var made newToken
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "skagent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var env []string
	for k, v := range s.settings("ann", made.Token) {
		env = append(env, k+"="+v)
	}
	socket, state := filepath.Join(dir, "a.sock"), filepath.Join(dir, "state")
	speak := overSocket(socket)
	begin := func() *process {
		p := start(t, env, "agent", "--socket", socket, "--state-dir", state, "--host", "ws1")
		eventually(t, "the agent to answer", func() error {
			_, err := speak.Get("http://agent/livez")
			return err
		})
		return p
	}
	agent := begin()
	p := program(t)
	_, got := askOver(t, speak, "/v1/checkout", forPID("cad", p.Process.Pid))
	before := got.seat(t)
	secrets := map[string]string{"token": made.Token}
	records, _ := filepath.Glob(filepath.Join(state, "*.json"))
	for _, file := range records {
		var r struct{ Session struct{ Secret string } }
		data, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(data, &r) != nil || len(r.Session.Secret) < 16 {
			t.Fatalf("%s: %v %s", file, err, data)
		}
		secrets["session secret"] = r.Session.Secret
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", agent.cmd.Process.Pid))
	if err != nil || len(records) != 1 {
		t.Fatal(err, records)
	}
	logs := agent.stderr.String()
	agent.signal(syscall.SIGKILL)
	<-agent.exited
	agent = begin()
	_, got = askOver(t, speak, "/v1/session?pid="+strconv.Itoa(p.Process.Pid), "")
	if after := got.seat(t); after.FencingToken != before.FencingToken {
		t.Errorf("after its death it has token %s, want %s", after.FencingToken, before.FencingToken)
	}
	s.cli(0, admin, "token", "revoke", made.ID)
	status, got := askOver(t, speak, "/v1/checkout", `{"feature":"cad","ttl_ms":60000}`)
	if status != http.StatusUnauthorized || got.Reason != "unauthenticated" || got.Message == "" {
		t.Errorf("without a token that is good: %d %+v", status, got)
	}
	agent.signal(syscall.SIGTERM)
	agent.exitCode()
	logs += agent.stderr.String()
	for what, secret := range secrets {
		for place, text := range map[string]string{"log": logs, "arguments": string(args), "answers": fmt.Sprintf("%+v", got)} {
			if strings.Contains(text, secret) {
				t.Errorf("the agent's %s has the %s", place, what)
			}
		}
	}
}

// bootstrap makes the first token.
func (s *secureStory) bootstrap() (secret string) {
	s.t.Helper()
	eventually(s.t, "the first token", func() error {
		code, out, stderr := run(s.t, s.settings("ann", ""), "acl", "bootstrap")
		if code != 0 {
			return errors.New(stderr)
		}
		secret = strings.TrimSpace(out)
		return nil
	})
	return secret
}
