package cluster

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// replaced takes a replacement from step to step until it is done, and checks that a
// majority of voters answers after each. It asks whoever of the living leads.
func replaced(t *testing.T, living []*Node, old, next string) (steps []string) {
	t.Helper()
	begun := false
	eventually(t, "the replacement is done", func() bool {
		leader := leaderOf(t, living...)
		r, err := leader.ReplacePeer(t.Context(), old, next, begun)
		if err != nil {
			t.Logf("%v", err) // gossip still takes the dead one for alive
			return false
		}
		if e := leader.electorate(); leader.Leading() && e.live() < majority(len(e)) {
			t.Errorf("after %q %d of %d voters answer", r.Step, e.live(), len(e))
		}
		begun, old, next = true, r.Old, r.New
		if n := len(steps); n == 0 || steps[n-1] != r.Step {
			steps = append(steps, r.Step)
		}
		return r.Done
	})
	return steps
}

func votes(n *Node, id string) bool {
	for _, p := range n.Peers() {
		if p.ID == id {
			return p.Voter
		}
	}
	return false
}

func TestADeadNodeIsReplacedByANewOne(t *testing.T) {
	t.Parallel()
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	rest := others(nodes, leader)
	lost, alive := rest[0], rest[1]
	crash(t, lost)
	fresh := start(t, testConfig(t, "n4", filepath.Join(t.TempDir(), "n4"), 3, gossipAddr(leader)))
	living := others(nodes, lost)
	refused := func(old, next, want string) {
		t.Helper()
		eventually(t, "the leader refuses", func() bool {
			_, err := leaderOf(t, living...).ReplacePeer(t.Context(), old, next, false)
			return err != nil && strings.Contains(err.Error(), want)
		})
	}
	refused("nobody", "n4", "no member is called")
	refused(alive.ID(), "n4", "only a dead member is replaced")
	refused(leader.ID(), "n4", "only a dead member is replaced")
	eventually(t, "gossip notices the loss", func() bool { return !leaderOf(t, living...).aliveInGossip(lost.ID()) })
	refused(lost.ID(), "n5", "no live node is called")

	steps := replaced(t, living, lost.Name(), "n4")
	leader = leaderOf(t, living...)
	if !votes(leader, fresh.ID()) || voters(leader) != 3 || len(leader.Peers()) != 3 {
		t.Errorf("members afterwards: %+v", leader.Peers())
	}
	gets, goes := -1, -1
	for i, s := range steps {
		switch {
		case strings.Contains(s, "has caught up and votes"):
			gets = i
		case strings.Contains(s, "is no member any more"):
			goes = i
		}
	}
	if gets < 0 || goes < gets {
		t.Errorf("the new one votes before the old one goes: %q", steps)
	}
	eventually(t, "once more is done at once, and it follows", func() bool {
		leader := leaderOf(t, living...)
		r, err := leader.ReplacePeer(t.Context(), lost.ID(), fresh.ID(), true)
		return err == nil && r.Done && fresh.FSM().Status().AppliedIndex == leader.FSM().Status().AppliedIndex
	})
}

