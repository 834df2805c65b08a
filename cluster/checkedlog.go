package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
)

// sumLen is the CRC-32C that ends the extensions of each stored entry and the value of
// each stored key.
const sumLen = 4

// checkedLog is the log and stable store of one node: bolt, or bolt for values and
// segment files for entries (LogWAL), with a checksum in every record, because neither
// looks at one when it reads, and a high-water mark beside it, because bolt goes back one
// transaction, and raft-wal one append, without a word when their newest write is damaged.
//
// It never lets raft go on after an error: see broken.
type checkedLog struct {
	bolt    *raftboltdb.BoltStore
	entries raft.LogStore // bolt, or segments
	wal     *wal.WAL      // the segments; nil for LogBolt
	path    string
	id      string // server id, for messages

	// fail reports why the node must stop; nil until the node runs. From then on an
	// error that raft would turn into a panic ends the goroutine that met it instead:
	// the process ends a moment later, with one line.
	fail    atomic.Pointer[func(reason string)]
	applied func() uint64 // last entry the state machine applied; may be nil

	txid atomic.Uint64 // bolt's newest transaction known; a new segment is one beside the writes

	mu     sync.Mutex // one write at a time: a mark names what is on the disk
	mark   mark
	marks  *os.File // nil on a read-only store
	broken error    // the first failed write; there is no second
}

// FirstIndex returns the first index of the log, 0 if it is empty.
func (c *checkedLog) FirstIndex() (uint64, error) { return c.entries.FirstIndex() }

// LastIndex returns the last index of the log, 0 if it is empty.
func (c *checkedLog) LastIndex() (uint64, error) { return c.entries.LastIndex() }

// IsMonotonic says that entries must follow each other without a gap, which segments need:
// raft then drops the whole log when it takes over a snapshot.
func (c *checkedLog) IsMonotonic() bool { return c.wal != nil }

// GetLog reads one entry. It returns raft.ErrLogNotFound where there is none; a damaged
// entry ends the node.
func (c *checkedLog) GetLog(index uint64, l *raft.Log) error {
	err := c.get(index, l)
	if damage := (*DamageError)(nil); errors.As(err, &damage) {
		return c.stop(err)
	}
	return err
}

func (c *checkedLog) get(index uint64, l *raft.Log) (err error) {
	// A page that the disk cannot read is a fault of the mapped memory.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = c.entriesDamaged(fmt.Sprintf("entry %d cannot be read (%v)", index, p))
		}
	}()
	*l = raft.Log{} // the decoder leaves what it does not find
	switch err := c.entries.GetLog(index, l); {
	case errors.Is(err, raft.ErrLogNotFound):
		return err
	case err != nil:
		return c.entriesDamaged(fmt.Sprintf("entry %d cannot be read (%v)", index, err))
	}
	n := len(l.Extensions) - sumLen
	if n < 0 || l.Index != index {
		return c.entriesDamaged(fmt.Sprintf("entry %d is not what was written", index))
	}
	sum := little.Uint32(l.Extensions[n:])
	if l.Extensions = l.Extensions[:n:n]; n == 0 {
		l.Extensions = nil
	}
	if len(l.Data) == 0 {
		l.Data = nil
	}
	if sum != sumOf(l) {
		return c.entriesDamaged(fmt.Sprintf("entry %d does not match its checksum", index))
	}
	return nil
}

// sumOf is the checksum over everything in an entry.
func sumOf(l *raft.Log) uint32 {
	head := make([]byte, 0, 40)
	head = little.AppendUint64(head, l.Index)
	head = little.AppendUint64(head, l.Term)
	head = append(head, byte(l.Type))
	head = little.AppendUint64(head, uint64(len(l.Data)))
	if !l.AppendedAt.IsZero() {
		head = little.AppendUint64(head, uint64(l.AppendedAt.UnixNano()))
	}
	sum := crc32.Checksum(head, castagnoli)
	sum = crc32.Update(sum, castagnoli, l.Data)
	return crc32.Update(sum, castagnoli, l.Extensions)
}

// StoreLog writes one entry.
func (c *checkedLog) StoreLog(l *raft.Log) error { return c.StoreLogs([]*raft.Log{l}) }

