package workload

import (
	"context"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// application is a program that uses the SDK's sessions as the documentation says. The
// SDK heartbeats by itself; what it believes is read from its leases.
type application struct {
	w *worker
	c *client.Client
	s *client.Session

	mu       sync.Mutex
	leases   []*client.Lease
	believed map[*client.Lease]int64 // until when, as last noted
}

// sampleEvery is how often the SDK is asked what it believes. A confirmation is noted that
// much late at most, and never early.
const sampleEvery = 100 * time.Millisecond

func newApplication(w *worker) (*application, error) {
	c, err := client.New(sdkConfig(w.place, w.cfg.Addresses))
	return &application{w: w, c: c, believed: map[*client.Lease]int64{}}, err
}

// open opens the session, a remembered one if file is set.
func (a *application) open(ctx context.Context, file string) error {
	s, err := a.c.OpenSession(ctx, client.SessionConfig{InstanceID: a.w.name, StateFile: file, Principal: principal(a.w.name)})
	if err != nil {
		return err
	}
	a.s = s
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leases = s.Leases()
	return nil
}

func principal(name string) (p struct {
	User, Host, IP, Display, VendorDefined, Project string
}) {
	p.User, p.Host = name, name+"-host"
	return p
}

// sample notes what the SDK believes by now.
func (a *application) sample() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.leases {
		a.note(l)
	}
}

// note writes down a belief that became longer, or ended before its time. The caller
// holds mu.
func (a *application) note(l *client.Lease) {
	at := a.w.rec.Now()
	until := at + int64(l.Remaining())
	before := a.believed[l]
	const slack = int64(time.Millisecond) // two clocks are read one after the other
	switch {
	case until > before+slack && until > at:
		a.believed[l] = until
		a.w.voice.fact(history.FBelieve, a.s.ID().String(), &history.Believe{Lease: heldOf(l), At: a.w.rec.Now(), Until: until})
	case until == at && before > at+slack:
		// The cluster took it back. It was believed in until some moment since the last
		// look; the earliest is the one that is certain.
		delete(a.believed, l)
		a.w.voice.fact(history.FLost, a.s.ID().String(), &history.Lost{ID: uint64(l.ID()), Token: uint64(l.Token()), At: at - int64(sampleEvery), Cause: string(l.Reason())})
	}
}

func heldOf(l *client.Lease) history.Lease {
	return history.Lease{ID: uint64(l.ID()), Handle: uint64(l.Handle()), Feature: l.Feature(), Version: l.Version(), Count: l.Count(),
		Seats: l.Seats(), Token: uint64(l.Token())}
}

// disown ends a belief at once, before anything is sent.
func (a *application) disown(l *client.Lease, cause string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.note(l)
	for i, x := range a.leases {
		if x == l {
			a.leases = append(a.leases[:i:i], a.leases[i+1:]...)
			break
		}
	}
	if at := a.w.rec.Now(); a.believed[l] > at {
		a.w.voice.fact(history.FLost, a.s.ID().String(), &history.Lost{ID: uint64(l.ID()), Token: uint64(l.Token()), At: at, Cause: cause})
	}
	delete(a.believed, l)
}

func (a *application) op(f history.F, value any) history.Op {
	return history.Op{F: f, Value: value, Request: a.w.voice.newRequest(), Session: a.s.ID().String(), Incarnation: a.s.Incarnation()}
}

func (a *application) checkout(ctx context.Context, feature string) (granted bool) {
	return a.checkoutWait(ctx, 0, feature)
}

func (a *application) checkoutWait(ctx context.Context, wait time.Duration, feature string) (granted bool) {
	p := principal(a.w.name)
	ask := history.Checkout{Items: []history.Item{{Feature: feature, Count: 1}}, User: p.User, Host: p.Host, WaitMS: wait.Milliseconds()}
	var got []*client.Lease
	a.w.voice.do(a.op(history.FCheckout, &ask), func() outcome {
		var err error
		got, err = a.s.CheckoutWait(ctx, wait, client.Item{Feature: feature, Count: 1})
		if err != nil {
			return outcome{err: err, session: a.s.ID().String()}
		}
		answer := ask
		answer.Result = history.Granted
		for _, l := range got {
			answer.Leases = append(answer.Leases, heldOf(l))
		}
		return outcome{value: &answer, session: a.s.ID().String()}
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range got {
		a.leases = append(a.leases, l)
		a.note(l)
	}
	return len(got) > 0
}

func (a *application) checkin(ctx context.Context, l *client.Lease) {
	a.disown(l, history.CauseReleased)
	ask := history.Checkin{Refs: []history.Ref{{ID: uint64(l.ID()), Token: uint64(l.Token())}}}
	a.w.voice.do(a.op(history.FCheckin, &ask), func() outcome {
		if err := l.CheckIn(ctx); err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result = history.Done
		return outcome{value: &got}
	})
}

// forget drops leases that are lost for good.
func (a *application) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.leases[:0]
	for _, l := range a.leases {
		a.note(l)
		if l.Valid() || l.Reason() == "missed_heartbeat" {
			kept = append(kept, l)
			continue
		}
		delete(a.believed, l)
	}
	a.leases = kept
}

func (a *application) hold() []*client.Lease {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]*client.Lease(nil), a.leases...)
}

