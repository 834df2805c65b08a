package bench

import (
	"context"
	"fmt"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// The ways of a client to the cluster.
const (
	ViaRaw      = "raw"      // the generated gRPC client, a call for each request
	ViaPipeline = "pipeline" // the clients of a connection share one stream of it
	ViaSDK      = "sdk"      // sessions of rpc/client, with their heartbeats; they share streams
)

// Cycle measures checkout and check-in of one seat. A client keeps its session and
// takes a new lease in each cycle, unless Fresh.
type Cycle struct {
	// Clients of each step, one step after the other.
	Clients          []int
	Warmup, Duration time.Duration
	// Rate in cycles a second makes an open loop; 0 is a closed one.
	Rate float64
	// Via is ViaRaw, ViaPipeline or ViaSDK.
	Via string
	// Fresh opens and ends a session in each cycle.
	Fresh bool
	// Limits measures beside it what gRPC and the disk alone can do, for Probe each.
	Limits bool
	Probe  time.Duration
}

// Names of rows and values that readers of reports look for.
const (
	RowCycle    = "cycle"
	RowEcho     = "grpc echo"
	RowCheckout = RowCycle + " " + partCheckout

	partCheckout = "checkout"
	partCheckin  = "checkin"
)

// EchoShare names the value that says how much of the gRPC echo limit a step reached.
func EchoShare(clients int) string {
	return fmt.Sprintf("share of the gRPC echo limit, %d clients", clients)
}

// Values of one checkout alone.
const (
	ValueAloneBound = "two fsyncs, one TCP round trip and one gRPC echo (medians)"
	ValueAloneRatio = "checkout alone / that bound (medians)"
)

// Run measures every step.
func (c Cycle) Run(ctx context.Context, t *Target, r *load.Report) error {
	if c.Via != ViaRaw && c.Via != ViaPipeline && c.Via != ViaSDK {
		return fmt.Errorf("clients go via %q: use %s, %s or %s", c.Via, ViaRaw, ViaPipeline, ViaSDK)
	}
	for _, n := range c.Clients {
		if err := t.validate(n); err != nil {
			return err
		}
	}
	var fsync, trip load.Row
	if c.Limits {
		var err error
		if fsync, trip, err = c.machine(ctx, t, r); err != nil {
			return err
		}
	}
	for _, n := range c.Clients {
		if err := c.measure(ctx, t, r, n, fsync, trip); err != nil {
			return err
		}
	}
	c.explain(t, r)
	return nil
}

func (c Cycle) machine(ctx context.Context, t *Target, r *load.Report) (fsync, trip load.Row, err error) {
	_, finished := t.watch("fsync and TCP round trip", 2*c.Probe, 0)
	defer finished()
	if t.DataDir != "" {
		if fsync, err = load.Fsync(ctx, t.DataDir, c.Probe); err != nil {
			return fsync, trip, err
		}
		r.Rows = append(r.Rows, fsync)
	}
	if trip, err = load.RoundTrip(ctx, c.Probe); err != nil {
		return fsync, trip, err
	}
	r.Rows = append(r.Rows, trip)
	return fsync, trip, nil
}

func (c Cycle) measure(ctx context.Context, t *Target, r *load.Report, n int, fsync, trip load.Row) error {
	w, err := t.Dial(ctx, connsFor(n))
	if err != nil {
		return err
	}
	defer w.Close()
	var echo load.Row
	if c.Limits {
		rows, err := t.step(ctx, load.Step{Name: RowEcho, Clients: n, Warmup: c.Probe / 4, Duration: c.Probe}, w.echoes)
		if err != nil {
			return err
		}
		echo = rows[0]
		r.Rows = append(r.Rows, echo)
	}
	makeWorker, closeAll, err := c.workers(t, w, n)
	if err != nil {
		return err
	}
	cpu := &spent{t: t, leader: w.Leader()}
	rows, err := t.step(ctx, load.Step{Name: RowCycle, Clients: n, Warmup: c.Warmup, Duration: c.Duration, Rate: c.Rate},
		func(ctx context.Context, i int) (load.Worker, error) {
			worker, err := makeWorker(ctx, i)
			if err != nil {
				return nil, err
			}
			return cpu.worker(ctx, worker, i == 0), nil
		})
	closeAll(ctx)
	if err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	cpu.report(r, n)
	if echo.PerSecond > 0 && c.Rate == 0 {
		r.Add(EchoShare(n), 2*rows[0].PerSecond/echo.PerSecond, "")
	}
	if checkout, ok := r.Row(RowCheckout, 1); ok && n == 1 && fsync.Count > 0 && trip.Count > 0 {
		bound := 2*fsync.Latency.P50 + trip.Latency.P50 + echo.Latency.P50
		r.Add(ValueAloneBound, bound, "us")
		r.Add(ValueAloneRatio, checkout.Latency.P50/bound, "")
	}
	return nil
}

func (c Cycle) explain(t *Target, r *load.Report) {
	how := map[string]string{
		ViaRaw:      "unary: every checkout and every check-in is a gRPC call of its own",
		ViaPipeline: "streamed: checkouts and check-ins of the clients of one connection share one gRPC stream; each client still waits for its answer before it asks again",
		ViaSDK:      "sessions of the Go SDK; those of one client share its connection, and a gRPC stream on it",
	}
	r.Notes = append(r.Notes, how[c.Via],
		fmt.Sprintf("%s of warm-up before each step are thrown away", c.Warmup),
		"every acknowledged checkout and check-in is on the disks of a majority (fsync)",
		fmt.Sprintf("up to %d clients are of one tenant, more are spread over tenants with %d in each, as many as a server takes at once; they share connections, %d to each",
			aloneInTenant, sharedInTenant, clientsPerConn))
	if c.Rate > 0 {
		r.Notes = append(r.Notes, "open loop: latency counts from the moment a cycle should have begun")
	} else {
		r.Notes = append(r.Notes, "closed loop: each client begins its next cycle when the last one is answered")
	}
	if c.Limits {
		r.Notes = append(r.Notes, "the gRPC echo is the health check of the leader with the same clients and connections; a cycle is two calls")
		if t.DataDir == "" {
			r.Notes = append(r.Notes, "the servers' disk cannot be reached from here: no fsync was measured")
		}
	}
}

func (c Cycle) workers(t *Target, w *Wire, n int) (load.Maker, func(context.Context), error) {
	if c.Via != ViaSDK {
		return func(_ context.Context, i int) (load.Worker, error) {
			h := w.newHolder(i, n, t.Feature)
			h.streamed = c.Via == ViaPipeline
			return &cycler{h: h, fresh: c.Fresh}, nil
		}, func(context.Context) {}, nil
	}
	clients, err := t.sdkClients(n, sessionsPerClient)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context, i int) (load.Worker, error) {
		s, err := clients.session(ctx, i, sessionsPerClient)
		return &sdkCycler{s, client.Item{Feature: t.Feature}}, err
	}, clients.close, nil
}

