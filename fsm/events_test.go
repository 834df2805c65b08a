package fsm_test

import (
	"bytes"
	"io"
	"testing"
	"time"

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

// queueUp makes sessions wait for a seat that is taken and give up, one entry for all.
func (n *node) queueUp(from, count int) {
	n.t.Helper()
	var batch []lease.Command
	for at := from; at < from+count; at++ {
		c := take(at, "cad")
		c.Wait = time.Minute
		batch = append(batch, c, lease.Leave{Session: session(at, 0)})
	}
	st := n.f.Status()
	data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now+1, launch, batch)
	for i, r := range n.log(data, err).Replies {
		if (r.Refusal == nil) != (i%2 == 1) {
			n.t.Fatalf("%+v: %v", batch[i], r.Refusal)
		}
	}
}

func TestAReaderOfEndedWaitsMissesNoneUnknowingly(t *testing.T) {
	e := licence().Entitlements[0]
	e.Feature, e.Count = "cad", 1
	n := newNode(t, e)
	_, mark, whole, more := n.f.DequeuedSince(n.f.Mark())
	n.apply(take(1, "cad"))
	if !whole || woken(more) {
		t.Fatal("woken, though no wait ended")
	}
	n.queueUp(2, 2)
	if !woken(more) {
		t.Fatal("two waits ended and nobody was woken")
	}
	events, mark, whole, more := n.f.DequeuedSince(mark)
	if len(events) != 2 || events[1].Session != session(3, 0).ID || !whole || woken(more) {
		t.Fatalf("%d events, whole %v", len(events), whole)
	}
	if err := n.f.Restore(io.NopCloser(bytes.NewReader(bytesOf(t, n.f)))); err != nil {
		t.Fatal(err)
	}
	if !woken(more) {
		t.Fatal("a restore woke nobody")
	}
	if _, _, whole, _ = n.f.DequeuedSince(mark); whole {
		t.Fatal("a restore missed nothing")
	}
	mark = n.f.Mark()
	const each = fsm.MaxBatch / 2
	for i := range fsm.KeepEvents/each + 1 {
		n.queueUp(10+i*each, each)
	}
	if events, _, whole, _ = n.f.DequeuedSince(mark); whole || len(events) != fsm.KeepEvents {
		t.Fatalf("%d events, whole %v", len(events), whole)
	}
}
