package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
)

const (
	// restoreFile is where a backup is kept while it is checked, in the data directory.
	restoreFile = "restore.tmp"
	// resumeTimeout bounds the wait for the epoch after a restore.
	resumeTimeout = 5 * time.Second
	// pieceTimeout bounds one piece of a restore. The batcher takes it within
	// milliseconds; a disk may be slow.
	pieceTimeout = 5 * time.Second
)

// Outcomes of Restore, beside those of Propose. In all but ErrUnknown nothing changed.
var (
	// ErrBadBackup is wrapped when the backup cannot be restored here, whoever asks.
	ErrBadBackup = errors.New("not restored")
	// ErrRestoring is returned while another restore is under way.
	ErrRestoring = errors.New("another restore is under way")
)

// Backup returns a backup of the state, ready to be written, that has every write
// acknowledged before it was asked for. Elsewhere than on the leader: *NotLeaderError.
func (n *Node) Backup(ctx context.Context) (*fsm.Backup, error) {
	e := n.current.Load()
	if e == nil || n.stopping.Load() {
		return nil, n.notLeader()
	}
	ctx, cancel := withTimeout(ctx, ReadTimeout)
	defer cancel()
	b := n.fsm.Backup(n.id, n.cfg.Version, n.clocks.Wall())
	if err := e.verifier.verify(ctx); err != nil {
		if errors.Is(err, errEpochOver) {
			err = n.notLeader()
		}
		return nil, err
	}
	return b, nil
}

// RestoreOptions say how a backup is restored.
type RestoreOptions struct {
	// TakeClusterID restores a backup of another cluster, whose id this one takes.
	TakeClusterID bool
	By            string // who asked, for the audit trail
}

// Restored is what a restore came to.
type Restored struct {
	Backup fsm.BackupHeader
	Sum    [32]byte
	Index  uint64 // of the entry that made the backup the state
	// Fence is for how long no checkout is served from then on.
	Fence time.Duration
}

// Restore makes the backup the state of the cluster. It reads and checks all of the
// backup before anything changes, then commits it piece by piece and at last the entry
// that makes it the state, on every node at one place of the log. After any error but
// one that wraps ErrUnknown nothing has changed.
func (n *Node) Restore(ctx context.Context, backup io.Reader, o RestoreOptions) (Restored, error) {
	if !n.restoring.CompareAndSwap(false, true) {
		return Restored{}, ErrRestoring
	}
	defer n.restoring.Store(false)
	e := n.current.Load()
	if e == nil || n.stopping.Load() {
		return Restored{}, n.notLeader()
	}
	file, size, err := n.keepBackup(backup)
	if err != nil {
		return Restored{}, err
	}
	defer func() {
		file.Close()
		os.Remove(file.Name())
	}()
	b, err := n.checkBackup(file, o)
	if err != nil {
		return Restored{}, err
	}
	r := Restored{Backup: b.Header, Sum: b.Sum}
	if err := n.stageBackup(ctx, e, file, b.Sum); err != nil {
		n.dropStage(e)
		return r, err
	}
	cmd := fsm.Restore{Sum: b.Sum, Size: size, ClusterID: b.Header.ClusterID, BackupIndex: b.Header.Index, By: o.By}
	hash, _ := hex.DecodeString(b.Header.StateHash)
	copy(cmd.BackupHash[:], hash)
	ctx, cancel := withTimeout(context.WithoutCancel(ctx), ProposeTimeout) // not left half-known by a caller who goes away
	defer cancel()
	applied, err := e.proposer.propose(ctx, cmd)
	switch {
	case errors.Is(err, errEpochOver):
		return r, n.notLeader()
	case err != nil:
		return r, err
	case applied.Reply.Refusal != nil:
		return r, fmt.Errorf("%w: %s", ErrBadBackup, applied.Reply.Refusal.Message)
	}
	r.Index, r.Fence = applied.Index, n.fsm.Fence()
	n.log.Warn("restored a backup", "backup_index", b.Header.Index, "made_at", b.Header.MadeAt, "index", r.Index, "by", o.By, "checkouts_wait", r.Fence)
	n.awaitEpoch(ctx, r.Index)
	return r, nil
}

