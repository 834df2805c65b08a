package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/lease"
)

// eventually waits for a condition; it fails the test when that takes too long.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-deadline:
			t.Fatalf("not so in time: %s", what)
		}
	}
}

func testLogger(name string) hclog.Logger {
	if os.Getenv("CLUSTER_TEST_LOG") == "" {
		return hclog.NewNullLogger()
	}
	return hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.LevelFromString(os.Getenv("CLUSTER_TEST_LOG"))})
}

func testConfig(t testing.TB, name, dir string, expect int, join ...string) Config {
	return Config{
		Name: name, ClusterName: "test", DataDir: dir,
		RaftAddr: "127.0.0.1:0", GossipAddr: "127.0.0.1:0", APIAddress: name + ":7800",
		BootstrapExpect: expect, Join: join, Version: "test", Logger: testLogger(name),
		Fatal: func(reason string) { t.Errorf("%s gave up: %s", name, reason) },
	}
}

func start(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, n) })
	return n
}

func stop(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil {
		t.Errorf("%s: %v", n.Name(), err)
	}
}

// crash stops without a word to anybody.
func crash(t testing.TB, n *Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.Shutdown(ctx); err != nil {
		t.Errorf("%s: %v", n.Name(), err)
	}
}

func gossipAddr(n *Node) string { return n.discovery.(*gossip).Address() }

var tick = lease.Tick{}

// startThree forms a cluster by gossip.
func startThree(t testing.TB) []*Node { return startThreeWith(t, func(*Config) {}) }

func startThreeWith(t testing.TB, set func(c *Config)) []*Node {
	t.Helper()
	var nodes []*Node
	var join []string
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		cfg := testConfig(t, name, filepath.Join(t.TempDir(), name), 3, join...)
		set(&cfg)
		n := start(t, cfg)
		nodes = append(nodes, n)
		join = []string{gossipAddr(nodes[0])}
	}
	leaderOf(t, nodes...)
	return nodes
}

func leaderOf(t testing.TB, nodes ...*Node) (leader *Node) {
	t.Helper()
	eventually(t, "a leader serves and all know it", func() bool {
		leader = nil
		for _, n := range nodes {
			if n.Leading() {
				leader = n
			}
		}
		if leader == nil {
			return false
		}
		for _, n := range nodes {
			if e, ok := n.Leader(); !ok || e.Node != leader.ID() {
				return false
			}
		}
		return true
	})
	return leader
}

func others(nodes []*Node, not *Node) (rest []*Node) {
	for _, n := range nodes {
		if n != not {
			rest = append(rest, n)
		}
	}
	return rest
}

