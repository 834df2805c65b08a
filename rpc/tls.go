package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// shakeHands agrees on TLS within handshakeTimeout, whichever way the client is slow. It
// runs before the first byte is looked at, so that everything behind it sees plain text
// and knows of TLS by the address of the connection only.
func (c *capConn) shakeHands() error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	err := c.secure.HandshakeContext(ctx)
	if err == nil {
		c.addr.secure = true
		if chain := c.secure.ConnectionState().PeerCertificates; len(chain) > 0 {
			c.addr.cert = chain[0]
		}
		return nil
	}
	c.l.metrics.handshakesFailed.Inc()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
		c.answerPlain(plain)
	}
	c.linger()
	return fmt.Errorf("TLS: %w", err)
}

const (
	// lingerTime and lingerBytes bound what is still read from a client whose handshake
	// failed. It believes that hands are shaken and is sending its first request; were the
	// connection closed on that, it would lose the alert that says why.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 16 << 10
)

func (c *capConn) linger() {
	tcp, ok := c.secure.NetConn().(interface{ CloseWrite() error })
	if !ok || tcp.CloseWrite() != nil {
		return
	}
	raw := c.secure.NetConn()
	_ = raw.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, raw, lingerBytes)
}

func looksLikeHTTP(head [5]byte) bool {
	for _, method := range []string{"GET /", "HEAD ", "POST ", "PUT /", "DELET", "OPTIO"} {
		if string(head[:]) == method {
			return true
		}
	}
	return false
}

// answerPlain tells a client that speaks HTTP in plain text what it did wrong.
func (c *capConn) answerPlain(plain tls.RecordHeaderError) {
	w := &plainAnswer{header: http.Header{}}
	writeProblem(w, http.StatusBadRequest, codes.InvalidArgument, invalidProblem("this port speaks TLS: write https://"))
	_ = plain.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = fmt.Fprintf(plain.Conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		w.body.Len(), w.body.String())
}

// plainAnswer keeps the body of an answer.
type plainAnswer struct {
	header http.Header
	body   strings.Builder
}

func (w *plainAnswer) Header() http.Header         { return w.header }
func (w *plainAnswer) WriteHeader(int)             {}
func (w *plainAnswer) Write(p []byte) (int, error) { return w.body.Write(p) }
