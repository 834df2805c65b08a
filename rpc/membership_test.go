package rpc

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func TestAutopilotStateHasConsulsWords(t *testing.T) {
	n := newFakeNode(t)
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n.health = cluster.Autopilot{Healthy: false, FailureTolerance: 1, Leader: n.id, Voters: []string{n.id}, Servers: []cluster.ServerHealth{
		{Peer: cluster.Peer{ID: n.id, Name: "n1", Voter: true, Leader: true, Health: "alive"}, Contact: true, LastTerm: 3, LastIndex: 99, Healthy: true, StableSince: since},
		{Peer: cluster.Peer{ID: "n2-00000002", Name: "n2", Health: "left"}},
	}, Waiting: []cluster.WaitingServer{{ID: "n3-00000003", Why: "because"}}}
	s := startAPI(t, n, nil)
	var state pb.AutopilotStateResponse
	if err := protojson.Unmarshal([]byte(s.get(t, "/v1/operator/autopilot/state").text), &state); err != nil {
		t.Fatal(err)
	}
	if state.Healthy || state.FailureTolerance != 1 || state.Leader != n.id || len(state.Servers) != 2 || len(state.Waiting) != 1 {
		t.Fatalf("state %v", &state)
	}
	if x := state.Servers[0]; x.StableSince != "2026-03-01T12:00:00Z" || x.LastIndex != 99 || x.LastContactMs != 0 || !x.Healthy {
		t.Errorf("the leader is %v", x)
	}
	if x := state.Servers[1]; x.LastContactMs != -1 || x.Status != "left" || x.Healthy {
		t.Errorf("who never answered is %v", x)
	}
}

func TestMembershipRefusalsAreOneLineAndFinal(t *testing.T) {
	n := newFakeNode(t)
	s := startAPI(t, n, nil)
	for path, body := range map[string]string{
		"/v1/operator/add-peer":     `{}`,
		"/v1/operator/replace-peer": `{"old":"n2"}`,
	} {
		if got := s.post(t, path, body); got.status != 400 || !strings.Contains(got.text, "missing") {
			t.Errorf("%s answers %d %s", path, got.status, got.text)
		}
	}
	if got := s.post(t, "/v1/operator/add-peer", `{"id":"n4","address":"h:1"}`); got.status != 200 || !strings.Contains(got.text, "n4@h:1") {
		t.Errorf("add-peer answers %d %s", got.status, got.text)
	}
	if got := s.post(t, "/v1/operator/replace-peer", `{"old":"n2","new":"n4","begun":true}`); got.status != 200 || !strings.Contains(got.text, `"done":true`) {
		t.Errorf("replace-peer answers %d %s", got.status, got.text)
	}
	n.set(func() { n.fail = errors.New("n2 is alive") })
	if got := s.post(t, "/v1/operator/replace-peer", `{"old":"n2","new":"n4"}`); got.status != 400 || !strings.Contains(got.text, "n2 is alive") {
		t.Errorf("a refusal is %d %s", got.status, got.text)
	}
	n.set(func() { n.fail = context.DeadlineExceeded })
	if got := s.post(t, "/v1/operator/replace-peer", `{"old":"n2","new":"n4"}`); got.status != 503 {
		t.Errorf("no answer in time is %d %s", got.status, got.text)
	}
	n.set(func() { n.leading = false })
	if got := s.get(t, "/v1/operator/autopilot/state"); got.status == 200 {
		t.Errorf("a follower answers %s", got.text)
	}
}
