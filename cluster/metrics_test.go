package cluster

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// The rule on changes of leader needs a counter that is there before the first and is never
// begun anew: go-metrics forgets one a while after its last change.
func TestLeadershipsAreCountedFromTheStart(t *testing.T) {
	registry := prometheus.NewRegistry()
	m, err := newMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	for want := range 3 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := -1.0
		for _, f := range families {
			if f.GetName() == "seatkeeper_cluster_leaderships_total" {
				got = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		if got != float64(want) {
			t.Errorf("after %d leaderships %v are told", want, got)
		}
		m.established(fsm.Epoch{Index: uint64(want) + 1})
		m.revoked()
	}
}
