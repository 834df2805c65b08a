package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// office is a cluster on virtual time with clients of feature cad.
type office struct {
	*bench
	t *testing.T
}

const officeSeats = 3

func newOffice(t *testing.T, size int) *office {
	o := &office{newBench(t, size, 0), t}
	leaderOf(t, o.nodes...)
	return o
}

func (o *office) license() {
	o.must(lease.InstallLicence{Licence: lease.Licence{ID: "l", Vendor: "v", Tenant: lease.DefaultTenant,
		Entitlements: []lease.Entitlement{{Feature: "cad", Version: "1", Count: officeSeats, Serial: "1", Profile: lease.Profiles["ci"]}}}})
}

func (o *office) leader() (leader *Node) {
	o.t.Helper()
	eventually(o.t, "somebody leads", func() bool {
		at := slices.IndexFunc(o.nodes, (*Node).Leading)
		if at >= 0 {
			leader = o.nodes[at]
		}
		return at >= 0
	})
	return leader
}

func (o *office) do(cmd lease.Command) Applied {
	o.t.Helper()
	a, err := o.leader().Propose(o.t.Context(), cmd)
	if err != nil {
		o.t.Fatalf("%T: %v", cmd, err)
	}
	return a
}

func (o *office) must(cmd lease.Command) Applied {
	o.t.Helper()
	a := o.do(cmd)
	if a.Reply.Refusal != nil {
		o.t.Fatalf("%T: %v", cmd, a.Reply.Refusal)
	}
	return a
}

func (o *office) refusedFor(cmd lease.Command) lease.Reason {
	o.t.Helper()
	if r := o.do(cmd).Reply.Refusal; r != nil {
		return r.Reason
	}
	return ""
}

func person(n int) lease.SessionRef {
	return lease.SessionRef{ID: lease.SessionID{byte(n)}, Incarnation: 1, Seq: 1}
}

func wantsCAD(n int) lease.Checkout {
	return lease.Checkout{Tenant: lease.DefaultTenant, Session: person(n), Principal: lease.Principal{User: fmt.Sprint("u", n), Host: "h"},
		Items: []lease.Item{{Feature: "cad", Version: "1", Count: 1}}}
}

func (o *office) backup() []byte {
	o.t.Helper()
	b, err := o.leader().Backup(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := b.WriteTo(&file); err != nil {
		o.t.Fatal(err)
	}
	return file.Bytes()
}

// sameEverywhere waits until all nodes have the same state.
func (o *office) sameEverywhere() {
	o.t.Helper()
	eventually(o.t, "all nodes have the same state", func() bool {
		first := o.nodes[0].FSM().Status()
		return !slices.ContainsFunc(o.nodes, func(n *Node) bool { return n.FSM().Status() != first })
	})
	var first bytes.Buffer
	for i, n := range o.nodes {
		var state bytes.Buffer
		if _, err := n.FSM().WriteTo(&state); err != nil {
			o.t.Fatal(err)
		}
		if i == 0 {
			first = state
		} else if !bytes.Equal(first.Bytes(), state.Bytes()) {
			o.t.Errorf("%s has another state than %s", n.Name(), o.nodes[0].Name())
		}
	}
}

func TestRestoreGoesBackButNeverInTimeOrTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 3)
		o.license()
		ann := o.must(wantsCAD(1)).Reply.Leases[0]
		o.must(wantsCAD(4))
		file := o.backup()
		o.must(lease.CheckIn{Session: lease.SessionRef{ID: person(4).ID, Incarnation: 1, Seq: 2}})
		bob := o.must(wantsCAD(2)).Reply.Leases[0]
		time.Sleep(8 * time.Second)
		before := o.must(lease.Tick{})

		r, err := o.leader().Restore(t.Context(), bytes.NewReader(file), RestoreOptions{By: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if want := lease.Profiles["ci"].Lifespan + lease.Profiles["ci"].Grace; r.Fence != want {
			t.Errorf("the fence is %v, want %v", r.Fence, want)
		}
		began := time.Now()
		a := o.must(lease.Renew{Session: person(1)})
		if a.Now < before.Now || a.Index <= before.Index {
			t.Errorf("time %v after %v, index %d after %d", a.Now, before.Now, a.Index, before.Index)
		}
		if len(a.Reply.Leases) != 1 || a.Reply.Leases[0].Token != ann.Token {
			t.Errorf("the backup's lease is %v, was %v", a.Reply.Leases, ann)
		}
		if reason := o.refusedFor(lease.Renew{Session: person(2)}); reason != lease.SessionUnknown {
			t.Errorf("a session that the backup does not know: %q", reason)
		}
		records := o.leader().Usage(HistoryQuery{Feature: "cad"}).Records
		ended := map[lease.ID]int{}
		for _, u := range records {
			ended[u.Lease]++
		}
		if len(records) != 2 || ended[bob.ID] != 1 || ended[ann.ID] != 0 {
			t.Errorf("usage records of what was given back and of what was taken away, once each: %+v", records)
		}
		// What was given back has another holder since, and does not come back.
		if held := o.must(lease.Renew{Session: person(4)}).Reply.Leases; len(held) > 0 {
			t.Errorf("a lease that was given back is held again: %v", held)
		}
		for time.Since(began) < r.Fence-3*time.Second {
			reply := o.do(wantsCAD(3)).Reply
			if reply.Refusal == nil || reply.Refusal.Reason != lease.Overloaded || reply.Refusal.Final || reply.Refusal.RetryAfter <= 0 {
				t.Fatalf("a checkout %v after a restore: %v", time.Since(began), reply.Refusal)
			}
			o.must(lease.Renew{Session: person(1)})
			time.Sleep(5 * time.Second)
		}
		time.Sleep(r.Fence/ClockMargin + 5*time.Second)
		checkout := wantsCAD(3)
		checkout.Session.Seq = 0
		carl := o.must(checkout).Reply.Leases[0]
		if carl.Token <= bob.Token || carl.ID == bob.ID || carl.ID == ann.ID {
			t.Errorf("lease %d with token %d after lease %d with token %d", carl.ID, carl.Token, bob.ID, bob.Token)
		}
		o.sameEverywhere()
		o.stop(t)
	})
}

