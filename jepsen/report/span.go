package report

import "math"

// span is a run in equal buckets.
type span struct {
	end int64 // ns; at least 1
	n   int
}

func newSpan(end int64, n int) span { return span{max(end, 1), n} }

// bucket is where a time lies; times outside lie at the ends.
func (s span) bucket(t int64) int {
	t = min(max(t, 0), s.end)
	return min(int(float64(t)/float64(s.end)*float64(s.n)), s.n-1)
}

// seconds is how long one bucket is.
func (s span) seconds() float64 { return float64(s.end) / float64(s.n) / 1e9 }

// series is a number that stays until it is set again, seen through buckets.
type series struct {
	span
	mean, peak []float64
	at         int64
	value      float64
	any        bool
}

func newSeries(s span) *series {
	return &series{span: s, mean: make([]float64, s.n), peak: make([]float64, s.n)}
}

// set changes the number at a time. Times that go back count as the last one.
func (s *series) set(t int64, v float64) {
	s.hold(min(max(t, s.at), s.end))
	s.value, s.any = v, true
	b := s.bucket(s.at)
	s.peak[b] = max(s.peak[b], v)
}

// hold lets the number stand until t.
func (s *series) hold(t int64) {
	width := float64(s.end) / float64(s.n)
	for first, last, b := s.bucket(s.at), s.bucket(t), 0; first+b <= last; b++ {
		i := first + b
		from, to := max(float64(s.at), width*float64(i)), min(float64(t), width*float64(i+1))
		if to > from {
			s.mean[i] += s.value * (to - from) / width
			s.peak[i] = max(s.peak[i], s.value)
		}
	}
	s.at = t
}

// done lets the last number stand to the end.
func (s *series) done() *series {
	s.hold(s.end)
	for i, v := range s.mean {
		s.mean[i] = math.Round(v*1e6) / 1e6 // parts of a bucket do not add up to quite 1
	}
	return s
}

func (s *series) highest() float64 {
	var m float64
	for _, v := range s.peak {
		m = max(m, v)
	}
	return m
}
