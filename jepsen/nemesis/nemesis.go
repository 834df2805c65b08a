//go:build linux

package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/node"
	"github.com/seatkeeper/seatkeeper/jepsen/workload"
)

// World is what the nemesis may touch.
type World struct {
	Cluster *node.Cluster
	Probe   *Probe
	Rec     *workload.Recorder
	Workers *workload.Workers
	// Clients are the groups that run workers, Spare is one that runs none.
	Clients []*node.Group
	Spare   *node.Group
	// Log is told of everything in words.
	Log func(format string, args ...any)
}

// Family is a kind of fault.
type Family struct {
	Name string
	// For is how long one lasts.
	For time.Duration
	// Alone keeps others from overlapping with it.
	Alone bool
	// Needs says in words why it cannot be done here; nil or "" means it can.
	Needs func(*World) string
	// begin chooses what it is done to.
	begin func(context.Context, *attempt) (*active, error)
}

// attempt is what a family gets to make a fault.
type attempt struct {
	*World
	rng *rand.Rand
	// name is the fault's id; switch faults carry it.
	name string
	// free are the nodes that no other fault has.
	free []*node.Node
}

// active is a fault that was made.
type active struct {
	nodes  []*node.Node
	cutOff []string
	// down are the nodes that cannot work with the others while it lasts.
	down        []*node.Node
	noMajority  bool
	breaksClock bool
	// make makes it, after its start was noted: the window holds all of its effect.
	make func(context.Context) error
	// end takes it off and tells what was seen.
	end func(context.Context) (bit bool, proof string, err error)
}

// errNotNow is returned by a family that finds nothing to do it to.
var errNotNow = errors.New("nothing to do it to now")

// Event is a line of nemesis.edn.
type Event struct {
	At    int64          `edn:"at"`
	F     history.F      `edn:"f"`
	Fault *history.Fault `edn:"fault,omitempty"`
	Note  string         `edn:"note,omitempty"`
}

// Nemesis makes faults. One goroutine calls Once or Mixed at a time.
type Nemesis struct {
	w    *World
	rng  *rand.Rand
	next int

	mu     sync.Mutex
	events []Event
	busy   map[string]int // by node: how many faults have it
	down   map[string]int // by node: how many faults keep it from working
}

// New makes a nemesis whose choices come from the seed.
func New(w *World, seed uint64) *Nemesis {
	return &Nemesis{w: w, rng: rand.New(rand.NewPCG(seed, 0xfa17)), busy: map[string]int{}, down: map[string]int{}}
}

// Events are what was done so far.
func (n *Nemesis) Events() []Event {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Event(nil), n.events...)
}

// Note adds words to the record.
func (n *Nemesis) Note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	n.w.Log("%s", text)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, Event{At: n.w.Rec.Now(), F: "note", Note: text})
}

func (n *Nemesis) record(f history.F, fault history.Fault) {
	op := n.w.Rec.Nemesis(f, &fault)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, Event{At: op.Time, F: f, Fault: &fault})
}

// healWait bounds taking a fault off.
const healWait = 60 * time.Second

// begin makes a fault of a family; the returned function takes it off. Both are nil
// when there was nothing to do it to.
func (n *Nemesis) begin(ctx context.Context, f Family, rng *rand.Rand) (end func() bool, err error) {
	n.mu.Lock()
	n.next++
	name := fmt.Sprintf("f%d-%s", n.next, f.Name)
	var free []*node.Node
	for _, x := range n.w.Cluster.Nodes {
		if n.busy[x.Name] == 0 && x.Running() {
			free = append(free, x)
		}
	}
	n.mu.Unlock()
	before := len(n.w.Probe.Changes())
	fault := history.Fault{ID: name, Family: f.Name}
	a, err := f.begin(ctx, &attempt{World: n.w, rng: rng, name: name, free: free})
	if errors.Is(err, errNotNow) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	n.claim(a, &fault)
	n.record(history.FStart, fault)
	n.w.Log("%s begins: %s", name, strings.Join(append(fault.Nodes, fault.CutOff...), " "))
	made := a.make(ctx)
	return func() bool {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healWait)
		defer cancel()
		bit, proof, err := a.end(ctx)
		n.release(a)
		if made != nil {
			bit, proof = false, "was not made: "+made.Error()
		}
		fault.Bit, fault.Proof = bit, proof
		if changes := n.w.Probe.Changes(); len(changes) > before {
			fault.Proof += fmt.Sprintf("; %d changes of leader", len(changes)-before)
		}
		if err != nil {
			fault.Proof += "; healing: " + err.Error()
		}
		n.record(history.FStop, fault)
		n.w.Log("%s ends: bit %v: %s", name, bit, fault.Proof)
		return bit
	}, nil
}

