package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"time"

	"github.com/seatkeeper/seatkeeper/rpc/agent"
)

// Agent is what seatkeeper agent needs beside client.
type Agent struct {
	// Socket is the unix socket; none for none. Empty: under XDG_RUNTIME_DIR, or as
	// defaultAgentSocket says.
	Socket      string `yaml:"socket"`
	SocketMode  string `yaml:"socket_mode"`
	SocketGroup string `yaml:"socket_group"`
	// Listen is a loopback TCP address, whose callers show the token in TokenFile.
	Listen       string   `yaml:"listen"`
	TokenFile    string   `yaml:"token_file"`
	StateDir     string   `yaml:"state_dir"`
	Host         string   `yaml:"host"`
	OnExit       string   `yaml:"on_exit"`
	DefaultTTL   string   `yaml:"default_ttl"`
	Rejoin       string   `yaml:"rejoin"`
	TrustedUsers []string `yaml:"trusted_users"`

	Sessions           int `yaml:"sessions"`
	SessionsPerUser    int `yaml:"sessions_per_user"`
	Connections        int `yaml:"connections"`
	ConnectionsPerUser int `yaml:"connections_per_user"`
	InFlight           int `yaml:"in_flight"`
	InFlightPerUser    int `yaml:"in_flight_per_user"`
	Waiting            int `yaml:"waiting"`
	WaitingPerUser     int `yaml:"waiting_per_user"`
}

// What agent.on_exit may say.
const (
	onExitKeep   = "keep"
	onExitReturn = "return"
)

func defaultAgent() Agent {
	return Agent{SocketMode: "0600", OnExit: onExitKeep, DefaultTTL: agent.DefaultTTL.String(), Rejoin: agent.DefaultRejoin.String(),
		Sessions: agent.DefaultSessions, SessionsPerUser: agent.DefaultUserSessions, Connections: agent.DefaultConnections,
		ConnectionsPerUser: agent.DefaultUserConnections, InFlight: agent.DefaultInFlight, InFlightPerUser: agent.DefaultUserInFlight,
		Waiting: agent.DefaultWaiting, WaitingPerUser: agent.DefaultUserWaiting}
}

// noSocket is the value of agent.socket for an agent on a TCP port alone.
const noSocket = "none"

// socketPath is where the agent listens and its callers look; "" is nowhere.
func (c *Agent) socketPath(lookupEnv func(string) (string, bool)) string {
	switch {
	case c.Socket == noSocket, c.Socket == "" && runtime.GOOS == "windows":
		return ""
	case c.Socket != "":
		return c.Socket
	}
	if dir, _ := lookupEnv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "seatkeeper", "agent.sock")
	}
	if os.Getuid() == 0 {
		return "/run/seatkeeper-agent/agent.sock"
	}
	return filepath.Join(ownFolder(os.UserCacheDir), "agent.sock")
}

func (c *Agent) stateDir() string {
	switch {
	case c.StateDir != "":
		return c.StateDir
	case os.Getuid() == 0:
		return "/var/lib/seatkeeper-agent"
	}
	return filepath.Join(ownFolder(os.UserConfigDir), "agent")
}

func (c *Agent) tokenFile() string {
	if c.TokenFile != "" {
		return c.TokenFile
	}
	return filepath.Join(c.stateDir(), "token")
}

// ownFolder is Seatkeeper's folder in one of the user's; without a home one that only its
// user can have made.
func ownFolder(of func() (string, error)) string {
	dir, err := of()
	if err != nil {
		return filepath.Join(os.TempDir(), "seatkeeper-"+strconv.Itoa(os.Getuid()))
	}
	return filepath.Join(dir, "seatkeeper")
}

// settings are what can change while the agent runs.
func (c *Agent) settings() agent.Settings {
	return agent.Settings{Sessions: c.Sessions, UserSessions: c.SessionsPerUser, Connections: c.Connections,
		UserConnections: c.ConnectionsPerUser, InFlight: c.InFlight, UserInFlight: c.InFlightPerUser, Waiting: c.Waiting,
		UserWaiting: c.WaitingPerUser, TrustedUsers: c.TrustedUsers, ReturnOnExit: c.OnExit == onExitReturn}
}

// mode is the mode of the socket.
func (c *Agent) mode() (os.FileMode, error) {
	switch c.SocketMode {
	case "0600", "0660", "0666":
		n, err := strconv.ParseUint(c.SocketMode, 8, 32)
		return os.FileMode(n), err
	}
	return 0, fmt.Errorf("%q: use \"0600\" (own user), \"0660\" (with agent.socket_group) or \"0666\" (everybody here; callers are known by their user id)", c.SocketMode)
}

// validate adds what keeps an agent from starting.
func (c *Agent) validate(bad func(key, format string, args ...any)) {
	if _, err := c.mode(); err != nil {
		bad("agent.socket_mode", "%v", err)
	}
	if c.SocketGroup != "" && c.SocketMode != "0660" {
		bad("agent.socket_group", "is of use only with agent.socket_mode: \"0660\"")
	}
	if c.Listen != "" {
		if host, err := splitAddress(c.Listen); err != nil {
			bad("agent.listen", "%v", err)
		} else if !isLoopback(host) {
			bad("agent.listen", "%s is reachable from other hosts: use 127.0.0.1 or [::1]", c.Listen)
		}
	}
	if c.OnExit != onExitKeep && c.OnExit != onExitReturn {
		bad("agent.on_exit", "%q: use keep (the seats stay for the next run) or return", c.OnExit)
	}
	if d, err := time.ParseDuration(c.DefaultTTL); err != nil || d < agent.MinTTL || d > agent.MaxTTL {
		bad("agent.default_ttl", "%q: use %s to %s", c.DefaultTTL, agent.MinTTL, agent.MaxTTL)
	}
	if d, err := time.ParseDuration(c.Rejoin); err != nil || d < time.Second || d > agent.MaxTTL {
		bad("agent.rejoin", "%q: use 1s to %s", c.Rejoin, agent.MaxTTL)
	}
	for _, f := range fieldsOf("agent.", reflect.ValueOf(*c)) {
		if f.value.Kind() == reflect.Int && f.value.Int() < 1 {
			bad(f.key, "%d: must be at least 1", f.value.Int())
		}
	}
}
