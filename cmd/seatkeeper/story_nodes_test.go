//go:build linux

package main

import (
	"bytes"
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

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Everything by hand, as an operator does it: keys, a licence, three config files,
// three servers, curl.
func TestThreeConfigFilesAndCurl(t *testing.T) {
	dir, port := t.TempDir(), takePorts(t)
	address := func(i, k int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+portsPerNode*i+k)) }
	must := func(args ...string) string {
		t.Helper()
		code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": address(1, 0)}, args...)
		if code != 0 {
			t.Fatalf("seatkeeper %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
		}
		return out
	}
	vendor := filepath.Join(dir, "acme")
	must("license", "keygen", "acme", "--out", vendor)
	verifier, err := os.ReadFile(vendor + ".verifier.key")
	if err != nil {
		t.Fatal(err)
	}
	gossipKey, err := newGossipKey()
	if err != nil {
		t.Fatal(err)
	}
	names, servers := []string{"alpha", "beta", "gamma"}, []*process{}
	for i, name := range names {
		file := write(t, name+".yaml", fmt.Sprintf(`# Node %[1]s
name: %[1]s
cluster_name: stories
data_dir: %[2]s
api: {bind: "%[3]s"}
raft: {bind: "%[4]s"}
gossip:
  bind: %[5]s
  key: %[6]s
bootstrap_expect: 3
join: ["%[7]s", "%[8]s"]
trusted_keys:
  - %[9]s
`, name, filepath.Join(dir, name), address(i, 0), address(i, 1), address(i, 2), gossipKey, address((i+1)%3, 2), address((i+2)%3, 2), strings.TrimSpace(string(verifier))))
		must("config", "validate", file)
		servers = append(servers, start(t, nil, "server", "--config", file))
	}
	var leader string
	eventually(t, "a leader of three", func() error {
		var st pb.StatusResponse
		code, out, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": address(0, 0)}, "status", "-o", "json")
		if code != 0 {
			return errors.New(stderr)
		}
		mustJSON(t, out, &st)
		roles := 0
		for _, n := range st.Nodes {
			if n.Role == "leader" || n.Role == "follower" {
				roles++
			}
		}
		leader = st.Leader
		if roles != 3 || leader == "" {
			return fmt.Errorf("nodes %v", st.Nodes)
		}
		return nil
	})
	document := filepath.Join(dir, "floating.txt")
	if err := os.WriteFile(document, sampleLicence("L-1", "acme", []sampleFeature{seats("cad", 10, storyProfile)}, time.Now().AddDate(0, 0, -1)), 0o600); err != nil {
		t.Fatal(err)
	}
	must("license", "sign", document, "--key", vendor+".signer.key", "--out", filepath.Join(dir, "floating.lic"))
	must("license", "apply", filepath.Join(dir, "floating.lic"))

	for i, name := range names {
		t.Run(name, func(t *testing.T) { curlNode(t, address(i, 0), i+1) })
	}
	for i, name := range names {
		if strings.HasPrefix(leader, name+"-") {
			continue
		}
		curlFollower(t, address(i, 0), leader)
	}
	for i, p := range servers {
		p.signal(syscall.SIGTERM)
		if code := p.exitCode(); code != 0 {
			t.Errorf("%s ends with %d: %s", names[i], code, p.stderr.String())
		}
	}
}

// fields checks that a JSON object has exactly these fields, of these kinds: text,
// number, bool, list or object. A 64-bit number is text with digits.
func fields(t *testing.T, what string, object any, want map[string]string) map[string]any {
	t.Helper()
	o, ok := object.(map[string]any)
	if !ok {
		t.Fatalf("%s is a %T", what, object)
	}
	for name, kind := range want {
		value, there := o[name]
		got := map[bool]string{true: fmt.Sprintf("%T", value), false: "missing"}[there]
		wantType := map[string]string{"text": "string", "int64": "string", "number": "float64", "list": "[]interface {}", "object": "map[string]interface {}"}[kind]
		if got != wantType {
			t.Errorf("%s.%s is %s, want %s", what, name, got, kind)
			continue
		}
		if kind == "int64" {
			if n, err := strconv.ParseUint(value.(string), 10, 64); err != nil || n == 0 {
				t.Errorf("%s.%s is %q, want a number above 0", what, name, value)
			}
		}
	}
	return o
}

