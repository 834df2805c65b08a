package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// disk is the log, stable and snapshot store of one node in memory. What a call
// returned from is durable, unless the disk lies. A crash takes the content away by fork:
// the dying node goes on writing to a copy that nobody will ever read. Power can also
// fail within a write; then nothing, half or all of it is found afterwards.
type disk struct {
	mu        sync.Mutex
	low, high uint64
	logs      map[uint64]*raft.Log
	kv        map[string][]byte
	snaps     []*diskSnapshot
	hungUntil time.Time

	writes int        // log, stable and snapshot writes so far
	armed  *powerFail // nil: power stays on
	final  *disk      // what is found after power failed in a write
	lying  bool       // acknowledges writes that are not durable yet
	synced *disk      // of a lying disk: what is durable
}

// outcome is what is found of a write in which power failed.
type outcome int

// Outcomes of a write. Half of a write that has one part only is nothing.
const (
	nothing outcome = iota
	half
	allButAck
)

var outcomes = []outcome{nothing, half, allButAck}

func (o outcome) String() string {
	return [...]string{"nothing", "half", "all but the acknowledgement"}[o]
}

// parts is how many of n parts of a write are durable.
func (o outcome) parts(n int) int { return [...]int{0, n / 2, n}[o] }

// powerFail is a power failure in the write numbered at.
type powerFail struct {
	at      int
	outcome outcome
	then    func() // called without any lock
}

// lieLength is how many writes a lying disk keeps in its cache before it writes them out.
const lieLength = 40

type diskSnapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

var errNoKey = errors.New("not found") // the text raft knows a missing key by

func newDisk() *disk { return &disk{logs: map[uint64]*raft.Log{}, kv: map[string][]byte{}} }

// fork gives what is found on the disk after a crash.
func (d *disk) fork() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.durable()
}

func (d *disk) durable() *disk {
	switch {
	case d.final != nil:
		return d.final
	case d.lying:
		c := d.synced.content()
		c.lie()
		return c
	}
	return d.content()
}

func (d *disk) content() *disk {
	return &disk{low: d.low, high: d.high, logs: maps.Clone(d.logs), kv: maps.Clone(d.kv), snaps: slices.Clone(d.snaps), writes: d.writes}
}

// lie makes the disk acknowledge writes before they are durable.
func (d *disk) lie() { d.lying, d.synced = true, d.content() }

// arm lets power fail in the n-th write from now.
func (d *disk) arm(n int, o outcome, then func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = &powerFail{d.writes + n, o, then}
}

func (d *disk) disarm() { d.mu.Lock(); defer d.mu.Unlock(); d.armed = nil }

func (d *disk) written() int { d.mu.Lock(); defer d.mu.Unlock(); return d.writes }

// write carries out one write of n parts; do makes the first k of them. If power fails
// in it, what the dying process does afterwards goes to a copy nobody will read.
func (d *disk) write(n int, do func(k int)) {
	d.wait()
	d.mu.Lock()
	d.writes++
	fail := d.armed
	if fail != nil && d.writes >= fail.at {
		d.armed = nil
		if k := fail.outcome.parts(n); k > 0 {
			do(k)
		}
		d.final = d.durable()
	} else {
		fail = nil
	}
	do(n)
	if d.lying && d.writes%lieLength == 0 {
		d.synced = d.content()
	}
	d.mu.Unlock()
	if fail != nil {
		fail.then()
	}
}

// entry gives the term and content of a log entry; ok is false if it is not there.
func (d *disk) entry(i uint64) (term uint64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l, ok := d.logs[i]
	if !ok {
		return 0, false
	}
	return l.Term, true
}

// covers says whether a snapshot stands for the entry.
func (d *disk) covers(i uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.snaps) > 0 && d.snaps[len(d.snaps)-1].meta.Index >= i
}

// hang makes writes wait until t.
func (d *disk) hang(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hungUntil = t
}

