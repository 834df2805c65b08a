package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// secretLen is the length of a session's secret, in bytes.
const secretLen = 32

// SessionConfig says on whose behalf a session runs and whether it is remembered.
type SessionConfig struct {
	// Principal decides policy and sharing; user and host default to this process's.
	Principal lease.Principal
	// InstanceID is a stable workload identity given by whoever deploys, or empty.
	InstanceID string

	// StateFile is where the session is remembered, so that the next run takes over
	// the seats of one that crashed. Application derives a path by StatePath. With
	// neither nothing is remembered.
	StateFile, Application string
	// Remember keeps the session in a store of the caller's own, in place of StateFile: it is
	// called before each new identity is used and must return only when that is safe from a
	// power failure. It must not call the session. Resumed is what an earlier run
	// remembered; its zero value opens a new session.
	Remember func(SavedSession) error
	Resumed  SavedSession
	// FreshIfInUse opens a session that is not remembered when another process holds
	// the state file, instead of failing with ErrStateInUse.
	FreshIfInUse bool

	// Booking names the booking whose seats the session's checkouts use.
	Booking string
	// OnQueued, if set, is told where a checkout stands in the queue, from 1, each time it
	// has asked: some times a minute.
	OnQueued func(position int)

	// Idle, if set, is asked before each heartbeat how long nobody has worked with the
	// program. Where a policy has an idle timeout, and the time is not below the vendor's
	// floor (15 minutes where the licence names none), the seats are taken back: they are
	// lost with the reason "timeout". It must answer at once.
	Idle func() time.Duration

	// OnStateChange, if set, is told of each change of a lease's state, in order, one
	// call at a time. Heartbeats do not wait for it.
	OnStateChange func(Change)
}

// Change is a lease turning from one state into another.
type Change struct {
	Lease    *Lease
	From, To State
	// Reason is why it was lost; empty otherwise.
	Reason lease.Reason
}

// Session is one process run of an application. It has one heartbeat for all its
// leases. It is safe for concurrent use.
type Session struct {
	c   *Client
	cfg SessionConfig

	ctx    context.Context // ends with Close, or when the session is fenced
	cancel context.CancelFunc
	wake   chan struct{} // makes the heartbeat look at its state again
	exited chan struct{} // closed when the heartbeat has stopped
	// calls holds one token: at most one numbered request is outstanding.
	calls chan struct{}

	mu    sync.Mutex
	state *stateFile
	id    lease.SessionID
	// gen grows when a new id is minted, so that answers to the old one are dropped.
	gen              uint64
	secret           string
	incarnation, seq uint64
	opened           bool // the cluster may know the session: heartbeats go out
	resuming         bool // the first answer shows what the run before held
	whole            bool // the next heartbeat must name its leases (see needsWhole)
	heartbeat        time.Duration
	nextBeat         Instant
	failures         int // heartbeats that failed in a row
	held             map[lease.ID]*holding
	returning        map[lease.ID]lease.Ref // to be given back, nobody's any more
	changes          []Change
	delivering       bool
	numbered         uint64 // numbered requests begun and ended so far
	waiting          int    // calls that wait for seats
	over             *Error // why the session takes no more calls
	fenced           bool   // it was over before it was closed: the cluster needs no word
}

// OpenSession starts a session. Without remembered state it asks nobody; with it, it
// stores the next incarnation and resumes the session of the crashed run, trying
// until ctx ends. Errors: ErrStateInUse, a state file that cannot be written, *Error.
func (c *Client) OpenSession(ctx context.Context, cfg SessionConfig) (*Session, error) {
	if c.ctx.Err() != nil {
		return nil, closedError("client")
	}
	cfg.Principal = fillPrincipal(cfg.Principal)
	s := &Session{c: c, cfg: cfg, wake: make(chan struct{}, 1), exited: make(chan struct{}), calls: make(chan struct{}, 1),
		held: map[lease.ID]*holding{}, returning: map[lease.ID]lease.Ref{}}
	s.ctx, s.cancel = context.WithCancel(c.ctx)
	if err := s.begin(ctx); err != nil {
		s.cancel()
		s.state.release()
		return nil, err
	}
	c.mu.Lock()
	c.sessions[s] = true
	c.mu.Unlock()
	go s.run()
	return s, nil
}

