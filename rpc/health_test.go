package rpc

import (
	"context"
	"strings"
	"testing"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

func TestHealthInEachState(t *testing.T) {
	tests := []struct {
		name               string
		change             func(*fakeNode)
		ready, sys, relaxd int
		why                string
		grpc               healthpb.HealthCheckResponse_ServingStatus
	}{
		{"leader", func(*fakeNode) {}, 200, 200, 200, "ok", healthpb.HealthCheckResponse_SERVING},
		{"follower", func(n *fakeNode) { n.leading = false }, 200, 429, 200, "ok", healthpb.HealthCheckResponse_SERVING},
		{"no leader", func(n *fakeNode) { n.leading, n.known = false, false }, 503, 503, 503, "no leader", healthpb.HealthCheckResponse_NOT_SERVING},
		{"nothing applied", func(n *fakeNode) { n.leading, n.index = false, 0 }, 503, 429, 200, "applied", healthpb.HealthCheckResponse_NOT_SERVING},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := newFakeNode(t)
			a := startAPI(t, node, nil)
			node.set(func() { tt.change(node) })
			if got := a.get(t, "/livez"); got.status != 200 {
				t.Error("livez", got.status)
			}
			if got := a.get(t, "/readyz"); got.status != tt.ready || !strings.Contains(got.text, tt.why) {
				t.Errorf("readyz %d %q, want %d and %q", got.status, got.text, tt.ready, tt.why)
			}
			got := a.get(t, "/v1/sys/health")
			if got.status != tt.sys || got.str(t, "version") != "test" {
				t.Errorf("sys/health %d %s, want %d", got.status, got.text, tt.sys)
			}
			if got := a.get(t, "/v1/sys/health?standbyok=true"); got.status != tt.relaxd {
				t.Errorf("sys/health?standbyok %d, want %d", got.status, tt.relaxd)
			}
			answer, err := healthpb.NewHealthClient(a.dial(t)).Check(context.Background(), &healthpb.HealthCheckRequest{})
			if err != nil || answer.GetStatus() != tt.grpc {
				t.Errorf("gRPC health %v, %v", answer, err)
			}
		})
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	stream, err := reflectionpb.NewServerReflectionClient(a.dial(t)).ServerReflectionInfo(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	got, err := stream.Recv()
	if err != nil || !strings.Contains(got.String(), "seatkeeper.v1.Seats") {
		t.Error(got, err)
	}
}

func TestMetricsCountRequestsAndRefusals(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	a.checkout(t, "cad", "ann")
	a.post(t, "/v1/checkout", `{"feature":"nope"}`)
	text := a.get(t, "/metrics").text
	for _, line := range []string{
		`seatkeeper_rpc_requests_total{code="OK",method="/seatkeeper.v1.Seats/Checkout"} 1`,
		`seatkeeper_rpc_requests_total{code="NOT_FOUND",method="/seatkeeper.v1.Seats/Checkout"} 1`,
		`seatkeeper_rpc_refused_total{reason="no_feature"} 1`,
		`seatkeeper_rpc_request_seconds_count{method="/seatkeeper.v1.Seats/Checkout"} 2`,
		`seatkeeper_rpc_in_flight 0`,
		`seatkeeper_rpc_connections `,
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in /metrics", line)
		}
	}
}

func TestConfigNamesTheWrongField(t *testing.T) {
	for name, c := range map[string]Config{
		"Node":           {},
		"InFlight":       {Node: newFakeNode(t), InFlight: -1},
		"RequestTimeout": {Node: newFakeNode(t), RequestTimeout: -1},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
