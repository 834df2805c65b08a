package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Environment variables that FromEnv and Config.WithEnv read.
const (
	EnvAddr       = "SEATKEEPER_ADDR"
	EnvToken      = "SEATKEEPER_TOKEN"
	EnvTenant     = "SEATKEEPER_TENANT"
	EnvCACert     = "SEATKEEPER_CACERT"
	EnvClientCert = "SEATKEEPER_CLIENT_CERT"
	EnvClientKey  = "SEATKEEPER_CLIENT_KEY"
	EnvForward    = "SEATKEEPER_FORWARD" // 1 or true
	// FlexNet's names, in seconds (the count in tries).
	EnvCheckInterval = "LM_A_CHECK_INTERVAL"
	EnvRetryCount    = "LM_A_RETRY_COUNT"
	EnvRetryInterval = "LM_A_RETRY_INTERVAL"
)

// Defaults and floors, each with its reason.
const (
	// DefaultCallTimeout bounds a call whose context has no deadline, so that a
	// licence check never hangs an application for ever. It outlasts an election.
	DefaultCallTimeout = 30 * time.Second
	// DefaultAttemptTimeout is how long one node may take to answer; a node that
	// swallows packets must not eat the time in which another one would answer.
	DefaultAttemptTimeout = 2 * time.Second
	// minAttemptTimeout still fits two round trips around the world.
	minAttemptTimeout = 250 * time.Millisecond
	// operatorAttempt is for requests outside sessions: lists and licence files take
	// longer than a heartbeat.
	operatorAttempt = 5 * time.Second
	// DefaultRetryInterval caps the pause between two tries.
	DefaultRetryInterval = 5 * time.Second
	// MinRetryInterval, MinCheckInterval and MinRetryCount keep settings that were
	// made for another server from flooding this one, or from giving up in the
	// half second that a change of leader takes.
	MinRetryInterval = time.Second
	MinCheckInterval = 10 * time.Second
	MinRetryCount    = 3
	// maxAddresses bounds the configured list and the learnt one: a cluster has
	// three to five nodes.
	maxAddresses = 64
)

// Config says how to reach a cluster. The zero value is a plain-text cluster node on
// this machine. New uses it as it is; WithEnv fills what is empty from the
// environment.
type Config struct {
	// Addresses of the nodes: https://host:port, http://host:port, host:port, host or
	// port@host. One is enough, more survive the loss of that one. Default
	// DefaultAddress. Without https the token travels in plain text.
	Addresses []string
	// Token is sent as "authorization: Bearer".
	Token string
	// Tenant whose licences are used; empty means the cluster's default.
	Tenant string
	// CACert, ClientCert and ClientKey are PEM files for https addresses. An empty
	// CACert means the system's roots. The client's certificate is read again for each
	// connection, so it may be replaced while the program runs.
	CACert, ClientCert, ClientKey string
	// TLS is used instead of the three files if it is not nil.
	TLS *tls.Config

	// Forward is for clients that reach the cluster by an address that is no node's own: a
	// load balancer, a forwarded port. The node that answers asks the leader in their place,
	// instead of naming an address that may lead nowhere; that costs a hop.
	Forward bool

	// CheckInterval makes the heartbeat more frequent than the server asks; it never
	// makes it less frequent. 0 means as the server says; at least MinCheckInterval.
	CheckInterval time.Duration
	// RetryCount bounds the rounds over all nodes that one call makes; 0 means until
	// its context ends, else at least MinRetryCount. Heartbeats go on regardless.
	RetryCount int
	// RetryInterval is the longest pause between two rounds. Default
	// DefaultRetryInterval, at least MinRetryInterval.
	RetryInterval time.Duration
	// CallTimeout bounds calls whose context has no deadline.
	CallTimeout time.Duration
	// AttemptTimeout bounds one try on one node, beside a wait for seats.
	AttemptTimeout time.Duration

	// Tracer makes the SDK's calls part of the application's traces; nil: none.
	Tracer Tracer

	// BatchHeartbeats sends the heartbeats of the client's sessions together, in one message
	// for thousands: for agents and relays that keep sessions on behalf of others.
	BatchHeartbeats bool

	// Clock reads a clock that counts suspend; nil means SystemClock.
	Clock func() Instant
	// Jitter returns random numbers in [0,1); nil means math/rand/v2.
	Jitter func() float64
	// Dial opens the connection to host:port; nil means TCP.
	Dial func(ctx context.Context, hostPort string) (net.Conn, error)
}

// FromEnv makes a client from the environment alone.
func FromEnv() (*Client, error) {
	cfg, err := Config{}.WithEnv()
	if err != nil {
		return nil, err
	}
	return New(cfg)
}

// WithEnv returns c with its empty fields filled from the environment. The error
// names each variable that cannot be read, one a line.
func (c Config) WithEnv() (Config, error) { return c.withEnv(os.LookupEnv) }

