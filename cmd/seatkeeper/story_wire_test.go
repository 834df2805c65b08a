//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
)

// wire is one client's TCP path to the nodes: a proxy that can be cut as a pulled
// cable cuts it. From then on nothing is read or written on the connections there
// are, and both their sockets stay open: no FIN, no RST, half open for ever. A client
// that comes back does so over new connections.
type wire struct {
	front map[string]string // where to dial instead of a node's address

	mu      sync.Mutex
	cut     bool // new connections get nowhere
	mute    bool // no answers on any connection
	spans   []*span
	waiting []net.Conn // came while cut
	ports   []string   // the client's end of each connection that got through
}

// span is one connection through the wire.
type span struct {
	near, far net.Conn
	up, down  bool // passes requests, passes answers
	closed    bool
}

func newWire(t *testing.T, s *story) *wire {
	t.Helper()
	w := &wire{front: map[string]string{}}
	for _, n := range s.nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		w.front[n.API] = l.Addr().String()
		go w.accept(l, n.API)
	}
	t.Cleanup(w.close)
	return w
}

// dial is how the client reaches a node.
func (w *wire) dial(ctx context.Context, address string) (net.Conn, error) {
	front, ok := w.front[address]
	if !ok {
		return nil, fmt.Errorf("%s is no node", address)
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", front)
}

func (w *wire) accept(l net.Listener, node string) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		w.join(near, node)
	}
}

// join connects the two ends; while the wire is cut the client's end just hangs.
func (w *wire) join(near net.Conn, node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		w.waiting = append(w.waiting, near)
		return
	}
	far, err := net.Dial("tcp", node)
	if err != nil {
		near.Close()
		return
	}
	s := &span{near: near, far: far, up: true, down: !w.mute}
	w.spans = append(w.spans, s)
	w.ports = append(w.ports, near.RemoteAddr().String())
	go w.pass(s, near, far, &s.up)
	go w.pass(s, far, near, &s.down)
}

// pass moves bytes one way until one end closes or the span is cut; after a cut it
// leaves both ends as they are.
func (w *wire) pass(s *span, from, to net.Conn, open *bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		passing := *open
		if passing && n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		if passing && err != nil {
			s.closed = true
			to.Close()
			from.Close()
		}
		w.mu.Unlock()
		if !passing || err != nil {
			return
		}
	}
}

// pull cuts both directions; it returns how many connections it leaves half open.
func (w *wire) pull() (halfOpen int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, s := range w.spans {
		s.up, s.down = false, false
		if !s.closed {
			halfOpen++
		}
	}
	return halfOpen
}

// muffle lets requests through and no answers.
func (w *wire) muffle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mute = true
	for _, s := range w.spans {
		s.down = false
	}
}

// plug lets new connections through; the old ones stay half open. It returns how
// many connections there were before.
func (w *wire) plug() (before int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.mute = false, false
	for _, s := range w.spans {
		s.up, s.down = false, false
	}
	return len(w.ports)
}

// newPorts are the client's ends of the connections that came after the first n.
func (w *wire) newPorts(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ports[n:]
}

func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.spans {
		s.near.Close()
		s.far.Close()
	}
	for _, c := range w.waiting {
		c.Close()
	}
}
