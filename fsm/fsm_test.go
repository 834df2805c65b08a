package fsm_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

var launch = lease.CalendarOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

func session(n int, seq uint64) lease.SessionRef {
	d := sha256.Sum256([]byte{byte(n)})
	return lease.SessionRef{ID: lease.SessionID{byte(n), byte(n >> 8), 1}, Digest: lease.SecretDigest(d[:16]), Incarnation: 1, Seq: seq}
}

func licence() lease.Licence {
	share := lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 4}
	return lease.Licence{ID: "L-1", Vendor: "acme", Tenant: "default", Text: []byte("signed"), Entitlements: []lease.Entitlement{
		{Feature: "cad", Version: "2026.0", Count: 10, Serial: "1", Profile: lease.Profiles["ci"], Share: share},
		{Feature: "solver", Version: "1", Count: 5, Serial: "2", Profile: lease.Profiles["lan"]},
		{Feature: "mesh", Version: "1", Count: 2, Serial: "3", Profile: lease.DefaultProfile, Expiry: launch + 1000*60*60},
	}}
}

// richLicence has what is paid in tokens, by a suite's seat, or not at all.
func richLicence() lease.Licence {
	share := lease.ShareRule{By: lease.MaskUser, MaxSessions: 4}
	return lease.Licence{ID: "L-2", Vendor: "acme", Tenant: "default", Entitlements: []lease.Entitlement{
		{Feature: "units", Version: "1", Count: 20, Serial: "4", Profile: lease.DefaultProfile, Expiry: launch + 1000*60, GraceDays: 2},
		{Feature: "cam", Version: "1", Serial: "5", Profile: lease.Profiles["lan"], Share: share,
			Terms: lease.Terms{Uncounted: true, BorrowHours: 5, Draw: lease.Draw{Of: "units", Cost: 3, Per: 1}}},
		{Feature: "studio", Version: "1", Count: 3, Serial: "6", Profile: lease.Profiles["ci"], Share: share, Supersedes: []string{"old"},
			Package: lease.Package{Suite: true, Components: []lease.Component{{Feature: "post", Count: 2}, {Feature: "paint", Version: "2", Count: 1}}}},
	}}
}

// logOf makes the entries of a random, plausible history: checkouts, renewals, check-ins,
// expirations, leader changes and entries of deposed leaders.
func logOf(t testing.TB, seed uint64, n int) []*raft.Log {
	rnd := rand.New(rand.NewPCG(seed, 1))
	f := fsm.New(fsm.Options{})
	var logs []*raft.Log
	add := func(term uint64, data []byte, err error) fsm.Outcome {
		if err != nil {
			t.Fatal(err)
		}
		l := &raft.Log{Index: uint64(len(logs) + 1), Term: term, Type: raft.LogCommand, Data: data}
		logs = append(logs, l)
		return f.Apply(l).(fsm.Outcome)
	}
	term := uint64(1)
	data, err := fsm.EncodeLead(fsm.Lead{Node: "n1", APIAddress: "127.0.0.1:7800", ClusterID: "c1"}, launch)
	o := add(term, data, err)
	epoch, now := o.Epoch.Index, o.Now
	seqs := map[int]uint64{}
	batch := []lease.Command{lease.InstallLicence{Licence: licence()}, lease.InstallLicence{Licence: richLicence()}, lease.RotateBorrowKey{Kid: "k1", Public: [32]byte{1}, Seed: [32]byte{2}}}
	for len(logs) < n {
		now = now.Add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		stampEpoch, stampTerm := epoch, term
		if rnd.IntN(10) == 0 {
			stampEpoch-- // a deposed leader's entry
		}
		data, err := fsm.EncodeBatch(stampEpoch, now, launch+lease.Calendar(now/1e6), batch)
		add(stampTerm, data, err)
		if rnd.IntN(20) == 0 {
			term++
			data, err := fsm.EncodeLead(fsm.Lead{Node: fmt.Sprint("n", term), APIAddress: "127.0.0.1:7810"}, launch)
			o := add(term, data, err)
			epoch, now = o.Epoch.Index, o.Now
		}
		batch = f.Due(4)
		for range 1 + rnd.IntN(6) {
			s := rnd.IntN(12)
			switch rnd.IntN(7) {
			case 0, 1, 2:
				seqs[s]++
				c := lease.Checkout{Tenant: "default", Session: session(s, seqs[s]), Principal: lease.Principal{User: fmt.Sprint("u", s%4), Host: "h"},
					Items: []lease.Item{{Feature: []string{"cad", "solver", "mesh", "none", "cam", "post", "paint"}[rnd.IntN(7)], Count: 1 + rnd.IntN(3)}}}
				batch = append(batch, c)
				if rnd.IntN(5) == 0 {
					batch = append(batch, c) // a duplicate
				}
			case 3:
				batch = append(batch, lease.Renew{Session: session(s, 0)})
			case 4:
				seqs[s]++
				batch = append(batch, lease.CheckIn{Session: session(s, seqs[s])})
			case 5:
				if rnd.IntN(4) == 0 {
					batch = append(batch, lease.CheckIn{Session: session(s, 0), Close: true})
					seqs[s] = 0
				}
			case 6:
				batch = append(batch, borrowing(f, rnd, s))
			}
		}
	}
	return logs
}

