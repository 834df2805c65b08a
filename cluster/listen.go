package cluster

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	// maxGreeting bounds that line: an id has at most 72 bytes, a cluster's id 16.
	maxGreeting = 256
	// acceptPause is the rest after a failed accept (no file descriptor left), so that it
	// burns no core until one is free.
	acceptPause = 50 * time.Millisecond
)

// addressed is raft over the network, to a server id and not just to an address.
// Raft's own messages do not say whom they are for, so a node with an emptied directory
// would answer at its old address for the server it was before: acknowledge entries in
// its place, and vote again.
type addressed struct {
	*raft.NetworkTransport
	stream *stream
}

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
	node      atomic.Pointer[Node]              // answers questions; nil: not yet
	metrics   *doorMetrics
	rate      counts
	peers     chan net.Conn // that have greeted, for Accept
	done      chan struct{} // closed when nothing is accepted any more

	mu        sync.Mutex
	warned    map[string]bool // ids that were asked for in vain
	strangers []net.Conn      // that have not greeted, the oldest first
	greeted   int             // open connections that have
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
	return s.open(host, greeting+id+"\n", timeout)
}

// open connects and says the first line.
func (s *stream) open(host, line string, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", host, timeout)
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		dial, _ := s.tls()
		conn = tls.Client(conn, dial) // the greeting is the first write, which shakes hands
	}
	if err = conn.SetDeadline(time.Now().Add(timeout)); err == nil {
		_, err = io.WriteString(conn, line)
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

// take accepts connections until the listener is closed, and lets each greet in a goroutine
// of its own: a stranger costs that and a socket, not the buffers that raft keeps for a peer.
func (s *stream) take() {
	defer close(s.done)
	for {
		conn, err := s.Listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(acceptPause)
		case !s.rate.allow(conn.RemoteAddr()):
			s.turnAway(conn, "rate")
		default:
			s.meet(conn)
		}
	}
}

func (s *stream) turnAway(conn net.Conn, limit string) {
	s.metrics.refused.WithLabelValues("raft", limit).Inc()
	_ = conn.Close()
}

// meet begins to listen to a new connection, in the place of the one that has been silent
// longest if there is no room.
func (s *stream) meet(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.strangers) >= maxRaftStrangers {
		s.turnAway(s.strangers[0], "count")
		s.strangers = s.strangers[1:]
	}
	s.strangers = append(s.strangers, conn)
	s.count()
	go func() {
		peer, err := s.greet(conn)
		if errors.Is(err, errAsked) {
			s.forget(conn)
		} else if s.known(conn, err == nil) {
			select {
			case s.peers <- peer:
				return
			case <-s.done:
			}
		}
		_ = conn.Close()
	}()
}

// known ends the time as a stranger; it says whether the connection may stay.
func (s *stream) known(conn net.Conn, greeted bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.Index(s.strangers, conn)
	if at >= 0 {
		s.strangers = slices.Delete(s.strangers, at, at+1)
	}
	stay := at >= 0 && greeted && s.greeted < maxRaftPeers
	switch {
	case stay:
		s.greeted++
	case at >= 0 && greeted:
		s.metrics.refused.WithLabelValues("raft", "count").Inc()
	case at >= 0:
		s.metrics.refused.WithLabelValues("raft", "greeting").Inc()
	}
	s.count()
	return stay
}

// errAsked ends a connection that came with a question and has its answer.
var errAsked = errors.New("answered")

// forget ends the time as a stranger of a connection that goes.
func (s *stream) forget(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers = slices.DeleteFunc(s.strangers, func(c net.Conn) bool { return c == conn })
	s.count()
}

func (s *stream) count() {
	s.metrics.open.WithLabelValues("raft").Set(float64(len(s.strangers) + s.greeted))
}

// Accept returns the next connection that has greeted.
func (s *stream) Accept() (net.Conn, error) {
	select {
	case conn := <-s.peers:
		return conn, nil
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// Close stops listening and ends what has not greeted; raft closes the others.
func (s *stream) Close() error {
	err := s.Listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.strangers {
		_ = conn.Close()
	}
	return err
}

// greeted is a connection of a peer, with what came behind the greeting.
type greeted struct {
	net.Conn
	r    *bufio.Reader
	gone func() // once
}

func (g *greeted) Read(p []byte) (int, error) { return g.r.Read(p) }

func (g *greeted) Close() error {
	g.gone()
	return g.Conn.Close()
}

// greet shakes hands, if there is TLS, and reads the greeting.
func (s *stream) greet(raw net.Conn) (*greeted, error) {
	conn := raw
	if s.tls != nil {
		_, accept := s.tls()
		conn = tls.Server(raw, accept) // hands are shaken by the first Read
	}
	if err := conn.SetDeadline(time.Now().Add(raftIOTimeout)); err != nil {
		return nil, err
	}
	r := bufio.NewReaderSize(conn, maxGreeting)
	line, err := r.ReadSlice('\n')
	if err != nil {
		s.log.Debug("connection closed: silent, or not one of us", "from", raw.RemoteAddr(), "error", err)
		return nil, io.EOF
	}
	if question, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), versionGreeting); ok {
		s.answerVersion(conn, question)
		return nil, errAsked
	}
	id, ok := strings.CutPrefix(strings.TrimSuffix(string(line), "\n"), greeting)
	if !ok {
		return nil, io.EOF
	}
	if id != s.id {
		s.refuse(id)
		return nil, io.EOF
	}
	gone := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.greeted--
		s.count()
	})
	return &greeted{Conn: conn, r: r, gone: gone}, conn.SetDeadline(time.Time{})
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
	s.log.Warn(fmt.Sprintf("another server is looked for at this address: if it lost its data directory, replace it by this one (seatkeeper operator raft replace-peer %s %s)", id, s.id))
}

func listenRaft(cfg Config, id string, m *doorMetrics) (addressed, error) {
	l, err := net.Listen("tcp", cfg.RaftAddr)
	if err != nil {
		return addressed{}, listenError("raft address", cfg.RaftAddr, err)
	}
	s := &stream{Listener: l, advertise: l.Addr(), id: id, log: cfg.Logger.Named("raft-net"), warned: map[string]bool{}, tls: cfg.RaftTLS,
		metrics: m, rate: counts{most: raftPerSecond}, peers: make(chan net.Conn), done: make(chan struct{})}
	if cfg.RaftAdvertise != "" {
		s.advertise = hostAddr(cfg.RaftAdvertise)
	}
	go s.take()
	return addressed{stream: s, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: raftPool, Timeout: raftIOTimeout,
		Logger: s.log, MsgpackUseNewTimeFormat: true,
	})}, nil
}