// begin mints the session, or resumes the remembered one.
func (s *Session) begin(ctx context.Context) error {
	if s.cfg.Remember != nil {
		if s.cfg.Resumed == (SavedSession{}) {
			return s.mint()
		}
		return s.resume(ctx, s.cfg.Resumed)
	}
	path := s.cfg.StateFile
	if path == "" && s.cfg.Application != "" {
		var err error
		if path, err = StatePath(s.cfg.Application); err != nil {
			return err
		}
	}
	if path == "" {
		return s.mint()
	}
	state, saved, err := openState(path)
	if errors.Is(err, ErrStateInUse) && s.cfg.FreshIfInUse {
		return s.mint()
	}
	if err != nil {
		return err
	}
	s.state = state
	if saved.SessionID == "" {
		return s.mint()
	}
	id, _ := lease.ParseSessionID(saved.SessionID)
	return s.resume(ctx, SavedSession{ID: id, Secret: saved.Secret, Incarnation: saved.Incarnation})
}

// resume takes over the session of an earlier run.
func (s *Session) resume(ctx context.Context, saved SavedSession) error {
	s.id, s.secret, s.incarnation = saved.ID, saved.Secret, saved.Incarnation+1
	if err := s.save(); err != nil {
		return err
	}
	s.opened, s.resuming = true, true
	err := s.beat(ctx)
	switch ReasonOf(err) {
	case lease.SessionUnknown:
		return nil // a new one was minted
	case lease.Fenced, lease.Forbidden:
		// A copy of the state file ran ahead, or the cluster is another one: leave that
		// session alone.
		s.over = nil
		s.ctx, s.cancel = context.WithCancel(s.c.ctx)
		return s.mint()
	}
	return err
}

// mint makes a new identity and stores it before it is used. The caller holds mu, or
// is alone.
func (s *Session) mint() error {
	var secret [secretLen]byte
	// crypto/rand does not fail; the program ends if the system has no randomness.
	_, _ = rand.Read(s.id[:])
	_, _ = rand.Read(secret[:])
	s.secret = hex.EncodeToString(secret[:])
	s.gen++
	s.incarnation, s.seq, s.opened, s.resuming = 1, 0, false, false
	s.nextBeat, s.failures = 0, 0
	clear(s.returning) // they belonged to the old id
	return s.save()
}

func (s *Session) save() error {
	if s.cfg.Remember != nil {
		return s.cfg.Remember(SavedSession{ID: s.id, Secret: s.secret, Incarnation: s.incarnation})
	}
	return s.state.save(savedState{SessionID: s.id.String(), Secret: s.secret, Incarnation: s.incarnation})
}

// SavedSession is what the next run needs to take over a session. Who has the secret can
// take its seats: keep it as one.
type SavedSession struct {
	ID          lease.SessionID
	Secret      string
	Incarnation uint64
}

// ID is the session's present id. It changes when the cluster no longer knows the old
// one.
func (s *Session) ID() lease.SessionID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Incarnation counts the process runs of the session, from 1.
func (s *Session) Incarnation() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.incarnation
}

// Leases shows what the session holds, also leases adopted from a run that crashed and
// not asked for since. Closing such a view returns the lease unless somebody who
// checked it out still has it open.
func (s *Session) Leases() []*Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Lease, 0, len(s.held))
	for _, h := range s.held {
		list = append(list, &Lease{s: s, h: h})
	}
	sortLeases(list)
	return list
}

// Renew sends a heartbeat now, beside the regular ones.
func (s *Session) Renew(ctx context.Context) error {
	s.mu.Lock()
	over, opened := s.over, s.opened
	s.mu.Unlock()
	if over != nil {
		return over
	}
	if !opened {
		return nil // nothing to renew
	}
	ctx, cancel := s.within(ctx)
	defer cancel()
	return s.beat(ctx)
}