func TestANodeRebuiltAtItsAddressReplacesItsOldSelf(t *testing.T) {
	t.Parallel()
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	lost := others(nodes, leader)[0]
	crash(t, lost)
	if err := os.RemoveAll(lost.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	cfg := lost.cfg
	cfg.RaftAddr, cfg.GossipAddr, cfg.Join = lost.raftAddress, gossipAddr(lost), []string{gossipAddr(leader)}
	again := start(t, cfg)
	eventually(t, "health says what it waits for", func() bool {
		leader = leaderOf(t, others(nodes, lost)...)
		h, err := leader.Autopilot()
		return err == nil && len(h.Waiting) == 1 && strings.Contains(h.Waiting[0].Why, "replace-peer "+lost.ID()+" "+again.ID())
	})
	_, err := leader.AddPeer(t.Context(), again.ID(), "")
	checkLine(t, err, "waits to join at the address of "+lost.ID())

	replaced(t, others(nodes, lost), lost.Name(), lost.Name()) // one name for both
	leader = leaderOf(t, others(nodes, lost)...)
	if !votes(leader, again.ID()) || voters(leader) != 3 || len(leader.Peers()) != 3 {
		t.Errorf("members afterwards: %+v", leader.Peers())
	}
}

func TestAServerThatGossipCannotSeeIsAddedByIDAndAddress(t *testing.T) {
	t.Parallel()
	leader := start(t, testConfig(t, "n1", filepath.Join(t.TempDir(), "n1"), 1))
	leaderOf(t, leader)
	cfg := testConfig(t, "n2", filepath.Join(t.TempDir(), "n2"), 0)
	cfg.ClusterName = "elsewhere" // gossip's label: they never meet
	quiet := start(t, cfg)
	for ref, address := range map[string]string{"n2": quiet.raftAddress, quiet.ID(): "nonsense"} {
		if _, err := leader.AddPeer(t.Context(), ref, address); err == nil {
			t.Errorf("%s at %s was added", ref, address)
		}
	}
	id, err := leader.AddPeer(t.Context(), quiet.ID(), quiet.raftAddress)
	if err != nil || id != quiet.ID() {
		t.Fatalf("added %q, %v", id, err)
	}
	a := propose(t, leader)
	eventually(t, "it follows", func() bool { return quiet.FSM().Status().AppliedIndex >= a.Index })
	if votes(leader, quiet.ID()) {
		t.Error("it votes where no voter is missing")
	}
}

func TestAutopilotShowsADeadVoterAndNeverRemovesIt(t *testing.T) {
	t.Parallel()
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	var before Autopilot
	eventually(t, "all are healthy", func() bool {
		var err error
		before, err = leader.Autopilot()
		return err == nil && before.Healthy
	})
	if before.FailureTolerance != 1 || before.Leader != leader.ID() || len(before.Voters) != 3 || len(before.Servers) != 3 {
		t.Errorf("health %+v", before)
	}
	if _, err := others(nodes, leader)[0].Autopilot(); err == nil {
		t.Error("a follower tells")
	}
	lost, gone, term := others(nodes, leader)[0], time.Now(), leader.raft.CurrentTerm()
	crash(t, lost)
	find := func(a Autopilot, id string) ServerHealth {
		for _, s := range a.Servers {
			if s.ID == id {
				return s
			}
		}
		t.Fatalf("%s is not among %+v", id, a.Servers)
		return ServerHealth{}
	}
	var after Autopilot
	eventually(t, "the loss shows", func() bool {
		leader = leaderOf(t, others(nodes, lost)...) // a busy machine may elect another
		after, _ = leader.Autopilot()
		return len(after.Servers) == 3 && find(after, lost.ID()).Peer.Health == "failed" && !after.Healthy
	})
	dead, well := find(after, lost.ID()), find(after, leader.ID())
	if dead.Healthy || !dead.Voter || dead.LastContact < contactLimit || dead.StableSince.Before(gone) || after.FailureTolerance != 0 {
		t.Errorf("the dead one %+v, tolerance %d", dead, after.FailureTolerance)
	}
	if !well.Healthy || well.LastIndex == 0 || after.Leader == before.Leader && leader.raft.CurrentTerm() == term && !well.StableSince.Before(gone) {
		t.Errorf("the leader %+v", well)
	}
	from := leader.FSM().Status().Now
	eventually(t, "three looks at the members", func() bool { return leader.FSM().Status().Now > from.Add(3*time.Second) })
	if len(leader.Peers()) != 3 || voters(leader) != 3 {
		t.Errorf("the dead one was removed: %+v", leader.Peers())
	}
}

func TestAGoodbyeShowsAsLeft(t *testing.T) {
	t.Parallel()
	nodes := startThree(t)
	leader := leaderOf(t, nodes...)
	gone := others(nodes, leader)[0]
	stop(t, gone)
	eventually(t, "it shows as left", func() bool {
		for _, p := range leader.Peers() {
			if p.ID == gone.ID() {
				return p.Health == "left"
			}
		}
		return false
	})
}

// News of a member may pass each other on the way: what it published before it left, and
// the death it was suspected of.
func TestAGoodbyeStandsAgainstLateNews(t *testing.T) {
	t.Parallel()
	node := func(run, api string) *memberlist.Node {
		meta, err := json.Marshal(Member{ID: "n1-0", APIAddress: api, Run: run})
		if err != nil {
			t.Fatal(err)
		}
		return &memberlist.Node{Name: "n1-0", Meta: meta}
	}
	for name, news := range map[string]func(*gossip){
		"in order": func(g *gossip) { g.NotifyMsg([]byte("left n1-0 one")) },
		"an update behind it": func(g *gossip) {
			g.NotifyMsg([]byte("left n1-0 one"))
			g.NotifyUpdate(node("one", "b"))
		},
		"held dead before": func(g *gossip) {
			g.NotifyLeave(node("one", "a"))
			g.NotifyMsg([]byte("left n1-0 one"))
			g.NotifyJoin(node("one", "a"))
		},
		"after everything": func(g *gossip) {
			g.NotifyLeave(node("one", "a"))
			g.NotifyMsg([]byte("left n1-0 one"))
		},
	} {
		g := &gossip{log: hclog.NewNullLogger(), changed: make(chan struct{}, 1), members: map[string]neighbour{}, left: map[string]string{}}
		g.NotifyJoin(node("one", "a"))
		news(g)
		g.NotifyLeave(node("one", "b"))
		g.NotifyMsg([]byte("left stranger one"))
		g.NotifyMsg([]byte("left n1-0 " + strings.Repeat("x", runLength+1)))
		if len(g.left) != 1 || len(g.left["n1-0"]) > runLength {
			t.Errorf("%s: remembered %v", name, g.left)
		}
		if !g.HasLeft("n1-0") || len(g.Members()) != 0 {
			t.Errorf("%s: it does not show as left", name)
		}
		g.NotifyJoin(node("two", "a"))
		g.NotifyLeave(node("two", "a"))
		if g.HasLeft("n1-0") {
			t.Errorf("%s: it came back and died, and shows as left", name)
		}
	}
}

func TestNoStepLeavesVotersWithoutAMajority(t *testing.T) {
	voting := func(answer ...bool) electorate {
		e := electorate{}
		for i, a := range answer {
			e[string(rune('a'+i))] = a
		}
		return e
	}
	for _, c := range []struct {
		e             electorate
		without, with bool // whether taking "a" out, and another voter, is allowed
	}{
		{voting(false, true, true), true, true},
		{voting(false, false, true), false, false},
		{voting(true, true, true), true, true},
		{voting(true, true), true, true},
		{voting(true, false), false, true}, // only the dead one would be left
		{voting(false, true), true, true},
		{voting(false, false, true, true, true), true, true},
		{voting(false, false, false, true, true), false, false},
		{voting(true, true, true, false, false), false, true},
	} {
		if err := c.e.without("a"); (err == nil) != c.without {
			t.Errorf("%v without a: %v", c.e, err)
		}
		if err := c.e.with("x"); (err == nil) != c.with {
			t.Errorf("%v with another: %v", c.e, err)
		}
	}
	if err := voting(false, false, true).without("x"); err != nil {
		t.Errorf("who has no vote may always go: %v", err)
	}
}
