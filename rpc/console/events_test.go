package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeAPI answers as a node does.
type fakeAPI struct {
	mu     sync.Mutex
	index  int    // raft_index of the status
	leader bool   // else status is 503 unless stale
	token  string // required, if not empty
	looks  int    // consistent reads of status
	asked  []*http.Request
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r)
	stale := r.URL.Query().Get("stale") == "true"
	switch {
	case f.token != "" && r.Header.Get("Authorization") != "Bearer "+f.token:
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"reason":"unauthenticated"}`)
	case r.URL.Path == "/v1/status" && !f.leader && !stale:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/v1/status":
		f.looks++
		fmt.Fprintf(w, `{"raft_index":"%d"}`+"\n", f.index)
	case r.URL.Path == "/v1/status/peers":
		fmt.Fprint(w, `{"peers":[]}`)
	case r.URL.Path == "/v1/sys/health":
		fmt.Fprintf(w, `{"node":"n1","server_time_utc":%d}`, time.Now().Unix())
	case r.URL.Path == "/v1/denials":
		fmt.Fprint(w, `{"denials":[]}`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (f *fakeAPI) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeAPI) lookCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

// pipe is a ResponseWriter whose body somebody reads while it is written.
type pipe struct {
	header http.Header
	code   int
	begun  chan struct{}
	chunks chan string
	once   sync.Once
}

func (p *pipe) Header() http.Header { return p.header }
func (p *pipe) WriteHeader(code int) {
	p.once.Do(func() { p.code = code; close(p.begun) })
}
func (p *pipe) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	p.chunks <- string(b)
	return len(b), nil
}
func (p *pipe) Flush() {}

func watch(t *testing.T, c *Console, headers ...string) (*pipe, context.CancelFunc) {
	t.Helper()
	ctx, leave := context.WithCancel(context.Background())
	r := httptest.NewRequest(http.MethodGet, "/ui/events", nil).WithContext(ctx)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	p := &pipe{header: http.Header{}, begun: make(chan struct{}), chunks: make(chan string, 1000)}
	go func() {
		c.ServeHTTP(p, r)
		p.WriteHeader(http.StatusOK)
		close(p.chunks)
	}()
	<-p.begun
	return p, leave
}

// next waits for the next frame; ok is false at the stream's end.
func (p *pipe) next(t *testing.T) (f frame, ok bool) {
	t.Helper()
	for chunk := range p.chunks {
		data, is := strings.CutPrefix(chunk, "event: frame\ndata: ")
		if !is {
			continue
		}
		if err := json.Unmarshal([]byte(data), &f); err != nil {
			t.Fatalf("%v in %q", err, chunk)
		}
		return f, true
	}
	return f, false
}

func TestAFrameComesPerChangeAndAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{leader: true, index: 1}
		p, leave := watch(t, New(api, nil))
		defer synctest.Wait()
		defer leave()
		if got := p.header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("Content-Type %q", got)
		}
		first, _ := p.next(t)
		if string(first.Status) != `{"raft_index":"1"}` || first.Stale || len(first.Paths) != 1 || first.Paths[0] != "/v1/denials" || string(first.Self) != `{"node":"n1"}` {
			t.Errorf("first frame %+v: %s %s", first, first.Status, first.Self)
		}
		begun := time.Now()
		api.set(func() { api.index = 2 })
		_, _ = p.next(t)
		if took := time.Since(begun); took > lookEvery {
			t.Errorf("a change was shown after %s", took)
		}
		for i := range 20 { // ten changes a second for two seconds
			api.set(func() { api.index = 100 + i })
			time.Sleep(lookEvery / 10)
		}
		time.Sleep(lookEvery)
		if n := len(p.chunks); n < 2 || n > 3 {
			t.Errorf("%d frames in three seconds of changes, want one a second", n)
		}
		for len(p.chunks) > 0 {
			<-p.chunks
		}
		time.Sleep(10 * lookEvery)
		if n := len(p.chunks); n != 0 {
			t.Errorf("%d frames although nothing changed", n)
		}
		time.Sleep(aliveEvery)
		if n := len(p.chunks); n == 0 {
			t.Error("a stream without changes says nothing: proxies would close it")
		}
	})
}

func TestWithoutALeaderTheNodesOwnStateIsShownAsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{leader: true, index: 1}
		p, leave := watch(t, New(api, nil))
		defer synctest.Wait()
		defer leave()
		for _, leader := range []bool{true, false, true} {
			api.set(func() { api.leader = leader; api.index++ })
			f, _ := p.next(t)
			if leader && string(f.Status) == `{"raft_index":"1"}` {
				f, _ = p.next(t) // the frame before the first change
			}
			if f.Stale == leader {
				t.Errorf("leader %v: stale %v", leader, f.Stale)
			}
		}
	})
}

func TestViewersShareTheLooksAndTheLastOneEndsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{leader: true}
		c := New(api, nil)
		var leaves []context.CancelFunc
		for range maxViewers {
			p, leave := watch(t, c)
			if p.code != http.StatusOK {
				t.Fatalf("viewer %d: %d", len(leaves), p.code)
			}
			leaves = append(leaves, leave)
		}
		if p, leave := watch(t, c); p.code != http.StatusServiceUnavailable || p.header.Get("Retry-After") == "" {
			t.Errorf("one viewer too many: %d", p.code)
		} else {
			leave()
		}
		before := api.lookCount()
		time.Sleep(10*lookEvery + lookEvery/2)
		if n := api.lookCount() - before; n > 10 {
			t.Errorf("%d looks in ten seconds for %d viewers, want one a second", n, maxViewers)
		}
		for _, leave := range leaves {
			leave()
		}
		synctest.Wait()
		before = api.lookCount()
		time.Sleep(10 * lookEvery)
		if n := api.lookCount() - before; n != 0 {
			t.Errorf("%d looks although nobody watches", n)
		}
		if p, leave := watch(t, c); p.code != http.StatusOK {
			t.Errorf("after all left: %d", p.code)
		} else {
			leave()
		}
		synctest.Wait()
	})
}

func TestAViewerSeesWithItsOwnTokenOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{leader: true, token: "right"}
		c := New(api, nil)
		good, leave := watch(t, c, "Authorization", "Bearer right")
		defer synctest.Wait()
		defer leave()
		if _, ok := good.next(t); !ok {
			t.Fatal("the right token sees nothing")
		}
		for _, headers := range [][]string{nil, {"Authorization", "Bearer wrong"}} {
			bad, leave := watch(t, c, headers...)
			if bad.code != http.StatusUnauthorized {
				t.Errorf("%v: %d, want 401", headers, bad.code)
			}
			if body := <-bad.chunks; !strings.Contains(body, "unauthenticated") {
				t.Errorf("%v: answered %q", headers, body)
			}
			leave()
		}
		// Revoked while it watches: the stream ends.
		api.set(func() { api.token = "another" })
		for end := time.Now().Add(time.Minute); ; {
			if _, ok := good.next(t); !ok {
				break
			}
			if time.Now().After(end) { // time in here is not real
				t.Error("a minute after its token was revoked a viewer still sees")
				leave()
				break
			}
		}
		api.set(func() {
			for _, r := range api.asked {
				if r.Header.Get("X-Seatkeeper-Forward") != "1" {
					t.Errorf("%s is not asked to be forwarded", r.URL)
				}
			}
		})
	})
}

func TestStreamsEndWhenTheNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopping := make(chan struct{})
		p, leave := watch(t, New(&fakeAPI{leader: true}, stopping))
		defer leave()
		close(stopping)
		for range p.chunks {
		}
		synctest.Wait()
	})
}

func TestALargeFrameComesMoreSeldom(t *testing.T) {
	for size, want := range map[int]time.Duration{0: lookEvery, frameUnit: lookEvery, 3 * frameUnit: 3 * lookEvery, 1000 * frameUnit: lookSeldom} {
		if got := pauseAfter(size); got != want {
			t.Errorf("after %d bytes: %s, want %s", size, got, want)
		}
	}
}

func TestForeignPagesCannotWatch(t *testing.T) {
	if w := get(t, New(&fakeAPI{leader: true}, nil), "/ui/events", "Sec-Fetch-Site", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("%d, want 403", w.Code)
	}
}
