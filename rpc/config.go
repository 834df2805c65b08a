package rpc

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/seatkeeper/seatkeeper/lease/license"
)

// Limits of the API, each with its reason. Those an operator may want to change
// are fields of Config; these are what the fields start from, or fixed.
const (
	// DefaultInFlight requests per tenant are worked on at once.
	DefaultInFlight = 60
	// DefaultInFlightShared is the same while another tenant is active too. One that fills
	// all its places keeps everybody's batches long and the processors busy; with fewer
	// it still fills them, and another's request waits a third as long.
	DefaultInFlightShared = 16
	// DefaultInFlightBesideQuiet is the same for checkouts and reads while one of the active
	// tenants asks for little (8 at once at most): that one is served as if it were nearly alone,
	// and the others fill the processors all the same, by smaller entries. A client that asks for
	// more beside one of its own tenant that does not has no more either.
	DefaultInFlightBesideQuiet = 2
	// DefaultClientInFlight requests of one client (session, principal or address) are
	// worked on or wait at once: half of what its tenant has.
	DefaultClientInFlight = 30
	// DefaultConnInFlight requests that ask or read are in flight on one connection, those
	// that wait for seats too. The rest of its streams stays free for renewals.
	DefaultConnInFlight = 1024
	// DefaultMaxInFlight bounds all tenants together, so that many invented tenant
	// names do not get round the limit per tenant.
	DefaultMaxInFlight = 4096
	// DefaultAdmitWait is how long a request waits for a ticket before it is refused:
	// long enough for a burst to pass, short against a client's own time-out.
	DefaultAdmitWait = 100 * time.Millisecond
	// DefaultConnections is the most connections held at once. One costs about 20 KiB.
	DefaultConnections = 10_000
	// DefaultRequestTimeout bounds one request, without the time it waits for seats.
	DefaultRequestTimeout = 10 * time.Second
	// DefaultWaiters is the most requests that wait for seats at once: each of them
	// asks again whenever a seat comes free.
	DefaultWaiters = 1000
	// DefaultPipelines is the most pipelined streams at once, one for each busy client: beside its
	// connection one costs some 30 KiB while nothing happens on it.
	DefaultPipelines = 2048

	// MaxWait is the longest wait for seats in one request; a longer wait_ms is held
	// to it, and the client may ask again.
	MaxWait = 10 * time.Minute
	// MaxBody bounds a request: a licence file of 2000 lines as base64 fits.
	MaxBody = 1 << 20
	// MaxHeader bounds the headers of one request; tokens are well below it.
	MaxHeader = 16 << 10
	// MaxStreams bounds the calls in flight on one gRPC connection. It is above
	// DefaultWaiters, so that waiting calls of one client do not block its renewals.
	MaxStreams = 2048
	// MaxPage is the most entries of one page of a listing.
	MaxPage = 1000
	// MaxKill is the most leases one kill takes back; more is likely a mistake.
	MaxKill = 10_000

	sniffTimeout     = 10 * time.Second // first bytes of a connection
	headerTimeout    = 10 * time.Second // headers of a JSON request
	bodyTimeout      = 30 * time.Second // body of a JSON request
	writeTimeout     = 30 * time.Second // a reader that does not take its answer
	idleTimeout      = 2 * time.Minute  // a kept JSON connection between requests
	grpcIdleTimeout  = 15 * time.Minute // a gRPC connection without a call
	grpcPing         = 30 * time.Second // finds half-open gRPC connections
	grpcPingTimeout  = 10 * time.Second
	grpcMinPing      = 5 * time.Second // clients that ping faster are cut off
	handshakeTimeout = 10 * time.Second
	readBuffer       = 4 << 10   // per gRPC connection: thousands may be silent
	streamWindow     = 256 << 10 // unread bytes of a call: what a piece of a backup has
	connWindow       = 1 << 20   // on their way on a connection: 20 MB/s over a path of 50 ms
	streamWorkers    = 128       // goroutines kept for calls: what two full tenants have in flight
	peerStatusBound  = 500 * time.Millisecond
	peerDialBound    = time.Second
	killChunk        = 1000                  // leases in one Kill command: well below an entry's limit
	crowdPause       = 50 * time.Millisecond // a woken waiter that finds no room
)

