package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Config describes one run.
type Config struct {
	// Seed decides everything that is left to chance.
	Seed uint64
	// Length is how long faults and clients go on, in virtual time.
	Length time.Duration
	// Nodes and Clients; 0 lets the seed choose 3 or 5, and 4 to 10.
	Nodes, Clients int
	Mode           Mode
	// RaftTimeout is raft's heartbeat and election timeout; 0 means a second. Longer ones
	// make a run cheaper: heartbeats are most of what happens in it.
	RaftTimeout time.Duration
	// StopAtFirst ends the run at the first violation.
	StopAtFirst bool
	// Sabotage breaks something on purpose, to show that it is found.
	Sabotage Sabotage
	// Ruled: a world with policies, a queue, bookings, borrowing, tokens, suites, restores.
	Ruled bool

	// Faults names those that may happen; empty lets the seed draw among all.
	Faults []string

	snapshotEvery uint64 // entries; 0 means 400
}

// Mode says what a run asks for.
type Mode int

// Safety: any fault, and no invariant is ever broken. Liveness: the same, and when the
// faults are undone and all holders have vanished, everybody who waits for a seat gets
// it within a stated bound.
const (
	Safety Mode = iota
	Liveness
)

// Sabotage names something the simulator breaks on purpose.
type Sabotage string

// What can be broken.
const (
	NoSync       Sabotage = "no-sync"       // disks acknowledge writes that a power failure takes back
	StoppedClock Sabotage = "stopped-clock" // the nodes' monotonic clocks stand still
)

// Report says what a run did, so that a run in which nothing happened is not taken for
// a good one.
type Report struct {
	Seed uint64
	// Violations are the invariants found broken, in the order found; at most maxViolations.
	Violations []string
	// Trail is the last events before the end; once something is violated, all since then.
	Trail []fmt.Stringer
	// Schedule is everything the nemesis did, with its time.
	Schedule []string
	// Acknowledged commands, power failures within a write, and waiters of the liveness
	// mode: how many had to wait, and how long at most.
	Acknowledged, PowerFailures, Waited int
	Slowest                             time.Duration
	// Virtual is how long the run took on its own clock.
	Virtual time.Duration

	// Of ruled worlds: places taken in the queue, grants from it, bookings, borrowings, other
	// policies, backups restored.
	Queued, Offered, Booked, Borrowed, Policies, Restored int

	Entries, Stale, Epochs, Grants, Replays, Renewals, Expirations, Denials, Restores int
	Faults                                                                            map[string]int
}

const (
	maxViolations = 20
	trailLength   = 400
)

// world is one run. Its lock guards all that clients believe and the monitor knows; it
// is never held while anything waits.
type world struct {
	cfg     Config
	start   time.Time
	net     *network
	nodes   []*node
	clients []*client
	nemesis *rand.Rand
	wallOK  bool // no wall clock is tampered with: entries carry real time

	mu      sync.Mutex
	monitor monitor
	report  Report
	killed  map[lease.ID]bool
	tokens  []*token // of what is borrowed
	copies  int
	refused map[string]bool // copies of checkouts answered "not applied"
	acked   uint64          // highest index acknowledged to any client
	acks    map[uint64]uint64
	abort   context.CancelFunc
	strays  bool // entries of earlier epochs are handed to raft again
	stray   []byte
	// strayEpoch is the epoch in which stray was made; handed counts entries handed over.
	strayEpoch uint64
	handed     int
}

func stream(seed, actor uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, actor)) }

// Run runs one world to its end. It must be called in a synctest bubble.
func Run(cfg Config) *Report {
	w := newWorld(cfg)
	ctx, stop := context.WithTimeout(context.Background(), cfg.Length)
	w.abort = stop
	w.boot()
	var actors sync.WaitGroup
	for _, c := range w.clients {
		actors.Go(func() { c.run(ctx) })
	}
	actors.Go(func() { w.tormentUntil(ctx) })
	actors.Go(func() { w.operate(ctx) })
	if cfg.Ruled {
		actors.Go(func() { w.rule(ctx) })
	}
	actors.Go(func() { w.readAround(ctx) })
	actors.Go(func() { w.watchTime(ctx) })
	actors.Wait()
	stop()
	if !cfg.StopAtFirst || !w.broken() {
		w.calmDown()
	}
	w.shutDown()
	return w.sum()
}

