package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// leaderOf makes backups of a state machine that has applied nothing.
type leaderOf struct {
	machine *fsm.FSM
	fails   error
}

func (l *leaderOf) Leading() bool { return true }
func (l *leaderOf) Backup(context.Context) (*fsm.Backup, error) {
	return l.machine.Backup("n1-00000000", "test", time.Unix(1, 0)), l.fails
}

func testKeeper(t *testing.T, b Backups) (*backupKeeper, *leaderOf, *time.Time) {
	t.Helper()
	leader := &leaderOf{machine: fsm.New(fsm.Options{})}
	k, err := newBackupKeeper(&b, leader, hclog.NewNullLogger(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 2, 10, 8, 0, 0, 0, time.UTC)
	k.now = func() time.Time { return now }
	return k, leader, &now
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestBackupsAreWrittenOnTimeAndTheOldestGo(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "seatkeeper-notes.txt")
	if err := os.WriteFile(mine, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	k, _, now := testKeeper(t, Backups{Dir: dir, Every: "1h", Keep: 2})
	look := func(due bool) {
		t.Helper()
		name, err := k.look(t.Context())
		if err != nil || (name != "") != due {
			t.Fatalf("wrote %q (%v), due %v", name, err, due)
		}
		if !due {
			return
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := fsm.CheckBackup(f); err != nil {
			t.Error(err)
		}
		if info, _ := f.Stat(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v: it holds digests of secrets", name, info.Mode())
		}
	}
	look(true)
	look(false)
	*now = now.Add(59 * time.Minute)
	look(false)
	*now = now.Add(time.Minute)
	look(true)
	again, _, other := testKeeper(t, Backups{Dir: dir, Every: "1h", Keep: 2}) // another process
	*other = *now
	if name, err := again.look(t.Context()); name != "" || err != nil {
		t.Errorf("a restart wrote %q (%v)", name, err)
	}
	*now = now.Add(time.Hour)
	look(true)
	want := []string{"seatkeeper-20260210T090000Z.snap", "seatkeeper-20260210T100000Z.snap", "seatkeeper-notes.txt"}
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the folder has %v, want %v", got, want)
	}
}

func TestABackupFromTheFutureDoesNotStopTheNext(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "seatkeeper-20990101T000000Z.snap"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k, _, _ := testKeeper(t, Backups{Dir: dir, Every: "1h", Keep: 5})
	if name, err := k.look(t.Context()); name == "" || err != nil {
		t.Errorf("wrote %q (%v)", name, err)
	}
}

func TestABackupThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	k, leader, _ := testKeeper(t, Backups{Dir: dir, Every: "1h", Keep: 5})
	leader.fails = errors.New("no majority answers")
	if _, err := k.look(t.Context()); err == nil {
		t.Error("no error")
	}
	if got := names(t, dir); len(got) != 0 {
		t.Errorf("the folder has %v", got)
	}
	k.dir = filepath.Join(dir, "missing")
	if _, err := k.look(t.Context()); err == nil {
		t.Error("a folder that is not there is no error")
	}
}
