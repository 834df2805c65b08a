package client

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// maxPoll bounds how long one request waits for seats at a node, so that other calls
// of the session get their turn and a dead path is noticed.
const maxPoll = 5 * time.Second

// QueueMargin is how much longer than the wait a place in the queue is kept: so the last
// request, which does not wait, finds it and ends it. A wait without seats is one denial.
const QueueMargin = 2 * time.Second

// Checkout takes seats for every item or for none. Asking again for what the session
// holds gives the same lease. No free seat is an *Error with lease.NoSeats at once.
func (s *Session) Checkout(ctx context.Context, items ...Item) ([]*Lease, error) {
	return s.CheckoutWait(ctx, 0, items...)
}

// CheckoutWait is Checkout that waits for seats up to wait, or until ctx ends. It has a
// place in the cluster's queue, which it keeps across changes of leader; when the time is
// over the error is lease.NoSeats.
func (s *Session) CheckoutWait(ctx context.Context, wait time.Duration, items ...Item) ([]*Lease, error) {
	leases, _, err := s.checkout(ctx, wait, false, items)
	return leases, err
}

// Refused is an item that a partial checkout did not get, and why.
type Refused struct {
	Item Item
	Err  *Error
}

// CheckoutPartial takes seats for the items that can be had now, and says why not for the
// others. It fails when there is none.
func (s *Session) CheckoutPartial(ctx context.Context, items ...Item) ([]*Lease, []Refused, error) {
	return s.checkout(ctx, 0, true, items)
}

func (s *Session) checkout(ctx context.Context, wait time.Duration, partial bool, items []Item) ([]*Lease, []Refused, error) {
	if len(items) == 0 || len(items) > lease.MaxItems {
		return nil, nil, &Error{Reason: lease.Invalid, Message: "a checkout names 1 to 64 features", Final: true}
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.c.cfg.CallTimeout+wait)
		defer cancel()
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	if wait > 0 {
		defer s.wait()()
	}
	until := s.c.now().Add(wait)
	restarted := false
	place := uint64(0) // our ticket in the queue
	for n := 0; ; n++ {
		began := s.c.now()
		left := max(until.Sub(began), 0)
		poll := min(left, maxPoll)
		if n == 0 && place == 0 && s.cfg.OnQueued != nil {
			poll = 0 // at first only to say where it stands
		}
		keep := left
		if left > 0 {
			keep += QueueMargin
		}
		leases, refused, err := s.checkoutOnce(ctx, poll, keep, partial, items)
		e, _ := err.(*Error)
		if e != nil && e.ticket != 0 {
			place = e.ticket
			s.tellQueued(e.Position)
		}
		switch {
		case e == nil:
			return leases, refused, err
		case e.Reason == lease.SessionUnknown && !restarted:
			restarted = true // a new session was minted: ask with that
			continue
		case e.Reason == lease.Overloaded:
			restarted = false
			if s.c.pause(ctx, e.RetryAfter, n, s.c.cfg.RetryInterval) != nil {
				s.quitQueue(place)
				return nil, nil, err
			}
			continue
		case !waitable(e) || left == 0:
			s.quitQueue(place)
			return nil, nil, err
		}
		restarted = false
		left = max(until.Sub(s.c.now()), 0)
		if s.c.now().Sub(began) >= maxPoll/2 {
			n = 0 // the node did wait: get back in line soon
		}
		if sleep(ctx, min(retryAfter(e.RetryAfter, n, s.c.cfg.RetryInterval, s.c.jitter()), left)) != nil {
			s.quitQueue(place)
			return nil, nil, err
		}
	}
}

// waitable says whether a seat may come free for this refusal.
func waitable(e *Error) bool {
	switch e.Reason {
	case lease.NoSeats, lease.SessionsExceeded, lease.MaxReached, lease.ReservedForOthers, lease.InQueue:
		return !e.Final
	}
	return false
}

// numbering is the identity of one numbered request.
type numbering struct {
	gen, incarnation, seq uint64
	id, secret            string
	plan                  plan
}