// Whoever held a seat at the time of the backup has heartbeat since, and was promised a
// whole term each time.
func TestRestoreCutsNobodyShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 3)
		o.license()
		ann := o.must(wantsCAD(1)).Reply.Leases[0]
		file := o.backup()
		var promised lease.Time
		for range 10 {
			time.Sleep(6 * time.Second)
			promised = o.must(lease.Renew{Session: person(1)}).Reply.Leases[0].Deadline
		}
		if _, err := o.leader().Restore(t.Context(), bytes.NewReader(file), RestoreOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lease.Profiles["ci"].Lifespan - time.Second)
		held := o.must(lease.Renew{Session: person(1)}).Reply.Leases
		if len(held) != 1 || held[0].Token != ann.Token || held[0].Deadline < promised {
			t.Errorf("held after the restore: %v, promised until %v", held, promised)
		}
		o.stop(t)
	})
}

func TestBadBackupChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, other := newOffice(t, 1), newOffice(t, 1)
		o.license()
		other.license()
		o.must(wantsCAD(1))
		file := o.backup()
		flipped := bytes.Clone(file)
		flipped[len(flipped)/2] ^= 1
		for name, bad := range map[string][]byte{
			"empty": nil, "foreign": []byte("#!/bin/sh\necho this is something else altogether\n"), "cut in its header": file[:20],
			"cut": file[:len(file)/2], "without its end": file[:len(file)-1], "with a tail": append(bytes.Clone(file), 0),
			"flipped": flipped, "of another cluster": other.backup(),
		} {
			before := o.must(lease.Tick{})
			_, err := o.leader().Restore(t.Context(), bytes.NewReader(bad), RestoreOptions{})
			if !errors.Is(err, ErrBadBackup) {
				t.Errorf("%s: %v", name, err)
			}
			if after := o.must(lease.Tick{}); after.Index > before.Index+4 {
				t.Errorf("%s: %d entries were written", name, after.Index-before.Index)
			}
		}
		if held := o.must(lease.Renew{Session: person(1)}).Reply.Leases; len(held) != 1 || o.nodes[0].FSM().Fence() != 0 {
			t.Errorf("holds %v, fence %v", held, o.nodes[0].FSM().Fence())
		}
		o.stop(t)
		other.stop(t)
	})
}

