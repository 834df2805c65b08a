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

// HeartbeatCPU names the value that says what a heartbeat took of the processors of who.
func HeartbeatCPU(who, row string, clients int) string {
	return fmt.Sprintf("processor time of a session renewed, %s, %s, %d clients", who, row, clients)
}

// EntryCommands names the value that says how many commands an entry of the log had.
func EntryCommands(row string, clients int) string {
	return fmt.Sprintf("commands an entry, %s, %d clients", row, clients)
}

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
	nodes  map[string]samples
	own    time.Duration
	// renewals counts the sessions that the leader renewed instead of the workers' operations.
	renewals bool

	value    map[string]float64 // microseconds by who, empty if a node could not be asked
	commands float64            // in an entry
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

func (s *spent) look(ctx context.Context) map[string]samples {
	at := map[string]samples{}
	for _, a := range s.t.Addresses {
		m, err := s.t.scrape(ctx, a)
		if err != nil {
			return nil
		}
		at[a] = m
	}
	return at
}

func (s *spent) end(ctx context.Context) {
	own, n := load.CPU()-s.own, float64(s.done.Load())
	now := s.look(context.WithoutCancel(ctx))
	if s.nodes == nil || now == nil {
		return
	}
	before, after := s.nodes[s.leader], now[s.leader]
	if s.renewals {
		n = after[metricRenewed] - before[metricRenewed]
	}
	if entries := after[metricBatchCount] - before[metricBatchCount]; entries > 0 {
		s.commands = (after[metricBatchSum] - before[metricBatchSum]) / entries
	}
	if n == 0 {
		return
	}
	s.value = map[string]float64{WhoClients: float64(own.Microseconds()) / n}
	for a, m := range now {
		who := WhoFollowers
		if a == s.leader {
			who = WhoLeader
		}
		s.value[who] += (m[metricCPU] - s.nodes[a][metricCPU]) * 1e6 / n
	}
}

func (s *spent) report(r *load.Report, clients int) {
	s.each(func(who string, v float64) { r.Add(CycleCPU(who, clients), v, "us") })
}

// reportHeartbeats is report for a row of heartbeats.
func (s *spent) reportHeartbeats(r *load.Report, row string, clients int) {
	s.each(func(who string, v float64) { r.Add(HeartbeatCPU(who, row, clients), v, "us") })
	r.Add(EntryCommands(row, clients), s.commands, "")
}

func (s *spent) each(say func(who string, v float64)) {
	for _, who := range []string{WhoLeader, WhoFollowers, WhoClients} {
		if v, ok := s.value[who]; ok {
			say(who, v)
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