// Suspend ends this run of the session without a word to the cluster: no lease is valid
// here any more, the seats stay charged until they expire, and the next run resumes the
// session by what was remembered of it.
func (s *Session) Suspend() {
	if s.stop() {
		s.state.release()
	}
}

// stop ends all that the session does here. It is false after the first time.
func (s *Session) stop() bool {
	s.mu.Lock()
	if s.over != nil && s.over.Reason == Closed {
		s.mu.Unlock()
		<-s.exited
		return false
	}
	s.fenced = s.over != nil
	s.over = closedError("session")
	for _, h := range s.held {
		h.end(string(lease.ReleasedClientExit))
	}
	clear(s.held)
	s.mu.Unlock()
	s.cancel() // also cuts short a call that waits for seats
	<-s.exited
	s.c.mu.Lock()
	delete(s.c.sessions, s)
	s.c.mu.Unlock()
	return true
}

// Close ends the session: from its first moment no lease is valid any more, then the
// heartbeat is stopped and all seats are returned, as long as ctx (or 30 s) allows. If
// the cluster cannot be reached it says so; the seats then come back by expiry, or to
// the next run by the state file. A second Close does nothing.
func (s *Session) Close(ctx context.Context) error {
	if !s.stop() {
		return nil
	}
	var err error
	if !s.fenced {
		err = s.leave(ctx)
	}
	if err == nil {
		err = s.state.forget()
	}
	s.state.release()
	return err
}

// leave tells the cluster that the session is over.
func (s *Session) leave(ctx context.Context) error {
	ctx, cancel := s.c.bound(ctx)
	defer cancel()
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return &Error{Reason: Unreachable, Message: "another call of the session did not end", Cause: ctx.Err()}
	}
	defer func() { <-s.calls }()
	s.mu.Lock()
	opened := s.opened
	req := &pb.CheckinRequest{SessionId: s.id.String(), SessionSecret: s.secret, Incarnation: s.incarnation,
		Seq: s.seq + 1, Close: true, Tenant: s.c.cfg.Tenant}
	p := s.plan(0)
	s.mu.Unlock()
	if !opened {
		return nil
	}
	p.laps = s.c.cfg.RetryCount
	_, err := s.c.do(ctx, p, func(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
		_, err := s.c.seatsOver(cc).Checkin(ctx, req, opts...)
		return err
	})
	if reasonIs(err, lease.SessionUnknown) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("seats come back by expiry: %w", err)
	}
	return nil
}

// within makes a context that ends with the session too.
func (s *Session) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := s.c.bound(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// plan is how requests of the session are tried: no node may eat more than a third of
// a heartbeat. The caller holds mu.
func (s *Session) plan(wait time.Duration) plan {
	p := plan{attempt: s.c.cfg.AttemptTimeout, pauseLimit: s.c.cfg.RetryInterval}
	if s.heartbeat > 0 {
		p.attempt = max(min(p.attempt, s.heartbeat/3), minAttemptTimeout)
		p.pauseLimit = max(min(p.pauseLimit, s.heartbeat/3), firstPause)
	}
	p.attempt += wait
	return p
}

// lose ends every lease of the present id. The caller holds mu.
func (s *Session) lose(reason lease.Reason) {
	for _, h := range s.held {
		s.end(h, reason)
	}
	clear(s.held)
}

// restart drops the id gen (the cluster no longer knows it) and mints another. The
// caller holds mu.
func (s *Session) restart(gen uint64) error {
	if gen != s.gen || s.over != nil {
		return nil
	}
	s.lose(lease.SessionUnknown)
	return s.mint()
}

// fence ends the session for good: a newer run owns it. (A refused token or secret does
// not: the leases then run out by the clock, unless an operator mends it.) The caller
// holds mu.
func (s *Session) fence(e *Error) {
	if s.over != nil {
		return
	}
	s.over = e
	s.lose(e.Reason)
	s.cancel()
}
