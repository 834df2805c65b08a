package rpc

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
)

// Limits of the log that is kept for those who ask.
const (
	// logLines and logBytes bound what is kept: an hour or more of a node that has trouble.
	logLines = 10_000
	logBytes = 4 << 20
	// logLineBytes cuts a line; a stack trace is longer, and is in the log file.
	logLineBytes = 8 << 10
	// logWatchers is the most readers at once: each costs formatting and a connection.
	logWatchers = 8
	// logQueue is how many lines a reader may be behind before it is cut.
	logQueue = 1024
)

// LogBook keeps the newest lines of a node's log and passes those to come to readers, who
// may want more detail than the log file. It is a sink of an hclog.InterceptLogger. The
// one who logs never waits for a reader: one that is too slow is cut, and told how much it
// missed.
type LogBook struct {
	least atomic.Int32 // the lowest level that anybody wants

	mu       sync.Mutex
	keep     hclog.Level // what is kept
	format   hclog.SinkAdapter
	buf      bytes.Buffer
	lines    []logLine // a ring
	first, n int
	bytes    int
	watchers map[*logWatcher]struct{}

	reading prometheus.Gauge
	dropped prometheus.Counter
}

type logLine struct {
	level hclog.Level
	text  string
}

// logWatcher is one reader.
type logWatcher struct {
	level hclog.Level
	lines chan string
	cut   chan struct{} // closed when the reader was too slow
	lost  uint64        // lines it was not given; read after cut is closed and it has left
}

// NewLogBook keeps lines of the given level and above.
func NewLogBook(keep hclog.Level) *LogBook {
	b := &LogBook{keep: keep, lines: make([]logLine, logLines), watchers: map[*logWatcher]struct{}{},
		reading: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "seatkeeper", Subsystem: "log", Name: "watchers",
			Help: "Readers of this node's live log."}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Namespace: "seatkeeper", Subsystem: "log", Name: "dropped_lines_total",
			Help: "Lines of the live log that a reader was too slow for; it is cut."})}
	b.format = hclog.NewSinkAdapter(&hclog.LoggerOptions{Level: hclog.Trace, Output: &b.buf})
	b.settle()
	return b
}

// SetLevel changes what is kept from now on.
func (b *LogBook) SetLevel(keep hclog.Level) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.keep = keep
	b.settle()
}

// settle works out which lines may be dropped unread.
func (b *LogBook) settle() {
	least := b.keep
	for w := range b.watchers {
		least = min(least, w.level)
	}
	b.least.Store(int32(least))
	b.reading.Set(float64(len(b.watchers)))
}

// Accept implements hclog.SinkAdapter.
func (b *LogBook) Accept(name string, level hclog.Level, msg string, args ...any) {
	if int32(level) < b.least.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
	b.format.Accept(name, level, msg, args...)
	// A line that is cut within a letter, or that quotes what is no text, could not be sent.
	text := strings.ToValidUTF8(string(bytes.TrimRight(b.buf.Bytes()[:min(b.buf.Len(), logLineBytes)], "\n")), "\uFFFD")
	if level >= b.keep {
		b.remember(logLine{level, text})
	}
	for w := range b.watchers {
		if level >= w.level {
			b.pass(w, text)
		}
	}
}

// pass gives a line to a reader that has room. From the first that has none on it gets no
// more, so that what it was sent is without holes.
func (b *LogBook) pass(w *logWatcher, text string) {
	if w.lost == 0 {
		select {
		case w.lines <- text:
			return
		default:
			close(w.cut)
		}
	}
	w.lost++
	b.dropped.Inc()
}

func (b *LogBook) remember(l logLine) {
	for b.n > 0 && (b.n == len(b.lines) || b.bytes+len(l.text) > logBytes) {
		b.bytes -= len(b.lines[b.first].text)
		b.lines[b.first] = logLine{}
		b.first = (b.first + 1) % len(b.lines)
		b.n--
	}
	b.lines[(b.first+b.n)%len(b.lines)] = l
	b.n++
	b.bytes += len(l.text)
}

// recent returns the newest lines of a level and above, oldest first, and, if follow is
// set, a watcher of those that come after them; nil where there are too many watchers.
func (b *LogBook) recent(level hclog.Level, most int, follow bool) (lines []string, w *logWatcher, full bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if follow && len(b.watchers) >= logWatchers {
		return nil, nil, true
	}
	for i := b.n - 1; i >= 0 && len(lines) < most; i-- {
		if l := b.lines[(b.first+i)%len(b.lines)]; l.level >= level {
			lines = append(lines, l.text)
		}
	}
	for i, j := 0, len(lines)-1; i < j; i, j = i+1, j-1 {
		lines[i], lines[j] = lines[j], lines[i]
	}
	if follow {
		w = &logWatcher{level: level, lines: make(chan string, logQueue), cut: make(chan struct{})}
		b.watchers[w] = struct{}{}
		b.settle()
	}
	return lines, w, false
}

// leave ends a watcher and returns how many lines it was not given.
func (b *LogBook) leave(w *logWatcher) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.watchers, w)
	b.settle()
	return w.lost
}
