package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// These tests run whole nodes on virtual time. synctest.Test fails if a goroutine is
// left when the test returns.

// slowLog is a log store whose disk can be hung and freed.
type slowLog struct {
	*raft.InmemStore
	mu   sync.Mutex
	hung chan struct{}
}

func (s *slowLog) StoreLogs(logs []*raft.Log) error {
	s.mu.Lock()
	hung := s.hung
	s.mu.Unlock()
	if hung != nil {
		<-hung
	}
	return s.InmemStore.StoreLogs(logs)
}

func (s *slowLog) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s *slowLog) hang() (free func()) {
	hung := make(chan struct{})
	s.mu.Lock()
	s.hung = hung
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		s.hung = nil
		s.mu.Unlock()
		close(hung)
	}
}

// bench is a cluster on virtual time whose first configuration is given.
type bench struct {
	nodes []*Node
	disks []*slowLog
	snaps []*sizedSnapshots
	nets  []*raft.InmemTransport
	fatal chan string
}

func newBench(t *testing.T, size, nonVoters int) *bench {
	t.Helper()
	return newBenchWith(t, size, nonVoters, func(*Config) {})
}

func newBenchWith(t *testing.T, size, nonVoters int, set func(*Config)) *bench {
	t.Helper()
	b := &bench{fatal: make(chan string, 10)}
	var first raft.Configuration
	for i := range size {
		id := fmt.Sprintf("n%d-%08x", i+1, i+1)
		addr, net := raft.NewInmemTransport(raft.ServerAddress(id + ":7801"))
		for _, other := range b.nets {
			other.Connect(addr, net)
			net.Connect(other.LocalAddr(), other)
		}
		b.nets = append(b.nets, net)
		s := raft.Server{ID: raft.ServerID(id), Address: addr}
		if i >= size-nonVoters {
			s.Suffrage = raft.Nonvoter
		}
		first.Servers = append(first.Servers, s)
	}
	for i, s := range first.Servers {
		name, _, _ := cutIncarnation(string(s.ID))
		disk := &slowLog{InmemStore: raft.NewInmemStore()}
		snaps := &sizedSnapshots{SnapshotStore: raft.NewInmemSnapshotStore()}
		rc := raft.DefaultConfig()
		rc.LocalID = s.ID
		if err := raft.BootstrapCluster(rc, disk, disk, snaps, b.nets[i], first); err != nil {
			t.Fatal(err)
		}
		kept, err := openHistory(t.TempDir(), testLogger(name))
		if err != nil {
			t.Fatal(err)
		}
		machine := fsm.New(fsm.Options{
			Observe: func(l *raft.Log, _ *logv1.Entry, _ fsm.Outcome, b *lease.Book, events []lease.Event) {
				kept.observe(l, b.Calendar(), events)
			},
			Restored:   func(s fsm.Status, _ *lease.Book) { kept.restored(s) },
			Persisting: func(s fsm.Status) { kept.persist(s.Calendar) },
		})
		began := time.Now()
		cfg := Config{Name: name, APIAddress: name + ":7800", Logger: testLogger(name),
			Fatal: func(reason string) { b.fatal <- reason }}
		set(&cfg)
		n, err := New(cfg, Parts{
			ID: string(s.ID), LogStore: disk, StableStore: disk, Snapshots: snaps, Transport: b.nets[i],
			Clocks: Clocks{Mono: func() time.Duration { return time.Since(began) }, Wall: time.Now},
			FSM:    machine, history: kept, Close: kept.Close,
		})
		if err != nil {
			t.Fatal(err)
		}
		b.nodes, b.disks, b.snaps = append(b.nodes, n), append(b.disks, disk), append(b.snaps, snaps)
	}
	return b
}

func (b *bench) stop(t *testing.T) {
	for _, n := range b.nodes {
		if err := n.Shutdown(context.Background()); err != nil {
			t.Errorf("%s: %v", n.Name(), err)
		}
	}
	// Raft leaves a leadership transfer to a dead node to its transport's time-out.
	time.Sleep(10 * time.Second)
}

