package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// Defaults and bounds, each with its reason.
const (
	// DefaultSessions is what one message of heartbeats carries; a second one costs little,
	// but a machine with more programs under licence than this has a runaway among them.
	DefaultSessions = lease.MaxRenewMany
	// DefaultUserSessions leaves room for others when one user's script runs away.
	DefaultUserSessions = 1024
	// DefaultConnections: every session may have its connection, and some are for looking.
	// It stays below the open files that the unit allows. DefaultUserConnections leaves room
	// for others.
	DefaultConnections     = DefaultSessions + 512
	DefaultUserConnections = DefaultUserSessions + 128
	// DefaultInFlight and DefaultUserInFlight bound calls that are being answered: the
	// cluster takes 30 at a time from one client, and others of this machine wait their turn.
	DefaultInFlight     = 256
	DefaultUserInFlight = 64
	// DefaultWaiting bounds calls that wait: for seats, or for a change (watch).
	// DefaultUserWaiting leaves room for others.
	DefaultWaiting     = 1024
	DefaultUserWaiting = 256
	// DefaultTTL is how long a lease by the clock lives without a renewal, if the caller
	// does not say; MinTTL fits a call from a busy machine, MaxTTL is a day's work.
	DefaultTTL = time.Minute
	MinTTL     = time.Second
	MaxTTL     = 24 * time.Hour
	// DefaultRejoin is how long a program whose connection ended with the agent may take to
	// open another: it outlasts a restart of both.
	DefaultRejoin = time.Minute

	// maxBody bounds a request: 64 features with long names are some 20 KiB.
	maxBody = 64 << 10
	// maxHeader bounds its headers, which nobody here needs.
	maxHeader = 8 << 10
	// headerTimeout and bodyTimeout cut off whoever sends nothing: a local caller is quick.
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	// answerTimeout cuts off whoever does not read its answer.
	answerTimeout = 10 * time.Second
	// maxTurned bounds the connections too many that are told so; others are just closed.
	maxTurned = 64
	// maxScrapes bounds looks at the metrics at once: each looks at all sessions.
	maxScrapes = 4
	// idleTimeout closes a connection that is kept open for nothing.
	idleTimeout = 2 * time.Minute
	// maxWait and maxWatch bound one call; the caller asks again.
	maxWait  = 10 * time.Minute
	maxWatch = 10 * time.Minute
	// readyWait is how long a call waits for a session that is being resumed.
	readyWait = 10 * time.Second
	// returnTimeout bounds giving a session's seats back; if the cluster cannot be reached
	// they come back by expiry, for nobody renews them any more.
	returnTimeout = 30 * time.Second
	// resumeFor is how long an agent tries to resume a session. By then the cluster has
	// reclaimed its seats, or could do nothing at all.
	resumeFor = time.Hour
	// resumeAtOnce bounds the sessions that are resumed at the same time.
	resumeAtOnce = 64
)

// Settings are what can change while the agent runs.
type Settings struct {
	// Sessions, Connections, InFlight and Waiting are limits, and the others those of one
	// user; 0 means the default. Root and the agent's own user have no such share but of
	// calls in flight.
	Sessions, UserSessions, Connections, UserConnections, InFlight, UserInFlight, Waiting, UserWaiting int
	// TrustedUsers may name another user or host than their own. Root and the agent's own
	// user may in any case.
	TrustedUsers []string
	// ReturnOnExit returns all seats when the agent stops; else they stay for its next run.
	ReturnOnExit bool
}

// Config is what an agent needs.
type Config struct {
	Settings
	// Client is the way to the cluster; it should have BatchHeartbeats. The agent closes it.
	Client *client.Client
	// StateDir holds the sessions, with their secrets. It is made with mode 0700.
	StateDir string
	// Host is the host name of all principals; empty means this machine's.
	Host string
	// User is the agent's own user, whom callers with the token of a TCP port are taken for.
	User string
	// DefaultTTL and Rejoin are described with their constants; 0 means these.
	DefaultTTL, Rejoin time.Duration
	// Face gives the HTTP status and the code of a reason, as the cluster's API does.
	Face func(lease.Reason) (status int, code string)
	// Version is shown by status.
	Version    string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Gatherer   prometheus.Gatherer
}

// Validate says what is wrong with c, one line for each mistake.
func (c *Config) Validate() error {
	var errs []error
	if c.Client == nil || c.Face == nil || c.Logger == nil || c.Registerer == nil || c.Gatherer == nil {
		errs = append(errs, errors.New("client, face, logger and registry must be given"))
	}
	if c.StateDir == "" {
		errs = append(errs, errors.New("state_dir: must name a folder"))
	}
	if c.DefaultTTL != 0 && (c.DefaultTTL < MinTTL || c.DefaultTTL > MaxTTL) {
		errs = append(errs, fmt.Errorf("default_ttl %v: use %v to %v", c.DefaultTTL, MinTTL, MaxTTL))
	}
	if c.Rejoin < 0 || c.Rejoin > MaxTTL {
		errs = append(errs, fmt.Errorf("rejoin %v: use 0 to %v", c.Rejoin, MaxTTL))
	}
	if len(c.Host) > lease.MaxNameLen || strings.ContainsAny(c.Host, " \t\r\n") {
		errs = append(errs, fmt.Errorf("host %.40q: want a host name", c.Host))
	}
	return errors.Join(errs...)
}

func (c *Config) withDefaults() {
	if c.DefaultTTL == 0 {
		c.DefaultTTL = DefaultTTL
	}
	if c.Rejoin == 0 {
		c.Rejoin = DefaultRejoin
	}
	c.Settings = c.Settings.withDefaults()
}

func (s Settings) withDefaults() Settings {
	for _, l := range []struct {
		have *int
		std  int
	}{{&s.Sessions, DefaultSessions}, {&s.UserSessions, DefaultUserSessions}, {&s.Connections, DefaultConnections},
		{&s.UserConnections, DefaultUserConnections}, {&s.InFlight, DefaultInFlight}, {&s.UserInFlight, DefaultUserInFlight},
		{&s.Waiting, DefaultWaiting}, {&s.UserWaiting, DefaultUserWaiting}} {
		if *l.have <= 0 {
			*l.have = l.std
		}
	}
	return s
}

// bounds are how long a caller may take with each part of a call.
type bounds struct{ header, body, answer time.Duration }

// newServer is an HTTP server that cuts off whoever is slow.
func newServer(h http.Handler, b bounds) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: b.header, ReadTimeout: b.body, WriteTimeout: b.body + b.answer,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
}
