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
)

// Names in the data directory.
const (
	lockFile = "lock"
	idFile   = "node-id"
	logFile  = "raft.db"
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

// storage is the data directory of one node: open, locked and named.
type storage struct {
	id        string // NAME-INCARNATION
	bolt      *raftboltdb.BoltStore
	snapshots *raft.FileSnapshotStore
	lock      *os.File
}

// openStorage opens or creates the data directory. A directory is made for one node
// for good: the incarnation in it is part of the server id, so an emptied directory
// is a new server and never votes as the old one, whose promises it has lost.
func openStorage(dir, name string, log hclog.Logger) (_ *storage, err error) {
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
	incarnation, err := readIncarnation(dir)
	if err != nil {
		return nil, err
	}
	s.id = name + "-" + incarnation
	s.bolt, err = raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, logFile),
		BoltOptions: &bbolt.Options{
			Timeout: boltTimeout,
			// The freelist is rebuilt at start instead of written with every entry.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return nil, fmt.Errorf("raft log %s: %w", filepath.Join(dir, logFile), err)
	}
	if s.snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log.Named("snapshot")); err != nil {
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	// Neither bolt nor the snapshot store syncs the directory it makes files in.
	if err := syncDir(dir); err != nil {
		return nil, err
	}
	return s, nil
}

// Close lets go of everything that is open.
func (s *storage) Close() error {
	var errs []error
	if s.bolt != nil {
		errs = append(errs, s.bolt.Close())
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

// readIncarnation reads the node's incarnation, or makes it in an empty directory.
func readIncarnation(dir string) (string, error) {
	path := filepath.Join(dir, idFile)
	b, err := os.ReadFile(path)
	if err == nil {
		id := strings.TrimSpace(string(b))
		if !incarnationForm.MatchString(id) {
			return "", fmt.Errorf("%s does not hold 8 hexadecimal digits: restore it from a backup or start with an empty data directory", path)
		}
		return id, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("data directory %s cannot be read: %w", dir, plain(err))
	}
	if _, err := os.Stat(filepath.Join(dir, logFile)); err == nil {
		return "", fmt.Errorf("%s is missing beside %s: restore it from a backup or start with an empty data directory", path, logFile)
	}
	var random [4]byte
	rand.Read(random[:]) // never fails
	id := hex.EncodeToString(random[:])
	if err := writeSynced(path, id+"\n"); err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	return id, nil
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
