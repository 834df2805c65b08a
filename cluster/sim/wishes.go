package sim

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
)

// What clients of a ruled world do beside taking seats and giving them back.

// token is what a borrower has: it believes in its seats offline, whatever becomes of the
// session, until the token ends on the clock of its machine. It is not told of revocations.
type token struct {
	c       *client
	ref     lease.Ref
	feature string
	seats   []int
	belief  lease.Belief
}

// wish does one of them.
func (c *client) wish(ctx context.Context, s *session) {
	switch p := c.intn(100); {
	case p < 40:
		c.queueUp(ctx, s)
	case p < 55:
		c.takeSome(ctx, s)
	case p < 72:
		c.job(ctx, s)
	case p < 88:
		c.borrow(ctx, s)
	case p < 94:
		c.returnEarly(ctx)
	default:
		c.borrowLonger(ctx)
	}
}

// items names n different features.
func (c *client) items(n int) (list []lease.Item) {
	for len(list) < n {
		if it := ruledFeatures[c.intn(len(ruledFeatures))]; !slices.Contains(list, it) {
			list = append(list, it)
		}
	}
	return list
}

// numberedCheckout is a checkout of these items by the session, with its next number.
func (c *client) numberedCheckout(s *session, items []lease.Item) lease.Checkout {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	s.seq++
	return lease.Checkout{
		Tenant: lease.DefaultTenant, Principal: lease.Principal{User: c.user, Host: c.host}, Items: items, Session: s.ref(s.seq),
	}
}

// asked sends a checkout and takes in what it came to. answered is false if nobody knows.
func (c *client) asked(ctx context.Context, s *session, cmd lease.Checkout) (refusal *lease.Refusal, answered bool) {
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
		return nil, false
	case a.Reply.Refusal != nil:
		c.refused(s, a.Reply.Refusal)
		return a.Reply.Refusal, true
	}
	for _, l := range a.Reply.Leases {
		c.confirm(s, l, sent)
	}
	return nil, true
}

// queueUp waits in the queue, as the SDK does: it asks again with the same number until it
// has its seats or its time is over. Some vanish from the queue without a word.
func (c *client) queueUp(ctx context.Context, s *session) {
	cmd := c.numberedCheckout(s, c.items(1+c.intn(2)))
	until := time.Now().Add(time.Second + c.upTo(longestWait))
	for {
		cmd.Wait = max(time.Until(until), time.Millisecond)
		refusal, answered := c.asked(ctx, s, cmd)
		if !answered || refusal == nil || refusal.Final || c.gone(s) || c.chance(5) {
			return
		}
		if refusal.Reason == lease.SessionUnknown || refusal.Reason == lease.Overloaded {
			return
		}
		if !c.pause(ctx, time.Second+c.upTo(2*time.Second)) {
			return
		}
		if time.Now().After(until) {
			break
		}
	}
	if c.chance(50) {
		c.w.mu.Lock()
		leave := lease.Leave{Session: s.ref(0)}
		c.w.mu.Unlock()
		c.call(ctx, func() lease.Command { return leave })
		return
	}
	cmd.Wait = 0 // asks for the last time
	c.asked(ctx, s, cmd)
}

// takeSome takes of several things what can be had.
func (c *client) takeSome(ctx context.Context, s *session) {
	cmd := c.numberedCheckout(s, c.items(2+c.intn(2)))
	cmd.Partial = true
	c.asked(ctx, s, cmd)
}

// job is what a scheduler does: it books, starts the job a little later, and the job asks
// for what is booked, perhaps too late.
func (c *client) job(ctx context.Context, s *session) {
	it := c.items(1)
	book := lease.MakeBooking{ID: fmt.Sprintf("job-%s-%d", c.name, c.intn(1<<30)), Items: it, For: 5*time.Second + c.upTo(longestBooked-5*time.Second), By: "scheduler"}
	if c.chance(70) {
		book.Only = lease.Principal{User: c.user}
	}
	a, err := c.call(ctx, func() lease.Command { return book })
	if err != nil || a.Reply.Refusal != nil || !c.pause(ctx, c.upTo(8*time.Second)) {
		return
	}
	cmd := c.numberedCheckout(s, it)
	cmd.Booking = book.ID
	c.asked(ctx, s, cmd)
}

