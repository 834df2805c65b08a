//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// memory is what a node has taken of the system for itself, in MiB: it never shrinks, and what
// the race detector takes beside it does not count.
func memory(t *testing.T, n *devNode) int {
	t.Helper()
	resp, err := http.Get("http://" + n.API + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := strconv.ParseFloat(strings.TrimSpace(between(string(text), "\ngo_memstats_sys_bytes ", "\n")), 64)
	if err != nil {
		t.Fatal(err)
	}
	return int(taken) >> 20
}

// floodMemory bounds the memory that all floods together may cost a node: what its caps
// allow (128 strangers and 64 gossip streams of 256 KiB, the buffers of some 2,000 API connections at
// 50 KiB with a request of theirs, 16 bodies of 1 MiB) and as much again for the garbage
// collector, in MiB.
const floodMemory = 256

// quiet is a client that goes on all the while; whoever refuses it, fails the test.
func (s *story) quiet(t *testing.T) (stop func() (cycles int, slowest time.Duration)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var cycles int
	var slowest time.Duration
	go func() {
		defer close(ended)
		w := s.newWeb(t, "quiet", nil)
		for try := 0; ctx.Err() == nil; {
			begun := time.Now()
			var held pb.CheckoutResponse
			ask := fmt.Sprintf(`{"feature":"cad","user":"quiet","host":"ws-%d"}`, cycles+try) // whose answer was lost, holds a seat still
			refusal, err := post(ctx, w.http, s.nodes[try%3].API, "/v1/checkout", ask, &held)
			if ctx.Err() != nil {
				return
			}
			if err != nil || refusal != nil && (refusal.Reason == "not_leader" || refusal.Reason == "unknown_outcome") {
				try++ // a busy machine changes its leader
				continue
			}
			if refusal != nil {
				t.Errorf("the quiet client is refused: %+v", refusal)
				return
			}
			body := fmt.Sprintf(`{"session_id":%q,"session_secret":%q}`, held.Session.Id, held.Session.Secret)
			if refusal, err := post(ctx, w.http, s.nodes[try%3].API, "/v1/checkin", body, &pb.CheckinResponse{}); refusal != nil && refusal.Reason == "overloaded" {
				t.Errorf("the quiet client may not give back: %+v %v", refusal, err)
			}
			cycles++
			slowest = max(slowest, time.Since(begun))
		}
	}()
	return func() (int, time.Duration) {
		cancel()
		<-ended
		return cycles, slowest
	}
}

// Everything at once at the node that leads: a hundred thousand malformed requests, floods of
// connections, frames and packets, slow senders and bodies of a gigabyte.
func TestFloodsOfEveryPortCostBoundedMemoryAndNobodyElseATurn(t *testing.T) {
	inFull(t)
	s := startStory(t, seats("cad", 100, longProfile))
	target := s.leader(t)
	before := memory(t, target)
	stop := s.quiet(t)
	stopSlow := []func(){
		slow(t, target.API, 200, "POST /v1/checkout HTTP/1.1\r\nHost: x\r\nX-Slow: "),
		slow(t, target.API, 200, "POST /v1/checkout HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n{"),
		slow(t, target.API, 200, preface[:20]),
		slow(t, target.API, 100, "\x16\x03\x01\x02"),
		slow(t, target.Raft, 150, "seatkeeper-raft 1 "),
		slow(t, target.Gossip, 80, "\xf4"),
	}
	var sent atomic.Int64
	var g errgroup.Group
	flood := func(what string, f func() error) {
		g.Go(func() error {
			if err := f(); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			return nil
		})
	}
	for range 4 {
		flood("JSON", func() error { return floodJSON(target.API, 15_000, &sent) })
		flood("gRPC", func() error { return floodGRPC(target.API, 5_000, &sent) })
	}
	for what, addr := range map[string]string{"API": target.API, "Raft": target.Raft, "gossip": target.Gossip} {
		flood("garbage to "+what, func() error { return floodRaw(addr, 700, &sent) })
	}
	flood("packets", func() error { return floodPackets(target.Gossip, 20_000, &sent) })
	reset := frame(3, 0, 0, []byte{0, 0, 0, 8})
	for what, next := range map[string]func(i int) []byte{
		"pings":    func(int) []byte { return frame(6, 0, 0, make([]byte, 8)) },
		"settings": func(int) []byte { return frame(4, 0, 0, nil) },
		"rapid resets": func(i int) []byte {
			id := uint32(2*i + 1)
			reset := append([]byte{}, reset...)
			reset[5], reset[6], reset[7], reset[8] = byte(id>>24), byte(id>>16), byte(id>>8), byte(id)
			return append(frame(1, 4, id, callHeaders), reset...)
		},
		"streams without end": func(i int) []byte { return frame(1, 4, uint32(2*i+1), callHeaders) },
		"headers without end": func(i int) []byte { return frame(9, 0, 1, make([]byte, 1000)) },
	} {
		for range 3 {
			flood(what, func() error { return floodFrames(target.API, next) })
		}
	}
	for range 4 {
		flood("a gigabyte", func() error { return sendGigabyte(t.Context(), target.API) })
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	for _, stop := range stopSlow {
		stop()
	}
	cycles, slowest := stop()
	peak := memory(t, target)
	t.Logf("%d malformed requests; %d MiB before, %d MiB at most; the quiet client made %d rounds, the slowest took %s", sent.Load(), before, peak, cycles, slowest)
	if n := sent.Load(); n < 100_000 {
		t.Errorf("%d malformed requests were sent, want 100,000", n)
	}
	if peak-before > floodMemory {
		t.Errorf("the floods cost %d MiB, want at most %d", peak-before, floodMemory)
	}
	if cycles < 5 || slowest > 15*time.Second {
		t.Errorf("the quiet client made %d rounds, the slowest took %s", cycles, slowest)
	}
	s.checkout(t, "cad", "after", "ws1")
	s.allAgree(t)
}

// sendGigabyte sends a chunked body of a gigabyte, which must be refused early.
func sendGigabyte(ctx context.Context, addr string) error {
	body := &gigabyte{}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/v1/checkout", body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			return fmt.Errorf("answered %s", resp.Status)
		}
	}
	if n := body.taken.Load(); n > 64<<20 {
		return fmt.Errorf("%d bytes were taken (%v)", n, err)
	}
	return nil
}
