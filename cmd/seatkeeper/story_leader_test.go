//go:build linux

package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// The crowd of the leader kill. Seats are enough for all that hold, and for most of
// those who come and go.
const (
	crowdHolders  = 10
	crowdRenewers = 10
	crowdTakers   = 30
	crowdSeats    = 40
	crowdPace     = 20 * time.Millisecond // between two acts of one client
)

// crowdProfile outlives whatever a loaded machine makes of an election: that no seat is
// lost by waiting is for other stories.
var crowdProfile = lease.Profile{Lifespan: 6 * time.Second, Grace: 24 * time.Second}

// allowedRefusals are what a client may be told while a leader dies: no seat is free.
// Everything else (who leads, unknown outcomes, overload) the SDK settles by itself.
var allowedRefusals = map[lease.Reason]bool{lease.NoSeats: true}

// crowd is fifty clients that check each other: a seat is entered under its number
// when a client is told it is his, and crossed out before he gives it back.
type crowd struct {
	t      *testing.T
	s      *story
	stop   chan struct{}
	acts   atomic.Int64 // takes, returns and renewals that succeeded
	mu     sync.Mutex
	holder map[int]string
	held   map[string]*client.Lease
	denied int
}

func (c *crowd) enter(user string, l *client.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, seat := range l.Seats() {
		if other := c.holder[seat]; other != "" {
			c.t.Errorf("seat %d is held by %s and by %s", seat, other, user)
		}
		c.holder[seat] = user
	}
	c.held[user] = l
	c.acts.Add(1)
}

func (c *crowd) leave(user string, l *client.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, seat := range l.Seats() {
		delete(c.holder, seat)
	}
	delete(c.held, user)
}

// failed says whether err may be seen by a client; if not, the test has failed.
func (c *crowd) failed(user, what string, err error) bool {
	if err == nil {
		return false
	}
	if !allowedRefusals[client.ReasonOf(err)] {
		c.t.Errorf("%s: %s: %v", user, what, err)
	}
	c.mu.Lock()
	c.denied++
	c.mu.Unlock()
	return true
}

// take checks seats out, or is refused.
func (c *crowd) take(user string, s *client.Session, count int) *client.Lease {
	leases, err := s.Checkout(c.t.Context(), client.Item{Feature: "crowd", Count: count})
	if c.failed(user, "checkout", err) {
		return nil
	}
	if !leases[0].Valid() || len(leases[0].Seats()) != count {
		c.t.Errorf("%s asked for %d seats and got %v, %s", user, count, leases[0].Seats(), leases[0].State())
	}
	c.enter(user, leases[0])
	return leases[0]
}

// each does act at the crowd's pace until the story stops it.
func (c *crowd) each(act func()) {
	pace := time.NewTicker(crowdPace)
	defer pace.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-pace.C:
			act()
		}
	}
}

func (c *crowd) hold(user string, s *client.Session) {
	if l := c.take(user, s, 1); l != nil {
		c.each(func() {
			if !l.Valid() {
				c.t.Errorf("%s lost its seat: %s", user, l.Reason())
			}
		})
	}
}

func (c *crowd) renew(user string, s *client.Session) {
	if l := c.take(user, s, 1); l != nil {
		ref := l.Ref()
		c.each(func() {
			if c.failed(user, "renew", s.Renew(c.t.Context())) {
				return
			}
			c.acts.Add(1)
			if !l.Valid() || l.Ref() != ref {
				c.t.Errorf("%s renewed and holds %v (%s), want %v", user, l.Ref(), l.Reason(), ref)
			}
		})
	}
}

// comeAndGo takes one or two seats and returns them, again and again; at the end every
// other one keeps what it has.
func (c *crowd) comeAndGo(user string, s *client.Session, n int) {
	var l *client.Lease
	c.each(func() {
		if l == nil {
			l = c.take(user, s, 1+n%2)
			return
		}
		if !l.Valid() {
			c.t.Errorf("%s lost its seat: %s", user, l.Reason())
		}
		c.leave(user, l)
		if !c.failed(user, "checkin", l.CheckIn(c.t.Context())) {
			c.acts.Add(1)
		}
		l = nil
	})
}

func TestFiftyClientsSurviveALeaderKill(t *testing.T) {
	s := startStory(t, unshared("crowd", crowdSeats, crowdProfile))
	c := &crowd{t: t, s: s, stop: make(chan struct{}), holder: map[int]string{}, held: map[string]*client.Lease{}}
	var wg sync.WaitGroup
	for i := range crowdHolders + crowdRenewers + crowdTakers {
		user := fmt.Sprintf("user%d", i)
		_, session := s.sdk(t, user, nil, client.SessionConfig{})
		wg.Go(func() {
			switch {
			case i < crowdHolders:
				c.hold(user, session)
			case i < crowdHolders+crowdRenewers:
				c.renew(user, session)
			default:
				c.comeAndGo(user, session, i)
			}
		})
	}
	c.waitActs(t, 500)
	old := s.leader(t)
	old.kill()
	killed := time.Now()
	c.waitActs(t, 1)
	t.Logf("the first act after the kill was answered within %s", since(killed))
	c.waitActs(t, 1000)
	elapse(t, crowdProfile.Lifespan/lease.HeartbeatFraction+time.Second-time.Since(killed)) // past a heartbeat of everyone
	close(c.stop)
	wg.Wait()

	if now := s.leader(t); now == old {
		t.Errorf("%s is dead and leads", old.Name)
	}
	c.checkCharges(t)
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	s.allAgree(t)
	c.checkCharges(t)
	t.Logf("%d acts, %d refusals for want of a seat", c.acts.Load(), c.denied)
}

// checkCharges compares what the cluster charges with what the clients believe.
func (c *crowd) checkCharges(t *testing.T) {
	t.Helper()
	believed, refs := 0, map[lease.Ref]string{}
	for user, l := range c.held {
		if !l.Valid() {
			t.Errorf("%s lost its seat: %s", user, l.Reason())
		}
		believed += l.Count()
		refs[l.Ref()] = user
	}
	if got := c.s.inUse(t, "crowd"); int(got) != believed {
		t.Errorf("the cluster charges %d seats, clients hold %d", got, believed)
	}
	for _, l := range c.s.leases(t, "crowd") {
		ref := lease.Ref{ID: lease.ID(l.Id), Token: lease.Token(l.FencingToken)}
		if refs[ref] != l.User {
			t.Errorf("lease %v of %s is charged, and %q believes in it", ref, l.User, refs[ref])
		}
		delete(refs, ref)
	}
	for ref, user := range refs {
		t.Errorf("%s believes in lease %v, which is not charged", user, ref)
	}
}