// borrow takes a seat of field for a while that no heartbeat is needed for.
func (c *client) borrow(ctx context.Context, s *session) {
	x := c.numberedCheckout(s, []lease.Item{{Feature: "field", Count: 1}})
	cmd := lease.Borrow{Tenant: x.Tenant, Session: x.Session, Principal: x.Principal, Item: x.Items[0], For: 2*time.Second + c.upTo(longestBorrow-2*time.Second)}
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
		return // nobody has the token; the seat comes back by itself
	case a.Reply.Refusal != nil:
		c.refused(s, a.Reply.Refusal)
	case a.Reply.Lent == nil || len(a.Reply.Leases) == 0:
		return // a replay of what has ended meanwhile
	default:
		l := a.Reply.Leases[0]
		if _, under := s.returning[l.ID]; under || s.returned[l.ID] || s.closing {
			return // it is being given back
		}
		was := lease.Belief{}
		if h := s.held[l.ID]; h != nil {
			was = h.belief
			delete(s.held, l.ID)
		}
		c.w.take(c, &was, l, sent)
	}
}

// ownToken picks one of the client's tokens that have not ended; nil: it has none.
func (c *client) ownToken() *token {
	n := c.intn(1 << 20)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	var own []*token
	for _, t := range c.w.tokens {
		if t.c == c && t.belief.State(c.now()) != lease.Gone {
			own = append(own, t)
		}
	}
	if len(own) == 0 {
		return nil
	}
	return own[n%len(own)]
}

// returnEarly throws a token away and then says so, perhaps from another run.
func (c *client) returnEarly(ctx context.Context) {
	t := c.ownToken()
	if t == nil {
		return
	}
	c.w.mu.Lock()
	t.belief.End()
	c.w.mu.Unlock()
	c.call(ctx, func() lease.Command { return lease.ReturnEarly{Ref: t.ref} })
}

func (c *client) borrowLonger(ctx context.Context) {
	t := c.ownToken()
	if t == nil {
		return
	}
	var sent lease.Instant
	d := time.Second + c.upTo(longestBorrow-time.Second)
	a, err := c.call(ctx, func() lease.Command {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		sent = c.now()
		return lease.RenewBorrow{Ref: t.ref, For: d}
	})
	if err == nil && a.Reply.Refusal == nil && len(a.Reply.Leases) > 0 {
		c.w.mu.Lock()
		defer c.w.mu.Unlock()
		t.belief.Confirm(sent, a.Reply.Leases[0].Remaining, 0)
		c.w.tokenHolds(t)
	}
}

