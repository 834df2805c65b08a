package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// MaxClients bounds the workers of one step; each has histograms of some 100 KiB.
	MaxClients = 20_000
	// MaxRate bounds an open loop: beyond it this loop itself would be what is measured.
	MaxRate = 5_000_000
	// drainTime is how long operations under way at the end may take to answer.
	drainTime = 15 * time.Second
)

// Step is one stretch of load.
type Step struct {
	// Name of the row.
	Name string
	// Clients work at the same time.
	Clients int
	// Warmup is run first and thrown away; Duration is measured.
	Warmup, Duration time.Duration
	// Rate is operations a second over all clients; 0 is a closed loop.
	Rate float64
	// Progress, if not nil, counts operations as they end, warm-up included.
	Progress *atomic.Int64
}

func (s Step) validate() error {
	switch {
	case s.Clients < 1 || s.Clients > MaxClients:
		return fmt.Errorf("%d clients: use 1 to %d", s.Clients, MaxClients)
	case s.Duration <= 0 || s.Warmup < 0:
		return fmt.Errorf("measure for %s after %s of warm-up: use more than nothing", s.Duration, s.Warmup)
	case s.Rate < 0 || s.Rate > MaxRate:
		return fmt.Errorf("rate %g: use up to %d operations a second", s.Rate, MaxRate)
	}
	return nil
}

// Worker is one client. It is called by one goroutine.
type Worker interface {
	// Do does one operation. It may note parts of it by name and count more than one
	// unit of work. An error is counted by its reason and does not end the step; an
	// error that is Fatal does.
	Do(ctx context.Context, m *Meter) error
	// Close ends the worker, under a context that outlives the step.
	Close(ctx context.Context)
}

// Maker makes worker i of a step.
type Maker func(ctx context.Context, i int) (Worker, error)

// Fatal makes an error that ends the step.
func Fatal(err error) error { return &fatal{err} }

type fatal struct{ error }

func (f *fatal) Unwrap() error { return f.error }

// Reasoned is an error that is counted under a reason of its own and that may ask the
// worker to stay away for a while.
type Reasoned struct {
	Reason string
	// Pause is waited before the next operation of this worker.
	Pause time.Duration
	Err   error
}

func (r *Reasoned) Error() string { return fmt.Sprintf("%s: %v", r.Reason, r.Err) }
func (r *Reasoned) Unwrap() error { return r.Err }

// Run runs one step and returns its rows: the operations, then their parts. Workers
// are made first, so that opening sessions and connections is not measured.
func Run(ctx context.Context, s Step, makeWorker Maker) ([]Row, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	workers, err := makeAll(ctx, s.Clients, makeWorker)
	defer closeAll(ctx, workers)
	if err != nil {
		return nil, err
	}
	r := &running{step: s, begin: time.Now().Add(time.Millisecond)}
	r.from = r.begin.Add(s.Warmup)
	r.until = r.from.Add(s.Duration)
	// Operations under way at the end may finish; their answers no longer count.
	ctx, cancel := context.WithDeadlineCause(ctx, r.until.Add(drainTime), errors.New("the step is over"))
	defer cancel()
	r.stop = cancel
	meters := make([]*Meter, len(workers))
	var wg sync.WaitGroup
	for i, w := range workers {
		meters[i] = newMeter(r.from, r.until)
		wg.Go(func() { r.work(ctx, w, meters[i], i) })
	}
	wg.Wait()
	if err := r.failed(); err != nil {
		return nil, err
	}
	return rows(s, meters), nil
}

// makeAll makes the workers, several at a time: opening a session costs an fsync.
func makeAll(ctx context.Context, n int, makeWorker Maker) ([]Worker, error) {
	const atOnce = 32
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	made := make([]Worker, n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(atOnce, n) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				w, err := makeWorker(ctx, i)
				if err != nil {
					cancel(fmt.Errorf("client %d: %w", i, err))
					return
				}
				made[i] = w
			}
		})
	}
	wg.Wait()
	return made, context.Cause(ctx)
}

func closeAll(ctx context.Context, workers []Worker) {
	const atOnce = 32
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(atOnce, len(workers)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(workers); i = int(next.Add(1)) - 1 {
				if workers[i] != nil {
					workers[i].Close(ctx)
				}
			}
		})
	}
	wg.Wait()
}

// running is one step on its way.
type running struct {
	step               Step
	begin, from, until time.Time
	stop               context.CancelFunc
	mu                 sync.Mutex
	err                error
}

func (r *running) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *running) fail(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	r.stop()
}

// work is one client's life.
func (r *running) work(ctx context.Context, w Worker, m *Meter, i int) {
	schedule := newSchedule(r.step, r.begin, i)
	for {
		intended, ok := schedule.next(r.until)
		if !ok {
			return
		}
		if !waitUntil(ctx, intended, r.until) {
			m.unsent += schedule.left(r.until)
			return
		}
		start := time.Now()
		if r.step.Rate > 0 {
			if !start.Before(r.until) {
				m.unsent += schedule.left(r.until)
				return
			}
			start = intended
		}
		m.start, m.units = start, 1
		err := w.Do(ctx, m)
		if ctx.Err() != nil && err != nil {
			r.interrupted(ctx)
			return
		}
		if r.step.Progress != nil {
			r.step.Progress.Add(m.units)
		}
		m.ended(time.Now(), err)
		var f *fatal
		if errors.As(err, &f) {
			r.fail(f.error)
			return
		}
		var reasoned *Reasoned
		if errors.As(err, &reasoned) && reasoned.Pause > 0 {
			if !waitUntil(ctx, time.Now().Add(reasoned.Pause), r.until) {
				m.unsent += schedule.left(r.until)
				return
			}
		}
	}
}

// interrupted says why the step ended before its time, if it did.
func (r *running) interrupted(ctx context.Context) {
	if time.Now().Before(r.until) {
		r.fail(context.Cause(ctx))
	}
}

// schedule says when one client's operations should begin.
type schedule struct {
	at    time.Time
	every time.Duration // 0: at once
}

// newSchedule spreads the clients evenly, so that they do not all send together.
func newSchedule(s Step, begin time.Time, i int) *schedule {
	if s.Rate == 0 {
		return &schedule{at: begin}
	}
	every := time.Duration(float64(s.Clients) / s.Rate * float64(time.Second))
	return &schedule{at: begin.Add(every * time.Duration(i) / time.Duration(s.Clients)), every: every}
}

// next returns when the next operation should begin, and false after the end.
func (s *schedule) next(until time.Time) (time.Time, bool) {
	if s.every == 0 {
		now := time.Now()
		if now.Before(s.at) {
			return s.at, true
		}
		return now, now.Before(until)
	}
	at := s.at
	s.at = at.Add(s.every)
	return at, at.Before(until)
}

// left counts the operations, the current one included, that should begin before the
// end. It is called once, when no more begin.
func (s *schedule) left(until time.Time) int64 {
	if s.every == 0 {
		return 0
	}
	n := int64(1)
	if s.at.Before(until) {
		n += int64((until.Sub(s.at) + s.every - 1) / s.every)
	}
	return n
}

// waitUntil waits for t; false if the end or ctx comes first.
func waitUntil(ctx context.Context, t, until time.Time) bool {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(min(d, time.Until(until)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return t.Before(until)
	}
}
