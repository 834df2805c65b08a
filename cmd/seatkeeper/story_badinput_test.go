//go:build linux

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Whatever is thrown at it, the cluster says in one line what is wrong, and goes on.
func TestBadInputIsRefusedAndTheClusterGoesOn(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, seats("cad", 10, patientProfile))
	_, session := s.sdk(t, "holder", nil, client.SessionConfig{})
	held := take(t, session, "cad", 1)
	ref := held.Ref()
	for _, part := range []struct {
		name string
		do   func(*testing.T, *story)
	}{
		{"requests", badRequests}, {"commands", badCommands}, {"oversized", oversized}, {"garbage on the API port", garbageAPI},
		{"garbage on the Raft port", garbageRaft}, {"garbage on the gossip port", garbageGossip}, {"licences", badLicences}, {"servers", badServers},
	} {
		t.Run(part.name, func(t *testing.T) {
			part.do(t, s)
			// The same three processes serve, and nobody else's seat was touched.
			for _, n := range s.nodes {
				if isClosed(n.exited) {
					t.Fatalf("%s has ended: %s", n.Name, n.lastLog())
				}
			}
			after := s.newWeb(t, "after", nil)
			after.checkout(t, "cad", 2)
			after.checkin(t)
			if err := session.Renew(t.Context()); err != nil || !held.Valid() || held.Ref() != ref {
				t.Errorf("the holder renews with %v and holds %v (%s)", err, held.Ref(), held.Reason())
			}
			if n := s.inUse(t, "cad"); n != 1 {
				t.Errorf("%d seats in use, want the holder's", n)
			}
		})
	}
	s.allAgree(t)
}

func badRequests(t *testing.T, s *story) {
	leader := s.leader(t).API
	checkout := func(more string) string { return `{"user":"u","host":"h",` + more + `}` }
	long := strings.Repeat("x", 200)
	for _, c := range []struct {
		name, path, body string
		status           int
		reason           string
	}{
		{"unknown feature", "/v1/checkout", checkout(`"feature":"cat"`), 404, "no_feature"},
		{"version beyond the licence", "/v1/checkout", checkout(`"feature":"cad","version":"99.0"`), 409, "version"},
		{"version that is none", "/v1/checkout", checkout(`"feature":"cad","version":"new"`), 400, "invalid"},
		{"no feature", "/v1/checkout", checkout(`"count":1`), 400, "invalid"},
		{"zero seats", "/v1/checkout", checkout(`"feature":"cad","count":0`), 400, "invalid"},
		{"negative seats", "/v1/checkout", checkout(`"feature":"cad","count":-1`), 400, "invalid"},
		{"negative seats in a list", "/v1/checkout", checkout(`"items":[{"feature":"cad","count":-7}]`), 400, "invalid"},
		{"one seat too many", "/v1/checkout", checkout(`"feature":"cad","count":11`), 422, "too_many_requested"},
		{"absurdly many", "/v1/checkout", checkout(`"feature":"cad","count":2147483647`), 422, "too_many_requested"},
		{"more than a number holds", "/v1/checkout", checkout(`"feature":"cad","count":99999999999999999999`), 400, "invalid"},
		{"a count in words", "/v1/checkout", checkout(`"feature":"cad","count":"many"`), 400, "invalid"},
		{"a field that is not there", "/v1/checkout", checkout(`"feature":"cad","cuont":2`), 400, "invalid"},
		{"65 features", "/v1/checkout", checkout(`"items":[` + strings.Repeat(`{"feature":"cad"},`, 64) + `{"feature":"cad"}]`), 400, "invalid"},
		{"a feature twice", "/v1/checkout", checkout(`"items":[{"feature":"cad"},{"feature":"cad"}]`), 400, "invalid"},
		{"a long name", "/v1/checkout", checkout(`"feature":"` + long + `"`), 400, "invalid"},
		{"a control character", "/v1/checkout", checkout(`"feature":"cad","display":"a\u0000b"`), 400, "invalid"},
		{"a session id that is none", "/v1/checkout", checkout(`"feature":"cad","session_id":"1","session_secret":"s"`), 400, "invalid"},
		{"no JSON", "/v1/checkout", "feature=cad&user=u", 400, "invalid"},
		{"half a JSON", "/v1/checkout", `{"feature":"cad"`, 400, "invalid"},
		{"nothing", "/v1/checkout", "", 400, "invalid"},
		{"a list", "/v1/checkout", "[]", 400, "invalid"},
		{"deep nesting", "/v1/checkout", strings.Repeat(`{"items":[`, 50_000), 400, "invalid"},
		{"another's session", "/v1/renew", `{"session_id":"00000000000000000000000000000001","session_secret":"s"}`, 404, "session_unknown"},
		{"no secret", "/v1/renew", `{"session_id":"00000000000000000000000000000001"}`, 400, "invalid"},
		{"a token that is none", "/v1/verify", `{"lease_id":1}`, 400, "invalid"},
		{"kill of everything", "/v1/kill", `{}`, 400, "invalid"},
		{"no such path", "/v1/chekout", `{}`, 404, "invalid"},
		{"a path to read", "/v1/status", `{}`, 405, "invalid"},
	} {
		refusal, err := post(t.Context(), http.DefaultClient, leader, c.path, c.body, &pb.CheckoutResponse{})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if refusal == nil || refusal.Status != c.status || refusal.Reason != c.reason || strings.ContainsAny(refusal.Message, "\r\n") || len(refusal.Message) > 400 {
			t.Errorf("%s: answered %+v, want %d %s and one clear line", c.name, refusal, c.status, c.reason)
		}
	}
}