// keepBackup writes the backup to a file of this node: it is read twice, and a slow
// sender must not hold up the log.
func (n *Node) keepBackup(backup io.Reader) (*os.File, uint64, error) {
	dir := n.cfg.DataDir
	if dir == "" {
		dir = os.TempDir() // a node without a directory is one of a simulation or test
	}
	file, err := os.CreateTemp(dir, restoreFile+"*")
	if err != nil {
		return nil, 0, fmt.Errorf("%w: no place to keep the backup: %w", ErrBadBackup, plain(err))
	}
	size, err := io.Copy(file, io.LimitReader(backup, fsm.MaxBackup+1))
	if err == nil && size > fsm.MaxBackup {
		err = fmt.Errorf("%w: the backup is too big: at most %d MiB can be restored", ErrBadBackup, fsm.MaxBackup>>20)
	}
	if err != nil {
		file.Close()
		os.Remove(file.Name())
		return nil, 0, err
	}
	return file, uint64(size), nil
}

// sweepBackups removes what a crash in the middle of a restore left in the directory.
func sweepBackups(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, restoreFile+"*"))
	for _, name := range left {
		os.Remove(name)
	}
}

// checkBackup reads all of the backup.
func (n *Node) checkBackup(file *os.File, o RestoreOptions) (*fsm.Backup, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadBackup, plain(err))
	}
	b, err := fsm.ReadBackup(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadBackup, err)
	}
	if own := n.fsm.Status().ClusterID; b.Header.ClusterID != own && !o.TakeClusterID {
		return nil, fmt.Errorf("%w: the backup is of cluster %s, this is cluster %s", ErrBadBackup, b.Header.ClusterID, own)
	}
	if b.LogVersion > n.fsm.LogVersion() {
		return nil, fmt.Errorf("%w: %w", ErrBadBackup, n.versionError("the backup", b.LogVersion))
	}
	return b, nil
}

// stageBackup commits the pieces. Whatever becomes of one that fails, it changes nothing
// that anybody sees; so its error is definite.
func (n *Node) stageBackup(ctx context.Context, e *epoch, file *os.File, sum [32]byte) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("%w: %w", ErrBadBackup, plain(err))
	}
	for at := uint64(0); ; {
		data := make([]byte, fsm.MaxPart)
		k, err := io.ReadFull(file, data)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: %w", ErrBadBackup, plain(err))
		}
		bounded, cancel := context.WithTimeout(ctx, pieceTimeout)
		applied, err := e.proposer.propose(bounded, fsm.RestorePart{Sum: sum, Offset: at, Data: data[:k]})
		cancel()
		switch {
		case errors.Is(err, errEpochOver):
			return n.notLeader()
		case err != nil:
			return fmt.Errorf("%w (the backup was not sent to a majority in time)", ErrNotApplied)
		case applied.Reply.Refusal != nil:
			return fmt.Errorf("%w: %s", ErrBadBackup, applied.Reply.Refusal.Message)
		}
		at += uint64(k)
	}
}

// dropStage frees what was staged, if this node still leads; a new leader's first entry
// does it otherwise.
func (n *Node) dropStage(e *epoch) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = e.proposer.propose(ctx, fsm.RestorePart{})
}

// awaitEpoch waits until this node serves in the epoch after a restore, for a while.
func (n *Node) awaitEpoch(ctx context.Context, restored uint64) {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		if e := n.current.Load(); e != nil && e.Index > restored {
			return
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return
		}
	}
}

// superseded starts the next epoch of a leader whose epoch a restore has ended: the
// clock needs a new base, and what is still in flight has no effect.
func (n *Node) superseded(e *epoch) {
	select {
	case n.epochOver <- e:
	default: // it is told already
	}
}

// begunAnew says whether raft still has this node as the leader whose epoch e was.
func (n *Node) begunAnew(ended, e *epoch) bool {
	return ended == e && e != nil && n.raft.State() == raft.Leader
}
