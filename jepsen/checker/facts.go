package checker

import (
	"fmt"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// Test is what a run was set up with; it is written to test.edn.
type Test struct {
	Seed        uint64            `edn:"seed"`
	Name        string            `edn:"name,omitempty"`
	Started     string            `edn:"started,omitempty"` // RFC 3339
	Versions    map[string]string `edn:"versions,omitempty"`
	Nodes       []string          `edn:"nodes"` // the voters
	Concurrency int               `edn:"concurrency,omitempty"`
	Workload    string            `edn:"workload,omitempty"`
	Nemesis     []string          `edn:"nemesis,omitempty"`
	Pools       []Pool            `edn:"pools"`
	// Ruled: the workload used the queue, bookings, borrowing and policies.
	Ruled   bool    `edn:"ruled,omitempty"`
	Limits  Limits  `edn:"limits"`
	Require Require `edn:"require"`
}

// Pool is one pool as it was licensed.
type Pool struct {
	Tenant     string `edn:"tenant,omitempty"` // empty: default
	Feature    string `edn:"feature"`
	Version    string `edn:"version,omitempty"`
	Total      int    `edn:"total"`
	LifespanNS int64  `edn:"lifespan-ns"`
	GraceNS    int64  `edn:"grace-ns"`
	// ShareBy is any of the letters u, h, d, v; ShareMax the most sessions of a group.
	ShareBy  string `edn:"share-by,omitempty"`
	ShareMax int    `edn:"share-max,omitempty"`
}

// term is how long a lease is charged after its last heartbeat.
func (p *Pool) term() int64 { return p.LifespanNS + p.GraceNS }

// group names who counts as one holder in the pool: its share group, or the session.
func (p *Pool) group(user, host, session string) string {
	if p.ShareBy == "" || strings.Trim(p.ShareBy, "uh") != "" {
		return "session " + session
	}
	var parts []string
	for _, letter := range p.ShareBy {
		x := user
		if letter == 'h' {
			x = host
		}
		if x == "" {
			return "session " + session
		}
		parts = append(parts, x)
	}
	return "group " + strings.Join(parts, "@")
}

// Limits are the service's promises in nanoseconds.
type Limits struct {
	TickNS    int64 `edn:"tick-ns"`     // how often time moves and expirations are looked for
	MaxStepNS int64 `edn:"max-step-ns"` // the most that cluster time moves at once
	// ElectionNS is how long a change of leader may take, from the loss of one to the
	// first answer of the next.
	ElectionNS int64 `edn:"election-ns"`
	// GapNS is the longest allowed gap in service, GapsNS that of certain fault families.
	GapNS  int64            `edn:"gap-ns"`
	GapsNS map[string]int64 `edn:"gaps-ns,omitempty"`
}

// DefaultLimits are those of a cluster with default timers on a local network. The gap
// allows for a client's retries after an election.
func DefaultLimits() Limits {
	const second = int64(1e9)
	return Limits{TickNS: second, MaxStepNS: 3 * second, ElectionNS: 5 * second, GapNS: 15 * second}
}

// Require is how much must have happened for a run to be conclusive. Keys are
// "f/result", as in "checkout/no_seats".
type Require struct {
	PerPool  map[string]int `edn:"per-pool,omitempty"`  // in each pool of Test.Pools
	Overall  map[string]int `edn:"overall,omitempty"`   // in the whole run
	Faults   map[string]int `edn:"faults,omitempty"`    // faults that bit, by family; a family that was tried must have bitten once
	PerFault int            `edn:"per-fault,omitempty"` // operations invoked in each fault's window
	Healthy  int            `edn:"healthy,omitempty"`   // operations answered before the first fault, and after the last
}

// DefaultRequire asks for enough of everything in a short run.
func DefaultRequire() Require {
	return Require{
		PerPool:  map[string]int{"checkout/granted": 20, "checkout/no_seats": 3, "renew/done": 20, "checkin/done": 10},
		Overall:  map[string]int{"kill/done": 1, "status/done": 20, "verify/done": 5},
		PerFault: 5,
		Healthy:  20,
	}
}

// Window is a fault from its start to its stop.
type Window struct {
	history.Fault
	From, To int64
}

// Facts are Test and what the nemesis and the runner noted in the history.
type Facts struct {
	Test
	Faults []Window
	Phases map[string]int64 // name to time
	End    int64
}

// FactsOf collects the facts. A fault without a stop lasts to the end of the run.
func FactsOf(t Test, ops []history.Op) (Facts, error) {
	f := Facts{Test: t, Phases: map[string]int64{}}
	open := map[string]int{}
	for i := range ops {
		op := &ops[i]
		f.End = max(f.End, op.Time)
		switch v := op.Value.(type) {
		case *history.Phase:
			f.Phases[v.Name] = op.Time
		case *history.Fault:
			at, ok := open[v.ID]
			switch {
			case op.F == history.FStart && ok:
				return f, fmt.Errorf("fault %s starts twice", v.ID)
			case op.F == history.FStart:
				open[v.ID] = len(f.Faults)
				f.Faults = append(f.Faults, Window{Fault: *v, From: op.Time, To: -1})
			case !ok:
				return f, fmt.Errorf("fault %s stops and never started", v.ID)
			default:
				w := &f.Faults[at]
				w.To, w.Bit, w.Proof = op.Time, v.Bit, v.Proof
			}
		}
	}
	for i := range f.Faults {
		if f.Faults[i].To < 0 {
			f.Faults[i].To = f.End
		}
	}
	return f, nil
}

// healed is when the last fault was over; 0 without any.
func (f *Facts) healed() int64 {
	var t int64
	for i := range f.Faults {
		t = max(t, f.Faults[i].To)
	}
	return t
}

// clockBroken says whether [from, to] meets a fault that suspends the promises that rest
// on clocks. What such a fault did may last for one term of a lease.
func (f *Facts) clockBroken(from, to int64) bool {
	var after int64
	for i := range f.Pools {
		after = max(after, f.Pools[i].term())
	}
	for i := range f.Faults {
		w := &f.Faults[i]
		if w.BreaksClock && w.From <= to && from <= w.To+after {
			return true
		}
	}
	return false
}

// pool finds the pool of a feature; nil if the run does not know it, or has several
// versions of it and none is named.
func (f *Facts) pool(feature, version string) *Pool {
	var found *Pool
	for i := range f.Pools {
		p := &f.Pools[i]
		if p.Feature != feature || version != "" && p.Version != "" && version != p.Version {
			continue
		}
		if found != nil {
			return nil
		}
		found = p
	}
	return found
}
