package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	"github.com/seatkeeper/seatkeeper/rpc"
)

// Config is the whole config file: what a server needs, and under client what the
// commands on this host use. Every scalar can be overridden by a variable: the env
// tag, or SEATKEEPER_ and its key in capitals (SEATKEEPER_DATA_DIR).
type Config struct {
	Name        string `yaml:"name"`
	ClusterName string `yaml:"cluster_name"`
	DataDir     string `yaml:"data_dir"`
	// LogStore is how a new data directory keeps its log: bolt or wal.
	LogStore        string   `yaml:"log_store"`
	API             Endpoint `yaml:"api"`
	Raft            Endpoint `yaml:"raft"`
	Gossip          Gossip   `yaml:"gossip"`
	BootstrapExpect int      `yaml:"bootstrap_expect"`
	Join            []string `yaml:"join"`
	TrustedKeys     []string `yaml:"trusted_keys"`
	Log             Log      `yaml:"log"`
	Audit           Audit    `yaml:"audit"`
	// DebugLog is flexnet for a log in the words of FlexNet's debug log, or empty;
	// DebugLogFile is its file, DATA_DIR/debug.log if empty.
	DebugLog     string    `yaml:"debug_log"`
	DebugLogFile string    `yaml:"debug_log_file"`
	TLS          TLS       `yaml:"tls"`
	ACL          ACL       `yaml:"acl"`
	Insecure     bool      `yaml:"insecure"`
	Limits       Limits    `yaml:"limits"`
	Snapshots    Snapshots `yaml:"snapshots"`
	Backups      Backups   `yaml:"backups"`
	Tracing      Tracing   `yaml:"tracing"`
	Client       Client    `yaml:"client"`
	Agent        Agent     `yaml:"agent"`
}

// Endpoint is one listening address and what others are told to dial.
type Endpoint struct {
	Bind string `yaml:"bind"`
	// Advertise is Bind when empty.
	Advertise string `yaml:"advertise"`
}

// Gossip is the endpoint of the gossip layer, TCP and UDP.
type Gossip struct {
	Bind      string `yaml:"bind"`
	Advertise string `yaml:"advertise"`
	// Key is base64 of 32 bytes, the same on all nodes.
	Key string `yaml:"key" secret:"true"`
	// Keys are used instead of Key while the key is being replaced: the first one
	// encrypts, all of them decrypt.
	Keys []string `yaml:"keys" secret:"true"`
}

// TLS are the files by which this node shows who it is, to clients and to other nodes.
// With Cert empty everything is plain text.
type TLS struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
	// CA is what signed the certificates of all nodes, and those of clients.
	CA string `yaml:"ca"`
	// ClientCerts says whether clients of the API must show a certificate.
	ClientCerts string `yaml:"client_certs"`
	// BindUser holds a client with a certificate to the user that the certificate names.
	BindUser bool `yaml:"bind_user"`
	// PeerName is the DNS name that the certificate of every node carries.
	PeerName string `yaml:"peer_name"`
}

// What tls.client_certs may say. "none" takes a certificate that is shown, too, but only
// to know the other nodes by it.
const (
	clientCertsNone     = "none"
	clientCertsOptional = "optional"
	clientCertsRequired = "required"
)

// ACL says who may use the API.
type ACL struct {
	// Required refuses every call without a token, also before the first token was made;
	// else a cluster is open until then.
	Required bool `yaml:"required"`
}

// Log chooses what the server's log says and how.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Audit keeps what this node applied, for judging it afterwards.
type Audit struct {
	// File is appended to, one JSON object a line; empty means none.
	File string `yaml:"file"`
}

// Limits bound what clients may ask of one node.
type Limits struct {
	InFlightPerTenant int `yaml:"in_flight_per_tenant"`
	// InFlightShared is the same while another tenant is active too.
	InFlightShared int `yaml:"in_flight_shared"`
	// InFlightBesideQuiet is the same for checkouts and reads while one of them asks for little.
	InFlightBesideQuiet int `yaml:"in_flight_beside_quiet"`
	// InFlightStrangers are those of all tenants together that have no licence and no token.
	InFlightStrangers     int `yaml:"in_flight_strangers"`
	InFlightPerClient     int `yaml:"in_flight_per_client"`
	InFlightPerConnection int `yaml:"in_flight_per_connection"`
	InFlight              int `yaml:"in_flight"`
	Connections           int `yaml:"connections"`
	Waiting               int `yaml:"waiting"`
	Pipelines             int `yaml:"pipelines"`
}

