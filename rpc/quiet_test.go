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

	sdk "github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// tapped keeps what went over a connection.
type tapped struct {
	net.Conn
	mu      sync.Mutex
	in, out bytes.Buffer
}

func (c *tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in.Write(p[:n])
	return n, err
}

func (c *tapped) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.out.Write(p)
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// frames counts what is in the HTTP/2 frames that are there.
func frames(all []byte) (messages, pings int) {
	const head, data, ping, ack = 9, 0, 6, 1
	for len(all) >= head {
		switch kind, flags := all[3], all[4]; {
		case kind == data:
			messages++
		case kind == ping && flags&ack == 0:
			pings++
		}
		length := int(all[0])<<16 | int(all[1])<<8 | int(all[2])
		all = all[min(head+length, len(all)):]
	}
	return messages, pings
}

// A server has one heartbeat now and then from each of thousands of clients: a ping beside it
// or beside its answer costs about as much again.
func TestAHeartbeatComesAndGoesWithoutPings(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	var tap *tapped
	dial := func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		tap = &tapped{Conn: c}
		return tap, err
	}
	plain, err := grpc.NewClient("passthrough:///"+a.addr, grpc.WithNoProxy(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(dial))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	ours, err := sdk.New(sdk.Config{Addresses: []string{a.addr}, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close(t.Context())
	const heartbeats = 10
	for i, client := range []pb.SeatsClient{pb.NewSeatsClient(plain), ours.Seats()} {
		id := fmt.Sprintf("%032x", i+1)
		if _, err := client.Checkout(t.Context(), &pb.CheckoutRequest{Feature: "cad", User: "ann", Host: id, SessionId: id, SessionSecret: id, Incarnation: 1, Seq: 1}); err != nil {
			t.Fatal(err)
		}
		for range heartbeats {
			if _, err := client.Renew(t.Context(), &pb.RenewRequest{SessionId: id, SessionSecret: id, Incarnation: 1}); err != nil {
				t.Fatal(err)
			}
		}
		tap.mu.Lock()
		messages, pings := frames(tap.in.Bytes())
		_, pingsOut := frames(tap.out.Bytes()[len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):])
		tap.mu.Unlock()
		if messages <= heartbeats || pings > 0 || i == 1 && pingsOut > 0 {
			t.Errorf("client %d: %d answers and %d pings of the server, %d pings of the client", i, messages, pings, pingsOut)
		}
	}
}
