package bench

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// CPU time of a cycle is the steadiest figure of a busy machine: other work makes a cycle
// slower, and hardly dearer.

// CycleCPU names the value that says what a cycle took of the processors of who.
func CycleCPU(who string, clients int) string {
	return fmt.Sprintf("processor time of a cycle, %s, %d clients", who, clients)
}

// The parties of a cycle.
const (
	WhoLeader    = "leader"
	WhoFollowers = "all followers"
	WhoClients   = "clients and load generator"
)

// spent measures what operations cost. It looks twice: when the first worker is made and
// when it is closed, warm-up included.
type spent struct {
	t      *Target
	leader string
	done   atomic.Int64 // operations
	nodes  map[string]float64
	own    time.Duration

	value map[string]float64 // microseconds by who, empty if a node could not be asked
}

// worker counts the operations of one of the workers; the first one takes the looks.
func (s *spent) worker(ctx context.Context, w load.Worker, first bool) load.Worker {
	w = &countedWorker{w, &s.done}
	if !first {
		return w
	}
	s.nodes, s.own = s.look(ctx), load.CPU()
	return &lastLook{w, s.end}
}

func (s *spent) look(ctx context.Context) map[string]float64 {
	at := map[string]float64{}
	for _, a := range s.t.Addresses {
		m, err := s.t.scrape(ctx, a)
		if err != nil {
			return nil
		}
		at[a] = m[metricCPU]
	}
	return at
}

func (s *spent) end(ctx context.Context) {
	own, n := load.CPU()-s.own, float64(s.done.Load())
	now := s.look(context.WithoutCancel(ctx))
	if n == 0 || s.nodes == nil || now == nil {
		return
	}
	s.value = map[string]float64{WhoClients: float64(own.Microseconds()) / n}
	for a, cpu := range now {
		who := WhoFollowers
		if a == s.leader {
			who = WhoLeader
		}
		s.value[who] += (cpu - s.nodes[a]) * 1e6 / n
	}
}

func (s *spent) report(r *load.Report, clients int) {
	for _, who := range []string{WhoLeader, WhoFollowers, WhoClients} {
		if v, ok := s.value[who]; ok {
			r.Add(CycleCPU(who, clients), v, "us")
		}
	}
}

// countedWorker counts what succeeds.
type countedWorker struct {
	load.Worker
	done *atomic.Int64
}

func (c *countedWorker) Do(ctx context.Context, m *load.Meter) error {
	err := c.Worker.Do(ctx, m)
	if err == nil {
		c.done.Add(1)
	}
	return err
}
