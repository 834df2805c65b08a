package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	metrics "github.com/hashicorp/go-metrics/compat"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/rpc"
)

// Bounds of a graceful stop. Together they stay below the ten seconds after which
// most supervisors lose patience.
const (
	transferTimeout = 2 * time.Second
	drainTimeout    = 3 * time.Second
	stopTimeout     = 4 * time.Second
)

func (a *app) serverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "server --config FILE",
		Short: "Run one node",
		Long: `Runs one node until SIGINT or SIGTERM, then hands leadership on and stops. SIGHUP reads
the config file and the certificates again: log.level, trusted_keys and the gossip keys
change at once, all else at the next start.`,
		Args:        cobra.NoArgs,
		Annotations: noSettings(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			enoughProcessors()
			if a.beforeServing != nil {
				a.beforeServing()
			}
			l, err := a.loadServerConfig(nil)
			if err != nil {
				return err
			}
			return a.serve(cmd.Context(), l)
		},
	}
	cmd.Flags().Var(&settingFlag{into: a.flags, key: "audit.file"}, "audit-log",
		"append all that this node applies to this file (env SEATKEEPER_AUDIT_FILE)")
	return cmd
}

// serve is the life of a node, from a checked config to its end.
func (a *app) serve(ctx context.Context, l *loadedConfig) error {
	defer collectLess()()
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, stopSignals...)
	defer signal.Stop(stopped)
	reload, stopReloads := a.catchReloads()
	defer stopReloads()

	log := newLogger(l.Log, a.stderr)
	book := rpc.NewLogBook(log.GetLevel())
	log.RegisterSink(book)
	registry, err := newRegistry()
	if err != nil {
		return err
	}
	var certs *certFiles
	if l.TLS.Cert != "" {
		if certs, err = openCertFiles(l.TLS, log.Named("tls")); err != nil {
			return exitf(exitConfig, "%w", err)
		}
	}
	listener, err := listenAPI(l.API.Bind)
	if err != nil {
		return err
	}
	defer listener.Close()
	tracer, flushTraces, err := startTracing(ctx, &l.Tracing, l.Name, log.Named("tracing"))
	if err != nil {
		return err
	}
	defer flushTraces()
	fatal := make(chan string, 1)
	settings := clusterConfig(l, log, registry, func(reason string) { fatal <- reason })
	if certs != nil {
		settings.RaftTLS = certs.raft
	}
	settings.Tracer = tracer
	node, err := cluster.Start(tune(settings))
	if err != nil {
		return startError(err)
	}
	limits := l.Limits
	served := rpc.Config{
		Node: node, Version: buildVersion(), TrustedKeys: l.TrustedKeys,
		InFlight: limits.InFlightPerTenant, InFlightShared: limits.InFlightShared, InFlightBesideQuiet: limits.InFlightBesideQuiet, InFlightStrangers: limits.InFlightStrangers, ClientInFlight: limits.InFlightPerClient,
		ConnInFlight: limits.InFlightPerConnection, MaxInFlight: limits.InFlight, Connections: limits.Connections,
		Waiters: limits.Waiting, Pipelines: limits.Pipelines,
		TokensRequired: l.ACL.Required, BindUser: l.TLS.BindUser, ConfirmReset: confirmReset(l.DataDir),
		Diagnosis: rpc.Diagnosis{APIBind: l.API.Bind, Settings: l.settings, Log: book},
		Tracer:    tracer, Registerer: registry, Gatherer: registry, Logger: log.Named("api"),
	}
	if certs != nil {
		served.TLS, served.PeerTLS, served.PeerName = certs.api(), certs.dialNode, l.TLS.peerName()
		served.Diagnosis.Certificates = certs.shown
	}
	api, err := rpc.New(served)
	if err != nil {
		return errors.Join(err, node.Shutdown(ctx))
	}
	if l.Backups.Dir != "" {
		keeper, err := newBackupKeeper(&l.Backups, node, log.Named("backup"), registry)
		if err != nil {
			return errors.Join(err, node.Shutdown(ctx))
		}
		keeping, stop := context.WithCancel(ctx)
		defer stop()
		go keeper.run(keeping)
	}
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(listener) }()
	log.Info("ready", "node", node.ID(), "api", advertised(l.API.Bind, l.API.Advertise), "version", buildVersion())
	if err := a.tellReady(); err != nil {
		log.Warn("who started this node was not told that it is ready", "error", err)
	}

	for {
		select {
		case s := <-stopped:
			log.Info("stopping", "signal", s.String())
			return stopNode(ctx, node, api, log)
		case <-ctx.Done():
			return stopNode(context.WithoutCancel(ctx), node, api, log)
		case <-reload:
			a.reload(l, log, api, node, certs)
			book.SetLevel(log.GetLevel())
		case err := <-ended:
			return errors.Join(fmt.Errorf("the API stopped: %w", err), stopNode(ctx, node, api, log))
		case reason := <-fatal:
			// Nothing is tidied up: what made the node give up would block that too.
			return exitf(exitError1, "this node gave up: %s", reason)
		}
	}
}

