package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"slices"
	"time"
)

const (
	// backdate lets a certificate be valid on machines whose clocks are behind.
	backdate = 10 * time.Minute
	// maxCertDays and maxCADays: what browsers accept of a private CA's certificates, and
	// longer than any machine of today runs.
	maxCertDays = 825
	maxCADays   = 7300
)

// certKind is what a certificate is for.
type certKind struct {
	name   string
	client bool     // of a person or program, not of a node
	hosts  []string // DNS names and addresses of a node, beside those every node has
	peer   string   // the name that makes it a node's
}

// mintCA makes a certificate authority: certificate and key as PEM.
func mintCA(name string, life time.Duration, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := certTemplate(name, life, now)
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	return encodePair(t, t, key, key)
}

// mintCert makes a certificate signed by a CA. That of a node serves and calls other
// nodes; that of a client only calls, and names no host, so that nobody can serve with it.
func mintCert(ca *x509.Certificate, caKey crypto.Signer, kind certKind, life time.Duration, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := certTemplate(kind.name, life, now)
	if t.NotAfter.After(ca.NotAfter) {
		t.NotAfter = ca.NotAfter // beyond that nobody would accept it
	}
	t.BasicConstraintsValid = true
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if !kind.client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		for _, h := range slices.Concat([]string{kind.peer, kind.name, "localhost", "127.0.0.1", "::1"}, kind.hosts) {
			if ip := net.ParseIP(h); ip != nil {
				t.IPAddresses = append(t.IPAddresses, ip)
			} else if !slices.Contains(t.DNSNames, h) {
				t.DNSNames = append(t.DNSNames, h)
			}
		}
	}
	return encodePair(t, ca, key, caKey)
}

func certTemplate(name string, life time.Duration, now time.Time) *x509.Certificate {
	var serial [16]byte
	rand.Read(serial[:])
	serial[0] &= 0x7f // positive
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdate).UTC(), NotAfter: now.Add(life).UTC(),
	}
}

func encodePair(t, parent *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) (certPEM, keyPEM []byte, err error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}

// readCA reads the CA that signs, and checks that its two files belong together.
func readCA(certFile, keyFile string) (*x509.Certificate, crypto.Signer, error) {
	block := func(file, kind string) ([]byte, error) {
		data, err := readLimited(file, maxCertBytes)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, exitf(exitError1, "%s is not there: make a CA with seatkeeper tls ca create", file)
		}
		if err != nil {
			return nil, exitf(exitError1, "%s: %s", file, fileMessage(err))
		}
		b, _ := pem.Decode(data)
		if b == nil || b.Type != kind {
			return nil, exitf(exitError1, "%s: there is no PEM %s in it", file, kind)
		}
		return b.Bytes, nil
	}
	der, err := block(certFile, "CERTIFICATE")
	if err != nil {
		return nil, nil, err
	}
	raw, err := block(keyFile, "PRIVATE KEY")
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil || !ca.IsCA {
		return nil, nil, exitf(exitError1, "%s is no certificate of a CA", certFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(raw)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, nil, exitf(exitError1, "%s: want an ECDSA key as seatkeeper tls ca create makes it", keyFile)
	}
	if !key.PublicKey.Equal(ca.PublicKey) {
		return nil, nil, exitf(exitError1, "%s is not the key of %s", keyFile, certFile)
	}
	return ca, key, nil
}

// writePair writes a certificate and its key (mode 0600) as NAME.pem and NAME-key.pem.
// It overwrites nothing: a lost key is lost for good.
func writePair(base string, certPEM, keyPEM []byte) (certFile, keyFile string, err error) {
	certFile, keyFile = base+".pem", base+"-key.pem"
	for _, f := range []string{certFile, keyFile} {
		if _, err := os.Lstat(f); err == nil {
			return "", "", exitf(exitError1, "%s is there already: it is not overwritten; move it away or choose another name", f)
		}
	}
	if err := writeNew(keyFile, string(keyPEM), 0o600); err != nil {
		return "", "", err
	}
	if err := writeNew(certFile, string(certPEM), 0o644); err != nil {
		return "", "", errors.Join(err, os.Remove(keyFile))
	}
	return certFile, keyFile, nil
}
