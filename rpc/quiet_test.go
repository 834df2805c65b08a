package rpc

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// heard keeps what the other end of a connection has sent.
type heard struct {
	net.Conn
	mu  sync.Mutex
	all bytes.Buffer
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all.Write(p[:n])
	return n, err
}

// A server has one heartbeat now and then from each of thousands of clients: what it sends
// beside the answer, and what that makes the client send, costs as much as the heartbeat.
func TestAHeartbeatIsFollowedByNoPing(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	var conn *heard
	cc, err := grpc.NewClient("passthrough:///"+a.addr, grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			conn = &heard{Conn: c}
			return conn, err
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	seats, id := pb.NewSeatsClient(cc), fmt.Sprintf("%032x", 1)
	if _, err := seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", User: "ann", Host: "h", SessionId: id, SessionSecret: id, Incarnation: 1, Seq: 1}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := seats.Renew(t.Context(), &pb.RenewRequest{SessionId: id, SessionSecret: id, Incarnation: 1}); err != nil {
			t.Fatal(err)
		}
	}
	conn.mu.Lock()
	defer conn.mu.Unlock()
	answers, pings := 0, 0
	const data, ping, ack = 0, 6, 1 // of HTTP/2
	for all := conn.all.Bytes(); len(all) >= 9; {
		length := int(all[0])<<16 | int(all[1])<<8 | int(all[2])
		switch kind, flags := all[3], all[4]; {
		case kind == data:
			answers++
		case kind == ping && flags&ack == 0:
			pings++
		}
		all = all[min(9+length, len(all)):]
	}
	if answers != 11 || pings > 0 {
		t.Errorf("the server sent %d messages and %d pings", answers, pings)
	}
}
