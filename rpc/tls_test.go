package rpc

import (
	"bufio"
	"context"
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
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/soheilhy/cmux"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// pki is a CA and what it signed.
type pki struct {
	t     *testing.T
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

func newPKI(t *testing.T) *pki {
	t.Helper()
	p := &pki{t: t, roots: x509.NewCertPool()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, p.key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.roots.AddCert(p.cert)
	return p
}

// sign makes a node's certificate if node is true, else a client's.
func (p *pki) sign(name string, node bool) tls.Certificate {
	p.t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if node {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		template.DNSNames, template.IPAddresses = []string{testPeerName}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, key.Public(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

const testPeerName = "node.test"

// serve gives a Config the certificates of a node.
func (p *pki) serve(auth tls.ClientAuthType) func(*Config) {
	node := p.sign("n1", true)
	return func(c *Config) {
		c.PeerName = testPeerName
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{node}, ClientCAs: p.roots, ClientAuth: auth, NextProtos: []string{"http/1.1", "h2"}}
		c.PeerTLS = func() *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{node}, RootCAs: p.roots, ServerName: testPeerName}
		}
	}
}

func (p *pki) client(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: p.roots, Certificates: certs}
}

// over is a client that offers HTTP/2 and HTTP/1.1, as curl does.
func over(t *testing.T, settings *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (a *api) dialTLS(t *testing.T, settings *tls.Config) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+a.addr, grpc.WithNoProxy(), grpc.WithTransportCredentials(credentials.NewTLS(settings)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestOnePortServesGRPCAndJSONOverTLS(t *testing.T) {
	p := newPKI(t)
	a := startAPI(t, newFakeNode(t), p.serve(tls.NoClientCert))
	resp, err := over(t, p.client()).Post("https://"+a.addr+"/v1/checkout", "", strings.NewReader(`{"feature":"cad","user":"ann"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("JSON over TLS: %d %s", resp.StatusCode, text)
	}
	if resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("TLS version %x, want 1.3", resp.TLS.Version)
	}
	if _, err := pb.NewSeatsClient(a.dialTLS(t, p.client())).Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", User: "bob"}); err != nil {
		t.Errorf("gRPC over TLS: %v", err)
	}
	old := p.client()
	old.MaxVersion = tls.VersionTLS12
	if resp, err := over(t, old).Get("https://" + a.addr + "/livez"); err == nil {
		resp.Body.Close()
		t.Error("TLS 1.2 is accepted")
	}
}

func TestRedirectOverTLSStaysOverTLS(t *testing.T) {
	p := newPKI(t)
	node := newFakeNode(t)
	a := startAPI(t, node, p.serve(tls.NoClientCert))
	node.set(func() { node.leading, node.epoch.Node, node.epoch.APIAddress = false, "n2-00000002", "192.0.2.1:7800" })
	resp, err := over(t, p.client()).Post("https://"+a.addr+"/v1/checkout", "", strings.NewReader(`{"feature":"cad"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, want := resp.Header.Get("Location"), "https://192.0.2.1:7800/v1/checkout"; resp.StatusCode != http.StatusTemporaryRedirect || got != want {
		t.Errorf("%d to %q, want 307 to %q", resp.StatusCode, got, want)
	}
}

func TestClientWithoutCertificateOfTheCAIsCutOff(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	a := startAPI(t, newFakeNode(t), p.serve(tls.RequireAndVerifyClientCert))
	for name, c := range map[string]struct {
		settings *tls.Config
		want     bool
	}{
		"with one":       {p.client(p.sign("ann", false)), true},
		"without":        {p.client(), false},
		"of another CA":  {p.client(other.sign("ann", false)), false},
		"a node's works": {p.client(p.sign("n2", true)), true},
	} {
		t.Run(name, func(t *testing.T) {
			resp, err := over(t, c.settings).Get("https://" + a.addr + "/livez")
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != c.want {
				t.Errorf("JSON: %v, want served: %v", err, c.want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err = pb.NewClusterClient(a.dialTLS(t, c.settings)).Status(ctx, &pb.StatusRequest{})
			if (err == nil) != c.want {
				t.Errorf("gRPC: %v, want served: %v", err, c.want)
			}
		})
	}
}

func TestPlainTextOnATLSPortIsToldSo(t *testing.T) {
	p := newPKI(t)
	a := startAPI(t, newFakeNode(t), p.serve(tls.NoClientCert))
	r := a.call(t, "GET", "/v1/status", "")
	if r.status != http.StatusBadRequest || !strings.Contains(r.str(t, "message"), "this port speaks TLS: write https://") {
		t.Errorf("%d %s", r.status, r.text)
	}
	if got := metricValue(t, a, "seatkeeper_rpc_tls_handshakes_failed_total"); got != 1 {
		t.Errorf("%v failed handshakes counted, want 1", got)
	}
}

func TestSlowHandshakeHoldsNobodyUp(t *testing.T) {
	p := newPKI(t)
	a := startAPI(t, newFakeNode(t), p.serve(tls.NoClientCert))
	for range 20 {
		silent, err := net.Dial("tcp", a.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		fmt.Fprint(silent, "\x16\x03\x01") // the beginning of a handshake, and no more
	}
	resp, err := over(t, p.client()).Get("https://" + a.addr + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestOversizedBodyOverTLSReadsItsRefusal(t *testing.T) {
	p := newPKI(t)
	a := startAPI(t, newFakeNode(t), p.serve(tls.NoClientCert))
	conn, err := tls.Dial("tcp", a.addr, p.client())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		fmt.Fprintf(conn, "POST /v1/checkout HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 8*MaxBody)
		for range 8 {
			if _, err := conn.Write(make([]byte, MaxBody)); err != nil {
				return
			}
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, want 413", resp.StatusCode)
	}
}

// What ends the answer over TLS must leave the reading side open. (That a client then reads
// its refusal cannot be shown on one machine: Linux keeps what came before a reset.)
func TestHalfCloseOverTLSEndsTheAnswerOnly(t *testing.T) {
	p := newPKI(t)
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	for _, c := range []net.Conn{near, far} {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	server := tls.Server(far, &tls.Config{Certificates: []tls.Certificate{p.sign("node-1", true)}})
	settings := p.client().Clone()
	settings.InsecureSkipVerify = true // whose certificate it is, is not what is asked here
	client := tls.Client(near, settings)
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := errors.Join(client.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	held := &capConn{Conn: server}
	go func() { _ = halfClosingConn{&cmux.MuxConn{Conn: held}}.CloseWrite() }()
	if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("after the answer a client reads %d, %v, want its end", n, err)
	}
	go func() { _, _ = client.Write([]byte("x")) }()
	if n, err := held.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Errorf("what the client still sends is read as %d, %v", n, err)
	}
}

func TestNodesForwardToEachOtherOverTLS(t *testing.T) {
	p := newPKI(t)
	leader := startAPI(t, newFakeNode(t), p.serve(tls.RequireAndVerifyClientCert))
	follower := newFakeNode(t)
	follower.id = "n2-00000002"
	a := startAPI(t, follower, p.serve(tls.RequireAndVerifyClientCert))
	follower.set(func() {
		follower.leading, follower.epoch.APIAddress = false, leader.addr
		follower.peers = append(follower.peers, cluster.Peer{ID: "n1-00000001", APIAddress: leader.addr})
	})
	req, _ := http.NewRequest("POST", "https://"+a.addr+"/v1/checkout", strings.NewReader(`{"feature":"cad","user":"ann"}`))
	req.Header.Set("X-Seatkeeper-Forward", "1")
	resp, err := over(t, p.client(p.sign("ann", false))).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// metricValue adds up the samples of a counter or gauge.
func metricValue(t *testing.T, a *api, name string) (sum float64) {
	t.Helper()
	families, err := a.cfg.Gatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
