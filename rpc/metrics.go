package rpc

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

type metrics struct {
	methods            sync.Map // of *methodMetrics by name
	requests           *prometheus.CounterVec
	refused            *prometheus.CounterVec
	seconds            *prometheus.HistogramVec
	inFlight           prometheus.Gauge
	waiting            prometheus.Gauge
	connections        prometheus.Gauge
	connectionsRefused prometheus.Counter
	handshakesFailed   prometheus.Counter
	bugs               prometheus.Counter
	renewed            prometheus.Counter
	streams            prometheus.Gauge
	slowStreams        prometheus.Counter
	turnedAway         *prometheus.CounterVec
	lined              [classes]prometheus.Gauge
	held               prometheus.Gauge
	tenants            prometheus.Gauge
	strangers          prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns, sub = "seatkeeper", "rpc"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "requests_total", Help: "API calls answered, by method and gRPC code; those on a pipeline count as the calls they stand for."}, []string{"method", "code"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "refused_total", Help: "API calls refused, by reason."}, []string{"reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub,
			Name: "request_seconds", Help: "Time to answer an API call, its wait for seats included.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}}, []string{"method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "in_flight", Help: "API calls being worked on or waiting."}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "waiting", Help: "Checkouts that wait for seats."}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "connections", Help: "Open connections."}),
		connectionsRefused: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "connections_refused_total", Help: "Connections closed at once because too many were open."}),
		handshakesFailed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "tls_handshakes_failed_total", Help: "Connections closed because TLS was not agreed on: plain text, no certificate or a wrong one."}),
		bugs: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "bugs_total", Help: "API calls that met a bug of the server; the log has each."}),
		renewed: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "heartbeats_total", Help: "Sessions whose heartbeat was replicated, one by one, streamed or in batches."}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "pipelines", Help: "Open pipelines."}),
		slowStreams: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "pipelines_slow_total", Help: "Pipelines ended because their answers were not read."}),
		turnedAway: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "overloaded_total", Help: "API calls refused for want of room, by class (keep, ask, read) and by the limit reached (tenant, strangers, client, connection, node, held)."},
			[]string{"class", "limit"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "held", Help: "API calls held back because their client came again sooner than it was asked to."}),
		tenants: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
			Name: "active_tenants", Help: "Tenants that asked within the last second or two; with more than one, each has less in flight."}),
		strangers: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "strangers_total", Help: "API calls for tenants without a licence or a token, which share the room of one."}),
	}
	lined := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub,
		Name: "queued", Help: "API calls waiting for room, by class."}, []string{"class"})
	for c, name := range classNames {
		m.lined[c] = lined.WithLabelValues(name)
	}
	for _, c := range []prometheus.Collector{m.requests, m.refused, m.seconds, m.inFlight, m.waiting,
		m.connections, m.connectionsRefused, m.handshakesFailed, m.bugs, m.renewed, m.streams, m.slowStreams, m.turnedAway, lined, m.held, m.tenants, m.strangers} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// methodMetrics are the metrics of one method that are looked up once: by name it costs
// more than the rest of the interceptor.
type methodMetrics struct {
	done    prometheus.Counter
	seconds prometheus.Observer
}

// of finds the metrics of a method. There are as many as the API has methods.
func (m *metrics) of(method string) *methodMetrics {
	if x, ok := m.methods.Load(method); ok {
		return x.(*methodMetrics)
	}
	x, _ := m.methods.LoadOrStore(method, &methodMetrics{
		done: m.requests.WithLabelValues(method, codeName(codes.OK)), seconds: m.seconds.WithLabelValues(method)})
	return x.(*methodMetrics)
}

// answered notes one call; st is nil when it succeeded. method is one of the served
// methods and a reason one of the table, so the labels are bounded.
func (m *metrics) answered(method string, st *status.Status, took time.Duration) {
	m.of(method).seconds.Observe(took.Seconds())
	m.ended(method, st)
}

// ended notes how a call or a stream ended.
func (m *metrics) ended(method string, st *status.Status) {
	if st == nil {
		m.of(method).done.Inc()
		return
	}
	p, _ := details(st)
	m.failed(method, st.Code(), p)
}

func (m *metrics) failed(method string, code codes.Code, p *pb.Problem) {
	m.requests.WithLabelValues(method, codeName(code)).Inc()
	if p != nil {
		m.refused.WithLabelValues(p.Reason).Inc()
	}
}
