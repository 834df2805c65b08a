package main

import (
	"testing"
	"time"

	metrics "github.com/hashicorp/go-metrics/compat"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// told collects what a registry tells of one metric.
func toldOf(t *testing.T, registry *prometheus.Registry, name string) *dto.MetricFamily {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f
		}
	}
	return nil
}

func TestSamplesOfLibrariesBecomeHistograms(t *testing.T) {
	registry := prometheus.NewRegistry()
	sink, err := newLibrarySink(registry)
	if err != nil {
		t.Fatal(err)
	}
	to := func(peer string) []metrics.Label { return []metrics.Label{{Name: "peer_id", Value: peer}} }
	key := []string{"seatkeeper", "raft", "append.entries"}
	for range 3 {
		sink.AddSampleWithLabels(key, 0.5, to("a"))
	}
	sink.AddSampleWithLabels(key, 2000, to("b"))
	sink.AddSample([]string{"seatkeeper", "raft", "apply"}, 7)
	sink.IncrCounter([]string{"seatkeeper", "raft", "starts"}, 2)

	f := toldOf(t, registry, "seatkeeper_raft_append_entries")
	if f.GetType() != dto.MetricType_HISTOGRAM || len(f.GetMetric()) != 2 {
		t.Fatalf("told as %v", f)
	}
	for _, m := range f.GetMetric() {
		count, sum := uint64(3), 1.5
		if m.GetLabel()[0].GetValue() == "b" {
			count, sum = 1, 2000
		}
		if h := m.GetHistogram(); h.GetSampleCount() != count || h.GetSampleSum() != sum {
			t.Errorf("%s: %d samples, sum %v", m.GetLabel()[0].GetValue(), h.GetSampleCount(), h.GetSampleSum())
		}
	}
	if f := toldOf(t, registry, "seatkeeper_raft_apply"); f.GetMetric()[0].GetHistogram().GetSampleSum() != 7 {
		t.Errorf("a sample without labels is told as %v", f)
	}
	if f := toldOf(t, registry, "seatkeeper_raft_starts"); f.GetMetric()[0].GetCounter().GetValue() != 2 {
		t.Errorf("a counter is told as %v", f)
	}

	// A peer that is gone is not told of for ever, and takes no memory.
	if n := len(sink.current(time.Now().Add(librarySeriesKept - time.Minute))); n != 3 {
		t.Errorf("%d series are left before their time is over", n)
	}
	for _, h := range sink.samples { // as if it were an hour later, and nobody collected
		h.seen.Add(-int64(librarySeriesKept/time.Second) - 60)
	}
	sink.AddSampleWithLabels(key, 1, to("c"))
	if n := len(sink.samples); n != 1 {
		t.Errorf("%d series are kept when a new one comes", n)
	}
	if n := len(sink.current(time.Now().Add(librarySeriesKept + time.Minute))); n != 0 {
		t.Errorf("%d series are left after it", n)
	}
	sink.AddSampleWithLabels(key, 1, to("a"))
	if m := toldOf(t, registry, "seatkeeper_raft_append_entries").GetMetric(); len(m) != 1 || m[0].GetHistogram().GetSampleCount() != 1 {
		t.Errorf("after that it is told as %v", m)
	}
}

// One sample an entry and node is cheap only if it makes nothing for the collector.
func TestASampleOfALibraryAllocatesNothing(t *testing.T) {
	sink, err := newLibrarySink(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	key, labels := []string{"seatkeeper", "raft", "boltdb", "storeLogs"}, []metrics.Label{{Name: "peer_id", Value: "n1-0a1b2c3d"}}
	if n := testing.AllocsPerRun(100, func() { sink.AddSampleWithLabels(key, 1.5, labels) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
