package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Names in the data directory.
const (
	lockFile = "lock"
	idFile   = "node-id"
	logFile  = "raft.db"
	markFile = "raft.mark"
)

const (
	// boltTimeout bounds the wait for bolt's own lock; ours is taken before.
	boltTimeout = time.Second
	// snapshotsKept: the newest may be the one being replaced.
	snapshotsKept = 2
	// logCacheEntries keeps recent entries in memory for followers that are a little
	// behind: 64 MiB at worst (entries have at most 512 KiB), usually a few.
	logCacheEntries = 128
)

// storage is the data directory of one node: checked, open, locked and named.
type storage struct {
	id        string // NAME-INCARNATION
	log       *checkedLog
	snapshots *checkedSnapshots
	lock      *os.File
}

// openStorage opens or creates the data directory. A directory is made for one node
// for good: the incarnation in it is part of the server id, so an emptied directory
// is a new server and never votes as the old one, whose promises it has lost. All that
// is in it is checked first; damage is a *DamageError.
//
// store says how a new directory keeps its log; "" is bolt then, and whatever is there
// otherwise.
func openStorage(dir, name string, store LogStore, log hclog.Logger) (_ *storage, err error) {
	if err := makeDataDir(dir); err != nil {
		return nil, err
	}
	s := &storage{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	if _, err := finishRecovery(dir); err != nil {
		return nil, err
	}
	incarnation, err := settleIdentity(dir, store)
	if err != nil {
		return nil, err
	}
	s.id = name + "-" + incarnation
	if s.snapshots, err = openSnapshots(dir, s.id, log); err != nil {
		return nil, err
	}
	s.snapshots.sweep("")
	if s.log, err = openLog(dir, s.id, s.snapshots, false, log); err != nil {
		return nil, err
	}
	if have := s.log.store(); store.known() && have != store {
		return nil, fmt.Errorf("data directory %s keeps its log as %q, not as log_store says (%q): set log_store: %s, or rebuild this node with an empty directory",
			dir, have, store, have)
	}
	// Neither bolt nor the snapshot store syncs the directory it makes files in.
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	return s, nil
}

func openSnapshots(dir, id string, log hclog.Logger) (*checkedSnapshots, error) {
	files, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log.Named("snapshot"))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	return &checkedSnapshots{files: files, dir: filepath.Join(dir, snapshotsDir), id: id}, nil
}

// openLog checks the log against the snapshots and opens it.
func openLog(dir, id string, snaps *checkedSnapshots, readOnly bool, log hclog.Logger) (*checkedLog, error) {
	upTo, err := snaps.check()
	if err != nil {
		return nil, err
	}
	st, err := inspectLog(dir, id, upTo)
	if err != nil {
		return nil, err
	}
	if _, incarnation, _ := cutIncarnation(id); st.incarnation != incarnation {
		return nil, &DamageError{File: filepath.Join(dir, idFile), What: "it is not the " + idFile + " that " + logFile + " belongs to", ID: id}
	}
	if st.store == LogWAL && !readOnly {
		// Opening writes; what is damaged stays as it is found, to be refused again.
		looked, err := openLog(dir, id, snaps, true, hclog.NewNullLogger())
		if err != nil {
			return nil, err
		}
		if err := looked.Close(); err != nil {
			return nil, err
		}
	}
	path := filepath.Join(dir, logFile)
	c := &checkedLog{path: path, id: id}
	if c.bolt, err = openBolt(path, readOnly); err != nil {
		return nil, err
	}
	c.entries = c.bolt
	txid, err := boltTransaction(path) // opening it may have made one
	c.txid.Store(txid)
	if err == nil && st.store == LogWAL {
		if c.wal, err = c.openSegments(dir, readOnly, log); err == nil {
			c.entries = c.wal
			err = c.checkSegments(dir, st, upTo)
		}
	}
	if err == nil && (st.store == LogBolt || readOnly) {
		err = c.checkEntries()
	}
	if err == nil && !readOnly {
		err = c.openMarks(dir)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// store says how the log is kept.
func (c *checkedLog) store() LogStore {
	if c.wal != nil {
		return LogWAL
	}
	return LogBolt
}

// openMarks begins to keep the high-water mark.
func (c *checkedLog) openMarks(dir string) error {
	path := filepath.Join(dir, markFile)
	m, err := readMark(path)
	if err != nil {
		return err
	}
	if c.marks, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, plain(err))
	}
	last, err := c.LastIndex()
	if err == nil {
		c.note(mark{seq: m.seq, txid: c.txid.Load(), last: last, applied: m.applied})
	}
	return err
}

func openBolt(path string, readOnly bool) (*raftboltdb.BoltStore, error) {
	b, err := raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			Timeout: boltTimeout,
			// The freelist is rebuilt at start instead of written with every entry.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			ReadOnly:       readOnly,
		},
		MsgpackUseNewTimeFormat: true,
		NoSync:                  lease.Broken(lease.GuardSync),
	})
	if err != nil {
		return nil, fmt.Errorf("raft log %s: %w", path, err)
	}
	return b, nil
}

// Close lets go of everything that is open.
func (s *storage) Close() error {
	var errs []error
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close()) // drops the lock
	}
	return errors.Join(errs...)
}

func makeDataDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return syncDir(filepath.Dir(dir))
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("data directory %s: its parent directory does not exist", dir)
	case !errors.Is(err, fs.ErrExist):
		return fmt.Errorf("data directory %s cannot be created: %w", dir, plain(err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, plain(err))
	}
	if !info.IsDir() {
		return fmt.Errorf("data directory %s is not a directory", dir)
	}
	return nil
}

