package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Mode is what workers do at present.
type Mode int32

// The modes, in the order of a run.
const (
	// Load: workers take and give back.
	Load Mode = iota
	// Quiet: they keep what they hold and ask for no more.
	Quiet
	// Closing: they end their sessions and stop.
	Closing
)

// callTimeout bounds one operation: longer than an election, shorter than a lease.
const callTimeout = 3 * time.Second

// Control is how a run steers its workers. It is safe for concurrent use.
type Control struct {
	mode  atomic.Int32
	surge atomic.Bool
	storm atomic.Int64
	wake  sync.Map // *worker → chan struct{}
}

// SetMode changes what workers do.
func (c *Control) SetMode(m Mode) { c.mode.Store(int32(m)); c.wakeAll() }

// Mode is the present mode.
func (c *Control) Mode() Mode { return Mode(c.mode.Load()) }

// SetSurge lets the crowd in or keeps it out.
func (c *Control) SetSurge(on bool) { c.surge.Store(on); c.wakeAll() }

// Storm makes every worker lose its connections and ask again at once.
func (c *Control) Storm() { c.storm.Add(1); c.wakeAll() }

func (c *Control) wakeAll() {
	c.wake.Range(func(_, v any) bool {
		select {
		case v.(chan struct{}) <- struct{}{}:
		default:
		}
		return true
	})
}

// Config says what load to make.
type Config struct {
	// Addresses are the nodes' APIs; Names are the nodes' names, in the same order.
	Addresses, Names []string
	// Places are where workers run; they are dealt out in turn.
	Places []Place
	Seed   uint64
	// Rate is how many operations a second one worker starts, on average.
	Rate float64
	Crew
	// Pools are the features of the seats workload, with how often each is asked for.
	Pools map[string]int
	// Guarded is the feature of the fenced resource.
	Guarded string
	// Tenants are those of the crowd; it asks for CrowdFeature of each.
	Tenants []string
	// Bug, if set, is one of the bugs below that hand-kept sessions have, to show that a
	// checker sees it.
	Bug string
	// Dir is where clients keep their state files.
	Dir string
	// Queued is the feature that waiters crowd at, Booked that of jobs, Borrowed that of
	// borrowers; waiters ask for all three.
	Queued, Booked, Borrowed string
}

// Crew is how many workers of each kind there are. Late is for scenes that need it.
type Crew struct {
	SDK, GRPC, HTTP, Reconnect, Crash, Fenced, Readers, Surge, Late int
	// Those of the rules workload: who waits in the queue (by gRPC, by HTTP, by the SDK's
	// sessions), jobs with bookings, borrowers, and operators who change the policy and
	// revoke what is borrowed.
	Waiters, HTTPWaiters, SDKWaiters, Jobs, Borrowers, Operators int
}

// Workers is how many these are.
func (c Crew) Workers() int {
	return c.SDK + c.GRPC + c.HTTP + c.Reconnect + c.Crash + c.Fenced + c.Readers + c.Surge + c.Late +
		c.Waiters + c.HTTPWaiters + c.SDKWaiters + c.Jobs + c.Borrowers + c.Operators
}

// The bugs that clients can be given.
const (
	// BugReceipt counts a lease's time from the answer, not from the request.
	BugReceipt = "receipt"
	// BugNewRequest asks again, when an outcome is unknown, as a new session.
	BugNewRequest = "new-request"
)

// CrowdFeature is what the crowd asks for in a tenant: every pool of a run has a name of
// its own.
func CrowdFeature(tenant string) string { return tenant + "-seat" }

// worker is what all kinds have.
type worker struct {
	cfg     *Config
	control *Control
	rec     *Recorder
	voice   *voice
	place   Place
	rng     *rand.Rand
	name    string
	wake    chan struct{}
	storms  int64
	number  int
}

// Workers is all workers of a run.
type Workers struct {
	Control  *Control
	Resource *Resource
	Places   map[string][]string // place → clients there

	wg     sync.WaitGroup
	failed chan error
}

