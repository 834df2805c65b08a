package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// visit is what was learnt at one API address, step by step. A step that fails ends it.
type visit struct {
	given   string // as the user or a node wrote it
	address string // host:port
	secure  bool
	client  Client
	apart   time.Duration // between the two looks at the clocks

	resolved  []string
	lookupErr error
	dialErr   error
	tls       *tls.ConnectionState
	tlsErr    error // no handshake
	settings  error // our own files
	health    *healthSeen
	healthErr error
	who       *pb.ExamineResponse
	whoErr    error
	took      time.Duration
	first     *clockRead
	second    *clockRead
}

// healthSeen is /v1/sys/health, which needs no token.
type healthSeen struct {
	Node          string `json:"node"`
	ClusterID     string `json:"cluster_id"`
	Version       string `json:"version"`
	Leader        string `json:"leader"`
	LeaderAddress string `json:"leader_address"`
}

// clockRead is one look at a node's clocks: what it said, and when by ours, give or take
// half the round trip.
type clockRead struct {
	wall time.Time
	mono time.Duration
	at   time.Time
	half time.Duration
}

// answered says whether a node spoke to us, whatever it said.
func (v *visit) answered() bool { return v.who != nil || v.health != nil }

// name is what the node is called, or its address.
func (v *visit) name() string {
	if v.who != nil {
		return v.who.Name
	}
	return v.address
}

func (v *visit) pay(ctx context.Context) {
	host, _, _ := net.SplitHostPort(v.address)
	if net.ParseIP(host) == nil {
		lookup, cancel := context.WithTimeout(ctx, lookupBound)
		v.resolved, v.lookupErr = net.DefaultResolver.LookupHost(lookup, host)
		cancel()
		if v.lookupErr != nil {
			return
		}
	}
	if v.connect(ctx); v.dialErr != nil || v.tlsErr != nil || v.settings != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { v.health, v.healthErr = v.askHealth(ctx) })
	v.examine(ctx)
	both.Wait()
}

// connect tries TCP, and then TLS without believing the certificate: what is wrong with it
// is judged later, and said better.
func (v *visit) connect(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, connectBound)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", v.address)
	if v.dialErr = err; err != nil {
		return
	}
	defer conn.Close()
	if !v.secure {
		return
	}
	settings, err := clientTLS(v.client)
	if v.settings = err; err != nil {
		return
	}
	settings.InsecureSkipVerify = true
	settings.NextProtos = []string{"h2"}
	secure := tls.Client(conn, settings)
	if v.tlsErr = secure.HandshakeContext(ctx); v.tlsErr == nil {
		state := secure.ConnectionState()
		v.tls = &state
	}
}

func (v *visit) askHealth(ctx context.Context) (*healthSeen, error) {
	ctx, cancel := context.WithTimeout(ctx, healthBound)
	defer cancel()
	transport := &http.Transport{Proxy: nil, DisableKeepAlives: true}
	scheme := "http"
	if v.secure {
		scheme = "https"
		settings, err := clientTLS(v.client)
		if err != nil {
			return nil, err
		}
		settings.InsecureSkipVerify = true // nothing of ours is sent
		transport.TLSClientConfig = settings
	}
	req, err := http.NewRequestWithContext(ctx, "GET", scheme+"://"+v.address+"/v1/sys/health?standbyok", nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, err
	}
	var h healthSeen
	if err := json.Unmarshal(body, &h); err != nil || h.Node == "" {
		if strings.Contains(string(body), "speaks TLS") || strings.Contains(string(body), "HTTPS server") {
			return nil, errSpeaksTLS
		}
		return nil, errNotOurs
	}
	return &h, nil
}

var (
	errSpeaksTLS = errors.New("it speaks TLS, and was asked in plain text")
	errNotOurs   = errors.New("what answers there is no Seatkeeper node")
)

// examine asks the node to examine itself, and looks at its clocks twice.
func (v *visit) examine(ctx context.Context) {
	link, err := linkNode(v.client, v.given)
	if err != nil {
		v.whoErr = err
		return
	}
	defer link.close()
	api := pb.NewDiagnosisClient(link.cc)
	v.first = readClock(link.with(ctx), api)
	apart := time.NewTimer(v.apart)
	defer apart.Stop()
	start := time.Now()
	bounded, cancel := context.WithTimeout(link.with(ctx), examineBound)
	v.who, v.whoErr = api.Examine(bounded, &pb.ExamineRequest{Probe: true})
	cancel()
	v.took = time.Since(start)
	if v.first == nil || v.whoErr != nil {
		return
	}
	select {
	case <-apart.C:
		v.second = readClock(link.with(ctx), api)
	case <-ctx.Done():
	}
}

// readClock reads the clocks a few times; the quickest answer is the most exact.
func readClock(ctx context.Context, api pb.DiagnosisClient) (best *clockRead) {
	ctx, cancel := context.WithTimeout(ctx, clockBound)
	defer cancel()
	for range clockReads {
		before := time.Now()
		c, err := api.Clock(ctx, &pb.ClockRequest{})
		if err != nil {
			return best
		}
		half := time.Since(before) / 2
		if best == nil || half < best.half {
			best = &clockRead{wall: time.Unix(0, c.WallNs), mono: time.Duration(c.MonoNs), at: before.Add(half), half: half}
		}
	}
	return best
}

// offset is how far the node's calendar is ahead of ours, and how sure that is.
func (c *clockRead) offset() (ahead, give time.Duration) { return c.wall.Sub(c.at.Round(0)), c.half }

// rate is how fast the node's lease clock runs against ours (1 is the same), and how sure
// that is.
func (v *visit) rate() (rate, give float64, ok bool) {
	if v.first == nil || v.second == nil {
		return 0, 0, false
	}
	ours := v.second.at.Sub(v.first.at)
	if ours < v.apart/2 {
		return 0, 0, false
	}
	theirs := v.second.mono - v.first.mono
	return theirs.Seconds() / ours.Seconds(), (v.first.half + v.second.half).Seconds() / ours.Seconds(), true
}

// refusedHow says how an address does not answer, and what to do about it.
func refusedHow(v *visit) (what, do string) {
	host, port, _ := net.SplitHostPort(v.address)
	var timeout net.Error
	switch err := v.dialErr; {
	case strings.Contains(err.Error(), "refused"):
		return fmt.Sprintf("nothing listens at %s (connection refused)", v.address),
			fmt.Sprintf("on that host: systemctl status seatkeeper, then seatkeeper doctor --config FILE; if it runs there, api.bind is probably 127.0.0.1 or another port than %s", port)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer from %s within %s", v.address, connectBound),
			fmt.Sprintf("is the host %s up, and does a firewall drop TCP %s on the way?", host, port)
	}
	return fmt.Sprintf("%s cannot be reached: %v", v.address, v.dialErr), "check the address and the route to it"
}