func clusterConfig(l *loadedConfig, log hclog.Logger, reg prometheus.Registerer, fatal func(string)) cluster.Config {
	keys, _ := l.Gossip.gossipKeys() // Validate has read them
	return cluster.Config{
		Name: l.Name, ClusterName: l.ClusterName, DataDir: l.DataDir, LogStore: cluster.LogStore(l.LogStore),
		RaftAddr: l.Raft.Bind, RaftAdvertise: l.Raft.Advertise,
		GossipAddr: l.Gossip.Bind, GossipAdvertise: l.Gossip.Advertise, GossipKeys: keys,
		APIAddress: advertised(l.API.Bind, l.API.Advertise),
		Join:       l.Join, BootstrapExpect: l.BootstrapExpect, Insecure: l.Insecure,
		AuditLog: l.Audit.File, DebugLog: debugLogOf(&l.Config), SnapshotThreshold: uint64(l.Snapshots.Entries), SnapshotBytes: int64(l.Snapshots.Bytes),
		Version: buildVersion(), Logger: log, Metrics: reg, Fatal: fatal,
	}
}

// debugLogOf is the file of the debug log; "" means none.
func debugLogOf(c *Config) string {
	switch {
	case c.DebugLog == "":
		return ""
	case c.DebugLogFile == "":
		return filepath.Join(c.DataDir, "debug.log")
	}
	return c.DebugLogFile
}

// newLogger writes to w as the config says.
func newLogger(c Log, w io.Writer) hclog.InterceptLogger {
	return hclog.NewInterceptLogger(&hclog.LoggerOptions{
		Name: "seatkeeper", Level: hclog.LevelFromString(c.Level), Output: w, JSONFormat: c.Format == "json",
		Exclude: newRepeats().exclude,
	})
}

// newRegistry makes the one registry behind /metrics. raft, bolt and memberlist
// report through go-metrics, whose global sink leads here too.
func newRegistry() (*prometheus.Registry, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sink, err := newLibrarySink(registry)
	if err != nil {
		return nil, err
	}
	cfg := metrics.DefaultConfig("seatkeeper")
	cfg.EnableHostname = false // the scraper knows whom it asked
	cfg.EnableRuntimeMetrics = false
	_, err = metrics.NewGlobal(cfg, sink)
	return registry, err
}

func listenAPI(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, exitf(exitError1, "api.bind %s is in use: stop what uses it, or choose another port", address)
	}
	return nil, exitf(exitConfig, "api.bind %s: %w", address, err)
}

// startError says what to do about a node that does not start.
func startError(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return exitf(exitError1, "%w: stop what uses the port, or choose another one", err)
	}
	return exitf(exitError1, "%w", err)
}

// stopNode hands leadership on while the API still answers with redirects, then lets
// requests finish, then stops the node.
func stopNode(ctx context.Context, node *cluster.Node, api *rpc.Server, log hclog.Logger) error {
	bounded := func(d time.Duration, do func(context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return do(ctx)
	}
	if node.Leading() && len(node.Peers()) > 1 {
		if err := bounded(transferTimeout, func(ctx context.Context) error { return node.TransferLeadership(ctx, "") }); err != nil {
			log.Warn("leadership was not handed on; the others will elect", "error", err)
		}
	}
	if err := bounded(drainTimeout, api.Shutdown); err != nil {
		log.Warn("requests were cut off", "error", err)
	}
	if err := bounded(stopTimeout, node.Shutdown); err != nil {
		return exitf(exitError1, "stopping: %w", err)
	}
	log.Info("stopped")
	return nil
}

// reload reads the config file again and takes over what can change. A file with a
// mistake changes nothing.
func (a *app) reload(l *loadedConfig, log hclog.Logger, api *rpc.Server, node *cluster.Node, certs *certFiles) {
	if certs != nil {
		if err := certs.reload(); err != nil {
			log.Error("certificate not reloaded: the old one stays", "error", err)
		}
	}
	next, err := loadConfig(l.file, a.lookupEnv, a.flags)
	if err == nil {
		err = next.check()
	}
	if err != nil {
		log.Error("config not reloaded: the old one stays", "error", err)
		return
	}
	if keys, err := next.Gossip.gossipKeys(); err == nil {
		if err := node.SetGossipKeys(keys); err != nil {
			log.Error("gossip keys not reloaded: the old ones stay", "error", err)
		}
	}
	log.SetLevel(hclog.LevelFromString(next.Log.Level))
	api.SetTrustedKeys(next.TrustedKeys)
	l.Log.Level, l.TrustedKeys = next.Log.Level, next.TrustedKeys
	log.Info("config reloaded", "log_level", next.Log.Level, "trusted_keys", len(next.TrustedKeys))
}
