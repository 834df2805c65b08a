package sim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// CrashPoint is one moment in a scripted run at which one node loses power: in its
// write numbered Write (log, stable or snapshot store) since the script began.
type CrashPoint struct {
	Seed    uint64
	Leader  bool // the node that leads as the script begins; else a follower
	Write   int  // 0: power stays on
	Outcome outcome
}

func (p CrashPoint) String() string {
	role := "follower"
	if p.Leader {
		role = "leader"
	}
	return fmt.Sprintf("script %d, %s, write %d, %v of it is found", p.Seed, role, p.Write, p.Outcome)
}

// The script: so many requests of so many clients, one after another.
const (
	scriptClients  = 3
	scriptRequests = 63
	scriptDown     = 1500 * time.Millisecond // how long the node is without power
	scriptSnapshot = 12                      // entries between two snapshots
)

// RunPoint runs the script with one power failure, starts the node again, ends the
// script and checks all invariants. writes is how many writes the node had made by then.
// It must be called in a synctest bubble.
func RunPoint(p CrashPoint) (r *Report, writes int) {
	w := newWorld(Config{Seed: p.Seed, Nodes: 3, Clients: scriptClients, Length: time.Hour, snapshotEvery: scriptSnapshot})
	w.boot()
	target := w.target(p.Leader)
	begun := target.store().written()
	if p.Write > 0 {
		target.losePower(p.Write, p.Outcome, scriptDown)
	}
	ctx, stop := context.WithCancel(context.Background())
	supervised := make(chan struct{})
	go func() {
		defer close(supervised)
		for ctx.Err() == nil {
			for _, n := range w.nodes {
				n.supervise()
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	w.script(ctx)
	writes = target.store().written() - begun
	stop()
	<-supervised
	if w.heal() {
		for _, c := range w.clients {
			if !c.farewell() {
				w.violated("LIVE", "client %d was not served after the script", c.n)
			}
		}
		if w.compareReplicas() {
			w.noSeatInUse()
		}
		w.durable()
	}
	w.shutDown()
	return w.sum(), writes
}

// target is the node that loses power.
func (w *world) target(leader bool) *node {
	for _, n := range w.nodes {
		if c := n.current(); c != nil && c.Leading() == leader {
			return n
		}
	}
	return w.nodes[0]
}

// script is what the clients do: checkouts, renewals, check-ins, repeated starts and
// ends of sessions in turn, and one transfer of leadership in the middle.
func (w *world) script(ctx context.Context) {
	for i := range scriptRequests {
		c := w.clients[i%len(w.clients)]
		s := c.session
		if s == nil || s.over {
			s = w.scriptSession(c, i)
		}
		switch step := i / len(w.clients) % 7; {
		case step == 2:
			c.renew(ctx, s)
		case step == 3:
			c.checkin(ctx, s, false)
		case step == 4:
			w.mu.Lock()
			clear(s.held)
			s.incarnation++
			s.seq = 0
			w.mu.Unlock()
			c.renew(ctx, s)
		case step == 6:
			c.checkin(ctx, s, true)
		default:
			c.checkout(ctx, s)
		}
		if i == scriptRequests/2 {
			if n := w.target(true).current(); n != nil {
				short, cancel := context.WithTimeout(ctx, 2*time.Second)
				n.TransferLeadership(short, "")
				cancel()
			}
		}
		time.Sleep(150 * time.Millisecond)
	}
}

func (w *world) scriptSession(c *client, i int) *session {
	id := lease.SessionID{byte(i), byte(w.cfg.Seed), 15: byte(c.n + 1)}
	sum := sha256.Sum256(id[:])
	s := newSession(id, lease.SecretDigest(sum[:16]))
	w.mu.Lock()
	defer w.mu.Unlock()
	c.session = s
	return s
}

// noSeatInUse checks that the sessions that said goodbye hold nothing.
func (w *world) noSeatInUse() {
	w.nodes[0].current().ReadStale(func(b *lease.Book) {
		w.mu.Lock()
		defer w.mu.Unlock()
		open := map[lease.SessionID]bool{}
		for _, c := range w.clients {
			if c.session != nil && c.session.seq > 0 {
				open[c.session.id] = true
			}
		}
		leases, _ := b.Leases(lease.Filter{}, 0, 1000)
		for _, l := range leases {
			if open[l.Session] {
				w.fail("L7", "lease %d of %s is still held by a session that was closed", l.ID, l.Feature)
			}
		}
	})
}
