package disk

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// mounted makes a disk, or skips and says what was not tested.
func mounted(t *testing.T) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a file system: power failures under bolt, slow, hung, lying, failing and full disks were NOT tested")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skipf("needs FUSE (%v): the fault-injecting file system was NOT tested", err)
	}
	dir := t.TempDir()
	d, err := New(filepath.Join(dir, "mnt"), filepath.Join(dir, "backing"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Mount(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func syncDir(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

func TestBoltKeepsWhatItCommittedThroughAPowerFailure(t *testing.T) {
	// Bolt reads by mapped memory, and the file system is served by this very process: a
	// thread that waits for a page cannot be stopped for a collection, nor can the page be
	// served while all others have stopped for it.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	d := mounted(t)
	path := filepath.Join(d.Mountpoint, "db")
	open := func() *bbolt.DB {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: time.Second}) // flock and mmap
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	db := open()
	syncDir(t, d.Mountpoint)
	name := []byte("bucket")
	put := func(key string) {
		t.Helper()
		if err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(name)
			if err != nil {
				return err
			}
			return b.Put([]byte(key), []byte("value"))
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []Mode{All, Prefix, Torn} {
		put(string(mode) + " synced")
		d.SetFaults(Faults{Lie: true})
		put(string(mode) + " lost")
		d.SetFaults(Faults{})
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		loss, err := d.PowerFailure(mode, rand.New(rand.NewPCG(1, 1)))
		if err != nil || loss.Records == 0 {
			t.Fatalf("%s: %+v, %v", mode, loss, err)
		}
		db = open()
		_ = db.View(func(tx *bbolt.Tx) error {
			if tx.Bucket(name).Get([]byte(string(mode)+" synced")) == nil {
				t.Errorf("%s: what was synced is gone", mode)
			}
			if mode == All && tx.Bucket(name).Get([]byte("all lost")) != nil {
				t.Error("what was not synced is there")
			}
			return nil
		})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDiskFaultsReachTheProgramAndAreCounted(t *testing.T) {
	d := mounted(t)
	f, err := os.Create(filepath.Join(d.Mountpoint, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, c := range []struct {
		name   string
		faults Faults
		do     func() error
		want   error
	}{
		{"write error", Faults{WriteError: true}, func() error { _, err := f.Write([]byte("x")); return err }, syscall.EIO},
		{"sync error", Faults{SyncError: true}, f.Sync, syscall.EIO},
		{"full", Faults{Full: true}, func() error { _, err := f.Write([]byte("x")); return err }, syscall.ENOSPC},
		{"slow", Faults{SyncDelay: time.Millisecond}, f.Sync, nil},
		{"lie", Faults{Lie: true}, f.Sync, nil},
		{"none", Faults{}, f.Sync, nil},
	} {
		before := d.Counts()
		d.SetFaults(c.faults)
		if err := c.do(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if touched := d.Counts().Minus(before).Touched(); (touched > 0) != (c.faults != Faults{}) {
			t.Errorf("%s: %d operations counted", c.name, touched)
		}
	}
	d.SetFaults(Faults{})
}

func TestAHungDiskGoesOnWhenItIsHealed(t *testing.T) {
	d := mounted(t)
	f, err := os.Create(filepath.Join(d.Mountpoint, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d.SetFaults(Faults{Hang: true})
	done := make(chan error, 1)
	go func() { done <- f.Sync() }()
	for end := time.Now().Add(10 * time.Second); d.Counts().Hung == 0; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("nothing hung")
		}
	}
	select {
	case err := <-done:
		t.Fatalf("the sync returned: %v", err)
	default:
	}
	d.SetFaults(Faults{})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNothingCanBeWrittenBeneathTheMount(t *testing.T) {
	d := mounted(t)
	if err := d.Unmount(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.Mountpoint, "file"), nil, 0o600); err == nil {
		t.Error("a file was written beneath the mount point")
	}
	if err := d.Mount(); err != nil {
		t.Fatal(err)
	}
}
