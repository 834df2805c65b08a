package cluster

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/lease"
)

// maxUnwritten bounds what raft may have stored as a leader and this node has not yet
// written: 32 MiB at worst. A proposer has two entries on their way, so more than
// a few are a disk that hangs; raft's main loop waits for it then, as it would without a queue.
const maxUnwritten = 64

// parallelLog lets a leader write its log while its followers write theirs (Ongaro,
// "Consensus: Bridging Theory and Practice", section 10.2.1). Raft writes first and sends
// then; so what a leader stores is queued here, raft is told that it is stored and sends
// it, and one goroutine writes the queue, with as many entries at once as have come.
//
// Raft thus counts this node before its disk has the entry. Nothing that follows from
// it may be known to anybody before it has: the state machine applies nothing that is
// queued (settle), so nobody is answered, and no follower is told that something queued
// is committed (cap). A crash takes the queue and all that followed from it away
// together; until then this node refuses its vote to whoever lacks the entry, as if it
// were on the disk. Whatever is no ordinary entry of a leader (a first entry of a
// term, a change of members, all that a follower stores) waits for the queue and is
// written before the call returns.
type parallelLog struct {
	raft.LogStore
	// leads says whether this node leads; nil until raft runs. Entries are stored by
	// raft's main loop, which alone changes that.
	leads atomic.Pointer[func() bool]

	mu      sync.Mutex
	changed sync.Cond
	queue   []*raft.Log // in order; none has been written for sure
	writing bool        // a goroutine writes the queue
	failed  error       // the first failed write of the queue; there is no second
}

func newParallelLog(inner raft.LogStore) *parallelLog {
	p := &parallelLog{LogStore: inner}
	p.changed.L = &p.mu
	return p
}

// IsMonotonic passes on what the log says.
func (p *parallelLog) IsMonotonic() bool {
	m, ok := p.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// LastIndex returns the last index of the log with the queue, 0 if it is empty.
func (p *parallelLog) LastIndex() (uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.queue); n > 0 {
		return p.queue[n-1].Index, nil
	}
	return p.LogStore.LastIndex()
}

// GetLog reads one entry, from the queue if it is there.
func (p *parallelLog) GetLog(index uint64, l *raft.Log) error {
	p.mu.Lock()
	if n := len(p.queue); n > 0 && index >= p.queue[0].Index && index <= p.queue[n-1].Index {
		*l = *p.queue[index-p.queue[0].Index]
		p.mu.Unlock()
		return nil
	}
	p.mu.Unlock()
	return p.LogStore.GetLog(index, l)
}

// StoreLog is StoreLogs for one entry.
func (p *parallelLog) StoreLog(l *raft.Log) error { return p.StoreLogs([]*raft.Log{l}) }

// StoreLogs queues what a leader stores of its own, and writes everything else.
func (p *parallelLog) StoreLogs(logs []*raft.Log) error {
	ours := p.ours(logs)
	p.mu.Lock()
	defer p.mu.Unlock()
	room := 1
	if ours {
		room = maxUnwritten
	}
	for len(p.queue) >= room && p.failed == nil {
		p.changed.Wait()
	}
	if p.failed != nil {
		return p.failed
	}
	if !ours {
		p.mu.Unlock()
		defer p.mu.Lock()
		return p.LogStore.StoreLogs(logs) // nobody queues meanwhile: raft has one main loop
	}
	p.queue = append(p.queue, logs...)
	if !p.writing {
		p.writing = true
		go p.write()
	}
	return nil
}

// ours says whether these are commands that this node, as leader, is about to send to others.
func (p *parallelLog) ours(logs []*raft.Log) bool {
	if leads := p.leads.Load(); leads == nil || !(*leads)() {
		return false
	}
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			return false
		}
	}
	return true
}

// write runs while there is something to write.
func (p *parallelLog) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && p.failed == nil {
		batch := p.queue
		p.mu.Unlock()
		err := p.LogStore.StoreLogs(batch)
		p.mu.Lock()
		if p.failed = err; err == nil {
			p.queue = append([]*raft.Log(nil), p.queue[len(batch):]...)
		}
		p.changed.Broadcast()
	}
	p.writing = false
	p.changed.Broadcast()
}

// rest waits until nothing is being written. Nothing may be stored any more.
func (p *parallelLog) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.writing {
		p.changed.Wait()
	}
}

// DeleteRange deletes entries from lo to hi, both included.
func (p *parallelLog) DeleteRange(lo, hi uint64) error {
	p.mu.Lock()
	for len(p.queue) > 0 && p.queue[0].Index <= hi && p.failed == nil {
		p.changed.Wait()
	}
	err := p.failed
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return p.LogStore.DeleteRange(lo, hi)
}

// settle waits until the entry is on this node's disk. It returns false if it will never be.
func (p *parallelLog) settle(index uint64) bool {
	if lease.Broken(lease.GuardOwnWrite) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 && p.queue[0].Index <= index {
		if p.failed != nil {
			return false
		}
		p.changed.Wait()
	}
	return true
}

// cap lowers a commit index to what may be told: what is before the queue.
func (p *parallelLog) cap(commit uint64) uint64 {
	if lease.Broken(lease.GuardOwnCommit) {
		return commit
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) > 0 {
		commit = min(commit, p.queue[0].Index-1)
	}
	return commit
}

// settledFSM applies only what is on this node's disk.
type settledFSM struct {
	raft.FSM
	log *parallelLog
}

// Apply implements raft.FSM. If the disk has failed nothing is applied any more, and the
// goroutine ends: the node does too.
func (f *settledFSM) Apply(l *raft.Log) any {
	if !f.log.settle(l.Index) {
		runtime.Goexit()
	}
	return f.FSM.Apply(l)
}
