package client

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// maxNap bounds how long the heartbeat sleeps without a look at the clock: timers
	// do not count suspend, the clock does.
	maxNap = 5 * time.Second
	// minNap keeps a local clock that is slower than the timers from a busy loop.
	minNap = time.Millisecond
	// minHeartbeat is the shortest interval a server can ask for: a third of the
	// shortest lifespan.
	minHeartbeat = lease.MinLifespan / lease.HeartbeatFraction
	// beatBudget is how long one heartbeat goes on trying before it is counted as
	// failed and begun anew with what is held then.
	beatBudget = 10 * time.Second
	// jitterShare is the part of the interval by which a heartbeat may come early, so
	// that clients that started together do not beat together. It is never late.
	jitterShare = 0.2
)

// nudge makes the heartbeat look at its state again.
func (s *Session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run is the one goroutine of a session: it announces what the clock changes and sends
// the heartbeats, each in a goroutine that ends with its answer, so that a heartbeat
// that hangs delays no announcement.
func (s *Session) run() {
	defer close(s.exited)
	var beating chan struct{}
	timer := time.NewTimer(maxNap)
	defer timer.Stop()
	for {
		if beating == nil && s.ctx.Err() == nil && s.beatDue() {
			finished := make(chan struct{})
			beating = finished
			go func() {
				defer close(finished)
				s.upkeep()
			}()
		}
		timer.Reset(s.look(beating != nil))
		select {
		case <-beating:
			beating = nil
		case <-s.wake:
		case <-timer.C:
		case <-s.ctx.Done():
			if beating != nil {
				<-beating
			}
			return
		}
	}
}

// look announces what has changed by now and says how long nothing will.
func (s *Session) look(beating bool) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.c.now()
	nap := maxNap
	for _, h := range s.held {
		s.show(h, now)
		if at, ok := h.belief.NextChange(now); ok {
			nap = min(nap, at.Sub(now))
		}
	}
	if s.opened && !beating {
		nap = min(nap, s.nextBeat.Sub(now))
	}
	return max(nap, minNap)
}

func (s *Session) beatDue() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.opened {
		return false
	}
	return s.c.now() >= s.nextBeat || s.c.membersDue()
}

// upkeep is one heartbeat and what goes with it: the member list, and leases to be
// given back.
func (s *Session) upkeep() {
	s.mu.Lock()
	due := s.opened && s.c.now() >= s.nextBeat
	budget := max(s.heartbeat, beatBudget)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.ctx, budget)
	defer cancel()
	if due {
		if s.beatAsDue(ctx) != nil {
			return
		}
		s.mu.Lock()
		back := s.toReturn()
		s.mu.Unlock()
		for _, id := range back {
			if s.giveBack(ctx, id) != nil {
				break
			}
		}
	}
	if s.c.membersDue() {
		s.c.refreshMembers(ctx)
	}
}

