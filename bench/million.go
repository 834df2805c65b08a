package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Million fills the cluster with leases and measures what becomes of it.
type Million struct {
	// Leases to fill, PerSession of them in one session by one batch checkout of as
	// many features.
	Leases, PerSession int
	// Few is the number of leases that the growth is compared with.
	Few int
	// Expiring leases fall due together, after Lifespan and Grace, which the licence
	// gives to BurstFeature; 0 leaves that part out.
	Expiring        int
	Lifespan, Grace time.Duration
	// Clients measure checkouts meanwhile.
	Clients          int
	Warmup, Duration time.Duration
	// Restart kills all nodes and starts them again.
	Restart bool
}

// Features of a million: a session takes one lease of each of the first PerSession.
func BatchFeature(i int) string { return fmt.Sprintf("batch-%d", i) }

// BurstFeature is like BatchFeature, of leases that live shortly.
func BurstFeature(i int) string { return fmt.Sprintf("burst-%d", i) }

// Rows and values of a million.
const (
	RowFew        = "cycle at few leases"
	RowMany       = "cycle at all leases"
	RowFill       = "fill, leases"
	RowExpiry     = "cycle while leases expire together"
	ValueGrowth   = "checkout median at all leases / at few"
	ValueExpiry   = "others' p99 while leases expire together / before"
	ValueHeap     = "heap per lease"
	ValueRSS      = "resident set of the leader"
	ValueSnapshot = "snapshot: applies stand still, mean"
	ValueDecay    = "from the first lease due to the last one gone"
	ValueRestart  = "all nodes killed and started: to the next acknowledged checkout"
	ValueRejoin   = "one follower killed and started: to following again"

	// fillers fill at once: enough to keep the leader's batches full.
	fillers = 64
	// MaxPerSession is as many items as one checkout may have.
	MaxPerSession = 64
	// collectBound: Go collects garbage at least every two minutes.
	collectBound = 130 * time.Second
	// restartBound is how long a restart may take before we say it does not work.
	restartBound = 5 * time.Minute
)

func (m Million) validate(t *Target) error {
	switch {
	case m.PerSession < 1 || m.PerSession > MaxPerSession:
		return fmt.Errorf("%d leases in a session: use 1 to %d", m.PerSession, MaxPerSession)
	case m.Few < 1 || m.Leases < m.Few:
		return fmt.Errorf("%d leases compared with %d: the first must be more", m.Leases, m.Few)
	case m.Restart && t.Nodes == nil:
		return errors.New("the restart kills servers: let bench start its own (leave out --addr)")
	}
	return t.validate(m.Clients)
}

// Run measures.
func (m Million) Run(ctx context.Context, t *Target, r *load.Report) error {
	if err := m.validate(t); err != nil {
		return err
	}
	f := &filler{t: t, per: m.PerSession}
	if err := m.growth(ctx, t, r, f); err != nil {
		return err
	}
	if err := m.backup(ctx, t, r); err != nil {
		return err
	}
	if m.Expiring > 0 {
		if err := m.expire(ctx, t, r); err != nil {
			return err
		}
	}
	if m.Restart {
		if err := m.restart(ctx, t, r); err != nil {
			return err
		}
	}
	r.Notes = append(r.Notes,
		fmt.Sprintf("%d leases in sessions of %d, filled by batch checkouts of %d features each", m.Leases, m.PerSession, m.PerSession),
		"heap is what the last garbage collection of the leader left, less the same at few leases; sessions, indexes and dedupe state are in it")
	return nil
}

