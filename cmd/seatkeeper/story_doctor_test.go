//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
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
	"testing"

	"github.com/goccy/go-yaml"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// edit changes the config file of a node.
func (n *devNode) edit(t *testing.T, change func(c *Config)) {
	t.Helper()
	l, err := loadConfig(n.Config, noEnv, nil)
	if err != nil {
		t.Fatal(err)
	}
	change(&l.Config)
	text, err := yaml.Marshal(l.Config)
	if err == nil {
		err = os.WriteFile(n.Config, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Three real processes: the Raft port of one is not reached by the others, another one is
// started again with another gossip key, and then two of three die.
func TestDoctorOnRealNodesThatGoWrong(t *testing.T) {
	inFull(t)
	t.Parallel()
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 3, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	first, second, third := d.nodes[0], d.nodes[1], d.nodes[2]
	_, raft, _ := net.SplitHostPort(first.Raft)
	port, _ := strconv.Atoi(raft)
	nobody := net.JoinHostPort("127.0.0.1", strconv.Itoa(port+4)) // of this cluster's ports, and not used
	first.edit(t, func(c *Config) { c.Raft.Advertise = nobody })
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SEATKEEPER_ADDR": d.address()}
	wait := func(what string, want ...[4]string) (r *doctorReport) {
		t.Helper()
		var code int
		eventually(t, what, func() error {
			code, r = runDoctor(t, env, "--config", third.Config)
			for _, w := range want {
				if !r.find(w[0], w[1], w[2], w[3]) {
					return fmt.Errorf("no %v in\n%s", w, r)
				}
			}
			return nil
		})
		if code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		return r
	}
	r := wait("doctor to see the one direction",
		[4]string{levelFail, "reach/raft", "node-2 does not reach node-1 at Raft " + nobody, "one direction is blocked"},
		[4]string{levelFail, "reach/raft", "node-3 does not reach node-1 at Raft " + nobody, "node-3"},
		[4]string{levelOK, "reach", "node-1 reaches node-2: API, Raft", ""})
	if r.Findings[0].Check != "bind" || r.Findings[0].Level != levelWarn {
		t.Errorf("loopback is not said first:\n%s", r)
	}

	third.kill()
	key, err := newGossipKey()
	if err != nil {
		t.Fatal(err)
	}
	third.edit(t, func(c *Config) { c.Gossip.Key = key })
	if err := third.start(); err != nil {
		t.Fatal(err)
	}
	wait("doctor to see the other gossip key",
		[4]string{levelFail, "gossip/key", "on node-1, node-2", "same gossip.key"},
		[4]string{levelFail, "reach/gossip_udp", "node-3 does not reach", "gossip.key and cluster_name"})

	second.kill()
	third.kill()
	wait("doctor to see that nobody leads",
		[4]string{levelFail, "quorum", "no leader: 1 of 3 voters answer and 2 are needed", "start the missing nodes"},
		[4]string{levelFail, "api", second.API, "systemctl status seatkeeper"},
		[4]string{levelFail, "reach", "is reached by nobody, on no port", "Start it"})
	first.kill()
	if code, r := runDoctor(t, env); code != exitUnreachable || r.Reached != 0 {
		t.Errorf("exit code %d with no node left, want %d\n%s", code, exitUnreachable, r)
	}
}

func TestDoctorMonitorAndBundleOnASecureCluster(t *testing.T) {
	inFull(t)
	s := startSecure(t, func(c *Config) { c.ACL.Required, c.Log.Level = true, "trace" })
	secret := s.bootstrap()
	admin := s.settings("ann", secret)
	s.ready(admin)
	s.applyLicence(admin, seats("cad", 10, patientProfile))
	tokens := map[string]string{"admin": secret}
	for _, role := range []string{"viewer", "operator"} {
		out, _ := s.cli(0, admin, "token", "create", "--role", role)
		tokens[role] = strings.TrimSpace(out)
	}
	out, _ := s.cli(0, admin, "token", "create", "--role", "client", "--expires-in", "240h30m")
	tokens["client"] = strings.TrimSpace(out)
	viewer, operator := s.settings("ann", tokens["viewer"]), s.settings("ann", tokens["operator"])
	out, _ = s.cli(0, admin, "checkout", "cad", "-o", "json")
	var held pb.CheckoutResponse
	mustJSON(t, out, &held)

	// Who may ask.
	if code, r := runDoctor(t, s.settings("ann", "")); code != 1 || !r.find(levelFail, "token", "wants a token", "SEATKEEPER_TOKEN") {
		t.Errorf("without a token: %d\n%s", code, r)
	}
	if code, r := runDoctor(t, viewer); code != 1 || !r.find(levelFail, "token", "role viewer", "--role operator") {
		t.Errorf("with a viewer's: %d\n%s", code, r)
	}
	if code, r := runDoctor(t, map[string]string{"SEATKEEPER_ADDR": s.nodes[0].API}); code != exitUnreachable || !r.find(levelFail, "tls", "speaks TLS", "https://") {
		t.Errorf("in plain text: %d\n%s", code, r)
	}
	_, r := runDoctor(t, operator)
	for _, want := range [][4]string{{levelOK, "tls", "valid for", ""}, {levelOK, "quorum", "all 3 voters answer", ""}, {levelOK, "reach", "node-1 reaches node-2: API, Raft", ""},
		{levelWarn, "token/dates", "of the role client ends in 10 days", "token create --role client"}, {levelOK, "version/log", "all nodes understand it", ""}} {
		if !r.find(want[0], want[1], want[2], want[3]) {
			t.Errorf("no %v in\n%s", want, r)
		}
	}
	s.cli(exitNotAllowed, viewer, "monitor", "--follow=false")
	if lines, _ := s.cli(0, operator, "monitor", "--follow=false", "--node", "node-2", "--recent", "1000"); !strings.Contains(lines, "node=node-2-") {
		t.Errorf("the log of node-2 is\n%s", lines)
	}

	// The bundle, and none of the secrets in it.
	t.Setenv("SOMEBODYS_NOTE", "of-who-makes-the-bundle")
	file := filepath.Join(t.TempDir(), "b.tar.gz")
	s.cli(0, operator, "debug", "bundle", "--output", file, "--duration", "1s")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", info, err)
	}
	files := readBundle(t, file)
	for _, n := range []string{"doctor.json", "status.json", "members.json", "host.json", "licenses.json"} {
		if len(files[n]) == 0 {
			t.Errorf("%s is missing", n)
		}
	}
	for what, want := range map[string]string{"log.txt": "ready", "settings.json": "gossip.key", "metrics-end.txt": "seatkeeper_rpc_requests_total", "goroutines.txt": "goroutine profile",
		"raft.json": "last_log_index", "heap.pb.gz": "", "cpu.pb.gz": "", "examined.json": "gossip_key_id"} {
		nodes := 0
		for name, data := range files {
			if strings.HasSuffix(name, "/"+what) && bytes.Contains(data, []byte(want)) && len(data) > 0 {
				nodes++
			}
		}
		if nodes != 3 {
			t.Errorf("%s with %q is there for %d nodes, want 3", what, want, nodes)
		}
	}
	secrets := s.secrets()
	for role, token := range tokens {
		secrets["token of "+role] = token
	}
	secrets["session secret"], secrets["environment"] = held.Session.Secret, os.Getenv("SOMEBODYS_NOTE")
	searchFor(t, files, secrets)
	searchFor(t, s.exposed(tokens), secrets)
	// A second one does not overwrite the first.
	if _, stderr := s.cli(1, operator, "debug", "bundle", "--output", file); !strings.Contains(stderr, "choose another name") {
		t.Errorf("it says %q", stderr)
	}
	s.cli(exitUsage, operator, "debug", "bundle", "-o", "json")
	other := filepath.Join(t.TempDir(), "c.tar.gz")
	if _, stderr := s.cli(exitUnreachable, operator, "debug", "bundle", "--output", other, "--duration", "1s", "--node", "node-1,node-9"); !strings.Contains(stderr, "--node node-9: it does not answer, or there is no such node") {
		t.Errorf("a node that there is not: %q", stderr)
	}
}

// secrets are those of the cluster that are in files.
func (s *secureStory) secrets() map[string]string {
	s.t.Helper()
	list := map[string]string{}
	keys, err := filepath.Glob(filepath.Join(s.pki, "*-key.pem"))
	if err != nil || len(keys) < 5 {
		s.t.Fatalf("%d key files: %v", len(keys), err)
	}
	for _, file := range keys {
		data, err := os.ReadFile(file)
		if err != nil {
			s.t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			if len(line) > 30 && !strings.HasPrefix(line, "--") {
				list[fmt.Sprintf("%s line %d", filepath.Base(file), i+1)] = line
			}
		}
	}
	for _, name := range []string{"gossip.key", "vendor.signer.key"} {
		data, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			s.t.Fatal(err)
		}
		list[name] = strings.TrimSpace(string(data))
	}
	raw, err := base64.StdEncoding.DecodeString(list["gossip.key"])
	if err != nil {
		s.t.Fatal(err)
	}
	list["gossip key, raw"], list["gossip key, hexadecimal"] = string(raw), hex.EncodeToString(raw)
	// PRIVATE+KEY+name+hash+key, and the key may have a "+" in it.
	parts := strings.SplitN(list["vendor.signer.key"], "+", 5)
	list["signer key alone"] = parts[4]
	return list
}

// readBundle unpacks a bundle, compressed profiles too, and checks it against its manifest.
func readBundle(t *testing.T, file string) map[string][]byte {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files, in := map[string][]byte{}, tar.NewReader(z)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		files[name] = data
	}
	var m bundleManifest
	if err := json.Unmarshal(files["manifest.json"], &m); err != nil || len(m.Files) == 0 || len(m.Errors) != 0 {
		t.Errorf("manifest: %v\n%s", err, files["manifest.json"])
	}
	for _, x := range m.Files {
		if sum := sha256.Sum256(files[x.Name]); hex.EncodeToString(sum[:]) != x.SHA256 || len(files[x.Name]) != x.Size {
			t.Errorf("%s is not what the manifest says", x.Name)
		}
	}
	for name, data := range files {
		if strings.HasSuffix(name, ".pb.gz") {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if files[name+" unpacked"], err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files
}

// exposed is what others on a node's host, or whoever reads its log, may see of it, after
// callers were careless with their tokens.
func (s *secureStory) exposed(tokens map[string]string) map[string][]byte {
	s.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.pki, "ann.pem"), filepath.Join(s.pki, "ann-key.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: s.roots(), Certificates: []tls.Certificate{pair}}}}
	places := map[string][]byte{}
	for i, n := range s.nodes {
		for _, token := range tokens {
			for _, path := range []string{"/v1/status?token=" + token, "/" + token, "/v1/leases?feature=" + token, "/metrics"} {
				req, err := http.NewRequest("GET", "https://"+n.API+path, nil)
				if err != nil {
					s.t.Fatal(err)
				}
				req.Header.Set("Authorization", []string{"Bearer ", "Basic ", "", "Bearer x"}[i]+token)
				resp, err := c.Do(req)
				if err != nil {
					s.t.Fatal(err)
				}
				resp.Body.Close()
			}
		}
		for _, name := range []string{"cmdline", "environ"} {
			data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", n.pid(), name))
			if err != nil || len(data) == 0 {
				s.t.Errorf("%s of %s: %v", name, n.Name, err)
			}
			places[name+" of "+n.Name] = data
		}
		log, err := os.ReadFile(n.logPath())
		if err != nil || !bytes.Contains(log, []byte("[DEBUG]")) {
			s.t.Errorf("the log of %s proves nothing: %v", n.Name, err)
		}
		places["log of "+n.Name] = log
	}
	return places
}

// searchFor looks for secrets where there must be none.
func searchFor(t *testing.T, files map[string][]byte, secrets map[string]string) {
	t.Helper()
	if len(secrets) < 12 {
		t.Errorf("%d secrets are known", len(secrets))
	}
	for what, secret := range secrets {
		if len(secret) < 16 {
			t.Fatalf("%s is %q", what, secret)
		}
		for name, data := range files {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s has the %s", name, what)
			}
		}
	}
}
