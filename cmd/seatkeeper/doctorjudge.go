package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// expirySoon is from when on an end is worth a warning: time enough to renew it in.
const expirySoon = 30 * 24 * time.Hour

// judgeVisits says what is wrong on the way from here to each address.
func (d *doctor) judgeVisits() {
	for _, v := range d.visits {
		host, _, _ := net.SplitHostPort(v.address)
		switch {
		case v.lookupErr != nil:
			d.fail("name", v.address, fmt.Sprintf("the name %s does not resolve here", host), "put it into DNS or /etc/hosts, or use another address")
			continue
		case v.dialErr != nil:
			what, do := refusedHow(v)
			if d.raftAnswers(v.address) {
				what += "; its Raft port answers the other nodes, so the process runs"
			}
			d.fail("api", v.address, what, do)
			continue
		case v.settings != nil:
			d.fail("tls/client", v.address, v.settings.Error(), "check SEATKEEPER_CACERT, SEATKEEPER_CLIENT_CERT and SEATKEEPER_CLIENT_KEY")
			continue
		case v.tlsErr != nil:
			d.judgeHandshake(v)
			continue
		}
		if len(v.resolved) > 0 {
			d.ok("name", v.address, "%s is %s", host, strings.Join(v.resolved, ", "))
		}
		good := v.tls == nil || d.judgeChain(v, host)
		d.judgeAnswer(v, good)
	}
}

func (d *doctor) judgeHandshake(v *visit) {
	if strings.Contains(v.tlsErr.Error(), "first record does not look like") {
		d.fail("tls", v.address, v.address+" speaks plain text, and was asked by https", "write its address without https://, or set tls.cert, tls.key and tls.ca on the node")
		return
	}
	d.fail("tls", v.address, fmt.Sprintf("no TLS handshake with %s: %v", v.address, v.tlsErr), "on that host: seatkeeper doctor --config FILE looks at its certificate and key")
}

// judgeChain looks at what the node shows. It returns false where a client would refuse it.
func (d *doctor) judgeChain(v *visit, host string) (good bool) {
	leaf := v.tls.PeerCertificates[0]
	settings, err := clientTLS(v.client)
	if err != nil {
		return false
	}
	good = true
	until := d.judgeDates("tls/dates", v.name(), "the certificate of "+v.address, leaf,
		"seatkeeper tls cert create NAME in the folder of the CA, put the files in place, key first, and systemctl reload seatkeeper")
	if until <= 0 {
		good = false
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: settings.RootCAs, Intermediates: intermediates(v.tls), CurrentTime: midway(leaf, d.now())}); err != nil {
		d.fail("tls/chain", v.name(), fmt.Sprintf("the certificate of %s is signed by %q, which is not trusted here", v.address, leaf.Issuer.CommonName),
			"set SEATKEEPER_CACERT (--cacert) to the CA file of this cluster; if it is, the node has a certificate of another CA")
		good = false
	}
	if err := leaf.VerifyHostname(host); err != nil {
		d.fail("tls/name", v.name(), fmt.Sprintf("the certificate of %s is not for %s: it names %s", v.address, host, certNames(leaf)),
			fmt.Sprintf("seatkeeper tls cert create NAME --host %s makes one that is; or use a name that is in it", host))
		good = false
	}
	if good {
		d.ok("tls", v.name(), "%s shows a certificate for %s, signed by %q, valid for %d days", v.address, host, leaf.Issuer.CommonName, int(until.Hours()/24))
	}
	return good
}

func certNames(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

func intermediates(s *tls.ConnectionState) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		pool.AddCert(c)
	}
	return pool
}

// midway is now, or a time at which the certificate is valid: its dates are judged apart
// from who signed it.
func midway(c *x509.Certificate, now time.Time) time.Time {
	switch {
	case now.After(c.NotAfter):
		return c.NotAfter.Add(-time.Second)
	case now.Before(c.NotBefore):
		return c.NotBefore.Add(time.Second)
	}
	return now
}

