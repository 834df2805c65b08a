//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// The stories are acceptance tests: three server processes with a config file and a
// disk each, spoken to over sockets as users do. Their licence has short profiles, so
// that nobody waits for minutes to see a heartbeat missed.
const (
	storyLifespan  = 3 * time.Second
	storyGrace     = 3 * time.Second
	storyHeartbeat = storyLifespan / lease.HeartbeatFraction
	// storyElection is what one change of leader may cost a lease: the time of the old
	// leader that was not committed (at most a tick) and the election.
	storyElection = 2 * time.Second
)

// reclaimedWithin is the promise for a client that never comes back: the seat of a
// lease with profile p is free so long after its last heartbeat, if one leader is
// lost meanwhile. A machine under load may lose more: each raft term is an election.
func reclaimedWithin(p lease.Profile, terms uint64) time.Duration {
	return p.Lifespan + p.Grace + cluster.DefaultTick + time.Duration(max(1, terms))*storyElection
}

func profileOf(p lease.Profile) string {
	return fmt.Sprintf("lifespan %dms grace %dms", p.Lifespan.Milliseconds(), p.Grace.Milliseconds())
}

var storyProfile = lease.Profile{Lifespan: storyLifespan, Grace: storyGrace}

// patientProfile has the heartbeat of storyProfile and a grace that outlasts what a
// loaded machine may need to reconnect or to start a process.
var patientProfile = lease.Profile{Lifespan: storyLifespan, Grace: 4 * storyGrace}

// seats is a feature of a story's licence.
func seats(name string, count int, p lease.Profile) sampleFeature {
	return sampleFeature{name: name, version: "1.0", count: count, profile: profileOf(p)}
}

// unshared are seats that each session is charged for by itself, so that a lease too
// many shows in the seats in use.
func unshared(name string, count int, p lease.Profile) sampleFeature {
	f := seats(name, count, p)
	f.profile += "\nshare: none"
	return f
}

// story is one cluster of three.
type story struct {
	*devCluster
	t    *testing.T
	conn *conn
}

var storyPorts struct {
	sync.Mutex
	taken map[int]bool
}

// takePorts gives each cluster ports of its own: stories run beside each other.
func takePorts(t *testing.T) int {
	t.Helper()
	storyPorts.Lock()
	defer storyPorts.Unlock()
	if storyPorts.taken == nil {
		storyPorts.taken = map[int]bool{}
	}
	for {
		port, err := freePorts(3)
		if err != nil {
			t.Fatal(err)
		}
		clash := false
		for i := -2; i <= 2; i++ {
			clash = clash || storyPorts.taken[port+i*portsPerNode]
		}
		if !clash {
			storyPorts.taken[port] = true
			return port
		}
	}
}

// startStory starts three servers from three config files and installs the licence.
func startStory(t *testing.T, features ...sampleFeature) *story {
	t.Helper()
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 3, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &story{devCluster: d, t: t}
	t.Cleanup(s.end)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if err := d.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.installLicence(t.Context(), features); err != nil {
		t.Fatal(err)
	}
	if s.conn, err = dialCluster(Client{Addr: d.address()}, callTimeout); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *story) end() {
	if s.conn != nil {
		s.conn.Close()
	}
	if err := s.stop(); err != nil {
		s.t.Error(err)
	}
	if !s.t.Failed() {
		return
	}
	for _, n := range s.nodes {
		log, _ := os.ReadFile(n.logPath())
		var told []string
		for line := range strings.Lines(string(log)) {
			if !strings.Contains(line, "failed to ") { // a dead peer is told of many times
				told = append(told, line)
			}
		}
		s.t.Logf("log of %s:\n%s", n.Name, strings.Join(told[max(0, len(told)-50):], ""))
	}
}

