package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
)

// client is one workstation: it runs sessions one after another, over a network that
// delays, loses and duplicates, on a clock that drifts and a machine that sleeps. It
// keeps to the protocol of the SDK: deadlines from send, one heartbeat for all leases,
// retries with the same seq, a resume with a higher incarnation.
type client struct {
	w          *world
	n          int
	name       string
	user, host string
	rate       float64

	mu  sync.Mutex // guards rnd, which several goroutines of the client draw from
	rnd *rand.Rand

	// Guarded by the world's lock.
	asleepUntil time.Time
	slept       time.Duration
	leader      string
	session     *session
}

// session is one session of a client over its incarnations.
type session struct {
	id          lease.SessionID
	digest      lease.SecretDigest
	incarnation uint64
	seq         uint64
	held        map[lease.ID]*holding
	// returning are leases the application gave up; an answer that was under way then
	// must not bring them back. They are named again until the cluster has answered.
	returning map[lease.ID]lease.Ref
	returned  map[lease.ID]bool
	// briefly: what is held is what the cluster listed; a short heartbeat serves.
	briefly bool
	// closing: the application ends the session; no answer under way begins a belief.
	closing bool
	over    bool // the cluster does not know it any more
}

func newSession(id lease.SessionID, digest lease.SecretDigest) *session {
	return &session{id: id, digest: digest, incarnation: 1, held: map[lease.ID]*holding{}, returning: map[lease.ID]lease.Ref{}, returned: map[lease.ID]bool{}}
}

// refs lists what is held, in order.
func (s *session) refs() (refs []lease.Ref) {
	for _, id := range slices.Sorted(maps.Keys(s.held)) {
		refs = append(refs, s.held[id].Ref)
	}
	return refs
}

type holding struct {
	lease.Lease
	belief lease.Belief
	since  lease.Instant // when the first request that showed it was sent
}

func newClient(w *world, i int) *client {
	rnd := stream(w.cfg.Seed, 1000+uint64(i))
	return &client{
		w: w, n: i, name: fmt.Sprintf("c%d", i), rnd: rnd,
		// Some are the same user at the same host, so that they share.
		user: fmt.Sprintf("user%d", i%3), host: fmt.Sprintf("host%d", i%2),
		rate: 1 + (rnd.Float64()*2-1)*0.0008,
	}
}

func (c *client) intn(n int) int { c.mu.Lock(); defer c.mu.Unlock(); return c.rnd.IntN(n) }

func (c *client) chance(percent int) bool { return c.intn(100) < percent }

func (c *client) upTo(d time.Duration) time.Duration { return time.Duration(c.intn(int(d))) }

// now reads the client's clock; the world's lock is held. It counts sleep.
func (c *client) now() lease.Instant {
	r := c.w.real()
	if lease.Broken(lease.GuardSuspend) {
		r -= c.slept
	}
	return lease.Instant(float64(r) * c.rate)
}

// awake waits while the machine sleeps, and says whether ctx goes on.
func (c *client) awake(ctx context.Context) bool {
	for {
		c.w.mu.Lock()
		d := time.Until(c.asleepUntil)
		c.w.mu.Unlock()
		if d <= 0 {
			return ctx.Err() == nil
		}
		time.Sleep(d)
	}
}

func (c *client) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		return false
	}
	return c.awake(ctx)
}

// run lives one session after another until ctx ends.
func (c *client) run(ctx context.Context) {
	for c.pause(ctx, c.upTo(3*time.Second)) {
		var id lease.SessionID
		for i := range id {
			id[i] = byte(c.intn(256))
		}
		id[15] = byte(c.n + 1)
		sum := sha256.Sum256(id[:])
		s := newSession(id, lease.SecretDigest(sum[:16]))
		c.w.mu.Lock()
		c.session = s
		c.w.mu.Unlock()
		for c.incarnation(ctx, s) {
		}
	}
}

// incarnation is one process run of a session. It returns true when the application
// crashed and starts again with the session it finds in its state file.
func (c *client) incarnation(ctx context.Context, s *session) (again bool) {
	run, stop := context.WithCancel(ctx)
	var beat sync.WaitGroup
	beat.Go(func() { c.heartbeats(run, s) })
	defer beat.Wait()
	defer stop()
	for range 3 + c.intn(12) {
		if !c.pause(run, c.upTo(6*time.Second)) || c.gone(s) {
			return false
		}
		if c.w.cfg.Ruled && c.chance(50) {
			c.wish(run, s)
			continue
		}
		switch p := c.intn(100); {
		case p < 55:
			c.checkout(run, s)
		case p < 75:
			c.checkin(run, s, false)
		case p < 80:
			c.sleep(s)
		case p < 88:
			c.w.mu.Lock()
			c.w.note("%s crashes and comes back", c.name)
			clear(s.held)
			s.incarnation++
			s.seq = 0
			c.w.mu.Unlock()
			return c.pause(ctx, c.upTo(10*time.Second))
		case p < 91:
			c.w.mu.Lock()
			c.w.note("%s crashes for good", c.name)
			clear(s.held)
			c.w.mu.Unlock()
			return false
		case p < 95:
			c.checkin(run, s, true)
			return false
		}
	}
	c.checkin(run, s, true)
	return false
}

