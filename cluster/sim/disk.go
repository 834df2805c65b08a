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
// returned from is durable. A crash takes the content away by fork: the dying node goes
// on writing to a copy that nobody will ever read.
type disk struct {
	mu        sync.Mutex
	low, high uint64
	logs      map[uint64]*raft.Log
	kv        map[string][]byte
	snaps     []*diskSnapshot
	hungUntil time.Time
}

type diskSnapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

var errNoKey = errors.New("not found") // the text raft knows a missing key by

func newDisk() *disk { return &disk{logs: map[uint64]*raft.Log{}, kv: map[string][]byte{}} }

func (d *disk) fork() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	return &disk{low: d.low, high: d.high, logs: maps.Clone(d.logs), kv: maps.Clone(d.kv), snaps: slices.Clone(d.snaps)}
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
	d.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range logs {
		x := *l
		d.logs[l.Index] = &x
		if d.low == 0 {
			d.low = l.Index
		}
		d.high = max(d.high, l.Index)
	}
	return nil
}

func (d *disk) DeleteRange(lo, hi uint64) error {
	d.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := lo; i <= hi; i++ {
		delete(d.logs, i)
	}
	if lo <= d.low {
		d.low = hi + 1
	}
	if hi >= d.high {
		d.high = lo - 1
	}
	if d.low > d.high {
		d.low, d.high = 0, 0
	}
	return nil
}

func (d *disk) Set(k, v []byte) error {
	d.wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kv[string(k)] = bytes.Clone(v)
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
	d    *disk
	snap *diskSnapshot
}

func (s *sink) ID() string    { return s.snap.meta.ID }
func (s *sink) Cancel() error { return nil }

func (s *sink) Close() error {
	s.d.wait()
	s.snap.data = s.Bytes()
	s.snap.meta.Size = int64(s.Len())
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	s.d.snaps = append(s.d.snaps, s.snap)
	if len(s.d.snaps) > 2 {
		s.d.snaps = s.d.snaps[1:]
	}
	return nil
}
