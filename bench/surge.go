package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Surge measures what a quiet tenant feels of one that misbehaves.
type Surge struct {
	// Quiet clients send QuietRate cycles a second in all, in an open loop.
	Quiet     int
	QuietRate float64
	// Aggressive clients of the other tenant check out and in as fast as they get
	// answers, each on a connection of its own.
	Aggressive       int
	Warmup, Duration time.Duration
	// Aggressors runs them, if it can in a process of its own that gives way to this one:
	// what is measured is what the servers do to the quiet tenant, whose clients would have a
	// machine of their own, and not how two load generators share one. It calls working when they begin.
	Aggressors func(ctx context.Context, a Aggression, working func()) (*load.Report, error)
}

// Styles of aggressive clients.
const (
	StylePolite = "polite" // the SDK: waits as long as a refusal says, with jitter
	StyleRude   = "rude"   // sends again at once, whatever the refusal says
	// StyleStreamed are rude ones that share pipelines: many of them to one connection.
	StyleStreamed = "streamed"
	// StyleGreedy are requests of one rude client: they name nobody, so they are told apart
	// by their address alone. Who suffers is measured in its own tenant.
	StyleGreedy = "greedy"
)

// Styles are all of them, in the order of a report.
var Styles = []string{StylePolite, StyleRude, StyleStreamed, StyleGreedy}

// Aggression is the load of the misbehaving tenant.
type Aggression struct {
	Tenant           string
	Clients          int
	Style            string
	Warmup, Duration time.Duration
	// Working, if not nil, is called when they begin.
	Working func()
}

// Rows and values of a surge.
const (
	RowQuietAlone = "quiet tenant alone"
	RowSixty      = "one tenant, 60 in flight"

	sixty = 60
	// lead is how much longer the aggressors work than the quiet tenant is measured,
	// so that it is never measured without them.
	lead = 500 * time.Millisecond
)

// RowQuiet names the row of the quiet clients beside aggressors of a style.
func RowQuiet(style string) string {
	if style == StyleGreedy {
		return "quiet clients in the tenant of a greedy one"
	}
	return "quiet tenant beside " + style + " ones"
}

// RowAggressors names the row of the aggressors themselves.
func RowAggressors(style string) string { return style + " aggressors" }

// ServedClients names the value that says how many aggressors got a seat at least once.
func ServedClients(style string) string { return style + " aggressors that were served" }

// Refusals names the value that says how many requests the servers refused because
// they were overloaded; the SDK hides them from the aggressors' own row.
func Refusals(style string) string { return "requests refused as overloaded, " + style + " aggressors" }

// QuietRatio names the value that compares the p99 of the quiet clients with that alone.
func QuietRatio(style string) string { return "p99, " + RowQuiet(style) + " / alone" }

// QuietRefused names the value that says how many requests of the quiet clients failed, for
// whatever reason, or were not begun in time.
func QuietRefused(style string) string { return "refused or failed, " + RowQuiet(style) }

// LimitHits names the value that says how often a limit of the servers was reached.
func LimitHits(style, limit string) string {
	return fmt.Sprintf("refused for want of room of a %s, %s aggressors", limit, style)
}

// Resident sets of the largest node: nothing grows without bound.
const (
	ValueCalmRSS  = "resident set of the largest node before the surge"
	ValueSurgeRSS = "resident set of the largest node, the most during it"
)

// ValueSixtyMean is the mean of one request with sixty in flight.
const ValueSixtyMean = "mean of a checkout, 60 in flight"

// Run measures. The target needs two tenants: the first is the quiet one.
func (s Surge) Run(ctx context.Context, t *Target, r *load.Report) error {
	if err := t.validate(s.Quiet); err != nil {
		return err
	}
	if len(t.Tenants) < 2 {
		return errors.New("surge needs two tenants: name them with --tenants")
	}
	quiet, loud := *t, t.Tenants[1]
	quiet.Tenants = t.Tenants[:1]
	alone, err := s.quiet(ctx, &quiet, RowQuietAlone)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, alone...)
	r.Add(ValueCalmRSS, t.resident(ctx), "bytes")
	peak := t.watchResident(ctx)
	defer peak.stop()
	neighbours := *t
	neighbours.Tenants = []string{loud}
	for _, style := range Styles {
		victim := &quiet
		if style == StyleGreedy {
			victim = &neighbours
		}
		if err := s.beside(ctx, victim, r, style, loud, alone[0]); err != nil {
			return err
		}
	}
	r.Add(ValueSurgeRSS, peak.stop(), "bytes")
	rows, err := quiet.sixtyInFlight(ctx, s.Warmup, s.Duration)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	r.Add(ValueSixtyMean, part(rows, partCheckout).Latency.Mean, "us")
	r.Notes = append(r.Notes,
		fmt.Sprintf("the quiet tenant's %d clients send %g cycles a second in an open loop: latency counts from the moment a cycle should have begun", s.Quiet, s.QuietRate),
		fmt.Sprintf("%d aggressors check out and in as fast as they get answers, each on its own connection (streamed ones apart), in a process of their own with idle priority: the quiet tenant's clients wait for the servers and not for their CPU", s.Aggressive),
		"polite ones are the SDK (they wait as long as a refusal says), rude ones send again at once",
		fmt.Sprintf("streamed ones are rude and share streams, %d to a connection", clientsPerConn),
		fmt.Sprintf("the greedy one is a single rude client with %d requests at a time; who is measured beside it is of the same tenant", s.Aggressive))
	return nil
}

