package cluster

import (
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// stream carries raft over plain TCP. Unlike raft's own it may advertise a host name.
type stream struct {
	net.Listener
	advertise net.Addr
}

// hostAddr is a net.Addr that is kept as it was written.
type hostAddr string

func (a hostAddr) Network() string { return "tcp" }
func (a hostAddr) String() string  { return string(a) }

func (s *stream) Addr() net.Addr { return s.advertise }

func (s *stream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

const (
	// raftPool is how many idle connections are kept to each peer.
	raftPool = 3
	// raftIOTimeout bounds one raft message, so that a peer whose host vanished is
	// tried again soon after it is back.
	raftIOTimeout = 2 * time.Second
)

func listenRaft(cfg Config) (*raft.NetworkTransport, error) {
	l, err := net.Listen("tcp", cfg.RaftAddr)
	if err != nil {
		return nil, listenError("raft address", cfg.RaftAddr, err)
	}
	s := &stream{Listener: l, advertise: l.Addr()}
	if cfg.RaftAdvertise != "" {
		s.advertise = hostAddr(cfg.RaftAdvertise)
	}
	return raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: s, MaxPool: raftPool, Timeout: raftIOTimeout,
		Logger: cfg.Logger.Named("raft-net"), MsgpackUseNewTimeFormat: true,
	}), nil
}