// plain drops the path that the caller's message has already.
func plain(err error) error {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// lockDir makes sure that one process at a time uses the directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory %s cannot be used: %w", dir, plain(err))
	}
	if err := lockHandle(f); err != nil {
		f.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("data directory %s is in use by another seatkeeper process", dir)
		}
		return nil, fmt.Errorf("data directory %s cannot be locked: %w", dir, err)
	}
	return f, nil
}

var errLocked = errors.New("locked by another process")

var incarnationForm = regexp.MustCompile(`^[0-9a-f]{8}$`)

// settleIdentity reads the node's incarnation, or makes it in an empty directory: the
// log first, with the incarnation in it, then the file that says so to people. A
// directory that has one without the other has lost something, and is refused, unless
// it was only never finished.
func settleIdentity(dir string, store LogStore) (string, error) {
	logPath, idPath := filepath.Join(dir, logFile), filepath.Join(dir, idFile)
	incarnation, err := readIncarnation(idPath)
	if err != nil {
		return "", err
	}
	switch _, err := os.Stat(logPath); {
	case err == nil && incarnation != "":
		return incarnation, nil
	case err == nil:
		st, err := inspectLog(dir, "", 0)
		if err != nil || !st.unused || !incarnationForm.MatchString(st.incarnation) {
			return "", fmt.Errorf("%s is missing beside %s: restore it from a backup or start with an empty data directory", idPath, logFile)
		}
		incarnation = st.incarnation
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("data directory %s cannot be read: %w", dir, plain(err))
	case incarnation != "":
		return "", &DamageError{File: logPath, What: "it is missing beside " + idFile}
	default:
		for _, left := range []string{snapshotsDir, markFile, segmentsDir} {
			if entries, err := os.ReadDir(filepath.Join(dir, left)); len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", &DamageError{File: logPath, What: "it is missing beside " + left}
			}
		}
		var random [4]byte
		if !lease.Broken(lease.GuardIdentity) {
			rand.Read(random[:]) // never fails
		}
		incarnation = hex.EncodeToString(random[:])
		if store == LogWAL {
			if err := os.MkdirAll(filepath.Join(dir, segmentsDir), 0o700); err != nil {
				return "", fmt.Errorf("data directory %s: %w", dir, plain(err))
			}
		}
		if err := createLog(logPath, incarnation, store); err != nil {
			return "", err
		}
	}
	if err := writeSynced(idPath, incarnation+"\n"); err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	return incarnation, nil
}

// readIncarnation returns "" if there is no such file.
func readIncarnation(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s cannot be read: %w", path, plain(err))
	}
	id := strings.TrimSpace(string(b))
	if !incarnationForm.MatchString(id) {
		return "", fmt.Errorf("%s does not hold 8 hexadecimal digits: restore it from a backup or start with an empty data directory", path)
	}
	return id, nil
}

// createLog makes an empty log that is there whole, or not at all.
func createLog(path, incarnation string, store LogStore) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s cannot be removed: %w", tmp, plain(err))
	}
	b, err := openBolt(tmp, false)
	if err != nil {
		return err
	}
	err = b.Set(keyIncarnation, sealValue(keyIncarnation, []byte(incarnation)))
	if err == nil && store == LogWAL {
		err = b.Set(keyLogStore, sealValue(keyLogStore, []byte(store)))
	}
	if err = errors.Join(err, b.Close()); err == nil {
		if err = os.Rename(tmp, path); err == nil {
			err = syncDir(filepath.Dir(path))
		}
	}
	if err != nil {
		return fmt.Errorf("raft log %s: %w", path, err)
	}
	return nil
}

// writeSynced makes a file that survives a power failure whole, or not at all.
func writeSynced(path, content string) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // cannot sync a directory, and need not
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("directory %s cannot be read: %w", dir, plain(err))
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("directory %s cannot be synced: %w", dir, plain(err))
	}
	return nil
}

// cutIncarnation splits a server id.
func cutIncarnation(id string) (name, incarnation string, ok bool) {
	i := strings.LastIndexByte(id, '-')
	if i < 0 || !incarnationForm.MatchString(id[i+1:]) {
		return id, "", false
	}
	return id[:i], id[i+1:], true
}

// checkLog refuses a log that begins after the newest snapshot ends: entries between
// the two are gone, and going on would make a replica that differs for ever.
func checkLog(logs raft.LogStore, snaps raft.SnapshotStore) error {
	first, err := logs.FirstIndex()
	if err != nil {
		return fmt.Errorf("raft log cannot be read: %w", err)
	}
	list, err := snaps.List()
	if err != nil {
		return fmt.Errorf("snapshots cannot be read: %w", err)
	}
	var upTo uint64
	for _, s := range list {
		upTo = max(upTo, s.Index)
	}
	if first > upTo+1 {
		return fmt.Errorf("raft log begins at entry %d but the newest snapshot ends at %d: entries are missing; start with an empty data directory", first, upTo)
	}
	return nil
}

// gate refuses writes to the log once the node stops. A main loop that was stuck in a
// write then steps down and answers what is in flight, instead of committing it with
// nobody left to apply it.
type gate struct {
	raft.LogStore
	closed atomic.Bool
}

// IsMonotonic passes on what the log says.
func (g *gate) IsMonotonic() bool {
	m, ok := g.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

func (g *gate) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

func (g *gate) StoreLogs(logs []*raft.Log) error {
	if g.closed.Load() {
		return ErrStopped
	}
	err := g.LogStore.StoreLogs(logs)
	if err == nil && g.closed.Load() {
		return ErrStopped
	}
	return err
}
