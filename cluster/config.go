package cluster

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// Defaults of one node, each with its reason.
const (
	// DefaultRaftTimeout is how long a follower waits for its leader, and a candidate
	// for votes. On a local network it gives a median failover under half a second
	// and no needless election under load; 25 ms lost leaders to fsync alone.
	DefaultRaftTimeout = 200 * time.Millisecond
	// DefaultCommitTimeout is how long an idle leader waits before it tells followers
	// what is committed.
	DefaultCommitTimeout = 50 * time.Millisecond
	// DefaultSnapshotThreshold: 32k entries of one command each replay in about a second.
	DefaultSnapshotThreshold = 32768
	// DefaultSnapshotBytes bounds the replay where entries are full: some 80,000 commands, half
	// a second. With 32 MiB a node that had just come back could be elected while it still
	// applied two seconds of log. A small state costs next to nothing to write.
	DefaultSnapshotBytes = 8 << 20
	// minSnapshotBytes: less, and a node writes its state all the time.
	minSnapshotBytes = 64 << 10
	// DefaultSnapshotInterval is how often raft looks at the threshold.
	DefaultSnapshotInterval = 10 * time.Second
	// DefaultTrailingLogs must be larger than all that a leader can hold uncommitted:
	// otherwise a follower with a divergent tail needs a snapshot that raft cannot
	// install, and never catches up.
	DefaultTrailingLogs = 10240
	// MaxEntriesInFlight is the highest EntriesInFlight accepted, a tenth of
	// DefaultTrailingLogs.
	MaxEntriesInFlight = 1024
	// DefaultEntriesInFlight: one entry is on the disks while the next one is sent.
	// More would only make smaller batches.
	DefaultEntriesInFlight = 2
	// DefaultMaxQueue is how many commands wait for a batch: eight full entries. More
	// would wait longer than their clients do.
	DefaultMaxQueue = 8 * fsm.MaxBatch
	// DefaultTick is how often cluster time moves when nothing else moves it, and how
	// often due leases are looked for.
	DefaultTick = time.Second
	// MaxStep is the most cluster time that passes between two commits. A leader that
	// could not commit for longer forgets the rest. It is three ticks, so that one
	// slow commit costs nobody anything.
	MaxStep = 3 * time.Second
	// ClockMargin is 1/ρ: leaders and clients run their clocks slow by 1/500 = 0.002,
	// several times what a broken crystal drifts (NTP steers by at most 0.0005).
	ClockMargin = 500
	// DefaultWatchdog: a leader that commits nothing of its own for so long has a hung
	// disk: without a majority it would have stepped down long before. It is far above
	// any fsync, and low enough that no client's shortest lifespan runs out meanwhile.
	DefaultWatchdog = 4 * time.Second
	// ProposeTimeout bounds a Propose whose context has no deadline.
	ProposeTimeout = 10 * time.Second
	// ReadTimeout bounds a Read whose context has no deadline.
	ReadTimeout = 5 * time.Second
	// enqueueTimeout bounds the hand-over of an entry to raft's main loop.
	enqueueTimeout = 2 * time.Second
	// maxNameLen keeps gossip metadata far below its 512 bytes.
	maxNameLen = 63
	// gossipKeyLen selects AES-256.
	gossipKeyLen = 32
)