// cut separates node i from all but those listed.
func (b *bench) cut(i int, but ...int) {
	for j, other := range b.nets {
		keep := j == i
		for _, k := range but {
			keep = keep || k == j
		}
		if !keep {
			b.nets[i].Disconnect(other.LocalAddr())
			other.Disconnect(b.nets[i].LocalAddr())
		}
	}
}

func (b *bench) index(n *Node) int {
	for i := range b.nodes {
		if b.nodes[i] == n {
			return i
		}
	}
	return -1
}

func TestOneNodeLivesAndStopsInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, 0)
		n := b.nodes[0]
		leaderOf(t, n)
		a := propose(t, n)
		time.Sleep(10 * time.Second)
		passed := n.FSM().Status().Now.Sub(a.Now)
		if passed < 8*time.Second || passed > 10*time.Second {
			t.Errorf("cluster time moved by %v in 10s of an idle leader", passed)
		}
		if _, err := n.Read(t.Context(), func(*lease.Book) {}); err != nil {
			t.Error(err)
		}
		b.stop(t)
	})
}

func TestLeasesThatAreNotRenewedAreReclaimedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, 0)
		n := b.nodes[0]
		leaderOf(t, n)
		do := func(cmd lease.Command) lease.Reply {
			t.Helper()
			a, err := n.Propose(t.Context(), cmd)
			if err != nil || a.Reply.Refusal != nil {
				t.Fatalf("%T: error %v, refusal %v", cmd, err, a.Reply.Refusal)
			}
			return a.Reply
		}
		const sessions = 2*expireBatch + 1 // more than one round
		profile := lease.Profiles["ci"]
		do(lease.InstallLicence{Licence: lease.Licence{ID: "l", Vendor: "v", Tenant: lease.DefaultTenant,
			Entitlements: []lease.Entitlement{{Feature: "cad", Version: "1", Count: sessions, Serial: "1", Profile: profile}}}})
		for i := range sessions {
			do(lease.Checkout{Tenant: lease.DefaultTenant, Session: lease.SessionRef{ID: lease.SessionID{1, byte(i), byte(i >> 8)}, Incarnation: 1, Seq: 1},
				Principal: lease.Principal{User: fmt.Sprint("u", i), Host: "h"}, Items: []lease.Item{{Feature: "cad", Version: "1", Count: 1}}})
		}
		live := func() (leases int) {
			n.ReadStale(func(b *lease.Book) { _, leases = b.Counts() })
			return leases
		}
		life := profile.Lifespan + profile.Grace
		time.Sleep(life - time.Second)
		if got := live(); got != sessions {
			t.Errorf("%d leases before their time, want %d", got, sessions)
		}
		time.Sleep(time.Second + life/ClockMargin + 2*DefaultTick)
		if got := live(); got != 0 {
			t.Errorf("%d leases left after lifespan, grace and a tick", got)
		}
		b.stop(t)
	})
}

func TestThreeNodesFailOverInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, 0)
		leader := leaderOf(t, b.nodes...)
		time.Sleep(30 * time.Second)
		a := propose(t, leader)
		began := time.Now()
		b.cut(b.index(leader))
		next := leaderOf(t, others(b.nodes, leader)...)
		if gap := time.Since(began); gap > 2*time.Second {
			t.Errorf("leaderless for %v", gap)
		}
		if c := propose(t, next); c.Now < a.Now {
			t.Errorf("time went back from %v to %v", a.Now, c.Now)
		}
		time.Sleep(5 * time.Second)
		moved, passed := next.FSM().Status().Now.Sub(a.Now), time.Since(began)
		if moved > passed || moved < passed-2*time.Second {
			t.Errorf("cluster time moved by %v while %v passed", moved, passed)
		}
		eventually(t, "the old leader has noticed", func() bool { return !leader.Leading() })
		var nl *NotLeaderError
		if _, err := leader.Propose(t.Context(), lease.Tick{}); !errors.As(err, &nl) {
			t.Errorf("propose on the deposed leader: %v", err)
		}
		b.stop(t)
	})
}

