package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// acks remembers what followers acknowledged: how far their logs agree with ours (to
// promote a non-voter), and the newest request of ours that they answered (to serve
// a read). Requests are numbered by when they were sent, because an answer says
// nothing about what happened after its request left.
type acks struct {
	mu    sync.Mutex
	sent  uint64
	peers map[raft.ServerID]ack
}

type ack struct {
	term  uint64    // of the newest answered request
	sent  uint64    // its number
	index uint64    // highest log index known to agree, in that term
	at    time.Time // when that answer came
}

// next numbers a request about to be sent.
func (a *acks) next() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent++
	return a.sent
}

// record notes a successful answer to the request that was sent as number sent.
func (a *acks) record(id raft.ServerID, sent uint64, req *raft.AppendEntriesRequest) {
	index := req.PrevLogEntry
	if n := len(req.Entries); n > 0 {
		index = req.Entries[n-1].Index
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.peers == nil {
		a.peers = make(map[raft.ServerID]ack)
	}
	p := a.peers[id]
	if req.Term > p.term {
		p = ack{term: req.Term}
	}
	if req.Term == p.term {
		p.sent = max(p.sent, sent)
		p.index = max(p.index, index)
		p.at = time.Now()
	}
	a.peers[id] = p
}

// last returns the newest answer of id; its time is zero if there was none.
func (a *acks) last(id raft.ServerID) ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.peers[id]
}

// mark returns a number below that of every request sent from now on.
func (a *acks) mark() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent
}

// since says whether id has answered a request of this term sent after mark.
func (a *acks) since(id raft.ServerID, term, mark uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.peers[id]
	return p.term == term && p.sent > mark
}

// index returns how far id's log is known to agree with that of this term's leader.
func (a *acks) index(id raft.ServerID, term uint64) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.peers[id]; p.term == term {
		return p.index
	}
	return 0
}

// transport wraps a raft transport. It drops raft's asynchronous heartbeat path,
// which handles a heartbeat while the main loop is changing the log and can so make
// nodes commit different data (hashicorp/raft#695); the Transport contract allows a
// transport to ignore the handler, and heartbeats then come in order. And it
// listens in on acknowledgements, and tells followers of no more commits than cap lets it.
type transport struct {
	raft.Transport
	acks *acks
	cap  func(commit uint64) uint64
}

// preVoteTransport is a transport whose inner one knows pre-votes. Raft asks by type,
// so a wrapper may only have the method if what it wraps has it.
type preVoteTransport struct {
	*transport
	raft.WithPreVote
}

func wrapTransport(inner raft.Transport, a *acks, cap func(uint64) uint64) raft.Transport {
	t := &transport{Transport: inner, acks: a, cap: cap}
	if pv, ok := inner.(raft.WithPreVote); ok {
		return &preVoteTransport{transport: t, WithPreVote: pv}
	}
	return t
}

// SetHeartbeatHandler does nothing, on purpose; see transport.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) {}

// AppendEntries sends one request and notes its answer.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	sent := t.acks.next()
	req.LeaderCommitIndex = t.cap(req.LeaderCommitIndex)
	err := t.Transport.AppendEntries(id, target, req, resp)
	if err == nil && resp.Success {
		t.acks.record(id, sent, req)
	}
	return err
}

// AppendEntriesPipeline opens a pipeline whose answers are noted too.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	inner, err := t.Transport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	p := &pipeline{inner: inner, id: id, acks: t.acks, cap: t.cap,
		sent: make(map[*raft.AppendEntriesRequest]uint64),
		out:  make(chan raft.AppendFuture), closed: make(chan struct{})}
	go p.forward()
	return p, nil
}

// Close closes the inner transport, if it can be closed.
func (t *transport) Close() error {
	if c, ok := t.Transport.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}

// pipeline passes requests and answers on and notes the answers on their way.
type pipeline struct {
	inner  raft.AppendPipeline
	id     raft.ServerID
	acks   *acks
	cap    func(commit uint64) uint64
	out    chan raft.AppendFuture
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	sent map[*raft.AppendEntriesRequest]uint64
}

func (p *pipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.mu.Lock()
	p.sent[req] = p.acks.next()
	p.mu.Unlock()
	req.LeaderCommitIndex = p.cap(req.LeaderCommitIndex)
	f, err := p.inner.AppendEntries(req, resp)
	if err != nil {
		p.forget(req)
	}
	return f, err
}

func (p *pipeline) forget(req *raft.AppendEntriesRequest) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.sent[req]
	delete(p.sent, req)
	return sent
}

// forward runs until Close; answers come ready, so Error does not block here.
func (p *pipeline) forward() {
	for {
		select {
		case <-p.closed:
			return
		case f := <-p.inner.Consumer():
			sent := p.forget(f.Request())
			if f.Error() == nil && f.Response().Success {
				p.acks.record(p.id, sent, f.Request())
			}
			select {
			case p.out <- f:
			case <-p.closed:
				return
			}
		}
	}
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.out }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.inner.Close()
}
