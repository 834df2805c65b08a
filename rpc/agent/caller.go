package agent

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/seatkeeper/seatkeeper/lease"
)

// caller is who is at the other end of a connection.
type caller struct {
	uid int // noUID where the system does not say
	// user is the login name of uid.
	user string
	// process is the caller's process, its zero value where it is not known (another
	// machine's or container's).
	process process
	// inner is the caller's pid as it sees it itself; it differs from process.PID when the
	// caller lives in a pid namespace of its own.
	inner int
	// steward is root or the agent's own user: sees and returns everything.
	steward bool
	// trusted may name other users and hosts, by the settings of the moment.
	trusted bool
}

// noUID is the user id of callers who are known by a token alone.
const noUID = -1

type callerKey struct{}

func withCaller(ctx context.Context, c caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// judge fills in what the peer's user id means here.
func (a *Agent) judge(c caller) caller {
	if c.uid == noUID {
		c.user, c.steward = a.cfg.User, true
	} else {
		c.user = userName(c.uid)
		c.steward = c.uid == 0 || c.uid == os.Getuid()
	}
	return c
}

// share is how much of a limit is one user's: all of it (0) for a steward.
func (c caller) share(perUser int) int {
	if c.steward {
		return 0
	}
	return perUser
}

// userName is the login name of a user id; one that the system has no name for is named
// by its number, so that the seats of two users are never mixed up.
func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil || u.Username == "" {
		return "uid-" + strconv.Itoa(uid)
	}
	if _, after, ok := strings.Cut(u.Username, `\`); ok {
		return after
	}
	return u.Username
}

// principal is on whose behalf a request is made: the caller's own user and this host,
// unless it may name others.
func (a *Agent) principal(c caller, r *checkoutRequest) (lease.Principal, error) {
	p := lease.Principal{User: c.user, Host: a.cfg.Host, Display: r.Display, VendorDefined: r.VendorDefined, Project: r.Project}
	if r.User != "" && r.User != p.User {
		if !c.trusted {
			return p, refuse(lease.Forbidden, "you are %s: leave out user, or ask for %s to be one of agent.trusted_users", c.user, c.user)
		}
		p.User = r.User
	}
	if r.Host != "" && r.Host != p.Host {
		if !c.trusted {
			return p, refuse(lease.Forbidden, "this host is %s: leave out host, or ask for %s to be one of agent.trusted_users", p.Host, c.user)
		}
		p.Host = r.Host
	}
	for _, f := range []struct{ name, value string }{{"user", p.User}, {"host", p.Host}, {"display", p.Display},
		{"vendor_defined", p.VendorDefined}, {"project", p.Project}, {"instance_id", r.InstanceID}, {"booking", r.Booking}} {
		if len(f.value) > lease.MaxNameLen {
			return p, refuse(lease.Invalid, "%s has %d bytes: at most %d are allowed", f.name, len(f.value), lease.MaxNameLen)
		}
	}
	return p, nil
}

// watched is the process that a request names, which must be the caller's own or its
// user's.
func (c caller) watched(pid int) (process, error) {
	if pid < 0 {
		return process{}, refuse(lease.Invalid, "pid %d: want the number of a process", pid)
	}
	if c.process.PID == 0 && c.uid != noUID {
		return process{}, refuse(lease.Invalid, "this agent cannot see your processes (they are in another container): use POST /v1/hold, or ttl_ms instead of pid")
	}
	if c.inner != c.process.PID {
		if pid != c.inner {
			return process{}, refuse(lease.Invalid, "pid %d: from within a container only your own pid (%d) can be named; use POST /v1/hold, or ttl_ms, for others", pid, c.inner)
		}
		return c.process, nil
	}
	p, uid, err := identify(pid)
	if err != nil {
		return process{}, refuse(lease.Invalid, "pid %d: %v", pid, err)
	}
	if uid != c.uid && !c.steward {
		return process{}, refuse(lease.Forbidden, "process %d is not yours", pid)
	}
	return p, nil
}

// refusal is a "no" of the agent itself.
type refusal struct {
	reason  lease.Reason
	message string
	retryMS uint32
}

func (e *refusal) Error() string { return string(e.reason) + ": " + e.message }

func refuse(reason lease.Reason, format string, args ...any) error {
	return &refusal{reason: reason, message: fmt.Sprintf(format, args...)}
}
