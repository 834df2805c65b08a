package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/rpc"
	"github.com/seatkeeper/seatkeeper/rpc/agent"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// agentStopTimeout bounds the return of seats when an agent stops; supervisors lose
// patience after ten seconds.
const agentStopTimeout = 8 * time.Second

func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Keep seats for local processes behind a socket, by plain HTTP and JSON",
		Long: `Listens on a local socket and keeps sessions and heartbeats for processes that cannot: a
program in any language, or a script, is a client with three calls.

  curl --unix-socket SOCKET -d '{"feature":"cad","pid":'$$'}' http://agent/v1/checkout
  curl --unix-socket SOCKET 'http://agent/v1/session?pid='$$          # "valid": true
  curl --unix-socket SOCKET -d '{"pid":'$$'}' http://agent/v1/checkin

A seat goes with its process (pid), with an open connection (POST /v1/hold), or with a
time to live (ttl_ms) that POST /v1/renew extends. The user is the caller's own, by the
system's word. Seats outlive a restart of the agent. Sessions are kept in --state-dir
(mode 0700); several agents each need their own --socket and --state-dir.

SIGTERM stops it: the seats stay for the next run (--on-exit keep) or are returned.
SIGHUP reads the config file again: log.level, agent.on_exit, agent.trusted_users and the
limits change at once, all else at the next start. See docs/agent.md.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runAgent(cmd.Context()) },
	}
	for _, f := range []struct{ name, help string }{
		{"socket", "unix socket; none for none"},
		{"socket-mode", "mode of the socket: 0600, 0660 or 0666"},
		{"socket-group", "group of the socket, with mode 0660"},
		{"listen", "loopback TCP address, for systems without unix sockets; callers show the token"},
		{"token-file", "where the token of --listen is (made if it is not there, mode 0600)"},
		{"state-dir", "folder of the sessions"},
		{"host", "host name of the principals (in a pod: the node's or the pod's)"},
		{"on-exit", "keep the seats for the next run, or return them"},
	} {
		key := "agent." + strings.ReplaceAll(f.name, "-", "_")
		cmd.PersistentFlags().Var(&settingFlag{into: a.flags, key: key}, f.name,
			fmt.Sprintf("%s (env SEATKEEPER_%s)", f.help, strings.ToUpper(strings.ReplaceAll(key, ".", "_"))))
	}
	cmd.AddCommand(a.agentStatusCommand())
	return cmd
}

// runAgent is the life of an agent.
func (a *app) runAgent(ctx context.Context) error {
	stopped := make(chan os.Signal, 1)
	signal.Notify(stopped, stopSignals...)
	defer signal.Stop(stopped)
	reload, stopReloads := a.catchReloads()
	defer stopReloads()
	if err := a.cfg.checkAgent(); err != nil {
		return err
	}
	var level slog.LevelVar
	level.Set(slogLevel(a.cfg.Log.Level))
	log := agentLogger(a.cfg.Log.Format, a.stderr, &level)
	served, err := a.startAgent(log)
	if err != nil {
		return err
	}
	defer served.close()
	if err := a.tellReady(); err != nil {
		log.Warn("who started this agent was not told that it is ready", "error", err)
	}
	for {
		select {
		case s := <-stopped:
			log.Info("stopping", "signal", s.String())
		case <-ctx.Done():
		case <-reload:
			a.reloadAgent(log, &level, served.agent)
			continue
		}
		ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentStopTimeout)
		defer cancel()
		served.agent.Stop(ended)
		return nil
	}
}

// servedAgent is an agent and where it listens.
type servedAgent struct {
	agent   *agent.Agent
	servers []*http.Server
}

func (s *servedAgent) close() {
	for _, srv := range s.servers {
		_ = srv.Close() // a unix socket goes with it
	}
}

func (a *app) startAgent(log *slog.Logger) (*servedAgent, error) {
	c := &a.cfg.Agent
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	sdk, err := client.Config{Addresses: splitList(a.cfg.Client.Addr), Token: a.cfg.Client.Token, Tenant: a.cfg.Client.Tenant,
		CACert: a.cfg.Client.CACert, ClientCert: a.cfg.Client.ClientCert, ClientKey: a.cfg.Client.ClientKey,
		BatchHeartbeats: true}.WithEnv()
	if err != nil {
		return nil, usagef("%w", err)
	}
	cl, err := client.New(sdk)
	if err != nil {
		return nil, usagef("%w", err)
	}
	host := c.Host
	if host == "" {
		host = osHost()
	}
	ttl, _ := time.ParseDuration(c.DefaultTTL) // checked
	rejoin, _ := time.ParseDuration(c.Rejoin)
	keeper, err := agent.New(agent.Config{Settings: c.settings(), Client: cl, StateDir: c.stateDir(), Host: host, User: osUser(),
		DefaultTTL: ttl, Rejoin: rejoin, Face: rpc.Face, Version: buildVersion(), Logger: log, Registerer: registry, Gatherer: registry})
	if err != nil {
		return nil, exitf(exitError1, "%w", err)
	}
	served := &servedAgent{agent: keeper}
	fail := func(err error) (*servedAgent, error) {
		served.close()
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		keeper.Stop(ended)
		return nil, err
	}
	where := []any{"cluster", a.cfg.Client.Addr, "state", c.stateDir()}
	if path := c.socketPath(a.lookupEnv); path != "" {
		l, err := listenSocket(log, path, c)
		if err != nil {
			return fail(err)
		}
		served.servers = append(served.servers, keeper.Serve(l, ""))
		where = append(where, "socket", path)
	}
	if c.Listen != "" {
		token, err := agentToken(c.tokenFile(), true)
		if err != nil {
			return fail(err)
		}
		l, err := net.Listen("tcp", c.Listen)
		if err != nil {
			return fail(exitf(exitError1, "agent.listen %s: %w", c.Listen, err))
		}
		served.servers = append(served.servers, keeper.Serve(l, token))
		where = append(where, "listen", l.Addr().String(), "token_file", c.tokenFile())
	}
	if len(served.servers) == 0 {
		return fail(exitf(exitConfig, "nowhere to listen: set agent.socket, or agent.listen (127.0.0.1:7805)"))
	}
	log.Info("ready", where...)
	return served, nil
}

// listenSocket makes the unix socket. One that nobody listens on is what a killed agent
// left, and goes.
func listenSocket(log *slog.Logger, path string, c *Agent) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, exitf(exitConfig, "agent.socket: the path has %d bytes, the system takes %d: choose a shorter one", len(path), maxSocketPath)
	}
	mode, _ := c.mode() // checked
	if err := socketFolder(log, filepath.Dir(path), mode); err != nil {
		return nil, exitf(exitConfig, "agent.socket %s: %s", path, fileMessage(err))
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode()&fs.ModeSocket == 0 {
			return nil, exitf(exitConfig, "agent.socket %s is there and is no socket: choose another path", path)
		}
		if conn, err := net.Dial("unix", path); err == nil {
			conn.Close()
			return nil, exitf(exitError1, "another agent listens on %s: stop it, or choose another --socket and --state-dir", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, exitf(exitError1, "agent.socket %s: %s", path, fileMessage(err))
		}
	}
	// Nobody else may connect before the mode is what it shall be.
	restore := ownerOnly()
	l, err := net.Listen("unix", path)
	restore()
	if err != nil {
		return nil, exitf(exitError1, "agent.socket %s: %w", path, err)
	}
	if err := errors.Join(setGroup(path, c.SocketGroup), os.Chmod(path, mode)); err != nil {
		l.Close()
		return nil, exitf(exitConfig, "agent.socket %s: %s", path, oneLine(err.Error()))
	}
	return l, nil
}

// socketFolder makes the folder of the socket if it is not there. A socket for others is of
// no use to them in a folder that they may not enter.
func socketFolder(log *slog.Logger, dir string, mode os.FileMode) error {
	folder := os.FileMode(0o700)
	if mode&0o077 != 0 {
		folder = 0o755
	}
	if err := os.MkdirAll(dir, folder); err != nil {
		return err
	}
	if info, err := os.Stat(dir); err == nil && mode&0o077 != 0 && info.Mode().Perm()&0o011 == 0 {
		log.Warn("others cannot get to the socket: its folder lets only its owner in", "folder", dir, "mode", fmt.Sprintf("%04o", info.Mode().Perm()), "do", "chmod 755 "+dir)
	}
	return nil
}

// maxSocketPath is sun_path less its end, on the system where it is shortest.
const maxSocketPath = 103

func setGroup(path, group string) error {
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return fmt.Errorf("group %s: no such group", group)
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, -1, gid)
}

// agentToken reads the token of the TCP port, and makes one if there is none and mint says so.
func agentToken(file string, mint bool) (string, error) {
	data, err := readLimited(file, 4096)
	if errors.Is(err, fs.ErrNotExist) && mint {
		var raw [32]byte
		rand.Read(raw[:])
		data = []byte(hex.EncodeToString(raw[:]) + "\n")
		err = writeToken(file, data)
	}
	if err != nil {
		return "", exitf(exitConfig, "agent.token_file %s: %s", file, fileMessage(err))
	}
	if info, err := os.Stat(file); err == nil && ownerOnlyMatters && info.Mode().Perm()&0o077 != 0 {
		return "", exitf(exitConfig, "agent.token_file %s can be read by others: chmod 600 it", file)
	}
	token := strings.TrimSpace(string(data))
	if len(token) < 16 {
		return "", exitf(exitConfig, "agent.token_file %s: want a token of 16 characters or more", file)
	}
	return token, nil
}

func writeToken(file string, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func agentLogger(format string, w io.Writer, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

func slogLevel(name string) slog.Level {
	switch name {
	case "trace", "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// reloadAgent takes over what can change. A file with a mistake changes nothing.
func (a *app) reloadAgent(log *slog.Logger, level *slog.LevelVar, keeper *agent.Agent) {
	next, err := loadConfig(a.configFile, a.lookupEnv, a.flags)
	if err == nil {
		err = next.checkAgent()
	}
	if err != nil {
		log.Error("config not reloaded: the old one stays", "error", err)
		return
	}
	level.Set(slogLevel(next.Log.Level))
	keeper.Reload(next.Agent.settings())
	log.Info("config reloaded", "log_level", next.Log.Level, "on_exit", next.Agent.OnExit)
}

// agentClient speaks to an agent as its callers do.
func (a *app) agentClient() (*http.Client, string, func(*http.Request), error) {
	c := &a.cfg.Agent
	if path := c.socketPath(a.lookupEnv); path != "" && (c.Listen == "" || a.cfg.origin["agent.socket"] != "") {
		d := &net.Dialer{Timeout: callTimeout}
		return &http.Client{Timeout: callTimeout, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		}}}, "http://agent", func(*http.Request) {}, nil
	}
	if c.Listen == "" {
		return nil, "", nil, usagef("which agent? add --socket PATH, or --listen ADDRESS with --token-file")
	}
	token, err := agentToken(c.tokenFile(), false)
	if err != nil {
		return nil, "", nil, err
	}
	return &http.Client{Timeout: callTimeout}, "http://" + c.Listen, func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }, nil
}

// isRefusedConn says that nobody listens.
func isRefusedConn(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
}