// Snapshots say when a node writes its state down to shorten its log.
type Snapshots struct {
	// Entries are how many log entries are kept between two snapshots.
	Entries int `yaml:"entries"`
	// Bytes are how much log is, or as much as the last snapshot has, whichever is more.
	Bytes int `yaml:"bytes"`
}

// Client is what commands use to reach a cluster.
type Client struct {
	Addr       string `yaml:"addr" env:"SEATKEEPER_ADDR"`
	Token      string `yaml:"token" env:"SEATKEEPER_TOKEN" secret:"true"`
	Tenant     string `yaml:"tenant" env:"SEATKEEPER_TENANT"`
	CACert     string `yaml:"cacert" env:"SEATKEEPER_CACERT"`
	ClientCert string `yaml:"client_cert" env:"SEATKEEPER_CLIENT_CERT"`
	ClientKey  string `yaml:"client_key" env:"SEATKEEPER_CLIENT_KEY"`
	Format     string `yaml:"format" env:"SEATKEEPER_FORMAT"`
}

// The ports of a node; clients need the first only.
const (
	apiPort    = 7800
	raftPort   = 7801
	gossipPort = 7802
)

// maxBootstrapExpect: a cluster has three to five nodes; two more leave room for a
// rolling replacement, and beyond that every write waits for too many disks.
const maxBootstrapExpect = 7

// minSnapshotEntries and the others: more often, a node writes its whole state for
// next to nothing; less often, a restart replays its log for minutes.
const (
	minSnapshotEntries = 1000
	maxSnapshotEntries = 1_000_000
	minSnapshotBytes   = 1 << 20
	maxSnapshotBytes   = 1 << 30
)

