package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// Limits of stopping.
const (
	// tasksTimeout bounds the wait for the node's tasks before raft is stopped under them; each
	// ends in milliseconds, but for what a call of raft holds that nobody answers any more.
	tasksTimeout = 2 * time.Second
	// drainTimeout bounds the wait for entries in flight; without a majority raft
	// answers them within its leader lease.
	drainTimeout = time.Second
	// leaveTimeout bounds the farewell in gossip.
	leaveTimeout = time.Second
	// stopTimeout bounds the wait for raft; it is longer only when a disk hangs.
	stopTimeout = 5 * time.Second
	// transferTimeout bounds a leadership transfer; raft itself gives up after two
	// election timeouts.
	transferTimeout = 2 * time.Second
)

// Clocks are the two clocks a node reads. They may disagree with package time, which
// only drives timers.
type Clocks struct {
	// Mono never goes back; only differences are used, to propose cluster time.
	Mono func() time.Duration
	// Wall is the calendar, for licence dates only.
	Wall func() time.Time
}

// leaderClock is the reading that cluster time is proposed from.
func (c Clocks) leaderClock() time.Duration {
	if lease.Broken(lease.GuardMonotonic) {
		return time.Duration(c.Wall().UnixNano())
	}
	return c.Mono()
}

func systemClocks() Clocks {
	start := time.Now()
	return Clocks{Mono: func() time.Duration { return time.Since(start) }, Wall: time.Now}
}

// Parts are what a node stands on: real ones from Start, simulated ones in tests.
type Parts struct {
	// ID is the server id NAME-INCARNATION. It must be new whenever the stores are.
	ID          string
	LogStore    raft.LogStore
	StableStore raft.StableStore
	Snapshots   raft.SnapshotStore
	Transport   raft.Transport
	// Discovery may be nil: the members are then those of the raft configuration.
	Discovery Discovery
	Clocks    Clocks
	FSM       *fsm.FSM
	// history is what the FSM's Observe feeds; it may be nil.
	history *history
	// marked is the log version that the data directory is marked with.
	marked uint32
	// begun is what the data directory says of its cluster.
	begun origin
	// HandOver, if not nil, is called between encoding an entry and handing it to raft.
	// The simulator delays there, as a badly scheduled process would, and may have a
	// stray entry of an earlier epoch handed over first.
	HandOver func(entry []byte) (stray []byte)
	// Close, if not nil, closes the parts after raft has stopped. The transport is
	// closed before, by raft.
	Close func() error
}

// Node is one member of the cluster. All methods may be called concurrently.
type Node struct {
	cfg       Config
	id        string
	log       hclog.Logger
	fsm       *fsm.FSM
	clocks    Clocks
	raft      *raft.Raft
	gate      *gate
	own       *parallelLog
	acks      *acks
	discovery Discovery
	metrics   *metrics
	closeAll  func() error
	handOver  func([]byte) []byte
	history   *history // nil: none is kept
	applies   applies  // noted where there is a tracer
	begun     origin   // what the data directory said at the start

	// current is the epoch that serves, nil while there is none.
	current        atomic.Pointer[epoch]
	stopping       atomic.Bool
	replaced       atomic.Pointer[[]string]  // alarms of noteWaiting
	stability      stability                 // since when each member is as healthy as it is
	diskLow        atomic.Bool               // this node's disk is nearly full
	full           atomic.Pointer[fullError] // why new checkouts are refused; nil: they are not
	transferring   atomic.Int32              // leadership transfers that were asked for
	restoring      atomic.Bool               // a restore is under way
	tryingDisk     atomic.Bool               // TryDisk is under way
	epochOver      chan *epoch               // ended by a restore; holds one
	membersChanged chan struct{}
	raftAddress    string
	asker          versionAsker             // nil: members cannot be asked what they understand
	heard          atomic.Pointer[[]heard]  // what they said; nil: no upgrade is under way
	tooOld         atomic.Pointer[[]string] // alarms of those that may not join
	marked         uint32                   // the log version that the data directory is marked with; owned by tendVersion
	founders       string                   // owned by attend, as is the next
	foundersWarned bool
	newClusterID   string

	cancel   context.CancelFunc
	tasks    sync.WaitGroup // end soon after cancel
	waiters  waiters        // wait for raft's futures
	failOnce sync.Once
	stopOnce sync.Once
	stopErr  error
}

