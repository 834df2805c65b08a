package cluster

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// command is an ordinary entry, as a leader's raft stores them.
func command(index uint64) *raft.Log {
	return &raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: []byte{byte(index)}}
}

// heldLog is a log whose writes wait for release, one value each.
type heldLog struct {
	*raft.InmemStore
	release chan error
	mu      sync.Mutex
	sizes   []int // entries of each write
}

func (h *heldLog) StoreLogs(logs []*raft.Log) error {
	if err := <-h.release; err != nil {
		return err
	}
	h.mu.Lock()
	h.sizes = append(h.sizes, len(logs))
	h.mu.Unlock()
	return h.InmemStore.StoreLogs(logs)
}

func (h *heldLog) StoreLog(l *raft.Log) error { return h.StoreLogs([]*raft.Log{l}) }

// newLeadersLog gives a parallel log that believes that its node leads.
func newLeadersLog() (*parallelLog, *heldLog) {
	held := &heldLog{InmemStore: raft.NewInmemStore(), release: make(chan error, 10)}
	p := newParallelLog(held)
	leads := func() bool { return true }
	p.leads.Store(&leads)
	return p, held
}

func storeAll(t *testing.T, p *parallelLog, logs ...*raft.Log) {
	t.Helper()
	for _, l := range logs {
		if err := p.StoreLog(l); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALeadersEntriesAreReadBeforeTheyAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, held := newLeadersLog()
		storeAll(t, p, command(1), command(2))
		synctest.Wait()
		storeAll(t, p, command(3))
		if last, err := p.LastIndex(); last != 3 || err != nil {
			t.Errorf("last index %d, error %v, want 3", last, err)
		}
		for i := uint64(1); i <= 3; i++ {
			var l raft.Log
			if err := p.GetLog(i, &l); err != nil || l.Index != i || l.Data[0] != byte(i) {
				t.Errorf("entry %d: %v, error %v", i, l, err)
			}
		}
		if got := p.cap(3); got != 0 {
			t.Errorf("of commits up to 3 it tells %d, want none: nothing is written", got)
		}
		held.release <- nil
		synctest.Wait()
		// The first write may have begun before the second entry came.
		if got := p.cap(9); got != 1 && got != 2 {
			t.Errorf("after one write it tells commits up to %d", got)
		}
		held.release <- nil
		held.release <- nil
		synctest.Wait()
		if got := p.cap(9); got != 9 {
			t.Errorf("with an empty queue it tells commits up to %d of 9", got)
		}
		if last, err := held.LastIndex(); last != 3 || err != nil {
			t.Errorf("written up to %d, error %v, want 3", last, err)
		}
		if n := len(held.sizes); n != 2 {
			t.Errorf("three entries took %d writes, want 2: what has gathered is written together", n)
		}
	})
}

func TestWhatIsNoCommandOfALeaderIsWrittenBeforeItIsStored(t *testing.T) {
	for name, l := range map[string]*raft.Log{
		"first entry of a term": {Index: 2, Term: 1, Type: raft.LogNoop},
		"change of members":     {Index: 2, Term: 1, Type: raft.LogConfiguration},
		"entry of a follower":   command(2),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, held := newLeadersLog()
				storeAll(t, p, command(1))
				if l.Type == raft.LogCommand {
					follows := func() bool { return false }
					p.leads.Store(&follows)
				}
				stored := make(chan error, 1)
				go func() { stored <- p.StoreLog(l) }()
				for range 2 {
					synctest.Wait()
					if len(stored) > 0 {
						t.Fatal("stored while the disk has not taken it and what is before it")
					}
					held.release <- nil
				}
				if err := <-stored; err != nil {
					t.Error(err)
				}
				if last, _ := held.LastIndex(); last != 2 {
					t.Errorf("written up to %d, want 2", last)
				}
			})
		})
	}
}

func TestEntriesThatAreQueuedAreCutOffWhenTheyAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, held := newLeadersLog()
		storeAll(t, p, command(1))
		held.release <- nil
		p.rest()
		storeAll(t, p, command(2))
		held.release <- nil
		p.rest()
		storeAll(t, p, command(3))
		cut := make(chan error, 2)
		go func() { cut <- p.DeleteRange(1, 1) }() // as a snapshot does
		synctest.Wait()
		if len(cut) != 1 || <-cut != nil {
			t.Fatal("what is written is not deleted while something is queued")
		}
		go func() { cut <- p.DeleteRange(3, 3) }() // as a new leader's entry does
		synctest.Wait()
		if len(cut) > 0 {
			t.Fatal("deleted before it was written: it would come back")
		}
		held.release <- nil
		if err := <-cut; err != nil {
			t.Error(err)
		}
		if last, _ := held.LastIndex(); last != 2 {
			t.Errorf("the log ends at %d, want 2", last)
		}
	})
}

func TestAfterAFailedWriteNothingQueuedIsApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, held := newLeadersLog()
		storeAll(t, p, command(1))
		settled := make(chan bool, 1)
		go func() { settled <- p.settle(1) }()
		held.release <- errors.New("no space left")
		if <-settled {
			t.Error("an entry that was not written counts as written")
		}
		if err := p.StoreLog(command(2)); err == nil {
			t.Error("the log took an entry after a failed write")
		}
		if err := p.DeleteRange(1, 1); err == nil {
			t.Error("the log deleted what it could not write")
		}
		if got := p.cap(1); got != 0 {
			t.Errorf("it tells commits up to %d, want none", got)
		}
		p.rest()
	})
}

func TestAQueueHasABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, held := newLeadersLog()
		for i := uint64(1); i <= maxUnwritten; i++ {
			storeAll(t, p, command(i))
		}
		more := make(chan error, 1)
		go func() { more <- p.StoreLog(command(maxUnwritten + 1)) }()
		synctest.Wait()
		if len(more) > 0 {
			t.Fatal("an entry beyond the bound did not wait")
		}
		close(held.release)
		if err := <-more; err != nil {
			t.Error(err)
		}
		p.rest()
	})
}

// A leader's disk takes its time: its followers have the entry meanwhile, and nobody is
// answered or applies it before the leader's disk has it, too.
func TestNothingIsKnownOfAnEntryBeforeTheLeadersDiskHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 3, 0)
		leader := leaderOf(t, b.nodes...)
		propose(t, leader)
		time.Sleep(time.Second)
		at := b.index(leader)
		free := b.disks[at].hang()
		before := leader.FSM().Status().AppliedIndex
		answered := make(chan Applied, 1)
		go func() { answered <- propose(t, leader) }()
		time.Sleep(time.Second)
		for i, n := range b.nodes {
			last, err := b.disks[i].LastIndex()
			if i != at && last <= before || i == at && last > before || err != nil {
				t.Errorf("%s (leader: %v): the log ends at %d, error %v; before the entry the leader had applied %d", n.Name(), i == at, last, err, before)
			}
			if got := n.FSM().Status().AppliedIndex; got > before {
				t.Errorf("%s applied entry %d, which the leader's disk does not have", n.Name(), got)
			}
		}
		if len(answered) > 0 {
			t.Error("answered before the leader's disk had the entry")
		}
		free()
		a := <-answered
		time.Sleep(time.Second)
		for _, n := range b.nodes {
			if got := n.FSM().Status().AppliedIndex; got < a.Index {
				t.Errorf("%s applied %d, want %d", n.Name(), got, a.Index)
			}
		}
		b.stop(t)
	})
}
