package rpc

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// startPair starts a leader and a follower that knows it.
func startPair(t *testing.T) (leader, follower *api) {
	t.Helper()
	leader = startAPI(t, newFakeNode(t), nil)
	node := newFakeNode(t)
	node.id, node.leading = "n2-00000002", false
	node.epoch = leader.node.epoch
	peers := []cluster.Peer{
		{ID: leader.node.id, Name: "n1", APIAddress: leader.addr, Voter: true, Leader: true},
		{ID: node.id, Name: "n2", Voter: true},
	}
	node.peers = peers
	follower = startAPI(t, node, nil)
	leader.node.set(func() { leader.node.peers = follower.node.peers })
	return leader, follower
}

func TestFollowerRedirectsJSONWith307(t *testing.T) {
	leader, follower := startPair(t)
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, "/v1/checkout", `{"feature":"cad","user":"ann"}`},
		{http.MethodGet, "/v1/status", ""},
		{http.MethodGet, "/v1/leases?feature=cad&page_size=5", ""},
		{http.MethodPost, "/v1/kill", `{"user":"nobody"}`},
		{http.MethodPost, "/v1/operator/transfer-leader", `{}`},
	} {
		got := follower.call(t, c.method, c.path, c.body)
		wantRefusal(t, got, http.StatusTemporaryRedirect, NotLeader, leader.addr)
		if to := got.header.Get("Location"); to != "http://"+leader.addr+c.path {
			t.Errorf("Location %q", to)
		}
		if name := got.header.Get("X-Seatkeeper-Leader"); name != leader.node.id {
			t.Errorf("X-Seatkeeper-Leader %q", name)
		}
		follow := noRedirect(t)
		follow.CheckRedirect = nil // curl -L
		if got := callWith(t, follow, c.method, "http://"+follower.addr+c.path, c.body); got.status != 200 {
			t.Errorf("%s followed: %d %s", c.path, got.status, got.text)
		}
	}
}

func TestFollowerGivesGRPCTheTypedLeader(t *testing.T) {
	leader, follower := startPair(t)
	_, err := pb.NewSeatsClient(follower.dial(t)).Checkout(context.Background(), &pb.CheckoutRequest{Feature: "cad"})
	if status.Code(err) != codes.Unavailable {
		t.Fatal(err)
	}
	problem, to := details(status.Convert(err))
	if to.GetLeaderAddress() != leader.addr || to.GetEpoch() != 2 || to.GetLeader() != leader.node.id {
		t.Errorf("NotLeader %v", to)
	}
	if problem.GetReason() != string(NotLeader) {
		t.Errorf("Problem %v", problem)
	}
}

func TestNoLeaderIs503WithRetryAfter(t *testing.T) {
	_, follower := startPair(t)
	follower.node.set(func() { follower.node.known = false })
	got := follower.post(t, "/v1/checkout", `{"feature":"cad"}`)
	wantRefusal(t, got, http.StatusServiceUnavailable, NotLeader)
	if got.header.Get("Retry-After") != "1" || got.header.Get("Location") != "" {
		t.Errorf("headers %v", got.header)
	}
	got = follower.post(t, "/v1/checkout", `{"feature":"cad"}`, "X-Seatkeeper-Forward", "1")
	wantRefusal(t, got, http.StatusServiceUnavailable, NotLeader)
}

