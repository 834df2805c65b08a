package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// A backup is restored by entries of the log: its pieces first, which are only staged,
// then one entry that makes it the state. So every replica goes over at one place of the
// log or none does, whatever leader or disk fails meanwhile. Raft's own Restore has the
// leader go over before the others: if it fails between, it is another replica.

// Limits of a restore.
const (
	// MaxPart is how much of a backup one entry carries: small beside MaxEntryBytes, so
	// that heartbeats fit beside it and a slow follower is never long at one entry.
	MaxPart = 256 << 10
	// MaxBackup bounds a backup: every node holds it in memory for as long as a restore
	// takes, beside the old and the new state. A million leases take about a third of it.
	MaxBackup = 512 << 20
)

// RestorePart stages a piece of the backup with the checksum Sum. Pieces come in order;
// one at offset 0 begins anew, and an empty one drops what was staged. To the rules it is
// a Tick.
type RestorePart struct {
	lease.Tick
	Sum    [32]byte
	Offset uint64
	Data   []byte
}

// Restore makes the staged backup the state: sessions, leases and licences are those of
// the backup, continued by lease.Book.Resume. It begins an epoch, so that every entry
// proposed before it and not yet applied has no effect. To the rules it is a Tick.
type Restore struct {
	lease.Tick
	Sum  [32]byte
	Size uint64
	// ClusterID is what the cluster is called from now on.
	ClusterID string
	// BackupIndex and BackupHash say what state is gone back to, for the audit.
	BackupIndex uint64
	BackupHash  [32]byte
	By          string // who asked, for the audit trail
}

// stage is what there is of a backup so far. It ends with the epoch.
type stage struct {
	sum   [32]byte
	parts [][]byte // never written into
	size  uint64
}

func (s *stage) add(p RestorePart) *lease.Refusal {
	if p.Offset == 0 {
		*s = stage{sum: p.Sum}
	}
	switch {
	case p.Sum != s.sum || p.Offset != s.size:
		return notStaged("a piece at %d does not follow what is staged (%d bytes)", p.Offset, s.size)
	case s.size+uint64(len(p.Data)) > MaxBackup:
		return notStaged("a backup has at most %d bytes", uint64(MaxBackup))
	case len(p.Data) > 0:
		s.parts = append(s.parts, p.Data)
		s.size += uint64(len(p.Data))
	}
	return nil
}

// each visits the staged pieces in order.
func (s *stage) each(yield func(RestorePart) bool) {
	at := uint64(0)
	for _, data := range s.parts {
		if !yield(RestorePart{Sum: s.sum, Offset: at, Data: data}) {
			return
		}
		at += uint64(len(data))
	}
}

func (s *stage) reader() io.Reader {
	readers := make([]io.Reader, len(s.parts))
	for i, p := range s.parts {
		readers[i] = bytes.NewReader(p)
	}
	return io.MultiReader(readers...)
}

func notStaged(format string, args ...any) *lease.Refusal {
	return &lease.Refusal{Reason: lease.Invalid, Message: "not restored: " + fmt.Sprintf(format, args...), Final: true}
}

// carryOut applies one command. All but restores are for the rules.
func (f *FSM) carryOut(l *raft.Log, cmd lease.Command) lease.Reply {
	switch c := cmd.(type) {
	case RestorePart:
		return lease.Reply{Refusal: f.stage.add(c)}
	case Restore:
		return lease.Reply{Refusal: f.restore(l, c)}
	case RaiseVersion:
		f.raise(l, c)
		return lease.Reply{}
	}
	if isNext(cmd) {
		return lease.Reply{}
	}
	if reply, ok := f.carryOutAccess(cmd); ok {
		return reply
	}
	return f.book.Apply(l.Index, cmd)
}

// restore replaces the ledger. A backup that is not staged whole is refused on every
// node; one that cannot be read although it is whole was written by a later version than
// this one, and this node must not go on without it.
func (f *FSM) restore(l *raft.Log, c Restore) *lease.Refusal {
	if f.stage.sum != c.Sum || f.stage.size != c.Size {
		return notStaged("%d of %d bytes are staged", f.stage.size, c.Size)
	}
	backup, err := readWholeBackup(f.stage.reader(), f.opts.Understands)
	if err == nil && backup.Sum != c.Sum {
		return notStaged("%v", ErrDamaged)
	}
	if err != nil {
		f.opts.Fatal(fmt.Errorf("log index %d: the backup cannot be restored: %w; run the version that restored it, or a later one", l.Index, err))
		return notStaged("%v", err)
	}
	old, known := f.book, backup.Header.ClusterID == f.status.ClusterID
	f.book, f.stage = backup.book, stage{}
	f.book.Resume(old, known)
	f.tokens.Store(f.tokens.Load().After(backup.tokens, known))
	f.replaced = append(f.replaced, old.TakeEvents()...)
	if !known {
		f.status.Recoveries, f.status.Lineage = max(f.status.Recoveries, backup.recoveries)+1, takenOver(l, c, f.status.ClusterID)
	}
	f.status.ClusterID = c.ClusterID
	f.setVersion(max(f.status.LogVersion, backup.LogVersion)) // it never falls: what is in the log stays there
	f.status.Epoch.Index, f.status.Epoch.Term = l.Index, l.Term
	f.events.gap()
	return nil
}

// takenOver names the lineage of a cluster that goes on in the place of the one that the
// backup is of. Nodes of that one, should they come back, have its cluster id and another
// lineage. The id of the cluster that takes over is random, so no two ever agree.
func takenOver(l *raft.Log, c Restore, own string) string {
	h := sha256.New()
	h.Write([]byte("taken over by " + own))
	h.Write(c.Sum[:])
	h.Write(binary.BigEndian.AppendUint64(nil, l.Index))
	return hex.EncodeToString(h.Sum(nil)[:lineageBytes])
}

// lineageBytes keeps the name of a lineage short: it travels in gossip's 512 bytes.
const lineageBytes = 4

func toPart(p RestorePart) *logv1.RestorePart {
	return &logv1.RestorePart{Sum: p.Sum[:], Offset: p.Offset, Data: p.Data}
}

func fromPart(x *logv1.RestorePart) RestorePart {
	p := RestorePart{Offset: x.GetOffset(), Data: x.GetData()}
	copy(p.Sum[:], x.GetSum())
	return p
}

func toRestore(r Restore) *logv1.Restore {
	return &logv1.Restore{Sum: r.Sum[:], Size: r.Size, ClusterId: r.ClusterID, BackupIndex: r.BackupIndex, BackupHash: r.BackupHash[:], By: r.By}
}

func fromRestore(x *logv1.Restore) Restore {
	r := Restore{Size: x.GetSize(), ClusterID: x.GetClusterId(), BackupIndex: x.GetBackupIndex(), By: x.GetBy()}
	copy(r.Sum[:], x.GetSum())
	copy(r.BackupHash[:], x.GetBackupHash())
	return r
}

// Fence is how long checkouts still wait after a restore; 0: they do not.
func (f *FSM) Fence() (left time.Duration) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return max(0, f.book.FenceUntil.Sub(f.book.Now()))
}
