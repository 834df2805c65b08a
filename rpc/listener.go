package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/soheilhy/cmux"
	"google.golang.org/grpc/peer"
)

// acceptPause is the rest after a failed accept (no file descriptor left), so that
// the accept loop does not burn a core until one is free.
const acceptPause = 50 * time.Millisecond

// capListener holds at most max connections open. One more is closed at once: that
// costs nothing, where leaving it in the backlog would let it wait in silence.
type capListener struct {
	net.Listener
	max     int
	tls     *tls.Config // nil: plain text
	metrics *metrics

	mu     sync.Mutex
	open   map[*capConn]struct{}
	closed bool
}

func newCapListener(l net.Listener, max int, tls *tls.Config, m *metrics) *capListener {
	return &capListener{Listener: l, max: max, tls: tls, metrics: m, open: make(map[*capConn]struct{})}
}

// Accept returns the next connection within the cap. It only fails when the
// listener is closed.
func (l *capListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err != nil {
			time.Sleep(acceptPause)
			continue
		}
		if conn := l.track(c); conn != nil {
			return conn, nil
		}
		l.metrics.connectionsRefused.Inc()
		_ = c.Close()
	}
}

func (l *capListener) track(c net.Conn) *capConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.open) >= l.max {
		return nil
	}
	conn := &capConn{Conn: c, l: l, addr: &connAddr{Addr: c.RemoteAddr(), ip: ipOf(c.RemoteAddr())}}
	if l.tls != nil {
		conn.secure = tls.Server(c, l.tls)
		conn.Conn = conn.secure
	}
	l.open[conn] = struct{}{}
	l.metrics.connections.Set(float64(len(l.open)))
	return conn
}

// closeAll closes every connection that is still open and takes no more.
func (l *capListener) closeAll() {
	l.mu.Lock()
	l.closed = true
	left := make([]*capConn, 0, len(l.open))
	for c := range l.open {
		left = append(left, c)
	}
	l.mu.Unlock()
	for _, c := range left {
		_ = c.Close()
	}
}

// halfClosing gives connections that cmux has looked at their CloseWrite back.
// net/http needs it to let a client that is still sending read its refusal; without
// it the unread rest of an oversized request resets the connection first.
type halfClosing struct{ net.Listener }

func (l halfClosing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if m, ok := c.(*cmux.MuxConn); ok {
		return halfClosingConn{m}, err
	}
	return c, err
}

type halfClosingConn struct{ *cmux.MuxConn }

// CloseWrite ends the answer and leaves the reading side open.
func (c halfClosingConn) CloseWrite() error {
	inner := c.Conn
	if held, ok := inner.(*capConn); ok {
		inner = held.Conn
	}
	if w, ok := inner.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

type capConn struct {
	net.Conn
	l      *capListener
	addr   *connAddr
	secure *tls.Conn // nil: plain text, or hands are shaken
	failed error     // why they were not
}

// Read shakes hands first. Who looks at the first bytes of a connection does so in a
// goroutine of its own, so a slow client holds nobody up.
func (c *capConn) Read(p []byte) (int, error) {
	if c.secure != nil {
		c.failed = c.shakeHands()
		c.secure = nil
	}
	if c.failed != nil {
		return 0, c.failed
	}
	return c.Conn.Read(p)
}

// RemoteAddr is how what is known of a connection reaches the calls on it: both doors
// pass it on.
func (c *capConn) RemoteAddr() net.Addr { return c.addr }

// connAddr is the address at the other end, and what is in flight from there.
type connAddr struct {
	net.Addr
	ip        string // "" where it is none
	inFlight  atomic.Int64
	pipelines atomic.Int64
	// What follows is set before the first request.
	secure bool              // by TLS
	cert   *x509.Certificate // that the other end has shown and that was verified; may be nil
}

// withConn gives the calls of an HTTP/1 connection its address.
func withConn(ctx context.Context, c net.Conn) context.Context {
	return peer.NewContext(ctx, &peer.Peer{Addr: c.RemoteAddr()})
}

func (c *capConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.open, c)
	c.l.metrics.connections.Set(float64(len(c.l.open)))
	c.l.mu.Unlock()
	return c.Conn.Close()
}
