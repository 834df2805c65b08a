package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// diary feeds a history as a node does.
type diary struct {
	t *testing.T
	*history
	dir string
}

func openDiary(t *testing.T, dir string) *diary {
	t.Helper()
	h, err := openHistory(dir, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return &diary{t, h, dir}
}

// again stops and starts it.
func (d *diary) again() *diary {
	d.t.Helper()
	if err := d.Close(); err != nil {
		d.t.Fatal(err)
	}
	return openDiary(d.t, d.dir)
}

func (d *diary) entry(index uint64, events ...lease.Event) {
	for i := range events {
		events[i].Date = lease.Calendar(index)
	}
	d.observe(&raft.Log{Index: index}, lease.Calendar(index), events)
}

func ended(user string) lease.Event {
	return lease.Event{Kind: lease.Ended, Tenant: "default", Feature: "cad", Vendor: "acme", Version: "1", Count: 2, Principal: lease.Principal{User: user, Host: "h", Project: "p"},
		Session: lease.SessionID{1}, Lease: lease.Ref{ID: 7}, Start: 1, At: 5, StartDate: 1, Release: lease.ReleasedNormal, Charge: 3}
}

func asked(kind lease.EventKind, user string) lease.Event {
	return lease.Event{Kind: kind, Tenant: "default", Feature: "cad", Count: 1, Principal: lease.Principal{User: user, Host: "h"}, Reason: lease.NoSeats}
}

func (d *diary) users(q HistoryQuery) (list []string, complete bool) {
	page := d.usage(q)
	for _, r := range page.Records {
		list = append(list, r.Principal.User)
	}
	return list, page.Complete
}

// TestHistoryTellsEachEventOnceAcrossRestarts: entries that are applied again after a
// restart are not told again, also when the process died within an entry.
func TestHistoryTellsEachEventOnceAcrossRestarts(t *testing.T) {
	d := openDiary(t, t.TempDir())
	d.entry(1, ended("a"), asked(lease.Denied, "x"))
	d.entry(2, ended("b"), ended("c"))
	d.persist(2)
	whole, err := os.ReadFile(d.path(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(d.path(1), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		d = openDiary(t, d.dir)
		d.entry(1, ended("a"), asked(lease.Denied, "x"))
		d.entry(2, ended("b"), ended("c"))
		d.entry(3, ended("d"))
		users, complete := d.users(HistoryQuery{})
		if fmt.Sprint(users) != "[a b c d]" || !complete {
			t.Fatalf("cut at %d of %d: users %v, complete %v", cut, len(whole), users, complete)
		}
		if n := len(d.denials(HistoryQuery{}).Records); n != 1 {
			t.Fatalf("cut at %d: %d denials", cut, n)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHistoryKeepsWhatItWasTold(t *testing.T) {
	d := openDiary(t, t.TempDir())
	e := ended("ann")
	d.entry(4, e)
	d = d.again()
	e.Date = 4
	if got := d.usage(HistoryQuery{}).Records; len(got) != 1 || got[0] != e.Usage() {
		t.Errorf("record %+v\nwant %+v", got, e.Usage())
	}
	for name, q := range map[string]HistoryQuery{"tenant": {Tenant: "x"}, "feature": {Feature: "x"}, "user": {User: "x"}, "host": {Host: "x"}, "project": {Project: "x"}, "from": {From: 5}, "to": {To: 1}} {
		if n := len(d.usage(q).Records); n != 0 {
			t.Errorf("another %s: %d records", name, n)
		}
	}
	_ = d.Close()
}

func TestHistoryMarksDenialsThatWereServed(t *testing.T) {
	d := openDiary(t, t.TempDir())
	d.entry(1, asked(lease.Denied, "ann"), asked(lease.Denied, "bob"))
	d.entry(2, asked(lease.Denied, "ann"))
	d = d.again()
	d.entry(3, asked(lease.Granted, "ann"))
	d = d.again()
	d.entry(3, asked(lease.Granted, "ann"))
	d.entry(4, asked(lease.Denied, "ann"))
	var got []string
	for _, x := range d.denials(HistoryQuery{}).Records {
		got = append(got, fmt.Sprint(x.Principal.User, x.Served))
	}
	if want := "[ann3 bob0 ann3 ann0]"; fmt.Sprint(got) != want {
		t.Errorf("denials and when each was served: %v, want %s", got, want)
	}
	_ = d.Close()
}

func TestHistorySaysWhatIsMissing(t *testing.T) {
	d := openDiary(t, t.TempDir())
	d.entry(1, ended("a"))
	d.restored(fsm.Status{AppliedIndex: 1, Calendar: 1})
	if _, complete := d.users(HistoryQuery{}); !complete {
		t.Error("a snapshot of what is known makes a gap")
	}
	d.restored(fsm.Status{AppliedIndex: 50, Calendar: 50})
	d.entry(40, ended("old"))
	d.entry(51, ended("b"))
	d = d.again()
	if users, complete := d.users(HistoryQuery{}); complete || fmt.Sprint(users) != "[a b]" {
		t.Errorf("over a gap: %v, complete %v", users, complete)
	}
	if _, complete := d.users(HistoryQuery{From: 51}); !complete {
		t.Error("what came after the gap is not complete")
	}
	_ = d.Close()
}

func TestHistoryIsBoundedAndPaged(t *testing.T) {
	d := openDiary(t, t.TempDir())
	if d.max*historySegments != 64<<20 {
		t.Errorf("%d files of %d bytes are kept; the documents say 64 MiB", historySegments, d.max)
	}
	d.max = 64 << 10
	batch := make([]lease.Event, 512)
	var index uint64
	for d.segments[len(d.segments)-1].number < historySegments+2 {
		index++
		for i := range batch {
			batch[i] = ended("somebody-with-a-long-name-so-that-files-fill-up")
		}
		d.entry(index, append([]lease.Event(nil), batch...)...)
		d.mu.Lock()
		d.await()
		d.mu.Unlock()
	}
	files, _ := filepath.Glob(filepath.Join(d.dir, historyDir, "*.rec"))
	if len(files) > historySegments {
		t.Errorf("%d files, at most %d are kept", len(files), historySegments)
	}
	page := d.usage(HistoryQuery{Limit: 300})
	if len(page.Records) != 300 || page.Records[299].EndDate != lease.Calendar(index) {
		t.Fatalf("%d records, the last of %d", len(page.Records), page.Records[len(page.Records)-1].EndDate)
	}
	next := d.usage(HistoryQuery{Limit: 300, Before: page.Next})
	if got := next.Records[299].EndDate; len(next.Records) != 300 || got > lease.Calendar(index) || page.Next == next.Next {
		t.Errorf("the next page ends at %d, continues at %v", got, next.Next)
	}
	if _, complete := d.users(HistoryQuery{}); complete {
		t.Error("complete, though old files are gone")
	}
	if _, complete := d.users(HistoryQuery{From: lease.Calendar(index)}); !complete {
		t.Error("the newest entries are not complete")
	}
	_ = d.Close()
}

// TestHistoriesOfNodesAgree: nodes that apply the same entries keep the same bytes.
func TestHistoriesOfNodesAgree(t *testing.T) {
	var first string
	for run := range 2 {
		d := openDiary(t, t.TempDir())
		for i := range uint64(50) {
			d.entry(i+1, asked(lease.Denied, "ann"), ended("bob"), asked(lease.Granted, "ann"))
			if run == 1 && i%7 == 0 {
				d = d.again()
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(d.path(1))
		if err != nil {
			t.Fatal(err)
		}
		if run == 0 {
			first = string(data)
		} else if first != string(data) {
			t.Error("two nodes keep other bytes of the same entries")
		}
	}
}