func (c Config) withEnv(lookup func(string) (string, bool)) (Config, error) {
	var errs []error
	text := func(field *string, name string) {
		if v, _ := lookup(name); *field == "" {
			*field = strings.TrimSpace(v)
		}
	}
	number := func(name string) int {
		v, _ := lookup(name)
		if v = strings.TrimSpace(v); v == "" {
			return 0
		}
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s=%.40q: want a whole number", name, v))
		}
		// Zero and less are FlexNet's "do not": the floor makes something sane of it.
		return max(int(n), 1)
	}
	text(&c.Token, EnvToken)
	text(&c.Tenant, EnvTenant)
	if v, _ := lookup(EnvForward); v != "" && !c.Forward {
		on, err := strconv.ParseBool(strings.TrimSpace(v))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s=%.40q: want 1 or 0", EnvForward, v))
		}
		c.Forward = on
	}
	if c.TLS == nil {
		text(&c.CACert, EnvCACert)
		text(&c.ClientCert, EnvClientCert)
		text(&c.ClientKey, EnvClientKey)
	}
	if v, _ := lookup(EnvAddr); len(c.Addresses) == 0 {
		for a := range strings.SplitSeq(v, ",") {
			if a = strings.TrimSpace(a); a != "" {
				c.Addresses = append(c.Addresses, a)
			}
		}
	}
	if n := number(EnvCheckInterval); c.CheckInterval == 0 {
		c.CheckInterval = time.Duration(n) * time.Second
	}
	if n := number(EnvRetryInterval); c.RetryInterval == 0 {
		c.RetryInterval = time.Duration(n) * time.Second
	}
	if n := number(EnvRetryCount); c.RetryCount == 0 {
		c.RetryCount = n
	}
	return c, errors.Join(errs...)
}

// Validate says what is wrong with c, one line for each mistake.
func (c Config) Validate() error {
	_, err := c.endpoints()
	errs := []error{err}
	if len(c.Addresses) > maxAddresses {
		errs = append(errs, fmt.Errorf("%d addresses: give at most %d", len(c.Addresses), maxAddresses))
	}
	for name, d := range map[string]time.Duration{"check interval": c.CheckInterval, "retry interval": c.RetryInterval,
		"call timeout": c.CallTimeout, "attempt timeout": c.AttemptTimeout} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s %v: must not be negative", name, d))
		}
	}
	if c.RetryCount < 0 {
		errs = append(errs, fmt.Errorf("retry count %d: must not be negative", c.RetryCount))
	}
	if strings.ContainsAny(c.Token, "\r\n") {
		errs = append(errs, errors.New("token: must not contain a line break"))
	}
	if (c.ClientCert == "") != (c.ClientKey == "") {
		errs = append(errs, fmt.Errorf("client certificate and key (%s, %s) go together: one is missing", EnvClientCert, EnvClientKey))
	}
	if c.TLS != nil && (c.CACert != "" || c.ClientCert != "") {
		errs = append(errs, errors.New("TLS is given twice: as a tls.Config and as files"))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return errors.Join(errs...)
}

// endpoints parses the addresses: all https or none, so that a token meant for an
// encrypted connection never travels in the clear.
func (c Config) endpoints() ([]endpoint, error) {
	addresses := c.Addresses
	if len(addresses) == 0 {
		addresses = []string{DefaultAddress}
	}
	var list []endpoint
	var errs []error
	for _, a := range addresses {
		e, err := parseAddress(a)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(list) > 0 && list[0].secure != e.secure {
			errs = append(errs, fmt.Errorf("address %q: https and plain text are mixed; write https:// before all or none", a))
			continue
		}
		if !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	if len(list) > 0 && !list[0].secure && (c.CACert != "" || c.ClientCert != "" || c.TLS != nil) {
		errs = append(errs, fmt.Errorf("certificates are given but %s is a plain-text address: write https://", list[0].hostPort))
	}
	return list, errors.Join(errs...)
}

// withDefaults applies defaults and floors.
func (c Config) withDefaults() Config {
	or := func(d *time.Duration, std, floor time.Duration) {
		if *d == 0 {
			*d = std
		}
		if *d > 0 {
			*d = max(*d, floor)
		}
	}
	or(&c.CallTimeout, DefaultCallTimeout, 0)
	or(&c.AttemptTimeout, DefaultAttemptTimeout, minAttemptTimeout)
	or(&c.RetryInterval, DefaultRetryInterval, MinRetryInterval)
	or(&c.CheckInterval, 0, MinCheckInterval)
	if c.RetryCount > 0 {
		c.RetryCount = max(c.RetryCount, MinRetryCount)
	}
	return c
}

// tlsConfig reads the certificate files.
func (c Config) tlsConfig() (*tls.Config, error) {
	if c.TLS != nil {
		return c.TLS.Clone(), nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("CA certificate: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA certificate %s: no PEM certificate in it", c.CACert)
		}
	}
	if c.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(c.ClientCert, c.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		t.GetClientCertificate = renewedPair(c.ClientCert, c.ClientKey, pair)
	}
	return t, nil
}

// renewedPair reads the client's certificate again for every connection, which are few:
// a program that runs for months outlives it. While the files make no sense (one of them
// was replaced before the other) the last that did serves.
func renewedPair(certFile, keyFile string, last tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	var mu sync.Mutex
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if pair, err := tls.LoadX509KeyPair(certFile, keyFile); err == nil {
			last = pair
		}
		pair := last
		return &pair, nil
	}
}
