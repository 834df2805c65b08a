package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// node is one member over all its runs: what a crash does not take away.
type node struct {
	w     *world
	n     int
	name  string
	disk  *disk
	drift float64 // of its monotonic clock

	mu           sync.Mutex
	run          *run
	wallStep     time.Duration
	downUntil    time.Time // a crashed process is started again then
	stoppedUntil time.Time // a stopped process: what comes in and goes out waits
	slowHandOver time.Duration

	ghosts sync.WaitGroup // crashed runs on their way out
}

// run is one process run of a node.
type run struct {
	node *cluster.Node
	fsm  *fsm.FSM
	end  *endpoint
	dead bool // crashed: nothing of it counts any more
	// steps of the entry that it applies now.
	steps []step
}

var errDown = errors.New("connection refused")

func newNode(w *world, i int) *node {
	rnd := stream(w.cfg.Seed, 100+uint64(i))
	d := newDisk()
	if w.cfg.Sabotage == NoSync {
		d.lie()
	}
	return &node{w: w, n: i, name: fmt.Sprintf("n%d", i+1), disk: d, drift: (rnd.Float64()*2 - 1) * 0.0008}
}

func (n *node) id() raft.ServerID { return raft.ServerID(n.name + "-00000001") }

// bootstrap writes the first configuration, equal on all nodes, to the empty disk.
func (n *node) bootstrap() {
	var c raft.Configuration
	for _, m := range n.w.nodes {
		c.Servers = append(c.Servers, raft.Server{ID: m.id(), Address: raft.ServerAddress(m.name)})
	}
	rc := raft.DefaultConfig()
	rc.LocalID = n.id()
	if err := raft.BootstrapCluster(rc, n.disk, n.disk, snapshots{n.disk}, n.w.net.attach(n.name, n.pause), c); err != nil {
		panic(err)
	}
}

// start starts a process on what the disk holds.
func (n *node) start() {
	timeout := n.w.cfg.RaftTimeout
	n.mu.Lock()
	d := n.disk
	n.mu.Unlock()
	r := &run{end: n.w.net.attach(n.name, n.pause)}
	r.fsm = fsm.New(fsm.Options{
		Fatal: func(err error) { n.w.logf("%s FATAL %v", n.name, err) },
		Step: func(l *raft.Log, pb *logv1.Command, reply lease.Reply, b *lease.Book, ev []lease.Event) {
			n.step(r, l, pb, reply, b, ev)
		},
		Observe: func(l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book, _ []lease.Event) {
			n.observe(r, l, e, o, b)
		},
	})
	cfg := cluster.Config{
		Name: n.name, APIAddress: n.name, Version: "sim",
		// Raft's timers at five times our defaults cost a fifth of the events.
		HeartbeatTimeout: timeout, ElectionTimeout: timeout, LeaderLeaseTimeout: timeout,
		// Below a tick, or followers would always be one entry behind.
		CommitTimeout: min(timeout/4, 400*time.Millisecond), Watchdog: max(cluster.DefaultWatchdog, 10*timeout),
		SnapshotThreshold: 400, SnapshotInterval: 20 * time.Second,
		Fatal: func(reason string) { n.fatal(r, reason) },
	}
	if e := n.w.cfg.snapshotEvery; e > 0 {
		cfg.SnapshotThreshold, cfg.SnapshotInterval = e, 2*time.Second
	}
	c, err := cluster.New(cfg, cluster.Parts{
		ID: string(n.id()), LogStore: d, StableStore: d, Snapshots: snapshots{d}, Transport: r.end,
		Clocks: cluster.Clocks{Mono: n.mono, Wall: n.wall}, FSM: r.fsm, HandOver: n.handOver,
	})
	if err != nil {
		n.w.mu.Lock()
		n.w.fail("START", "%s does not start: %v", n.name, err)
		n.w.mu.Unlock()
		return
	}
	r.node = c
	n.mu.Lock()
	n.run = r
	lost := n.disk != d
	n.mu.Unlock()
	if lost { // power failed while it was starting
		n.crash("power failed at its start", time.Second)
	}
}

// store is the disk that the node has now: a crash replaces it.
func (n *node) store() *disk { n.mu.Lock(); defer n.mu.Unlock(); return n.disk }

// losePower arms the disk: power fails in its k-th write from now.
func (n *node) losePower(k int, o outcome, down time.Duration) {
	d := n.store()
	d.arm(k, o, func() {
		if n.store() == d {
			n.w.mu.Lock()
			n.w.report.PowerFailures++
			n.w.mu.Unlock()
			n.crash(fmt.Sprintf("power fails in a write, %v of it is found", o), down)
		}
	})
}

