package bench

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

const (
	// RowAlive is the heartbeats that all sessions of a million need.
	RowAlive = "heartbeats of all leases, batched"
	// ValueAlive is what they cost the leader.
	ValueAlive = "cores of the leader, heartbeats of all leases, batched"
	// heartbeatEvery is a third of the lifespan of the default profile.
	heartbeatEvery = 40 * time.Second
	// aliveClients send them: a few agents, or one gateway.
	aliveClients = 8
)

// alive renews all sessions as often as the default profile asks for, many in a message
// as agents do, and measures what that costs the leader.
func (m Million) alive(ctx context.Context, t *Target, r *load.Report, f *filler) error {
	w, err := t.Dial(ctx, connsFor(aliveClients))
	if err != nil {
		return err
	}
	defer w.Close()
	all := f.allBeats()
	sessions := f.made.Load()
	u := &usage{}
	var cores float64
	rows, err := t.step(ctx, load.Step{Name: RowAlive, Clients: aliveClients, Warmup: m.Warmup, Duration: m.Duration,
		Rate: float64(len(all)) / heartbeatEvery.Seconds()}, func(ctx context.Context, i int) (load.Worker, error) {
		own := all[len(all)*i/aliveClients : len(all)*(i+1)/aliveClients]
		if len(own) == 0 {
			own = all
		}
		var worker load.Worker = &batchBeater{&messages{w: w, i: i, made: own}}
		if i > 0 {
			return worker, nil
		}
		if u, err = t.usage(ctx, w.Leader()); err != nil {
			return worker, err
		}
		return &lastLook{worker, func(ctx context.Context) { cores, _ = u.cores(ctx) }}, nil
	})
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	r.Add(ValueAlive, cores, "cores")
	r.Notes = append(r.Notes, fmt.Sprintf("%d sessions are renewed every %s as the default profile asks, up to %d in a message as agents send them; what the leader does for it is measured in an open loop", sessions, heartbeatEvery, DefaultPerMessage))
	return nil
}

// resident is the resident set of the largest node.
func (t *Target) resident(ctx context.Context) (most float64) {
	for _, a := range t.Addresses {
		if s, err := t.scrape(ctx, a); err == nil {
			most = math.Max(most, s[metricRSS])
		}
	}
	return most
}

// residentPeak is the largest resident set of any node, looked at now and then.
type residentPeak struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	most   float64
}

func (t *Target) watchResident(ctx context.Context) *residentPeak {
	const every = 2 * time.Second // a look costs a page of metrics
	ctx, cancel := context.WithCancel(ctx)
	p := &residentPeak{cancel: cancel}
	p.wg.Go(func() {
		for ctx.Err() == nil {
			p.most = math.Max(p.most, t.resident(ctx))
			pause(ctx, every)
		}
	})
	return p
}

func (p *residentPeak) stop() float64 {
	p.cancel()
	p.wg.Wait()
	return p.most
}