// Config is what one node is told. Zero values of the fields after Fatal mean the
// defaults above.
type Config struct {
	// Name is the node's name for people; letters, digits, '.', '_' and '-'.
	Name string
	// ClusterName keeps clusters that share a network apart; empty means "seatkeeper".
	ClusterName string
	// DataDir holds everything that must survive a restart. It is created if its
	// parent exists.
	DataDir string
	// LogStore says how a new data directory keeps its log, and what an old one must be;
	// empty means LogBolt.
	LogStore LogStore
	// RaftAddr and GossipAddr are host:port to listen on; port 0 picks a free one.
	RaftAddr, GossipAddr string
	// RaftAdvertise and GossipAdvertise are host:port by which others reach this node;
	// empty means the listening address.
	RaftAdvertise, GossipAdvertise string
	// APIAddress is the host:port to which clients are sent when this node leads.
	APIAddress string
	// Join lists gossip addresses of other members. Any one that answers will do.
	Join []string
	// BootstrapExpect is how many empty nodes found a new cluster together, and how
	// many voters the cluster then keeps; 0 means "only ever join".
	BootstrapExpect int
	// GossipKeys are keys of 32 bytes shared by all members; the first one encrypts, all
	// of them decrypt. They may be missing on loopback only, or with Insecure.
	GossipKeys [][]byte
	// RaftTLS gives the settings of a Raft connection when it is made, for the end that
	// dials and the end that accepts; both must show who they are. Nil means plain TCP.
	RaftTLS func() (dial, accept *tls.Config)
	// Insecure accepts gossip without a key on any address.
	Insecure bool
	// AuditLog is a file that what this node applies is appended to, one JSON object a
	// line; empty means none. It is for judging a node afterwards.
	AuditLog string
	// DebugLog is a file that what this node applies is appended to in the words of
	// FlexNet's debug log; empty means none.
	DebugLog string
	// DiskSpace measures the file system of a directory; nil means the real one.
	DiskSpace func(dir string) (free, total uint64, err error)
	// SyncProbe times a few small synced writes in a directory; nil means real ones.
	SyncProbe func(dir string) ([]time.Duration, error)
	// Version is this build's version, for the log and for other nodes.
	Version string
	// Understands is the highest log version that this node takes; 0 means all that its
	// build knows. Tests make older nodes with it.
	Understands uint32
	// Logger may be nil.
	Logger hclog.Logger
	// Tracer makes spans of what becomes of commands whose calls are traced; nil: none.
	Tracer trace.Tracer
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// Fatal is called at most once, from its own goroutine, when this node must stop
	// because it leads and cannot do its work; it should log the reason and end the
	// process. Nil means panic.
	Fatal func(reason string)

	HeartbeatTimeout, ElectionTimeout, LeaderLeaseTimeout time.Duration
	CommitTimeout, SnapshotInterval                       time.Duration
	SnapshotThreshold, TrailingLogs                       uint64
	// SnapshotBytes is how large the log since the last snapshot may become; see shorten.
	SnapshotBytes             int64
	EntriesInFlight, MaxQueue int
	Tick, Watchdog            time.Duration
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// withDefaults fills in what was left zero.
func (c Config) withDefaults() Config {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if c.LogStore == "" {
		c.LogStore = LogBolt
	}
	set(&c.HeartbeatTimeout, DefaultRaftTimeout)
	set(&c.ElectionTimeout, c.HeartbeatTimeout)
	set(&c.LeaderLeaseTimeout, c.HeartbeatTimeout)
	set(&c.CommitTimeout, DefaultCommitTimeout)
	set(&c.SnapshotInterval, DefaultSnapshotInterval)
	set(&c.Tick, DefaultTick)
	set(&c.Watchdog, DefaultWatchdog)
	if c.SnapshotThreshold == 0 {
		c.SnapshotThreshold = DefaultSnapshotThreshold
	}
	if c.SnapshotBytes == 0 {
		c.SnapshotBytes = DefaultSnapshotBytes
	}
	if c.TrailingLogs == 0 {
		c.TrailingLogs = DefaultTrailingLogs
	}
	if c.EntriesInFlight == 0 {
		c.EntriesInFlight = DefaultEntriesInFlight
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = DefaultMaxQueue
	}
	if c.Understands == 0 {
		c.Understands = fsm.LatestVersion
	}
	if c.ClusterName == "" {
		c.ClusterName = "seatkeeper"
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	if c.DiskSpace == nil {
		c.DiskSpace = diskSpace
	}
	if c.SyncProbe == nil {
		c.SyncProbe = syncProbe
	}
	if c.Fatal == nil {
		c.Fatal = func(reason string) { panic("seatkeeper: " + reason) }
	}
	return c
}

// Validate says in one line what is wrong with the settings that every node needs.
// Start also checks the addresses and the data directory.
func (c Config) Validate() error {
	c = c.withDefaults()
	switch {
	case len(c.Name) > maxNameLen || !nodeName.MatchString(c.Name):
		return fmt.Errorf("node name %.80q: want 1 to %d letters, digits, '.', '_' or '-'", c.Name, maxNameLen)
	case len(c.ClusterName) > maxNameLen || !nodeName.MatchString(c.ClusterName):
		return fmt.Errorf("cluster name %.80q: want 1 to %d letters, digits, '.', '_' or '-'", c.ClusterName, maxNameLen)
	case c.APIAddress == "":
		return errors.New("API address is missing: clients could not be sent to this node")
	case len(c.APIAddress) > 2*maxNameLen:
		return fmt.Errorf("API address %.80q is longer than %d bytes", c.APIAddress, 2*maxNameLen)
	case c.BootstrapExpect < 0 || c.BootstrapExpect > 9:
		return fmt.Errorf("bootstrap_expect %d: want 0 to 9 (three or five is usual)", c.BootstrapExpect)
	case c.BootstrapExpect == 1 && len(c.Join) > 0:
		return errors.New("bootstrap_expect 1 founds a cluster of this node alone: leave it out to join others")
	case !c.LogStore.known():
		return fmt.Errorf("log_store %q: want %s or %s", c.LogStore, LogBolt, LogWAL)
	case c.EntriesInFlight < 1 || c.EntriesInFlight > MaxEntriesInFlight:
		return fmt.Errorf("entries in flight %d: want 1 to %d", c.EntriesInFlight, MaxEntriesInFlight)
	case c.TrailingLogs <= uint64(c.EntriesInFlight) || c.TrailingLogs <= MaxEntriesInFlight:
		return fmt.Errorf("trailing logs %d: must be more than %d, or a follower could never catch up", c.TrailingLogs, MaxEntriesInFlight)
	case c.SnapshotBytes < minSnapshotBytes:
		return fmt.Errorf("snapshot bytes %d: want at least %d", c.SnapshotBytes, minSnapshotBytes)
	case c.MaxQueue < 1:
		return fmt.Errorf("queue length %d: want at least 1", c.MaxQueue)
	case c.Tick < 10*time.Millisecond || c.Tick > MaxStep/2:
		return fmt.Errorf("tick %v: want 10ms to %v, half of what one commit may move cluster time by", c.Tick, MaxStep/2)
	case c.Watchdog < 10*c.ElectionTimeout:
		return fmt.Errorf("watchdog %v: want at least ten election timeouts (%v)", c.Watchdog, 10*c.ElectionTimeout)
	case c.ElectionTimeout < c.HeartbeatTimeout || c.LeaderLeaseTimeout > c.HeartbeatTimeout:
		return fmt.Errorf("raft timeouts: want leader lease %v <= heartbeat %v <= election %v",
			c.LeaderLeaseTimeout, c.HeartbeatTimeout, c.ElectionTimeout)
	}
	return nil
}

// validateNetwork checks what only Start needs.
func (c Config) validateNetwork() error {
	if c.DataDir == "" {
		return errors.New("data directory is missing")
	}
	for _, a := range []struct {
		what, addr string
		advertised bool
	}{
		{"raft address", c.RaftAddr, c.RaftAdvertise != ""},
		{"gossip address", c.GossipAddr, c.GossipAdvertise != ""},
	} {
		host, err := checkAddr(a.what, a.addr)
		if err != nil {
			return err
		}
		if ip := net.ParseIP(host); (host == "" || ip != nil && ip.IsUnspecified()) && !a.advertised {
			return fmt.Errorf("%s %q listens everywhere: say which address others should use (advertise)", a.what, a.addr)
		}
	}
	for what, addr := range map[string]string{"raft advertise address": c.RaftAdvertise, "gossip advertise address": c.GossipAdvertise} {
		if addr == "" {
			continue
		}
		if _, err := checkAddr(what, addr); err != nil {
			return err
		}
	}
	for _, key := range c.GossipKeys {
		if len(key) != gossipKeyLen {
			return fmt.Errorf("gossip key has %d bytes: want %d", len(key), gossipKeyLen)
		}
	}
	if host, _, _ := net.SplitHostPort(c.GossipAddr); len(c.GossipKeys) == 0 && !c.Insecure && !isLoopback(host) {
		return fmt.Errorf("gossip on %s without a key would take in anybody: set a gossip key", c.GossipAddr)
	}
	return nil
}

func checkAddr(what, addr string) (host string, err error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%s %q: want host:port", what, addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "", fmt.Errorf("%s %q: port must be a number from 0 to 65535", what, addr)
	}
	return host, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
