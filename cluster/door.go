package cluster

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Limits of the two ports that only nodes should reach. They bound what a stranger can
// cost, not what a peer may do: a cluster of nine needs a tenth of them.
const (
	// maxRaftPeers bounds connections that have greeted. Eight peers keep raftPool idle
	// ones each and have a few in use; one costs raft 300 KiB of buffers.
	maxRaftPeers = 256
	// maxRaftStrangers bounds those that have not. A peer greets with its first packet, so
	// when there is no room the one that has been silent longest makes it: whoever holds
	// connections in silence keeps nobody out.
	maxRaftStrangers = 128
	// maxGossipStreams bounds gossip's TCP connections: joins, a full exchange every 30
	// seconds from each peer, and probes where UDP is lost. Each lasts gossipTimeout at most.
	maxGossipStreams = 64
	// maxGossipStream bounds what is read from one: a full exchange has about 700 bytes for
	// each member. It is kept in memory before the key is tried on it.
	maxGossipStream = 256 << 10
	// maxGossipPacket bounds a packet; memberlist makes them of 1400 bytes and a header.
	maxGossipPacket = 4 << 10
	// raftPerSecond and the two others bound what one address may send in a second; the
	// rest is closed or dropped. Peers open some ten connections in the worst second of an
	// election, and send some hundred packets in one when many members change.
	raftPerSecond    = 200
	gossipPerSecond  = 100
	packetsPerSecond = 2000
	// maxAddresses bounds the addresses counted apart in a second; those beyond share one
	// count, so that invented senders of packets cost no memory.
	maxAddresses = 1024
)

// doorMetrics count what came to the ports for nodes, and what was turned away.
type doorMetrics struct {
	open    *prometheus.GaugeVec
	refused *prometheus.CounterVec
}

// newDoorMetrics registers them, if there is where; close takes them back.
func newDoorMetrics(reg prometheus.Registerer) (m *doorMetrics, close func() error, err error) {
	const ns, sub = "seatkeeper", "cluster"
	m = &doorMetrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "connections", Help: "Open connections from other nodes, or from who says so, by port (raft, gossip)."}, []string{"port"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "refused_total", Help: "Connections closed and packets dropped at the ports for nodes, by port (raft, gossip, packets) and by the limit reached (rate, count, size, greeting)."},
			[]string{"port", "limit"}),
	}
	for _, port := range []string{"raft", "gossip"} {
		m.open.WithLabelValues(port)
	}
	if reg == nil {
		return m, func() error { return nil }, nil
	}
	if err := errors.Join(reg.Register(m.open), reg.Register(m.refused)); err != nil {
		return nil, nil, err
	}
	return m, func() error {
		reg.Unregister(m.open)
		reg.Unregister(m.refused)
		return nil
	}, nil
}

// counts bounds what each address does in a second.
type counts struct {
	most int

	mu    sync.Mutex
	since time.Time
	of    map[netip.Addr]int
	rest  int // of all that did not fit
}

// allow counts one more from an address.
func (c *counts) allow(from net.Addr) bool {
	ip := addrOf(from)
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.since) >= time.Second {
		c.since, c.rest = now, 0
		if c.of == nil {
			c.of = make(map[netip.Addr]int)
		}
		clear(c.of)
	}
	if n, known := c.of[ip]; known || len(c.of) < maxAddresses {
		c.of[ip] = n + 1
		return n < c.most
	}
	c.rest++
	return c.rest <= c.most
}

func addrOf(a net.Addr) netip.Addr {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap()
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