// curlNode is the minimal checkout at one node, by redirects where it must be.
func curlNode(t *testing.T, address string, user int) {
	curl := func(method, path, body string) map[string]any {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+address+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		var answer map[string]any
		if err := json.Unmarshal(data, &answer); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s answers %d %s", path, resp.StatusCode, data)
		}
		return answer
	}
	answer := fields(t, "checkout", curl("POST", "/v1/checkout", fmt.Sprintf(`{"feature":"cad","user":"ann%d","host":"ws1"}`, user)),
		map[string]string{"session": "object", "leases": "list", "raft_index": "int64", "term": "int64"})
	session := fields(t, "session", answer["session"], map[string]string{"id": "text", "secret": "text", "incarnation": "int64", "heartbeat_ms": "number"})
	if got := session["heartbeat_ms"].(float64); got != float64(storyHeartbeat.Milliseconds()) {
		t.Errorf("heartbeat_ms %v, want a third of the lifespan", got)
	}
	granted := answer["leases"].([]any)
	if len(granted) != 1 {
		t.Fatalf("leases: %v", granted)
	}
	held := fields(t, "lease", granted[0], map[string]string{"id": "int64", "handle": "number", "feature": "text", "version": "text", "count": "number",
		"seats": "list", "fencing_token": "int64", "state": "text", "remaining_ms": "number", "grace_ms": "number"})
	if held["state"] != "active" || held["count"] != 1.0 || len(held["seats"].([]any)) != 1 || held["grace_ms"] != float64(storyGrace.Milliseconds()) {
		t.Errorf("lease %v", held)
	}
	me := fmt.Sprintf(`"session_id":%q,"session_secret":%q`, session["id"], session["secret"])
	if renewed := curl("POST", "/v1/renew", "{"+me+"}")["leases"].([]any); len(renewed) != 1 || renewed[0].(map[string]any)["id"] != held["id"] {
		t.Errorf("renew answers %v", renewed)
	}
	status := fields(t, "status", curl("GET", "/v1/status", ""), map[string]string{"cluster_id": "text", "leader": "text", "epoch": "int64", "nodes": "list", "pools": "list"})
	for _, n := range status["nodes"].([]any) {
		fields(t, "node", n, map[string]string{"id": "text", "address": "text", "role": "text", "applied_index": "int64", "state_hash": "text"})
	}
	pool := fields(t, "pool", status["pools"].([]any)[0], map[string]string{"feature": "text", "version": "text", "total": "number", "in_use": "number", "reserved": "number", "queued": "number"})
	if pool["in_use"] != 1.0 || pool["total"] != 10.0 {
		t.Errorf("pool %v, want 1 of 10 in use", pool)
	}
	listed := curl("GET", "/v1/leases", "")["leases"].([]any)
	if len(listed) != 1 {
		t.Fatalf("leases: %v", listed)
	}
	entry := fields(t, "leases", listed[0], map[string]string{"id": "int64", "handle": "number", "feature": "text", "count": "number", "seats": "list", "user": "text", "host": "text",
		"session_id": "text", "state": "text", "fencing_token": "int64", "since": "text", "remaining_ms": "number"})
	if entry["id"] != held["id"] || entry["session_id"] != session["id"] || entry["host"] != "ws1" {
		t.Errorf("listed as %v", entry)
	}
	if valid := curl("POST", "/v1/verify", fmt.Sprintf(`{"lease_id":%q,"fencing_token":%q}`, held["id"], held["fencing_token"]))["valid"]; valid != true {
		t.Errorf("verify says %v", valid)
	}
	if back := curl("POST", "/v1/checkin", fmt.Sprintf(`{%s,"lease_ids":[%q]}`, me, held["id"]))["released"].([]any); len(back) != 1 {
		t.Errorf("checkin answers %v", back)
	}
}

