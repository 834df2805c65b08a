package agent

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// kind is by what a holder lives.
type kind string

const (
	byProcess    kind = "process"
	byConnection kind = "connection"
	byTTL        kind = "ttl"
)

func (k kind) known() bool { return k == byProcess || k == byConnection || k == byTTL }

// held is one lease of a holder, and what does not change of it.
type held struct {
	*client.Lease
	view lostView
}

func heldOf(l *client.Lease) held {
	return held{l, lostView{ID: uint64(l.ID()), FencingToken: uint64(l.Token()), Feature: l.Feature(), Count: l.Count()}}
}

// holder is one caller's claim, with a session of its own.
type holder struct {
	a  *Agent
	id string

	// ready is closed when the session is there, or will never be. returned is closed when
	// its seats were given back after its end.
	ready, returned chan struct{}
	// ctx ends with the holder.
	ctx    context.Context
	cancel context.CancelFunc

	// disk orders the writes of the record.
	disk sync.Mutex
	// mu is taken by what the SDK calls with its own locks held: so nothing of the SDK is
	// called with mu held.
	mu      sync.Mutex
	rec     record // what is on the disk, or about to be
	session *client.Session
	leases  []held
	// gone are leases that were lost while no agent ran.
	gone []lostView
	// revision and changed tell of changes.
	revision uint64
	changed  chan struct{}
	calls    int // that use it now
	conns    int // that it lives by
	paused   int // calls for which its time does not run
	timer    *time.Timer
	deadline time.Time // of the timer
	over     string    // why it has ended
}

func (a *Agent) newHolder(rec record) *holder {
	h := &holder{a: a, id: rec.ID, rec: rec, ready: make(chan struct{}), returned: make(chan struct{}), changed: make(chan struct{}),
		// Not from 1, so that a caller of an earlier run sees that something has happened.
		revision: uint64(time.Now().UnixMilli())}
	h.ctx, h.cancel = context.WithCancel(a.ctx)
	return h
}

// remember is the SDK's: it puts the session on the disk.
func (h *holder) remember(s client.SavedSession) error {
	h.mu.Lock()
	h.rec.Session = savedSession{ID: s.ID.String(), Secret: s.Secret, Incarnation: s.Incarnation}
	h.mu.Unlock()
	return h.save()
}

// save writes the holder as it is now.
func (h *holder) save() error {
	h.disk.Lock()
	defer h.disk.Unlock()
	h.mu.Lock()
	rec := h.rec
	over := h.over != ""
	h.mu.Unlock()
	if over {
		return errors.New("the session has ended")
	}
	began := time.Now()
	defer func() { h.a.metrics.writes.Observe(time.Since(began).Seconds()) }()
	return h.a.store.save(rec)
}

// open opens the session, or resumes it.
func (h *holder) open(ctx context.Context, resumed client.SavedSession) (*client.Session, error) {
	return h.a.cfg.Client.OpenSession(ctx, client.SessionConfig{
		Principal: h.rec.Principal, InstanceID: h.rec.Instance, Booking: h.rec.Booking,
		Remember: h.remember, Resumed: resumed, OnStateChange: h.leaseChanged,
	})
}

