package rpc

import (
	"context"
	"errors"
	"net/http"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/seatkeeper/seatkeeper/lease"
)

// livez says that the process answers; a node without a leader is alive.
func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// readyz says whether calls make sense here: the node knows a leader and has applied
// something of the log.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err := s.notReady(); err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("not ready: " + err.Error() + "\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

func (s *Server) notReady() error {
	select {
	case <-s.stopping:
		return errors.New("the node is stopping")
	default:
	}
	if _, ok := s.cfg.Node.Leader(); !ok {
		return errors.New("no leader is known")
	}
	if s.cfg.Node.ReadStale(func(*lease.Book) {}).AppliedIndex == 0 {
		return errors.New("nothing of the log has been applied yet")
	}
	return nil
}

// sysHealthBody has the names of Vault's /v1/sys/health where they fit.
type sysHealthBody struct {
	Initialized   bool   `json:"initialized"`
	Standby       bool   `json:"standby"`
	Leader        string `json:"leader"`
	LeaderAddress string `json:"leader_address"`
	Node          string `json:"node"`
	ClusterID     string `json:"cluster_id"`
	Version       string `json:"version"`
	ServerTimeUTC int64  `json:"server_time_utc"`
}

// sysHealth answers as load balancers set up for Vault expect: 200 leader, 429
// standby (200 with ?standbyok), 503 no leader.
func (s *Server) sysHealth(w http.ResponseWriter, r *http.Request) {
	node := s.cfg.Node
	st := node.ReadStale(func(*lease.Book) {})
	body := sysHealthBody{Initialized: st.AppliedIndex > 0, Standby: !node.Leading(), Node: node.ID(),
		ClusterID: st.ClusterID, Version: s.cfg.Version, ServerTimeUTC: time.Now().Unix()}
	epoch, known := node.Leader()
	if known {
		body.Leader, body.LeaderAddress = epoch.Node, epoch.APIAddress
	}
	code := http.StatusServiceUnavailable
	switch standbyOK := r.URL.Query()["standbyok"]; {
	case !body.Standby:
		code = http.StatusOK
	case known && len(standbyOK) > 0 && standbyOK[0] != "false":
		code = http.StatusOK
	case known:
		code = http.StatusTooManyRequests
	}
	text, _ := jsonCodec{}.Marshal(body)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text)
}

// health is the standard gRPC health service. Watch is left out: a stream per
// checker costs more than a call, and clients treat its absence as "healthy".
type health struct {
	healthpb.UnimplementedHealthServer
	s *Server
}

func (h *health) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	answer := &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}
	if h.s.notReady() != nil {
		answer.Status = healthpb.HealthCheckResponse_NOT_SERVING
	}
	return answer, nil
}
