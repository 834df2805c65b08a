package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// certLook is how often at most the files are looked at for a change: a handshake
	// costs far more than asking the system three times, and nobody waits for a second.
	certLook = time.Second
	// maxCertBytes bounds a certificate file: a chain has a few kilobytes.
	maxCertBytes = 1 << 20
	// defaultPeerName is the DNS name that the certificates of nodes have in common, and
	// no client's has: it is what makes a certificate that of a node.
	defaultPeerName = "node.seatkeeper"
)

// certFiles is a node's certificate, its key and the CA of its cluster. They are read
// again when a file has changed, so that a certificate is replaced without a restart:
// connections made from then on have the new one, those that stand go on.
type certFiles struct {
	cfg TLS
	log hclog.Logger

	mu     sync.Mutex
	looked time.Time
	stamp  [3]fileStamp
	pair   tls.Certificate
	roots  *x509.CertPool
}

// fileStamp tells one content of a file from the next.
type fileStamp struct {
	modified time.Time
	size     int64
}

// openCertFiles reads the files once; its error says which one is wrong.
func openCertFiles(cfg TLS, log hclog.Logger) (*certFiles, error) {
	f := &certFiles{cfg: cfg, log: log}
	return f, f.reload()
}

// reload reads the files now. When one cannot be used the old content stays.
func (f *certFiles) reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = time.Now()
	f.stamp = f.stamps()
	return f.read()
}

func (f *certFiles) read() error {
	pair, err := tls.LoadX509KeyPair(f.cfg.Cert, f.cfg.Key)
	if err != nil {
		return fmt.Errorf("tls.cert %s and tls.key %s: %s", f.cfg.Cert, f.cfg.Key, fileMessage(err))
	}
	roots, err := readRoots(f.cfg.CA)
	if err != nil {
		return err
	}
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: rest(&pair), KeyUsages: usages}); err != nil {
		return fmt.Errorf("tls.cert %s is not valid for a node under tls.ca %s: %w", f.cfg.Cert, f.cfg.CA, err)
	}
	if err := pair.Leaf.VerifyHostname(f.cfg.peerName()); err != nil {
		return fmt.Errorf("tls.cert %s is not a node's: it does not name %s (seatkeeper tls cert create NAME makes one that does)", f.cfg.Cert, f.cfg.peerName())
	}
	f.pair, f.roots = pair, roots
	return nil
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := readLimited(file, maxCertBytes)
	if err != nil {
		return nil, fmt.Errorf("tls.ca %s: %s", file, fileMessage(err))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.ca %s: there is no PEM certificate in it", file)
	}
	return roots, nil
}

// rest are the certificates of a chain after the first.
func rest(pair *tls.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			pool.AddCert(c)
		}
	}
	return pool
}

// shown are the node's certificate and then those of its CA, for those who look for what
// is wrong.
func (f *certFiles) shown() []*x509.Certificate {
	pair, _ := f.current()
	return append([]*x509.Certificate{pair.Leaf}, readCertificates(f.cfg.CA)...)
}

// readCertificates are the certificates of a PEM file; none if it cannot be read.
func readCertificates(file string) (list []*x509.Certificate) {
	data, err := readLimited(file, maxCertBytes)
	for err == nil {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return list
		}
		if c, err := x509.ParseCertificate(b.Bytes); err == nil && b.Type == "CERTIFICATE" {
			list = append(list, c)
		}
	}
	return list
}

func (f *certFiles) stamps() (s [3]fileStamp) {
	for i, name := range []string{f.cfg.Cert, f.cfg.Key, f.cfg.CA} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// current is what the files hold, read again if one of them has changed. A change that
// makes no sense (the key is not yet there) is looked at again with the next one.
func (f *certFiles) current() (tls.Certificate, *x509.CertPool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= certLook {
		f.looked = now
		if s := f.stamps(); s != f.stamp {
			f.stamp = s
			if err := f.read(); err != nil {
				f.log.Error("the certificate has changed but cannot be used: the old one stays", "error", err)
			} else {
				f.log.Info("certificate replaced", "serial", f.pair.Leaf.SerialNumber.Text(16), "expires", f.pair.Leaf.NotAfter.Format(time.RFC3339))
			}
		}
	}
	return f.pair, f.roots
}

// api is the TLS of the API. gRPC offers "h2" only; who offers both (curl, browsers) is
// served JSON over HTTP/1.1, which is what they come for.
func (f *certFiles) api() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		pair, roots := f.current()
		c := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: roots, NextProtos: []string{"http/1.1", "h2"}}
		switch f.cfg.ClientCerts {
		case clientCertsRequired:
			c.ClientAuth = tls.RequireAndVerifyClientCert
		case clientCertsOptional:
			c.ClientAuth = tls.VerifyClientCertIfGiven
		default:
			// Other nodes show theirs, also where clients need none.
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
		return c, nil
	}}
}

// dialNode is the TLS of a connection to another node, whatever its address is: the name
// that all nodes have is asked for.
func (f *certFiles) dialNode() *tls.Config {
	pair, roots := f.current()
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: f.cfg.peerName()}
}

// raft is the TLS of both ends of a Raft connection: each must be a node.
func (f *certFiles) raft() (dial, accept *tls.Config) {
	pair, roots := f.current()
	accept = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, ClientCAs: roots,
		ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("no certificate")
			}
			return s.PeerCertificates[0].VerifyHostname(f.cfg.peerName())
		}}
	return f.dialNode(), accept
}

func (c TLS) peerName() string {
	if c.PeerName != "" {
		return c.PeerName
	}
	return defaultPeerName
}
