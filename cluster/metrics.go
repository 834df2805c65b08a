package cluster

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// metrics are this package's own; raft, bolt and memberlist report through
// go-metrics, whose sink the program installs.
type metrics struct {
	reg       prometheus.Registerer
	all       []prometheus.Collector
	proposals *prometheus.CounterVec
	batch     prometheus.Histogram
	commit    prometheus.Histogram
	queue     prometheus.Gauge
	inFlight  prometheus.Gauge
	epoch     prometheus.Gauge
	leading   prometheus.Gauge
	led       prometheus.Counter
	lost      prometheus.Gauge
	diskFree  prometheus.Gauge
	diskAlarm prometheus.Gauge
	healthy   prometheus.Gauge
	tolerance prometheus.Gauge
	voters    prometheus.Gauge
	// unsaved is what a restart would replay.
	unsaved prometheus.Gauge
	// logVersion and understands tell how far an upgrade is.
	logVersion  prometheus.Gauge
	understands prometheus.Gauge
	expired     prometheus.Counter
	verifies    prometheus.Counter
	reads       prometheus.Counter
}

// newMetrics makes the collectors and registers them, if there is where.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	const ns, sub = "seatkeeper", "cluster"
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	m := &metrics{
		reg: reg,
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub,
			Name: "proposals_total", Help: "Commands proposed on this node, by outcome."}, []string{"outcome"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub,
			Name: "batch_commands", Help: "Commands in one log entry.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Subsystem: sub,
			Name: "commit_seconds", Help: "Time from handing an entry to raft until it was applied.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}),
		queue:       gauge("queue_commands", "Commands waiting for a batch."),
		inFlight:    gauge("entries_in_flight", "Entries handed to raft and not yet answered."),
		epoch:       gauge("epoch", "Index of the Lead entry of the epoch this node leads, 0 if it does not."),
		leading:     gauge("is_leader", "1 while this node leads and its Lead entry is committed."),
		led:         counter("leaderships_total", "How often this node began to lead."),
		lost:        gauge("lost_seconds", "Cluster time this leader has forgotten in its epoch because it could not commit."),
		diskFree:    gauge("disk_free_ratio", "Free part of the data directory's disk, 0 to 1."),
		diskAlarm:   gauge("disk_alarm", "1 while the data directory's disk is nearly full and new checkouts are refused here."),
		healthy:     gauge("healthy", "1 on the leader while all members are healthy, 0 elsewhere."),
		tolerance:   gauge("failure_tolerance", "How many voters may be lost now before nobody can lead, as the leader sees it; 0 elsewhere."),
		voters:      gauge("voters", "How many members vote, as the leader knows; 0 elsewhere."),
		unsaved:     gauge("log_unsaved_bytes", "Log entries applied since the last snapshot, in bytes: what a restart would replay."),
		logVersion:  gauge("log_version", "Version of the log that the cluster is at, as this node knows; every member understands it."),
		understands: gauge("log_version_understood", "Highest version of the log that this node's build understands."),
		expired:     counter("expirations_total", "Expirations proposed by this node."),
		verifies:    counter("verifies_total", "Leader checks made for reads; many reads share one."),
		reads:       counter("reads_total", "Consistent reads served or tried."),
	}
	m.all = []prometheus.Collector{m.proposals, m.batch, m.commit, m.queue, m.inFlight, m.epoch, m.leading, m.led, m.lost, m.diskFree, m.diskAlarm, m.healthy, m.tolerance, m.voters, m.unsaved, m.logVersion, m.understands, m.expired, m.verifies, m.reads}
	if reg == nil {
		return m, nil
	}
	for i, c := range m.all {
		if err := reg.Register(c); err != nil {
			for _, done := range m.all[:i] {
				reg.Unregister(done)
			}
			return nil, err
		}
	}
	return m, nil
}

// close takes the collectors back, so that a node may be started again in the same
// process.
func (m *metrics) close() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
}

func (m *metrics) established(e fsm.Epoch) {
	m.epoch.Set(float64(e.Index))
	m.leading.Set(1)
	m.led.Inc()
}

func (m *metrics) revoked() {
	m.epoch.Set(0)
	m.leading.Set(0)
	m.queue.Set(0)
	m.lost.Set(0)
	m.healthy.Set(0)
	m.tolerance.Set(0)
	m.voters.Set(0)
}

// outcome counts one proposed command.
func (m *metrics) outcome(err error) { m.outcomes(err, 1) }

func (m *metrics) outcomes(err error, n int) {
	label := "done"
	switch nl := (*NotLeaderError)(nil); {
	case err == nil:
	case errors.As(err, &nl):
		label = "not_leader"
	case errors.Is(err, ErrOverloaded):
		label = "overloaded"
	case errors.Is(err, ErrUnknown):
		label = "unknown"
	case errors.Is(err, ErrTooLarge):
		label = "too_large"
	default:
		label = "not_applied"
	}
	m.proposals.WithLabelValues(label).Add(float64(n))
}

func (m *metrics) committed(since time.Time) { m.commit.Observe(time.Since(since).Seconds()) }
