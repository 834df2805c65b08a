package agent

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// Serve answers on l until Stop or Shutdown of the server it returns. With a token, the
// port of l is a TCP one, and callers must show the token; else l is a unix socket and the
// system says who they are.
func (a *Agent) Serve(l net.Listener, token string) *http.Server {
	srv := newServer(a.handler(token), a.bounds)
	srv.ConnContext = connContext
	srv.BaseContext = func(net.Listener) context.Context { return a.ctx }
	go func() { _ = srv.Serve(&counted{Listener: l, a: a}) }()
	return srv
}

// call is what a path does; its answer is sent as JSON.
type call func(w http.ResponseWriter, r *http.Request, c caller) (any, error)

func (a *Agent) handler(token string) http.Handler {
	mux := http.NewServeMux()
	for path, do := range map[string]call{
		"POST /v1/checkout": a.checkoutCall,
		"POST /v1/renew":    a.renewCall,
		"POST /v1/checkin":  a.checkinCall,
		"POST /v1/hold":     a.holdCall,
		"GET /v1/session":   a.sessionCall,
		"GET /v1/watch":     a.watchCall,
		"GET /v1/status":    a.statusCall,
	} {
		mux.Handle(path, a.answering(path, do))
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.cfg.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.Handle("/", a.answering("other", func(_ http.ResponseWriter, r *http.Request, _ caller) (any, error) {
		return nil, refuse(lease.Invalid, "%s %.100s: there are POST /v1/checkout, /v1/renew, /v1/checkin, /v1/hold and GET /v1/session, /v1/watch, /v1/status, /metrics", r.Method, r.URL.Path)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token != "" && !a.tokenShown(w, r, token) {
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// tokenShown refuses a caller of a TCP port without the token, and any browser: a page of
// somebody else's must not reach a port of this machine.
func (a *Agent) tokenShown(w http.ResponseWriter, r *http.Request, token string) bool {
	shown, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.Header.Get("Origin") == "" && subtle.ConstantTimeCompare([]byte(shown), []byte(token)) == 1 {
		return true
	}
	a.fail(w, &refusal{reason: client.Unauthenticated, message: "show the token of the agent's token_file: Authorization: Bearer …"})
	return false
}

// answering counts a call, keeps it within the limits, and sends its answer.
func (a *Agent) answering(path string, do call) http.Handler {
	_, name, _ := strings.Cut(path, " ")
	if name == "" {
		name = path
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callerOf(r.Context())
		if r.Method == http.MethodGet {
			readAll(w)
		}
		set := a.settings()
		c.trusted = c.steward || slices.Contains(set.TrustedUsers, c.user)
		if !a.calls.enter(c.uid, set.InFlight, set.UserInFlight) {
			a.metrics.refused.WithLabelValues("in_flight").Inc()
			a.metrics.requests.WithLabelValues(name, "429").Inc()
			a.fail(w, &refusal{reason: lease.Overloaded, message: "too many calls at once: ask again", retryMS: 200})
			return
		}
		out := once(func() { a.calls.leave(c.uid) })
		defer out()
		got, err := do(w, r.WithContext(context.WithValue(r.Context(), leaveKey{}, out)), c)
		a.answerSoon(w)
		status := http.StatusOK
		switch {
		case err != nil:
			status = a.fail(w, err)
		case got != nil:
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(got)
		}
		a.metrics.requests.WithLabelValues(name, strconv.Itoa(status)).Inc()
	})
}

// answerSoon gives the caller so long from now on to read its answer.
func (a *Agent) answerSoon(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(a.bounds.answer))
}

type leaveKey struct{}

// waiting moves a call from those that are being answered to those that wait.
func (a *Agent) waiting(r *http.Request, c caller) (done func(), err error) {
	set := a.settings()
	if !a.waits.enter(c.uid, set.Waiting, c.share(set.UserWaiting)) {
		a.metrics.refused.WithLabelValues("waiting").Inc()
		return nil, &refusal{reason: lease.Overloaded, message: "too many calls wait already (agent.waiting, agent.waiting_per_user)", retryMS: 1000}
	}
	if out, ok := r.Context().Value(leaveKey{}).(func()); ok {
		out()
	}
	return func() { a.waits.leave(c.uid) }, nil
}

func once(f func()) func() {
	done := false
	return func() {
		if !done {
			done = true
			f()
		}
	}
}

// fail sends an error in its one shape and returns its HTTP status.
func (a *Agent) fail(w http.ResponseWriter, err error) int {
	p := problem{Reason: string(client.UnknownOutcome), Message: err.Error()}
	var own *refusal
	var theirs *client.Error
	switch {
	case errors.As(err, &own):
		p = problem{Reason: string(own.reason), Message: own.message, Final: own.retryMS == 0, RetryAfterMS: own.retryMS}
	case errors.As(err, &theirs):
		p = problem{Reason: string(theirs.Reason), Message: theirs.Message, Final: theirs.Final, RetryAfterMS: uint32(theirs.RetryAfter.Milliseconds())}
		if p.Message == "" {
			p.Message = string(theirs.Reason)
		}
	}
	status, code := a.face(lease.Reason(p.Reason))
	p.Code = code
	w.Header().Set("Content-Type", "application/json")
	if p.RetryAfterMS > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.RetryAfterMS+999)/1000))
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
	return status
}

// face is the cluster's, and adds what only its clients see.
func (a *Agent) face(reason lease.Reason) (status int, code string) {
	switch reason {
	case client.Unreachable:
		return http.StatusServiceUnavailable, "UNAVAILABLE"
	case client.Closed:
		reason = lease.SessionUnknown
	}
	return a.cfg.Face(reason)
}

func (a *Agent) checkoutCall(w http.ResponseWriter, r *http.Request, c caller) (any, error) {
	var req checkoutRequest
	if err := decode(w, r, &req); err != nil {
		return nil, err
	}
	k := byTTL
	if req.PID != 0 {
		k = byProcess
	}
	h, done, err := a.take(r, c, k, &req)
	if err != nil {
		return nil, err
	}
	defer done()
	return h.shown()
}

// take finds or makes the holder of a request and checks out for it. The holder stays at
// least until done is called.
func (a *Agent) take(r *http.Request, c caller, k kind, req *checkoutRequest) (h *holder, done func(), err error) {
	items, err := req.items()
	if err != nil {
		return nil, nil, err
	}
	wait, err := req.wait()
	if err != nil {
		return nil, nil, err
	}
	h, made, err := a.claim(c, k, req)
	if err != nil {
		return nil, nil, err
	}
	leave := h.use()
	defer func() {
		if err != nil {
			leave()
		}
	}()
	if made {
		if err = a.begin(h); err != nil {
			return nil, nil, err
		}
	} else if err = h.waitReady(r.Context()); err != nil {
		return nil, nil, err
	}
	if wait > 0 {
		end, err := a.waiting(r, c)
		if err != nil {
			return nil, nil, err
		}
		defer end()
	}
	defer h.pause()() // its time does not run while it waits
	ctx, cancel := context.WithTimeout(r.Context(), wait+client.DefaultCallTimeout)
	defer cancel()
	if err = h.checkout(ctx, wait, items); err != nil {
		switch {
		case a.isStopping():
			err = errStopping // the session is the next run's
		case client.ReasonOf(err) == lease.Fenced:
			a.end(h, whyFenced) // for good: the next checkout begins anew
		}
		return nil, nil, err
	}
	return h, leave, nil
}

// begin opens the session of a new holder and begins to watch its process.
func (a *Agent) begin(h *holder) error {
	session, err := h.open(h.ctx, client.SavedSession{})
	h.mu.Lock()
	h.session = session
	over := h.over != ""
	h.mu.Unlock()
	defer close(h.ready)
	if err != nil {
		a.end(h, whyGivenUp)
		a.drop(h)
		return refuse(lease.Overloaded, "the session cannot be remembered: %v", err)
	}
	if over {
		a.work.Go(func() { a.returnSeats(h) })
		return refuse(lease.SessionUnknown, "the session has ended")
	}
	if h.rec.Kind == byProcess {
		a.watchProcess(h, h.rec.Process)
	}
	return nil
}

// named reads a request about a session and finds its holder.
func (a *Agent) named(w http.ResponseWriter, r *http.Request, c caller) (*holder, *sessionRequest, error) {
	var req sessionRequest
	if err := decode(w, r, &req); err != nil {
		return nil, nil, err
	}
	h, err := a.find(c, req.SessionID, req.PID)
	if err != nil {
		return nil, nil, err
	}
	return h, &req, nil
}

func (a *Agent) renewCall(w http.ResponseWriter, r *http.Request, c caller) (any, error) {
	h, _, err := a.named(w, r, c)
	if err != nil {
		return nil, err
	}
	defer h.use()()
	h.restart() // also while it is being resumed
	if err := h.waitReady(r.Context()); err != nil {
		return nil, err
	}
	return h.shown()
}

func (a *Agent) checkinCall(w http.ResponseWriter, r *http.Request, c caller) (any, error) {
	h, req, err := a.named(w, r, c)
	if err != nil {
		return nil, err
	}
	if err := h.waitReady(r.Context()); err != nil {
		return nil, err
	}
	if len(req.LeaseIDs) == 0 {
		shown, err := h.shown()
		if err != nil {
			return nil, err
		}
		released := []lostView{}
		for _, l := range shown.Leases {
			released = append(released, lostView{ID: l.ID, FencingToken: l.FencingToken, Feature: l.Feature, Count: l.Count})
		}
		a.end(h, whyReturned)
		select {
		case <-h.returned:
		case <-r.Context().Done():
		}
		return checkinAnswer{released}, nil
	}
	defer h.use()()
	var ids []uint64
	for _, s := range req.LeaseIDs {
		id, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return nil, refuse(lease.Invalid, "lease_ids: %.40q is no lease id", s)
		}
		ids = append(ids, id)
	}
	released, err := h.checkin(r.Context(), ids)
	if err != nil {
		return nil, err
	}
	return checkinAnswer{released}, nil
}

