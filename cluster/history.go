package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Limits of a node's history of usage and denials.
const (
	historyDir = "history"
	// historySegment and historySegments bound it to 64 MiB, some 300,000 records: a year
	// of an office, a day of a build farm. The oldest file goes when a new one begins.
	historySegment  = 4 << 20
	historySegments = 16
	// historyPending bounds the events that wait for a slow disk; what comes beyond is
	// left out, and the history says so.
	historyPending = 1 << 17
	// historyDelay gathers the events of many entries for one write, which under load was
	// a twentieth of a follower's work. Nothing is lost by it: who asks hurries the
	// writer, and after a crash the entries are applied again.
	historyDelay = 100 * time.Millisecond
	// historyBuffer is how large a buffer is kept from one write to the next: more than twice
	// what 20,000 leases that end in a second bring in historyDelay.
	historyBuffer = 1 << 20
)

// history keeps what ended and what was denied in files of this node, fed by the entries
// it applies: equal on all nodes that applied the same entries. After a restart entries
// are applied again from the newest snapshot on; what is here already is skipped, and
// before a snapshot counts the files are synced, so that nothing falls between the two.
type history struct {
	dir string
	log hclog.Logger
	max int64 // of a file, in bytes

	mu       sync.Mutex
	wake     sync.Cond
	timer    *time.Timer
	due      bool // what waits is to be written now
	pending  []historyItem
	waiting  int // events in pending
	last     lease.DenialID
	applied  uint64 // entries up to it need not be noted again
	written  uint64 // items the writer has dealt with
	added    uint64
	closed   bool
	segments []segment
	done     chan struct{}

	// Owned by the writer.
	file     *os.File
	size     int64
	unserved lease.Unserved
	failed   bool
	buf      []byte // of the last write, for the next
	maker    recordMaker
}

// historyItem is one thing for the writer to do.
type historyItem struct {
	index     uint64
	date      lease.Calendar
	events    []lease.Event
	gap, sync bool
}

// segment is one file.
type segment struct {
	number int
	// newest is the date of its last record; gapped that of its last gap.
	newest, gapped lease.Calendar
	damaged        bool
}

func (h *history) path(number int) string {
	return filepath.Join(h.dir, fmt.Sprintf("%08d.rec", number))
}

// openHistory reads what there is and goes on with it. What cannot be read is left out:
// history is never a reason not to start.
func openHistory(dataDir string, log hclog.Logger) (*history, error) {
	h := &history{dir: filepath.Join(dataDir, historyDir), log: log, max: historySegment, done: make(chan struct{})}
	h.wake.L = &h.mu
	h.timer = time.AfterFunc(historyDelay, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.hurry()
	})
	h.timer.Stop()
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return nil, fmt.Errorf("history %s cannot be kept: %w", h.dir, plain(err))
	}
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, fmt.Errorf("history %s cannot be read: %w", h.dir, plain(err))
	}
	for _, e := range entries { // in order of names
		var number int
		if _, err := fmt.Sscanf(e.Name(), "%d.rec", &number); err == nil && strings.HasSuffix(e.Name(), ".rec") {
			h.load(number)
		}
	}
	if len(h.segments) == 0 {
		h.segments = []segment{{number: 1}}
	}
	if err := h.openFile(h.segments[len(h.segments)-1].number); err != nil {
		return nil, fmt.Errorf("history %s cannot be written: %w", h.dir, plain(err))
	}
	go h.write()
	return h, nil
}

// load reads a file of an earlier run; a torn end of it is cut off.
func (h *history) load(number int) {
	s := segment{number: number}
	f, err := os.OpenFile(h.path(number), os.O_RDWR, 0)
	if err != nil {
		h.log.Warn("history: a file is left out", "file", h.path(number), "error", err)
		return
	}
	defer f.Close()
	good, err := readHistory(f, func(r *logv1.HistoryRecord) { s.note(r); h.recall(r) })
	if err != io.EOF {
		s.damaged = errors.Is(err, errHistoryDamaged)
		if err := f.Truncate(good); err != nil {
			h.log.Warn("history: the end of a file is damaged", "file", f.Name(), "error", err)
		}
	}
	h.segments = append(h.segments, s)
}

