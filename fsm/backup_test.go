package fsm_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

func backupOf(t testing.TB, f *fsm.FSM) ([]byte, *fsm.Backup) {
	t.Helper()
	var file bytes.Buffer
	if _, err := f.Backup("n1", "test", time.Unix(0, 0)).WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	b, err := fsm.ReadBackup(bytes.NewReader(file.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), b
}

// restoring is a log that goes back to an earlier state of its own in small pieces, and
// on from there.
func restoring(t testing.TB, seed uint64) []*raft.Log {
	t.Helper()
	logs := logOf(t, seed, 120)
	early, f := fsm.New(fsm.Options{}), fsm.New(fsm.Options{})
	for i, l := range logs {
		if f.Apply(l); i < 60 {
			early.Apply(l)
		}
	}
	file, b := backupOf(t, early)
	add := func(cmds ...lease.Command) fsm.Outcome {
		st := f.Status()
		data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now.Add(time.Second), st.Calendar, cmds)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, &raft.Log{Index: logs[len(logs)-1].Index + 1, Term: st.Epoch.Term, Data: data})
		return f.Apply(logs[len(logs)-1]).(fsm.Outcome)
	}
	const piece = 1000
	for at := 0; at < len(file); at += piece {
		o := add(fsm.RestorePart{Sum: b.Sum, Offset: uint64(at), Data: file[at:min(len(file), at+piece)]}, lease.Renew{Session: session(1, 0)})
		if o.Replies[0].Refusal != nil {
			t.Fatal(o.Replies[0].Refusal)
		}
	}
	before := leasesOf(f)
	o := add(fsm.Restore{Sum: b.Sum, Size: uint64(len(file)), ClusterID: b.Header.ClusterID, BackupIndex: b.Header.Index}, lease.Renew{Session: session(3, 0)})
	if o.Replies[0].Refusal != nil || o.Epoch.Index != o.Index {
		t.Fatalf("%v, epoch %+v at %d", o.Replies[0].Refusal, o.Epoch, o.Index)
	}
	for ref := range leasesOf(f) {
		if !before[ref] || !leasesOf(early)[ref] {
			t.Fatalf("lease %+v is there after the restore", ref)
		}
	}
	for n := range 12 {
		add(lease.Renew{Session: session(n, 0)})
	}
	return logs
}

// A restore is an entry like any other: a replica that was itself restored from a raft
// snapshot between two pieces, or after it, comes to the same bytes.
func TestRestoreIsTheSameOnEveryReplica(t *testing.T) {
	seeds := uint64(4)
	if testing.Short() { // make stories tries all
		seeds = 2
	}
	for seed := range seeds {
		sameWhereverRestored(t, restoring(t, seed))
	}
}

// leasesOf are the live leases, without those in quarantine: what was borrowed since a
// backup comes back as such.
func leasesOf(f *fsm.FSM) map[lease.Ref]bool {
	held := map[lease.Ref]bool{}
	f.Read(func(b *lease.Book) {
		list, _ := b.Leases(lease.Filter{}, 0, lease.MaxLeases)
		for _, l := range list {
			if l.State == lease.Quarantined {
				continue
			}
			held[lease.Ref{ID: l.ID, Token: l.Token}] = true
		}
	})
	return held
}

func sameWhereverRestored(t *testing.T, logs []*raft.Log) {
	t.Helper()
	want := fsm.New(fsm.Options{})
	for _, l := range logs {
		want.Apply(l)
	}
	for at := 100; at < len(logs); at++ {
		f := fsm.New(fsm.Options{})
		for i, l := range logs {
			if i == at {
				f = restore(t, bytesOf(t, f))
			}
			f.Apply(l)
		}
		if !bytes.Equal(bytesOf(t, f), bytesOf(t, want)) || f.Status() != want.Status() {
			t.Fatalf("restored from a snapshot before entry %d it is another replica", at)
		}
	}
}

func TestRestoreNeedsEveryPieceOfItsBackup(t *testing.T) {
	f := fsm.New(fsm.Options{})
	for _, l := range logOf(t, 7, 40) {
		f.Apply(l)
	}
	file, b := backupOf(t, f)
	half := len(file) / 2
	good := fsm.Restore{Sum: b.Sum, Size: uint64(len(file)), ClusterID: "c1"}
	for name, cmds := range map[string][]lease.Command{
		"nothing staged": {good},
		"half":           {fsm.RestorePart{Sum: b.Sum, Data: file[:half]}, good},
		"a hole":         {fsm.RestorePart{Sum: b.Sum, Data: file[:half]}, fsm.RestorePart{Sum: b.Sum, Offset: uint64(half + 1), Data: file[half+1:]}, good},
		"dropped":        {fsm.RestorePart{Sum: b.Sum, Data: file}, fsm.RestorePart{}, good},
		"another":        {fsm.RestorePart{Sum: [32]byte{1}, Data: file}, good},
	} {
		before, st := f.Status(), f.Status()
		data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now, st.Calendar, cmds)
		if err != nil {
			t.Fatal(err)
		}
		o := f.Apply(&raft.Log{Index: st.AppliedIndex + 1, Term: st.Epoch.Term, Data: data}).(fsm.Outcome)
		if r := o.Replies[len(cmds)-1].Refusal; r == nil || r.Reason != lease.Invalid {
			t.Errorf("%s: %v", name, r)
		}
		if name == "a hole" && o.Replies[1].Refusal == nil {
			t.Errorf("%s: staged", name)
		}
		if f.Status().Epoch != before.Epoch || f.Fence() != 0 {
			t.Errorf("%s: it was restored", name)
		}
	}
}

// Whatever byte of a backup changes, it is not read.
func TestEveryByteOfABackupCounts(t *testing.T) {
	f := fsm.New(fsm.Options{})
	for _, l := range logOf(t, 3, 30) {
		f.Apply(l)
	}
	file, b := backupOf(t, f)
	if sessions, leases := counts(f); b.Header.Sessions != sessions || b.Header.Leases != leases || b.Header.Licences != 2 || b.Header.SeatsInUse == 0 {
		t.Errorf("header %+v", b.Header)
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := fsm.CheckBackup(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d changed, and nobody noticed", i)
		}
	}
	for _, n := range []int{0, 5, 11, 12, 40, len(file) / 2, len(file) - 33, len(file) - 1} {
		if _, err := fsm.ReadBackup(bytes.NewReader(file[:n])); err == nil || n > 40 && !errors.Is(err, fsm.ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}