// leaseChanged hears of a lease from the SDK.
func (h *holder) leaseChanged(c client.Change) {
	if c.To == client.Lost {
		h.a.metrics.lost.Inc()
		h.a.log.Warn("lease lost", "session", h.id, "user", h.rec.Principal.User, "feature", c.Lease.Feature(), "lease", uint64(c.Lease.ID()), "reason", string(c.Reason))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bump()
}

// bump tells whoever watches. The caller holds mu.
func (h *holder) bump() {
	h.revision++
	close(h.changed)
	h.changed = make(chan struct{})
}

// view shows the holder at this moment.
func (h *holder) view() answer {
	h.mu.Lock()
	session, leases := h.session, slices.Clone(h.leases)
	a := answer{Leases: []leaseView{}, Lost: slices.Clone(h.gone), Session: sessionView{ID: h.id, Kind: h.rec.Kind, State: stateReady,
		User: h.rec.Principal.User, Host: h.rec.Principal.Host, PID: h.rec.Process.PID, TTLMS: h.rec.TTLMillis, Revision: h.revision}}
	if !h.deadline.IsZero() {
		a.Session.TTLRemainingMS = max(time.Until(h.deadline).Milliseconds(), 0)
	}
	h.mu.Unlock()
	if a.Lost == nil {
		a.Lost = []lostView{}
	}
	if session == nil {
		a.Session.State = stateResuming
		return a
	}
	a.Session.ClusterSession = session.ID().String()
	for _, l := range leases {
		state := l.State()
		if state == client.Lost {
			lost := l.view
			lost.Reason = string(l.Reason())
			a.Lost = append(a.Lost, lost)
			continue
		}
		a.Leases = append(a.Leases, leaseView{ID: uint64(l.ID()), Handle: uint32(l.Handle()), Feature: l.Feature(), Version: l.Version(),
			Count: l.Count(), Seats: l.Seats(), FencingToken: uint64(l.Token()), State: state.String(), Valid: true,
			RemainingMS: l.Remaining().Milliseconds()})
	}
	a.Valid = len(a.Leases) > 0 && len(a.Lost) == 0
	return a
}

// shown is the view for whoever asked for this session. A session that was left to the next
// run has nothing to show: its seats, which are kept, would look lost.
func (h *holder) shown() (answer, error) {
	a := h.view()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.session == nil { // looked at afterwards: the view may have met it while it was left
		return answer{}, errStopping
	}
	return a, nil
}

// checkout takes seats for the holder. Asking again for what it holds gives the same.
func (h *holder) checkout(ctx context.Context, wait time.Duration, items []client.Item) error {
	h.mu.Lock()
	session := h.session
	h.mu.Unlock()
	if session == nil {
		return refuse(lease.SessionUnknown, "the session has ended: check out again")
	}
	granted, err := session.CheckoutWait(ctx, wait, items...)
	if err != nil {
		return err
	}
	var fresh []held
	for _, l := range granted {
		fresh = append(fresh, heldOf(l))
	}
	h.mu.Lock()
	before := slices.Clone(h.leases)
	h.mu.Unlock()
	// What it has now instead of what it lost is not lost any more.
	lost := map[uint64]bool{}
	for _, l := range before {
		lost[l.view.ID] = l.State() == client.Lost
	}
	got := func(v lostView) bool {
		return slices.ContainsFunc(fresh, func(n held) bool { return n.view.Feature == v.Feature })
	}
	h.mu.Lock()
	var twice []held
	h.leases = slices.DeleteFunc(h.leases, func(l held) bool {
		again := slices.ContainsFunc(fresh, func(n held) bool { return n.view.ID == l.view.ID })
		if again {
			twice = append(twice, l)
		}
		return again || lost[l.view.ID] && got(l.view)
	})
	h.leases = append(h.leases, fresh...)
	h.gone = slices.DeleteFunc(h.gone, got)
	h.noteLeases()
	h.bump()
	h.mu.Unlock()
	for _, l := range twice {
		_ = l.CheckIn(ctx) // one claim is enough: this gives back none of the seats
	}
	h.keep()
	return nil
}

// noteLeases puts what is held into the record. The caller holds mu.
func (h *holder) noteLeases() {
	h.rec.Leases = slices.Clone(h.gone)
	for _, l := range h.leases {
		h.rec.Leases = append(h.rec.Leases, l.view)
	}
}

// keep saves what an agent that starts again need not know to keep the seats: which leases
// there were.
func (h *holder) keep() {
	if err := h.save(); err != nil && h.ctx.Err() == nil {
		h.a.log.Warn("the leases of a session are not on the disk", "session", h.id, "error", err)
	}
}

// checkin returns the leases with these ids. Those that are not the holder's are refused,
// and then nothing is returned.
func (h *holder) checkin(ctx context.Context, ids []uint64) ([]lostView, error) {
	h.mu.Lock()
	var back []held
	for _, id := range ids {
		i := slices.IndexFunc(h.leases, func(l held) bool { return l.view.ID == id })
		if i < 0 {
			h.mu.Unlock()
			return nil, refuse(lease.Fenced, "lease %d is not one of this session", id)
		}
		back = append(back, h.leases[i])
	}
	h.leases = slices.DeleteFunc(h.leases, func(l held) bool { return slices.Contains(ids, l.view.ID) })
	h.noteLeases()
	h.bump()
	h.mu.Unlock()
	released := []lostView{}
	for _, l := range back {
		if l.Valid() {
			released = append(released, l.view)
		}
		// If the cluster cannot be reached, the session goes on trying.
		_ = l.CheckIn(ctx)
	}
	h.keep()
	return released, nil
}

// arm makes the holder end after d, unless it is armed again or disarmed (0). The caller
// holds mu.
func (h *holder) arm(d time.Duration, why string) {
	if h.timer != nil {
		h.timer.Stop()
		h.timer, h.deadline = nil, time.Time{}
	}
	if d <= 0 || h.over != "" {
		return
	}
	at := time.Now().Add(d)
	h.deadline = at
	h.timer = time.AfterFunc(d, func() { h.a.endIf(h, why, func() bool { return h.deadline == at }) })
}

// restart gives what lives by the clock its whole time again: a time to live, or the time
// to open another connection after a restart of the agent.
func (h *holder) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch ttl := time.Duration(h.rec.TTLMillis) * time.Millisecond; {
	case h.paused > 0:
	case ttl > 0:
		h.arm(ttl, whyTTL)
	case h.rec.Kind == byConnection && h.conns == 0:
		h.arm(h.a.cfg.Rejoin, whyRejoin)
	}
}

// pause stops the holder's time until the function that it returns is called.
func (h *holder) pause() (goOn func()) {
	h.mu.Lock()
	h.paused++
	h.arm(0, "")
	h.mu.Unlock()
	return func() {
		h.mu.Lock()
		h.paused--
		h.mu.Unlock()
		h.restart()
	}
}

// suspend leaves the session to the next run of the agent. From then on nothing is said of
// its leases, which are not lost.
func (h *holder) suspend() {
	h.mu.Lock()
	session := h.session
	if h.over != "" {
		session = nil // its seats are being given back
	} else {
		h.session, h.leases = nil, nil
		h.arm(0, "")
	}
	h.mu.Unlock()
	if session != nil {
		session.Suspend()
	}
}

// use keeps the holder from ending for want of leases until done is called.
func (h *holder) use() (done func()) {
	h.mu.Lock()
	h.calls++
	h.mu.Unlock()
	return func() {
		stopping := h.a.isStopping()
		h.mu.Lock()
		h.calls--
		h.mu.Unlock()
		h.a.endIf(h, whyReturned, func() bool {
			return !stopping && h.calls == 0 && h.conns == 0 && h.session != nil && len(h.leases) == 0 && len(h.gone) == 0
		})
	}
}

// waitReady waits until the session is there.
func (h *holder) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWait)
	defer cancel()
	select {
	case <-h.ready:
	case <-ctx.Done():
		return &refusal{reason: client.Unreachable, message: "the session is being resumed after a restart of the agent, and the cluster has not answered yet: ask again", retryMS: 1000}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over != "" {
		return refuse(lease.SessionUnknown, "the session has ended (%s): check out again", h.over)
	}
	return nil
}
