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
