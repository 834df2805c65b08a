package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// spyTransport notes whether a heartbeat handler reaches it.
type spyTransport struct {
	*raft.InmemTransport
	handler bool
}

func (s *spyTransport) SetHeartbeatHandler(func(raft.RPC)) { s.handler = true }

// oldTransport has no pre-vote.
type oldTransport struct{ raft.Transport }

func TestHeartbeatHandlerNeverReachesTheTransport(t *testing.T) {
	_, inner := raft.NewInmemTransport("")
	spy := &spyTransport{InmemTransport: inner}
	rc := raft.DefaultConfig()
	rc.LocalID, rc.Logger = "n", testLogger("n")
	store := raft.NewInmemStore()
	r, err := raft.NewRaft(rc, &raft.MockFSM{}, store, store, raft.NewInmemSnapshotStore(), wrapTransport(spy, &acks{}, newParallelLog(store).cap))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Shutdown().Error()
	if spy.handler {
		t.Error("raft got its asynchronous heartbeat path (hashicorp/raft#695)")
	}
}

func TestWrappedTransportKnowsPreVoteIfTheInnerOneDoes(t *testing.T) {
	_, inner := raft.NewInmemTransport("")
	if _, ok := wrapTransport(inner, &acks{}, newParallelLog(nil).cap).(raft.WithPreVote); !ok {
		t.Error("pre-vote was lost in the wrapper")
	}
	if _, ok := wrapTransport(oldTransport{inner}, &acks{}, newParallelLog(nil).cap).(raft.WithPreVote); ok {
		t.Error("the wrapper promises a pre-vote that the inner transport does not have")
	}
	if _, ok := wrapTransport(inner, &acks{}, newParallelLog(nil).cap).(raft.WithClose); !ok {
		t.Error("raft could not close the wrapped transport")
	}
}

func TestTransportNotesAcknowledgements(t *testing.T) {
	_, a := raft.NewInmemTransport("a")
	_, b := raft.NewInmemTransport("b")
	a.Connect("b", b)
	noted := &acks{}
	tr := wrapTransport(a, noted, newParallelLog(nil).cap)
	done := make(chan struct{})
	defer close(done)
	go func() { // b accepts what is above entry 3
		for {
			select {
			case rpc := <-b.Consumer():
				req := rpc.Command.(*raft.AppendEntriesRequest)
				rpc.Respond(&raft.AppendEntriesResponse{Term: req.Term, Success: req.PrevLogEntry >= 3}, nil)
			case <-done:
				return
			}
		}
	}()
	req := func(prev uint64) *raft.AppendEntriesRequest {
		return &raft.AppendEntriesRequest{Term: 2, PrevLogEntry: prev, Entries: []*raft.Log{{Index: prev + 1}, {Index: prev + 2}}}
	}
	if err := tr.AppendEntries("b", "b", req(1), &raft.AppendEntriesResponse{}); err != nil || noted.index("b", 2) != 0 {
		t.Fatalf("refused request: error %v, index %d", err, noted.index("b", 2))
	}
	if err := tr.AppendEntries("b", "b", req(3), &raft.AppendEntriesResponse{}); err != nil || noted.index("b", 2) != 5 {
		t.Fatalf("accepted request: error %v, index %d", err, noted.index("b", 2))
	}
	p, err := tr.AppendEntriesPipeline("b", "b")
	if err != nil {
		t.Fatal(err)
	}
	mark := noted.mark()
	for prev := uint64(5); prev < 9; prev += 2 {
		if _, err := p.AppendEntries(req(prev), &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		select {
		case f := <-p.Consumer():
			if err := f.Error(); err != nil || !f.Response().Success {
				t.Errorf("pipelined: error %v, %+v", err, f.Response())
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the pipeline passes nothing on")
		}
	}
	if noted.index("b", 2) != 9 || !noted.since("b", 2, mark) {
		t.Errorf("pipelined: index %d", noted.index("b", 2))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
