package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// gaveUp collects why nodes end.
type gaveUp struct {
	mu      sync.Mutex
	reasons []string
}

func (g *gaveUp) fatal(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reasons = append(g.reasons, reason)
}

func (g *gaveUp) saying(words string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.ContainsFunc(g.reasons, func(r string) bool { return strings.Contains(r, words) })
}

func anyContains(list []string, words ...string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		for _, w := range words {
			if !strings.Contains(s, w) {
				return false
			}
		}
		return true
	})
}

func atVersion(v uint32, nodes ...*Node) func() bool {
	return func() bool {
		return !slices.ContainsFunc(nodes, func(n *Node) bool { return n.FSM().LogVersion() != v })
	}
}

// An upgrade, node by node: the version rises when the last member understands it and not
// before, whether that member is old, away or a learner; afterwards nobody who does not
// understand it starts, stays or joins.
func TestLogVersionRisesWithTheLastMember(t *testing.T) {
	t.Parallel()
	dir, ended := t.TempDir(), &gaveUp{}
	at := map[string][2]string{} // raft and gossip addresses, kept over restarts
	config := func(name string, understands uint32, join ...string) Config {
		cfg := testConfig(t, name, filepath.Join(dir, name), 3, join...)
		cfg.Understands, cfg.Version, cfg.Fatal = understands, map[uint32]string{1: "old", 2: "next"}[understands], ended.fatal
		if ports, ok := at[name]; ok {
			cfg.RaftAddr, cfg.GossipAddr = ports[0], ports[1]
		}
		return cfg
	}
	a := start(t, config("a", 2))
	b := start(t, config("b", 2, gossipAddr(a)))
	c := start(t, config("c", 1, gossipAddr(a)))
	old := c.ID()
	at["c"] = [2]string{c.raftAddress, gossipAddr(c)}
	leaderOf(t, a, b, c)
	for _, n := range []*Node{a, b} {
		eventually(t, "the old member is named", func() bool {
			return anyContains(n.Alarms(), old, "version old, understands log version 1", "stays at log version 1")
		})
	}
	crash(t, c)
	leaderOf(t, a, b)
	eventually(t, "a member that is away is named", func() bool { return anyContains(a.Alarms(), old, "not reachable") })
	for range 2 { // a round that would raise it has ended
		for _, n := range []*Node{a, b} {
			last := n.heard.Load()
			eventually(t, "another round of questions", func() bool { return n.heard.Load() != last })
		}
	}
	if !atVersion(1, a, b)() {
		t.Fatal("the version rose although a member does not understand it")
	}
	if _, err := os.Stat(filepath.Join(dir, "a", versionFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first version is marked: %v", err)
	}

	c = start(t, config("c", 2, gossipAddr(a)))
	eventually(t, "the version to rise on all", atVersion(2, a, b, c))
	eventually(t, "no alarm to be left", func() bool { return len(a.versionAlarms())+len(b.versionAlarms()) == 0 })
	mark := filepath.Join(dir, "c", versionFile)
	eventually(t, "the mark", func() bool { v, err := readVersion(mark); return err == nil && v == 2 })
	stop(t, c)

	_, err := Start(config("c", 1, gossipAddr(a)))
	if err == nil || !strings.Contains(err.Error(), "is of log version 2 and this build understands 1") || strings.Contains(err.Error(), "\n") {
		t.Fatalf("an old build on an upgraded data directory: %v", err)
	}
	leader := leaderOf(t, a, b)
	d := start(t, config("d", 1, gossipAddr(leader)))
	eventually(t, "the newcomer to be named", func() bool {
		return anyContains(leaderOf(t, a, b).Alarms(), d.ID(), "may not join", "understands log version 1 and the cluster is at 2")
	})
	if leader.isMember(d.ID()) {
		t.Error("it joined")
	}
	eventually(t, "the newcomer to give up", func() bool { return ended.saying("the cluster needs log version 2 and this build understands 1") })
}

// A command that needs more than the log may hold is not queued, and its caller learns why.
func TestCommandBeyondTheLogVersionIsRefused(t *testing.T) {
	proposing(t, 10, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		p.version = func() uint32 { return fsm.FirstVersion - 1 } // even a tick needs more
		var v *VersionError
		if _, err := p.propose(t.Context(), lease.Tick{}); !errors.As(err, &v) || v.Needs != 1 || v.Cluster != 0 {
			t.Errorf("propose: %v", err)
		}
		v = nil
		if err := p.proposeOwn(t.Context(), []lease.Command{lease.Tick{}}); !errors.As(err, &v) {
			t.Errorf("proposeOwn: %v", err)
		}
		var told []Proposed
		_, err := p.proposeAsync([]lease.Command{lease.Tick{}, lease.Fence{}}, func(lease.Command) error { return nil },
			func(_ int, answers []Proposed) { told = append(told, answers...) })
		if err != nil || len(told) != 2 || !errors.As(told[1].Err, &v) {
			t.Errorf("proposeAsync: %v, told %v", err, told)
		}
		if n := len(r.sent()); n > 0 {
			t.Errorf("%d entries went to raft", n)
		}
	})
}

func TestVersionErrorNamesWhomToUpgrade(t *testing.T) {
	e := &VersionError{What: "this", Needs: 2, Cluster: 1, Behind: []string{"node c-00000001 (version old, understands log version 1)"}}
	if got, want := e.Error(), "this needs log version 2 and the cluster is at 1: upgrade node c-00000001 (version old, understands log version 1)"; got != want {
		t.Errorf("%q", got)
	}
	e.Behind = nil
	if got := e.Error(); !strings.HasSuffix(got, "try again") {
		t.Errorf("%q", got)
	}
}