// judgeDates looks at the dates of a certificate and returns the time that is left.
func (d *doctor) judgeDates(check, node, what string, c *x509.Certificate, do string) time.Duration {
	sum := sha256.Sum256(c.Raw)
	return d.judgeSpan(check, node, what, hex.EncodeToString(sum[:]), c.NotBefore, c.NotAfter, do)
}

// judgeSpan says of each certificate once what its dates are: many see the same one.
func (d *doctor) judgeSpan(check, node, what, fingerprint string, from, to time.Time, do string) time.Duration {
	now := d.now()
	left := to.Sub(now)
	d.mu.Lock()
	if d.dated == nil {
		d.dated = map[string]bool{}
	}
	said := d.dated[fingerprint]
	d.dated[fingerprint] = true
	d.mu.Unlock()
	switch {
	case said:
	case now.Before(from):
		d.fail(check, node, fmt.Sprintf("%s is not valid before %s", what, from.Format(time.RFC3339)), "is the clock of this machine right? Else: "+do)
	case left <= 0:
		d.fail(check, node, fmt.Sprintf("%s expired on %s", what, to.Format(time.DateOnly)), do)
	case left < expirySoon:
		d.warn(check, node, fmt.Sprintf("%s expires in %d days, on %s", what, int(left.Hours()/24), to.Format(time.DateOnly)), do)
	}
	return left
}

// judgeAnswer says what the node answered. chain is false where its certificate was
// found wrong already.
func (d *doctor) judgeAnswer(v *visit, chain bool) {
	switch {
	case v.who != nil:
		d.ok("api", v.who.Name, "%s answers as %s (%s), version %s, within %s", v.address, v.who.Name, v.who.Id, v.who.Version, v.took.Round(time.Millisecond))
		return
	case errors.Is(v.healthErr, errSpeaksTLS):
		d.fail("tls", v.address, v.address+" speaks TLS, and was asked in plain text", "write https:// before the address, and set SEATKEEPER_CACERT")
		return
	case errors.Is(v.healthErr, errNotOurs):
		d.fail("api", v.address, "what answers at "+v.address+" is no Seatkeeper node", "check the port: 7800 is the API's; clients need no other")
		return
	case !chain:
		return // that is why
	}
	a := statusOf(v.whoErr)
	whom := v.address
	if v.health != nil {
		whom = fmt.Sprintf("%s (%s)", v.address, v.health.Node)
	}
	switch {
	case lease.Reason(a.reason) == client.Unauthenticated:
		d.fail("token", v.address, fmt.Sprintf("%s does not take the token: %s", whom, a.message), "set SEATKEEPER_TOKEN to a token of the role operator: seatkeeper token create --role operator")
	case lease.Reason(a.reason) == lease.Forbidden:
		d.fail("token", v.address, fmt.Sprintf("the token is not enough to examine %s: %s", whom, a.message), "use a token of the role operator that is bound to no tenant: seatkeeper token create --role operator")
	case strings.Contains(a.message, "too old"):
		d.warn("version", v.address, fmt.Sprintf("%s runs a version that cannot be examined", whom), "upgrade it: one node at a time, see the runbook")
	case strings.Contains(a.message, "certificate required"), v.healthErr != nil && strings.Contains(v.healthErr.Error(), "certificate required"):
		d.fail("tls/client", v.address, v.address+" asks for a client certificate", "set SEATKEEPER_CLIENT_CERT and SEATKEEPER_CLIENT_KEY (seatkeeper tls cert create NAME --client)")
	default:
		d.fail("api", v.address, fmt.Sprintf("%s takes connections and does not answer: %s", whom, plainTLS(a.message)), "is the process stopped or its disk hung? systemctl restart seatkeeper, and look at its log")
	}
}

// raftAnswers says whether another node reaches the Raft port of the node whose API has
// this address.
func (d *doctor) raftAnswers(api string) bool {
	for _, v := range d.nodes() {
		for _, m := range v.who.RaftState.GetMembers() {
			if m.ApiAddress != api {
				continue
			}
			for _, p := range v.who.Probes {
				if p.Id == m.Id && p.Port == "raft" && p.Error == "" {
					return true
				}
			}
		}
	}
	return false
}
