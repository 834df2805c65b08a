package bench

import (
	"context"
	"errors"
	"fmt"
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
	ValueRSS      = "resident set of the largest node at all leases"
	ValueRSSPeak  = "resident set of any node, the most that was seen"
	ValueSnapshot = "snapshot at all leases: applies stand still, mean"
	ValueSnaps    = "snapshots that is the mean of"
	ValueDecay    = "from the first lease due to the last one gone"
	ValueRestart  = "all nodes killed and started: to the next acknowledged checkout"
	ValueRejoin   = "one follower killed and started: to following again"

	// MillionTenants is over how many tenants the leases are spread: as many as a server
	// takes so many fillers of at once.
	MillionTenants = fillers / sharedInTenant
	// fillers fill at once, on shared streams: enough to keep the leader's batches full.
	fillers = 256
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
	f := &filler{t: t, per: m.PerSession, beats: map[string][]*pb.RenewBatchRequest{}}
	peak := t.watchResident(ctx)
	defer peak.stop()
	if err := m.growth(ctx, t, r, f); err != nil {
		return err
	}
	snapsBefore := t.snapshots(ctx)
	if err := m.alive(ctx, t, r, f); err != nil {
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
	m.stall(r, snapsBefore, t.snapshots(ctx))
	r.Add(ValueRSSPeak, peak.stop(), "bytes")
	if m.Restart {
		if err := m.restart(ctx, t, r); err != nil {
			return err
		}
	}
	r.Notes = append(r.Notes,
		fmt.Sprintf("%d leases of %d tenants, %d to a session, each session opened by one numbered checkout", m.Leases, len(t.Tenants), m.PerSession),
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
	r.Add(ValueRSS, t.resident(ctx), "bytes")
	return nil
}

// snapshots is how often all nodes took a snapshot of their state for raft, and how
// long applies stood still for it in all.
type snapshots struct{ count, millis float64 }

// stall says how long applies stood still for each snapshot since before.
func (m Million) stall(r *load.Report, before, after snapshots) {
	n := after.count - before.count
	r.Add(ValueSnaps, n, "times")
	if n == 0 {
		r.Notes = append(r.Notes, "no node made a snapshot of its log at all leases: the rows while a backup is read say what a copy of the state costs others")
		return
	}
	r.Add(ValueSnapshot, (after.millis-before.millis)/n, "ms")
}

func (t *Target) snapshots(ctx context.Context) (all snapshots) {
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
	p := w.newProber(0, 1)
	for ctx.Err() == nil {
		if p.try(ctx) == nil {
			r.Add(ValueRestart, time.Since(began).Seconds(), "s")
			return nil
		}
		pause(ctx, proberPause)
	}
	return fmt.Errorf("after a restart no checkout was acknowledged within %s", restartBound)
}
