package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

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