func (d *disk) wait() {
	for {
		d.mu.Lock()
		w := time.Until(d.hungUntil)
		d.mu.Unlock()
		if w <= 0 {
			return
		}
		time.Sleep(min(w, 50*time.Millisecond)) // it may be over sooner
	}
}

func (d *disk) FirstIndex() (uint64, error) { d.mu.Lock(); defer d.mu.Unlock(); return d.low, nil }
func (d *disk) LastIndex() (uint64, error)  { d.mu.Lock(); defer d.mu.Unlock(); return d.high, nil }

func (d *disk) GetLog(i uint64, l *raft.Log) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.logs[i]
	if !ok {
		return raft.ErrLogNotFound
	}
	*l = *x
	return nil
}

func (d *disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *disk) StoreLogs(logs []*raft.Log) error {
	d.write(len(logs), func(k int) {
		for _, l := range logs[:k] {
			x := *l
			d.logs[l.Index] = &x
			if d.low == 0 {
				d.low = l.Index
			}
			d.high = max(d.high, l.Index)
		}
	})
	return nil
}

func (d *disk) DeleteRange(lo, hi uint64) error {
	d.write(int(hi-lo+1), func(k int) {
		from, to := lo, lo+uint64(k)-1
		if hi >= d.high { // a tail goes from its end, so that no hole is left
			from, to = hi-uint64(k)+1, hi
		}
		for i := from; i <= to; i++ {
			delete(d.logs, i)
		}
		if from <= d.low {
			d.low = to + 1
		}
		if to >= d.high {
			d.high = from - 1
		}
		if d.low > d.high {
			d.low, d.high = 0, 0
		}
	})
	return nil
}

func (d *disk) Set(k, v []byte) error {
	d.write(1, func(int) { d.kv[string(k)] = bytes.Clone(v) })
	return nil
}

func (d *disk) Get(k []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok := d.kv[string(k)]
	if !ok {
		return nil, errNoKey
	}
	return v, nil
}

func (d *disk) SetUint64(k []byte, v uint64) error { return d.Set(k, fmt.Append(nil, v)) }

func (d *disk) GetUint64(k []byte) (uint64, error) {
	v, err := d.Get(k)
	if err != nil {
		return 0, err
	}
	var n uint64
	_, err = fmt.Sscan(string(v), &n)
	return n, err
}

// snapshots is the SnapshotStore side of a disk.
type snapshots struct{ d *disk }

func (s snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &sink{d: s.d, snap: &diskSnapshot{meta: raft.SnapshotMeta{
		Version: v, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}}, nil
}

func (s snapshots) List() ([]*raft.SnapshotMeta, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	var out []*raft.SnapshotMeta
	for _, x := range slices.Backward(s.d.snaps) {
		out = append(out, &x.meta)
	}
	return out, nil
}

func (s snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for _, x := range s.d.snaps {
		if x.meta.ID == id {
			return &x.meta, io.NopCloser(bytes.NewReader(x.data)), nil
		}
	}
	return nil, nil, fmt.Errorf("no snapshot %s", id)
}

type sink struct {
	bytes.Buffer
	d      *disk
	snap   *diskSnapshot
	closed bool
}

func (s *sink) ID() string    { return s.snap.meta.ID }
func (s *sink) Cancel() error { return nil }

// Close writes the snapshot. Both the state machine and raft close it; the second does nothing.
func (s *sink) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	s.snap.data, s.snap.meta.Size = s.Bytes(), int64(s.Len())
	// A snapshot has two parts: its content, and the rename that makes it count.
	s.d.write(2, func(k int) {
		if k < 2 || slices.Contains(s.d.snaps, s.snap) { // the write after a power failure in it
			return
		}
		s.d.snaps = append(s.d.snaps, s.snap)
		if len(s.d.snaps) > 2 {
			s.d.snaps = s.d.snaps[1:]
		}
	})
	return nil
}
