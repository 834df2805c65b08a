package agent

import (
	"context"
	"fmt"
	"net"
	"time"
)

// counted holds the open connections within the limits, in all and by user, and knows who
// is at the other end of each.
type counted struct {
	net.Listener
	a *Agent
	// turned are those that are being told that there is no room.
	turned gate
}

func (l *counted) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		who, err := l.a.callerAt(conn)
		if err != nil {
			l.a.log.Warn("a caller cannot be told, and is cut", "error", err)
			_ = conn.Close()
			continue
		}
		set := l.a.settings()
		if l.a.conns.enter(who.uid, set.Connections, who.share(set.UserConnections)) {
			return &countedConn{Conn: conn, a: l.a, who: who, open: make(chan struct{}, 1)}, nil
		}
		l.a.metrics.refused.WithLabelValues("connections").Inc()
		l.turnAway(conn)
	}
}

// callerAt asks the system who is at the other end; on a TCP port it is who has the token.
func (a *Agent) callerAt(conn net.Conn) (caller, error) {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return a.judge(caller{uid: noUID}), nil
	}
	c, err := peerOf(u)
	if err != nil {
		return caller{}, err
	}
	return a.judge(c), nil
}

// noRoom is what a connection too many is told.
const noRoom = `{"code":"RESOURCE_EXHAUSTED","message":"too many connections (agent.connections, agent.connections_per_user): ask again","reason":"overloaded","final":false,"retry_after_ms":1000}` + "\n"

// turnAway tells a connection too many so, if not too many are being told already, and
// closes it. Its request is read before, as far as it is there: who is hung up on while it
// writes does not look for an answer.
func (l *counted) turnAway(conn net.Conn) {
	if !l.turned.enter(0, maxTurned, 0) {
		_ = conn.Close()
		return
	}
	go func() {
		defer l.turned.leave(0)
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		var request [maxHeader]byte
		_, _ = conn.Read(request[:])
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(noRoom), noRoom)
	}()
}

// countedConn is one that was let in.
type countedConn struct {
	net.Conn
	a    *Agent
	who  caller
	open chan struct{} // full once it was closed
}

func (c *countedConn) Close() error {
	select {
	case c.open <- struct{}{}:
		c.a.conns.leave(c.who.uid)
	default:
	}
	return c.Conn.Close()
}

// connContext notes who is at the other end of a new connection.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	return withCaller(ctx, conn.(*countedConn).who)
}
