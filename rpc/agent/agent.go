package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// Why a holder ends; also the label of a metric.
const (
	whyProcess    = "process ended"
	whyConnection = "connection closed"
	whyTTL        = "not renewed"
	whyReturned   = "returned"
	whyRejoin     = "did not come back"
	whyStop       = "agent stopped"
	whyGivenUp    = "given up"
	whyFenced     = "taken over by another run"
)

// Agent keeps the sessions of one machine. It is safe for concurrent use.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	store   *store
	metrics *metrics
	since   time.Time
	bounds  bounds

	// ctx ends with the agent.
	ctx    context.Context
	cancel context.CancelFunc
	// work are the goroutines that end by themselves: watches, and returns of seats.
	work sync.WaitGroup

	calls, waits, conns gate

	mu        sync.Mutex
	set       Settings
	holders   map[string]*holder
	processes map[process]*holder
	// leaving are holders that have ended and whose seats are being given back.
	leaving  map[string]*holder
	stopping bool
}

// New makes an agent, takes its state folder, and begins to resume the sessions in it. The
// errors are of Config.Validate, or say what is wrong with the folder.
func New(cfg Config) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.withDefaults()
	st, err := openStore(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	a := &Agent{cfg: cfg, set: cfg.Settings, log: cfg.Logger, store: st, since: time.Now(), bounds: bounds{headerTimeout, bodyTimeout, answerTimeout},
		holders: map[string]*holder{}, processes: map[process]*holder{}, leaving: map[string]*holder{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	if a.metrics, err = newMetrics(cfg.Registerer, a); err != nil {
		st.close()
		return nil, err
	}
	records, damaged, err := st.load()
	if err != nil {
		st.close()
		return nil, err
	}
	for _, d := range damaged {
		a.log.Error("a session of an earlier run cannot be read and is set aside; its seats come back by expiry", "file", d)
	}
	a.resumeAll(records)
	return a, nil
}

func (a *Agent) isStopping() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.stopping
}

func (a *Agent) settings() Settings {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set
}

// Reload takes over new settings. A lower limit ends nothing that is there.
func (a *Agent) Reload(s Settings) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set = s.withDefaults()
}

// resumeAll takes over the sessions of the run before, beside whatever comes next.
func (a *Agent) resumeAll(records []record) {
	turns := make(chan struct{}, resumeAtOnce)
	for _, rec := range records {
		h := a.newHolder(rec)
		h.gone = slices.Clone(rec.Leases)
		a.holders[h.id] = h
		if rec.Kind == byProcess {
			a.processes[rec.Process] = h
		}
		a.work.Go(func() {
			select {
			case turns <- struct{}{}:
				defer func() { <-turns }()
				a.resume(h)
			case <-a.ctx.Done():
			}
		})
	}
	if len(records) > 0 {
		a.log.Info("resuming sessions of an earlier run", "sessions", len(records))
	}
}

// resume takes one session over, or ends it if its holder is no more.
func (a *Agent) resume(h *holder) {
	known := h.rec.Process.PID != 0
	dead := known && !h.rec.Process.alive()
	saved, _ := h.rec.Session.sdk() // it was read
	ctx, cancel := context.WithTimeout(a.ctx, resumeFor)
	defer cancel()
	session, err := h.open(ctx, saved)
	if err != nil {
		if a.ctx.Err() != nil {
			return // it stays for the next run
		}
		a.metrics.resumed.WithLabelValues("failed").Inc()
		a.log.Error("a session could not be resumed: its seats come back by expiry", "session", h.id, "error", err)
		a.end(h, whyGivenUp)
		a.drop(h)
		close(h.ready)
		return
	}
	var leases []held
	for _, l := range session.Leases() {
		leases = append(leases, heldOf(l))
	}
	h.mu.Lock()
	h.session = session
	h.leases = leases
	h.gone = slices.DeleteFunc(h.gone, func(x lostView) bool {
		return slices.ContainsFunc(leases, func(l held) bool { return l.view.ID == x.ID })
	})
	for i := range h.gone {
		h.gone[i].Reason = string(lease.Fenced) // what became of it while no agent ran is not known here
	}
	lost := len(h.gone)
	over := h.over != ""
	h.bump()
	h.mu.Unlock()
	close(h.ready)
	switch {
	case over:
		a.returnSeats(h)
	case dead:
		a.metrics.resumed.WithLabelValues("holder gone").Inc()
		a.end(h, whyProcess)
	default:
		outcome := "kept"
		if lost > 0 {
			outcome = "leases lost"
		}
		a.metrics.resumed.WithLabelValues(outcome).Inc()
		a.log.Info("session resumed", "session", h.id, "kind", string(h.rec.Kind), "user", h.rec.Principal.User, "leases", len(leases), "lost", lost)
		a.attend(h)
	}
}

