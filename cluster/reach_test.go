package cluster

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tried finds what became of one port of one node.
func tried(list []Reached, id, port string) *Reached {
	i := slices.IndexFunc(list, func(r Reached) bool { return r.ID == id && r.Port == port })
	if i < 0 {
		return nil
	}
	return &list[i]
}

func TestNodeReachesTheOthersOnEveryPort(t *testing.T) {
	nodes := startThree(t)
	a := nodes[0]
	eventually(t, "every port of both others to answer", func() bool {
		list := a.Reach(t.Context())
		for _, n := range nodes[1:] {
			for _, port := range []string{PortRaft, PortGossipTCP, PortGossipUDP} {
				if r := tried(list, n.ID(), port); r == nil || r.Err != nil {
					return false
				}
			}
		}
		return len(list) == 6
	})
	// One that is gone is found on each of its ports that is tried, and the other is not.
	gone := nodes[1]
	crash(t, gone)
	list := a.Reach(t.Context())
	if r := tried(list, gone.ID(), PortRaft); r == nil || r.Err == nil || !strings.Contains(r.Err.Error(), "refused") {
		t.Errorf("the Raft port of the node that is gone: %+v", r)
	}
	if r := tried(list, nodes[2].ID(), PortRaft); r == nil || r.Err != nil {
		t.Errorf("the Raft port of the other one: %+v", r)
	}
}

func TestReachKnowsWhoIsNotWhoItLooksFor(t *testing.T) {
	// Whoever takes TCP and says nothing by UDP.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := start(t, testConfig(t, "a", filepath.Join(t.TempDir(), "a"), 3, l.Addr().String())) // it waits for two more
	if _, err := a.tryRaft(t.Context(), a.ID(), a.raftAddress); err != nil {
		t.Errorf("itself: %v", err)
	}
	if _, err := a.tryRaft(t.Context(), "b-00000001", a.raftAddress); err == nil || !strings.Contains(err.Error(), "another server") {
		t.Errorf("another id at this address: %v", err)
	}
	if _, err := a.tryRaft(t.Context(), a.ID(), "no-such-host.invalid:1"); err == nil || !strings.Contains(err.Error(), "does not resolve") {
		t.Errorf("a name that does not resolve: %v", err)
	}
	list := a.Reach(t.Context())
	if r := tried(list, "", PortGossipTCP); r == nil || r.Err != nil {
		t.Errorf("TCP of the join address: %+v", r)
	}
	if r := tried(list, "", PortGossipUDP); r == nil || !errors.Is(r.Err, errNoAck) {
		t.Errorf("UDP of the join address: %+v", r)
	}
}

func TestDiskIsTriedAndAHungOneCostsNobodyTheirTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	cfg := testConfig(t, "a", dir, 1)
	hang := make(chan struct{})
	hung := false
	cfg.SyncProbe = func(dir string) ([]time.Duration, error) {
		if hung {
			<-hang
		}
		return syncProbe(dir)
	}
	a := start(t, cfg)
	d := a.TryDisk(t.Context())
	if d.Err != nil || len(d.Syncs) == 0 || d.Total == 0 || !slices.IsSorted(d.Syncs) {
		t.Errorf("a good disk: %+v", d)
	}
	if _, err := os.Stat(filepath.Join(dir, syncProbeFile)); err == nil {
		t.Error("the probe leaves its file behind")
	}
	hung = true
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if d := a.TryDisk(ctx); d.Err == nil || !strings.Contains(d.Err.Error(), "hung") {
		t.Errorf("a disk that hangs: %+v", d)
	}
	if d := a.TryDisk(t.Context()); d.Err == nil || !strings.Contains(d.Err.Error(), "has not ended") {
		t.Errorf("a second try beside it: %+v", d)
	}
	close(hang)
	eventually(t, "the try that hung to end", func() bool { return !a.tryingDisk.Load() })
}

func TestGossipKeyIDTellsKeysApartAndNotTheKey(t *testing.T) {
	one, two := []byte(strings.Repeat("o", gossipKeyLen)), []byte(strings.Repeat("n", gossipKeyLen))
	if GossipKeyID(one) == GossipKeyID(two) || GossipKeyID(one) != GossipKeyID(slices.Clone(one)) || len(GossipKeyID(one)) != 8 {
		t.Errorf("ids %s and %s", GossipKeyID(one), GossipKeyID(two))
	}
}