// Start starts the workers. They end in mode Closing, when their sessions are closed, or
// when ctx ends.
func Start(ctx context.Context, cfg Config, rec *Recorder) (*Workers, error) {
	w := &Workers{Control: &Control{}, Resource: &Resource{Name: cfg.Guarded}, Places: map[string][]string{}, failed: make(chan error, cfg.Workers())}
	n := 0
	kinds := []struct {
		name, transport string
		count           int
		run             func(context.Context, *worker) error
	}{
		{"sdk", "sdk", cfg.SDK, runSDK},
		{"grpc", "grpc", cfg.GRPC, runHeld},
		{"http", "http", cfg.HTTP, runHeld},
		{"reconnect", "grpc", cfg.Reconnect, runReconnect},
		{"crash", "sdk", cfg.Crash, runCrash},
		{"fenced", "grpc", cfg.Fenced, func(ctx context.Context, x *worker) error { return runFenced(ctx, x, w.Resource) }},
		{"reader", "http", cfg.Readers, runReader},
		{"surge", "grpc", cfg.Surge, runSurge},
		{"late", "grpc", cfg.Late, runLate},
		{"waiter", "grpc", cfg.Waiters, runWaiter},
		{"webwaiter", "http", cfg.HTTPWaiters, runWaiter},
		{"sdkwaiter", "sdk", cfg.SDKWaiters, runSDKWaiter},
		{"job", "grpc", cfg.Jobs, runJob},
		{"borrower", "grpc", cfg.Borrowers, runBorrower},
		{"operator", "grpc", cfg.Operators, runOperator},
	}
	for _, k := range kinds {
		for i := range k.count {
			name := fmt.Sprintf("%s-%d", k.name, i+1)
			x := &worker{cfg: &cfg, control: w.Control, rec: rec, voice: rec.voice(name, k.transport), name: name, number: n,
				place: cfg.Places[n%len(cfg.Places)], rng: rand.New(rand.NewPCG(cfg.Seed, uint64(n)+1)), wake: make(chan struct{}, 1)}
			w.Places[x.place.Name] = append(w.Places[x.place.Name], name)
			w.Control.wake.Store(x, x.wake)
			n++
			w.wg.Go(func() {
				if err := k.run(ctx, x); err != nil && ctx.Err() == nil {
					w.failed <- fmt.Errorf("%s: %w", name, err)
				}
			})
		}
	}
	return w, nil
}

// Wait waits until all workers have ended and returns what went wrong in the harness.
func (w *Workers) Wait() error {
	w.wg.Wait()
	close(w.failed)
	var texts []string
	for err := range w.failed {
		texts = append(texts, err.Error())
	}
	if len(texts) > 0 {
		return fmt.Errorf("workers: %s", strings.Join(texts, "; "))
	}
	return nil
}

// think waits until the worker's next operation, or until something changes.
func (w *worker) think(ctx context.Context) {
	mean := float64(time.Second) / w.cfg.Rate
	w.nap(ctx, time.Duration(w.rng.ExpFloat64()*mean))
}

// Who wants a seat asks this often, for so long.
const (
	askEvery = 50 * time.Millisecond
	patience = 500 * time.Millisecond
)

// patiently asks until it is enough or patience ends.
func (w *worker) patiently(ctx context.Context, enough func() bool) {
	for began := time.Now(); !enough() && time.Since(began) < patience && ctx.Err() == nil && w.control.Mode() == Load; {
		w.nap(ctx, askEvery)
	}
}

// nap waits for d, at most a second, or until something changes.
func (w *worker) nap(ctx context.Context, d time.Duration) {
	t := time.NewTimer(min(max(d, time.Millisecond), time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-w.wake:
	}
}

// storming says once per storm that there is one.
func (w *worker) storming() bool {
	n := w.control.storm.Load()
	if n == w.storms {
		return false
	}
	w.storms = n
	return true
}

// api makes the worker's way to call.
func (w *worker) api() (api, error) {
	if w.voice.transport == "http" {
		return newHTTP(w.place, w.cfg.Addresses, w.rng.IntN), nil
	}
	return newSDK(w.place, w.cfg.Addresses)
}

// count is how many seats of a feature the worker asks for. It is always the same: a
// session that holds one may not ask for two of the same.
func (w *worker) count(feature string) int {
	if strings.HasSuffix(w.name, "2") && feature == sorted(w.cfg.Pools)[0] {
		return 2
	}
	return 1
}

// pools are those that the worker uses: all but one, so that not everybody meets in
// every pool. More than ten at once in one cannot be searched for an order.
func (w *worker) pools() []string {
	names := sorted(w.cfg.Pools)
	if len(names) < 3 {
		return names
	}
	skip := w.number % len(names)
	return slices.Delete(names, skip, skip+1)
}

// feature draws one of the worker's pools by weight. Names are drawn in a fixed order, so that a
// seed gives the same run.
func (w *worker) feature() string {
	names := w.pools()
	total := 0
	for _, f := range names {
		total += w.cfg.Pools[f]
	}
	k := w.rng.IntN(total)
	for _, f := range names {
		if k -= w.cfg.Pools[f]; k < 0 {
			return f
		}
	}
	return names[0]
}