func badCommands(t *testing.T, s *story) {
	for _, c := range []struct {
		want int
		args []string
	}{
		{exitError1, []string{"checkout", "cat"}},
		{exitUsage, []string{"checkout", "cad", "-n", "0"}},
		{exitUsage, []string{"checkout", "cad", "-n", "-3"}},
		{exitUsage, []string{"checkout", "cad", "-n", "99999999"}},
		{exitUsage, []string{"checkout", "cad", "-n", "many"}},
		{exitError1, []string{"checkout", "cad", "-n", "11"}},
		{exitUsage, []string{"checkout"}},
		{exitUsage, []string{"chekout", "cad"}},
		{exitUsage, []string{"checkout", "cad", "--adr", "x"}},
		{exitUsage, []string{"checkout", "cad", "--addr", "no address"}},
		{exitUsage, []string{"run", "cad"}},
		{exitNotFound, []string{"run", "cad", "--", "no-such-command"}},
		{exitError1, []string{"run", "cat", "--", "true"}},
		{exitNotAllowed, []string{"verify", "1", "--token", "1"}},
		{exitUsage, []string{"kill"}},
		{exitUsage, []string{"status", "-o", "xml"}},
		{exitError1, []string{"renew", "--state", filepath.Join(t.TempDir(), "none")}},
		{exitConfig, []string{"status", "--config", write(t, "typo.yaml", "client:\n  adress: x\n")}},
	} {
		code, out, stderr := s.cli(t, c.args...)
		line, _, more := strings.Cut(strings.TrimSuffix(stderr, "\n"), "\n")
		// A mistake in a config file is shown with its place below the line.
		if code != c.want || !strings.HasPrefix(line, "seatkeeper: ") || more && c.want != exitConfig {
			t.Errorf("seatkeeper %s: exit code %d, want %d and one line\n%s%s", strings.Join(c.args, " "), code, c.want, out, stderr)
		}
	}
}

func oversized(t *testing.T, s *story) {
	leader := s.leader(t).API
	big := strings.Repeat("x", 3<<20)
	refusal, err := post(t.Context(), http.DefaultClient, leader, "/v1/checkout", `{"feature":"`+big+`"}`, &pb.CheckoutResponse{})
	if err != nil || refusal == nil || refusal.Status != http.StatusRequestEntityTooLarge || refusal.Reason != "invalid" || !refusal.Final {
		t.Errorf("3 MiB by HTTP: %+v %v, want 413", refusal, err)
	}
	resp, err := http.Get("http://" + leader + "/v1/status?" + strings.Repeat("y", 1<<20))
	if err != nil || resp.StatusCode < 400 {
		t.Errorf("a request line of 1 MiB: %v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	for _, size := range []int{600 << 10, 1 << 20, len(big)} {
		file := write(t, "big.lic", big[:size])
		if code, _, stderr := s.cli(t, "license", "apply", file); code != exitError1 && code != exitUsage || strings.Count(stderr, "\n") != 1 {
			t.Errorf("a licence of %d KiB: exit code %d, %q", size>>10, code, stderr)
		}
	}
}

// throw sends bytes to a port, and closes or leaves the connection when it is done.
func throw(t *testing.T, network, address string, data []byte) net.Conn {
	t.Helper()
	c, err := net.DialTimeout(network, address, patience)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // the server may have hung up on us
	_, _ = c.Write(data)
	return c
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func garbageAPI(t *testing.T, s *story) {
	for _, n := range s.nodes {
		for _, data := range [][]byte{
			noise(64 << 10), bytes.Repeat([]byte{0}, 4096), {0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, // TLS
			[]byte("GET / HTTP/9.9\r\n\r\n"), []byte("POST /v1/checkout HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"),
			[]byte("GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("y", 1<<20)),
			append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), noise(4096)...),
			append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), 0xff, 0xff, 0xff, 4, 0, 0, 0, 0, 0), // a frame of 16 MiB
		} {
			throw(t, "tcp", n.API, data).Close()
		}
		for range 50 { // and some that never say what they want
			throw(t, "tcp", n.API, []byte("P"))
		}
	}
}