// growth compares checkouts and memory at few leases with those at all.
func (m Million) growth(ctx context.Context, t *Target, r *load.Report, f *filler) error {
	if err := f.fill(ctx, m.Few, BatchFeature); err != nil {
		return err
	}
	filled := time.Now()
	few, err := m.cycle(ctx, t, RowFew, m.Duration)
	if err != nil {
		return err
	}
	before, err := f.collected(ctx, filled)
	if err != nil {
		return err
	}
	snapsBefore := t.snapshots(ctx)
	began := time.Now()
	if err := f.fill(ctx, m.Leases-m.Few, BatchFeature); err != nil {
		return err
	}
	filled = time.Now()
	took := filled.Sub(began)
	many, err := m.cycle(ctx, t, RowMany, m.Duration)
	if err != nil {
		return err
	}
	after, err := f.collected(ctx, filled)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, few...)
	r.Rows = append(r.Rows, many...)
	r.Rows = append(r.Rows, load.Row{Name: RowFill, Clients: fillers, Seconds: took.Seconds(), Count: int64(m.Leases - m.Few),
		PerSecond: float64(m.Leases-m.Few) / took.Seconds()})
	r.Add(ValueGrowth, part(many, partCheckout).Latency.P50/part(few, partCheckout).Latency.P50, "")
	r.Add(ValueHeap, (after.liveHeap()-before.liveHeap())/float64(m.Leases-m.Few), "bytes")
	r.Add(ValueRSS, after[metricRSS], "bytes")
	if snaps := t.snapshots(ctx); snaps.count > snapsBefore.count {
		r.Add(ValueSnapshot, (snaps.millis-snapsBefore.millis)/(snaps.count-snapsBefore.count), "ms")
	} else {
		r.Notes = append(r.Notes, "no node made a snapshot of its log while leases were filled: the rows while a backup is read say what a copy of the state costs others")
	}
	return nil
}

// snapshots is how often all nodes took a snapshot of their state for raft, and how
// long applies stood still for it in all.
func (t *Target) snapshots(ctx context.Context) (all struct{ count, millis float64 }) {
	for _, a := range t.Addresses {
		if s, err := t.scrape(ctx, a); err == nil {
			all.count += s[metricSnapCount]
			all.millis += s[metricSnapSum]
		}
	}
	return all
}

func part(rows []load.Row, name string) load.Row {
	for _, row := range rows {
		if row.Name == rows[0].Name+" "+name {
			return row
		}
	}
	return load.Row{}
}

// cycle is the load whose latency is compared.
func (m Million) cycle(ctx context.Context, t *Target, name string, d time.Duration) ([]load.Row, error) {
	w, err := t.Dial(ctx, connsFor(m.Clients))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return t.step(ctx, load.Step{Name: name, Clients: m.Clients, Warmup: m.Warmup, Duration: d},
		func(_ context.Context, i int) (load.Worker, error) {
			return &cycler{h: w.newHolder(i, m.Clients, t.Feature)}, nil
		})
}

// filler fills the cluster and remembers nothing but the number of its sessions.
type filler struct {
	t    *Target
	per  int
	made atomic.Int64
}

// fill checks out n leases more, in sessions that stay.
func (f *filler) fill(ctx context.Context, n int, feature func(int) string) error {
	_, err := f.fillSessions(ctx, n, feature, false)
	return err
}

