package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/rpc"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Write, check and show the config file",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.configInitCommand(), a.configValidateCommand(), a.configShowCommand())
	return cmd
}

func (a *app) configInitCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented config file (default seatkeeper.yaml; - for stdout)",
		Long: `Writes a config file with every key, its default and what it is for. It holds a
fresh gossip key, so it is readable by its owner only; give all nodes the same key.`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: noSettings(),
		RunE: func(_ *cobra.Command, args []string) error {
			file := "seatkeeper.yaml"
			if len(args) == 1 {
				file = args[0]
			}
			text, err := configTemplate()
			if err != nil {
				return err
			}
			if file == "-" {
				_, err = fmt.Fprint(a.stdout, text)
				return err
			}
			return a.writeConfig(file, text, force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite FILE")
	return cmd
}

func (a *app) writeConfig(file, text string, force bool) error {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(file, mode, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return exitf(exitError1, "%s is there already: choose another name or add --force", file)
	}
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "wrote %s: set name, join and trusted_keys, then start seatkeeper server --config %s\n", file, file)
	return nil
}

func (a *app) configValidateCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "validate [FILE]",
		Short:       "Check a config file; exit 0 when a server would start with it, else 78",
		Args:        cobra.MaximumNArgs(1),
		Annotations: noSettings(),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.loadServerConfig(args)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "%s is valid: node %s of cluster %s\n", l.file, l.Name, l.ClusterName)
			return nil
		},
	}
}

// loadServerConfig loads the file named by the argument, --config or the
// environment, and checks what a server needs.
func (a *app) loadServerConfig(args []string) (*loadedConfig, error) {
	file := a.configFile
	if len(args) == 1 {
		file = args[0]
	}
	if file == "" {
		file, _ = a.lookupEnv("SEATKEEPER_CONFIG")
	}
	if file == "" {
		return nil, usagef("no config file: add --config FILE, or write one with seatkeeper config init")
	}
	l, err := loadConfig(file, a.lookupEnv, a.flags)
	if err != nil {
		return nil, err
	}
	return l, l.check()
}

func (a *app) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show every setting and where its value comes from",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			list := a.cfg.settings()
			return a.print(list, func(t *table) {
				t.row("KEY", "VALUE", "SOURCE")
				for _, s := range list {
					t.row(s.Key, s.Value, s.Source)
				}
			})
		},
	}
}

// settings are the values of the config and their sources; secrets only say that they are
// there.
func (l *loadedConfig) settings() []rpc.Setting {
	var list []rpc.Setting
	for _, f := range l.fields() {
		source := l.origin[f.key]
		if source == "" {
			source = "default"
		}
		list = append(list, rpc.Setting{Key: f.key, Value: f.text(), Source: source})
	}
	return list
}

