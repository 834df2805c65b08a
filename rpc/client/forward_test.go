package client

import (
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestForwardedClientStaysWithTheAddressItHas(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "node-1.inside:7800", "node-2.inside:7800")
		n := f.addNode(t, "balancer:7800")
		f.leader, f.streams.offered = "balancer:7800", true // it answers for the leader, as a node that forwards does
		cfg := f.config("balancer:7800")
		cfg.Forward = true
		_, s := f.open(t, cfg, SessionConfig{})
		for _, feature := range []string{"cad", "mesh"} {
			take(t, s, feature)
		}
		// Long enough for heartbeats, and for the list of members to be asked for.
		time.Sleep(5 * time.Minute)
		for name, node := range f.nodes {
			if node != n && node.dials > 0 {
				t.Errorf("%s was dialled", name)
			}
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if calls := strings.Join(f.calls, " "); strings.Contains(calls, "peers") || !strings.Contains(calls, "renew") || f.streams.tried > 0 {
			t.Errorf("calls: %s; %d streams", calls, f.streams.tried)
		}
		if f.forwards == 0 || f.forwards != len(f.calls) {
			t.Errorf("%d of %d calls ask to be forwarded", f.forwards, len(f.calls))
		}
	})
}

func TestForwardedClientDoesNotFollowTheLeadersAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t, "node-1.inside:7800")
		f.addNode(t, "balancer:7800")
		f.peers = []string{"node-1.inside:7800", "balancer:7800"}
		cfg := f.config("balancer:7800")
		cfg.Forward, cfg.CallTimeout = true, 3*time.Second
		_, s := f.open(t, cfg, SessionConfig{})
		if _, err := s.Checkout(t.Context(), Item{Feature: "cad"}); !reasonIs(err, NotLeader) && !reasonIs(err, lease.Reason(Unreachable)) {
			t.Errorf("a node that cannot forward: %v", err)
		}
		if f.nodes["node-1.inside:7800"].dials > 0 {
			t.Error("it went to the leader's address")
		}
	})
}