// quiet runs the quiet tenant for one step.
func (s Surge) quiet(ctx context.Context, t *Target, name string) ([]load.Row, error) {
	w, err := t.Dial(ctx, s.Quiet)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return t.step(ctx, load.Step{Name: name, Clients: s.Quiet, Warmup: s.Warmup, Duration: s.Duration, Rate: s.QuietRate},
		func(_ context.Context, i int) (load.Worker, error) {
			return &cycler{h: w.newHolder(i, 1, t.Feature)}, nil
		})
}

// beside runs the quiet tenant while the other one misbehaves.
func (s Surge) beside(ctx context.Context, quiet *Target, r *load.Report, style, loud string, alone load.Row) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		report *load.Report
		err    error
	}
	refused, limits, err := quiet.refusals(ctx)
	if err != nil {
		return err
	}
	came, working := make(chan answer, 1), make(chan struct{})
	go func() {
		report, err := s.Aggressors(ctx, Aggression{Tenant: loud, Clients: s.Aggressive, Style: style,
			Warmup: s.Warmup, Duration: s.Warmup + s.Duration + 2*lead}, sync.OnceFunc(func() { close(working) }))
		came <- answer{report, err}
		if err != nil {
			cancel()
		}
	}()
	select {
	case <-working:
	case <-ctx.Done():
	}
	pause(ctx, s.Warmup+lead)
	rows, err := s.quiet(ctx, quiet, RowQuiet(style))
	got := <-came
	if got.err != nil {
		return fmt.Errorf("%s aggressors: %w", style, got.err)
	}
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	r.Rows = append(r.Rows, got.report.Rows...)
	for _, v := range got.report.Values {
		if v.Name != ValueElections { // which the whole run counts
			r.Values = append(r.Values, v)
		}
	}
	after, limitsAfter, err := quiet.refusals(ctx)
	if err != nil {
		return err
	}
	r.Add(QuietRefused(style), float64(rows[0].Failed()+rows[0].Unsent), "requests")
	r.Add(Refusals(style), after-refused, "requests")
	for _, limit := range slices.Sorted(maps.Keys(limitsAfter)) {
		if n := limitsAfter[limit] - limits[limit]; n > 0 {
			r.Add(LimitHits(style, limit), n, "requests")
		}
	}
	if alone.Latency.P99 > 0 {
		r.Add(QuietRatio(style), rows[0].Latency.P99/alone.Latency.P99, "")
	}
	return nil
}

// refusals is how many requests all nodes refused as overloaded until now, and how many of
// them for each of the limits of admission.
func (t *Target) refusals(ctx context.Context) (n float64, limits map[string]float64, err error) {
	limits = map[string]float64{}
	for _, a := range t.Addresses {
		s, err := t.scrape(ctx, a)
		if err != nil {
			return 0, nil, err
		}
		for name, v := range s {
			if strings.HasPrefix(name, metricRefused) && strings.Contains(name, `reason="`+overloaded+`"`) {
				n += v
			}
			if labels, ok := strings.CutPrefix(name, metricOverloaded); ok {
				_, limit, _ := strings.Cut(labels, `limit="`)
				limit, _, _ = strings.Cut(limit, `"`)
				limits[limit] += v
			}
		}
	}
	return n, limits, nil
}

// sixtyInFlight is as much as one tenant may have at once: how long does each take.
func (t *Target) sixtyInFlight(ctx context.Context, warmup, d time.Duration) ([]load.Row, error) {
	w, err := t.Dial(ctx, connsFor(sixty))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return t.step(ctx, load.Step{Name: RowSixty, Clients: sixty, Warmup: warmup, Duration: d},
		func(_ context.Context, i int) (load.Worker, error) {
			return &cycler{h: w.newHolder(i, 1, t.Feature)}, nil
		})
}

