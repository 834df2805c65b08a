package client

import (
	"context"
	"encoding/hex"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// togetherShare is the part of its interval by which a session's heartbeat may be
	// brought forward to go along with another's: with a half, sessions that began at
	// different times are in one message after two intervals.
	togetherShare = 0.5
	// apartAfter is how long heartbeats go one by one after a node said that it takes
	// none together, or left out which leases they were about.
	apartAfter = 5 * time.Minute
)

// together is how a client sends the heartbeats of many sessions in one message.
type together struct {
	// turn holds one token: one message at a time, so that whoever waited for it finds
	// that its own heartbeat has gone out with it.
	turn chan struct{}
	// apartUntil is guarded by turn.
	apartUntil Instant
}

// member is one session of a message, as it was when the message was made.
type member struct {
	s   *Session
	gen uint64
}

// beatAsDue sends the heartbeat of a session for which it is time, together with those of
// others where that is asked for and possible.
func (s *Session) beatAsDue(ctx context.Context) error {
	t := s.c.together
	if t == nil {
		return s.beat(ctx)
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	done, err := s.beatTogether(ctx, t)
	<-t.turn
	if done {
		return err
	}
	return s.beat(ctx)
}

// beatTogether sends one message for this session and all others whose heartbeat is due
// soon. done is false when this one has to ask by itself. The caller holds the turn.
func (s *Session) beatTogether(ctx context.Context, t *together) (done bool, err error) {
	if !s.beatDueNow() {
		return true, nil // it went along with another's
	}
	if s.c.now() < t.apartUntil {
		return false, nil
	}
	members, req := s.c.gather(s)
	if len(members) < 2 || members[0].s != s {
		return false, nil
	}
	s.mu.Lock()
	p := s.plan(0)
	s.mu.Unlock()
	var resp *pb.RenewBatchResponse
	a, err := s.c.do(ctx, p, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (err error) {
		resp, err = pb.NewSeatsClient(cc).RenewBatch(ctx, req, opts...)
		return err
	})
	n := len(members)
	if reasonIs(err, lease.Invalid) || reasonIs(err, NotUpgraded) || err == nil && (len(resp.Results) != n || len(resp.RemainingMs) != n || len(resp.GraceMs) != n || len(resp.HeldSums) != n) {
		t.apartUntil = s.c.now().Add(apartAfter)
		return false, nil
	}
	early := s.c.jitter() * jitterShare
	for i, m := range members {
		m.s.mu.Lock()
		switch {
		case m.gen != m.s.gen || m.s.over != nil:
		case err == nil:
			m.s.takeShort(a.sent, resp, i, early)
		case m.s.c.now() >= m.s.nextBeat:
			_ = m.s.beatFailed(m.gen, err)
		}
		m.s.mu.Unlock()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return err != nil || !s.whole, err
}

// beatDueNow says whether it is time for the session's heartbeat.
func (s *Session) beatDueNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened && s.c.now() >= s.nextBeat
}

// gather makes the message of first, if it may go along with others, and all of those.
func (c *Client) gather(first *Session) ([]member, *pb.RenewBatchRequest) {
	c.mu.Lock()
	all := make([]*Session, 1, len(c.sessions)+1)
	all[0] = first
	for s := range c.sessions {
		if s != first {
			all = append(all, s)
		}
	}
	c.mu.Unlock()
	var members []member
	req := &pb.RenewBatchRequest{Tenant: c.cfg.Tenant}
	now := c.now()
	for _, s := range all {
		s.mu.Lock()
		soon := s.nextBeat <= now.Add(time.Duration(togetherShare*float64(s.heartbeat)))
		if s.opened && s.over == nil && soon && !s.needsWhole() && len(members) < lease.MaxRenewMany {
			members = append(members, member{s, s.gen})
			req.SessionIds = append(req.SessionIds, s.id[:]...)
			req.SessionSecrets = append(req.SessionSecrets, s.secret...)
			req.Incarnations = append(req.Incarnations, s.incarnation)
		}
		s.mu.Unlock()
	}
	return members, req
}

// needsWhole says whether the next heartbeat must name leases and be told of them, or say
// how long nobody has worked: then
// a place in a message for many is not enough. The caller holds mu.
func (s *Session) needsWhole() bool {
	return s.whole || s.resuming || s.cfg.Idle != nil || s.heartbeat == 0 || len(s.returning) > 0 || len(s.secret) != hex.EncodedLen(secretLen)
}

// takeShort takes in what a message came to for its i-th session. The short answer is
// about certain leases; only if they are exactly those that the session believes in does
// it confirm them. Everything else is for a whole heartbeat, at once. early is the part of
// the interval by which the next one may come early, the same for all. The caller holds mu.
func (s *Session) takeShort(sent Instant, r *pb.RenewBatchResponse, i int, early float64) {
	remaining, grace := time.Duration(r.RemainingMs[i])*time.Millisecond, time.Duration(r.GraceMs[i])*time.Millisecond
	if r.Results[i] != pb.RenewResult_RENEW_RESULT_RENEWED || remaining <= 0 || r.HeldSums[i] != lease.SumRefs(s.heldRefs()) {
		s.whole = true
		s.nextBeat = s.c.now()
		s.nudge()
		return
	}
	now := s.c.now()
	for _, h := range s.held {
		h.belief.Confirm(sent, remaining, grace)
		s.show(h, now)
	}
	every := remaining / lease.HeartbeatFraction
	if s.c.cfg.CheckInterval > 0 {
		every = min(every, s.c.cfg.CheckInterval)
	}
	s.heartbeat = max(every, minHeartbeat)
	s.nextBeat = sent.Add(s.heartbeat - time.Duration(early*float64(s.heartbeat)))
}
