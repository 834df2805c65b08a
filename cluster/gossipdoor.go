package cluster

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// gossipDoor is memberlist's own transport with a bound on what comes in: connections,
// their rate and length, packets, their rate and size. What is beyond is dropped before
// memberlist keeps or decrypts any of it.
type gossipDoor struct {
	*memberlist.NetTransport
	metrics *doorMetrics

	connections, packetRate counts
	open                    atomic.Int64
	streams                 chan net.Conn
	packets                 chan *memberlist.Packet
	stop                    chan struct{}
	once                    sync.Once
}

// listenGossip opens the ports that mc names and makes mc use them; port 0 picks a free one.
func listenGossip(mc *memberlist.Config, m *doorMetrics) (*gossipDoor, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{mc.BindAddr}, BindPort: mc.BindPort, Logger: mc.Logger})
	// The kernel picks the port for TCP alone: somebody may have it for UDP.
	for range 9 {
		if err == nil || mc.BindPort != 0 {
			break
		}
		inner, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{mc.BindAddr}, Logger: mc.Logger})
	}
	if err != nil {
		return nil, err
	}
	if mc.BindPort == 0 {
		mc.BindPort = inner.GetAutoBindPort()
		mc.AdvertisePort = mc.BindPort
	}
	d := &gossipDoor{NetTransport: inner, metrics: m,
		connections: counts{most: gossipPerSecond}, packetRate: counts{most: packetsPerSecond},
		streams: make(chan net.Conn), packets: make(chan *memberlist.Packet), stop: make(chan struct{})}
	mc.Transport = d
	go d.takeStreams()
	go d.takePackets()
	return d, nil
}

// StreamCh and PacketCh are what memberlist reads.
func (d *gossipDoor) StreamCh() <-chan net.Conn           { return d.streams }
func (d *gossipDoor) PacketCh() <-chan *memberlist.Packet { return d.packets }

// Shutdown goes on reading what the inner transport is about to hand over: it waits for that.
func (d *gossipDoor) Shutdown() error {
	err := d.NetTransport.Shutdown()
	d.once.Do(func() { close(d.stop) })
	return err
}

func (d *gossipDoor) turnAway(port, limit string) {
	d.metrics.refused.WithLabelValues(port, limit).Inc()
}

func (d *gossipDoor) takeStreams() {
	for {
		var conn net.Conn
		select {
		case conn = <-d.NetTransport.StreamCh():
		case <-d.stop:
			return
		}
		switch {
		case !d.connections.allow(conn.RemoteAddr()):
			d.turnAway("gossip", "rate")
			_ = conn.Close()
		case d.open.Load() >= maxGossipStreams:
			d.turnAway("gossip", "count")
			_ = conn.Close()
		default:
			d.metrics.open.WithLabelValues("gossip").Set(float64(d.open.Add(1)))
			select {
			case d.streams <- &gossipStream{Conn: conn, d: d, left: maxGossipStream}:
			case <-d.stop:
				_ = conn.Close()
				return
			}
		}
	}
}

func (d *gossipDoor) takePackets() {
	for {
		var p *memberlist.Packet
		select {
		case p = <-d.NetTransport.PacketCh():
		case <-d.stop:
			return
		}
		switch {
		case !d.packetRate.allow(p.From):
			d.turnAway("packets", "rate")
		case len(p.Buf) > maxGossipPacket:
			d.turnAway("packets", "size")
		default:
			p.Buf = bytes.Clone(p.Buf) // it came in a buffer of 64 KiB, and a thousand may wait
			select {
			case d.packets <- p:
			case <-d.stop:
				return
			}
		}
	}
}

// gossipStream ends when too much was sent on it.
type gossipStream struct {
	net.Conn
	d    *gossipDoor
	left int
	once sync.Once
}

func (c *gossipStream) Read(p []byte) (int, error) {
	if c.left <= 0 {
		c.d.turnAway("gossip", "size")
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

func (c *gossipStream) Close() error {
	c.once.Do(func() { c.d.metrics.open.WithLabelValues("gossip").Set(float64(c.d.open.Add(-1))) })
	return c.Conn.Close()
}
