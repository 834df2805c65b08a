package cluster

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

const (
	debugPlaceFile = "debuglog.place"
	// debugPlaceEvery is how often the place is noted while the log grows. What came after
	// it is made again after a crash, and compared with what is there.
	debugPlaceEvery = time.Second
)

// debugLog writes what this node applies in the words of FlexNet's debug log. Each line is
// written once, also across restarts: the file debuglog.place says up to which entry the
// log is written and how long it was then; entries that come again are compared with what
// stands behind. After a snapshot instead of entries the OUT lines without an IN are
// balanced against the live leases.
type debugLog struct {
	log       hclog.Logger
	placePath string

	mu      sync.Mutex
	wake    sync.Cond
	pending []debugItem
	seen    uint64
	minute  lease.Calendar // of the last entry noted
	added   uint64
	written uint64
	closed  bool
	done    chan struct{}

	// Owned by the writer.
	file   *os.File
	text   *debugText
	place  debugPlace
	noted  time.Time
	tail   []byte // behind the place, from before a crash
	failed bool
}

// debugPlace is what debuglog.place holds.
type debugPlace struct {
	Index uint64 `json:"index"`
	Size  int64  `json:"size"`
	// Clock and Stamp are the local time of the last line and of the last TIMESTAMP, in
	// seconds as if it were UTC.
	Clock int64 `json:"clock"`
	Stamp int64 `json:"stamp"`
}

// debugItem is one thing for the writer to do.
type debugItem struct {
	index  uint64
	date   lease.Calendar
	events []lease.Event
	live   []lease.UsageRecord // with balance: what is held now
	balance,
	sync bool
}

func openDebugLog(path, dataDir string, zone *time.Location, log hclog.Logger) (*debugLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o640)
	if err == nil {
		err = cutTornLine(f)
	}
	if err != nil {
		return nil, fmt.Errorf("debug log %s cannot be written: %w", path, plain(err))
	}
	d := &debugLog{log: log, placePath: filepath.Join(dataDir, debugPlaceFile), file: f, done: make(chan struct{})}
	d.wake.L = &d.mu
	if data, err := os.ReadFile(d.placePath); err == nil && json.Unmarshal(data, &d.place) != nil {
		d.place = debugPlace{} // as if it were a new log: balanced by the first snapshot
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("debug log %s: %w", path, plain(err))
	}
	if size := info.Size(); d.place.Index > 0 && size > d.place.Size {
		d.tail = make([]byte, size-d.place.Size)
		if _, err := f.ReadAt(d.tail, d.place.Size); err != nil {
			f.Close()
			return nil, fmt.Errorf("debug log %s: %w", path, plain(err))
		}
	} else {
		d.place.Size = size // a new log, or the old one was rotated away
	}
	d.seen = d.place.Index
	d.text = newDebugText(zone, d.place)
	go d.write()
	return d, nil
}

func (d *debugLog) observe(l *raft.Log, _ *logv1.Entry, _ fsm.Outcome, b *lease.Book, events []lease.Event) {
	date := b.Calendar()
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.Index <= d.seen {
		return
	}
	d.seen = l.Index
	// An idle cluster ticks; a minute is fine enough for time stamps.
	if minute := date / 60_000; len(events) > 0 || minute != d.minute {
		d.minute = minute
		if len(d.pending) >= historyPending { // what a slow disk cannot take is made up for by what is held
			d.pending = nil
			d.add(debugItem{index: l.Index, date: date, live: b.LiveUsage(""), balance: true})
			return
		}
		d.add(debugItem{index: l.Index, date: date, events: events})
	}
}

func (d *debugLog) restored(s fsm.Status, b *lease.Book) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.AppliedIndex > d.seen {
		d.seen = s.AppliedIndex
		d.add(debugItem{index: s.AppliedIndex, date: s.Calendar, live: b.LiveUsage(""), balance: true})
	}
}

func (d *debugLog) persist() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.add(debugItem{index: d.seen, sync: true})
	for target := d.added; d.written < target && !d.closed; {
		d.wake.Wait()
	}
}

func (d *debugLog) add(it debugItem) {
	if d.closed {
		return
	}
	d.pending = append(d.pending, it)
	d.added++
	d.wake.Broadcast()
}

func (d *debugLog) write() {
	defer close(d.done)
	d.mu.Lock()
	defer d.mu.Unlock()
	for {
		for len(d.pending) == 0 && !d.closed {
			d.wake.Wait()
		}
		items, closing := d.pending, d.closed
		d.pending = nil
		done := d.added
		d.mu.Unlock()
		for i := range items {
			d.do(&items[i])
		}
		if closing || time.Since(d.noted) >= debugPlaceEvery {
			d.notePlace()
		}
		d.mu.Lock()
		d.written = done
		d.wake.Broadcast()
		if closing && len(d.pending) == 0 {
			return
		}
	}
}

// do carries out one item.
func (d *debugLog) do(it *debugItem) {
	switch {
	case it.sync:
		d.place.Index = max(d.place.Index, it.index)
		if err := d.file.Sync(); err != nil {
			d.fail(err)
		}
		d.notePlace()
		return
	case it.balance:
		d.out(d.text.balance(d.file.Name(), it.date, it.live))
	default:
		// While old lines are compared, the time stamp of this start waits.
		d.out(d.text.lines(it.date, it.events, len(d.tail) == 0))
	}
	d.place.Index = it.index
}

// out writes lines, unless they stand there from before a crash.
func (d *debugLog) out(lines []byte) {
	if len(d.tail) > 0 {
		n := 0
		for n < len(lines) && n < len(d.tail) && lines[n] == d.tail[n] {
			n++
		}
		d.place.Size += int64(n)
		lines, d.tail = lines[n:], d.tail[n:]
		if len(lines) > 0 && len(d.tail) > 0 { // they differ: what stands there was never finished
			d.tail = nil
			if err := d.file.Truncate(d.place.Size); err != nil {
				d.fail(err)
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	n, err := d.file.Write(lines)
	d.place.Size += int64(n)
	if err != nil {
		d.fail(err)
	}
}

func (d *debugLog) fail(err error) {
	if !d.failed {
		d.failed = true
		d.log.Error("debug log cannot be written: it is not complete", "file", d.file.Name(), "error", err)
	}
}

// notePlace remembers how far the log is written. A crash between the two files is made
// up for by what stands in the log.
func (d *debugLog) notePlace() {
	d.noted = time.Now()
	d.place.Clock, d.place.Stamp = d.text.clock, d.text.stamp
	data, _ := json.Marshal(d.place) // plain data: it cannot fail
	tmp := d.placePath + ".tmp"
	err := os.WriteFile(tmp, data, 0o600)
	if err == nil {
		err = os.Rename(tmp, d.placePath)
	}
	if err != nil {
		d.fail(err)
	}
}

// Close writes what waits, for a while.
func (d *debugLog) Close() error {
	d.mu.Lock()
	d.closed = true
	d.wake.Broadcast()
	d.mu.Unlock()
	select {
	case <-d.done:
		return d.file.Close()
	case <-time.After(drainTimeout):
		d.log.Warn("debug log: its disk does not answer")
		return nil
	}
}
