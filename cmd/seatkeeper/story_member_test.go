//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// newNode is a machine that the cluster does not know yet: a config with a name and
// addresses of its own and an empty data directory.
func (s *story) newNode(t *testing.T, name string) *devNode {
	t.Helper()
	address := func(p int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p)) }
	p, old := takePorts(t), s.nodes[0]
	n := &devNode{Name: name, API: address(p), Raft: address(p + 1), Gossip: address(p + 2),
		Dir: filepath.Join(s.dir, name), Config: filepath.Join(s.dir, name+".yaml"), binary: old.binary}
	var kept [2]string
	for i, file := range []string{"cluster.name", "gossip.key"} {
		data, err := os.ReadFile(filepath.Join(s.dir, file))
		if err != nil {
			t.Fatal(err)
		}
		kept[i] = strings.TrimSpace(string(data))
	}
	if err := s.writeNodeConfig(n, kept[0], kept[1]); err != nil {
		t.Fatal(err)
	}
	if err := n.start(); err != nil {
		t.Fatal(err)
	}
	s.nodes = append(s.nodes, n)
	return n
}

// autopilot is what autopilot state says.
func (s *story) autopilot(t *testing.T) *pb.AutopilotStateResponse {
	t.Helper()
	code, stdout, stderr := s.cli(t, "operator", "autopilot", "state", "-o", "json")
	if code != exitOK {
		t.Fatalf("autopilot state: %d, %s", code, stderr)
	}
	var state pb.AutopilotStateResponse
	mustJSON(t, stdout, &state)
	return &state
}

// idOf is the server id of the member with this name that is as dead or alive as asked.
func idOf(state *pb.AutopilotStateResponse, name string) string {
	for _, x := range state.Servers {
		if x.Name == name {
			return x.Id
		}
	}
	return ""
}

// A node is lost while clients work, shows in autopilot state, and a new machine takes its
// place with one command. Nobody loses a seat, and no more are given than there are.
func TestLostNodeIsReplacedUnderClients(t *testing.T) {
	inFull(t)
	t.Parallel()
	const total = 4
	s := startStory(t, unshared("cad", total, patientProfile))
	_, holder := s.sdk(t, "holder", nil, client.SessionConfig{})
	held := take(t, holder, "cad", 1)
	most := s.mostInUse(t)
	var workers sync.WaitGroup
	ended := make(chan struct{})
	known := *s.devCluster // to scripts: they are told of no new node
	known.nodes = slices.Clone(s.nodes)
	for i := range 3 { // they go through seats for as long as this takes
		web := s.newWeb(t, fmt.Sprintf("worker%d", i), nil)
		web.s = &story{devCluster: &known, t: t}
		workers.Go(func() {
			for !isClosed(ended) {
				var got pb.CheckoutResponse
				if r, err := web.call(t.Context(), "/v1/checkout", web.checkoutRequest(&pb.Item{Feature: "cad", Count: 1}), &got); err != nil || r != nil {
					t.Errorf("%s: %+v %v", web.user, r, err)
					return
				}
				web.seq++
				var back pb.CheckinResponse
				if r, err := web.call(t.Context(), "/v1/checkin", &pb.CheckinRequest{SessionId: web.id, SessionSecret: web.secret, Seq: web.seq}, &back); err != nil || r != nil {
					t.Errorf("%s: %+v %v", web.user, r, err)
					return
				}
			}
		})
	}
	leader := s.leader(t)
	lost := s.nodes[0]
	if lost == leader {
		lost = s.nodes[1]
	}
	id := idOf(s.autopilot(t), lost.Name)
	lost.kill()
	eventually(t, "autopilot shows the loss", func() error {
		state := s.autopilot(t)
		if state.Healthy || state.FailureTolerance != 0 || len(state.Servers) != 3 {
			return fmt.Errorf("%v", state)
		}
		for _, x := range state.Servers {
			if x.Id == id && (x.Healthy || x.Status != "failed") {
				return fmt.Errorf("the lost one is %v", x)
			}
		}
		return nil
	})
	s.replace(t, lost, id, "node-4")

	// Moving to a new machine is the same, with an orderly stop, for the leader too.
	old := s.leader(t)
	id = idOf(s.autopilot(t), old.Name)
	old.signal(syscall.SIGTERM)
	<-old.exited
	fresh := s.replace(t, old, id, "node-5")
	if code, stdout, _ := s.cli(t, "operator", "autopilot", "state"); code != exitOK || !strings.Contains(stdout, "Failure Tolerance: 1") {
		t.Errorf("as a table: %s", stdout)
	}
	if code, stdout, _ := s.cli(t, "__complete", "operator", "raft", "remove-peer", ""); code != exitOK || !strings.Contains(stdout, idOf(s.autopilot(t), fresh.Name)+"\t") {
		t.Errorf("a shell completes %s", stdout)
	}
	close(ended)
	workers.Wait()
	if !held.Valid() {
		t.Errorf("the holder lost its seat: %s", held.Reason())
	}
	if got := most()["cad"]; got > total {
		t.Errorf("%d seats of %d were in use", got, total)
	}
	s.allAgree(t)
}