func (s *segment) note(r *logv1.HistoryRecord) {
	s.newest = max(s.newest, lease.Calendar(r.GetDate()))
	if r.GetGap() {
		s.gapped = lease.Calendar(r.GetDate())
	}
}

// recall takes up from a record what the writer must know.
func (h *history) recall(r *logv1.HistoryRecord) {
	switch k := r.GetKind().(type) {
	case *logv1.HistoryRecord_Mark, *logv1.HistoryRecord_Gap:
		h.applied = max(h.applied, r.GetIndex())
		return
	case *logv1.HistoryRecord_Denial:
		d := denialFrom(r)
		h.unserved.Denied(&lease.Event{Tenant: d.Tenant, Feature: d.Feature, Session: d.Session, Principal: d.Principal, Date: d.Date, Final: d.Final}, d.ID)
	case *logv1.HistoryRecord_Served:
		h.unserved.Served(lease.DenialID{Index: k.Served.GetIndex(), Place: k.Served.GetPlace()})
	}
	h.last = idOf(r)
	h.applied = max(h.applied, r.GetIndex()-1)
}

// openFile opens the file that is written to.
func (h *history) openFile(number int) error {
	f, err := os.OpenFile(h.path(number), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	h.file = f
	info, err := f.Stat()
	if err == nil {
		h.size = info.Size()
	}
	return err
}

// observe notes the events of one applied entry.
func (h *history) observe(l *raft.Log, date lease.Calendar, events []lease.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l.Index <= h.applied {
		return
	}
	h.applied = l.Index
	if len(events) == 0 {
		return
	}
	if h.waiting+len(events) > historyPending {
		h.add(historyItem{index: l.Index, date: date, gap: true})
		return
	}
	h.waiting += len(events)
	h.add(historyItem{index: l.Index, date: date, events: events})
}

// restored notes that the state was replaced: what happened up to there is not known here.
func (h *history) restored(s fsm.Status) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.AppliedIndex > h.applied {
		h.applied = s.AppliedIndex
		h.add(historyItem{index: s.AppliedIndex, date: s.Calendar, gap: true})
	}
}

// persist returns once all that was noted so far is safe on the disk, or cannot be.
func (h *history) persist(date lease.Calendar) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(historyItem{index: h.applied, date: date, sync: true})
	h.await()
}

// add appends to what the writer has to do; mu is held. Gaps next to each other are one.
func (h *history) add(it historyItem) {
	if h.closed {
		return
	}
	if n := len(h.pending); n > 0 && it.gap && h.pending[n-1].gap {
		h.pending[n-1] = it
		return
	}
	h.pending = append(h.pending, it)
	h.added++
	switch {
	case h.waiting > historyPending/2:
		h.hurry()
	case len(h.pending) == 1:
		h.timer.Reset(historyDelay)
	}
}

// hurry has the writer write at once; mu is held.
func (h *history) hurry() {
	h.due = true
	h.wake.Broadcast()
}

// await waits until the writer has dealt with what was added before; mu is held.
func (h *history) await() {
	h.hurry()
	for target := h.added; h.written < target && !h.closed; {
		h.wake.Wait()
	}
}

// write is the writer: whatever waits, in one go.
func (h *history) write() {
	defer close(h.done)
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		for (len(h.pending) == 0 || !h.due) && !h.closed {
			h.wake.Wait()
		}
		items := h.pending
		h.pending, h.waiting, h.due = nil, 0, false
		if len(items) == 0 {
			return
		}
		h.mu.Unlock()
		seen := h.put(items)
		h.mu.Lock()
		s := &h.segments[len(h.segments)-1]
		s.newest, s.gapped = max(s.newest, seen.newest), max(s.gapped, seen.gapped)
		if h.size >= h.max {
			h.rotate()
		}
		h.written += uint64(len(items))
		h.wake.Broadcast()
	}
}