// claim counts the nodes of a fault and finds out whether a majority is left.
func (n *Nemesis) claim(a *active, fault *history.Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a.nodes {
		n.busy[x.Name]++
		fault.Nodes = append(fault.Nodes, x.Name)
	}
	for _, x := range a.down {
		n.down[x.Name]++
	}
	lost := 0
	for _, k := range n.down {
		if k > 0 {
			lost++
		}
	}
	fault.CutOff, fault.BreaksClock = a.cutOff, a.breaksClock
	fault.NoMajority = a.noMajority || lost > (n.w.Cluster.Options.Nodes-1)/2
}

func (n *Nemesis) release(a *active) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range a.nodes {
		n.busy[x.Name]--
	}
	for _, x := range a.down {
		n.down[x.Name]--
	}
}

// recoverWait bounds how long the cluster gets to be well after a fault.
const recoverWait = 40 * time.Second

// Once makes one fault of each family, one after the other, and waits for recovery
// after each. A fault that did not bite is tried again, up to three times.
func (n *Nemesis) Once(ctx context.Context, families []Family) error {
	const tries = 3
	var errs []error
	for _, f := range families {
		if ctx.Err() != nil {
			break
		}
		if why := f.missing(n.w); why != "" {
			n.Note("%s is left out: %s", f.Name, why)
			continue
		}
		for range tries {
			bit, err := n.one(ctx, f)
			if err != nil {
				errs = append(errs, err)
				n.Note("%v", err)
			}
			if bit || ctx.Err() != nil {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// Harmless are those of the families that were made and never had an effect.
func (n *Nemesis) Harmless(families []Family) []Family {
	made, bit := map[string]bool{}, map[string]bool{}
	for _, e := range n.Events() {
		if e.F == history.FStop {
			made[e.Fault.Family] = true
			bit[e.Fault.Family] = bit[e.Fault.Family] || e.Fault.Bit
		}
	}
	return slices.DeleteFunc(slices.Clone(families), func(f Family) bool { return !made[f.Name] || bit[f.Name] })
}

func (f *Family) missing(w *World) string {
	if f.Needs == nil {
		return ""
	}
	return f.Needs(w)
}

func (n *Nemesis) one(ctx context.Context, f Family) (bit bool, err error) {
	end, err := n.begin(ctx, f, n.rng)
	if err != nil || end == nil {
		wait(ctx, time.Second)
		return false, err
	}
	wait(ctx, f.For)
	bit = end()
	if err := n.w.Probe.WaitHealthy(ctx, recoverWait, n.w.Cluster.Nodes...); err != nil {
		return bit, err
	}
	return bit, n.waitServed(ctx)
}

// waitServed waits until some client was answered after now: the gap that the next fault
// makes is then not counted to the one before it.
func (n *Nemesis) waitServed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, recoverWait)
	defer cancel()
	before := n.w.Rec.Answered()
	for before > 0 && n.w.Rec.Answered() == before { // 0: nobody asks
		select {
		case <-ctx.Done():
			return fmt.Errorf("no client was answered for %v although all nodes are well", recoverWait)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// Mixed makes random faults until ctx ends, up to atOnce of them at a time, and takes
// all off before it returns.
func (n *Nemesis) Mixed(ctx context.Context, families []Family, atOnce int) error {
	families = slices.DeleteFunc(slices.Clone(families), func(f Family) bool {
		why := f.missing(n.w)
		if why != "" {
			n.Note("%s is left out: %s", f.Name, why)
		}
		return why != ""
	})
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	var mu sync.Mutex
	var errs []error
	for ctx.Err() == nil {
		f := families[n.rng.IntN(len(families))]
		seed, pause := n.rng.Uint64(), time.Duration(500+n.rng.IntN(3000))*time.Millisecond
		last := f.For/2 + time.Duration(n.rng.Int64N(int64(f.For)))
		take := 1
		if f.Alone {
			take = atOnce
		}
		for range take {
			slots <- struct{}{}
		}
		wg.Go(func() {
			defer func() {
				for range take {
					<-slots
				}
			}()
			if endsWithin(ctx, shortest) {
				return
			}
			end, err := n.begin(ctx, f, rand.New(rand.NewPCG(seed, 0)))
			if err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				n.Note("%v", err)
			}
			if end == nil {
				return
			}
			wait(ctx, last)
			end()
			if f.Alone {
				_ = n.w.Probe.WaitHealthy(ctx, recoverWait, n.w.Cluster.Nodes...)
			}
		})
		wait(ctx, pause)
	}
	wg.Wait()
	return errors.Join(errs...)
}

// shortest is how long a fault lasts at least: in less, nobody may be at work.
const shortest = 2 * time.Second

func endsWithin(ctx context.Context, d time.Duration) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < d
}

// Heal takes off whatever may still be on, whoever put it there, and starts every node.
func (n *Nemesis) Heal(ctx context.Context) error {
	var errs []error
	n.w.Cluster.Switch.RemoveAll()
	for _, x := range n.w.Cluster.Nodes {
		errs = append(errs, heal(x))
	}
	errs = append(errs, n.w.Probe.WaitHealthy(ctx, recoverWait, n.w.Cluster.Nodes...))
	return errors.Join(errs...)
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