// crash ends the process as SIGKILL does: what it wrote stays, what it still does
// happens in a world of its own.
func (n *node) crash(why string, down time.Duration) {
	n.mu.Lock()
	r, old := n.run, n.disk
	n.run = nil
	if r != nil {
		r.end.Close() // before the disk is taken away: no answer without its write
	}
	n.disk, n.stoppedUntil, n.slowHandOver = n.disk.fork(), time.Time{}, 0
	n.downUntil = time.Now().Add(down)
	n.mu.Unlock()
	if r == nil {
		return
	}
	old.hang(time.Time{}) // nobody waits for it any more
	n.w.mu.Lock()
	r.dead = true
	n.w.note("%s crashes: %s", n.name, why)
	n.w.mu.Unlock()
	n.ghosts.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		r.node.Shutdown(ctx)
	})
}

// fatal is what the node's own watchdog calls: the process ends itself, and whoever
// supervises it starts it again.
func (n *node) fatal(r *run, reason string) {
	n.mu.Lock()
	current := n.run == r
	n.mu.Unlock()
	if current {
		n.crash("gives up: "+reason, 2*time.Second)
	}
}

// supervise starts the process again when it has been down for long enough.
func (n *node) supervise() {
	n.mu.Lock()
	due := n.run == nil && !time.Now().Before(n.downUntil)
	n.mu.Unlock()
	if due {
		n.start()
	}
}

func (n *node) up() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.run != nil }

func (n *node) current() *cluster.Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return nil
	}
	return n.run.node
}

func (n *node) mono() time.Duration {
	if n.w.cfg.Sabotage == StoppedClock {
		return 0
	}
	return time.Duration(float64(n.w.real()) * (1 + n.drift))
}

func (n *node) wall() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Now().Add(n.wallStep)
}

// pause waits while the process is stopped.
func (n *node) pause() {
	n.mu.Lock()
	t := n.stoppedUntil
	n.mu.Unlock()
	if d := time.Until(t); d > 0 {
		time.Sleep(d)
	}
}

func (n *node) resume() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stoppedUntil, n.slowHandOver, n.wallStep = time.Time{}, 0, 0
}

// handOver delays an encoded entry on its way to raft, as a badly scheduled process
// would: it may arrive in another epoch. Sometimes an entry of an earlier epoch comes
// along, as from a leader that does not know yet that it was deposed.
func (n *node) handOver(entry []byte) (stray []byte) {
	n.mu.Lock()
	d := n.slowHandOver
	n.mu.Unlock()
	if d > 0 {
		time.Sleep(d)
	}
	return n.w.strayEntry(entry)
}

func (n *node) propose(ctx context.Context, cmd lease.Command) (cluster.Applied, error) {
	n.pause()
	c := n.current()
	if c == nil {
		return cluster.Applied{}, errDown
	}
	a, err := c.Propose(ctx, cmd)
	n.pause()
	if n.current() != c {
		return cluster.Applied{}, errDown // it died before it could answer
	}
	return a, err
}

// step runs after each command of an entry that this node applies. Only the first node to
// apply an entry is looked at closely.
func (n *node) step(r *run, l *raft.Log, pb *logv1.Command, reply lease.Reply, b *lease.Book, events []lease.Event) {
	if n.isNew(r, l) {
		r.steps = append(r.steps, newStep(pb, reply, b, events))
	}
}

// observe runs after each entry this node applies.
func (n *node) observe(r *run, l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book) {
	steps := r.steps
	r.steps = nil
	if len(e.Commands) == 0 && n.isNew(r, l) {
		steps = []step{newStep(nil, lease.Reply{}, b, nil)}
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !r.dead {
		n.w.monitor.entry(n.name, l, e, o, steps)
	}
}

// isNew says whether no node has applied the entry before.
func (n *node) isNew(r *run, l *raft.Log) bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return !r.dead && l.Index > n.w.monitor.high
}

type state struct {
	index uint64
	hash  [32]byte
	bytes [32]byte
}

func (n *node) state() state {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return state{}
	}
	st := n.run.fsm.Status()
	var buf bytes.Buffer
	n.run.fsm.WriteTo(&buf)
	if n.run.fsm.Status().AppliedIndex != st.AppliedIndex {
		return state{}
	}
	return state{index: st.AppliedIndex, hash: st.StateHash, bytes: sha256.Sum256(buf.Bytes())}
}