// replace puts a new node in the place of one that has stopped, and waits until all are
// healthy.
func (s *story) replace(t *testing.T, old *devNode, id, name string) *devNode {
	t.Helper()
	fresh := s.newNode(t, name)
	eventually(t, name+" replaces "+old.Name, func() error {
		if code, stdout, stderr := s.cli(t, "operator", "raft", "replace-peer", old.Name, name); code != exitOK || !strings.Contains(stdout, "votes in place of "+id) {
			return errors.New(stderr + stdout)
		}
		return nil
	})
	s.nodes = slices.DeleteFunc(s.nodes, func(n *devNode) bool { return n == old })
	eventually(t, "three healthy voters", func() error {
		if state := s.autopilot(t); !state.Healthy || state.FailureTolerance != 1 || len(state.Voters) != 3 || idOf(state, name) == "" {
			return fmt.Errorf("%v", state)
		}
		return nil
	})
	return fresh
}

// recoverNode runs operator recover on a node's config.
func recoverNode(t *testing.T, n *devNode, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return run(t, nil, append([]string{"operator", "recover", "--config", n.Config}, args...)...)
}

// Two of three are lost for good, and with them a checkout that the third never heard of.
// It is recovered and goes on alone: who held that seat is alone with it until it has run
// out. An old node that comes back ends itself; emptied, it joins.
func TestLostQuorumIsRecoveredAndNoSeatIsIssuedTwice(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, unshared("cad", 2, storyProfile))
	early := s.newWeb(t, "early", nil)
	earlyLease := early.checkout(t, "cad", 1)
	s.allAgree(t)
	leader := s.leader(t)
	left := s.nodes[0]
	if left == leader {
		left = s.nodes[1]
	}
	var others []*devNode
	for _, n := range s.nodes {
		if n != left {
			others = append(others, n)
		}
	}
	if code, _, stderr := recoverNode(t, left, "--yes"); code != exitError1 || !strings.Contains(stderr, "stop the server first") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("while the server runs: %d, %s", code, stderr)
	}
	left.signal(syscall.SIGSTOP) // and never goes on: what is acknowledged from now on it does not hear of
	_, late := s.sdk(t, "late", nil, client.SessionConfig{})
	lateLease := take(t, late, "cad", 1)
	for _, n := range others {
		n.kill()
	}
	left.kill()
	if code, _, stderr := recoverNode(t, left); code != exitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("without a word of consent: %d, %s", code, stderr)
	}
	code, stdout, stderr := recoverNode(t, left, "--dry-run", "-o", "json")
	var plan cluster.RecoveryPlan
	if err := json.Unmarshal([]byte(stdout), &plan); code != exitOK || err != nil {
		t.Fatalf("dry run: %d, %v, %s", code, err, stderr)
	}
	if plan.Sessions != 1 || plan.Leases != 1 || len(plan.Members) != 3 || plan.LastIndex == 0 || plan.FenceMs < 240_000 {
		t.Errorf("dry run shows %+v", plan)
	}
	fence := storyProfile.Lifespan + storyProfile.Grace
	code, stdout, stderr = recoverNode(t, left, "--yes", "--fence", fence.String())
	if code != exitOK || !strings.Contains(stdout, "only voter") {
		t.Fatalf("recover: %d, %s%s", code, stdout, stderr)
	}
	if err := left.start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.nodes = []*devNode{left}
	eventually(t, "it leads alone", func() error {
		st, err := s.statusNow(t.Context(), s.conn)
		if err == nil && (s.node(st.Leader) != left || len(st.Nodes) != 1) {
			err = fmt.Errorf("%v", st)
		}
		return err
	})
	if got := s.leases(t, "cad"); len(got) != 1 || got[0].Id != earlyLease.Id || got[0].FencingToken != earlyLease.FencingToken {
		t.Errorf("it knows of %v", got)
	}
	// The ledger shows the late one's seat as free, and nobody may get it.
	if code, _, stderr := s.cli(t, "checkout", "cad", "--user", "third"); code != exitNoSeat || !strings.Contains(stderr, "recovered without its majority") {
		t.Errorf("checkout within the fence: %d, %s", code, stderr)
	}
	old := others[0]
	s.returnsOld(t, old)

	third := s.newWeb(t, "third", nil)
	got := third.checkout(t, "cad", 1)
	if waited := time.Since(began); waited < fence {
		t.Errorf("a seat was given %v after the recovery", waited)
	}
	if lateLease.Valid() {
		t.Error("the late one believes in a seat that somebody else has")
	}
	if got.FencingToken <= uint64(lateLease.Token()) || got.FencingToken <= earlyLease.FencingToken {
		t.Errorf("token %d after %d and %d", got.FencingToken, lateLease.Token(), earlyLease.FencingToken)
	}
	if third.verify(t, uint64(lateLease.Ref().ID), uint64(lateLease.Token())) {
		t.Error("the token of a lost lease is good")
	}
	if err := os.RemoveAll(old.Dir); err != nil {
		t.Fatal(err)
	}
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	s.nodes = append(s.nodes, old)
	eventually(t, "emptied, it joins and votes", func() error {
		if state := s.autopilot(t); len(state.Voters) != 2 {
			return fmt.Errorf("%v", state)
		}
		return nil
	})
	s.allAgree(t)
}

// returnsOld starts a lost node with the data it had: it must end itself with one line
// that says what to do, and take part in nothing.
func (s *story) returnsOld(t *testing.T, old *devNode) {
	t.Helper()
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-old.exited:
	case <-time.After(patience):
		t.Fatal("an old node runs on")
	}
	if last := old.lastLog(); !strings.Contains(last, "recovered without this node") || !strings.Contains(last, "start with an empty one") {
		t.Errorf("it says %q", last)
	}
	if state := s.autopilot(t); len(state.Servers) != 1 {
		t.Errorf("it was taken in: %v", state)
	}
}
