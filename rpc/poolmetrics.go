package rpc

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/lease"
)

// maxPoolSeries bounds the pools that /metrics shows one by one: ten series each are what
// a scraper takes in without complaint. What is beyond is counted, not hidden.
const maxPoolSeries = 1000

// poolMetrics tells the ledger's state as this node has applied it. All nodes tell the
// same but for what a follower is behind, so a graph takes the maximum over the nodes, not
// the sum.
type poolMetrics struct {
	node                               Node
	total, inUse, reserved, queued     *prometheus.Desc
	expiring, expiry                   *prometheus.Desc
	sessions, leases, alarms, unlisted *prometheus.Desc
	unleased, applied                  *prometheus.Desc
}

func newPoolMetrics(node Node) *poolMetrics {
	pool := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("seatkeeper_pool_"+name, help, []string{"tenant", "vendor", "feature", "version"}, nil)
	}
	whole := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("seatkeeper_"+name, help, nil, nil)
	}
	return &poolMetrics{
		node:     node,
		total:    pool("seats", "Seats licensed now."),
		inUse:    pool("seats_in_use", "Seats charged now."),
		reserved: pool("seats_reserved", "Free seats kept for somebody."),
		queued:   pool("queued", "Requests that wait for seats of the pool."),
		expiring: pool("leases_expiring", "Leases whose heartbeat is late and whose grace runs."),
		expiry:   pool("expiry_timestamp_seconds", "When the last entitlement ends, in Unix time; absent: never."),
		sessions: whole("sessions", "Live sessions."),
		unleased: whole("sessions_unleased", "Sessions that never had a lease, closed ones too while they are remembered."),
		leases:   whole("leases", "Live leases."),
		alarms:   whole("alarms", "Alarms that status shows."),
		unlisted: whole("pools_unlisted", "Pools beyond those that have series here."),
		applied:  whole("applied_index", "Log position that this node has applied."),
	}
}

// Describe tells the series there may be.
func (m *poolMetrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.total, m.inUse, m.reserved, m.queued, m.expiring, m.expiry, m.sessions, m.unleased, m.leases, m.alarms, m.unlisted, m.applied} {
		to <- d
	}
}

// Collect reads the node's own state: a scrape costs no leader check.
func (m *poolMetrics) Collect(to chan<- prometheus.Metric) {
	var pools []lease.PoolStatus
	var sessions, unleased, leases, alarms int
	status := m.node.ReadStale(func(b *lease.Book) {
		pools = b.Pools("")
		sessions, leases = b.Counts()
		unleased, _ = b.Unleased()
		alarms = len(b.Alarms())
	})
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(m.applied, float64(status.AppliedIndex))
	gauge(m.sessions, float64(sessions))
	gauge(m.unleased, float64(unleased))
	gauge(m.leases, float64(leases))
	gauge(m.alarms, float64(alarms))
	gauge(m.unlisted, float64(max(0, len(pools)-maxPoolSeries)))
	// Pools that differ in what is no label are told together: a series may come once.
	type key struct{ tenant, vendor, feature, version string }
	sums := map[key]*lease.PoolStatus{}
	var order []key
	for i := range pools[:min(len(pools), maxPoolSeries)] {
		p := &pools[i]
		k := key{p.Tenant, p.Vendor, p.Feature, p.Version}
		s := sums[k]
		if s == nil {
			sums[k] = p
			order = append(order, k)
			continue
		}
		s.Total, s.InUse, s.Reserved = s.Total+p.Total, s.InUse+p.InUse, s.Reserved+p.Reserved
		s.Queued, s.Expiring = s.Queued+p.Queued, s.Expiring+p.Expiring
		if p.Expiry == 0 || s.Expiry != 0 && p.Expiry > s.Expiry {
			s.Expiry = p.Expiry
		}
	}
	for _, k := range order {
		p, labels := sums[k], []string{k.tenant, k.vendor, k.feature, k.version}
		gauge(m.total, float64(p.Total), labels...)
		gauge(m.inUse, float64(p.InUse), labels...)
		gauge(m.reserved, float64(p.Reserved), labels...)
		gauge(m.queued, float64(p.Queued), labels...)
		gauge(m.expiring, float64(p.Expiring), labels...)
		if p.Expiry != 0 {
			gauge(m.expiry, float64(p.Expiry)/float64(time.Second/time.Millisecond), labels...)
		}
	}
}