// curlFollower asks without -L.
func curlFollower(t *testing.T, address, leader string) {
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := stay.Post("http://"+address+"/v1/checkout", "", strings.NewReader(`{"feature":"cad","user":"ann","host":"ws1"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body refusalBody
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	location := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusTemporaryRedirect || !strings.HasSuffix(location, "/v1/checkout") || strings.Contains(location, address) {
		t.Errorf("follower %s answers %d to %q, want 307 to the leader", address, resp.StatusCode, location)
	}
	if body.Reason != "not_leader" || !strings.Contains(body.Message, leader) || resp.Header.Get("X-Seatkeeper-Leader") != leader {
		t.Errorf("the answer does not name the leader %s: %+v", leader, body)
	}
	// For clients behind a load balancer the node asks in their place.
	req, err := http.NewRequest("GET", "http://"+address+"/v1/leases", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Seatkeeper-Forward", "1")
	if resp, err = stay.Do(req); err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !bytes.Contains(data, []byte(`"leases"`)) {
		t.Errorf("forwarded: %d %s", resp.StatusCode, data)
	}
}

// All servers lose their power at once and stay off for longer than any lease lives.
// Nobody could renew meanwhile, so nobody pays for it.
func TestAllNodesStoppedForThreeLifespans(t *testing.T) {
	profile := lease.Profile{Lifespan: 2 * time.Second, Grace: 3 * time.Second}
	var features []sampleFeature
	for _, name := range []string{"kept", "late", "silent"} {
		features = append(features, seats(name, 10, profile))
	}
	s := startStory(t, features...)

	// Applications with the SDK, scripts that are current, one in its grace, and one
	// that will never be heard of again.
	var apps []*client.Lease
	for i := range 4 {
		_, session := s.sdk(t, fmt.Sprintf("app%d", i), nil, client.SessionConfig{})
		apps = append(apps, take(t, session, "kept", 1))
	}
	late := s.newWeb(t, "late", nil)
	lateLease := late.checkout(t, "late", 1)
	eventually(t, "a lease in its grace", func() error {
		if got := s.leases(t, "late"); len(got) != 1 || got[0].State != "expiring" {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	scripts, scriptLeases := []*webSession{}, []*pb.Lease{}
	for i := range 4 {
		web := s.newWeb(t, fmt.Sprintf("script%d", i), nil)
		scripts, scriptLeases = append(scripts, web), append(scriptLeases, web.checkout(t, "kept", 1))
	}
	s.newWeb(t, "silent", nil).checkout(t, "silent", 1)
	before, term := map[lease.Ref]bool{}, s.status(t).Term
	for _, a := range apps {
		before[a.Ref()] = true
	}

	for _, n := range s.nodes {
		n.signal(os.Kill)
	}
	for _, n := range s.nodes {
		<-n.exited
	}
	elapse(t, 3*profile.Lifespan)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()

	var wg sync.WaitGroup
	scripts, scriptLeases = append(scripts, late), append(scriptLeases, lateLease)
	for i, web := range scripts {
		wg.Go(func() {
			var answer pb.RenewResponse
			r, err := web.call(t.Context(), "/v1/renew", &pb.RenewRequest{SessionId: web.id, SessionSecret: web.secret}, &answer)
			if err != nil || r != nil || len(answer.Leases) != 1 || answer.Leases[0].Id != scriptLeases[i].Id ||
				answer.Leases[0].FencingToken != scriptLeases[i].FencingToken || answer.Leases[0].State != "active" {
				t.Errorf("%s renews and gets %v %+v %v, want lease %d", web.user, &answer, r, err, scriptLeases[i].Id)
			}
		})
	}
	wg.Wait()
	for i, a := range apps {
		eventually(t, "an application's heartbeat", func() error {
			if a.State() != client.Active {
				return fmt.Errorf("app%d: %s %s", i, a.State(), a.Reason())
			}
			return nil
		})
	}
	for _, l := range s.leases(t, "kept") {
		delete(before, lease.Ref{ID: lease.ID(l.Id), Token: lease.Token(l.FencingToken)})
	}
	if len(before) > 0 {
		t.Errorf("lost: %v", before)
	}
	st := s.status(t)
	if inUse(st, "kept") != 8 || inUse(st, "late") != 1 {
		t.Errorf("%d and %d seats in use, want 8 and 1", inUse(st, "kept"), inUse(st, "late"))
	}
	// Who says nothing is not kept for ever: what is left of its time runs on.
	s.waitInUse(t, "silent", 0)
	if took, bound := time.Since(back), reclaimedWithin(profile, s.status(t).Term-term); took > bound {
		t.Errorf("the silent client's seat came back after %s, want within %s", took, bound)
	}
	s.allAgree(t)
}