// renewBriefly is the heartbeat of many, which an agent sends for those it serves. What it
// confirms is what its last full heartbeat was told, and only where nothing is in doubt: the
// cluster must mean the same leases, which a seat that is being borrowed is not one of.
func (c *client) renewBriefly(ctx context.Context, s *session) (every time.Duration, ok bool) {
	if !c.w.cfg.Ruled || !c.chance(40) {
		return 0, false
	}
	c.w.mu.Lock()
	ref, sent, may := s.ref(0), c.now(), s.briefly && len(s.held) > 0
	c.w.mu.Unlock()
	if !may {
		return 0, false
	}
	stranger := lease.SessionID{0xbb, byte(c.n)}
	cmd := lease.RenewMany{Sessions: []lease.Heartbeat{{ID: stranger}, {ID: ref.ID, Digest: ref.Digest, Incarnation: ref.Incarnation}}}
	a, err := c.call(ctx, func() lease.Command { return cmd })
	if err != nil || len(a.Reply.Renewed) != 2 {
		return 0, false
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	r := a.Reply.Renewed[1]
	if ref.Incarnation != s.incarnation || r.Reason != "" || r.News || !s.briefly || r.HeldSum != lease.SumRefs(s.heldRefs) {
		s.briefly = false
		return 0, false // the full heartbeat tells
	}
	for _, id := range slices.Sorted(maps.Keys(s.held)) {
		h := s.held[id]
		if h.since > sent || h.belief.State(c.now()) == lease.Gone {
			continue // the answer is older than the lease, or the lease was lost
		}
		h.belief.Confirm(sent, r.Remaining, r.Grace)
		c.w.believes(c, h)
	}
	return r.Heartbeat, true
}

// heldRefs yields the leases that the session believes in.
func (s *session) heldRefs(yield func(lease.Ref) bool) {
	for _, h := range s.held {
		if !yield(h.Ref) {
			return
		}
	}
}

// take makes a token of a borrowed lease; the world's lock is held.
func (w *world) take(c *client, was *lease.Belief, l lease.Lease, sent lease.Instant) {
	for _, t := range w.tokens {
		if t.ref == l.Ref && t.c == c {
			t.belief.Confirm(sent, l.Remaining, 0)
			w.tokenHolds(t)
			return
		}
	}
	t := &token{c: c, ref: l.Ref, feature: l.Feature, seats: l.Seats, belief: *was}
	t.belief.Confirm(sent, l.Remaining, 0)
	w.tokens = append(w.tokens, t)
	w.tokenHolds(t)
}

// hasToken says whether somebody holds a token for the lease, used up or not.
func (w *world) hasToken(r lease.Ref) bool {
	return slices.ContainsFunc(w.tokens, func(t *token) bool { return t.ref == r })
}

// awakeToken says whether its holder is awake and believes in it, and an operator has not
// taken the overdraft on himself.
func (w *world) awakeToken(t *token) bool {
	return !w.killed[t.ref.ID] && time.Until(t.c.asleepUntil) <= 0 && t.belief.State(t.c.now()) != lease.Gone
}

// tokenHolds checks L2 for what is believed offline.
func (w *world) tokenHolds(t *token) {
	if !w.awakeToken(t) {
		return
	}
	for _, o := range w.clients {
		if o.session == nil || time.Until(o.asleepUntil) > 0 {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(o.session.held)) {
			if h := o.session.held[id]; h.Ref != t.ref && h.Feature == t.feature && !w.killed[id] && overlap(h.Seats, t.seats) && h.belief.State(o.now()) != lease.Gone {
				w.fail("L2", "%s believes in its token of lease %d and %s in lease %d: seat %v of %s", t.c.name, t.ref.ID, o.name, id, h.Seats, t.feature)
			}
		}
	}
	for _, u := range w.tokens {
		if u != t && u.ref != t.ref && u.feature == t.feature && overlap(u.seats, t.seats) && w.awakeToken(u) {
			w.fail("L2", "%s and %s both believe in tokens of seat %v of %s: leases %d and %d", t.c.name, u.c.name, t.seats, t.feature, t.ref.ID, u.ref.ID)
		}
	}
}

// believesBesideTokens checks what somebody holds against what others believe offline.
func (w *world) believesBesideTokens(c *client, h *holding) {
	for _, t := range w.tokens {
		if t.ref != h.Ref && t.feature == h.Feature && overlap(t.seats, h.Seats) && w.awakeToken(t) {
			w.fail("L2", "%s (lease %d, token %d) believes in seat %v of %s, which %s has borrowed (lease %d, token %d)", c.name, h.ID, h.Token, h.Seats, h.Feature, t.c.name, t.ref.ID, t.ref.Token)
		}
	}
}

var restoreByOperator = cluster.RestoreOptions{By: "operator"}

// backup is what an operator would keep; nil if there is none to be had.
func (w *world) backup(ctx context.Context, n *cluster.Node) []byte {
	b, err := n.Backup(ctx)
	if err != nil {
		return nil
	}
	var buf bytes.Buffer
	if _, err := b.WriteTo(&buf); err != nil {
		return nil
	}
	return buf.Bytes()
}