// attend begins to watch what the holder lives by.
func (a *Agent) attend(h *holder) {
	h.mu.Lock()
	rec := h.rec
	h.mu.Unlock()
	h.restart()
	if rec.Process.PID != 0 {
		a.watchProcess(h, rec.Process)
	}
}

func (a *Agent) watchProcess(h *holder, p process) {
	a.work.Go(func() {
		if p.ended(h.ctx) == nil {
			a.end(h, whyProcess)
		}
	})
}

// claim finds the holder that a request is for, or makes one.
func (a *Agent) claim(c caller, k kind, r *checkoutRequest) (h *holder, made bool, err error) {
	var p process
	if r.PID != 0 {
		if p, err = c.watched(r.PID); err != nil {
			return nil, false, err
		}
	}
	ttl := time.Duration(0)
	if k == byConnection {
		p = c.process // looked at after a restart
	} else if ttl, err = r.ttl(a.cfg.DefaultTTL); err != nil {
		return nil, false, err
	}
	principal, err := a.principal(c, r)
	if err != nil {
		return nil, false, err
	}
	id := strings.ToLower(r.SessionID)
	if id != "" {
		if _, err := lease.ParseSessionID(id); err != nil {
			return nil, false, refuse(lease.Invalid, "session_id: %v", err)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stopping {
		return nil, false, errStopping
	}
	if have := a.leaving[id]; have != nil {
		if !have.ownedBy(c) {
			return nil, false, notYours(id)
		}
		return nil, false, &refusal{reason: client.Unreachable, message: "the seats of this session are being given back: ask again", retryMS: 200}
	}
	if have := a.holders[id]; have != nil {
		if err := have.mayBeUsed(c, k, p); err != nil {
			return nil, false, err
		}
		return have, false, nil
	}
	if have := a.processes[p]; have != nil && k == byProcess && id == "" {
		if err := have.mayBeUsed(c, k, p); err != nil {
			return nil, false, err
		}
		return have, false, nil
	}
	if err := a.room(c); err != nil {
		return nil, false, err
	}
	if id == "" {
		var raw [16]byte
		_, _ = rand.Read(raw[:]) // does not fail
		id = hex.EncodeToString(raw[:])
	}
	h = a.newHolder(record{ID: id, Kind: k, UID: c.uid, Principal: principal, Instance: r.InstanceID, Booking: r.Booking,
		Process: p, TTLMillis: ttl.Milliseconds()})
	a.holders[id] = h
	if k == byProcess && a.processes[p] == nil {
		a.processes[p] = h
	}
	return h, true, nil
}

// room says whether one more session fits. The caller holds mu.
func (a *Agent) room(c caller) error {
	if len(a.holders)+len(a.leaving) >= a.set.Sessions {
		a.metrics.refused.WithLabelValues("sessions").Inc()
		return &refusal{reason: lease.Overloaded, message: "the agent keeps all the sessions that it may (agent.sessions)", retryMS: 1000}
	}
	own := 0
	for _, h := range a.holders {
		if h.rec.UID == c.uid { // never changes
			own++
		}
	}
	if own >= a.set.UserSessions && !c.steward {
		a.metrics.refused.WithLabelValues("sessions_per_user").Inc()
		return &refusal{reason: lease.Overloaded, message: "you have all the sessions that one user may have (agent.sessions_per_user)", retryMS: 1000}
	}
	return nil
}

// mayBeUsed says whether a caller's checkout may go to this holder.
func (h *holder) mayBeUsed(c caller, k kind, p process) error {
	switch {
	case !h.ownedBy(c):
		return notYours(h.id)
	case h.rec.Kind != k:
		return refuse(lease.Invalid, "session %s lives by %s, not by %s", h.id, h.rec.Kind, k)
	case k == byProcess && h.rec.Process != p:
		return refuse(lease.Invalid, "session %s is of process %d", h.id, h.rec.Process.PID)
	}
	return nil
}

// ownedBy: the kind, the user and the process of a holder never change.
func (h *holder) ownedBy(c caller) bool { return c.steward || h.rec.UID == c.uid }

// errStopping says nothing of any seat.
var errStopping = &refusal{reason: client.Unreachable, message: "the agent is stopping: ask again", retryMS: 1000}

// notYours does not tell another user's session from one that there never was.
func notYours(id string) error {
	return refuse(lease.SessionUnknown, "no such session of yours: %.40s (check out again)", id)
}

// find gives the holder that a caller names by its id, or by its process.
func (a *Agent) find(c caller, id string, pid int) (*holder, error) {
	if id == "" && pid == 0 {
		return nil, refuse(lease.Invalid, "which session? give session_id, or the pid it was taken for")
	}
	var p process
	if id == "" {
		var err error
		if p, err = c.watched(pid); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	h, stopping := a.holders[strings.ToLower(id)], a.stopping
	if id == "" {
		h = a.processes[p]
	}
	a.mu.Unlock()
	if stopping {
		return nil, errStopping // what it kept is not lost: the next run says of it
	}
	if h == nil || !h.ownedBy(c) {
		if id == "" {
			return nil, refuse(lease.SessionUnknown, "process %d holds nothing here: check out again", pid)
		}
		return nil, notYours(id)
	}
	return h, nil
}

// of lists the holders that a caller may see, in a steady order.
func (a *Agent) of(c caller) []*holder {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []*holder
	for _, h := range a.holders {
		if h.ownedBy(c) {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(x, y *holder) int { return strings.Compare(x.id, y.id) })
	return list
}

// end ends a holder, for the first reason given, and returns its seats beside.
func (a *Agent) end(h *holder, why string) {
	a.endIf(h, why, func() bool { return true })
}

// endIf ends a holder if it still should be, which is asked with its mutex held.
func (a *Agent) endIf(h *holder, why string, should func() bool) {
	h.mu.Lock()
	if h.over != "" || !should() {
		h.mu.Unlock()
		return
	}
	h.over = why
	h.arm(0, "")
	session := h.session
	h.bump()
	h.mu.Unlock()
	a.mu.Lock()
	delete(a.holders, h.id)
	a.leaving[h.id] = h
	if a.processes[h.rec.Process] == h {
		delete(a.processes, h.rec.Process)
	}
	a.mu.Unlock()
	h.cancel()
	a.metrics.ended.WithLabelValues(why).Inc()
	a.log.Info("session ended", "session", h.id, "user", h.rec.Principal.User, "pid", h.rec.Process.PID, "why", why)
	if session != nil {
		a.work.Go(func() { a.returnSeats(h) })
	} // else whoever opens the session closes it
}

// returnSeats closes the session of a holder that has ended.
func (a *Agent) returnSeats(h *holder) {
	defer close(h.returned)
	ctx, cancel := context.WithTimeout(context.Background(), returnTimeout)
	defer cancel()
	if err := h.session.Close(ctx); err != nil {
		a.log.Warn("seats not given back", "session", h.id, "error", err)
	}
	a.drop(h)
}

// drop forgets a holder on the disk.
func (a *Agent) drop(h *holder) {
	h.disk.Lock()
	defer h.disk.Unlock()
	if err := a.store.remove(h.id); err != nil {
		a.log.Error("the record of an ended session stays; the next run will end it", "session", h.id, "error", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.leaving, h.id)
}

// counts are for status and metrics.
func (a *Agent) counts() agentView {
	a.mu.Lock()
	all := make([]*holder, 0, len(a.holders))
	for _, h := range a.holders {
		all = append(all, h)
	}
	set := a.set
	a.mu.Unlock()
	v := agentView{Version: a.cfg.Version, PID: os.Getpid(), Host: a.cfg.Host, Since: a.since.UTC().Format(time.RFC3339),
		OnExit: "keep", Sessions: len(all), MaxAtOnce: set.Sessions}
	if set.ReturnOnExit {
		v.OnExit = "return"
	}
	for _, h := range all {
		x := h.view()
		if x.Session.State != "ready" {
			v.Resuming++
		}
		v.Leases += len(x.Leases)
		v.Lost += len(x.Lost)
	}
	return v
}

// Stop ends the agent: what was asked is answered, then the seats are returned or kept for
// its next run, as its settings say, and the state folder is free. ctx bounds the return.
func (a *Agent) Stop(ctx context.Context) {
	a.mu.Lock()
	a.stopping = true
	back := a.set.ReturnOnExit
	all := make([]*holder, 0, len(a.holders))
	for _, h := range a.holders {
		all = append(all, h)
	}
	a.mu.Unlock()
	if back {
		for _, h := range all {
			a.end(h, whyStop)
		}
	} else {
		for _, h := range all {
			h.suspend()
		}
	}
	a.cancel()
	done := make(chan struct{})
	go func() { a.work.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		a.log.Warn("not all seats were given back in time; they come back by expiry")
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = a.cfg.Client.Close(ended)
	a.store.close()
	a.log.Info("stopped", "sessions", len(all), "returned", back)
}