func (c *client) gone(s *session) bool { c.w.mu.Lock(); defer c.w.mu.Unlock(); return s.over }

// sleep suspends the machine.
func (c *client) sleep(s *session) {
	d := c.upTo(60 * time.Second)
	c.w.mu.Lock()
	c.w.note("%s sleeps for %v", c.name, d)
	c.asleepUntil = time.Now().Add(d)
	c.w.mu.Unlock()
	time.Sleep(d)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.slept += d
	for _, h := range s.held { // the application looks at what it has
		c.w.believes(c, h)
	}
}

// heartbeats renews until ctx ends, first of all to adopt what an earlier incarnation held.
func (c *client) heartbeats(ctx context.Context, s *session) {
	for {
		every := usual.Lifespan / lease.HeartbeatFraction
		if d, ok := c.renewBriefly(ctx, s); ok {
			every = d
		} else if r, ok := c.renew(ctx, s); ok && r.Session.Heartbeat > 0 {
			every = r.Session.Heartbeat
		} else if !ok {
			every = quick.Lifespan / lease.HeartbeatFraction / 2
		}
		if c.gone(s) || !c.pause(ctx, every*9/10+c.upTo(every/10)) {
			return
		}
	}
}

func (c *client) renew(ctx context.Context, s *session) (lease.Reply, bool) {
	c.w.mu.Lock()
	cmd := lease.Renew{Session: s.ref(0), Held: s.refs()}
	s.briefly = false
	fresh := s.seq == 0 && s.incarnation == 1
	sent := c.now()
	c.w.mu.Unlock()
	if fresh {
		return lease.Reply{}, false // nothing was opened yet
	}
	a, err := c.call(ctx, func() lease.Command { return cmd })
	if err != nil {
		return lease.Reply{}, false
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if cmd.Session.Incarnation != s.incarnation {
		return lease.Reply{}, false // the answer is for a process that is no more
	}
	if r := a.Reply.Refusal; r != nil {
		c.refused(s, r)
		return lease.Reply{}, false
	}
	for _, l := range a.Reply.Leases {
		c.confirm(s, l, sent)
	}
	s.briefly = true
	for _, x := range a.Reply.Lost {
		if h := s.held[x.ID]; h != nil {
			h.belief.End()
			delete(s.held, x.ID)
		}
	}
	return a.Reply, true
}

// refused takes in a refusal; the world's lock is held.
func (c *client) refused(s *session, r *lease.Refusal) {
	switch r.Reason {
	case lease.SessionUnknown:
		// Only a session that was really opened can be lost.
		s.over = true
		clear(s.held)
	case lease.Fenced, lease.StaleRequest, lease.Forbidden:
		c.w.fail("I2", "%s, incarnation %d, is the newest of its session and was refused: %v", c.name, s.incarnation, r)
	}
}

// confirm takes in a lease from an answer; the world's lock is held.
func (c *client) confirm(s *session, l lease.Lease, sent lease.Instant) {
	if _, under := s.returning[l.ID]; under || s.returned[l.ID] || s.closing {
		return
	}
	if l.State == lease.Borrowed { // its token says more
		if h := s.held[l.ID]; h != nil && !c.w.hasToken(l.Ref) {
			c.w.take(c, &h.belief, l, sent)
		}
		delete(s.held, l.ID)
		return
	}
	if c.w.hasToken(l.Ref) {
		return // the answer is older than the token, and the session holds it no more
	}
	h := s.held[l.ID]
	if h == nil {
		h = &holding{since: sent}
		s.held[l.ID] = h
	}
	h.Lease = l
	if lease.Broken(lease.GuardSendTime) {
		sent = c.now()
	}
	h.belief.Confirm(sent, l.Remaining, l.Grace)
	c.w.believes(c, h)
}

func (s *session) ref(seq uint64) lease.SessionRef {
	return lease.SessionRef{ID: s.id, Digest: s.digest, Incarnation: s.incarnation, Seq: seq}
}

func (c *client) checkout(ctx context.Context, s *session) {
	features := []string{"cad", "mesh", "shared", "solver"}
	cmd := lease.Checkout{
		Tenant: lease.DefaultTenant, Principal: lease.Principal{User: c.user, Host: c.host},
		Items: []lease.Item{{Feature: features[c.intn(4)], Count: 1}},
	}
	if cmd.Items[0].Feature == "solver" {
		cmd.Items[0].Count = 2 // always the same count, so that asking again is asking for what is held
	}
	if c.chance(15) {
		other := features[(c.intn(3)+1+slices.Index(features, cmd.Items[0].Feature))%4]
		it := lease.Item{Feature: other, Count: 1}
		if other == "solver" {
			it.Count = 2
		}
		cmd.Items = append(cmd.Items, it)
	}
	c.w.mu.Lock()
	s.seq++
	cmd.Session = s.ref(s.seq)
	c.w.mu.Unlock()
	var sent lease.Instant
	a, err := c.call(ctx, func() lease.Command {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		sent = c.now()
		return cmd
	})
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	switch {
	case err != nil || cmd.Session.Incarnation != s.incarnation:
		s.briefly = false
		return // abandoned: it may have happened; the next heartbeat tells
	case a.Reply.Refusal != nil:
		c.refused(s, a.Reply.Refusal)
		return
	}
	for _, l := range a.Reply.Leases {
		c.confirm(s, l, sent)
	}
}

// checkin gives one lease back, or with end all, and the session. The application stops
// using a seat before it says so.
func (c *client) checkin(ctx context.Context, s *session, end bool) {
	c.w.mu.Lock()
	s.closing = s.closing || end
	give := s.refs()
	if !end {
		give = give[:min(1, len(give))]
	}
	for _, r := range give {
		s.held[r.ID].belief.End()
		delete(s.held, r.ID)
		s.returning[r.ID] = r
	}
	if len(s.returning) == 0 && !end || s.seq == 0 {
		c.w.mu.Unlock()
		return
	}
	s.seq++
	cmd := lease.CheckIn{Session: s.ref(s.seq), Close: end}
	for _, id := range slices.Sorted(maps.Keys(s.returning)) {
		cmd.Refs = append(cmd.Refs, s.returning[id])
	}
	c.w.mu.Unlock()
	a, err := c.call(ctx, func() lease.Command { return cmd })
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if err == nil {
		if a.Reply.Refusal != nil && a.Reply.Refusal.Reason == lease.SessionUnknown {
			s.over = true
		}
		for _, r := range cmd.Refs {
			delete(s.returning, r.ID)
			s.returned[r.ID] = true
		}
	}
	if end {
		s.over = true
	}
}

// farewell ends the client's last session after all faults were undone: it must be
// served now.
func (c *client) farewell() bool {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	c.w.mu.Lock()
	c.asleepUntil = time.Time{}
	s := c.session
	if s == nil || s.seq == 0 {
		c.w.mu.Unlock()
		return true
	}
	clear(s.held)
	s.seq++
	cmd := lease.CheckIn{Session: s.ref(s.seq), Close: true}
	c.w.mu.Unlock()
	for ctx.Err() == nil { // a client may give up; the cluster must not
		if _, err := c.call(ctx, func() lease.Command { return cmd }); err == nil {
			return true
		}
	}
	return false
}

var errAbandoned = errors.New("gave up: the outcome is unknown")

// maxTries is how often a client tries one request before it gives up.
const maxTries = 12

// call sends a request until there is a definite answer, the client gives up or ctx
// ends. Every try is the same request: same session, same seq.
func (c *client) call(ctx context.Context, request func() lease.Command) (cluster.Applied, error) {
	backoff := 50 * time.Millisecond
	for range maxTries {
		a, err := c.send(ctx, request())
		if !c.awake(ctx) {
			return a, errAbandoned
		}
		if err == nil {
			return a, nil
		}
		backoff = min(2*backoff, 2*time.Second)
		var other *cluster.NotLeaderError
		c.w.mu.Lock()
		c.leader = ""
		if errors.As(err, &other) && other.Leader.APIAddress != "" {
			c.leader = other.Leader.APIAddress
			backoff = 50 * time.Millisecond
		}
		c.w.mu.Unlock()
		if c.chance(3) || !c.pause(ctx, c.upTo(backoff)) {
			break
		}
	}
	return cluster.Applied{}, errAbandoned
}

// patience is how long a client waits for one answer.
const patience = 3 * time.Second

// lateness is how much later a duplicate may arrive.
const lateness = 20 * time.Second

type answer struct {
	applied cluster.Applied
	err     error
}

// send makes one try, sometimes with a duplicate that arrives later.
func (c *client) send(ctx context.Context, cmd lease.Command) (cluster.Applied, error) {
	c.w.mu.Lock()
	to := c.leader
	c.w.mu.Unlock()
	target := c.w.nodes[c.intn(len(c.w.nodes))]
	for _, n := range c.w.nodes {
		if n.name == to {
			target = n
		}
	}
	answers := make(chan answer, 1)
	go c.deliver(target, cmd, answers)
	if c.chance(4) {
		late, again := c.upTo(lateness), c.w.nodes[c.intn(len(c.w.nodes))]
		go func() {
			time.Sleep(late)
			c.deliver(again, cmd, make(chan answer, 1))
		}()
	}
	select {
	case a := <-answers:
		return a.applied, a.err
	case <-time.After(patience):
		return cluster.Applied{}, errAbandoned
	case <-ctx.Done():
		return cluster.Applied{}, ctx.Err()
	}
}

// deliver carries one copy of a request to a node and its answer back.
func (c *client) deliver(n *node, cmd lease.Command, answers chan<- answer) {
	if !c.w.net.pass(c.name, n.name) {
		return
	}
	if x, ok := cmd.(lease.Checkout); ok {
		// Each copy is marked, in a field no rule looks at, to be found in the log again.
		x.InstanceID = c.w.mark()
		cmd = x
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	a, err := n.propose(ctx, cmd)
	c.w.answered(cmd, a, err)
	if c.w.net.pass(n.name, c.name) {
		answers <- answer{a, err}
	}
}