// cycler is a client of the raw wire.
type cycler struct {
	h     *holder
	fresh bool
}

func (c *cycler) Do(ctx context.Context, m *load.Meter) error {
	began := m.Start()
	if err := c.h.checkout(ctx); err != nil {
		return err
	}
	m.Part(partCheckout, began)
	began = time.Now()
	for {
		err := c.h.checkin(ctx, c.fresh)
		r, refused := err.(*load.Reasoned)
		if refused && r.Reason == overloaded && ctx.Err() == nil {
			// The seat must come back; only then the cycle is over.
			m.Error("checkin_overloaded")
			pause(ctx, r.Pause)
			continue
		}
		if err == nil {
			m.Part(partCheckin, began)
		}
		return err
	}
}

func (c *cycler) Close(ctx context.Context) { c.h.leave(ctx) }

// sdkCycler is a session of the SDK.
type sdkCycler struct {
	*sdkHolder
	item client.Item
}

func (c *sdkCycler) Do(ctx context.Context, m *load.Meter) error {
	began := m.Start()
	leases, err := c.s.Checkout(ctx, c.item)
	if err != nil {
		return sdkReason(err)
	}
	m.Part(partCheckout, began)
	began = time.Now()
	for _, l := range leases {
		if err := l.CheckIn(ctx); err != nil {
			return sdkReason(err)
		}
	}
	m.Part(partCheckin, began)
	return nil
}

func (c *sdkCycler) Close(ctx context.Context) { _ = c.s.Close(ctx) }

// echoes makes clients that ask the leader for nothing.
func (w *Wire) echoes(_ context.Context, i int) (load.Worker, error) {
	cc, err := w.conn(i)
	if err != nil {
		return nil, err
	}
	return &echoer{w, healthpb.NewHealthClient(cc)}, nil
}

type echoer struct {
	w *Wire
	c healthpb.HealthClient
}

func (e *echoer) Do(ctx context.Context, _ *load.Meter) error {
	ctx, cancel := e.w.target.call(ctx)
	defer cancel()
	_, err := e.c.Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		return reasonOf(err)
	}
	return nil
}

func (e *echoer) Close(context.Context) {}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