// StoreLogs writes entries and returns when they are on the disk.
func (c *checkedLog) StoreLogs(logs []*raft.Log) error {
	sealed := make([]raft.Log, len(logs))
	list := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = *l // the caller's own stays as it is: it also goes to others
		sealed[i].Extensions = little.AppendUint32(l.Extensions[:len(l.Extensions):len(l.Extensions)], sumOf(l))
		list[i] = &sealed[i]
	}
	return c.write(c.entriesPath(), func(m *mark) error {
		if len(logs) > 0 {
			m.last = logs[len(logs)-1].Index
		}
		return c.counted(c.wal == nil, c.entries.StoreLogs(list))
	})
}

// DeleteRange deletes entries from lo to hi, both included.
func (c *checkedLog) DeleteRange(lo, hi uint64) error {
	return c.write(c.entriesPath(), func(m *mark) error {
		if err := c.counted(c.wal == nil, c.entries.DeleteRange(lo, hi)); err != nil {
			return err
		}
		last, err := c.entries.LastIndex()
		m.last = last
		return err
	})
}

// Set writes a value under a key and returns when it is on the disk. On a node that
// runs it does not return after an error, but ends the goroutine: raft would panic.
func (c *checkedLog) Set(key, value []byte) error {
	err := c.write(c.path, func(*mark) error { return c.set(key, value) })
	if err != nil && c.fail.Load() != nil {
		runtime.Goexit()
	}
	return err
}

// set is one transaction of bolt.
func (c *checkedLog) set(key, value []byte) error {
	return c.counted(true, c.bolt.Set(key, sealValue(key, value)))
}

// counted notes that bolt has committed one transaction more, if it has.
func (c *checkedLog) counted(transaction bool, err error) error {
	if transaction && err == nil {
		c.txid.Add(1)
	}
	return err
}

// Get reads the value of a key; its error says "not found", as raft wants it, where
// there is none.
func (c *checkedLog) Get(key []byte) ([]byte, error) {
	sealed, err := c.bolt.Get(key)
	if err != nil {
		return nil, err
	}
	value, ok := openValue(key, sealed)
	if !ok {
		return nil, c.stop(c.damaged(fmt.Sprintf("the value of %q does not match its checksum", key)))
	}
	return value, nil
}

// SetUint64 is Set for numbers.
func (c *checkedLog) SetUint64(key []byte, v uint64) error {
	return c.Set(key, little.AppendUint64(nil, v))
}

// GetUint64 is Get for numbers.
func (c *checkedLog) GetUint64(key []byte) (uint64, error) {
	b, err := c.Get(key)
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, c.stop(c.damaged(fmt.Sprintf("the value of %q is no number", key)))
	}
	return little.Uint64(b), nil
}

func sealValue(key, value []byte) []byte {
	return little.AppendUint32(append([]byte(nil), value...), valueSum(key, value))
}

func openValue(key, sealed []byte) ([]byte, bool) {
	n := len(sealed) - sumLen
	if n < 0 || little.Uint32(sealed[n:]) != valueSum(key, sealed[:n]) {
		return nil, false
	}
	return sealed[:n:n], true
}

func valueSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(append(key[:len(key):len(key)], 0), castagnoli), castagnoli, value)
}

// write runs one write of path and moves the mark. After the first error there is no
// other: bolt may already show what it failed to sync.
func (c *checkedLog) write(path string, do func(*mark) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return c.broken
	}
	next := c.mark
	if err := do(&next); err != nil {
		c.broken = writeFailed(path, err)
		if fail := c.fail.Load(); fail != nil {
			(*fail)(c.broken.Error())
		}
		return c.broken
	}
	next.txid = c.txid.Load()
	c.note(next)
	return nil
}

// note writes the mark. That it cannot be written costs only the warning it would give.
func (c *checkedLog) note(m mark) {
	m.seq++
	if c.applied != nil {
		m.applied = max(m.applied, c.applied())
	}
	c.mark = m
	if c.marks != nil {
		_, _ = c.marks.WriteAt(m.encode(), int64(m.seq%2)*markSlot)
	}
}

// run makes errors end the node by way of fail instead of reaching raft.
func (c *checkedLog) run(fail func(reason string)) { c.fail.Store(&fail) }

// stop ends a node that runs; before that it returns err.
func (c *checkedLog) stop(err error) error {
	if fail := c.fail.Load(); fail != nil {
		(*fail)(err.Error())
		runtime.Goexit() // raft would panic, or go on
	}
	return err
}

