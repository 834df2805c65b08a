package agent

import "github.com/prometheus/client_golang/prometheus"

// metrics are listed in docs/metrics.md.
type metrics struct {
	requests *prometheus.CounterVec
	refused  *prometheus.CounterVec
	ended    *prometheus.CounterVec
	resumed  *prometheus.CounterVec
	lost     prometheus.Counter
	writes   prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, a *Agent) (*metrics, error) {
	const ns, sub = "seatkeeper", "agent"
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "requests_total",
			Help: "calls answered on the agent's socket, by path and HTTP status"}, []string{"path", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "refused_total",
			Help: "calls refused because a limit of the agent was reached"}, []string{"limit"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "ended_total",
			Help: "sessions ended, by why"}, []string{"why"}),
		resumed: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "resumed_total",
			Help: "sessions of an earlier run that were taken over at the start, by what became of them"}, []string{"outcome"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: "lost_total",
			Help: "leases that were lost while their holder was there"}),
		writes: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub, Name: "state_write_seconds",
			Help: "time to write one session to the state folder, fsync included", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14)}),
	}
	gauge := func(name, help string, read func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help},
			func() float64 { return float64(read()) })
	}
	for _, c := range []prometheus.Collector{m.requests, m.refused, m.ended, m.resumed, m.lost, m.writes,
		gauge("sessions", "sessions the agent keeps", func() int { return a.counts().Sessions }),
		gauge("sessions_resuming", "sessions that the cluster has not confirmed yet since the agent started", func() int { return a.counts().Resuming }),
		gauge("leases", "leases that may be used now", func() int { return a.counts().Leases }),
		gauge("connections", "connections open on the socket", a.conns.count),
		gauge("in_flight", "calls being answered", a.calls.count),
		gauge("waiting", "calls that wait for seats or for a change", a.waits.count),
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