// watch samples until the returned function is called.
func (a *application) watch() (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		t := time.NewTicker(sampleEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				a.sample()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// close ends the session properly and notes that.
func (a *application) close(ctx context.Context) error {
	for _, l := range a.hold() {
		a.disown(l, history.CauseReleased)
	}
	ask := history.Checkin{Close: true}
	o := a.w.voice.do(a.op(history.FCheckin, &ask), func() outcome {
		if err := a.s.Close(ctx); err != nil {
			return outcome{err: err}
		}
		got := ask
		got.Result = history.Done
		return outcome{value: &got}
	})
	return o.err
}

// crash ends the program as a kill would: nothing is given back, nothing is said.
func (a *application) crash() {
	for _, l := range a.hold() {
		a.disown(l, history.CauseCrashed)
	}
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	_ = a.c.Close(dead)
}

// runSDK is a worker of the seats workload that leaves everything to the SDK.
func runSDK(ctx context.Context, w *worker) error {
	a, err := newApplication(w)
	if err != nil {
		return err
	}
	if err := a.open(ctx, ""); err != nil {
		return err
	}
	stop := a.watch()
	defer stop()
	for ctx.Err() == nil {
		w.think(ctx)
		if w.control.Mode() == Closing {
			return a.close(ctx)
		}
		w.storming()
		if w.control.Mode() == Load {
			w.sdkStep(ctx, a)
		}
	}
	a.crash()
	return nil
}

func (w *worker) sdkStep(ctx context.Context, a *application) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	a.forget()
	held := a.hold()
	switch k := w.rng.IntN(100); {
	case k < 55 && len(held) < maxHeld:
		// Asking twice for the same shares one lease within the SDK, and giving one of
		// the two back asks nobody: that is the SDK's business and no operation.
		f := w.feature()
		if !slices.ContainsFunc(held, func(l *client.Lease) bool { return l.Feature() == f }) {
			if granted := a.checkout(ctx, f); !granted && w.rng.IntN(2) == 0 {
				w.patiently(ctx, func() bool { return a.checkout(ctx, f) })
			}
		}
	case k < 95 && len(held) > 0:
		a.checkin(ctx, held[w.rng.IntN(len(held))])
	}
}

// runCrash is an application that crashes while it holds seats and is started again: at
// once, late (when grace runs) or too late.
func runCrash(ctx context.Context, w *worker) error {
	file := filepath.Join(w.cfg.Dir, w.name+".json")
	for ctx.Err() == nil {
		ended, err := w.crashLife(ctx, file)
		if ended || err != nil {
			return err
		}
		if w.control.Mode() == Load {
			pauses := []time.Duration{0, 100 * time.Millisecond, time.Second, 3 * time.Second, 8 * time.Second}
			w.sleep(ctx, pauses[w.rng.IntN(len(pauses))])
		}
	}
	return nil
}

// crashLife is one run of the application; ended is true when it was the last.
func (w *worker) crashLife(ctx context.Context, file string) (ended bool, err error) {
	a, err := newApplication(w)
	if err != nil {
		return true, err
	}
	if err := a.openNoted(ctx, file); err != nil {
		a.crash()
		return w.control.Mode() == Closing && ctx.Err() != nil, nil
	}
	stop := a.watch()
	defer stop()
	for range 2 + w.rng.IntN(8) {
		w.think(ctx)
		if ctx.Err() != nil || w.control.Mode() == Closing {
			break
		}
		if w.control.Mode() == Load {
			w.sdkStep(ctx, a)
		}
	}
	for w.control.Mode() == Quiet && ctx.Err() == nil {
		w.nap(ctx, time.Second)
	}
	if w.control.Mode() == Closing {
		return true, a.close(ctx)
	}
	a.crash()
	return false, nil
}

// openNoted opens the remembered session; what it resumes is noted as one heartbeat.
func (a *application) openNoted(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := a.open(ctx, file); err != nil {
		return err
	}
	a.sample()
	return nil
}