// status is what the leader says.
func (s *story) status(t *testing.T) *pb.StatusResponse {
	t.Helper()
	st, err := s.conn.cluster.Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (s *story) inUse(t *testing.T, feature string) int32 {
	t.Helper()
	return inUse(s.status(t), feature)
}

// waitInUse waits until so many seats are in use.
func (s *story) waitInUse(t *testing.T, feature string, want int32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d seats of %s in use", want, feature), func() error {
		st, err := s.statusNow(t.Context(), s.conn)
		if err != nil {
			return err
		}
		if got := inUse(st, feature); got != want {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// leases lists who holds a feature.
func (s *story) leases(t *testing.T, feature string) []*pb.LeaseEntry {
	t.Helper()
	list, err := s.conn.cluster.Leases(t.Context(), &pb.LeasesRequest{Feature: feature})
	if err != nil {
		t.Fatal(err)
	}
	return list.Leases
}

// cli runs a command against the cluster and returns its output and exit code.
func (s *story) cli(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return run(t, map[string]string{"SEATKEEPER_ADDR": s.address()}, args...)
}

// leader is the node that leads now.
func (s *story) leader(t *testing.T) *devNode {
	t.Helper()
	var n *devNode
	eventually(t, "a leader", func() error {
		st, err := s.statusNow(t.Context(), s.conn)
		if err != nil {
			return err
		}
		if n = s.node(st.Leader); n == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	return n
}

// allAgree waits until all nodes have one state hash at one index.
func (s *story) allAgree(t *testing.T) {
	t.Helper()
	eventually(t, "the same state on all nodes", func() error {
		st, err := s.statusNow(t.Context(), s.conn)
		if err != nil {
			return err
		}
		_, err = sameState(st, len(s.nodes))
		return err
	})
}

// sdk makes a client with one session for a user of its own host. A nil dial is plain
// TCP to the nodes.
func (s *story) sdk(t *testing.T, user string, dial func(context.Context, string) (net.Conn, error), cfg client.SessionConfig) (*client.Client, *client.Session) {
	t.Helper()
	c, err := client.New(client.Config{Addresses: splitList(s.address()), Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Close(ended)
	})
	if cfg.Principal.User == "" {
		cfg.Principal = lease.Principal{User: user, Host: user + "-ws"}
	}
	session, err := c.OpenSession(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, session
}

// take checks one feature out.
func take(t *testing.T, s *client.Session, feature string, count int) *client.Lease {
	t.Helper()
	leases, err := s.Checkout(t.Context(), client.Item{Feature: feature, Count: count})
	if err != nil {
		t.Fatal(err)
	}
	return leases[0]
}

// webSession is a client without the SDK: JSON over HTTP, as a script with curl.
type webSession struct {
	s          *story
	http       *http.Client
	id, secret string
	seq        uint64
	user       string
}

// newWeb makes a session that the cluster does not know yet. A nil dial is plain TCP.
func (s *story) newWeb(t *testing.T, user string, dial func(context.Context, string) (net.Conn, error)) *webSession {
	t.Helper()
	minted, err := (&app{}).openSession(sessionFlags{})
	if err != nil {
		t.Fatal(err)
	}
	w := &webSession{s: s, id: minted.ID, secret: minted.Secret, user: user}
	w.reconnect(t, dial)
	return w
}

// reconnect leaves the old connections as they are and uses new ones.
func (w *webSession) reconnect(t *testing.T, dial func(context.Context, string) (net.Conn, error)) {
	transport := &http.Transport{}
	if dial != nil {
		transport.DialContext = func(ctx context.Context, _, address string) (net.Conn, error) { return dial(ctx, address) }
	}
	t.Cleanup(transport.CloseIdleConnections)
	w.http = &http.Client{Transport: transport}
}

// refusalBody is an error as the JSON API words it.
type refusalBody struct {
	Status       int
	Code         string `json:"code"`
	Message      string `json:"message"`
	Reason       string `json:"reason"`
	Final        bool   `json:"final"`
	RetryAfterMs int    `json:"retry_after_ms"`
}

// post sends a request once, following redirects as curl -L does. A refusal has all
// fields of the one error shape.
func post(ctx context.Context, hc *http.Client, address, path, body string, into proto.Message) (*refusalBody, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl --data does
	resp, err := hc.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return nil, protojson.Unmarshal(data, into)
	}
	r := &refusalBody{Status: resp.StatusCode}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(r); err != nil || r.Reason == "" || r.Message == "" || r.Code == "" {
		return nil, fmt.Errorf("%s %s answers %d in no error shape: %s (%v)", address, path, resp.StatusCode, data, err)
	}
	return r, nil
}

// call is what a careful script does: any node, the same request again until one
// answers with yes or no. It may run beside other goroutines of the test.
func (w *webSession) call(ctx context.Context, path string, req, into proto.Message) (*refusalBody, error) {
	body, err := protojson.Marshal(req)
	if err != nil {
		return nil, err
	}
	var refusal *refusalBody
	try := 0
	err = waitFor(ctx, path, patience, func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		node := w.s.nodes[try%len(w.s.nodes)]
		try++
		refusal, err = post(ctx, w.http, node.API, path, string(body), into)
		if err == nil && refusal != nil {
			switch refusal.Reason {
			case "not_leader", "unknown_outcome", "overloaded":
				return errors.New(refusal.Message)
			}
		}
		return err
	})
	return refusal, err
}

// do is call for requests that are answered.
func (w *webSession) do(t *testing.T, path string, req, into proto.Message) *refusalBody {
	t.Helper()
	refusal, err := w.call(t.Context(), path, req, into)
	if err != nil {
		t.Fatal(err)
	}
	return refusal
}

// checkoutRequest is the next numbered checkout.
func (w *webSession) checkoutRequest(items ...*pb.Item) *pb.CheckoutRequest {
	w.seq++
	return &pb.CheckoutRequest{Items: items, User: w.user, Host: w.user + "-ws", SessionId: w.id, SessionSecret: w.secret, Seq: w.seq}
}

// checkout takes seats of one feature.
func (w *webSession) checkout(t *testing.T, feature string, count int) *pb.Lease {
	t.Helper()
	var answer pb.CheckoutResponse
	if r := w.do(t, "/v1/checkout", w.checkoutRequest(&pb.Item{Feature: feature, Count: int32(count)}), &answer); r != nil {
		t.Fatalf("checkout of %s: %+v", feature, r)
	}
	return answer.Leases[0]
}

func (w *webSession) renew(t *testing.T, held ...*pb.LeaseRef) (*pb.RenewResponse, *refusalBody) {
	t.Helper()
	var answer pb.RenewResponse
	r := w.do(t, "/v1/renew", &pb.RenewRequest{SessionId: w.id, SessionSecret: w.secret, Held: held}, &answer)
	return &answer, r
}

// checkin gives back what refs name, or all.
func (w *webSession) checkin(t *testing.T, refs ...*pb.LeaseRef) (*pb.CheckinResponse, *refusalBody) {
	t.Helper()
	w.seq++
	var answer pb.CheckinResponse
	r := w.do(t, "/v1/checkin", &pb.CheckinRequest{SessionId: w.id, SessionSecret: w.secret, Seq: w.seq, Refs: refs}, &answer)
	return &answer, r
}

// verify asks whether a token still holds its seat.
func (w *webSession) verify(t *testing.T, id, token uint64) bool {
	t.Helper()
	var answer pb.VerifyResponse
	if r := w.do(t, "/v1/verify", &pb.VerifyRequest{LeaseId: id, FencingToken: token}, &answer); r != nil {
		t.Fatalf("verify: %+v", r)
	}
	return answer.Valid
}

// mostInUse polls the cluster without a pause until stop is called, which returns the
// most seats ever seen in use, by feature.
func (s *story) mostInUse(t *testing.T) (stop func() map[string]int32) {
	t.Helper()
	c, err := dialCluster(Client{Addr: s.address()}, callTimeout)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	most, polls, ended := map[string]int32{}, 0, make(chan struct{})
	go func() {
		defer close(ended)
		defer c.Close()
		pace := time.NewTicker(5 * time.Millisecond) // a poll costs the leader a read
		defer pace.Stop()
		for {
			st, err := s.statusNow(ctx, c)
			if err == nil {
				polls++
				for _, p := range st.Pools {
					most[p.Feature] = max(most[p.Feature], p.InUse)
				}
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return sync.OnceValue(func() map[string]int32 {
		cancel()
		<-ended
		t.Logf("%d polls", polls)
		return most
	})
}

// together runs parts of a story beside each other: they mostly wait.
func together(t *testing.T, parts map[string]func(t *testing.T)) {
	t.Helper()
	var wg sync.WaitGroup
	for name, part := range parts {
		wg.Go(func() { t.Run(name, part) })
	}
	wg.Wait()
}

// elapse lets real time pass where the span itself is what a test is about.
func elapse(t *testing.T, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
