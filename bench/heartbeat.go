package bench

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// The forms of a heartbeat.
const (
	FormUnary       = "unary"        // one call renews one session
	FormStream      = "stream"       // each client has a stream with many renewals on their way
	FormBatch       = "batch"        // one call renews many sessions
	FormStreamBatch = "stream-batch" // a stream of those
)

// Forms are all forms, in the order of a report.
var Forms = []string{FormUnary, FormStream, FormBatch, FormStreamBatch}

const (
	// DefaultWindow is how many messages a stream has on their way in a closed loop:
	// enough to fill the leader's batches, below what a server takes from one stream.
	DefaultWindow = 64
	// DefaultPerMessage is what an agent on a large host renews at once.
	DefaultPerMessage = 100
	// MaxPerMessage is what a server takes.
	MaxPerMessage = 4096
	// openers open sessions at once.
	openers = 64
)

// Heartbeat measures renewals; every one is replicated like a checkout. Each session
// holds one lease.
type Heartbeat struct {
	// Clients of each step, one step after the other.
	Clients []int
	// Sessions is how many there are in all, at least as many as the clients need; the
	// clients share them and renew theirs in turn.
	Sessions int
	// Forms to measure, of Forms.
	Forms []string
	// PerMessage sessions are in one message of the batched forms, Window messages of
	// a stream on their way at once (in an open loop one).
	PerMessage, Window int
	Warmup, Duration   time.Duration
	// Rate in sessions renewed a second makes an open loop; 0 is a closed one.
	Rate float64
}

// RowHeartbeat names the row of one form.
func RowHeartbeat(form string) string { return "heartbeat " + form }

// LeaderCores names the value that says what a step cost the leader.
func LeaderCores(row string, clients int) string {
	return fmt.Sprintf("cores of the leader, %s, %d clients", row, clients)
}

// Need is how many sessions there must be.
func (b Heartbeat) Need() int {
	need := b.Sessions
	for _, n := range b.Clients {
		for _, form := range b.Forms {
			need = max(need, n*b.units(form))
		}
	}
	return need
}

// units is how many sessions one message of a form renews.
func (b Heartbeat) units(form string) int {
	if form == FormBatch || form == FormStreamBatch {
		return b.PerMessage
	}
	return 1
}

// Run measures every form with every number of clients.
func (b Heartbeat) Run(ctx context.Context, t *Target, r *load.Report) error {
	for _, n := range b.Clients {
		if err := t.validate(n); err != nil {
			return err
		}
	}
	for _, form := range b.Forms {
		if !slices.Contains(Forms, form) {
			return fmt.Errorf("heartbeats of the form %q: use one of %v", form, Forms)
		}
	}
	if b.PerMessage < 1 || b.PerMessage > MaxPerMessage || b.Window < 1 {
		return fmt.Errorf("%d sessions a message, %d messages on their way: use 1 to %d, and 1 or more", b.PerMessage, b.Window, MaxPerMessage)
	}
	p, err := openPool(ctx, t, b.Need())
	defer p.close(ctx)
	if err != nil {
		return err
	}
	for _, form := range b.Forms {
		for _, n := range b.Clients {
			if err := b.measure(ctx, t, r, p, form, n); err != nil {
				return err
			}
		}
	}
	r.Notes = append(r.Notes,
		"a heartbeat is an entry of the replicated log: it is answered after fsync on a majority",
		fmt.Sprintf("%s of warm-up before each step are thrown away; the rate is of sessions renewed, the latency that of a message", b.Warmup),
		fmt.Sprintf("%d sessions with a lease each; batches renew %d sessions a message, streams have %d messages on their way (in an open loop 1)", p.size(), b.PerMessage, b.Window))
	return nil
}

