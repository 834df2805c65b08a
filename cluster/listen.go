package cluster

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// raftPool is how many idle connections are kept to each peer.
	raftPool = 3
	// raftIOTimeout bounds one raft message, so that a peer whose host vanished is
	// tried again soon after it is back.
	raftIOTimeout = 2 * time.Second
	// greeting begins each connection; the server id that is meant follows, and a newline.
	greeting = "seatkeeper-raft 1 "
	// maxGreeting bounds that line: an id has at most 72 bytes.
	maxGreeting = 128
)

// addressed is raft over the network, to a server id and not just to an address.
// Raft's own messages do not say whom they are for, so a node with an emptied directory
// would answer at its old address for the server it was before: acknowledge entries in
// its place, and vote again.
type addressed struct{ *raft.NetworkTransport }

// to is the address that stream.Dial takes apart again.
func to(id raft.ServerID, target raft.ServerAddress) raft.ServerAddress {
	return target + "/" + raft.ServerAddress(id)
}

func (a addressed) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return a.NetworkTransport.AppendEntriesPipeline(id, to(id, target))
}

func (a addressed) AppendEntries(id raft.ServerID, target raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	return a.NetworkTransport.AppendEntries(id, to(id, target), req, resp)
}

func (a addressed) RequestVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return a.NetworkTransport.RequestVote(id, to(id, target), req, resp)
}

func (a addressed) RequestPreVote(id raft.ServerID, target raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return a.NetworkTransport.RequestPreVote(id, to(id, target), req, resp)
}

func (a addressed) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, req *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	return a.NetworkTransport.InstallSnapshot(id, to(id, target), req, resp, data)
}

func (a addressed) TimeoutNow(id raft.ServerID, target raft.ServerAddress, req *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return a.NetworkTransport.TimeoutNow(id, to(id, target), req, resp)
}

// stream carries raft over TCP, with TLS if there are settings for it. Unlike raft's own
// it may advertise a host name, and its connections begin with whom they are for.
type stream struct {
	net.Listener
	advertise net.Addr
	id        string
	log       hclog.Logger
	tls       func() (dial, accept *tls.Config) // nil: plain

	mu     sync.Mutex
	warned map[string]bool // ids that were asked for in vain
}

// hostAddr is a net.Addr that is kept as it was written.
type hostAddr string

func (a hostAddr) Network() string { return "tcp" }
func (a hostAddr) String() string  { return string(a) }

func (s *stream) Addr() net.Addr { return s.advertise }

func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	host, id, ok := strings.Cut(string(addr), "/")
	if !ok {
		return nil, fmt.Errorf("raft address %s does not say which server is meant", addr)
	}
	conn, err := net.DialTimeout("tcp", host, timeout)
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		dial, _ := s.tls()
		conn = tls.Client(conn, dial) // the greeting is the first write, which shakes hands
	}
	if err = conn.SetDeadline(time.Now().Add(timeout)); err == nil {
		_, err = io.WriteString(conn, greeting+id+"\n")
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (s *stream) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		_, accept := s.tls()
		conn = tls.Server(conn, accept) // hands are shaken by the first Read
	}
	return &greeted{Conn: conn, r: bufio.NewReaderSize(conn, maxGreeting), s: s}, nil
}

// greeted is an accepted connection. Its first Read, which is not the listener's
// business, reads the greeting.
type greeted struct {
	net.Conn
	r     *bufio.Reader
	s     *stream
	known bool
}

func (g *greeted) Read(p []byte) (int, error) {
	if !g.known {
		if err := g.greet(); err != nil {
			return 0, err
		}
		g.known = true
	}
	return g.r.Read(p)
}

func (g *greeted) greet() error {
	if err := g.SetDeadline(time.Now().Add(raftIOTimeout)); err != nil {
		return err
	}
	line, err := g.r.ReadSlice('\n')
	if err != nil {
		g.s.log.Debug("connection closed: silent, or not one of us", "from", g.RemoteAddr(), "error", err)
		return io.EOF
	}
	id, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), greeting)
	if !ok {
		return io.EOF
	}
	if id != g.s.id {
		g.s.refuse(id)
		return io.EOF
	}
	return g.SetDeadline(time.Time{})
}

// refuse says once for each id that somebody else is looked for here.
func (s *stream) refuse(id string) {
	const most = 100 // ids remembered; a cluster has fewer
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.warned[id] || len(s.warned) >= most {
		return
	}
	s.warned[id] = true
	s.log.Warn("another server is looked for at this address: if it lost its data directory, remove it from the members", "wanted", id, "this", s.id)
}

func listenRaft(cfg Config, id string) (addressed, error) {
	l, err := net.Listen("tcp", cfg.RaftAddr)
	if err != nil {
		return addressed{}, listenError("raft address", cfg.RaftAddr, err)
	}
	s := &stream{Listener: l, advertise: l.Addr(), id: id, log: cfg.Logger.Named("raft-net"), warned: map[string]bool{}, tls: cfg.RaftTLS}
	if cfg.RaftAdvertise != "" {
		s.advertise = hostAddr(cfg.RaftAdvertise)
	}
	return addressed{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: raftPool, Timeout: raftIOTimeout,
		Logger: s.log, MsgpackUseNewTimeFormat: true,
	})}, nil
}