func garbageRaft(t *testing.T, s *story) {
	for _, n := range s.nodes {
		throw(t, "tcp", n.Raft, noise(64<<10)).Close()
		throw(t, "tcp", n.Raft, []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")).Close()
		for kind := range byte(8) { // each message type there is, and some there are not
			throw(t, "tcp", n.Raft, append([]byte{kind}, noise(4096)...)).Close()
			// A map, a list, a text and bytes that promise to be 4 GiB long.
			for _, head := range []byte{0xdf, 0xdd, 0xdb, 0xc6} {
				throw(t, "tcp", n.Raft, []byte{kind, head, 0xff, 0xff, 0xff, 0xff, 0xa1, 'x'}).Close()
			}
		}
	}
}

func garbageGossip(t *testing.T, s *story) {
	for _, n := range s.nodes {
		for _, size := range []int{1, 2, 100, 1400, 65000} {
			throw(t, "udp", n.Gossip, noise(size)).Close()
			throw(t, "tcp", n.Gossip, noise(size)).Close()
		}
		for kind := range byte(20) { // memberlist's message types and labels, not encrypted
			throw(t, "udp", n.Gossip, append([]byte{kind}, noise(60)...)).Close()
			throw(t, "tcp", n.Gossip, append([]byte{kind, 0xff, 0xff, 0xff, 0xff}, noise(60)...)).Close()
		}
		throw(t, "tcp", n.Gossip, append([]byte{244, 10}, "some-label"...)).Close()
	}
}

func badLicences(t *testing.T, s *story) {
	good, err := os.ReadFile(s.vendor.LicenceFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"cut in half":           good[:len(good)/2],
		"cut in the signature":  good[:len(good)-20],
		"without its last line": good[:bytes.LastIndexByte(bytes.TrimSpace(good), '\n')+1],
		"one digit changed":     bytes.Replace(good, []byte("count: 10"), []byte("count: 90"), 1),
		"empty":                 {},
		"noise":                 noise(500),
		"installed already":     good,
	} {
		path := filepath.Join(t.TempDir(), "x.lic")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, stderr := s.cli(t, "license", "apply", path)
		if code == exitOK || code == exitUnreachable || strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "seatkeeper: ") || len(stderr) > 400 {
			t.Errorf("%s: exit code %d %s %q", name, code, out, stderr)
		}
	}
	if st := s.status(t); len(st.Pools) != 1 || st.Pools[0].Total != 10 {
		t.Errorf("pools %v", st.Pools)
	}
}

// badServers are processes that must not start beside the cluster.
func badServers(t *testing.T, s *story) {
	config := func(change func(*Config)) string {
		port := takePorts(t)
		c := defaultConfig()
		c.Name, c.DataDir, c.ClusterName = "extra", filepath.Join(t.TempDir(), "data"), "extra"
		c.API.Bind, c.Raft.Bind, c.Gossip.Bind = fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port+1), fmt.Sprintf("127.0.0.1:%d", port+2)
		change(&c)
		data, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return write(t, "node.yaml", string(data))
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(locked, 0); err != nil {
		t.Fatal(err)
	}
	member := s.nodes[0]
	typo, err := os.ReadFile(member.Config)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name, config string
		code         int
		want         string
	}{
		{"typo in the config", write(t, "typo.yaml", strings.Replace(string(typo), "data_dir:", "data_dri:", 1)), exitConfig, `did you mean "data_dir"?`},
		{"no config", filepath.Join(t.TempDir(), "none.yaml"), exitConfig, "no such file"},
		{"data directory missing", config(func(c *Config) { c.DataDir = filepath.Join(t.TempDir(), "no", "such", "dir") }), exitError1, "does not exist"},
		{"data directory unreadable", config(func(c *Config) { c.DataDir = loop }), exitError1, loop},
		{"data directory is a file", config(func(c *Config) { c.DataDir = write(t, "file", "x") }), exitError1, "is not a directory"},
		{"API port in use", config(func(c *Config) { c.API.Bind = member.API }), exitError1, member.API + " is in use"},
		{"Raft port in use", config(func(c *Config) { c.Raft.Bind = member.Raft }), exitError1, member.Raft + " is in use"},
		{"gossip port in use", config(func(c *Config) { c.Gossip.Bind = member.Gossip }), exitError1, member.Gossip + " is in use"},
		{"a second process on the same data", config(func(c *Config) { c.DataDir = member.Dir }), exitError1, "in use by another seatkeeper process"},
	}
	if os.Geteuid() != 0 { // root reads everything
		cases = append(cases, struct {
			name, config string
			code         int
			want         string
		}{"data directory forbidden", config(func(c *Config) { c.DataDir = locked }), exitError1, "permission denied"})
	}
	for _, c := range cases {
		p := start(t, nil, "server", "--config", c.config)
		code := p.exitCode()
		_, _ = io.Copy(io.Discard, p.stdout)
		var said []string
		for line := range strings.Lines(p.stderr.String()) {
			if strings.HasPrefix(line, "seatkeeper: ") {
				said = append(said, line)
			}
		}
		if code != c.code || len(said) != 1 || !strings.Contains(said[0], c.want) {
			t.Errorf("%s: exit code %d, want %d and one line with %q:\n%s", c.name, code, c.code, c.want, p.stderr.String())
		}
	}
}
