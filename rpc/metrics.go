package rpc

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"
)

type metrics struct {
	requests           *prometheus.CounterVec
	refused            *prometheus.CounterVec
	seconds            *prometheus.HistogramVec
	inFlight           prometheus.Gauge
	waiting            prometheus.Gauge
	connections        prometheus.Gauge
	connectionsRefused prometheus.Counter
	bugs               prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const ns, sub = "seatkeeper", "rpc"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "requests_total", Help: "API calls answered, by method and gRPC code."}, []string{"method", "code"}),
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
		bugs: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "bugs_total", Help: "API calls that met a bug of the server; the log has each."}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.refused, m.seconds, m.inFlight, m.waiting,
		m.connections, m.connectionsRefused, m.bugs} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// answered notes one call; st is nil when it succeeded. method is one of the served
// methods and a reason one of the table, so the labels are bounded.
func (m *metrics) answered(method string, st *status.Status, took time.Duration) {
	m.requests.WithLabelValues(method, codeName(st.Code())).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
	if st == nil {
		return
	}
	if p, _ := details(st); p != nil {
		m.refused.WithLabelValues(p.Reason).Inc()
	}
}