var configText = template.Must(template.New("config").Parse(`# Seatkeeper node. Check it with: seatkeeper config validate FILE
# A value can also come from a variable: SEATKEEPER_ and the key in capitals
# (SEATKEEPER_NAME, SEATKEEPER_DATA_DIR, SEATKEEPER_RAFT_ADVERTISE …), a secret also from
# the file that such a variable with _FILE at its end names (SEATKEEPER_GOSSIP_KEY_FILE).

# This node's name: a DNS label, different on every node.
name: {{.Name}}

# Nodes with different cluster names never join each other.
cluster_name: {{.ClusterName}}

# This node's log, state and identity. Never copy it to another node; a node with an
# empty directory joins as a new one.
data_dir: {{.DataDir}}

# How a new directory keeps its log, for good: bolt, or wal, which is faster (one sync an
# append instead of two) and whose library calls itself experimental.
# log_store: bolt

# Where clients connect: JSON and gRPC. advertise is what redirects name; it is bind
# unless given.
api:
  bind: {{.API.Bind}}
  # advertise: node-1.example.com:7800

# Where the other nodes connect.
raft:
  bind: {{.Raft.Bind}}
  # advertise: node-1.example.com:7801

# How nodes find each other, TCP and UDP. The key is the same on all nodes.
gossip:
  bind: {{.Gossip.Bind}}
  # advertise: node-1.example.com:7802
  key: {{.Gossip.Key}}
  # To replace the key without a stop: keys: [old, new] on all nodes and SIGHUP, then
  # keys: [new, old] and SIGHUP, then key: new. The first one encrypts.
  # keys: [old, new]

# How many nodes must see each other before the first one starts the cluster: 3 for
# three nodes, the same on all of them. 0 only ever joins an existing cluster.
bootstrap_expect: {{.BootstrapExpect}}

# Gossip addresses of other nodes; one that answers is enough.
# join: [node-2.example.com:7802, node-3.example.com:7802]

# Public keys of the vendors whose licence files are accepted (seatkeeper license
# keygen prints one). Reloaded on SIGHUP.
# trusted_keys:
#   - acme+1b2c3d4e+AbCd…

# level: trace, debug, info, warn, error (reloaded on SIGHUP); format: text, json.
log:
  level: {{.Log.Level}}
  format: {{.Log.Format}}

# A file for all that this node applies, one JSON object a line, to be read with
# seatkeeper debug log. It grows without end and nobody waits for it.
# audit:
#   file: /var/log/seatkeeper/applied.jsonl

# A log in the words of FlexNet's debug log, for analysers that read those; rotate it
# with logrotate's copytruncate. The file is DATA_DIR/debug.log unless given.
# debug_log: flexnet
# debug_log_file: /var/log/seatkeeper/debug.log

# TLS 1.3 for clients and between nodes (seatkeeper tls ca create, tls cert create).
# A changed file is read again by itself, and on SIGHUP.
tls:
  # cert: /etc/seatkeeper/node-1.pem
  # key: /etc/seatkeeper/node-1-key.pem
  # ca: /etc/seatkeeper/ca.pem
  # Must clients show a certificate of this CA? none, optional, required.
  client_certs: {{.TLS.ClientCerts}}
  # Holds a client to the user that its certificate names (CN).
  bind_user: {{.TLS.BindUser}}
  # A DNS name that the certificate of every node carries, and no client's.
  peer_name: {{.TLS.PeerName}}

# Access tokens (seatkeeper acl bootstrap, token create). A cluster is open until the
# first one is made; with required: true it serves nobody before that.
acl:
  required: {{.ACL.Required}}

# A server that other hosts can reach needs TLS, and tokens or client certificates. It
# starts without them only with true.
insecure: {{.Insecure}}

# What clients may ask of this node at once. More waits a moment and is then answered
# 429 with Retry-After; heartbeats and returns have as much room again of their own.
limits:
  in_flight_per_tenant: {{.Limits.InFlightPerTenant}}
  # The same while another tenant is active too.
  in_flight_shared: {{.Limits.InFlightShared}}
  # The same for checkouts and reads while one of the active tenants asks for little.
  in_flight_beside_quiet: {{.Limits.InFlightBesideQuiet}}
  # All tenants together that have neither a licence nor a token: names that somebody invented.
  in_flight_strangers: {{.Limits.InFlightStrangers}}
  in_flight_per_client: {{.Limits.InFlightPerClient}}
  in_flight_per_connection: {{.Limits.InFlightPerConnection}}
  # All tenants together.
  in_flight: {{.Limits.InFlight}}
  connections: {{.Limits.Connections}}
  # Checkouts that wait for a seat (wait_ms).
  waiting: {{.Limits.Waiting}}
  pipelines: {{.Limits.Pipelines}}

# A restart replays the log since the last snapshot of the state. The next one is written after
# so many entries, or so many bytes of them (of a large state as many as the last snapshot has).
snapshots:
  entries: {{.Snapshots.Entries}}
  bytes: {{.Snapshots.Bytes}}

# The leader writes a backup into dir by itself and keeps the newest ones; empty: none.
# Best on another disk, and copied elsewhere. seatkeeper snapshot restore takes them.
backups:
  dir: "{{.Backups.Dir}}"
  every: {{.Backups.Every}}
  keep: {{.Backups.Keep}}

# Spans of calls for a collector that speaks OTLP over gRPC (host:port or a URL); empty:
# none, unless OTEL_EXPORTER_OTLP_ENDPOINT names one. sample_ratio is the part of the calls
# that begin a trace here; callers that bring one decide for themselves.
tracing:
  otlp_endpoint: "{{.Tracing.OTLPEndpoint}}"
  sample_ratio: {{.Tracing.SampleRatio}}
  # Without TLS to the collector.
  insecure: {{.Tracing.Insecure}}

# What seatkeeper's commands on this host use, when --config or SEATKEEPER_CONFIG
# names this file.
client:
  addr: {{.Client.Addr}}
  tenant: {{.Client.Tenant}}

# What seatkeeper agent on this host uses beside client (docs/agent.md).
agent:
  # socket: /run/seatkeeper-agent/agent.sock
  # 0600 (own user), 0660 (with socket_group) or 0666: callers are known by their user id.
  socket_mode: "{{.Agent.SocketMode}}"
  # socket_group: licensed
  # A loopback port for systems without unix sockets; callers show the token in token_file.
  # listen: 127.0.0.1:7805
  # token_file: /var/lib/seatkeeper-agent/token
  # state_dir: /var/lib/seatkeeper-agent
  # The host name of all principals; this machine's unless given.
  # host: ws1
  # keep: seats stay for the agent's next run (as long as lifespan and grace allow); return.
  on_exit: {{.Agent.OnExit}}
  # A seat by the clock lives so long without a renewal, if its caller does not say.
  default_ttl: {{.Agent.DefaultTTL}}
  # How long a program whose connection ended with the agent may take to open another.
  rejoin: {{.Agent.Rejoin}}
  # Users who may name other users (job schedulers); root and the agent's own user may.
  # trusted_users: [slurm]
  sessions: {{.Agent.Sessions}}
  sessions_per_user: {{.Agent.SessionsPerUser}}
  connections: {{.Agent.Connections}}
  connections_per_user: {{.Agent.ConnectionsPerUser}}
  # Calls being answered; those that wait for a seat or a change count as waiting.
  in_flight: {{.Agent.InFlight}}
  in_flight_per_user: {{.Agent.InFlightPerUser}}
  waiting: {{.Agent.Waiting}}
  waiting_per_user: {{.Agent.WaitingPerUser}}
`))

func configTemplate() (string, error) {
	c := defaultConfig()
	var key [gossipKeyBytes]byte
	rand.Read(key[:])
	c.Gossip.Key = base64.StdEncoding.EncodeToString(key[:])
	var b strings.Builder
	err := configText.Execute(&b, c)
	return b.String(), err
}