// Config is what a Server needs. Node is required; zero values of the rest mean the
// defaults above.
type Config struct {
	Node    Node
	Version string
	// TrustedKeys are the vendors' verifier keys; licences signed by others are refused.
	TrustedKeys []string

	InFlight       int // requests at once per tenant
	InFlightShared int // the same while another tenant is active
	// InFlightBesideQuiet are checkouts and reads while one of the active tenants asks for little.
	InFlightBesideQuiet int
	// InFlightStrangers are those of all tenants together that nobody has licensed.
	InFlightStrangers int
	ClientInFlight    int           // requests at once per client of a tenant
	ConnInFlight      int           // requests at once per connection
	MaxInFlight       int           // requests at once, all tenants
	AdmitWait         time.Duration // wait for a ticket
	Connections       int           // open connections
	Waiters           int           // requests waiting for seats
	Pipelines         int           // pipelined streams
	RequestTimeout    time.Duration // one request, without its wait for seats

	// TLS is what clients are met with; nil: plain text. It must offer "h2" and
	// "http/1.1". PeerTLS gives the settings for a connection to another node when it is
	// made, and PeerName is the DNS name by which the certificate of one is known.
	TLS      *tls.Config
	PeerTLS  func() *tls.Config
	PeerName string

	// TokensRequired serves nobody before the first access token was made; else a cluster
	// is open until then. BindUser holds a client to the user its certificate names (CN).
	TokensRequired bool
	BindUser       bool
	// ConfirmReset says (nil) that whoever has the machine of this node asked for an admin's
	// token with this id and digest, at most once for each. Nil: nobody can.
	ConfirmReset func(tokenID string, digest []byte) error

	// Diagnosis is what those who look for trouble are told beside what the node knows.
	Diagnosis Diagnosis

	// Tracer makes spans of calls; nil: none.
	Tracer trace.Tracer

	// Registerer takes the metrics of the API, Gatherer feeds /metrics. Both nil: a
	// registry of its own.
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
	Logger     hclog.Logger
}

// Validate fills the defaults in and returns an error that names the wrong field.
func (c *Config) Validate() error {
	if c.Node == nil {
		return errors.New("rpc: Node is missing")
	}
	if (c.Registerer == nil) != (c.Gatherer == nil) {
		return errors.New("rpc: give both Registerer and Gatherer, or neither")
	}
	if (c.TLS == nil) != (c.PeerTLS == nil) || (c.TLS == nil) != (c.PeerName == "") {
		return errors.New("rpc: give TLS, PeerTLS and PeerName, or none")
	}
	for _, k := range c.TrustedKeys {
		if _, err := license.VendorOf(k); err != nil {
			return fmt.Errorf("trusted key: %w", err)
		}
	}
	for _, f := range []struct {
		name  string
		value *int
		or    int
	}{
		{"InFlight", &c.InFlight, DefaultInFlight},
		{"InFlightShared", &c.InFlightShared, DefaultInFlightShared},
		{"InFlightBesideQuiet", &c.InFlightBesideQuiet, DefaultInFlightBesideQuiet},
		{"InFlightStrangers", &c.InFlightStrangers, DefaultInFlightStrangers},
		{"ClientInFlight", &c.ClientInFlight, DefaultClientInFlight},
		{"ConnInFlight", &c.ConnInFlight, DefaultConnInFlight},
		{"MaxInFlight", &c.MaxInFlight, DefaultMaxInFlight},
		{"Connections", &c.Connections, DefaultConnections},
		{"Waiters", &c.Waiters, DefaultWaiters},
		{"Pipelines", &c.Pipelines, DefaultPipelines},
	} {
		if *f.value < 0 {
			return fmt.Errorf("rpc: %s is %d, want 1 or more", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.or
		}
	}
	c.InFlightShared = min(c.InFlightShared, c.InFlight)
	c.InFlightBesideQuiet = min(c.InFlightBesideQuiet, c.InFlightShared)
	for _, f := range []struct {
		name  string
		value *time.Duration
		or    time.Duration
	}{
		{"AdmitWait", &c.AdmitWait, DefaultAdmitWait},
		{"RequestTimeout", &c.RequestTimeout, DefaultRequestTimeout},
	} {
		if *f.value < 0 {
			return fmt.Errorf("rpc: %s is %s, want more than 0", f.name, *f.value)
		}
		if *f.value == 0 {
			*f.value = f.or
		}
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.Registerer == nil {
		own := prometheus.NewRegistry()
		c.Registerer, c.Gatherer = own, own
	}
	return nil
}