func newWorld(cfg Config) *world {
	rnd := stream(cfg.Seed, 0)
	if cfg.Nodes == 0 {
		cfg.Nodes = 3 + 2*(rnd.IntN(4)/3)
	}
	if cfg.Clients == 0 {
		cfg.Clients = 4 + rnd.IntN(7)
	}
	w := &world{
		cfg: cfg, start: time.Now(), net: newNetwork(stream(cfg.Seed, 1)), nemesis: stream(cfg.Seed, 2),
		wallOK: rnd.IntN(2) == 0, killed: map[lease.ID]bool{}, refused: map[string]bool{}, acks: map[uint64]uint64{}, abort: func() {},
	}
	if w.cfg.RaftTimeout == 0 {
		w.cfg.RaftTimeout = time.Second
	}
	w.report = Report{Seed: cfg.Seed, Faults: map[string]int{}}
	w.monitor = newMonitor(w)
	for i := range cfg.Nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for i := range cfg.Clients {
		w.clients = append(w.clients, newClient(w, i))
	}
	return w
}

// broken says whether an invariant was.
func (w *world) broken() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.report.Violations) > 0 }

// sum is the report, after the last node was shut down.
func (w *world) sum() *Report {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report.Acknowledged, w.report.Virtual = len(w.acks), w.real()
	return &w.report
}

// real is the time since the run began.
func (w *world) real() time.Duration { return time.Since(w.start) }

// fail notes a violation; w.mu is held.
func (w *world) fail(letter, format string, args ...any) {
	v := fmt.Sprintf("%s at %v: %s", letter, w.real().Round(time.Millisecond), fmt.Sprintf(format, args...))
	if len(w.report.Violations) < maxViolations {
		w.report.Violations = append(w.report.Violations, v)
	}
	w.note("VIOLATION %s", v)
	if w.cfg.StopAtFirst {
		w.abort()
	}
}

// note adds to the trail; w.mu is held.
func (w *world) note(format string, args ...any) {
	w.trace(line(fmt.Sprintf("%10.3fs ", w.real().Seconds()) + fmt.Sprintf(format, args...)))
}

// line is one event of the trail, in words.
type line string

func (l line) String() string { return string(l) }

// trace adds to the trail what may never be put into words; w.mu is held.
func (w *world) trace(x fmt.Stringer) {
	w.report.Trail = append(w.report.Trail, x)
	if n := len(w.report.Trail) - trailLength; n > 0 && len(w.report.Violations) == 0 {
		w.report.Trail = w.report.Trail[n:]
	}
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(format, args...)
}

// Profiles are short, so that a run of minutes sees many leases run out.
var (
	quick = lease.Profile{Lifespan: 6 * time.Second, Grace: 3 * time.Second}
	usual = lease.Profile{Lifespan: 20 * time.Second, Grace: 10 * time.Second}
	slow  = lease.Profile{Lifespan: 45 * time.Second, Grace: 0}
)

func simLicence(count int) lease.Licence {
	share := lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 3}
	return lease.Licence{ID: "L-1", Vendor: "acme", Tenant: lease.DefaultTenant, Entitlements: []lease.Entitlement{
		{Feature: "cad", Version: "2026.0", Count: count, Serial: "1", Profile: usual},
		{Feature: "mesh", Version: "1", Count: 1, Serial: "2", Profile: quick},
		{Feature: "shared", Version: "1", Count: 2, Serial: "3", Profile: usual, Share: share},
		{Feature: "solver", Version: "1", Count: 4, Serial: "4", Profile: slow},
	}}
}

// boot starts the nodes and installs the licence.
func (w *world) boot() {
	for _, n := range w.nodes {
		n.bootstrap()
		n.start()
	}
	install := lease.InstallLicence{Licence: w.licence(2)}
	for !w.eventually(install) {
		if w.real() > time.Minute {
			w.mu.Lock()
			w.fail("START", "no leader took a licence within a minute")
			w.mu.Unlock()
			return
		}
	}
	if w.cfg.Ruled {
		w.firstRules()
	}
}

// eventually proposes a command at whichever node leads; false: not this time.
func (w *world) eventually(cmd lease.Command) bool {
	for _, n := range w.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		_, err := n.propose(ctx, cmd)
		cancel()
		if err == nil {
			return true
		}
	}
	time.Sleep(300 * time.Millisecond)
	return false
}

func (w *world) shutDown() {
	for _, n := range w.nodes {
		n.crash("the end", time.Hour)
	}
	for _, n := range w.nodes {
		n.ghosts.Wait()
	}
	time.Sleep(lateness + 4*patience) // until the last duplicate has arrived nowhere
}

// String words the report for a person.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d entries (%d stale), %d epochs, %d grants, %d replays, %d renewals, %d expirations, %d denials, %d restores, faults %v\n",
		r.Seed, r.Entries, r.Stale, r.Epochs, r.Grants, r.Replays, r.Renewals, r.Expirations, r.Denials, r.Restores, r.Faults)
	for _, v := range r.Violations {
		fmt.Fprintln(&b, "  violated:", v)
	}
	if len(r.Violations) > 0 {
		fmt.Fprintln(&b, "  the last events:")
		for _, l := range r.Trail {
			fmt.Fprintln(&b, "  ", l)
		}
	}
	return b.String()
}
