package cluster

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// refusedAt reads how much a port turned away for a limit.
func refusedAt(t *testing.T, reg prometheus.Gatherer, port, limit string) (n int) {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "seatkeeper_cluster_refused_total" && labels["port"] == port && labels["limit"] == limit {
				n += int(m.GetCounter().GetValue())
			}
		}
	}
	return n
}

var doorKeys = [][]byte{bytes.Repeat([]byte{7}, gossipKeyLen)}

// startMeasured starts a node alone, and gives what it measures.
func startMeasured(t *testing.T) (*Node, *prometheus.Registry) {
	t.Helper()
	cfg := testConfig(t, "a", filepath.Join(t.TempDir(), "a"), 1)
	reg := prometheus.NewRegistry()
	cfg.Metrics, cfg.GossipKeys = reg, doorKeys
	n := start(t, cfg)
	leaderOf(t, n)
	return n, reg
}

func dialFor(t *testing.T, addr string, life time.Duration) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(life)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestSilentStrangersAtTheRaftPortMakeRoomForPeers(t *testing.T) {
	n, reg := startMeasured(t)
	const more = 20
	var silent []net.Conn
	for range maxRaftStrangers + more {
		silent = append(silent, dialFor(t, n.raftAddress, 10*time.Second))
	}
	eventually(t, "the first ones to be closed for others", func() bool { return refusedAt(t, reg, "raft", "count") >= more })
	for i, conn := range silent[:more] {
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("connection %d is kept: %v", i, err)
		}
	}
	if err := greetRaft(n, nil); err == nil || !isTimeout(err) {
		t.Errorf("who greets among them: %v, want to be kept", err)
	}
	eventually(t, "silence to be ended", func() bool { return refusedAt(t, reg, "raft", "greeting") >= maxRaftStrangers-1 })
}

func TestPeersAtTheRaftPortAreCapped(t *testing.T) {
	n, reg := startMeasured(t)
	var kept []net.Conn
	eventually(t, "one too many", func() bool {
		if len(kept) > 20*maxRaftPeers { // the rate allows for a part of them only
			t.Fatal("there is no cap")
		}
		for range 10 {
			conn := dialFor(t, n.raftAddress, time.Minute)
			fmt.Fprintf(conn, "%s%s\n", greeting, n.id)
			kept = append(kept, conn)
		}
		return refusedAt(t, reg, "raft", "count") > 0
	})
	for _, conn := range kept {
		conn.Close()
	}
	eventually(t, "room for a peer again", func() bool {
		conn, err := net.Dial("tcp", n.raftAddress)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s%s\n", greeting, n.id)
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1))
		return isTimeout(err)
	})
}

func TestOneAddressIsBoundedInEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := counts{most: 3}
		from := func(i int) net.Addr { return &net.UDPAddr{IP: net.IPv4(10, 0, byte(i>>8), byte(i)), Port: i} }
		for i := range 5 {
			if got := c.allow(from(1)); got != (i < 3) {
				t.Errorf("number %d of one address: %v", i+1, got)
			}
		}
		if !c.allow(from(2)) {
			t.Error("another address is refused for the first one's sake")
		}
		for i := range 10 * maxAddresses {
			c.allow(from(100 + i))
		}
		if len(c.of) > maxAddresses {
			t.Errorf("%d addresses are remembered", len(c.of))
		}
		time.Sleep(time.Second)
		if !c.allow(from(1)) {
			t.Error("in the next second it is still refused")
		}
	})
}

func TestGossipPortsDropWhatIsTooMuch(t *testing.T) {
	n, reg := startMeasured(t)
	addr := gossipAddr(n)
	// Something encrypted that says of itself it has ten megabytes, of whom knows the label.
	long := dialFor(t, addr, 10*time.Second)
	label := "seatkeeper/" + n.cfg.ClusterName
	head := append(append([]byte{244, byte(len(label))}, label...), 10)
	head = binary.BigEndian.AppendUint32(head, 10<<20)
	go func() { _, _ = io.Copy(long, io.MultiReader(bytes.NewReader(head), endless{})) }()
	eventually(t, "a long stream to be ended", func() bool { return refusedAt(t, reg, "gossip", "size") > 0 })

	packets, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	eventually(t, "a large packet to be dropped", func() bool {
		_, _ = packets.Write(make([]byte, maxGossipPacket+1))
		return refusedAt(t, reg, "packets", "size") > 0
	})
	eventually(t, "a flood of packets to be dropped", func() bool {
		for range packetsPerSecond {
			_, _ = packets.Write([]byte("flood"))
		}
		return refusedAt(t, reg, "packets", "rate") > 0
	})
	eventually(t, "a connection too many to be closed", func() bool {
		dialFor(t, addr, 10*time.Second)
		return refusedAt(t, reg, "gossip", "count")+refusedAt(t, reg, "gossip", "rate") > 0
	})

	second := testConfig(t, "b", filepath.Join(t.TempDir(), "b"), 0, addr)
	second.GossipKeys = doorKeys
	b := start(t, second)
	eventually(t, "a member to join nevertheless", func() bool { return b.FSM().Status().AppliedIndex > 0 })
}

// endless is a stream of nothing.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
