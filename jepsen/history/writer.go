package history

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// Writer appends operations to a history file. It is safe for concurrent use. Lines
// stand in the order of their times.
type Writer struct {
	mu    sync.Mutex
	w     *bufio.Writer
	clock func() time.Duration
	next  int64
	last  int64
	err   error
}

// NewWriter writes to w. clock gives the time since the run began and must be monotonic.
func NewWriter(w io.Writer, clock func() time.Duration) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 1<<16), clock: clock}
}

// Append writes one operation and returns it with its Index and Time. Call it with an
// invocation before anything is sent, and with a completion after the answer arrived.
func (w *Writer) Append(op Op) Op {
	w.mu.Lock()
	defer w.mu.Unlock()
	op.Index = w.next
	op.Time = max(int64(w.clock()), w.last)
	w.next++
	w.last = op.Time
	if w.err == nil {
		_, w.err = w.w.Write(append(MarshalEDN(&op), '\n'))
	}
	return op
}

// Now is the run's clock, for facts that carry a time of their own.
func (w *Writer) Now() int64 { return int64(w.clock()) }

// Flush writes out what is buffered and gives the first error of any write.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = w.w.Flush()
	}
	return w.err
}

// WriteAudit writes an audit as EDN lines.
func WriteAudit(w io.Writer, a *Audit) error {
	b := bufio.NewWriterSize(w, 1<<16)
	for i := range a.Entries {
		if _, err := b.Write(append(MarshalEDN(&a.Entries[i]), '\n')); err != nil {
			return err
		}
	}
	return b.Flush()
}
