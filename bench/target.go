package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

const (
	// clientsPerConn: one HTTP/2 connection carries many calls, but its writer is one
	// goroutine; agents and gateways share connections about like this.
	clientsPerConn = 32
	// aloneInTenant and sharedInTenant are the requests that a server takes at once from
	// a tenant that is alone, and from one of several. A benchmark of speed must not
	// measure who waits for room.
	aloneInTenant, sharedInTenant = 60, 16
)

// Target is the cluster that is measured.
type Target struct {
	// Addresses of the nodes' API, host:port.
	Addresses []string
	// Tenants whose licences are used: clients are spread over them.
	Tenants []string
	// Feature is checked out; its pool must have a seat for every client.
	Feature string
	// Token is sent with every call.
	Token string
	// DataDir is on the servers' disk; empty: the disk is not measured.
	DataDir string
	// Nodes are the server processes, nil if the bench did not start them.
	Nodes Nodes
	// Progress is told of every step; nil means nobody looks.
	Progress Progress
}

// Nodes are the server processes of a cluster, by the address of their API.
type Nodes interface {
	// Kill ends a server as a power failure would and waits until it is gone.
	Kill(address string) error
	// Start starts it again and does not wait for it to serve.
	Start(address string) error
}

// Progress shows one step: what it is, how long it takes (0: unknown), and a counter
// of what is done of total (0: unknown). It returns what ends the showing.
type Progress func(what string, takes time.Duration, done *atomic.Int64, total int64) (finished func())

// TenantsFor is how many tenants so many clients are spread over.
func TenantsFor(clients int) int {
	if clients <= aloneInTenant {
		return 1
	}
	return (clients + sharedInTenant - 1) / sharedInTenant
}

func (t *Target) validate(clients int) error {
	switch {
	case len(t.Addresses) == 0:
		return errors.New("no address of a node")
	case t.Feature == "":
		return errors.New("no feature to check out")
	case len(t.Tenants) == 0:
		return errors.New("no tenant")
	case clients < 1:
		return fmt.Errorf("%d clients: use 1 or more", clients)
	}
	return nil
}

// tenant of client i: few clients stay in one tenant, many fill all of them.
func (t *Target) tenant(i, clients int) string {
	return t.Tenants[i%min(TenantsFor(clients), len(t.Tenants))]
}

// Benchmark is one of this package.
type Benchmark interface {
	Run(context.Context, *Target, *load.Report) error
}

// ValueElections says how often the cluster got another leader while it was measured.
// Under load alone it should not.
const ValueElections = "elections during the run"

// Measure runs a benchmark and counts the elections meanwhile.
func (t *Target) Measure(ctx context.Context, r *load.Report, b Benchmark) error {
	before, err := t.term(ctx)
	if err != nil {
		return err
	}
	if err := t.diskAlarm(ctx); err != nil {
		return err
	}
	if err := b.Run(ctx, t, r); err != nil {
		return errors.Join(err, t.diskAlarm(context.WithoutCancel(ctx)))
	}
	after, err := t.term(ctx)
	if err != nil {
		return err
	}
	r.Add(ValueElections, float64(after-before), "times")
	return nil
}

// diskAlarm says whether a node grants nothing because its disk is nearly full: what looks
// like a slow cluster is none.
func (t *Target) diskAlarm(ctx context.Context) error {
	for _, a := range t.Addresses {
		if s, err := t.scrape(ctx, a); err == nil && s[metricDiskAlarm] > 0 {
			return fmt.Errorf("the disk of %s is nearly full (%.0f %% free), so it grants no seats: free space, or name another disk with --data-dir", a, 100*s[metricDiskFree])
		}
	}
	return nil
}

// term is raft's: it grows with each election.
func (t *Target) term(ctx context.Context) (uint64, error) {
	w, err := t.Dial(ctx, 1)
	if err != nil {
		return 0, err
	}
	defer w.Close()
	s, err := w.status(ctx)
	if err != nil {
		return 0, err
	}
	return s.Term, nil
}

// watch shows a step until the returned function is called.
func (t *Target) watch(what string, takes time.Duration, total int64) (done *atomic.Int64, finished func()) {
	done = new(atomic.Int64)
	if t.Progress == nil {
		return done, func() {}
	}
	return done, t.Progress(what, takes, done, total)
}

// step runs one step of load and shows it.
func (t *Target) step(ctx context.Context, s load.Step, makeWorker load.Maker) ([]load.Row, error) {
	done, finished := t.watch(fmt.Sprintf("%s, %d clients", s.Name, s.Clients), s.Warmup+s.Duration, 0)
	defer finished()
	s.Progress = done
	rows, err := load.Run(ctx, s, makeWorker)
	if err != nil {
		return nil, fmt.Errorf("%s, %d clients: %w", s.Name, s.Clients, err)
	}
	return rows, nil
}