// New starts a node on the given parts. On error the parts are still the caller's.
func New(cfg Config, parts Parts) (*Node, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := checkLog(parts.LogStore, parts.Snapshots); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	n := &Node{
		cfg: cfg, id: parts.ID, log: cfg.Logger.Named("cluster"), fsm: parts.FSM, clocks: parts.Clocks,
		gate: &gate{LogStore: parts.LogStore}, acks: &acks{}, discovery: parts.Discovery, metrics: m,
		history: parts.history, begun: parts.begun, closeAll: parts.Close, handOver: parts.HandOver, membersChanged: make(chan struct{}, 1), epochOver: make(chan *epoch, 1), newClusterID: randomID(),
		raftAddress: string(parts.Transport.LocalAddr()),
	}
	n.asker, _ = parts.Transport.(versionAsker)
	n.marked = max(parts.marked, fsm.FirstVersion)
	m.understands.Set(float64(n.fsm.Understands()))
	if err := n.startRaft(parts); err != nil {
		m.close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.tasks.Go(func() { n.followLeadership(ctx) })
	n.tasks.Go(func() { n.shorten(ctx, parts.Snapshots) })
	if n.cfg.DataDir != "" {
		n.tasks.Go(func() { n.watchSpace(ctx) })
		n.tasks.Go(func() { n.tendVersion(ctx) })
	}
	if n.discovery != nil {
		n.tasks.Go(func() { n.attend(ctx) })
	}
	return n, nil
}

func randomID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (n *Node) startRaft(parts Parts) (err error) {
	defer func() {
		// Raft panics where it cannot write its term, which on a full disk is no surprise.
		if p := recover(); p != nil {
			err = fmt.Errorf("raft does not start: %v", p)
		}
	}()
	n.own = newParallelLog(n.gate)
	cache, err := raft.NewLogCache(logCacheEntries, n.own)
	if err != nil {
		return err
	}
	rc := n.raftConfig()
	trans := wrapTransport(parts.Transport, n.acks, n.own.cap)
	if n.cfg.BootstrapExpect == 1 {
		// Alone means nobody to agree with. An existing cluster is left as it is.
		alone := raft.Configuration{Servers: []raft.Server{{ID: rc.LocalID, Address: trans.LocalAddr()}}}
		err := raft.BootstrapCluster(rc, cache, parts.StableStore, parts.Snapshots, trans, alone)
		if err != nil && !errors.Is(err, raft.ErrCantBootstrap) {
			return fmt.Errorf("raft: %w", err)
		}
	}
	if n.raft, err = raft.NewRaft(rc, n.machine(), cache, parts.StableStore, parts.Snapshots, trans); err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	leads := func() bool { return n.raft.State() == raft.Leader }
	n.own.leads.Store(&leads)
	return nil
}

func (n *Node) raftConfig() *raft.Config {
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(n.id)
	rc.HeartbeatTimeout = n.cfg.HeartbeatTimeout
	rc.ElectionTimeout = n.cfg.ElectionTimeout
	rc.LeaderLeaseTimeout = n.cfg.LeaderLeaseTimeout
	rc.CommitTimeout = n.cfg.CommitTimeout
	rc.SnapshotInterval = n.cfg.SnapshotInterval
	rc.SnapshotThreshold = n.cfg.SnapshotThreshold
	rc.TrailingLogs = n.cfg.TrailingLogs
	rc.BatchApplyCh = false // or ErrEnqueueTimeout would not mean "not applied"
	rc.NoLegacyTelemetry = true
	rc.Logger = n.cfg.Logger.Named("raft")
	return rc
}

func memberOf(cfg Config, id, raftAddr string) Member {
	return Member{ID: id, Name: cfg.Name, RaftAddress: raftAddr, APIAddress: cfg.APIAddress, Expect: cfg.BootstrapExpect}
}

func (n *Node) self() Member {
	m := memberOf(n.cfg, n.id, n.raftAddress)
	m.DiskLow = n.diskLow.Load()
	return m
}

// ID returns the full server id, NAME-INCARNATION.
func (n *Node) ID() string { return n.id }

// Name returns the configured name.
func (n *Node) Name() string { return n.cfg.Name }

// FSM returns the node's state machine, for reading.
func (n *Node) FSM() *fsm.FSM { return n.fsm }

// Mark gives the place behind the newest event that this node has applied.
func (n *Node) Mark() fsm.Mark { return n.fsm.Mark() }

// DequeuedSince gives the places in the queue that ended since the mark; see fsm.DequeuedSince.
func (n *Node) DequeuedSince(m fsm.Mark) (events []lease.Event, to fsm.Mark, whole bool, more <-chan struct{}) {
	return n.fsm.DequeuedSince(m)
}

// Access returns the access tokens as this node knows them; see fsm.FSM.Access.
func (n *Node) Access() (*access.Table, lease.Calendar) { return n.fsm.Access() }

// Leading says whether this node leads and serves: its Lead entry is committed.
func (n *Node) Leading() bool { return n.current.Load() != nil }

// Leader returns the epoch of the live leader. When that leader has not yet been heard
// of through the log, its epoch has no index but where gossip says that its API is.
// Without a live leader it returns the last epoch known, and false.
func (n *Node) Leader() (fsm.Epoch, bool) {
	last := n.fsm.Status().Epoch
	if e := n.current.Load(); e != nil {
		return e.Epoch, true
	}
	_, id := n.raft.LeaderWithID()
	switch {
	case id == "" || string(id) == n.id: // nobody, or this node but not yet
		return last, false
	case string(id) == last.Node:
		return last, true
	case n.discovery != nil:
		for _, m := range n.discovery.Members() {
			if m.ID == string(id) {
				return fsm.Epoch{Term: n.raft.CurrentTerm(), Node: m.ID, APIAddress: m.APIAddress}, true
			}
		}
	}
	return last, false
}

// notLeader is the answer of a node that does not serve. It names no address unless
// somebody is believed to answer there.
func (n *Node) notLeader() error {
	if n.stopping.Load() {
		return ErrStopped
	}
	e, live := n.Leader()
	if !live || e.Node == n.id {
		e.APIAddress = ""
	}
	return &NotLeaderError{Leader: e}
}

// Propose commits one command and returns what the rules made of it. Its errors are
// those listed in outcome.go; it waits until ctx ends, at most ProposeTimeout.
func (n *Node) Propose(ctx context.Context, cmd lease.Command) (Applied, error) {
	applied, err := n.propose(ctx, cmd)
	n.metrics.outcome(err)
	return applied, err
}

func (n *Node) propose(ctx context.Context, cmd lease.Command) (Applied, error) {
	e := n.current.Load()
	if e == nil && !n.stopping.Load() {
		if err := n.leaderBehind(cmd); err != nil {
			return Applied{}, err
		}
	}
	if e == nil || n.stopping.Load() {
		return Applied{}, n.notLeader()
	}
	if err := n.refuseNew(cmd); err != nil {
		return Applied{}, err
	}
	ctx, cancel := withTimeout(ctx, ProposeTimeout)
	defer cancel()
	applied, err := e.proposer.propose(ctx, cmd)
	if err = n.explain(err); errors.Is(err, errEpochOver) {
		err = n.notLeader()
	}
	return applied, err
}

// withTimeout adds a deadline where the caller has set none that is sooner.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// Read calls fn once with the ledger and returns nil if what fn saw includes every
// write acknowledged, by any node, before Read was called. On error fn may have run,
// and what it saw must not be used. fn must not keep the Book.
func (n *Node) Read(ctx context.Context, fn func(*lease.Book)) (fsm.Status, error) {
	e := n.current.Load()
	if lease.Broken(lease.GuardVerifyRead) && n.fsm.Status().Epoch.Node == n.id {
		return n.ReadStale(fn), nil // the newest epoch that it knows is its own
	}
	if e == nil || n.stopping.Load() {
		return fsm.Status{}, n.notLeader()
	}
	ctx, cancel := withTimeout(ctx, ReadTimeout)
	defer cancel()
	n.metrics.reads.Inc()
	status := n.ReadStale(fn)
	if err := e.verifier.verify(ctx); err != nil {
		if errors.Is(err, errEpochOver) {
			err = n.notLeader()
		}
		return fsm.Status{}, err
	}
	return status, nil
}

// ReadStale calls fn with this node's own state, which may be old.
func (n *Node) ReadStale(fn func(*lease.Book)) fsm.Status {
	return n.fsm.Read(fn)
}

// waitFuture waits for a future of raft until ctx ends.
func (n *Node) waitFuture(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	n.waiters.Go(func() { done <- f.Error() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TransferLeadership hands leadership to a voter, named by server id or name; "" lets
// raft choose. It returns *NotLeaderError on a node that does not lead.
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	var target *raft.Server
	if to != "" {
		for _, s := range n.configuration().Servers {
			name, _, _ := cutIncarnation(string(s.ID))
			if s.Suffrage == raft.Voter && (string(s.ID) == to || name == to) {
				target = &s
			}
		}
		switch {
		case target == nil:
			return fmt.Errorf("no voter is called %.80q", to)
		case string(target.ID) == n.id:
			return fmt.Errorf("%s leads already", to)
		}
	}
	n.transferring.Add(1)
	defer n.transferring.Add(-1)
	ctx, cancel := withTimeout(ctx, transferTimeout)
	defer cancel()
	var future raft.Future
	if target == nil {
		future = n.raft.LeadershipTransfer()
	} else {
		future = n.raft.LeadershipTransferToServer(target.ID, target.Address)
	}
	if err := n.waitFuture(ctx, future); err != nil {
		return fmt.Errorf("leadership not transferred: %w", err)
	}
	return nil
}

// Shutdown stops the node: no more proposals, leadership to another, farewell in
// gossip, raft, stores. When ctx has ended it skips the courtesies, as a crash would,
// but still stops everything in order. It is safe to call it again.
func (n *Node) Shutdown(ctx context.Context) error {
	n.stopOnce.Do(func() { n.stopErr = n.shutdown(ctx) })
	return n.stopErr
}

func (n *Node) shutdown(ctx context.Context) error {
	n.stopping.Store(true)
	n.cancel()
	future := n.endTasks()
	n.drain()
	if ctx.Err() == nil && n.raft.State() == raft.Leader && n.otherVoters() {
		if err := n.TransferLeadership(ctx, ""); err != nil {
			n.log.Warn("stopping while leading", "error", err)
		}
	}
	if ctx.Err() == nil && n.discovery != nil {
		if err := n.discovery.Leave(leaveTimeout); err != nil {
			n.log.Debug("gossip", "error", err)
		}
	}
	n.gate.closed.Store(true)
	stopped := make(chan error, 1)
	if future == nil {
		future = n.raft.Shutdown()
	}
	go func() {
		err := future.Error()
		n.own.rest()
		stopped <- err
	}()
	select {
	case <-stopped:
	case <-time.After(stopTimeout):
		// Closing the stores under a running raft could only make things worse.
		return fmt.Errorf("raft has not stopped after %v: is the disk hung?", stopTimeout)
	}
	n.metrics.close()
	if n.closeAll == nil {
		return nil
	}
	return n.closeAll()
}

// endTasks waits for the node's tasks. Raft's main loop is over when a write failed, and a
// task that has just asked it something, to found the cluster, would wait for ever: raft is
// stopped under it then, which answers, and the future is that of the stop.
func (n *Node) endTasks() (stop raft.Future) {
	ended := make(chan struct{})
	go func() {
		n.tasks.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(tasksTimeout):
	}
	n.log.Warn("stopping raft before the tasks of this node: it does not answer them")
	n.gate.closed.Store(true)
	stop = n.raft.Shutdown()
	<-ended
	return stop
}

// drain waits until raft has answered what is in flight, for a while.
func (n *Node) drain() {
	select {
	case <-n.waiters.Idle():
	case <-time.After(drainTimeout):
		n.log.Warn("entries in flight are not answered")
	}
}

func (n *Node) otherVoters() bool {
	for _, s := range n.configuration().Servers {
		if s.Suffrage == raft.Voter && string(s.ID) != n.id {
			return true
		}
	}
	return false
}