// zeros is a backup without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTooBigBackupIsRefusedWithTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 1)
		_, err := o.leader().Restore(t.Context(), zeros{}, RestoreOptions{})
		if want := fmt.Sprintf("not restored: the backup is too big: at most %d MiB can be restored", fsm.MaxBackup>>20); err == nil || err.Error() != want {
			t.Errorf("%v", err)
		}
		o.stop(t)
	})
}

// A new cluster takes over what an older one left: its time goes on from the later of the
// two, and moves as real time does.
func TestNewClusterGoesOnWhereTheBackupEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := newOffice(t, 1)
		old.license()
		time.Sleep(time.Hour)
		ann := old.must(wantsCAD(1)).Reply.Leases[0]
		file := old.backup()
		was := old.nodes[0].FSM().Status()
		lost := old.must(wantsCAD(3)).Reply.Leases[0] // nobody will know of it
		old.stop(t)

		o := newOffice(t, 3)
		if _, err := o.leader().Restore(t.Context(), bytes.NewReader(file), RestoreOptions{}); !errors.Is(err, ErrBadBackup) {
			t.Fatalf("another cluster's backup: %v", err)
		}
		r, err := o.leader().Restore(t.Context(), bytes.NewReader(file), RestoreOptions{TakeClusterID: true})
		if err != nil {
			t.Fatal(err)
		}
		if want := lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace; r.Fence != want {
			t.Errorf("the fence is %v, want %v", r.Fence, want)
		}
		a := o.must(lease.Renew{Session: person(1)})
		if a.Now < was.Now || len(a.Reply.Leases) != 1 || a.Reply.Leases[0].ID != ann.ID {
			t.Errorf("at %v: holds %v; the backup is of %v", a.Now, a.Reply.Leases, was.Now)
		}
		if id := o.leader().FSM().Status().ClusterID; id != was.ClusterID {
			t.Errorf("the cluster is called %s, want %s", id, was.ClusterID)
		}
		time.Sleep(20 * time.Second)
		if passed := o.must(lease.Tick{}).Now.Sub(a.Now); passed < 15*time.Second || passed > 20*time.Second {
			t.Errorf("cluster time moved by %v in 20s after the restore", passed)
		}
		time.Sleep(5 * time.Minute)
		checkout := wantsCAD(2)
		if bob := o.must(checkout).Reply.Leases[0]; bob.Token <= max(ann.Token, lost.Token) || bob.ID <= lost.ID {
			t.Errorf("lease %d with token %d after lease %d with token %d", bob.ID, bob.Token, lost.ID, lost.Token)
		}
		o.must(wantsCAD(4))
		if carl := o.must(wantsCAD(5)).Reply.Leases[0]; carl.Token <= lost.Token {
			t.Errorf("token %d after %d", carl.Token, lost.Token)
		}
		o.sameEverywhere()
		o.stop(t)
	})
}

// stuck is a backup of which half comes at once and the rest when it is let go.
type stuck struct {
	io.Reader
	began, rest chan struct{}
	once        bool
}

func (s *stuck) Read(p []byte) (int, error) {
	if !s.once {
		s.once = true
		close(s.began)
		<-s.rest
	}
	return s.Reader.Read(p)
}

func TestSecondRestoreAtTheSameTimeIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 1)
		file := o.backup()
		first := &stuck{Reader: bytes.NewReader(file), began: make(chan struct{}), rest: make(chan struct{})}
		done := make(chan error)
		go func() {
			_, err := o.nodes[0].Restore(context.Background(), first, RestoreOptions{})
			done <- err
		}()
		<-first.began
		if _, err := o.nodes[0].Restore(t.Context(), bytes.NewReader(file), RestoreOptions{}); !errors.Is(err, ErrRestoring) {
			t.Errorf("%v", err)
		}
		close(first.rest)
		if err := <-done; err != nil {
			t.Error(err)
		}
		o.stop(t)
	})
}

func TestRestoreNeedsTheLeaderAndAMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t, 3)
		o.license()
		o.must(wantsCAD(1))
		file := o.backup()
		o.must(wantsCAD(2))
		leader := o.leader()
		var nl *NotLeaderError
		for _, n := range others(o.nodes, leader) {
			if _, err := n.Restore(t.Context(), bytes.NewReader(file), RestoreOptions{}); !errors.As(err, &nl) {
				t.Errorf("on a follower: %v", err)
			}
			if _, err := n.Backup(t.Context()); !errors.As(err, &nl) {
				t.Errorf("backup of a follower: %v", err)
			}
		}
		cutOff := &stuck{Reader: bytes.NewReader(file), began: make(chan struct{}), rest: make(chan struct{})}
		go func() {
			<-cutOff.began
			o.cut(o.index(leader))
			close(cutOff.rest)
		}()
		_, err := leader.Restore(t.Context(), cutOff, RestoreOptions{})
		if err == nil || errors.Is(err, ErrUnknown) {
			t.Errorf("without a majority: %v", err)
		}
		next := leaderOf(t, others(o.nodes, leader)...)
		a, err := next.Propose(t.Context(), lease.Renew{Session: person(2)})
		if err != nil || a.Reply.Refusal != nil {
			t.Errorf("the later session: %v, %v", err, a.Reply.Refusal)
		}
		o.stop(t)
	})
}

// A new cluster restores the backup of a lost one and takes its id. Whoever comes back from
// the lost one is told so, and let in never.
func TestNodesOfALostClusterAreKeptOutOfTheOneThatTookOver(t *testing.T) {
	t.Parallel()
	lost := start(t, testConfig(t, "old", filepath.Join(t.TempDir(), "old"), 1))
	leaderOf(t, lost)
	propose(t, lost)
	file := backupFile(t, lost)
	crash(t, lost)

	taker := start(t, testConfig(t, "new", filepath.Join(t.TempDir(), "new"), 1))
	leaderOf(t, taker)
	own := taker.FSM().Status().ClusterID
	if _, err := taker.Restore(t.Context(), bytes.NewReader(file), RestoreOptions{}); !errors.Is(err, ErrBadBackup) {
		t.Fatalf("without a word for it: %v", err)
	}
	if _, err := taker.Restore(t.Context(), bytes.NewReader(file), RestoreOptions{TakeClusterID: true}); err != nil {
		t.Fatal(err)
	}
	st := taker.FSM().Status()
	if st.ClusterID != lost.FSM().Status().ClusterID || st.ClusterID == own || st.Recoveries != 1 || st.Lineage == "" {
		t.Fatalf("it took over as %+v", st)
	}

	eventually(t, "the new one tells others", func() bool {
		return slices.ContainsFunc(taker.discovery.Members(), func(m Member) bool { return m.ID == taker.ID() && m.Recoveries == 1 })
	})

	// With the new one among its join addresses the old node does not start.
	joining := again(lost, gossipAddr(taker))
	joining.BootstrapExpect = 0
	_, err := Start(joining)
	checkLine(t, err, "restored in its place")
	checkLine(t, err, "start with an empty one")
	// Without, it is the lost cluster until it hears of the new one.
	fatal := make(chan string, 1)
	cfg := again(lost)
	cfg.Fatal = func(reason string) { fatal <- reason }
	back := start(t, cfg)
	leaderOf(t, back)
	if _, err := back.discovery.(*gossip).list.Join([]string{gossipAddr(taker)}); err != nil {
		t.Fatal(err)
	}
	if reason := <-fatal; !strings.Contains(reason, "restored in its place") {
		t.Errorf("it ends with %q", reason)
	}
	eventually(t, "the new cluster keeps it out and says so", func() bool {
		h, err := taker.Autopilot()
		return err == nil && len(h.Servers) == 1 && len(h.Waiting) == 1 && strings.Contains(h.Waiting[0].Why, "recovered or restored")
	})

	// A restore of its own backup is no other lineage: nodes that are away come back.
	if _, err := taker.Restore(t.Context(), bytes.NewReader(backupFile(t, taker)), RestoreOptions{TakeClusterID: true}); err != nil {
		t.Fatal(err)
	}
	if now := taker.FSM().Status(); now.Recoveries != 1 || now.Lineage != st.Lineage {
		t.Errorf("after a restore of its own past: %+v", now)
	}
	crash(t, taker)
	taken := start(t, again(taker))
	leaderOf(t, taken)
	if now := taken.FSM().Status(); now.Recoveries != 1 || now.Lineage != st.Lineage || now.ClusterID != st.ClusterID {
		t.Errorf("after a restart: %+v", now)
	}
}

func backupFile(t *testing.T, n *Node) []byte {
	t.Helper()
	b, err := n.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := b.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}
