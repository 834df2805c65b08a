package sim

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// network carries raft's messages between nodes and the clients' requests to them. A
// link is directed and named by its two ends.
type network struct {
	mu    sync.Mutex
	rnd   *rand.Rand
	ends  map[string]*endpoint
	cut   map[[2]string]bool
	delay time.Duration // added to each message, at random up to this
	loss  float64
}

var errNetwork = errors.New("network")

// rpcTimeout is how long a sender waits for an answer that does not come.
const rpcTimeout = 2 * time.Second

func newNetwork(rnd *rand.Rand) *network {
	return &network{rnd: rnd, ends: map[string]*endpoint{}, cut: map[[2]string]bool{}}
}

// pass waits for as long as a message takes from one end to the other, and says whether
// it arrives. Whether it does is decided when it is due: a partition catches what is
// under way.
func (n *network) pass(from, to string) bool {
	n.mu.Lock()
	d := time.Duration(100+n.rnd.IntN(400)) * time.Microsecond
	if n.delay > 0 {
		d += time.Duration(n.rnd.Int64N(int64(n.delay)))
	}
	lost := n.loss > 0 && n.rnd.Float64() < n.loss
	n.mu.Unlock()
	time.Sleep(d)
	n.mu.Lock()
	defer n.mu.Unlock()
	return !lost && !n.cut[[2]string{from, to}]
}

func (n *network) setCut(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut {
		n.cut[[2]string{from, to}] = true
	} else {
		delete(n.cut, [2]string{from, to})
	}
}

// weather sets delay and loss for all links.
func (n *network) weather(delay time.Duration, loss float64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay, n.loss = delay, loss
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	n.delay, n.loss = 0, 0
}

func (n *network) end(name string) *endpoint {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ends[name]
}

// endpoint is the raft transport of one run of one node.
type endpoint struct {
	net    *network
	name   string
	calls  chan raft.RPC
	closed chan struct{}
	once   sync.Once
	pause  func() // waits while the node is stopped
}

func (n *network) attach(name string, pause func()) *endpoint {
	e := &endpoint{net: n, name: name, calls: make(chan raft.RPC, 64), closed: make(chan struct{}), pause: pause}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ends[name] = e
	return e
}

func (e *endpoint) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// gone says whether the process has crashed. What it did before it was gone is on the
// disk that its next run will find; what it does afterwards never happened.
func (e *endpoint) gone() bool {
	select {
	case <-e.closed:
		return true
	default:
		return false
	}
}

func (e *endpoint) Consumer() <-chan raft.RPC     { return e.calls }
func (e *endpoint) LocalAddr() raft.ServerAddress { return raft.ServerAddress(e.name) }
func (e *endpoint) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte {
	return []byte(a)
}
func (e *endpoint) DecodePeer(b []byte) raft.ServerAddress { return raft.ServerAddress(b) }
func (e *endpoint) SetHeartbeatHandler(func(raft.RPC))     {}

func (e *endpoint) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (e *endpoint) AppendEntries(_ raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return roundTrip(e, string(to), req, nil, resp)
}

func (e *endpoint) RequestVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return roundTrip(e, string(to), req, nil, resp)
}

func (e *endpoint) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return roundTrip(e, string(to), req, nil, resp)
}

func (e *endpoint) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return roundTrip(e, string(to), req, nil, resp)
}

func (e *endpoint) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	body, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	return roundTrip(e, string(to), req, bytes.NewReader(body), resp)
}

// roundTrip sends one request and waits for its answer, both over the faulty links.
func roundTrip[R any](e *endpoint, to string, req any, data io.Reader, resp *R) error {
	e.pause()
	deadline := time.NewTimer(rpcTimeout)
	defer deadline.Stop()
	lost := func() error {
		select {
		case <-deadline.C:
		case <-e.closed:
		}
		return errNetwork
	}
	if !e.net.pass(e.name, to) {
		return lost()
	}
	peer := e.net.end(to)
	if peer == nil || e.gone() {
		return errNetwork // a crashed process says nothing more
	}
	answer := make(chan raft.RPCResponse, 1)
	select {
	case peer.calls <- raft.RPC{Command: req, Reader: data, RespChan: answer}:
	case <-peer.closed:
		return errNetwork // connection refused
	case <-deadline.C:
		return errNetwork
	case <-e.closed:
		return errNetwork
	}
	select {
	case r := <-answer:
		if peer.gone() {
			// It may have answered after it crashed, from a disk that nobody will see again.
			return lost()
		}
		peer.pause()
		if !e.net.pass(to, e.name) {
			return lost()
		}
		if r.Error != nil {
			return r.Error
		}
		*resp = *r.Response.(*R)
		return nil
	case <-deadline.C:
		return errNetwork
	case <-e.closed:
		return errNetwork
	}
}
