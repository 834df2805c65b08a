package fsm_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// node applies batches to one FSM as its leader.
type node struct {
	t     testing.TB
	f     *fsm.FSM
	index uint64
}

func newNode(t testing.TB, ents ...lease.Entitlement) *node {
	n := &node{t: t, f: fsm.New(fsm.Options{})}
	data, err := fsm.EncodeLead(fsm.Lead{Node: "n1", ClusterID: "c1"}, launch)
	n.log(data, err)
	l := licence()
	if len(ents) > 0 {
		l.Entitlements = ents
	}
	n.apply(lease.InstallLicence{Licence: l})
	return n
}

func (n *node) log(data []byte, err error) fsm.Outcome {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
	n.index++
	return n.f.Apply(&raft.Log{Index: n.index, Term: 1, Data: data}).(fsm.Outcome)
}

func (n *node) apply(cmds ...lease.Command) fsm.Outcome {
	n.t.Helper()
	st := n.f.Status()
	data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now+1, launch, cmds)
	o := n.log(data, err)
	for i, r := range o.Replies {
		if r.Refusal != nil {
			n.t.Fatalf("%+v: %v", cmds[i], r.Refusal)
		}
	}
	return o
}

func take(n int, feature string) lease.Checkout {
	return lease.Checkout{Session: session(n, 0), Items: []lease.Item{{Feature: feature, Count: 1}}}
}

func woken(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestReleasedWakesWhenSeatsComeFree(t *testing.T) {
	n := newNode(t)
	c := n.f.Released()
	n.apply(take(1, "cad"), take(2, "cad"))
	n.apply(lease.Renew{Session: session(1, 0)})
	if woken(c) {
		t.Fatal("woken though nothing came free")
	}
	n.apply(lease.CheckIn{Session: session(1, 0)})
	if !woken(c) {
		t.Fatal("a check-in woke nobody")
	}
	if c = n.f.Released(); woken(c) {
		t.Fatal("the next channel is closed already")
	}
	if err := n.f.Restore(io.NopCloser(bytes.NewReader(bytesOf(t, n.f)))); err != nil {
		t.Fatal(err)
	}
	if !woken(c) {
		t.Fatal("a restore woke nobody")
	}
}

func TestUsageKeepsTheNewestRecords(t *testing.T) {
	n := newNode(t)
	const pairs = fsm.MaxBatch / 2
	total := 0
	for total*2 <= fsm.KeepEvents {
		if _, complete := n.f.Usage("", "", 0, 0, 1); !complete {
			t.Fatalf("incomplete after %d records", total)
		}
		var batch []lease.Command
		for i := range pairs {
			batch = append(batch, take(total+i, "cad"), lease.CheckIn{Session: session(total+i, 0), Close: true})
		}
		n.apply(batch...)
		total += pairs
	}
	all, complete := n.f.Usage("", "", 0, 0, 1<<20)
	if complete || len(all) != fsm.KeepEvents/2 {
		t.Fatalf("%d records, complete %v", len(all), complete)
	}
	for i, r := range all {
		if i > 0 && r.Lease <= all[i-1].Lease && r.Start <= all[i-1].Start && r.Session == all[i-1].Session {
			t.Fatal("not oldest first")
		}
	}
	if last := all[len(all)-1]; last.Session != session(total-1, 0).ID {
		t.Fatalf("the newest record is of session %v", last.Session)
	}
	if two, _ := n.f.Usage("default", "cad", launch, launch+1, 2); len(two) != 2 || two[1] != all[len(all)-1] {
		t.Fatalf("the newest two: %+v", two)
	}
	for name, got := range map[string]func() ([]lease.UsageRecord, bool){
		"other tenant":  func() ([]lease.UsageRecord, bool) { return n.f.Usage("other", "", 0, 0, 9) },
		"other feature": func() ([]lease.UsageRecord, bool) { return n.f.Usage("", "mesh", 0, 0, 9) },
		"later":         func() ([]lease.UsageRecord, bool) { return n.f.Usage("", "", launch+1, 0, 9) },
		"earlier":       func() ([]lease.UsageRecord, bool) { return n.f.Usage("", "", 0, launch, 9) },
	} {
		if r, _ := got(); len(r) != 0 {
			t.Errorf("%s: %d records", name, len(r))
		}
	}
}

func TestUsageIsIncompleteAfterARestore(t *testing.T) {
	n := newNode(t)
	other := restore(t, bytesOf(t, n.f))
	if _, complete := other.Usage("", "", 0, 0, 9); complete {
		t.Fatal("a restored node claims to know all")
	}
}
