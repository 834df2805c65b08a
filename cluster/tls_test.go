package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// raftCA makes certificates for nodes ("node.test" in them) and for others.
func raftCA(t *testing.T) (roots *x509.CertPool, sign func(name string) tls.Certificate) {
	t.Helper()
	make := func(template, parent *x509.Certificate, by *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if by == nil {
			by = key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, caKey := make(ca, ca, nil)
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(ca)
	return roots, func(name string) tls.Certificate {
		der, key := make(&x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, ca, caKey)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
}

// raftTLS are the settings of a node with this certificate.
func raftTLS(roots *x509.CertPool, cert tls.Certificate) func() (dial, accept *tls.Config) {
	dial := &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, ServerName: "node.test"}
	accept := &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error { return s.PeerCertificates[0].VerifyHostname("node.test") }}
	return func() (*tls.Config, *tls.Config) { return dial, accept }
}

func TestNodesReplicateOverTLSAndStrangersStayOut(t *testing.T) {
	t.Parallel()
	roots, sign := raftCA(t)
	first := testConfig(t, "a", filepath.Join(t.TempDir(), "a"), 1)
	first.RaftTLS = raftTLS(roots, sign("node.test"))
	a := start(t, first)
	leaderOf(t, a)
	second := testConfig(t, "b", filepath.Join(t.TempDir(), "b"), 0, gossipAddr(a))
	second.RaftTLS = raftTLS(roots, sign("node.test"))
	b := start(t, second)
	eventually(t, "b to follow", func() bool { return b.FSM().Status().AppliedIndex > 0 })

	_, foreign := raftCA(t)
	for name, settings := range map[string]*tls.Config{
		"plain text":               nil,
		"no certificate":           {RootCAs: roots, ServerName: "node.test"},
		"a certificate of no node": {RootCAs: roots, ServerName: "node.test", Certificates: []tls.Certificate{sign("ann")}},
		"another CA":               {RootCAs: roots, ServerName: "node.test", Certificates: []tls.Certificate{foreign("node.test")}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := greetRaft(a, settings); err == nil {
				t.Error("the connection is kept open")
			} else if e := (net.Error)(nil); errors.As(err, &e) && e.Timeout() {
				t.Errorf("the connection is kept open: %v", err)
			}
		})
	}
	ours, _ := first.RaftTLS()
	if err := greetRaft(a, ours); err == nil || !isTimeout(err) {
		t.Errorf("a node's own connection: %v, want it to be kept open", err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

// greetRaft connects as a peer would and waits for the other end to hang up.
func greetRaft(n *Node, settings *tls.Config) error {
	conn, err := net.Dial("tcp", n.raftAddress)
	if err != nil {
		return err
	}
	defer conn.Close()
	if settings != nil {
		conn = tls.Client(conn, settings)
	}
	if err := conn.SetDeadline(time.Now().Add(raftIOTimeout + time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "%s%s\n", greeting, n.id); err != nil {
		return err
	}
	_, err = io.ReadAll(io.LimitReader(conn, 1))
	if err == nil {
		err = io.EOF
	}
	return err
}

func TestGossipKeyIsReplacedWhileNodesGossip(t *testing.T) {
	old, fresh := []byte(strings.Repeat("o", gossipKeyLen)), []byte(strings.Repeat("n", gossipKeyLen))
	first := testConfig(t, "a", filepath.Join(t.TempDir(), "a"), 1)
	first.GossipKeys = [][]byte{old}
	a := start(t, first)
	leaderOf(t, a)
	second := testConfig(t, "b", filepath.Join(t.TempDir(), "b"), 0, gossipAddr(a))
	second.GossipKeys = [][]byte{old}
	b := start(t, second)
	seen := func(n *Node, want int) func() bool {
		return func() bool { return len(n.discovery.Members()) == want }
	}
	eventually(t, "both to see each other", func() bool { return seen(a, 2)() && seen(b, 2)() })
	for _, keys := range [][][]byte{{old, fresh}, {fresh, old}, {fresh}} {
		for _, n := range []*Node{a, b} {
			if err := n.SetGossipKeys(keys); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Only who has the new key gets in now.
	for key, want := range map[string]bool{string(old): false, string(fresh): true} {
		cfg := testConfig(t, "c", filepath.Join(t.TempDir(), "c"), 0, gossipAddr(a))
		cfg.GossipKeys = [][]byte{[]byte(key)}
		c := start(t, cfg)
		if _, err := c.discovery.(*gossip).list.Join(cfg.Join); (err == nil) != want {
			t.Errorf("join with key %.1s…: %v, want joined: %v", key, err, want)
		}
	}
	if keys := a.discovery.(*gossip).keyring.GetKeys(); len(keys) != 1 || string(keys[0]) != string(fresh) {
		t.Errorf("%d keys are left, want the new one alone", len(keys))
	}
	if err := a.SetGossipKeys(nil); err == nil {
		t.Error("encryption is switched off while gossip runs")
	}
}