func bytesOf(t testing.TB, f *fsm.FSM) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := f.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func restore(t testing.TB, snap []byte) *fsm.FSM {
	t.Helper()
	f := fsm.New(fsm.Options{})
	if err := f.Restore(io.NopCloser(bytes.NewReader(snap))); err != nil {
		t.Fatal(err)
	}
	return f
}

// F1: the same log gives byte-equal snapshots, with a restore at any prefix too.
func TestSameLogGivesEqualSnapshotsAcrossRestores(t *testing.T) {
	compared, seeds := 0, uint64(5)
	if testing.Short() { // make stories tries all
		seeds = 2
	}
	for seed := range seeds {
		logs := logOf(t, seed, 200)
		whole := fsm.New(fsm.Options{})
		restored := fsm.New(fsm.Options{})
		for i, l := range logs {
			whole.Apply(l)
			restored.Apply(l)
			if i%7 == int(seed) {
				restored = restore(t, bytesOf(t, restored))
			}
			if !bytes.Equal(bytesOf(t, whole), bytesOf(t, restored)) {
				t.Fatalf("seed %d: replicas differ after entry %d", seed, i+1)
			}
		}
		if s := whole.Status(); s.StateHash != restored.Status().StateHash || s.AppliedIndex == 0 {
			t.Fatalf("seed %d: state hashes differ", seed)
		}
		_, leases := counts(whole)
		compared += leases
	}
	if compared == 0 {
		t.Fatal("the histories left no lease to compare")
	}
}

func counts(f *fsm.FSM) (sessions, leases int) {
	f.Read(func(b *lease.Book) { sessions, leases = b.Counts() })
	return sessions, leases
}

// C5: an entry of another epoch or term leaves the snapshot bytes unchanged.
func TestEntryOfAnotherEpochOrTermChangesNothing(t *testing.T) {
	logs := logOf(t, 7, 50)
	f := fsm.New(fsm.Options{})
	for _, l := range logs {
		f.Apply(l)
	}
	before := bytesOf(t, f)
	st := f.Status()
	cmd := []lease.Command{lease.Checkout{Session: session(99, 0), Items: []lease.Item{{Feature: "cad", Count: 1}}}}
	for _, c := range []struct {
		name        string
		epoch, term uint64
		stale       bool
	}{
		{"older epoch", st.Epoch.Index - 1, st.Epoch.Term, true},
		{"no epoch", 0, st.Epoch.Term, true},
		{"later epoch", st.Epoch.Index + 1, st.Epoch.Term, true},
		{"other term", st.Epoch.Index, st.Epoch.Term + 1, true},
		{"current", st.Epoch.Index, st.Epoch.Term, false},
	} {
		data, err := fsm.EncodeBatch(c.epoch, st.Now.Add(time.Hour), 0, cmd)
		if err != nil {
			t.Fatal(err)
		}
		o := f.Apply(&raft.Log{Index: 1000, Term: c.term, Data: data}).(fsm.Outcome)
		if o.Stale != c.stale || bytes.Equal(before, bytesOf(t, f)) != c.stale {
			t.Errorf("%s: stale %v, snapshot unchanged %v", c.name, o.Stale, bytes.Equal(before, bytesOf(t, f)))
		}
	}
}

