//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// What attackers do. Each ends by itself, or by its deadline.

// floodTime bounds one connection of an attacker.
const floodTime = 10 * time.Second

func attack(addr string) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", addr, floodTime)
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(floodTime))
	}
	return conn, err
}

// malformedJSON are requests to paths that exist, in every wrong way.
var malformedJSON = []string{
	`{"feature":`, `[]`, `nul`, `{"feature":{"a":1}}`, `{"count":"many","feature":"cad"}`, `{"unknown":1}`, "\xff\xfe\x00", `{"feature":"a\u0000b"}`,
	`{"items":[{"feature":1e400}]}`, strings.Repeat("[", 2000), `{"session_id":"../../x","session_secret":[],"seq":-1}`, `{"seq":18446744073709551616}`,
}

// floodJSON sends n malformed requests on one connection after the other, pipelined; every
// answer must refuse.
func floodJSON(addr string, n int, sent *atomic.Int64) error {
	paths := []string{"/v1/checkout", "/v1/renew", "/v1/checkin", "/v1/kill", "/v1/policy", "/v1/nowhere"}
	for n > 0 {
		conn, err := attack(addr)
		if err != nil {
			return err
		}
		part := min(n, 500)
		n -= part
		go func() {
			w := bufio.NewWriter(conn)
			for i := range part {
				body := malformedJSON[i%len(malformedJSON)]
				fmt.Fprintf(w, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", paths[i%len(paths)], len(body), body)
			}
			_ = w.Flush()
		}()
		r := bufio.NewReader(conn)
		for i := range part {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				return fmt.Errorf("answer %d: %w", i, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			sent.Add(1)
			if resp.StatusCode < 400 || resp.StatusCode >= 500 {
				return fmt.Errorf("%q to %s is answered %s", malformedJSON[i%len(malformedJSON)], paths[i%len(paths)], resp.Status)
			}
		}
		conn.Close()
	}
	return nil
}

// junk is a codec that sends bytes as they are.
type junk struct{}

func (junk) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (junk) Unmarshal([]byte, any) error   { return nil }
func (junk) Name() string                  { return "proto" }

// floodGRPC calls methods with bytes that are no message of theirs.
func floodGRPC(addr string, n int, sent *atomic.Int64) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(junk{})))
	if err != nil {
		return err
	}
	defer conn.Close()
	methods := []string{pb.Seats_Checkout_FullMethodName, pb.Seats_Renew_FullMethodName, pb.Cluster_Kill_FullMethodName, "/seatkeeper.v1.Seats/Nothing", "/x/y"}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var g errgroup.Group
	g.SetLimit(8)
	for i := range n {
		body := make([]byte, 3+r.IntN(200))
		for k := range body {
			body[k] = 0xff // a tag that no message has
		}
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), floodTime)
			defer cancel()
			var none []byte
			err := conn.Invoke(ctx, methods[i%len(methods)], &body, &none)
			sent.Add(1)
			if c := status.Code(err); c != codes.Internal && c != codes.Unimplemented && c != codes.InvalidArgument {
				return fmt.Errorf("junk to %s: %w", methods[i%len(methods)], err)
			}
			return nil
		})
	}
	return g.Wait()
}

// floodRaw connects and sends random bytes, some of them behind a beginning that is right.
func floodRaw(addr string, n int, sent *atomic.Int64) error {
	beginnings := []string{"", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/1.1\r\n", "\x16\x03\x01\x02\x00", "seatkeeper-raft 1 ", "\xf4\x15seatkeeper/seatkeeper"}
	r := rand.NewChaCha8([32]byte{byte(n)})
	for i := range n {
		conn, err := attack(addr)
		if err != nil {
			return err
		}
		bytes := make([]byte, 600)
		_, _ = r.Read(bytes)
		_, _ = io.WriteString(conn, beginnings[i%len(beginnings)])
		_, _ = conn.Write(bytes)
		sent.Add(1)
		conn.Close()
	}
	return nil
}

// floodPackets sends random packets to gossip.
func floodPackets(addr string, n int, sent *atomic.Int64) error {
	conn, err := net.Dial("udp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := rand.NewChaCha8([32]byte{9})
	for i := range n {
		bytes := make([]byte, 1+i%2000)
		_, _ = r.Read(bytes)
		if i%2 == 0 {
			bytes = append([]byte("\xf4\x15seatkeeper/seatkeeper"), bytes...)
		}
		_, _ = conn.Write(bytes)
		sent.Add(1)
	}
	return nil
}

// frame is one HTTP/2 frame.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	head = append(head, flags)
	return append(binary.BigEndian.AppendUint32(head, stream), payload...)
}

const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// callHeaders begins a checkout by gRPC: all names are in HPACK's static table, or literal.
var callHeaders = func() []byte {
	path := pb.Seats_Checkout_FullMethodName
	block := append([]byte{0x83, 0x86, 0x04, byte(len(path))}, path...)
	block = append(block, 0x01, 1, 'x', 0x0f, 0x10, 16)
	block = append(block, "application/grpc"...)
	return append(block, "\x00\x02te\x08trailers"...)
}()

// floodFrames sends the frames that next makes until the server hangs up or time is over,
// and reads nothing.
func floodFrames(addr string, next func(i int) []byte) error {
	conn, err := attack(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	w := bufio.NewWriterSize(conn, 16<<10)
	_, _ = w.WriteString(preface)
	_, _ = w.Write(frame(4, 0, 0, nil))
	for i := range 50_000 {
		if _, err := w.Write(next(i)); err != nil {
			return nil // cut off, as it should be, or not taken any more
		}
	}
	return nil
}

// slow opens n connections that begin a request and send its rest drop by drop, and gives
// what ends them.
func slow(t *testing.T, addr string, n int, begin string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var g errgroup.Group
	for range n {
		conn, err := attack(addr)
		if err != nil {
			cancel()
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, begin)
		g.Go(func() error {
			defer conn.Close()
			for {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(500 * time.Millisecond):
					if _, err := conn.Write([]byte("x")); err != nil {
						return nil
					}
				}
			}
		})
	}
	return func() { cancel(); _ = g.Wait() }
}

// gigabyte is a body of 1 GiB that counts how much of it was taken.
type gigabyte struct{ taken atomic.Int64 }

func (g *gigabyte) Read(p []byte) (int, error) {
	if g.taken.Add(int64(len(p))) > 1<<30 {
		return 0, io.EOF
	}
	return len(p), nil
}
