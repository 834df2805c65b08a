package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of trying things out.
const (
	// reachTimeout bounds one try of one port: well above any round trip.
	reachTimeout = 1500 * time.Millisecond
	// refusalWait is how long a Raft peer has to hang up on a greeting that it does not
	// like; one that likes it says nothing.
	refusalWait = 600 * time.Millisecond
	// syncProbes small writes are synced one after the other, for at most syncBound.
	syncProbes     = 8
	syncProbeBytes = 4 << 10
	syncBound      = 2 * time.Second
	// syncProbeFile is overwritten by the next probe, should a crash leave it behind.
	syncProbeFile = "disk.probe"
	// pings by UDP, one after the other: packets get lost, and machines are busy.
	pings = 4
	// maxReached bounds the addresses tried at once.
	maxReached = 32
)

// The ports that Reach tries.
const (
	PortRaft      = "raft"
	PortGossipTCP = "gossip_tcp"
	PortGossipUDP = "gossip_udp"
)

// Reached is what became of trying one port of another node.
type Reached struct {
	ID       string // server id; empty for a join address that no member has
	Address  string
	Port     string
	Took     time.Duration
	Resolved []string // of a host name
	Err      error    // nil: it answered
}

// Reach tries the Raft and gossip ports of every other member and every join address
// from here, all at once, and takes at most two seconds.
func (n *Node) Reach(ctx context.Context) []Reached {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout+refusalWait)
	defer cancel()
	var tries []Reached
	for _, s := range n.configuration().Servers {
		if string(s.ID) != n.id {
			tries = append(tries, Reached{ID: string(s.ID), Address: string(s.Address), Port: PortRaft})
		}
	}
	g, _ := n.discovery.(*gossip)
	if g != nil {
		for _, m := range g.others(n.cfg.Join, n.id) {
			tries = append(tries, Reached{ID: m.ID, Address: m.Address, Port: PortGossipTCP}, Reached{ID: m.ID, Address: m.Address, Port: PortGossipUDP})
		}
	}
	tries = tries[:min(len(tries), maxReached)]
	var wg sync.WaitGroup
	for i := range tries {
		wg.Go(func() {
			r := &tries[i]
			start := time.Now()
			switch r.Port {
			case PortRaft:
				r.Resolved, r.Err = n.tryRaft(ctx, r.ID, r.Address)
			case PortGossipTCP:
				r.Resolved, r.Err = tryTCP(ctx, r.Address)
			case PortGossipUDP:
				r.Err = g.ping(ctx, r.ID, r.Address)
			}
			r.Took = time.Since(start)
		})
	}
	wg.Wait()
	return tries
}

// others are the gossip addresses of other members, and those join addresses that are none
// of them.
func (g *gossip) others(join []string, self string) (list []Reached) {
	known := []string{g.address}
	for _, n := range g.neighbours() {
		at := n.node.Address()
		known = append(known, at)
		if n.ID != self {
			list = append(list, Reached{ID: n.ID, Address: at})
		}
	}
	for _, a := range join {
		resolved, err := net.ResolveTCPAddr("tcp", a)
		if err == nil && slices.Contains(known, resolved.String()) || slices.Contains(known, a) {
			continue
		}
		list = append(list, Reached{Address: a})
	}
	return list
}

// lookup resolves the host of an address, if it is a name.
func lookup(ctx context.Context, address string) ([]string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("the name %s does not resolve here: %w", host, err)
	}
	return found, nil
}

func tryTCP(ctx context.Context, address string) ([]string, error) {
	resolved, err := lookup(ctx, address)
	if err != nil {
		return resolved, err
	}
	conn, err := (&net.Dialer{Timeout: reachTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		return resolved, err
	}
	return resolved, conn.Close()
}

// tryRaft connects as raft would and says whom it looks for. Nothing of raft is sent.
func (n *Node) tryRaft(ctx context.Context, id, address string) ([]string, error) {
	resolved, err := lookup(ctx, address)
	if err != nil {
		return resolved, err
	}
	s := &stream{tls: n.cfg.RaftTLS}
	conn, err := s.Dial(to(raft.ServerID(id), raft.ServerAddress(address)), reachTimeout)
	if err != nil {
		return resolved, err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(refusalWait)); err != nil {
		return resolved, err
	}
	var b [1]byte
	_, err = conn.Read(b[:])
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return resolved, nil // it waits for what comes: it is who we look for
	case err == nil:
		return resolved, errors.New("something that is no Raft port answers there")
	case errors.Is(err, io.EOF):
		return resolved, errors.New("it hangs up: another server than this id answers there, or it does not take this node's certificate")
	}
	return resolved, err
}

// errNoAck is returned when a ping by UDP was not answered.
var errNoAck = errors.New("no answer by UDP: a firewall, another gossip key or another cluster name")

// ping sends a gossip ping by UDP. Who is asked by another name than his own is silent, so
// a join address is told nobody's name.
func (g *gossip) ping(ctx context.Context, name, address string) error {
	addr, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() {
		var err error
		for range pings { // each ends by itself, within a second
			if _, err = g.list.Ping(name, addr); err == nil || ctx.Err() != nil {
				break
			}
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		if err != nil {
			return errNoAck
		}
		return nil
	case <-ctx.Done():
		return errNoAck
	}
}

// DiskTried is what became of trying the disk of the data directory.
type DiskTried struct {
	Dir         string
	Free, Total uint64
	Syncs       []time.Duration // sorted
	Err         error
}

// TryDisk syncs a few small writes in the data directory and looks at its space. A disk
// that hangs costs one goroutine until it is back, and an error now.
func (n *Node) TryDisk(ctx context.Context) DiskTried {
	if !n.tryingDisk.CompareAndSwap(false, true) {
		return DiskTried{Dir: n.cfg.DataDir, Err: errors.New("another look at the disk has not ended: is it hung?")}
	}
	return tryDir(ctx, n.cfg, func() { n.tryingDisk.Store(false) })
}

// TryDir is TryDisk for a directory whose node does not run.
func TryDir(ctx context.Context, dir string) DiskTried {
	return tryDir(ctx, Config{DataDir: dir}.withDefaults(), func() {})
}

func tryDir(ctx context.Context, cfg Config, ended func()) DiskTried {
	d := DiskTried{Dir: cfg.DataDir}
	done := make(chan DiskTried, 1)
	go func(d DiskTried) { // its own: we may have given up
		defer ended()
		if d.Free, d.Total, d.Err = cfg.DiskSpace(d.Dir); d.Err == nil {
			d.Syncs, d.Err = cfg.SyncProbe(d.Dir)
		}
		slices.Sort(d.Syncs)
		done <- d
	}(d)
	ctx, cancel := context.WithTimeout(ctx, syncBound+time.Second)
	defer cancel()
	select {
	case d := <-done:
		return d
	case <-ctx.Done():
		d.Err = fmt.Errorf("the disk has not answered for %s: is it hung?", syncBound+time.Second)
		return d
	}
}

// syncProbe times small synced writes in dir.
func syncProbe(dir string) (took []time.Duration, err error) {
	name := filepath.Join(dir, syncProbeFile)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(name)) }()
	buf := make([]byte, syncProbeBytes)
	for begun := time.Now(); len(took) < syncProbes && time.Since(begun) < syncBound; {
		start := time.Now()
		if _, err := f.Write(buf); err != nil {
			return took, err
		}
		if err := f.Sync(); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
	}
	return took, nil
}
