package cluster

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/seatkeeper/seatkeeper/lease"
)

// lostMajority is a cluster of three whose nodes have all stopped.
func lostMajority(t *testing.T, store LogStore) (stopped []*Node) {
	t.Helper()
	stopped = startThreeWith(t, func(c *Config) { c.LogStore = store })
	leader := leaderOf(t, stopped...)
	a := propose(t, leader)
	for _, n := range stopped {
		eventually(t, "all have it", func() bool { return n.FSM().Status().AppliedIndex >= a.Index })
	}
	for _, n := range stopped {
		crash(t, n)
	}
	return stopped
}

func recoveryOf(n *Node) RecoverOptions {
	return RecoverOptions{DataDir: n.cfg.DataDir, Name: n.Name(), RaftAddress: n.raftAddress}
}

// again is the config of a stopped node, at its addresses.
func again(n *Node, join ...string) Config {
	cfg := n.cfg
	cfg.RaftAddr, cfg.GossipAddr, cfg.Join = n.raftAddress, gossipAddr(n), join
	return cfg
}

func TestRecoveryNeedsAStoppedMemberAndALostMajority(t *testing.T) {
	t.Parallel()
	nodes := startThree(t)
	leaderOf(t, nodes...)
	_, err := OpenRecovery(recoveryOf(nodes[0]))
	checkLine(t, err, "stop the server first")
	crash(t, nodes[0])
	_, err = OpenRecovery(recoveryOf(nodes[0]))
	checkLine(t, err, "a majority is there")
	crash(t, nodes[1])
	r, err := OpenRecovery(recoveryOf(nodes[0]))
	if err != nil {
		t.Fatalf("one of three is left, besides it: %v", err)
	}
	r.Close()

	empty := recoveryOf(nodes[0])
	empty.DataDir = t.TempDir()
	_, err = OpenRecovery(empty)
	checkLine(t, err, "no data directory of a node")
	fresh := start(t, testConfig(t, "n9", filepath.Join(t.TempDir(), "n9"), 0))
	crash(t, fresh)
	_, err = OpenRecovery(recoveryOf(fresh))
	checkLine(t, err, "was never a member")
}

