package main

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	metrics "github.com/hashicorp/go-metrics/compat"
	metricsprom "github.com/hashicorp/go-metrics/compat/prometheus"
	"github.com/prometheus/client_golang/prometheus"
)

// librarySeriesKept is how long a series of raft, bolt or memberlist is told after its
// last change. They carry the ids of peers, and a rebuilt peer has a new one.
const librarySeriesKept = time.Hour

// sampleBuckets are three a decade, from a tenth to a hundred thousand: go-metrics does not
// say what a sample is, and there are milliseconds, bytes and counts.
var sampleBuckets = prometheus.ExponentialBucketsRange(0.1, 100_000, 19)

// librarySink brings what raft, bolt and memberlist report through go-metrics to
// Prometheus. Samples become histograms, which may be added up over nodes. With the
// summaries of go-metrics' own sink these reports took 6 % of all processor time of a client
// that comes alone (perf), and take 3 % with this.
type librarySink struct {
	*metricsprom.PrometheusSink

	mu      sync.RWMutex
	samples map[string]*librarySample // by name and labels
}

// librarySample is one histogram.
type librarySample struct {
	prometheus.Histogram
	seen atomic.Int64 // last sample, Unix time in seconds
}

// newLibrarySink makes the sink and registers what it collects.
func newLibrarySink(registry prometheus.Registerer) (*librarySink, error) {
	opts := metricsprom.DefaultPrometheusOpts
	opts.Registerer = registry
	opts.Expiration = librarySeriesKept
	rest, err := metricsprom.NewPrometheusSinkFrom(opts)
	if err != nil {
		return nil, err
	}
	s := &librarySink{PrometheusSink: rest, samples: map[string]*librarySample{}}
	return s, registry.Register(sampleCollector{s})
}

// AddSample takes one sample.
func (s *librarySink) AddSample(key []string, val float32) { s.AddSampleWithLabels(key, val, nil) }

// AddSampleWithLabels takes one sample.
func (s *librarySink) AddSampleWithLabels(key []string, val float32, labels []metrics.Label) {
	var buf [128]byte
	id := sampleID(buf[:0], key, labels)
	s.mu.RLock()
	h := s.samples[string(id)]
	s.mu.RUnlock()
	if h == nil {
		h = s.add(string(id), key, labels)
	}
	h.seen.Store(time.Now().Unix())
	h.Observe(float64(val))
}

// sampleID appends what tells one series from all others.
func sampleID(id []byte, key []string, labels []metrics.Label) []byte {
	for _, k := range key {
		id = append(append(id, k...), '_')
	}
	for _, l := range labels {
		id = append(append(append(append(id, ';'), l.Name...), '='), l.Value...)
	}
	return id
}

func (s *librarySink) add(id string, key []string, labels []metrics.Label) *librarySample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.samples[id]; h != nil {
		return h
	}
	s.forget(time.Now()) // or they would gather where nobody collects
	name := metricName.Replace(strings.Join(key, "_"))
	constant := prometheus.Labels{}
	for _, l := range labels {
		constant[l.Name] = l.Value
	}
	h := &librarySample{Histogram: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: name, ConstLabels: constant, Buckets: sampleBuckets})}
	h.seen.Store(time.Now().Unix())
	s.samples[id] = h
	return h
}

// metricName replaces what may not stand in a metric's name.
var metricName = strings.NewReplacer(" ", "_", ".", "_", "=", "_", "-", "_", "/", "_")

// forget drops the series that are no longer told; mu is held.
func (s *librarySink) forget(now time.Time) {
	for id, h := range s.samples {
		if now.Unix()-h.seen.Load() > int64(librarySeriesKept/time.Second) {
			delete(s.samples, id)
		}
	}
}

// current returns the series that are told, and forgets the others.
func (s *librarySink) current(now time.Time) []*librarySample {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(now)
	return slices.Collect(maps.Values(s.samples))
}

// sampleCollector tells the samples of a sink. It is a type of its own because the sink is
// the collector of counters and gauges.
type sampleCollector struct{ sink *librarySink }

// Describe tells nothing: which series there are shows as they come.
func (sampleCollector) Describe(chan<- *prometheus.Desc) {}

// Collect tells all series that have had a sample lately.
func (c sampleCollector) Collect(to chan<- prometheus.Metric) {
	for _, h := range c.sink.current(time.Now()) {
		to <- h.Histogram
	}
}