// enter waits for the session's turn and numbers a request. Every enter without error
// is followed by one leave.
func (s *Session) enter(ctx context.Context, wait time.Duration) (numbering, error) {
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.over != nil {
			return numbering{}, s.over
		}
		return numbering{}, &Error{Reason: Unreachable, Message: "another call of the session did not end", Cause: ctx.Err()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over != nil {
		<-s.calls
		return numbering{}, s.over
	}
	s.numbered++
	p := s.plan(wait)
	p.laps = s.c.cfg.RetryCount
	return numbering{gen: s.gen, incarnation: s.incarnation, seq: s.seq + 1, id: s.id.String(), secret: s.secret, plan: p}, nil
}

// exit ends a numbered request. Its number is used up, for the cluster may remember a
// refusal too, unless the request certainly never got there. err is the request's
// outcome, rewritten if the session ended meanwhile. The caller holds mu.
func (s *Session) exit(n numbering, a answer, err error) error {
	s.numbered++
	<-s.calls
	reason := ReasonOf(err)
	if n.gen == s.gen {
		if err == nil || a.doubted || reason != Unreachable {
			s.seq = n.seq
		}
		if err == nil || a.doubted || reason == lease.InQueue { // a place in the queue is the session's
			s.opened = true
		}
	}
	switch {
	case s.over != nil:
		return s.over
	case n.gen != s.gen:
		return &Error{Reason: lease.SessionUnknown, Message: "the session was reclaimed meanwhile"}
	case reason == lease.SessionUnknown && !s.opened && n.seq > 1:
		s.seq = 0 // refusals alone did not open it: the numbers begin anew
	case reason == lease.SessionUnknown:
		if e := s.restart(n.gen); e != nil {
			return e
		}
	}
	if a.doubted && err != nil {
		// What came of it shows in a heartbeat, which also returns what nobody wants.
		s.nextBeat, s.whole = s.c.now(), true
		s.nudge()
	}
	return err
}

// checkoutOnce asks once, waiting at the node up to wait; its place in the queue is to be
// kept for keep.
func (s *Session) checkoutOnce(ctx context.Context, wait, keep time.Duration, partial bool, items []Item) ([]*Lease, []Refused, error) {
	n, err := s.enter(ctx, wait)
	if err != nil {
		return nil, nil, err
	}
	p := s.cfg.Principal
	req := &pb.CheckoutRequest{Items: wireItems(items), User: p.User, Host: p.Host, Display: p.Display,
		VendorDefined: p.VendorDefined, Project: p.Project, InstanceId: s.cfg.InstanceID, Tenant: s.c.cfg.Tenant,
		SessionId: n.id, SessionSecret: n.secret, Incarnation: n.incarnation, Seq: n.seq,
		WaitMs: uint32(wait.Milliseconds()), QueueMs: uint32(min(keep, lease.MaxWait).Milliseconds()), Booking: s.cfg.Booking, Partial: partial}
	n.plan.tellBusy = true
	var resp *pb.CheckoutResponse
	a, err := s.c.do(ctx, n.plan, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (err error) {
		resp, err = s.c.seatsOver(cc).Checkout(ctx, req, opts...)
		return err
	})
	s.mu.Lock()
	if err = s.exit(n, a, err); err != nil {
		s.mu.Unlock()
		return nil, nil, err
	}
	leases, late := s.grant(a.sent, resp)
	s.nudge()
	s.mu.Unlock()
	if len(leases)+len(resp.Refused) < len(items) {
		for _, l := range leases {
			_ = l.CheckIn(ctx)
		}
		return nil, nil, &Error{Reason: lease.Fenced, Message: "a seat was taken back before the answer to the checkout arrived"}
	}
	if late {
		// The answer came after what it promised: a heartbeat says how things stand.
		_ = s.beat(ctx)
	}
	return leases, refusedOf(resp.Refused), nil
}

// grant takes in the answer to a checkout. late is true when a lease is not active by
// the time the answer is here. The caller holds mu.
func (s *Session) grant(sent Instant, resp *pb.CheckoutResponse) (leases []*Lease, late bool) {
	now := s.c.now()
	s.setHeartbeat(resp.Session, resp.Leases, sent, false)
	for _, l := range resp.Leases {
		ref := lease.Ref{ID: lease.ID(l.Id), Token: lease.Token(l.FencingToken)}
		h := s.held[ref.ID]
		if h == nil || h.ref != ref {
			h = s.hold(ref)
		}
		delete(s.returning, ref.ID) // it was asked for again
		h.confirm(sent, l)
		h.claims++
		s.show(h, now)
		late = late || h.shown != Active
		leases = append(leases, &Lease{s: s, h: h, claimed: true})
	}
	return leases, late
}

// hold makes the record of a lease. The caller holds mu.
func (s *Session) hold(ref lease.Ref) *holding {
	h := &holding{ref: ref, fresh: true, lost: make(chan struct{})}
	close(h.lost) // until it is confirmed
	s.held[ref.ID] = h
	return h
}

// giveBack returns one lease that nobody here holds any more. If its fate stays
// unknown it remains on the list, and the heartbeat comes back to it.
func (s *Session) giveBack(ctx context.Context, id lease.ID) error {
	ctx, cancel := s.within(ctx)
	defer cancel()
	n, err := s.enter(ctx, 0)
	if err != nil {
		return err
	}
	s.mu.Lock()
	ref, still := s.returning[id]
	if !still || n.gen != s.gen {
		s.numbered++
		<-s.calls
		s.mu.Unlock()
		return nil // returned already, or checked out again
	}
	s.mu.Unlock()
	req := &pb.CheckinRequest{SessionId: n.id, SessionSecret: n.secret, Incarnation: n.incarnation, Seq: n.seq, Tenant: s.c.cfg.Tenant,
		Refs: []*pb.LeaseRef{{Id: uint64(ref.ID), FencingToken: uint64(ref.Token)}}}
	a, err := s.c.do(ctx, n.plan, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		_, err := s.c.seatsOver(cc).Checkin(ctx, req, opts...)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.exit(n, a, err)
	switch ReasonOf(err) {
	case "", lease.Fenced, lease.SessionUnknown, lease.Invalid:
		delete(s.returning, id) // the cluster does not count it as ours any more
	}
	if reasonIs(err, lease.SessionUnknown) {
		return nil
	}
	return err
}

// toReturn lists the leases still to be given back. The caller holds mu.
func (s *Session) toReturn() []lease.ID {
	ids := make([]lease.ID, 0, len(s.returning))
	for id := range s.returning {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
