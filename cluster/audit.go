package cluster

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// auditBuffer bounds what waits for a slow disk: some seconds of a busy cluster. What
// comes beyond it is left out and counted, because nobody waits for this file.
const auditBuffer = 64 << 20

// appliedLog writes what this node applied to a file, one JSON object a line: the
// entries in order, after a restart again from the newest snapshot on. A line
// {"run": …} begins each run of the process, {"dropped": n} stands for n lines that are
// missing. Its lines are chained (see auditchain.go). It is for judging a node afterwards
// and never a reason to stop.
type appliedLog struct {
	file *os.File
	log  hclog.Logger
	done chan struct{}
	last chain // of the last line; owned by write

	mu      sync.Mutex
	wake    sync.Cond
	pending []byte
	dropped int
	closed  bool
}

func openAppliedLog(path, id, version string, log hclog.Logger) (*appliedLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	var last chain
	if err == nil {
		err = cutTornLine(f)
	}
	if err == nil {
		last, err = lastChain(f)
	}
	if err != nil {
		return nil, fmt.Errorf("audit log %s cannot be written: %w", path, plain(err))
	}
	a := &appliedLog{file: f, log: log, done: make(chan struct{}), last: last}
	a.wake.L = &a.mu
	a.put(map[string]any{"run": map[string]string{"node": id, "version": version, "started": time.Now().UTC().Format(time.RFC3339Nano)}})
	go a.write()
	return a, nil
}

// cutTornLine takes off what a killed process left of its last line.
func cutTornLine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	piece := make([]byte, 64<<10)
	for end := info.Size(); end > 0; {
		from := max(0, end-int64(len(piece)))
		n, err := f.ReadAt(piece[:end-from], from)
		if err != nil {
			return err
		}
		if at := bytes.LastIndexByte(piece[:n], '\n'); at >= 0 {
			return f.Truncate(from + int64(at) + 1)
		}
		end = from
	}
	return f.Truncate(0)
}

// observe notes one applied entry.
func (a *appliedLog) observe(l *raft.Log, e *logv1.Entry, o fsm.Outcome, b *lease.Book, events []lease.Event) {
	a.put(fsm.Audit(l, e, o, b, events))
}

// restored notes that the state was replaced.
func (a *appliedLog) restored(s fsm.Status, b *lease.Book) { a.append(fsm.AuditState(s, b)) }

// persist does nothing: what a node applies again after a restart is written again.
func (a *appliedLog) persist() {}

func (a *appliedLog) put(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		a.log.Warn("audit log: a line was left out", "error", err)
		return
	}
	a.append(line)
}

func (a *appliedLog) append(line []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if len(a.pending)+len(line) > auditBuffer {
		a.dropped++
		return
	}
	if a.dropped > 0 {
		a.pending = fmt.Appendf(a.pending, "{\"dropped\":%d}\n", a.dropped)
		a.dropped = 0
	}
	a.pending = append(append(a.pending, line...), '\n')
	a.wake.Signal()
}

// write writes whatever waits, at once: a killed process loses next to nothing.
func (a *appliedLog) write() {
	defer close(a.done)
	failed := false
	for {
		a.mu.Lock()
		for len(a.pending) == 0 && !a.closed {
			a.wake.Wait()
		}
		chunk := a.pending
		a.pending = nil
		a.mu.Unlock()
		if chunk == nil {
			return
		}
		if _, err := a.file.Write(a.chained(chunk)); err != nil && !failed {
			failed = true
			a.log.Error("audit log cannot be written: it is not complete", "file", a.file.Name(), "error", err)
		}
	}
}

// chained adds its chain to each line.
func (a *appliedLog) chained(chunk []byte) []byte {
	out := make([]byte, 0, len(chunk)+len(chunk)/2)
	for line := range bytes.Lines(chunk) {
		out = a.last.appendChained(out, bytes.TrimSuffix(line, []byte("\n")))
	}
	return out
}

// Close writes what waits, for a while, and closes the file.
func (a *appliedLog) Close() {
	a.mu.Lock()
	a.closed = true
	a.wake.Signal()
	a.mu.Unlock()
	select {
	case <-a.done:
		a.file.Close()
	case <-time.After(drainTimeout):
		a.log.Warn("audit log: its disk does not answer")
	}
}
