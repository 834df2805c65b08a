package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/lease"
)

// fakeDisk has a part of its space free, in percent.
type fakeDisk struct{ percent atomic.Int64 }

func (d *fakeDisk) measure(string) (free, total uint64, err error) {
	return uint64(d.percent.Load()) << 30, 100 << 30, nil
}

func licenceOf(seats int) lease.Command {
	return lease.InstallLicence{Licence: lease.Licence{ID: "l", Vendor: "v", Tenant: lease.DefaultTenant,
		Entitlements: []lease.Entitlement{{Feature: "cad", Version: "1", Count: seats, Serial: "1", Profile: lease.Profiles["ci"]}}}}
}

func checkoutOf(session byte) lease.Checkout {
	return lease.Checkout{Tenant: lease.DefaultTenant, Principal: lease.Principal{User: "u" + string('0'+rune(session)), Host: "h"},
		Session: lease.SessionRef{ID: lease.SessionID{session}, Digest: lease.SecretDigest{0xd1, 0x9e, session}, Incarnation: 1, Seq: 1},
		Items:   []lease.Item{{Feature: "cad", Version: "1", Count: 1}}}
}

func TestNearlyFullDiskStopsNewCheckoutsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var disk fakeDisk
		disk.percent.Store(50)
		b := newBenchWith(t, 1, 0, func(c *Config) { c.DataDir, c.DiskSpace, c.Metrics = "d", disk.measure, prometheus.NewRegistry() })
		n := b.nodes[0]
		leaderOf(t, n)
		do := func(cmd lease.Command) (lease.Reply, error) {
			a, err := n.Propose(t.Context(), cmd)
			return a.Reply, err
		}
		must2 := func(cmd lease.Command) {
			t.Helper()
			if r, err := do(cmd); err != nil || r.Refusal != nil {
				t.Fatalf("%T: error %v, refusal %v", cmd, err, r.Refusal)
			}
		}
		must2(licenceOf(5))
		must2(checkoutOf(1))
		must2(checkoutOf(2))
		if a := n.Alarms(); len(a) != 0 {
			t.Errorf("alarms %q on a disk with space", a)
		}
		disk.percent.Store(9)
		time.Sleep(2 * spaceInterval)
		if _, err := do(checkoutOf(3)); !errors.Is(err, ErrOverloaded) || !strings.Contains(err.Error(), "disk of the leader is nearly full") {
			t.Errorf("checkout on a nearly full disk: %v", err)
		}
		ask := checkoutOf(3)
		for _, cmd := range []lease.Command{
			lease.Borrow{Tenant: ask.Tenant, Session: ask.Session, Principal: ask.Principal, Item: ask.Items[0], For: time.Hour},
			lease.MakeBooking{Tenant: ask.Tenant, ID: "job-1", Items: ask.Items, For: time.Hour},
		} { // they take seats as a checkout does
			if _, err := do(cmd); !errors.Is(err, ErrOverloaded) {
				t.Errorf("%T on a nearly full disk: %v", cmd, err)
			}
		}
		if a := n.Alarms(); len(a) != 2 || !strings.Contains(a[0], n.ID()) {
			t.Errorf("alarms %q", a)
		}
		must2(lease.Renew{Session: checkoutOf(1).Session})
		must2(lease.CheckIn{Session: lease.SessionRef{ID: lease.SessionID{1}, Digest: checkoutOf(1).Session.Digest, Incarnation: 1, Seq: 2}})
		time.Sleep(time.Minute) // the other one is not renewed
		var left int
		n.ReadStale(func(b *lease.Book) { _, left = b.Counts() })
		if left != 0 {
			t.Errorf("%d leases not reclaimed", left)
		}
		disk.percent.Store(11) // not yet: the alarm must not come and go
		time.Sleep(2 * spaceInterval)
		if _, err := do(checkoutOf(3)); !errors.Is(err, ErrOverloaded) {
			t.Errorf("checkout at 11 %%: %v", err)
		}
		disk.percent.Store(12)
		time.Sleep(2 * spaceInterval)
		must2(checkoutOf(3))
		if a := n.Alarms(); len(a) != 0 {
			t.Errorf("alarms %q afterwards", a)
		}
		b.stop(t)
	})
}

func TestWhichDisksStopNewCheckouts(t *testing.T) {
	servers := []raft.Server{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d", Suffrage: raft.Nonvoter}, {ID: "e", Suffrage: raft.Nonvoter}}
	for low, want := range map[string]string{
		"":    "",
		"a":   "the leader",
		"b":   "",
		"bd":  "",
		"de":  "",
		"bc":  "most nodes",
		"bcd": "most nodes",
		"abc": "the leader",
	} {
		set := map[string]bool{}
		for _, id := range low {
			set[string(id)] = true
		}
		got := tooFull(servers, set, "a")
		if (got != nil) != (want != "") || got != nil && !strings.Contains(got.Error(), want) {
			t.Errorf("low on %q: %v, want %q", low, got, want)
		}
	}
}

func TestNodeOnAFullDiskDoesNotStartUntilThereIsSpace(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	var free atomic.Uint64
	cfg.DiskSpace = func(string) (uint64, uint64, error) { return free.Load(), 1 << 30, nil }
	_, err := Start(cfg)
	checkLine(t, err, "is full: 0 KiB free")
	free.Store(1 << 29)
	leaderOf(t, start(t, cfg))
}

func TestHungDiskDoesNotHoldUpTheEndOfANode(t *testing.T) {
	free := make(chan struct{})
	defer close(free)
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	var calls atomic.Int64
	cfg.DiskSpace = func(string) (uint64, uint64, error) {
		if calls.Add(1) > 1 {
			<-free
		}
		return 1 << 29, 1 << 30, nil
	}
	n := start(t, cfg)
	leaderOf(t, n)
	eventually(t, "the disk is asked", func() bool { return calls.Load() > 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if err := n.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestSpaceOfARealDirectoryIsMeasured(t *testing.T) {
	if free, total, err := diskSpace(t.TempDir()); err != nil || total == 0 || free > total {
		t.Errorf("%d of %d free, error %v", free, total, err)
	}
}