func TestFollowerAnswersStaleReads(t *testing.T) {
	leader, follower := startPair(t)
	for _, path := range []string{"/v1/status?stale", "/v1/status?stale=true", "/v1/leases?stale=true", "/v1/status/leader", "/v1/status/peers"} {
		if got := follower.get(t, path); got.status != 200 {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	if got := follower.get(t, "/v1/status/leader"); got.str(t, "address") != leader.addr {
		t.Error(got.text)
	}
}

func TestForwardHeaderIsAnsweredInPlace(t *testing.T) {
	leader, follower := startPair(t)
	got := follower.post(t, "/v1/checkout", `{"feature":"cad","user":"ann"}`, "X-Seatkeeper-Forward", "1")
	if got.status != 200 || got.str(t, "leases", 0, "feature") != "cad" {
		t.Fatal(got.status, got.text)
	}
	if n := leader.node.commands(); n != 2 {
		t.Errorf("the leader carried out %d commands, want the licence and the checkout", n)
	}
	got = follower.post(t, "/v1/checkout", `{"feature":"nope"}`, "X-Seatkeeper-Forward", "1")
	wantRefusal(t, got, 404, lease.NoFeature)

	ctx := metadata.AppendToOutgoingContext(context.Background(), forwardKey, "1")
	answer, err := pb.NewSeatsClient(follower.dial(t)).Checkout(ctx, &pb.CheckoutRequest{Feature: "cad"})
	if err != nil || len(answer.GetLeases()) != 1 {
		t.Error(answer, err)
	}
}

func TestForwardIsOneHopOnly(t *testing.T) {
	first, second := startPair(t)
	// Both think the other leads.
	first.node.set(func() {
		first.node.leading = false
		first.node.epoch.Node, first.node.epoch.APIAddress = second.node.id, second.addr
	})
	got := second.post(t, "/v1/checkout", `{"feature":"cad"}`, "X-Seatkeeper-Forward", "1")
	if got.status != http.StatusTemporaryRedirect || got.body["reason"] != string(NotLeader) {
		t.Fatal(got.status, got.text)
	}
	if n := requestsTo(t, second, "Checkout"); n != 1 {
		t.Errorf("the call came back: %d calls to the node that was asked once", n)
	}
	ctx := metadata.AppendToOutgoingContext(context.Background(), forwardKey, "1", hopKey, "1")
	_, err := pb.NewSeatsClient(second.dial(t)).Checkout(ctx, &pb.CheckoutRequest{Feature: "cad"})
	if status.Code(err) != codes.Unavailable || requestsTo(t, first, "Checkout") != 1 {
		t.Error("a call that has made its hop is forwarded:", err)
	}
}

func TestForwardToADeadLeaderIsNotApplied(t *testing.T) {
	_, follower := startPair(t)
	follower.node.set(func() { follower.node.epoch.APIAddress = "127.0.0.1:1" })
	got := follower.post(t, "/v1/checkout", `{"feature":"cad"}`, "X-Seatkeeper-Forward", "1")
	wantRefusal(t, got, http.StatusServiceUnavailable, NotLeader, "not applied")
}

func TestStatusGathersNodesAndBoundsTheWait(t *testing.T) {
	leader, follower := startPair(t)
	leader.node.set(func() {
		leader.node.peers = append(leader.node.peers,
			cluster.Peer{ID: "n3-00000003", Name: "n3", APIAddress: "127.0.0.1:1", Voter: true},
			cluster.Peer{ID: "n4-00000004", Name: "n4"})
	})
	start := time.Now()
	got := leader.get(t, "/v1/status")
	if took := time.Since(start); took > 4*peerStatusBound {
		t.Errorf("a dead node held the answer up for %s", took)
	}
	roles := map[string]string{}
	for i := range got.body["nodes"].([]any) {
		roles[got.str(t, "nodes", i, "id")] = got.str(t, "nodes", i, "role")
	}
	want := map[string]string{leader.node.id: "leader", follower.node.id: "follower",
		"n3-00000003": "unreachable", "n4-00000004": "unreachable"}
	for id, role := range want {
		if roles[id] != role {
			t.Errorf("%s is %q, want %q", id, roles[id], role)
		}
	}
	if len(got.str(t, "nodes", 1, "state_hash")) != 64 {
		t.Error("the follower's hash is missing:", got.text)
	}
}

func TestTransferLeadershipChecksTheSuccessor(t *testing.T) {
	leader, follower := startPair(t)
	post := func(body string) answer { return leader.post(t, "/v1/operator/transfer-leader", body) }
	wantRefusal(t, post(`{"to":"n9"}`), 400, lease.Invalid, "n9")
	wantRefusal(t, post(`{"to":"n1"}`), 400, lease.Invalid, "already")
	if got := post(`{"to":"n2"}`); got.status != 200 || got.str(t, "leader") != follower.node.id {
		t.Error(got.status, got.text)
	}
	if leader.node.moved != "to "+follower.node.id {
		t.Error(leader.node.moved)
	}
}

func TestRemovePeerTakesOnlyWhatIsGone(t *testing.T) {
	leader, follower := startPair(t)
	post := func(body string) answer { return leader.post(t, "/v1/operator/remove-peer", body) }
	gone := []cluster.Peer{{ID: "n3-1", Name: "n3", Health: "failed"}, {ID: "n4-1", Name: "n4", Health: "failed"}, {ID: "n4-2", Name: "n4", Health: "unknown"}}
	leader.node.set(func() {
		for i := range leader.node.peers {
			leader.node.peers[i].Health = "alive"
		}
		leader.node.peers = append(leader.node.peers, gone...)
	})
	wantRefusal(t, post(`{}`), 400, lease.Invalid, "missing")
	wantRefusal(t, post(`{"id":"n9"}`), 400, lease.Invalid, "n9")
	wantRefusal(t, post(`{"id":"n1"}`), 400, lease.Invalid, "leads")
	wantRefusal(t, post(`{"id":"n2"}`), 400, lease.Invalid, "alive")
	wantRefusal(t, post(`{"id":"n4"}`), 400, lease.Invalid, "two members")
	for _, id := range []string{"n3", "n4-2"} {
		if got := post(fmt.Sprintf(`{"id":%q}`, id)); got.status != 200 || !strings.HasPrefix(leader.node.removed, id) {
			t.Error(got.status, got.text, leader.node.removed)
		}
	}
	if got := follower.post(t, "/v1/operator/remove-peer", `{"id":"n3"}`); got.status != 307 {
		t.Error("on a follower:", got.status, got.text)
	}
}
