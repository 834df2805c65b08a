package cluster

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// sizedSnapshots says of the newest snapshot that it is larger than it is.
type sizedSnapshots struct {
	raft.SnapshotStore
	more atomic.Int64
}

func (s *sizedSnapshots) List() ([]*raft.SnapshotMeta, error) {
	list, err := s.SnapshotStore.List()
	if err == nil && len(list) > 0 {
		newest := *list[0]
		newest.Size += s.more.Load()
		list[0] = &newest
	}
	return list, err
}

func (s *sizedSnapshots) newest(t *testing.T) (index uint64) {
	t.Helper()
	list, err := s.SnapshotStore.List()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) > 0 {
		index = list[0].Index
	}
	return index
}

func TestALogThatHasGrownLargeIsShortenedWhateverItsEntriesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchWith(t, 1, 0, func(c *Config) { c.SnapshotBytes = minSnapshotBytes })
		n, snaps := b.nodes[0], b.snaps[0]
		leaderOf(t, n)
		// fill proposes about that many bytes and lets the node look at its log.
		fill := func(bytes int64) {
			for from := n.fsm.Unsaved(); n.fsm.Unsaved()-from < bytes; {
				propose(t, n)
			}
			time.Sleep(2 * shortenEvery)
		}
		fill(minSnapshotBytes / 2)
		if at := snaps.newest(t); at != 0 {
			t.Errorf("half a log makes a snapshot, at %d", at)
		}
		fill(minSnapshotBytes) // by chance up to half of it more than needed
		first := snaps.newest(t)
		if first == 0 {
			t.Fatalf("%d bytes of log make no snapshot", n.fsm.Unsaved())
		}
		// A large state is not written for a little log.
		snaps.more.Store(3 * minSnapshotBytes)
		fill(2 * minSnapshotBytes)
		if at := snaps.newest(t); at != first {
			t.Errorf("a log smaller than the last snapshot makes another one, at %d", at)
		}
		fill(4 * minSnapshotBytes)
		if at := snaps.newest(t); at == first {
			t.Error("a log larger than the last snapshot makes none")
		}
		b.stop(t)
	})
}

func TestLargeEntriesLeaveFewerBehindASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchWith(t, 1, 0, func(c *Config) { c.SnapshotBytes = minSnapshotBytes })
		n := b.nodes[0]
		leaderOf(t, n)
		// grow proposes until there is a snapshot more.
		grow := func(more func()) {
			for from := b.snaps[0].newest(t); b.snaps[0].newest(t) == from; time.Sleep(2 * shortenEvery) {
				for from := n.fsm.Unsaved(); n.fsm.Unsaved()-from < minSnapshotBytes; {
					more()
				}
			}
		}
		grow(func() { propose(t, n) })
		if got := n.raft.ReloadableConfig().TrailingLogs; got != DefaultTrailingLogs {
			t.Errorf("behind small entries %d are kept, want %d", got, DefaultTrailingLogs)
		}
		features := make([]lease.Entitlement, 400)
		for i := range features {
			features[i] = lease.Entitlement{Feature: fmt.Sprint("feature-", i), Version: "1", Count: 1, Serial: fmt.Sprint(i), Profile: lease.Profiles["ci"]}
		}
		large := func() {
			_, err := n.Propose(t.Context(), lease.InstallLicence{Licence: lease.Licence{ID: "l", Vendor: "v", Tenant: lease.DefaultTenant, Entitlements: features}})
			if err != nil {
				t.Fatal(err)
			}
		}
		grow(large)
		grow(large) // entries of one size
		index, bytes := n.fsm.Status().AppliedIndex, n.fsm.Unsaved()
		large()
		size := uint64(n.fsm.Unsaved() - bytes)
		if n.fsm.Status().AppliedIndex != index+1 || size < maxTrailing/DefaultTrailingLogs {
			t.Fatalf("an entry of %d bytes does not tell", size)
		}
		if got := n.raft.ReloadableConfig().TrailingLogs; got*size > maxTrailing*3/2 || got*size < maxTrailing/2 {
			t.Errorf("%d entries of %d bytes are kept, want about %d bytes", got, size, maxTrailing)
		}
		grow(func() { propose(t, n) })
		grow(func() { propose(t, n) })
		if got := n.raft.ReloadableConfig().TrailingLogs; got != DefaultTrailingLogs {
			t.Errorf("behind small entries again %d are kept, want %d", got, DefaultTrailingLogs)
		}
		b.stop(t)
	})
}

func TestWatchdogLeavesALeaderAloneThatAppliesWhatOthersWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fatal := make(chan string, 1)
		n := &Node{fsm: fsm.New(fsm.Options{}), cfg: Config{Fatal: func(reason string) { fatal <- reason }}.withDefaults(), log: testLogger("n")}
		var p progress
		p.inFlight.Add(1) // its own, behind all the others
		go n.watch(t.Context(), &p)
		lead, err := fsm.EncodeLead(fsm.Lead{Node: "n2", APIAddress: "n2:7800", ClusterID: "c"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 * DefaultWatchdog / DefaultTick {
			n.fsm.Apply(&raft.Log{Index: uint64(i + 1), Term: 1, Data: lead})
			time.Sleep(DefaultTick)
		}
		if len(fatal) > 0 {
			t.Fatalf("a replay was taken for a hung disk: %s", <-fatal)
		}
		time.Sleep(2 * DefaultWatchdog)
		if len(fatal) == 0 {
			t.Error("a disk that hangs after the replay was not noticed")
		}
	})
}