func (c *checkedLog) damaged(what string) error {
	return &DamageError{File: c.path, What: what, ID: c.id}
}

// entriesDamaged is damaged where entries are kept.
func (c *checkedLog) entriesDamaged(what string) error {
	return &DamageError{File: c.entriesPath(), What: what, ID: c.id}
}

func (c *checkedLog) entriesPath() string {
	if c.wal != nil {
		return filepath.Join(filepath.Dir(c.path), segmentsDir)
	}
	return c.path
}

// Close leaves a last mark and closes the files.
func (c *checkedLog) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.marks != nil {
		if c.broken == nil {
			c.note(c.mark)
		}
		c.marks.Close()
		c.marks = nil
	}
	var err error
	if c.wal != nil {
		err = c.wal.Close()
	}
	return errors.Join(err, c.bolt.Close())
}

// keyIncarnation holds the incarnation of the node in the log's file, so that a
// node-id of another node, or none, is noticed.
var keyIncarnation = []byte("SeatkeeperIncarnation")

// logState is what a look at the log's file found.
type logState struct {
	incarnation string
	txid, last  uint64
	store       LogStore
	unused      bool // nothing was ever written by raft
}

// inspectLog reads the whole of raft.db, without bolt, and says what it holds or what is
// damaged. snapshotIndex is where the newest snapshot ends: only entries up to there
// may be missing. Of segments it knows nothing: see checkSegments.
func inspectLog(dir, id string, snapshotIndex uint64) (logState, error) {
	path := filepath.Join(dir, logFile)
	damaged := func(format string, args ...any) (logState, error) {
		return logState{}, &DamageError{File: path, What: fmt.Sprintf(format, args...), ID: id}
	}
	buckets, txid, err := readBolt(path)
	if err != nil {
		return damaged("%v", err)
	}
	logs, hasLogs := buckets["logs"]
	conf, hasConf := buckets["conf"]
	if !hasLogs || !hasConf || len(buckets) != 2 {
		return damaged("its buckets are not those of a log")
	}
	st := logState{txid: txid, store: LogBolt, unused: true}
	for _, p := range conf {
		value, ok := openValue(p.key, p.value)
		if !ok {
			return damaged("the value of %q does not match its checksum", p.key)
		}
		switch {
		case bytes.Equal(p.key, keyIncarnation):
			st.incarnation = string(value)
		case bytes.Equal(p.key, keyLogStore):
			st.store = LogStore(value)
		default:
			st.unused = false
		}
	}
	st.unused = st.unused && len(logs) == 0
	if !st.store.known() {
		return damaged("it names a log store %q", st.store)
	}
	for i, p := range logs {
		if len(p.key) != 8 {
			return damaged("an entry has an impossible index")
		}
		index := bigEndian(p.key)
		switch {
		case i == 0 && index > snapshotIndex+1:
			return damaged("it begins at entry %d but the newest snapshot ends at %d", index, snapshotIndex)
		case i > 0 && index != st.last+1 && index > snapshotIndex+1:
			return damaged("entries %d to %d are missing", st.last+1, index-1)
		}
		st.last = index
	}
	markPath := filepath.Join(dir, markFile)
	m, err := readMark(markPath)
	switch {
	case err != nil:
		return logState{}, &DamageError{File: markPath, What: err.Error(), ID: id}
	case txid < m.txid, st.store == LogBolt && txid == m.txid && st.last != m.last:
		return damaged("its newest writes are gone (transaction %d of %d, entry %d of %d)", txid, m.txid, st.last, m.last)
	}
	return st, nil
}

func bigEndian(b []byte) (v uint64) { // raft-boltdb's keys
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v
}

// checkEntries reads every entry once, so that damage is found at the start and not
// when an entry is needed.
func (c *checkedLog) checkEntries() error {
	first, err := c.FirstIndex()
	if err != nil {
		return err
	}
	last, err := c.LastIndex()
	if err != nil {
		return err
	}
	for i := first; i <= last && first > 0; i++ {
		var l raft.Log
		switch err := c.get(i, &l); {
		case errors.Is(err, raft.ErrLogNotFound):
			if c.wal != nil { // of bolt's, inspectLog has judged
				return c.entriesDamaged(fmt.Sprintf("entry %d is missing", i))
			}
		case err != nil:
			return err
		}
	}
	return nil
}