// Run is the aggressors' side of a surge.
func (a Aggression) Run(ctx context.Context, t *Target, r *load.Report) error {
	own := *t
	own.Tenants = []string{a.Tenant}
	if err := own.validate(a.Clients); err != nil {
		return err
	}
	var served atomic.Int64
	step := load.Step{Name: RowAggressors(a.Style), Clients: a.Clients, Warmup: a.Warmup, Duration: a.Duration}
	var makeWorker load.Maker
	switch a.Style {
	case StyleRude, StyleStreamed:
		conns := a.Clients
		if a.Style == StyleStreamed {
			conns = connsFor(a.Clients)
		}
		w, err := own.Dial(ctx, conns)
		if err != nil {
			return err
		}
		defer w.Close()
		makeWorker = func(_ context.Context, i int) (load.Worker, error) {
			h := w.newHolder(i, 1, t.Feature)
			h.streamed = a.Style == StyleStreamed
			return &aggressor{Worker: &rude{h}, served: &served}, nil
		}
	case StyleGreedy:
		w, err := own.Dial(ctx, connsFor(a.Clients))
		if err != nil {
			return err
		}
		defer w.Close()
		makeWorker = func(_ context.Context, i int) (load.Worker, error) {
			return &aggressor{Worker: &greedy{w: w, i: i, tenant: a.Tenant, feature: t.Feature}, served: &served}, nil
		}
	case StylePolite:
		clients, err := own.sdkClients(a.Clients, 1)
		if err != nil {
			return err
		}
		defer clients.close(ctx)
		makeWorker = func(ctx context.Context, i int) (load.Worker, error) {
			s, err := clients.session(ctx, i, 1)
			return &aggressor{Worker: &sdkCycler{s, client.Item{Feature: t.Feature}}, served: &served}, err
		}
	default:
		return fmt.Errorf("style %q: use one of %v", a.Style, Styles)
	}
	if a.Working != nil {
		a.Working()
	}
	rows, err := own.step(ctx, step, makeWorker)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	if a.Style != StyleGreedy { // which is one client
		r.Add(ServedClients(a.Style), float64(served.Load()), "clients")
	}
	return nil
}

// aggressor counts whether it was ever served.
type aggressor struct {
	load.Worker
	served *atomic.Int64
	yes    bool
}

func (a *aggressor) Do(ctx context.Context, m *load.Meter) error {
	err := a.Worker.Do(ctx, m)
	if err == nil && !a.yes {
		a.yes = true
		a.served.Add(1)
	}
	return err
}

// rude takes no hint: what is refused is sent again at once.
type rude struct{ h *holder }

func (c *rude) Do(ctx context.Context, m *load.Meter) error {
	if len(c.h.held) == 0 {
		if err := c.h.checkout(ctx); err != nil {
			return hurried(err)
		}
	}
	return hurried(c.h.checkin(ctx, false))
}

func hurried(err error) error {
	if r, ok := err.(*load.Reasoned); ok {
		r.Pause = 0
	}
	return err
}

func (c *rude) Close(ctx context.Context) { c.h.leave(ctx) }

// greedy is one of the requests of a client without a name: each opens a session by itself
// and ends it.
type greedy struct {
	w               *Wire
	i               int
	tenant, feature string
	held            *pb.Session
}

func (g *greedy) Do(ctx context.Context, _ *load.Meter) error {
	cc, err := g.w.conn(g.i)
	if err != nil {
		return load.Fatal(err)
	}
	call, cancel := g.w.target.call(ctx)
	defer cancel()
	seats := pb.NewSeatsClient(cc)
	if g.held == nil {
		answer, err := seats.Checkout(call, &pb.CheckoutRequest{Items: []*pb.Item{{Feature: g.feature}}, Tenant: g.tenant})
		if err != nil {
			return hurried(g.w.reasoned(ctx, err))
		}
		g.held = answer.Session
	}
	_, err = seats.Checkin(call, &pb.CheckinRequest{SessionId: g.held.Id, SessionSecret: g.held.Secret, Close: true, Tenant: g.tenant})
	if err == nil {
		g.held = nil
	}
	return hurried(g.w.reasoned(ctx, err))
}

func (g *greedy) Close(ctx context.Context) {
	if g.held != nil {
		_ = g.Do(ctx, nil)
	}
}
