//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// secureStory is a cluster of three with TLS on every port, and the certificates to
// speak to it.
type secureStory struct {
	*devCluster
	t   *testing.T
	pki string
}

// mint runs the tls commands.
func (s *secureStory) mint(args ...string) {
	s.t.Helper()
	if code, out, stderr := run(s.t, nil, append(args, "--dir", s.pki)...); code != 0 {
		s.t.Fatalf("seatkeeper %s: %d %s%s", strings.Join(args, " "), code, out, stderr)
	}
}

// settings are the variables of a client with a certificate.
func (s *secureStory) settings(name, token string) map[string]string {
	var list []string
	for _, n := range s.nodes {
		list = append(list, "https://"+n.API)
	}
	env := map[string]string{"SEATKEEPER_ADDR": strings.Join(list, ","), "SEATKEEPER_CACERT": filepath.Join(s.pki, "ca.pem")}
	if name != "" {
		env["SEATKEEPER_CLIENT_CERT"], env["SEATKEEPER_CLIENT_KEY"] = filepath.Join(s.pki, name+".pem"), filepath.Join(s.pki, name+"-key.pem")
	}
	if token != "" {
		env["SEATKEEPER_TOKEN"] = token
	}
	return env
}

// cli runs a command and wants an exit code.
func (s *secureStory) cli(want int, env map[string]string, args ...string) (stdout, stderr string) {
	s.t.Helper()
	code, out, errOut := run(s.t, env, args...)
	if code != want {
		s.t.Fatalf("seatkeeper %s: exit code %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, errOut)
	}
	return out, errOut
}

func startSecure(t *testing.T, change func(*Config)) *secureStory {
	t.Helper()
	return startSecureOf(t, programUnderTest(t), change)
}

// startSecureOf starts the cluster with another program; "" is the one under test.
func startSecureOf(t *testing.T, binary string, change func(*Config)) *secureStory {
	t.Helper()
	if binary == "" {
		binary = programUnderTest(t)
	}
	d, err := newDevCluster(binary, t.TempDir(), 3, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &secureStory{devCluster: d, t: t, pki: filepath.Join(d.dir, "pki")}
	s.mint("tls", "ca", "create")
	for _, n := range d.nodes {
		s.mint("tls", "cert", "create", n.Name)
		l, err := loadConfig(n.Config, noEnv, nil)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Join(s.pki, n.Name)
		l.TLS.Cert, l.TLS.Key, l.TLS.CA, l.TLS.ClientCerts = base+".pem", base+"-key.pem", filepath.Join(s.pki, "ca.pem"), clientCertsRequired
		if change != nil {
			change(&l.Config)
		}
		text, err := yaml.Marshal(l.Config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(n.Config, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.mint("tls", "cert", "create", "ann", "--client")
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, n := range s.nodes {
				log, _ := os.ReadFile(n.logPath())
				t.Logf("log of %s:\n%s", n.Name, log[max(0, len(log)-4000):])
			}
		}
	})
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// ready waits until all three nodes vote and one leads; it returns that one.
func (s *secureStory) ready(env map[string]string) *devNode {
	s.t.Helper()
	var leader *devNode
	eventually(s.t, "a leader of three", func() error {
		code, out, stderr := run(s.t, env, "status", "-o", "json")
		if code != 0 {
			return errors.New(stderr)
		}
		var st pb.StatusResponse
		mustJSON(s.t, out, &st)
		voters := 0
		for _, n := range st.Nodes {
			if n.Role == "leader" || n.Role == "follower" {
				voters++
			}
		}
		if st.Leader == "" || voters != len(s.nodes) {
			return fmt.Errorf("%v", st.Nodes)
		}
		for _, n := range s.nodes {
			if strings.HasPrefix(st.Leader, n.Name+"-") {
				leader = n
			}
		}
		return nil
	})
	return leader
}

// shownBy is the serial number of the certificate that a node shows.
func (s *secureStory) shownBy(n *devNode) string {
	s.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.pki, "ann.pem"), filepath.Join(s.pki, "ann-key.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", n.API, &tls.Config{RootCAs: s.roots(), Certificates: []tls.Certificate{pair}})
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
}

func (s *secureStory) roots() *x509.CertPool {
	s.t.Helper()
	roots, err := readRoots(filepath.Join(s.pki, "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	return roots
}

// replace gives a node a new certificate in the place of the old one.
func (s *secureStory) replace(n *devNode) {
	s.t.Helper()
	fresh := filepath.Join(s.pki, "fresh")
	if err := os.MkdirAll(fresh, 0o700); err != nil {
		s.t.Fatal(err)
	}
	for _, f := range []string{"ca.pem", "ca-key.pem"} {
		data, err := os.ReadFile(filepath.Join(s.pki, f))
		if err == nil {
			err = os.WriteFile(filepath.Join(fresh, f), data, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
	s.cli(0, nil, "tls", "cert", "create", n.Name, "--dir", fresh)
	for _, f := range []string{n.Name + "-key.pem", n.Name + ".pem"} {
		if err := os.Rename(filepath.Join(fresh, f), filepath.Join(s.pki, f)); err != nil {
			s.t.Fatal(err)
		}
	}
}

func TestClusterWithTLSEverywhereRotatesCertificatesAndLosesItsLeader(t *testing.T) {
	t.Parallel()
	s := startSecure(t, nil)
	ann := s.settings("ann", "")
	s.ready(ann)
	s.applyLicence(ann, seats("cad", 10, patientProfile))

	// Who shows nothing, or speaks plain text, gets nowhere; each is told why in one line.
	var turned sync.WaitGroup
	defer turned.Wait()
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"no certificate": {s.settings("", ""), "certificate required"},
		"plain text":     {map[string]string{"SEATKEEPER_ADDR": s.nodes[0].API}, "https://"},
	} {
		turned.Go(func() {
			code, _, stderr := run(t, c.env, "leases")
			if code != exitUnreachable || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("%s: exit code %d, %q, want a line with %q", name, code, stderr, c.want)
			}
		})
	}

	// A client of the SDK holds a seat through it all.
	cl, err := newClient(Client{Addr: ann["SEATKEEPER_ADDR"], CACert: ann["SEATKEEPER_CACERT"], ClientCert: ann["SEATKEEPER_CLIENT_CERT"], ClientKey: ann["SEATKEEPER_CLIENT_KEY"]}, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close(context.Background())
	session, err := cl.OpenSession(t.Context(), client.SessionConfig{Principal: lease.Principal{User: "ann", Host: "ws1"}})
	if err != nil {
		t.Fatal(err)
	}
	held, err := session.Checkout(t.Context(), client.Item{Feature: "cad"})
	if err != nil {
		t.Fatal(err)
	}

	// Curl is redirected from a follower to the leader, and stays within TLS.
	s.curl(ann)

	// A new certificate for every node: noticed by itself, or at SIGHUP.
	for i, n := range s.nodes {
		before := s.shownBy(n)
		s.replace(n)
		if i == 0 {
			if err := n.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, n.Name+" to show its new certificate", func() error {
			if now := s.shownBy(n); now == before {
				return errors.New("it still shows " + now)
			}
			return nil
		})
	}

	turned.Wait()
	leader := s.ready(ann) // elections happen on a busy machine
	// The leader dies; new connections between the others are made with the new ones.
	if err := leader.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-leader.exited
	eventually(t, "the lease to be renewed by a new leader", func() error {
		if !held[0].Valid() {
			return errors.New("it is lost")
		}
		code, out, stderr := run(t, ann, "status", "-o", "json")
		if code != 0 {
			return errors.New(stderr)
		}
		var st pb.StatusResponse
		mustJSON(t, out, &st)
		if st.Leader == "" || strings.HasPrefix(st.Leader, leader.Name+"-") || inUse(&st, "cad") != 1 {
			return fmt.Errorf("leader %s, %d seats in use", st.Leader, inUse(&st, "cad"))
		}
		return nil
	})
	if err := session.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// curl checks a seat out by JSON over HTTP, from every node that does not lead.
func (s *secureStory) curl(env map[string]string) {
	s.t.Helper()
	pair, err := tls.LoadX509KeyPair(env["SEATKEEPER_CLIENT_CERT"], env["SEATKEEPER_CLIENT_KEY"])
	if err != nil {
		s.t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(), Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	for _, n := range s.nodes {
		var answer pb.CheckoutResponse
		eventually(s.t, "a checkout by way of "+n.Name, func() error { return s.post(transport, env["SEATKEEPER_TOKEN"], n, &answer) })
		back := map[string]string{"SEATKEEPER_SESSION_SECRET": answer.Session.Secret}
		for k, v := range env {
			back[k] = v
		}
		s.cli(0, back, "checkin", "--session", answer.Session.Id, "--all")
	}
}

// post asks a node for a seat. Its error means that nobody led just then and nothing was done.
func (s *secureStory) post(transport http.RoundTripper, token string, n *devNode, answer *pb.CheckoutResponse) error {
	s.t.Helper()
	req, err := http.NewRequest("POST", "https://"+n.API+"/v1/checkout", strings.NewReader(`{"feature":"cad","user":"ann","host":"h"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.URL.Scheme != "https" || !slices.ContainsFunc(s.nodes, func(o *devNode) bool { return o != n && o.API == next.URL.Host }) {
			return fmt.Errorf("redirected to %s", next.URL)
		}
		next.Header.Set("Authorization", req.Header.Get("Authorization")) // curl --location-trusted
		return nil
	}}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusServiceUnavailable && strings.Contains(string(text), `"not_leader"`):
		return fmt.Errorf("%s", text)
	case resp.StatusCode != http.StatusOK:
		s.t.Fatalf("%d %s", resp.StatusCode, text)
	}
	mustJSON(s.t, string(text), answer)
	return nil
}

// applyLicence signs and applies a licence with these features.
func (s *secureStory) applyLicence(env map[string]string, features ...sampleFeature) {
	s.t.Helper()
	document, signed := filepath.Join(s.dir, "floating.txt"), filepath.Join(s.dir, "story.lic")
	if err := os.WriteFile(document, sampleLicence("L-1", s.vendor.Name, features, time.Now().AddDate(0, 0, -1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cli(0, nil, "license", "sign", document, "--key", s.vendor.SignerFile, "--out", signed)
	s.cli(0, env, "license", "apply", signed)
}

func TestTokensGuardAClusterThroughTheLossOfItsLeader(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startSecure(t, func(c *Config) {
		c.ACL.Required, c.TLS.BindUser = true, true
		c.Audit.File, c.Log.Level = c.DataDir+".jsonl", "debug"
	})
	ann := func(token string) map[string]string { return s.settings("ann", token) }
	eventually(t, "a leader that asks for tokens", func() error {
		if code, _, stderr := run(t, ann(""), "leases"); code != exitNotAllowed || !strings.Contains(stderr, "acl bootstrap") {
			return fmt.Errorf("%d %s", code, stderr)
		}
		return nil
	})
	secrets := map[string]string{}
	keep := func(name, out string) string {
		secrets[name] = strings.TrimSpace(out)
		return secrets[name]
	}
	out, _ := s.cli(0, ann(""), "acl", "bootstrap")
	admin := keep("admin token", out)
	s.ready(ann(admin))
	if _, stderr := s.cli(77, ann(""), "acl", "bootstrap"); !strings.Contains(stderr, "was made before") {
		t.Errorf("a second bootstrap: %s", stderr)
	}
	create := func(args ...string) string {
		out, _ := s.cli(0, ann(admin), append([]string{"token", "create"}, args...)...)
		return keep(strings.Join(args, " "), out)
	}
	client, viewer := create("--role", "client", "--user", "ann"), create("--role", "viewer")
	vendor := create("--role", "vendor", "--description", "acme's robot")
	s.applyLicence(ann(vendor), seats("cad", 10, patientProfile))

	// Who may what, and what the others are told.
	s.cli(77, ann(""), "status")
	s.cli(77, ann(viewer), "checkout", "cad", "--user", "ann")
	s.cli(77, ann(client), "kill", "--user", "ann")
	s.cli(77, ann(client), "token", "list")
	if _, stderr := s.cli(77, ann(client), "checkout", "cad", "--user", "bob"); !strings.Contains(stderr, `you act for user "ann" only`) {
		t.Errorf("a checkout for another: %s", stderr)
	}
	s.mint("tls", "cert", "create", "bob", "--client")
	if _, stderr := s.cli(77, s.settings("bob", client), "checkout", "cad"); !strings.Contains(stderr, "use both of one user") {
		t.Errorf("ann's token with bob's certificate: %s", stderr)
	}
	s.curl(ann(client))
	state := filepath.Join(s.dir, "ann.seat")
	s.cli(0, ann(client), "checkout", "cad", "--state", state, "--user", "ann")
	held, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	secrets["session secret"] = between(string(held), `"session_secret": "`, `"`)

	// A new leader knows every token, the revoked ones too.
	id := strings.Split(viewer, "_")[1]
	s.cli(0, ann(admin), "token", "revoke", id)
	leader := s.ready(ann(admin))
	if err := leader.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-leader.exited
	eventually(t, "a new leader", func() error {
		if code, _, stderr := run(t, ann(client), "renew", "--state", state); code != 0 {
			return errors.New(stderr)
		}
		return nil
	})
	if _, stderr := s.cli(77, ann(viewer), "leases"); strings.Contains(stderr, viewer) {
		t.Errorf("the refusal shows the token: %s", stderr)
	}
	s.cli(0, ann(client), "checkin", "--state", state, "--all")
	if _, stderr := s.cli(2, ann(admin), "token", "revoke", client); strings.Contains(stderr, client) {
		t.Errorf("the refusal shows the token: %s", stderr)
	}
	s.leaksNone(secrets)
}

func between(text, before, after string) string {
	_, rest, _ := strings.Cut(text, before)
	found, _, _ := strings.Cut(rest, after)
	return found
}

// leaksNone looks for secrets where they must not be: logs, data, what the commands show,
// and the arguments of processes.
func (s *secureStory) leaksNone(secrets map[string]string) {
	s.t.Helper()
	key, err := os.ReadFile(filepath.Join(s.dir, "gossip.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	secrets["gossip key"] = strings.TrimSpace(string(key))
	places := map[string]string{}
	for _, n := range s.nodes {
		log, err := os.ReadFile(n.logPath())
		if err != nil {
			s.t.Fatal(err)
		}
		places["log of "+n.Name] = string(log)
		data, err := os.ReadFile(n.Dir + ".jsonl")
		if err != nil {
			s.t.Fatal(err)
		}
		places["audit of "+n.Name] = string(data)
		if err := filepath.WalkDir(n.Dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				var data []byte
				data, err = os.ReadFile(path)
				places[path] = string(data)
			}
			return err
		}); err != nil {
			s.t.Fatal(err)
		}
		if n.cmd.ProcessState == nil {
			args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.pid()))
			places["arguments of "+n.Name] = string(args)
		}
		places["config show of "+n.Name], _ = s.cli(0, map[string]string{"SEATKEEPER_TOKEN": secrets["admin token"]}, "config", "show", "--config", n.Config, "-o", "json")
	}
	if !strings.Contains(places["audit of node-2"], "create_token") {
		s.t.Error("the audit says nothing of the tokens that were made: this search proves nothing")
	}
	for name, secret := range secrets {
		if len(secret) < 16 {
			s.t.Fatalf("%s is %q: nothing to look for", name, secret)
		}
		for place, text := range places {
			if strings.Contains(text, secret) || strings.Contains(text, secret[len(secret)-32:]) {
				s.t.Errorf("%s is in the %s", name, place)
			}
		}
	}
}