func TestOldNodesThatFormTheLostClusterEndWhenTheyHearOfTheRecovery(t *testing.T) {
	t.Parallel()
	nodes := lostMajority(t, LogWAL)
	r, err := OpenRecovery(recoveryOf(nodes[0]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	recovered := start(t, again(nodes[0]))
	leaderOf(t, recovered)
	if recovered.ID() != r.Plan.NewID || recovered.ID() == nodes[0].ID() || voters(recovered) != 1 {
		t.Errorf("%s leads %+v", recovered.ID(), recovered.Peers())
	}

	// The other two hear of each other only: together they are a majority of what they know.
	fatal := make(chan string, 2)
	var old []*Node
	for i, n := range nodes[1:] {
		cfg := again(n, gossipAddr(nodes[2-i]))
		cfg.Fatal = func(reason string) { fatal <- reason }
		old = append(old, start(t, cfg))
	}
	leaderOf(t, old...)
	if recovered.FSM().Status().Recoveries != 1 || len(recovered.Peers()) != 1 {
		t.Errorf("members %+v", recovered.Peers())
	}
	if _, err := old[0].discovery.(*gossip).list.Join([]string{gossipAddr(recovered)}); err != nil {
		t.Fatal(err)
	}
	for range old {
		if reason := <-fatal; !strings.Contains(reason, "recovered without this node") || !strings.Contains(reason, "start with an empty one") {
			t.Errorf("it ends with %q", reason)
		}
	}
	eventually(t, "the recovered cluster keeps them out and says so", func() bool {
		h, err := recovered.Autopilot()
		return err == nil && len(h.Servers) == 1 && len(h.Waiting) == 2 && strings.Contains(h.Waiting[0].Why, "before this cluster was recovered")
	})
	for _, n := range old {
		crash(t, n)
		_, err := Start(again(n, gossipAddr(recovered)))
		checkLine(t, err, "recovered without this node")
		if err := os.RemoveAll(n.cfg.DataDir); err != nil {
			t.Fatal(err)
		}
	}
	// gossip still takes the one that did not start for a member at that address for a while
	empty := start(t, again(nodes[1], gossipAddr(recovered)))
	eventually(t, "emptied, it joins and votes", func() bool { return votes(recovered, empty.ID()) })
	if a, b := recovered.FSM().Status().Lineage, empty.FSM().Status().Lineage; a == "" || a != b {
		t.Errorf("lineages %q and %q", a, b)
	}
}

func TestRecoveryCutShortAnywhereIsMadeGoodAtTheNextStart(t *testing.T) {
	for _, store := range []LogStore{LogBolt, LogWAL} {
		t.Run(string(store), func(t *testing.T) {
			t.Parallel()
			cutRecoveriesShort(t, store)
		})
	}
}

func cutRecoveriesShort(t *testing.T, store LogStore) {
	nodes := lostMajority(t, store)
	original := nodes[0].cfg.DataDir
	steps := 2*len(recoveredFiles) + 2
	for cut := range steps + 1 {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(dir, os.DirFS(original)); err != nil {
			t.Fatal(err)
		}
		o := recoveryOf(nodes[0])
		o.DataDir = dir
		r, err := OpenRecovery(o)
		if err != nil {
			t.Fatal(err)
		}
		tmp, ready := filepath.Join(dir, recoveryTmp), filepath.Join(dir, recoveryReady)
		must(t, r.build(tmp))
		name, err := os.ReadFile(filepath.Join(tmp, recoveryKept))
		must(t, err)
		kept := filepath.Join(dir, strings.TrimSpace(string(name)))
		script := []func() error{
			func() error { return os.Rename(tmp, ready) },
			func() error { return os.Mkdir(kept, 0o700) },
		}
		for _, f := range recoveredFiles {
			script = append(script,
				func() error { return os.Rename(filepath.Join(dir, f), filepath.Join(kept, f)) },
				func() error { return os.Rename(filepath.Join(ready, f), filepath.Join(dir, f)) })
		}
		for _, step := range script[:cut] {
			if err := step(); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		r.Close()
		s, err := openStorage(dir, nodes[0].Name(), "", hclog.NewNullLogger())
		if err != nil {
			t.Errorf("cut after step %d: %v", cut, err)
			continue
		}
		if want := map[bool]string{true: r.Plan.OldID, false: r.Plan.NewID}[cut == 0]; s.id != want {
			t.Errorf("cut after step %d it is %s, want %s", cut, s.id, want)
		}
		found, err := s.origin()
		if err != nil || found.clusterID != r.Plan.ClusterID || (found.recoveries == 1) != (cut > 0) {
			t.Errorf("cut after step %d its data say %+v, %v", cut, found, err)
		}
		must(t, s.Close())
		if cut == 0 {
			continue
		}
		var have []string
		entries, _ := os.ReadDir(kept)
		for _, e := range entries {
			have = append(have, e.Name())
		}
		for _, f := range recoveredFiles {
			if (f != segmentsDir || store == LogWAL) && !slices.Contains(have, f) {
				t.Errorf("cut after step %d only %v is kept", cut, have)
			}
		}
		if _, err := os.Stat(ready); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cut after step %d: %v", cut, err)
		}
	}
}

func TestARecoveredLedgerGivesNothingAwayUntilTheFenceIsOver(t *testing.T) {
	t.Parallel()
	n := start(t, testConfig(t, "solo", filepath.Join(t.TempDir(), "solo"), 1))
	leaderOf(t, n)
	install := lease.InstallLicence{Licence: lease.Licence{ID: "l", Vendor: "v", Tenant: lease.DefaultTenant,
		Entitlements: []lease.Entitlement{{Feature: "cad", Version: "1", Count: 3, Serial: "1", Profile: lease.Profiles["wan"]}}}}
	if _, err := n.Propose(t.Context(), install); err != nil {
		t.Fatal(err)
	}
	before, err := n.Propose(t.Context(), wantsCAD(1))
	if err != nil || before.Reply.Refusal != nil {
		t.Fatal(err, before.Reply.Refusal)
	}
	last := propose(t, n)
	crash(t, n)
	o := recoveryOf(n)
	o.Fence = 1 // never less than the longest term
	r, err := OpenRecovery(o)
	if err != nil {
		t.Fatal(err)
	}
	if want := lease.Profiles["wan"].Lifespan + lease.Profiles["wan"].Grace; r.Plan.FenceMs != want.Milliseconds() {
		t.Errorf("checkouts wait for %d ms, want %v", r.Plan.FenceMs, want)
	}
	if _, err := r.Commit(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	n = start(t, again(n))
	leaderOf(t, n)
	after := propose(t, n)
	if after.Index <= last.Index+recoveryLift || after.Now < last.Now {
		t.Errorf("place %d after %d, time %v after %v", after.Index, last.Index, after.Now, last.Now)
	}
	got, err := n.Propose(t.Context(), wantsCAD(2))
	if err != nil || got.Reply.Refusal == nil || got.Reply.Refusal.Reason != lease.Overloaded || got.Reply.Refusal.Final {
		t.Errorf("a checkout within the fence: %+v, %v", got.Reply, err)
	}
	got, err = n.Propose(t.Context(), lease.Renew{Session: person(1)})
	if err != nil || len(got.Reply.Leases) != 1 || got.Reply.Leases[0].Token != before.Reply.Leases[0].Token {
		t.Errorf("a session that is known: %+v, %v", got.Reply, err)
	}
	if left := got.Reply.Leases[0].Deadline.Sub(got.Now); left < lease.Profiles["wan"].Lifespan {
		t.Errorf("it has %v left, want a whole lifespan", left)
	}
	var floor lease.Token
	n.ReadStale(func(b *lease.Book) { floor = b.Floor })
	if floor <= before.Reply.Leases[0].Token+recoveryLift/2 {
		t.Errorf("tokens go on from %d, after %d", floor, before.Reply.Leases[0].Token)
	}
}