// fillSessions is fill; with keep it returns the sessions.
func (f *filler) fillSessions(ctx context.Context, n int, feature func(int) string, keep bool) ([]*holder, error) {
	w, err := f.t.Dial(ctx, connsFor(fillers))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	done, finished := f.t.watch("fill leases", 0, int64(n))
	defer finished()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var kept []*holder
	var left atomic.Int64
	left.Store(int64(n))
	for range fillers {
		wg.Go(func() {
			for ctx.Err() == nil {
				before := left.Add(-int64(f.per)) + int64(f.per)
				if before <= 0 {
					return
				}
				h := f.holder(w, int(min(before, int64(f.per))), feature)
				if err := again(ctx, h.checkout); err != nil {
					cancel(fmt.Errorf("filling: %w", err))
					return
				}
				done.Add(int64(len(h.held)))
				if keep {
					mu.Lock()
					kept = append(kept, h)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return kept, context.Cause(ctx)
}

// holder is the next session, with a lease of each of n features.
func (f *filler) holder(w *Wire, n int, feature func(int) string) *holder {
	i := int(f.made.Add(1))
	h := w.newHolder(i, 1)
	h.tenant = f.t.Tenants[i%len(f.t.Tenants)]
	for k := range n {
		h.items = append(h.items, &pb.Item{Feature: feature(k)})
	}
	return h
}

// collected waits until the leader has collected its garbage after a moment of this
// machine's clock, on which all servers run, and returns its metrics.
func (f *filler) collected(ctx context.Context, since time.Time) (samples, error) {
	w, err := f.t.Dial(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	_, finished := f.t.watch("wait for the leader's garbage collection", 0, 0)
	defer finished()
	for deadline := time.Now().Add(collectBound); ; {
		s, err := f.t.scrape(ctx, w.Leader())
		if err != nil {
			return nil, err
		}
		if s[metricLastGC] > float64(since.UnixNano())/1e9 {
			return s, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the leader collected no garbage within %s", collectBound)
		}
		pause(ctx, 200*time.Millisecond)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// expire lets many leases fall due together and measures what others feel.
func (m Million) expire(ctx context.Context, t *Target, r *load.Report) error {
	f := &filler{t: t, per: MaxPerSession}
	holders, err := f.fillSessions(ctx, m.Expiring, BurstFeature, true)
	if err != nil {
		return err
	}
	w, err := t.Dial(ctx, connsFor(fillers))
	if err != nil {
		return err
	}
	defer w.Close()
	// One heartbeat for all of them brings their deadlines together.
	began := time.Now()
	if err := renewAll(ctx, w, holders); err != nil {
		return err
	}
	due := began.Add(m.Lifespan + m.Grace)
	before, err := m.cycle(ctx, t, "cycle before leases expire", max(time.Until(due)-m.Warmup-time.Second, time.Second))
	if err != nil {
		return err
	}
	gone := make(chan time.Time, 1)
	stopped, stop := context.WithCancel(ctx)
	defer stop()
	go func() { gone <- w.waitGone(stopped, BurstFeature(0)) }()
	// The heartbeats took a while: so does the falling due.
	during, err := m.cycle(ctx, t, RowExpiry, max(time.Until(due), 0)+m.Duration)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, before...)
	r.Rows = append(r.Rows, during...)
	r.Add(ValueExpiry, during[0].Latency.P99/before[0].Latency.P99, "")
	select {
	case at := <-gone:
		r.Add(ValueDecay, at.Sub(due).Seconds(), "s")
	default:
		r.Notes = append(r.Notes, fmt.Sprintf("%s after they fell due, not all of the %d leases were gone", m.Duration, m.Expiring))
	}
	return nil
}

func renewAll(ctx context.Context, w *Wire, holders []*holder) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var next atomic.Int64
	for range fillers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(holders) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				holders[i].w = w
				if err := again(ctx, holders[i].heartbeat); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// waitGone waits until no seat of a feature is in use.
func (w *Wire) waitGone(ctx context.Context, feature string) time.Time {
	for ctx.Err() == nil {
		pause(ctx, 200*time.Millisecond)
		s, err := w.status(ctx)
		if err != nil {
			continue
		}
		used := int32(0)
		for _, p := range s.Pools {
			if p.Feature == feature {
				used += p.InUse
			}
		}
		if used == 0 {
			break
		}
	}
	return time.Now()
}

// restart kills one follower, then all nodes.
func (m Million) restart(ctx context.Context, t *Target, r *load.Report) error {
	w, err := t.Dial(ctx, 1)
	if err != nil {
		return err
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(ctx, restartBound)
	defer cancel()
	_, finished := t.watch("restart", 0, 0)
	defer finished()
	for _, a := range t.Addresses {
		if a == w.Leader() {
			continue
		}
		if err := t.Nodes.Kill(a); err != nil {
			return err
		}
		began := time.Now()
		if err := t.Nodes.Start(a); err != nil {
			return err
		}
		if err := w.waitFollows(ctx, a); err != nil {
			return err
		}
		r.Add(ValueRejoin, time.Since(began).Seconds(), "s")
		break
	}
	for _, a := range t.Addresses {
		if err := t.Nodes.Kill(a); err != nil {
			return err
		}
	}
	began := time.Now()
	for _, a := range t.Addresses {
		if err := t.Nodes.Start(a); err != nil {
			return err
		}
	}
	p := &prober{h: w.newHolder(0, 1, t.Feature)}
	for ; ctx.Err() == nil; p.at++ {
		if p.try(ctx, t.Addresses[p.at%len(t.Addresses)]) == nil {
			r.Add(ValueRestart, time.Since(began).Seconds(), "s")
			return nil
		}
		pause(ctx, proberPause)
	}
	return fmt.Errorf("after a restart no checkout was acknowledged within %s", restartBound)
}