func defaultConfig() Config {
	loopback := func(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
	return Config{
		Name:            defaultNodeName(),
		ClusterName:     "seatkeeper",
		DataDir:         "/var/lib/seatkeeper",
		LogStore:        string(cluster.LogBolt),
		API:             Endpoint{Bind: loopback(apiPort)},
		Raft:            Endpoint{Bind: loopback(raftPort)},
		Gossip:          Gossip{Bind: loopback(gossipPort)},
		BootstrapExpect: 1,
		TLS:             TLS{ClientCerts: clientCertsNone, PeerName: defaultPeerName},
		Log:             Log{Level: "info", Format: "text"},
		Limits: Limits{
			InFlightPerTenant: rpc.DefaultInFlight, InFlightShared: rpc.DefaultInFlightShared,
			InFlightBesideQuiet: rpc.DefaultInFlightBesideQuiet, InFlightStrangers: rpc.DefaultInFlightStrangers,
			InFlightPerClient:     rpc.DefaultClientInFlight,
			InFlightPerConnection: rpc.DefaultConnInFlight, InFlight: rpc.DefaultMaxInFlight, Connections: rpc.DefaultConnections,
			Waiting: rpc.DefaultWaiters, Pipelines: rpc.DefaultPipelines,
		},
		Snapshots: Snapshots{Entries: cluster.DefaultSnapshotThreshold, Bytes: cluster.DefaultSnapshotBytes},
		Tracing:   Tracing{SampleRatio: defaultSampleRatio},
		Backups:   Backups{Every: "1h", Keep: 48},
		Client:    Client{Addr: loopback(apiPort), Tenant: lease.DefaultTenant, Format: "table"},
		Agent:     defaultAgent(),
	}
}

// defaultNodeName is the first label of the host name in the letters a name may have.
func defaultNodeName() string {
	label, _, _ := strings.Cut(strings.ToLower(osHost()), ".")
	label = strings.Trim(strings.ReplaceAll(label, "_", "-"), "-")
	if !nodeName.MatchString(label) {
		return "node-1"
	}
	return label
}

// nodeName is a DNS label: names stand in host lists that other tools parse.
var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

var (
	logLevels  = []string{"trace", "debug", "info", "warn", "error"}
	logFormats = []string{"text", "json"}
	logStores  = []string{string(cluster.LogBolt), string(cluster.LogWAL)}
)

// problem is one thing wrong with a config, at a key, and in a file at a place.
type problem struct {
	key, message string
	row, col     int
	excerpt      string
}

func (p problem) line(file string) string {
	if p.row > 0 {
		return fmt.Sprintf("%s:%d:%d: %s", file, p.row, p.col, p.message)
	}
	if file != "" && p.key == "" {
		return fmt.Sprintf("%s: %s", file, p.message)
	}
	return p.message
}

// Validate returns what keeps a server from starting with c, in the order of the file.
func (c *Config) Validate() []problem {
	var found []problem
	bad := func(key, format string, args ...any) {
		found = append(found, problem{key: key, message: key + ": " + fmt.Sprintf(format, args...)})
	}
	if !nodeName.MatchString(c.Name) {
		bad("name", "%q is no node name: use lower-case letters, digits and dashes, at most 63", c.Name)
	}
	if c.ClusterName == "" {
		bad("cluster_name", "must not be empty: nodes with different names never join")
	}
	if c.DataDir == "" {
		bad("data_dir", "must name a directory for this node's log and state")
	}
	if !slices.Contains(logStores, c.LogStore) {
		bad("log_store", "%q: use one of %s", c.LogStore, strings.Join(logStores, ", "))
	}
	c.validateEndpoints(bad)
	c.validateMembership(bad)
	c.validateTLS(bad)
	for i, k := range c.TrustedKeys {
		if _, err := license.VendorOf(k); err != nil {
			bad(fmt.Sprintf("trusted_keys[%d]", i), "%v", err)
		}
	}
	c.Log.validate(bad)
	if c.DebugLog != "" && c.DebugLog != "flexnet" {
		bad("debug_log", "%q: use flexnet, or leave it out", c.DebugLog)
	}
	if c.DebugLogFile != "" && c.DebugLog == "" {
		bad("debug_log_file", "is set without debug_log: flexnet")
	}
	c.Agent.validate(bad)
	for _, f := range fieldsOf("limits.", reflect.ValueOf(c.Limits)) {
		if n := f.value.Int(); n < 1 {
			bad(f.key, "%d: must be at least 1", n)
		}
	}
	c.Tracing.validate(bad)
	if n := c.Snapshots.Entries; n < minSnapshotEntries || n > maxSnapshotEntries {
		bad("snapshots.entries", "%d: use %d to %d", n, minSnapshotEntries, maxSnapshotEntries)
	}
	if n := c.Snapshots.Bytes; n < minSnapshotBytes || n > maxSnapshotBytes {
		bad("snapshots.bytes", "%d: use %d to %d", n, minSnapshotBytes, maxSnapshotBytes)
	}
	if _, err := c.Backups.every(); err != nil {
		bad("backups.every", "%v", err)
	}
	if n := c.Backups.Keep; n < 1 || n > maxBackupKeep {
		bad("backups.keep", "%d: use 1 to %d", n, maxBackupKeep)
	}
	if dir := c.Backups.Dir; dir != "" && samePath(dir, c.DataDir) {
		bad("backups.dir", "%s is data_dir: choose another folder, best on another disk", dir)
	}
	return found
}

func (l Log) validate(bad func(key, format string, args ...any)) {
	if !slices.Contains(logLevels, l.Level) {
		bad("log.level", "%q: use one of %s", l.Level, strings.Join(logLevels, ", "))
	}
	if !slices.Contains(logFormats, l.Format) {
		bad("log.format", "%q: use one of %s", l.Format, strings.Join(logFormats, ", "))
	}
}

func (c *Config) validateEndpoints(bad func(key, format string, args ...any)) {
	bound := map[string]string{}
	for _, e := range []struct{ key, bind, advertise string }{
		{"api", c.API.Bind, c.API.Advertise},
		{"raft", c.Raft.Bind, c.Raft.Advertise},
		{"gossip", c.Gossip.Bind, c.Gossip.Advertise},
	} {
		host, err := splitAddress(e.bind)
		if err != nil {
			bad(e.key+".bind", "%v", err)
			continue
		}
		if other, taken := bound[e.bind]; taken {
			bad(e.key+".bind", "%s is %s.bind already: give each its own port", e.bind, other)
		}
		bound[e.bind] = e.key
		if e.advertise == "" && isWildcard(host) {
			bad(e.key+".advertise", "must be set when %s.bind is %s: others cannot dial that", e.key, e.bind)
			continue
		}
		if open := c.openTo(e.key, host); open != "" {
			bad(e.key+".bind", "%s is reachable from other hosts %s, bind to 127.0.0.1, or accept that with insecure: true", e.bind, open)
		}
		if e.advertise == "" {
			continue
		}
		host, err = splitAddress(e.advertise)
		switch {
		case err != nil:
			bad(e.key+".advertise", "%v", err)
		case isWildcard(host):
			bad(e.key+".advertise", "%s cannot be dialled: give an address of this host", e.advertise)
		default:
			if open := c.openTo(e.key, host); open != "" {
				bad(e.key+".advertise", "%s is reachable from other hosts %s, advertise 127.0.0.1, or accept that with insecure: true", e.advertise, open)
			}
		}
	}
}

// openTo says what is missing where an endpoint is open to whoever reaches this host, and
// what to do about it; "" if nothing is.
func (c *Config) openTo(endpoint, host string) string {
	switch {
	case c.Insecure || isLoopback(host) || endpoint == "gossip": // gossip has its key
		return ""
	case c.TLS.Cert == "":
		return "without TLS: set tls.cert, tls.key and tls.ca (seatkeeper tls ca create makes them)"
	case endpoint == "api" && c.TLS.ClientCerts != clientCertsRequired && !c.ACL.Required:
		return "by anybody: set acl.required: true (tokens) or tls.client_certs: required"
	}
	return ""
}

// validateTLS checks that what belongs together is there; the files are read at the start.
func (c *Config) validateTLS(bad func(key, format string, args ...any)) {
	given := 0
	for _, f := range []string{c.TLS.Cert, c.TLS.Key, c.TLS.CA} {
		if f != "" {
			given++
		}
	}
	if given != 0 && given != 3 {
		bad("tls", "cert, key and ca go together: give all three or none")
	}
	modes := []string{clientCertsNone, clientCertsOptional, clientCertsRequired}
	if !slices.Contains(modes, c.TLS.ClientCerts) {
		bad("tls.client_certs", "%q: use one of %s", c.TLS.ClientCerts, strings.Join(modes, ", "))
	} else if c.TLS.ClientCerts != clientCertsNone && given == 0 {
		bad("tls.client_certs", "%s needs tls.cert, tls.key and tls.ca", c.TLS.ClientCerts)
	}
	if c.TLS.BindUser && c.TLS.ClientCerts == clientCertsNone {
		bad("tls.bind_user", "needs tls.client_certs: required (or optional)")
	}
}

// gossipKeys are the keys of gossip, the one that encrypts first.
func (g Gossip) gossipKeys() ([][]byte, error) {
	list := g.Keys
	if g.Key != "" {
		if len(list) > 0 {
			return nil, errors.New("give key or keys, not both")
		}
		list = []string{g.Key}
	}
	if len(list) > maxGossipKeys {
		return nil, fmt.Errorf("%d keys: at most %d are of use", len(list), maxGossipKeys)
	}
	var keys [][]byte
	for _, k := range list {
		raw, err := base64.StdEncoding.DecodeString(k)
		if err != nil || len(raw) != gossipKeyBytes {
			return nil, errors.New("must be base64 of 32 random bytes: try openssl rand -base64 32")
		}
		keys = append(keys, raw)
	}
	return keys, nil
}

func (c *Config) validateMembership(bad func(key, format string, args ...any)) {
	if keys, err := c.Gossip.gossipKeys(); err != nil && len(c.Gossip.Keys) > 0 {
		bad("gossip.keys", "%v", err)
	} else if err != nil {
		bad("gossip.key", "%v", err)
	} else if len(keys) > 0 {
		// Every node has them.
	} else if host, err := splitAddress(c.Gossip.Bind); err == nil && !isLoopback(host) {
		bad("gossip.key", "must be set when gossip leaves this host: try openssl rand -base64 32, the same on all nodes")
	}
	if c.BootstrapExpect < 0 || c.BootstrapExpect > maxBootstrapExpect {
		bad("bootstrap_expect", "%d: must be 0 (join an existing cluster only) to %d", c.BootstrapExpect, maxBootstrapExpect)
	}
	if c.BootstrapExpect != 1 && len(c.Join) == 0 {
		bad("join", "must list gossip addresses of other nodes unless bootstrap_expect is 1")
	}
	for i, j := range c.Join {
		if _, err := splitAddress(j); err != nil {
			bad(fmt.Sprintf("join[%d]", i), "%v", err)
		}
	}
}

// splitAddress returns the host of host:port.
func splitAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is no address: write host:port", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("%q: the port must be 1 to 65535", s)
	}
	return host, nil
}

func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// isLoopback takes names other than localhost for reachable: a name may mean
// another address tomorrow.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// advertised is what others dial.
func advertised(bind, advertise string) string {
	if advertise != "" {
		return advertise
	}
	return bind
}

const (
	// gossipKeyBytes selects AES-256.
	gossipKeyBytes = 32
	// maxGossipKeys: the new one, the old one, and one more for a replacement that was
	// interrupted. Every packet that fits none is tried with all of them.
	maxGossipKeys = 3
)