func propose(t testing.TB, n *Node) Applied {
	t.Helper()
	a, err := n.Propose(t.Context(), lease.Tick{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func voters(n *Node) (voters int) {
	for _, p := range n.Peers() {
		if p.Voter {
			voters++
		}
	}
	return voters
}

func TestThreeNodesFormAClusterByGossip(t *testing.T) {
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	if v := voters(leader); v != 3 {
		t.Fatalf("%d voters, want 3", v)
	}
	a := propose(t, leader)
	eventually(t, "all nodes are at one state", func() bool {
		first := nodes[0].FSM().Status()
		for _, n := range nodes {
			s := n.FSM().Status()
			if s.AppliedIndex < a.Index || s.AppliedIndex != first.AppliedIndex || s.StateHash != first.StateHash || s.ClusterID == "" {
				return false
			}
		}
		return true
	})
	if status, err := leader.Read(t.Context(), func(*lease.Book) {}); err != nil || status.AppliedIndex < a.Index {
		t.Fatalf("read: index %d after %d, error %v", status.AppliedIndex, a.Index, err)
	}
	for _, f := range others(nodes, leader) {
		_, err := f.Propose(t.Context(), lease.Tick{})
		var nl *NotLeaderError
		if !errors.As(err, &nl) || nl.Leader.APIAddress != leader.Name()+":7800" {
			t.Errorf("propose on follower %s: %v", f.Name(), err)
		}
		if _, err := f.Read(t.Context(), func(*lease.Book) {}); !errors.As(err, &nl) {
			t.Errorf("read on follower %s: %v", f.Name(), err)
		}
	}
}

func TestFourthNodeStaysNonVoterWhileThreeVotersExist(t *testing.T) {
	t.Parallel()
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	fourth := start(t, testConfig(t, "n4", filepath.Join(t.TempDir(), "n4"), 3, gossipAddr(leader)))
	eventually(t, "the fourth node is a member that follows", func() bool {
		return len(leader.Peers()) == 4 && fourth.FSM().Status().AppliedIndex > 0
	})
	from := leader.FSM().Status().Now // several looks at the members later …
	eventually(t, "three ticks pass", func() bool { return leader.FSM().Status().Now > from.Add(3*time.Second) })
	if v := voters(leader); v != 3 {
		t.Fatalf("%d voters, want 3", v)
	}
}

func TestNonVoterIsPromotedWhereAVoterIsMissing(t *testing.T) {
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	lost := others(nodes, leader)[0]
	crash(t, lost)
	// The operator takes the dead voter out; its place goes to a new node.
	if err := leader.raft.RemoveServer(raft.ServerID(lost.ID()), 0, time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	start(t, testConfig(t, "n4", filepath.Join(t.TempDir(), "n4"), 3, gossipAddr(leader)))
	eventually(t, "the new node votes", func() bool {
		for _, p := range leader.Peers() {
			if p.Name == "n4" && p.Voter {
				return true
			}
		}
		return false
	})
}

func TestEmptyDiskUnderAnOldNameNeverWorksAsItsOldSelf(t *testing.T) {
	t.Parallel()
	// Patient nodes: on a busy machine an election would change who is asked.
	nodes := startThreeWith(t, func(c *Config) { c.HeartbeatTimeout, c.Watchdog = 2*time.Second, time.Minute })
	leader := leaderOf(t, nodes...)
	lost := others(nodes, leader)[0]
	old := lost.ID()
	crash(t, lost)
	if err := os.RemoveAll(lost.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	cfg := lost.cfg // the same name, addresses and bootstrap_expect
	cfg.RaftAddr, cfg.GossipAddr, cfg.Join = lost.raftAddress, gossipAddr(lost), []string{gossipAddr(leader)}
	again := start(t, cfg)
	if again.ID() == old {
		t.Fatalf("%s has its old id without what it promised under it", old)
	}
	from := leader.FSM().Status().Now // several looks at the members later …
	eventually(t, "three ticks pass", func() bool { return leader.FSM().Status().Now > from.Add(3*time.Second) })
	if st := again.FSM().Status(); st.AppliedIndex > 0 || voters(leader) != 3 || len(leader.Peers()) != 3 {
		t.Fatalf("it works in place of its old self: applied %d, members %+v", st.AppliedIndex, leader.Peers())
	}
	if last, err := again.gate.LastIndex(); last > 0 || err != nil {
		t.Errorf("it took entries that were meant for its old self, up to %d, error %v", last, err)
	}
	if a := strings.Join(leader.Alarms(), "\n"); !strings.Contains(a, "remove-peer "+old) {
		t.Errorf("alarms %q do not say what to do", a)
	}
	alive := others(others(nodes, lost), leader)[0]
	for id, want := range map[string]string{again.ID(): "no member has", leader.ID(): "transfer leadership first", alive.ID(): "is alive: stop it first"} {
		checkLine(t, leader.RemovePeer(t.Context(), id), want)
	}
	eventually(t, "gossip finds the old one dead, and it can be removed", func() bool { return leader.RemovePeer(t.Context(), old) == nil })
	eventually(t, "it votes once the operator has removed its old self", func() bool {
		for _, p := range leader.Peers() {
			if p.ID == again.ID() {
				return p.Voter
			}
		}
		return false
	})
	a := propose(t, leader)
	eventually(t, "it follows", func() bool { return again.FSM().Status().AppliedIndex >= a.Index })
	if a := leader.Alarms(); len(a) > 0 {
		t.Errorf("alarms %q afterwards", a)
	}
}

func TestLeaderCrashStartsANewEpochAndTimeGoesOn(t *testing.T) {
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	before := propose(t, leader)
	e, _ := leader.Leader()
	began := time.Now()
	crash(t, leader)
	rest := others(nodes, leader)
	next := leaderOf(t, rest...)
	after := propose(t, next)
	e2, _ := next.Leader()
	if e2.Index <= e.Index || e2.Term <= e.Term {
		t.Errorf("epoch %+v does not follow %+v", e2, e)
	}
	if after.Now < before.Now || after.Index <= before.Index {
		t.Errorf("after %+v, before %+v", after, before)
	}
	eventually(t, "cluster time moves on its own", func() bool { return next.FSM().Status().Now > after.Now.Add(time.Second) })
	if passed := next.FSM().Status().Now.Sub(before.Now); passed > time.Since(began) {
		t.Errorf("cluster time went %v ahead while %v passed", passed, time.Since(began))
	}
}

func TestTransferLeadershipToANamedVoter(t *testing.T) {
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	target := others(nodes, leader)[1]
	if err := leader.TransferLeadership(t.Context(), "nobody"); err == nil {
		t.Error("transferred to nobody")
	}
	if err := leader.TransferLeadership(t.Context(), target.Name()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the target leads", target.Leading)
}

func TestRestartKeepsTheIDAndAnEmptiedDirectoryGetsANewOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cfg := testConfig(t, "solo", dir, 1)
	reg := prometheus.NewRegistry()
	cfg.Metrics = reg
	n := start(t, cfg)
	leaderOf(t, n)
	if families, err := reg.Gather(); err != nil || len(families) == 0 {
		t.Errorf("%d metrics, error %v", len(families), err)
	}
	a, id := propose(t, n), n.ID()
	stop(t, n)
	n = start(t, cfg)
	if n.ID() != id {
		t.Errorf("id %s after restart, was %s", n.ID(), id)
	}
	leaderOf(t, n)
	if b := propose(t, n); b.Index <= a.Index || b.Now < a.Now {
		t.Errorf("state was lost: %+v after %+v", b, a)
	}
	stop(t, n)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if n = start(t, cfg); n.ID() == id || !strings.HasPrefix(n.ID(), "solo-") {
		t.Errorf("id %s in an emptied directory, was %s", n.ID(), id)
	}
}

func TestNodeMovesToAnotherAddressAndIsFollowed(t *testing.T) {
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	moved := others(nodes, leader)[0]
	old := moved.raftAddress
	stop(t, moved)
	cfg := moved.cfg
	cfg.Join = []string{gossipAddr(leader)}
	again := start(t, cfg)
	if again.raftAddress == old {
		t.Skip("the kernel gave the same port again")
	}
	eventually(t, "the leader knows the new address", func() bool {
		for _, p := range leader.Peers() {
			if p.ID == again.ID() {
				return p.Address == again.raftAddress && p.Voter
			}
		}
		return false
	})
	a := propose(t, leader)
	eventually(t, "it follows", func() bool { return again.FSM().Status().AppliedIndex >= a.Index })
}

func BenchmarkProposeOnThreeNodes(b *testing.B) {
	leader := leaderOf(b, startThree(b)...)
	b.SetParallelism(128)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := leader.Propose(b.Context(), lease.Tick{}); err != nil {
				b.Log(err)
				return
			}
		}
	})
}

func BenchmarkReadOnThreeNodes(b *testing.B) {
	leader := leaderOf(b, startThree(b)...)
	b.SetParallelism(128)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := leader.Read(b.Context(), func(*lease.Book) {}); err != nil {
				b.Log(err)
				return
			}
		}
	})
}
