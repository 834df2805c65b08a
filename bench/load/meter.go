package load

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// Latencies are held in microseconds from 1 µs to 5 min with three digits; what is
	// longer counts as 5 min.
	shortest, longest = 1, int64(5 * time.Minute / time.Microsecond)
	digits            = 3
)

// Meter is where one worker notes what it did. Nothing outside the measured stretch
// is kept: an operation counts if it ended within it.
type Meter struct {
	from, until time.Time
	start       time.Time // of the operation: the intended one in an open loop
	units       int64

	whole  *hdrhistogram.Histogram
	parts  map[string]*hdrhistogram.Histogram
	count  int64
	unsent int64
	errors map[string]int64
}

func newMeter(from, until time.Time) *Meter {
	return &Meter{from: from, until: until, whole: newHistogram(), parts: map[string]*hdrhistogram.Histogram{}, errors: map[string]int64{}}
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }

func note(h *hdrhistogram.Histogram, d time.Duration) {
	// It fails only outside the bounds.
	_ = h.RecordValue(min(max(d.Microseconds(), shortest), longest))
}

func (m *Meter) measured(t time.Time) bool { return !t.Before(m.from) && t.Before(m.until) }

// Start is when the present operation began, or in an open loop should have begun.
func (m *Meter) Start() time.Time { return m.start }

// Part notes a part of the operation that took from began until now.
func (m *Meter) Part(name string, began time.Time) {
	now := time.Now()
	if !m.measured(now) {
		return
	}
	h := m.parts[name]
	if h == nil {
		h = newHistogram()
		m.parts[name] = h
	}
	note(h, now.Sub(began))
}

// Sent says when the operation that ends now began, for a worker that has several on
// their way at once. It has no meaning in an open loop.
func (m *Meter) Sent(t time.Time) { m.start = t }

// Units says how much the present operation counts for in the rate; 1 unless said.
func (m *Meter) Units(n int) { m.units = int64(n) }

// Error counts something that went wrong without failing the operation.
func (m *Meter) Error(reason string) {
	if m.measured(time.Now()) {
		m.errors[reason]++
	}
}

func (m *Meter) ended(now time.Time, err error) {
	if !m.measured(now) {
		return
	}
	if err == nil {
		note(m.whole, now.Sub(m.start))
		m.count += m.units
		return
	}
	reason := "error"
	var r *Reasoned
	if errors.As(err, &r) {
		reason = r.Reason
	}
	m.errors[reason]++
}

// rows joins what all workers noted.
func rows(s Step, meters []*Meter) []Row {
	total := newMeter(time.Time{}, time.Time{})
	for _, m := range meters {
		total.whole.Merge(m.whole)
		total.count += m.count
		total.unsent += m.unsent
		for name, h := range m.parts {
			if total.parts[name] == nil {
				total.parts[name] = newHistogram()
			}
			total.parts[name].Merge(h)
		}
		for reason, n := range m.errors {
			total.errors[reason] += n
		}
	}
	row := Row{Name: s.Name, Clients: s.Clients, Seconds: s.Duration.Seconds(), WarmupSeconds: s.Warmup.Seconds(),
		Rate: s.Rate, Count: total.count, PerSecond: float64(total.count) / s.Duration.Seconds(), Unsent: total.unsent}
	if len(total.errors) > 0 {
		row.Errors = total.errors
	}
	list := []Row{row}
	list[0].Latency = summary(total.whole)
	for _, name := range slices.Sorted(maps.Keys(total.parts)) {
		h := total.parts[name]
		part := row
		part.Name, part.Errors, part.Unsent = s.Name+" "+name, nil, 0
		part.Count = h.TotalCount()
		part.PerSecond = float64(part.Count) / s.Duration.Seconds()
		part.Latency = summary(h)
		list = append(list, part)
	}
	return list
}

// Sample collects single durations outside a step.
type Sample struct {
	h     *hdrhistogram.Histogram
	began time.Time
}

// NewSample begins a sample.
func NewSample() *Sample { return &Sample{h: newHistogram(), began: time.Now()} }

// Note adds one duration. Not safe for concurrent use.
func (s *Sample) Note(d time.Duration) { note(s.h, d) }

// Row is what the sample shows; its rate is over the time since NewSample.
func (s *Sample) Row(name string, clients int) Row {
	took := time.Since(s.began).Seconds()
	return Row{Name: name, Clients: clients, Seconds: took, Count: s.h.TotalCount(),
		PerSecond: float64(s.h.TotalCount()) / took, Latency: summary(s.h)}
}

func summary(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	us := func(n int64) float64 { return float64(n) }
	return Latency{Min: us(h.Min()), Mean: h.Mean(), P50: us(h.ValueAtQuantile(50)), P90: us(h.ValueAtQuantile(90)),
		P95: us(h.ValueAtQuantile(95)), P99: us(h.ValueAtQuantile(99)), P999: us(h.ValueAtQuantile(99.9)), Max: us(h.Max())}
}