// beat sends one heartbeat and takes in its answer.
func (s *Session) beat(ctx context.Context) error {
	idle := s.idle()
	s.mu.Lock()
	gen, numbered := s.gen, s.numbered
	req := &pb.RenewRequest{SessionId: s.id.String(), SessionSecret: s.secret, Incarnation: s.incarnation, Tenant: s.c.cfg.Tenant, IdleMs: idle}
	for ref := range s.heldRefs() {
		req.Held = append(req.Held, &pb.LeaseRef{Id: uint64(ref.ID), FencingToken: uint64(ref.Token)})
	}
	adopting := s.resuming
	p := s.plan(0)
	p.patient = true
	s.mu.Unlock()
	var resp *pb.RenewResponse
	a, err := s.c.do(ctx, p, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (err error) {
		resp, err = s.c.seatsOver(cc).Renew(ctx, req, opts...)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if gen != s.gen || s.over != nil {
		return err // about an id that is no longer ours
	}
	if err != nil {
		s.whole = true // it may have been told of losses in an answer that did not arrive
		return s.beatFailed(gen, err)
	}
	s.failures, s.resuming, s.whole = 0, false, false
	s.setHeartbeat(resp.Session, resp.Leases, a.sent, true)
	// With a numbered request beside it the answer may be older than what we know.
	quiet := numbered == s.numbered && numbered%2 == 0 && s.waiting == 0
	s.takeIn(a.sent, req.Held, resp, adopting, quiet)
	return nil
}

// idle asks the application how long nobody has worked with it; nil: it does not say.
func (s *Session) idle() *uint64 {
	if s.cfg.Idle == nil {
		return nil
	}
	ms := millisOf(s.cfg.Idle())
	return &ms
}

// beatFailed decides what a heartbeat without success means. The caller holds mu.
func (s *Session) beatFailed(gen uint64, err error) error {
	e, ok := err.(*Error)
	if !ok {
		return err
	}
	switch e.Reason {
	case lease.SessionUnknown:
		if e := s.restart(gen); e != nil {
			return e
		}
	case lease.Fenced:
		s.fence(e)
	default:
		limit := s.plan(0).pauseLimit
		s.nextBeat = s.c.now().Add(max(fullJitter(s.failures, limit, s.c.jitter()), minNap))
		s.failures++
	}
	return err
}

// heldRefs goes through what the session believes it holds. The caller holds mu.
func (s *Session) heldRefs() func(yield func(lease.Ref) bool) {
	return func(yield func(lease.Ref) bool) {
		for _, h := range s.held {
			if !yield(h.ref) {
				return
			}
		}
	}
}

// takeIn makes the answer to a heartbeat our view. adopting: unknown leases are those
// of the run before. quiet: no numbered request ran beside it, so an unknown lease is
// one that a call gave up on. The caller holds mu.
func (s *Session) takeIn(sent Instant, asked []*pb.LeaseRef, resp *pb.RenewResponse, adopting, quiet bool) {
	now := s.c.now()
	alive := map[lease.ID]bool{}
	for _, l := range resp.Leases {
		ref := lease.Ref{ID: lease.ID(l.Id), Token: lease.Token(l.FencingToken)}
		alive[ref.ID] = true
		h := s.held[ref.ID]
		switch {
		case h != nil && h.ref == ref:
		case l.State == lease.Borrowed.String():
			continue // whoever has its token has the seat
		case h == nil && adopting:
			h = s.hold(ref)
		case h == nil && quiet:
			s.returning[ref.ID] = ref
			continue
		default:
			continue
		}
		h.confirm(sent, l)
		s.show(h, now)
	}
	for _, l := range resp.Lost {
		alive[lease.ID(l.Id)] = true // dealt with
		s.drop(lease.Ref{ID: lease.ID(l.Id), Token: lease.Token(l.FencingToken)}, lease.Reason(l.Reason))
	}
	for _, r := range asked {
		if !alive[lease.ID(r.Id)] {
			s.drop(lease.Ref{ID: lease.ID(r.Id), Token: lease.Token(r.FencingToken)}, lease.Fenced)
		}
	}
	if quiet {
		for id := range s.returning {
			if !alive[id] {
				delete(s.returning, id)
			}
		}
	}
}

// drop ends a lease that the cluster says is not ours. The caller holds mu.
func (s *Session) drop(ref lease.Ref, reason lease.Reason) {
	if reason == "" || reason == "release_0" {
		reason = lease.Fenced // the cluster does not remember, but it is not ours
	}
	if h := s.held[ref.ID]; h != nil && h.ref == ref {
		s.end(h, reason)
		delete(s.held, ref.ID)
	}
}

// setHeartbeat plans the next heartbeat after an answer: as often as the server asks,
// more often if the application wants, a little early by chance. A checkout never puts
// off a heartbeat that is due earlier: it need not extend the leases held before. The
// caller holds mu.
func (s *Session) setHeartbeat(info *pb.Session, leases []*pb.Lease, sent Instant, renewed bool) {
	every := time.Duration(info.GetHeartbeatMs()) * time.Millisecond
	for _, l := range leases {
		if every == 0 && l.RemainingMs > 0 {
			every = time.Duration(l.RemainingMs) * time.Millisecond / lease.HeartbeatFraction
		}
	}
	if every == 0 {
		every = lease.DefaultProfile.Lifespan / lease.HeartbeatFraction
	}
	if s.c.cfg.CheckInterval > 0 {
		every = min(every, s.c.cfg.CheckInterval)
	}
	s.heartbeat = max(every, minHeartbeat)
	early := time.Duration(s.c.jitter() * jitterShare * float64(s.heartbeat))
	if next := sent.Add(s.heartbeat - early); renewed || s.nextBeat == 0 || next < s.nextBeat {
		s.nextBeat = next
	}
}