func TestShutdownHandsLeadershipOverWithoutAnElectionTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, 0)
		leader := leaderOf(t, b.nodes...)
		stop(t, leader)
		if _, err := leader.Propose(t.Context(), lease.Tick{}); !errors.Is(err, ErrStopped) {
			t.Errorf("propose on a stopped node: %v", err)
		}
		time.Sleep(DefaultRaftTimeout / 2) // too soon for anybody to miss a leader
		led := false
		for _, n := range others(b.nodes, leader) {
			led = led || n.Leading()
		}
		if !led {
			t.Error("nobody leads right after the leader's orderly stop")
		}
		b.stop(t)
	})
}

func TestLeaderWithOnlyANonVoterServesNoRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 4, 1)
		leader := leaderOf(t, b.nodes...)
		if _, err := leader.Read(t.Context(), func(*lease.Book) {}); err != nil {
			t.Fatal(err)
		}
		b.cut(b.index(leader), 3) // raft's VerifyLeader takes the non-voter's word
		for leader.Leading() {
			if _, err := leader.Read(t.Context(), func(*lease.Book) {}); err == nil {
				t.Fatal("read served without a majority of voters")
			}
		}
		b.stop(t)
	})
}

func TestTimeThatCouldNotBeCommittedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchWith(t, 1, 0, func(c *Config) { c.Watchdog = time.Minute })
		n := b.nodes[0]
		leaderOf(t, n)
		before := propose(t, n)
		free := b.disks[0].hang()
		time.Sleep(8 * time.Second)
		free()
		time.Sleep(time.Second)
		after := propose(t, n)
		if passed := after.Now.Sub(before.Now); passed > MaxStep+2*time.Second {
			t.Errorf("an outage of 8s cost %v", passed)
		}
		b.stop(t)
	})
}

func TestWatchdogStopsALeaderWithAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, 0)
		n := b.nodes[0]
		leaderOf(t, n)
		free := b.disks[0].hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Propose(ctx, lease.Tick{}); !errors.Is(err, ErrUnknown) {
			t.Errorf("propose on a hung disk: %v", err)
		}
		began := time.Now()
		reason := <-b.fatal
		if waited := time.Since(began); waited > DefaultWatchdog+time.Second {
			t.Errorf("noticed after %v only: %s", waited, reason)
		}
		free()
		b.stop(t)
	})
}

func TestCrashInTheMiddleOfWorkLeavesNoGoroutine(t *testing.T) {
	for _, hung := range []bool{false, true} {
		for size := 1; size <= 3; size += 2 {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, size, 0)
				leader := leaderOf(t, b.nodes...)
				free := func() {}
				if hung {
					free = b.disks[b.index(leader)].hang()
				}
				answers := make(chan error, 40)
				for range cap(answers) / 2 {
					go func() { _, err := leader.Propose(context.Background(), lease.Tick{}); answers <- err }()
					go func() { _, err := leader.Read(context.Background(), func(*lease.Book) {}); answers <- err }()
				}
				time.Sleep(20 * time.Microsecond)
				free() // a simulated disk must be free before its node is stopped
				crash(t, leader)
				for range cap(answers) {
					<-answers
				}
				b.stop(t)
			})
		}
	}
}

func TestWatchdogLeavesAnIdleLeaderAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, 0)
		leaderOf(t, b.nodes...)
		time.Sleep(time.Minute)
		select {
		case reason := <-b.fatal:
			t.Error(reason)
		default:
		}
		b.stop(t)
	})
}

func TestWatchdogStopsALeaderThatTransfersForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fatal := make(chan string, 1)
		n := &Node{fsm: fsm.New(fsm.Options{}), cfg: Config{Fatal: func(reason string) { fatal <- reason }}.withDefaults(), log: testLogger("n")}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var p progress
		go n.watch(ctx, &p)
		refuse := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(DefaultTick) {
				p.transferring.Add(1)
			}
			synctest.Wait()
		}
		n.transferring.Store(1)
		refuse(2 * transferStuck)
		n.transferring.Store(0)
		refuse(transferStuck / 2)
		p.committed.Add(1)
		refuse(transferStuck / 2)
		if len(fatal) > 0 {
			t.Fatalf("an asked or short transfer: %s", <-fatal)
		}
		refuse(2 * transferStuck)
		if len(fatal) == 0 {
			t.Error("a transfer without end was not noticed")
		}
	})
}
