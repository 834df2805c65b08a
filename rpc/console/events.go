package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// lookEvery is the shortest time between two looks at the cluster, and so between two
	// frames: faster than people read.
	lookEvery = time.Second
	// frameUnit: a larger frame comes more seldom in proportion, so that a cluster of
	// thousands of pools costs a viewer no more than this many bytes a second.
	frameUnit = 64 << 10
	// lookSeldom is the longest time between two looks, for the largest frames.
	lookSeldom = 10 * time.Second
	// lookTimeout bounds one look: a majority that does not answer by then will not.
	lookTimeout = 4 * time.Second
	// maxViewers bounds the open pages of a node; each is a connection and a goroutine.
	maxViewers = 64
	// aliveEvery keeps proxies from closing a stream on which nothing changes.
	aliveEvery = 15 * time.Second
	// slowest is how long a viewer may take to read one frame.
	slowest = 10 * time.Second
)

// hub keeps the feeds.
type hub struct {
	api      http.Handler
	stopping <-chan struct{}

	mu      sync.Mutex
	feeds   map[viewed]*feed
	viewers int
}

// viewed is what makes two viewers see the same: who they are and which tenant they chose.
type viewed struct {
	authorization, tenant string
	certificate           [sha256.Size]byte
}

// frame is what is sent. Its parts are the API's own JSON.
type frame struct {
	// Stale: no leader answered; this is the node's own state and may be old.
	Stale  bool            `json:"stale"`
	Status json.RawMessage `json:"status"`
	Peers  json.RawMessage `json:"peers,omitempty"`
	// Paths are those of optionalPaths that this viewer can read here.
	Paths []string `json:"paths"`
	// Self is /v1/sys/health of the node that serves the page.
	Self json.RawMessage `json:"self,omitempty"`
}

// optionalPaths are read by sections of the page that a server may not have, or a role not
// see. The page asks for none that is not named in a frame: a browser reports each refusal.
var optionalPaths = []string{"/v1/leases", "/v1/licenses", "/v1/queue", "/v1/bookings", "/v1/denials", "/v1/policy", "/v1/usage", "/v1/usage/concurrency", "/v1/borrows"}

// answer is what the API said to one call.
type answer struct {
	code int
	body []byte
}

func newHub(api http.Handler, stopping <-chan struct{}) *hub {
	return &hub{api: api, stopping: stopping, feeds: map[viewed]*feed{}}
}

func viewedBy(r *http.Request) viewed {
	v := viewed{authorization: r.Header.Get("Authorization"), tenant: r.URL.Query().Get("tenant")}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		v.certificate = sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	}
	return v
}

// serve is one viewer: it is sent the newest frame whenever there is a newer one, never
// a backlog.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		http.Error(w, "a page of another site cannot watch here", http.StatusForbidden)
		return
	}
	paths := h.paths(r)
	first, refused := h.look(r.Context(), r, paths)
	if refused != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(refused.code)
		_, _ = w.Write(refused.body)
		return
	}
	frames, leave, ok := h.join(r, paths)
	if !ok {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("this node has %d dashboards open; close one, or open another node's", maxViewers), http.StatusServiceUnavailable)
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // of nginx, which else keeps events back
	h.stream(w, r, first, frames)
}

func (h *hub) stream(w http.ResponseWriter, r *http.Request, first []byte, frames <-chan []byte) {
	conn := http.NewResponseController(w)
	send := func(parts ...[]byte) bool {
		_ = conn.SetWriteDeadline(time.Now().Add(slowest))
		if _, err := w.Write(bytes.Join(parts, nil)); err != nil {
			return false
		}
		return conn.Flush() == nil
	}
	event := func(data []byte) bool { return send([]byte("event: frame\ndata: "), data, []byte("\n\n")) }
	if !event(first) {
		return
	}
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		sent := true
		select {
		case data, ok := <-frames:
			if !ok { // refused: the page finds out why when it comes back
				return
			}
			sent = event(data)
		case <-alive.C:
			sent = send([]byte(": alive\n\n"))
		case <-r.Context().Done():
			return
		case <-h.stopping:
			return
		}
		if !sent {
			return
		}
	}
}

// look asks the API what there is. refused is an answer that no other node would give
// differently: without a token, or with a wrong tenant.
func (h *hub) look(ctx context.Context, r *http.Request, paths []string) (data []byte, refused *answer) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	query := url.Values{}
	if tenant := r.URL.Query().Get("tenant"); tenant != "" {
		query.Set("tenant", tenant)
	}
	f := frame{Paths: paths}
	status := h.call(ctx, r, "/v1/status", query)
	if status.code >= 500 || status.code == http.StatusTemporaryRedirect {
		f.Stale = true
		query.Set("stale", "true")
		status = h.call(context.WithoutCancel(ctx), r, "/v1/status", query)
	}
	if status.code != http.StatusOK {
		return nil, &status
	}
	f.Status = bytes.TrimSpace(status.body)
	if peers := h.call(ctx, r, "/v1/status/peers", nil); peers.code == http.StatusOK {
		f.Peers = bytes.TrimSpace(peers.body)
	}
	if self := h.call(ctx, r, "/v1/sys/health", nil); json.Valid(self.body) {
		f.Self = withoutTime(self.body)
	}
	data, err := json.Marshal(f)
	if err != nil {
		return nil, &answer{http.StatusInternalServerError, []byte(err.Error())}
	}
	return data, nil
}

// paths finds out which of optionalPaths answer. One that is there but fails now is there.
func (h *hub) paths(r *http.Request) []string {
	ctx, cancel := context.WithTimeout(r.Context(), lookTimeout)
	defer cancel()
	there := []string{}
	for _, path := range optionalPaths {
		query := url.Values{"page_size": {"1"}}
		if tenant := r.URL.Query().Get("tenant"); tenant != "" {
			query.Set("tenant", tenant)
		}
		switch h.call(ctx, r, path, query).code {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		default:
			there = append(there, path)
		}
	}
	return there
}

// withoutTime takes the wall clock out of the health, which else made each frame new.
func withoutTime(health []byte) json.RawMessage {
	var fields map[string]any
	if json.Unmarshal(health, &fields) != nil {
		return nil
	}
	delete(fields, "server_time_utc")
	out, _ := json.Marshal(fields)
	return out
}

// call sends one GET to the API as the viewer would.
func (h *hub) call(ctx context.Context, viewer *http.Request, path string, query url.Values) answer {
	r := viewer.Clone(ctx)
	r.URL = &url.URL{Path: path, RawQuery: query.Encode()}
	r.RequestURI = r.URL.RequestURI()
	r.Method, r.Body, r.ContentLength = http.MethodGet, http.NoBody, 0
	r.Pattern = ""
	r.Header = http.Header{"X-Seatkeeper-Forward": {"1"}, "Accept": {"application/json"}}
	if a := viewer.Header.Get("Authorization"); a != "" {
		r.Header.Set("Authorization", a)
	}
	w := recorder{header: http.Header{}, answer: answer{code: http.StatusOK}}
	h.api.ServeHTTP(&w, r)
	return w.answer
}

// recorder keeps an answer instead of sending it.
type recorder struct {
	header http.Header
	answer answer
	begun  bool
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(code int) {
	if !w.begun {
		w.begun, w.answer.code = true, code
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.begun = true
	w.answer.body = append(w.answer.body, p...)
	return len(p), nil
}