func TestLeadStartsAnEpochWithoutMovingTime(t *testing.T) {
	logs := logOf(t, 3, 30)
	f := fsm.New(fsm.Options{})
	for _, l := range logs {
		f.Apply(l)
	}
	before := f.Status()
	data, _ := fsm.EncodeLead(fsm.Lead{Node: "n9", APIAddress: "127.0.0.1:9", ClusterID: "other"}, launch)
	o := f.Apply(&raft.Log{Index: 500, Term: 90, Data: data}).(fsm.Outcome)
	after := f.Status()
	if o.Epoch != (fsm.Epoch{Index: 500, Term: 90, Node: "n9", APIAddress: "127.0.0.1:9"}) || o.Now != before.Now {
		t.Fatalf("outcome %+v at %v", o, before.Now)
	}
	if after.ClusterID != "c1" {
		t.Fatalf("the cluster id changed to %q", after.ClusterID)
	}
}

// A flipped bit anywhere in an entry stops the node instead of being applied.
func TestFlippedBitInAnEntryIsFatal(t *testing.T) {
	data, err := fsm.EncodeBatch(1, 1, 1, []lease.Command{lease.InstallLicence{Licence: licence()}})
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(data) * 8 {
		bad := bytes.Clone(data)
		bad[bit/8] ^= 1 << (bit % 8)
		var got error
		f := fsm.New(fsm.Options{Fatal: func(err error) { got = err }})
		f.Apply(&raft.Log{Index: 1, Term: 1, Data: bad})
		if got == nil {
			t.Fatalf("bit %d flipped: applied as good data", bit)
		}
		if bit >= 8 && !errors.Is(got, fsm.ErrCorrupt) {
			t.Fatalf("bit %d: %v", bit, got)
		}
	}
}

// F3: a failed restore leaves the old state whole.
func TestFailedRestoreLeavesTheOldState(t *testing.T) {
	f := fsm.New(fsm.Options{})
	for _, l := range logOf(t, 11, 60) {
		f.Apply(l)
	}
	snap := bytesOf(t, f)
	other := fsm.New(fsm.Options{})
	for _, l := range logOf(t, 12, 40) {
		other.Apply(l)
	}
	want := bytesOf(t, other)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		bad := bytes.Clone(snap)
		if i%3 == 0 {
			bad = bad[:rnd.IntN(len(bad))]
		} else {
			bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
		}
		if err := other.Restore(io.NopCloser(bytes.NewReader(bad))); err == nil {
			t.Fatalf("trial %d: a damaged snapshot was restored", i)
		} else if strings.Contains(err.Error(), "\n") {
			t.Fatalf("error of more than one line: %v", err)
		}
		if !bytes.Equal(want, bytesOf(t, other)) {
			t.Fatalf("trial %d: the old state changed", i)
		}
	}
}

// A snapshot is taken at one instant; applies go on while it is written.
func TestSnapshotIsFrozenWhileAppliesGoOn(t *testing.T) {
	logs := logOf(t, 21, 300)
	f := fsm.New(fsm.Options{})
	for _, l := range logs[:150] {
		f.Apply(l)
	}
	want := bytesOf(t, f)
	snap, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs[150:] {
		f.Apply(l)
	}
	sink := &memorySink{}
	if err := snap.Persist(sink); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, sink.Bytes()) {
		t.Fatal("later entries reached a snapshot taken before them")
	}
}

type memorySink struct{ bytes.Buffer }

func (*memorySink) ID() string    { return "test" }
func (*memorySink) Cancel() error { return nil }
func (*memorySink) Close() error  { return nil }

func TestUsageRecordsAreWhatEnded(t *testing.T) {
	var records []lease.UsageRecord
	f := fsm.New(fsm.Options{Observe: func(_ *raft.Log, _ *logv1.Entry, _ fsm.Outcome, _ *lease.Book, events []lease.Event) {
		for _, e := range events {
			if e.Kind == lease.Ended {
				records = append(records, e.Usage())
			}
		}
	}})
	logs := logOf(t, 31, 300)
	grants, ends := 0, 0
	for _, l := range logs {
		o := f.Apply(l).(fsm.Outcome)
		for _, r := range o.Replies {
			ends += len(r.Released)
			if !r.Replayed && r.Refusal == nil && len(r.Leases) > 0 {
				grants++
			}
		}
	}
	if len(records) < ends/2 || grants == 0 {
		t.Fatalf("%d records, %d released, %d grants", len(records), ends, grants)
	}
	for _, r := range records {
		if r.End < r.Start || r.Reason == 0 || r.Feature == "" {
			t.Fatalf("record %+v", r)
		}
	}
}
