package rpc

import (
	"bytes"
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/soheilhy/cmux"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
	"github.com/seatkeeper/seatkeeper/rpc/proto/wire"
)

// Server serves the API of one node.
type Server struct {
	cfg       Config
	metrics   *metrics
	admission *admission
	known     knownTenants
	peers     *peerConns
	waiters   chan struct{} // one slot per request that waits for seats
	watch     *watch
	pipelines atomic.Int64
	streamed  *semaphore.Weighted // renewals and check-ins of pipelines
	pipes     pipeTimes
	grpc      *grpc.Server
	http      *http.Server
	operator  *operatorService
	diagnosis *diagnosisService
	trusted   atomic.Pointer[[]string] // vendors' verifier keys

	stopOnce sync.Once
	stopping chan struct{} // closed by Shutdown: waiting requests go home

	mu       sync.Mutex
	listener *capListener // nil before Serve
}

// New makes a server; it listens to nothing before Serve. It returns an error if the
// Config is wrong or its metrics are registered already.
func New(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	if err := cfg.Registerer.Register(newPoolMetrics(cfg.Node)); err != nil {
		return nil, err
	}
	if read := cfg.Diagnosis.Certificates; read != nil {
		if err := cfg.Registerer.Register(newCertificateEnds(read)); err != nil {
			return nil, err
		}
	}
	s := &Server{
		cfg:     cfg,
		metrics: m,
		admission: newAdmission(admitLimits{perTenant: cfg.InFlight, shared: cfg.InFlightShared, quiet: cfg.InFlightBesideQuiet,
			strangers: cfg.InFlightStrangers, perClient: cfg.ClientInFlight, total: cfg.MaxInFlight, wait: cfg.AdmitWait}, m),
		known:    knownTenants{node: cfg.Node},
		peers:    newPeerConns(cfg.PeerTLS),
		waiters:  make(chan struct{}, cfg.Waiters),
		watch:    newWatch(cfg.Node),
		streamed: semaphore.NewWeighted(streamedAtOnce),
		pipes:    defaultPipeTimes,
		stopping: make(chan struct{}),
	}
	s.SetTrustedKeys(cfg.TrustedKeys)
	s.grpc = s.newGRPC()
	s.operator = newOperatorService(s)
	pb.RegisterOperatorServer(s.grpc, s.operator) // its calls are streams
	s.diagnosis = newDiagnosisService(s)
	if book := cfg.Diagnosis.Log; book != nil {
		for _, c := range []prometheus.Collector{book.reading, book.dropped} {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	local := newInProcess(s.intercept)
	for _, r := range []grpc.ServiceRegistrar{s.grpc, local} {
		pb.RegisterSeatsServer(r, &seats{s: s})
		pb.RegisterClusterServer(r, &clusterService{s: s})
		pb.RegisterAccessServer(r, &accessService{s: s})
		pb.RegisterBorrowingServer(r, &borrowing{s: s})
		pb.RegisterHistoryServer(r, &historyService{s: s})
		pb.RegisterPoliciesServer(r, &policyService{s: s})
		pb.RegisterQueueServer(r, &queueService{s: s})
		pb.RegisterDiagnosisServer(r, s.diagnosis)
		pb.RegisterMembershipServer(r, &membershipService{s: s})
		pb.RegisterTenantsServer(r, &tenantsService{s: s})
	}
	handler, err := s.newHandler(local)
	if err != nil {
		return nil, err
	}
	s.http = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    MaxHeader,
		ConnContext:       withConn,
		ErrorLog:          log.New(httpLog{cfg.Logger}, "", 0),
	}
	return s, nil
}

// httpLog keeps what net/http says of bad clients out of the log, and a panic in it.
type httpLog struct{ logger hclog.Logger }

func (l httpLog) Write(line []byte) (int, error) {
	if bytes.HasPrefix(line, []byte("http: panic")) {
		l.logger.Error("a request met a bug", "error", string(line))
	} else {
		l.logger.Debug("http", "error", string(bytes.TrimSpace(line)))
	}
	return len(line), nil
}

// SetTrustedKeys replaces Config.TrustedKeys for all licences applied from now on.
func (s *Server) SetTrustedKeys(keys []string) { s.trusted.Store(&keys) }

func (s *Server) newGRPC() *grpc.Server {
	g := grpc.NewServer(
		grpc.ForceServerCodecV2(wire.NewCodec(looksAtStrings)),
		grpc.UnaryInterceptor(s.intercept),
		grpc.StreamInterceptor(s.interceptStream),
		grpc.UnknownServiceHandler(s.unknownMethod),
		grpc.MaxRecvMsgSize(MaxBody),
		grpc.MaxHeaderListSize(MaxHeader),
		grpc.MaxConcurrentStreams(MaxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.ReadBufferSize(readBuffer),
		// Windows that grow cost a ping for each request of a quiet connection, to measure the
		// path, and one wake-up more for its answer.
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		// A goroutine for each call begins with a small stack and copies it twice on the
		// way down to the ledger; these keep theirs. Calls beyond them get one of their own.
		grpc.NumStreamWorkers(streamWorkers),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: grpcIdleTimeout, Time: grpcPing, Timeout: grpcPingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{
			MinTime: grpcMinPing, PermitWithoutStream: true}),
	)
	healthpb.RegisterHealthServer(g, &health{s: s})
	reflection.Register(g)
	return g
}

// Serve takes connections from l until Shutdown, then returns nil. It owns l and
// may be called once.
func (s *Server) Serve(l net.Listener) error {
	capped := newCapListener(l, s.cfg.Connections, s.cfg.TLS, s.metrics)
	s.mu.Lock()
	if s.listener != nil {
		s.mu.Unlock()
		return errors.New("rpc: Serve was called twice")
	}
	s.listener = capped
	s.mu.Unlock()
	select {
	case <-s.stopping:
		return capped.Close()
	default:
	}

	mux := cmux.New(capped)
	mux.SetReadTimeout(sniffTimeout)
	mux.HandleError(func(err error) bool {
		s.cfg.Logger.Debug("connection closed: neither gRPC nor HTTP", "error", err)
		return true
	})
	// The HTTP/2 preface alone decides, not the headers after it: 24 bytes cost no
	// memory, and a client that connects early and calls late is not cut off.
	grpcListener := mux.Match(cmux.HTTP2())
	httpListener := halfClosing{mux.Match(cmux.HTTP1Fast())}
	var doors sync.WaitGroup
	doors.Go(func() { _ = s.grpc.Serve(grpcListener) })
	doors.Go(func() { _ = s.http.Serve(httpListener) })
	err := mux.Serve()
	doors.Wait()
	select {
	case <-s.stopping:
		return nil
	default:
		return err
	}
}

// Shutdown stops taking connections, sends waiting requests home with "not applied",
// lets the others finish until ctx ends, and closes what is left. Its error is ctx's
// when requests were cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() { close(s.stopping) })
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l != nil {
		_ = l.Listener.Close()
	}
	drained := make(chan struct{})
	go func() {
		s.grpc.GracefulStop()
		close(drained)
	}()
	err := s.http.Shutdown(ctx)
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if l != nil {
		l.closeAll() // those that never said what they are, and those cut off
	}
	s.grpc.Stop()
	_ = s.http.Close()
	s.peers.close()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