// holdCall keeps the seats as long as the connection is open, and tells of each change in
// a line of its own.
func (a *Agent) holdCall(w http.ResponseWriter, r *http.Request, c caller) (any, error) {
	var req checkoutRequest
	if err := decode(w, r, &req); err != nil {
		return nil, err
	}
	if req.PID != 0 || req.TTLMS != 0 {
		return nil, refuse(lease.Invalid, "a hold lives by its connection: leave out pid and ttl_ms")
	}
	h, done, err := a.take(r, c, byConnection, &req)
	if err != nil {
		return nil, err
	}
	defer done()
	h.join()
	defer a.part(h)
	if out, ok := r.Context().Value(leaveKey{}).(func()); ok {
		out() // held connections are counted as sessions
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{}) // it may be read at leisure: what counts is that it is open
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := json.NewEncoder(w)
	for {
		h.mu.Lock()
		changed := h.changed
		h.mu.Unlock()
		shown, err := h.shown()
		if err != nil || lines.Encode(shown) != nil || control.Flush() != nil {
			return nil, nil
		}
		select {
		case <-changed:
		case <-h.ctx.Done():
			return nil, nil
		case <-r.Context().Done():
			return nil, nil
		}
	}
}

// join notes a connection by which the holder lives.
func (h *holder) join() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns++
	h.arm(0, "")
}