func (b Heartbeat) measure(ctx context.Context, t *Target, r *load.Report, p *pool, form string, n int) error {
	w, err := t.Dial(ctx, connsFor(n))
	if err != nil {
		return err
	}
	defer w.Close()
	var u *usage
	var cores float64
	cpu := &spent{t: t, leader: w.Leader(), renewals: true}
	rows, err := t.step(ctx, load.Step{Name: RowHeartbeat(form), Clients: n, Warmup: b.Warmup, Duration: b.Duration, Rate: b.Rate / float64(b.units(form))},
		func(ctx context.Context, i int) (load.Worker, error) {
			worker, err := b.worker(ctx, w, form, p.share(i, n), i)
			if err != nil || i > 0 {
				return worker, err
			}
			// Worker 0 is made among the first and closed first, right after the step.
			if u, err = t.usage(ctx, w.Leader()); err != nil {
				return worker, err
			}
			worker = cpu.worker(ctx, worker, true)
			return &lastLook{worker, func(ctx context.Context) { cores, _ = u.cores(ctx) }}, nil
		})
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	r.Add(LeaderCores(RowHeartbeat(form), n), cores, "cores")
	cpu.reportHeartbeats(r, RowHeartbeat(form), n)
	return nil
}

// worker makes client i of a step.
func (b Heartbeat) worker(ctx context.Context, w *Wire, form string, sessions []*holder, i int) (load.Worker, error) {
	messages := &messages{w: w, i: i, sessions: sessions, per: b.units(form), batched: b.units(form) > 1}
	window := b.Window
	if b.Rate > 0 {
		window = 1
	}
	switch form {
	case FormStream, FormStreamBatch:
		return openStream(ctx, messages, window)
	case FormBatch:
		return &batchBeater{messages}, nil
	}
	return &beater{messages}, nil
}

// lastLook is a worker that looks at something when the step is over.
type lastLook struct {
	load.Worker
	look func(context.Context)
}

func (l *lastLook) Close(ctx context.Context) {
	l.look(ctx)
	l.Worker.Close(ctx)
}

// pool is all sessions of a benchmark, by tenant: one message is of one tenant.
type pool struct {
	w        *Wire
	byTenant [][]*holder
}

// openPool opens at least n sessions with a lease each, as many in every tenant. It
// returns what it opened also with an error.
func openPool(ctx context.Context, t *Target, n int) (*pool, error) {
	p := &pool{}
	w, err := t.Dial(ctx, connsFor(openers))
	if err != nil {
		return p, err
	}
	p.w = w
	tenants := len(t.Tenants)
	per := (n + tenants - 1) / tenants
	for k, tenant := range t.Tenants {
		list := make([]*holder, per)
		for i := range list {
			list[i] = w.newHolder(k*per+i, 1, t.Feature)
			list[i].tenant = tenant
		}
		p.byTenant = append(p.byTenant, list)
	}
	done, finished := t.watch("open sessions", 0, int64(p.size()))
	defer finished()
	return p, p.each(ctx, func(ctx context.Context, h *holder) error {
		defer done.Add(1)
		return again(ctx, h.checkout)
	})
}

func (p *pool) size() int {
	n := 0
	for _, list := range p.byTenant {
		n += len(list)
	}
	return n
}

// each calls do for every session, some at a time, until one fails.
func (p *pool) each(ctx context.Context, do func(context.Context, *holder) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	all := slices.Concat(p.byTenant...)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range openers {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(all) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				if err := do(ctx, all[i]); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// close gives everything back, on a cluster that goes on.
func (p *pool) close(ctx context.Context) {
	if p.w == nil {
		return
	}
	if ctx.Err() == nil && p.w.target.Nodes == nil {
		_ = p.each(ctx, func(ctx context.Context, h *holder) error {
			h.leave(ctx)
			return nil
		})
	}
	p.w.Close()
}

// share is what client i of n renews: its part of one tenant's sessions.
func (p *pool) share(i, n int) []*holder {
	tenants := len(p.byTenant)
	list := p.byTenant[i%tenants]
	clients := (n - i%tenants + tenants - 1) / tenants // of this tenant
	at := i / tenants
	from, to := len(list)*at/clients, len(list)*(at+1)/clients
	if from == to {
		return list[from%len(list):][:1]
	}
	return list[from:to]
}

// again repeats what is refused because the servers are busy or elect a leader.
func again(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		r, ok := err.(*load.Reasoned)
		if !ok || r.Reason != overloaded && r.Reason != notLeader && r.Reason != unknownOutcome {
			return err
		}
		pause(ctx, max(r.Pause, askLeader))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