// put writes items to the current file.
func (h *history) put(items []historyItem) (seen segment) {
	buf := h.buf[:0]
	add := func(r *logv1.HistoryRecord) {
		if id := idOf(r); r.GetUsage() != nil || r.GetDenial() != nil || r.GetServed() != nil {
			if id.Compare(h.last) <= 0 {
				return // written before a restart
			}
			h.last = id
		}
		seen.note(r)
		buf, _ = appendHistory(buf, r) // plain data: it cannot fail
	}
	syncs := false
	for _, it := range items {
		switch {
		case it.gap:
			add(&logv1.HistoryRecord{Index: it.index, Date: int64(it.date), Kind: &logv1.HistoryRecord_Gap{Gap: true}})
		case it.sync:
			syncs = true
			add(&logv1.HistoryRecord{Index: it.index, Date: int64(it.date), Kind: &logv1.HistoryRecord_Mark{Mark: true}})
		default:
			h.records(it, add)
		}
	}
	_, err := h.file.Write(buf)
	if err == nil && syncs {
		err = h.file.Sync()
	}
	if err != nil && !h.failed {
		h.failed = true
		h.log.Error("history cannot be written: usage and denials are not complete", "file", h.file.Name(), "error", err)
	}
	h.size += int64(len(buf))
	if h.buf = buf; cap(buf) > historyBuffer {
		h.buf = nil
	}
	return seen
}

// placesPerEvent leaves room among the places of an entry for what an event makes served.
const placesPerEvent = 1024

// records makes the records of an entry's events; add does not keep them.
func (h *history) records(it historyItem, add func(*logv1.HistoryRecord)) {
	for i := range it.events {
		e, place := &it.events[i], uint32(i)*placesPerEvent
		switch e.Kind {
		case lease.Granted:
			for k, id := range h.unserved.Granted(e) {
				if k < placesPerEvent {
					add(&logv1.HistoryRecord{Index: it.index, Place: place + uint32(k), Date: int64(e.Date),
						Kind: &logv1.HistoryRecord_Served{Served: &logv1.HistoryServed{Index: id.Index, Place: id.Place}}})
				}
			}
		case lease.Denied:
			h.unserved.Denied(e, lease.DenialID{Index: it.index, Place: place})
			fallthrough
		default:
			if r := h.maker.record(e, it.index, place); r != nil {
				add(r)
			}
		}
	}
}

// rotate begins a new file and drops the oldest. mu is held, and let go while the disk
// works: entries are applied meanwhile.
func (h *history) rotate() {
	number, drop := h.segments[len(h.segments)-1].number+1, 0
	if len(h.segments) >= historySegments {
		drop = h.segments[0].number
	}
	h.mu.Unlock()
	err := errors.Join(h.file.Sync(), h.file.Close(), h.openFile(number))
	if drop > 0 {
		err = errors.Join(err, os.Remove(h.path(drop)))
	}
	h.mu.Lock()
	if err != nil {
		h.log.Error("history: its files cannot be changed over", "dir", h.dir, "error", err)
	}
	if drop > 0 {
		h.segments = slices.Clone(h.segments[1:])
	}
	h.segments = append(h.segments, segment{number: number})
}

// Close writes what waits, for a while.
func (h *history) Close() error {
	h.mu.Lock()
	h.closed = true
	h.wake.Broadcast()
	h.mu.Unlock()
	select {
	case <-h.done:
		return errors.Join(h.file.Sync(), h.file.Close())
	case <-time.After(drainTimeout):
		h.log.Warn("history: its disk does not answer")
		return nil
	}
}