// part notes that one is gone; with the last one the holder ends, unless the agent does.
func (a *Agent) part(h *holder) {
	h.mu.Lock()
	h.conns--
	last := h.conns == 0
	h.mu.Unlock()
	if last && !a.isStopping() {
		a.end(h, whyConnection)
	}
}

func (a *Agent) queried(r *http.Request, c caller) (*holder, error) {
	q := r.URL.Query()
	pid := 0
	if s := q.Get("pid"); s != "" {
		var err error
		if pid, err = strconv.Atoi(s); err != nil {
			return nil, refuse(lease.Invalid, "pid %.20q: want a number", s)
		}
	}
	h, err := a.find(c, q.Get("session_id"), pid)
	if err != nil {
		return nil, err
	}
	return h, h.waitReady(r.Context())
}

func (a *Agent) sessionCall(_ http.ResponseWriter, r *http.Request, c caller) (any, error) {
	h, err := a.queried(r, c)
	if err != nil {
		return nil, err
	}
	return h.shown()
}

// watchCall answers as soon as the session is at another revision than the caller knows.
func (a *Agent) watchCall(w http.ResponseWriter, r *http.Request, c caller) (any, error) {
	q := r.URL.Query()
	since, err := strconv.ParseUint(q.Get("since"), 10, 64)
	if err != nil {
		return nil, refuse(lease.Invalid, "since %.20q: give the revision of the last answer", q.Get("since"))
	}
	limit := int64(30_000)
	if s := q.Get("timeout_ms"); s != "" {
		if limit, err = strconv.ParseInt(s, 10, 64); err != nil || limit < 0 || limit > maxWatch.Milliseconds() {
			return nil, refuse(lease.Invalid, "timeout_ms %.20q: use 0 to %d", s, maxWatch.Milliseconds())
		}
	}
	h, err := a.queried(r, c)
	if err != nil {
		return nil, err
	}
	done, err := a.waiting(r, c)
	if err != nil {
		return nil, err
	}
	defer done()
	timeout := time.NewTimer(time.Duration(limit) * time.Millisecond)
	defer timeout.Stop()
	for {
		h.mu.Lock()
		changed, now, over := h.changed, h.revision, h.over
		h.mu.Unlock()
		if over != "" {
			return nil, refuse(lease.SessionUnknown, "the session has ended (%s): check out again", over)
		}
		if now != since {
			return h.shown()
		}
		select {
		case <-changed:
		case <-timeout.C:
			return h.shown()
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
}

func (a *Agent) statusCall(_ http.ResponseWriter, _ *http.Request, c caller) (any, error) {
	out := statusAnswer{Agent: a.counts(), Sessions: []answer{}}
	for _, h := range a.of(c) {
		out.Sessions = append(out.Sessions, h.view())
	}
	return out, nil
}
