package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	walfs "github.com/hashicorp/raft-wal/fs"
	walsegment "github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/seatkeeper/seatkeeper/lease"
)

// LogStore names how a node keeps its log. A data directory is of one kind for good.
type LogStore string

const (
	// LogBolt keeps entries in bolt: two syncs an append, copy on write. The default.
	LogBolt LogStore = "bolt"
	// LogWAL keeps entries in segment files of raft-wal, one sync an append. Its makers
	// call it experimental, so it is for those who ask for it. Terms, votes and the list
	// of segments stay in raft.db, behind checksums.
	LogWAL LogStore = "wal"
)

// known says whether the word is one of the two; "" is "whatever is there".
func (s LogStore) known() bool { return s == LogBolt || s == LogWAL }

const (
	// segmentsDir holds the segment files of LogWAL.
	segmentsDir = "wal"
	// segmentBytes is the size that a segment file is given at once, raft-wal's own
	// default: a new one costs three syncs, and 64 MiB last for minutes of full load.
	segmentBytes = 64 << 20
)

// Keys in raft.db, beside raft's and the incarnation.
var (
	keyLogStore = []byte("SeatkeeperLogStore") // missing: bolt
	keySegments = []byte("SeatkeeperSegments") // types.PersistentState as JSON
)

// openSegments opens the segment files. It also ends what a crash left half done, but
// for a read-only log.
func (c *checkedLog) openSegments(dir string, readOnly bool, log hclog.Logger) (_ *wal.WAL, err error) {
	at := filepath.Join(dir, segmentsDir)
	defer func() {
		if p := recover(); p != nil {
			err = &DamageError{File: at, What: fmt.Sprintf("its files cannot be read (%v)", p), ID: c.id}
		}
	}()
	w, err := wal.Open(at, wal.WithMetaStore(&segmentList{log: c, readOnly: readOnly}), wal.WithSegmentSize(segmentBytes),
		wal.WithSegmentFiler(walsegment.NewFiler(at, segmentFiles{FS: walfs.New(), readOnly: readOnly})), wal.WithLogger(log.Named("wal")))
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s cannot be opened: %w", pe.Path, pe.Err)
	}
	if err != nil {
		return nil, &DamageError{File: at, What: fmt.Sprintf("its files do not fit together (%v)", err), ID: c.id}
	}
	return w, nil
}

// checkSegments looks for what is missing at either end; what lies between, checkEntries
// reads.
func (c *checkedLog) checkSegments(dir string, st logState, snapshotIndex uint64) error {
	first, err := c.FirstIndex()
	if err != nil {
		return err
	}
	last, err := c.LastIndex()
	if err != nil {
		return err
	}
	m, err := readMark(filepath.Join(dir, markFile))
	switch {
	case err != nil:
		return err
	case first > snapshotIndex+1:
		return c.entriesDamaged(fmt.Sprintf("it begins at entry %d but the newest snapshot ends at %d", first, snapshotIndex))
	case st.txid == m.txid && last < m.last:
		// Every cut of the log changes raft.db first, so nothing but a loss makes it shorter.
		return c.entriesDamaged(fmt.Sprintf("its newest writes are gone (entry %d of %d)", last, m.last))
	}
	return nil
}

// segmentList is what raft-wal must remember of its files. It is kept in raft.db, whose
// values have checksums and whose transactions the mark counts.
type segmentList struct {
	log      *checkedLog
	readOnly bool
}

// Load returns the list, empty before the first.
func (s *segmentList) Load(string) (st types.PersistentState, err error) {
	value, err := s.log.bolt.Get(keySegments)
	if err != nil {
		return st, nil // raft-boltdb has one error only: not found
	}
	value, ok := openValue(keySegments, value)
	if !ok {
		return st, fmt.Errorf("%w: the list of segments does not match its checksum", wal.ErrCorrupt)
	}
	return st, json.Unmarshal(value, &st)
}

// CommitState returns when the list is on the disk. raft-wal calls it during writes and,
// for the next segment, beside them; there it only logs an error, so a failure ends the
// node from here.
func (s *segmentList) CommitState(st types.PersistentState) error {
	if s.readOnly {
		return nil
	}
	value, err := json.Marshal(st)
	if err == nil {
		err = s.log.set(keySegments, value)
	}
	if fail := s.log.fail.Load(); err != nil && fail != nil {
		(*fail)(writeFailed(s.log.path, err).Error())
	}
	return err
}

// errOtherKeys: raft's own values do not pass through raft-wal.
var errOtherKeys = errors.New("raft's values are kept in " + logFile)

func (s *segmentList) GetStable([]byte) ([]byte, error) { return nil, errOtherKeys }
func (s *segmentList) SetStable(_, _ []byte) error      { return errOtherKeys }
func (s *segmentList) Close() error                     { return nil }

// segmentFiles are raft-wal's files, for a reader that changes nothing and for a writer
// that syncs data only: bolt does the same, and the time of the last change is nobody's
// promise.
type segmentFiles struct {
	*walfs.FS
	readOnly bool
}

// Create makes a segment file of its full size.
func (f segmentFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if f.readOnly {
		return noFile{}, nil
	}
	made, err := f.FS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	return &segmentFile{WritableFile: made, dir: dir}, nil
}

// OpenWriter opens the last segment.
func (f segmentFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	flag := os.O_RDWR
	if f.readOnly {
		flag = os.O_RDONLY
	}
	file, err := os.OpenFile(filepath.Join(dir, name), flag, 0)
	if err != nil {
		return nil, err
	}
	return &segmentFile{WritableFile: file, dir: dir}, nil
}

// Delete removes a segment that nothing needs any more.
func (f segmentFiles) Delete(dir, name string) error {
	if f.readOnly {
		return nil
	}
	return f.FS.Delete(dir, name)
}

// segmentFile syncs its directory with its first sync: it may be new there, also when it
// was made just before a crash.
type segmentFile struct {
	types.WritableFile
	dir    string
	synced bool // one writer at a time
}

func (f *segmentFile) Sync() error {
	if lease.Broken(lease.GuardSync) {
		return nil
	}
	if err := syncData(f.WritableFile); err != nil || f.synced {
		return err
	}
	if err := syncDir(f.dir); err != nil {
		return err
	}
	f.synced = true
	return nil
}

// noFile stands for a segment that a reader finds missing.
type noFile struct{}

func (noFile) ReadAt([]byte, int64) (int, error)  { return 0, io.EOF }
func (noFile) WriteAt([]byte, int64) (int, error) { return 0, fs.ErrPermission }
func (noFile) Sync() error                        { return nil }
func (noFile) Close() error                       { return nil }

var _ raft.MonotonicLogStore = (*checkedLog)(nil)
