package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

// A backup file is a magic, the length of a header (4 bytes, big endian), the header as
// JSON, a snapshot of the state, and the SHA-256 of all before it.
const (
	backupMagic  = "SKBACKUP"
	backupFormat = 1
	// maxBackupHeader bounds the header on reading: it has a handful of short fields.
	maxBackupHeader = 64 << 10
)

// ErrDamaged is returned when a backup is not what was written.
var ErrDamaged = errors.New("the backup is damaged: its checksum does not match, or its end is missing")

// BackupHeader says what is in a backup.
type BackupHeader struct {
	Format    int    `json:"format"`
	ClusterID string `json:"cluster_id"`
	// Index, Term and StateHash are of the last entry in the backup.
	Index       uint64     `json:"raft_index,string"`
	Term        uint64     `json:"term,string"`
	StateHash   string     `json:"state_hash"`
	ClusterTime lease.Time `json:"cluster_time_ns,string"`
	// MadeAt is by the wall clock of the node that made it.
	MadeAt     time.Time `json:"made_at"`
	MadeBy     string    `json:"made_by"`
	Version    string    `json:"version,omitempty"`
	Licences   int       `json:"licenses"`
	Sessions   int       `json:"sessions"`
	Leases     int       `json:"leases"`
	SeatsInUse int       `json:"seats_in_use"`
	// LogVersion is what a build must understand to restore it; left out where it is the first.
	LogVersion uint32 `json:"log_version,omitempty"`
}

// Backup is a backup: one of this node's state about to be written, or one that was read.
type Backup struct {
	Header BackupHeader
	// Sum is the SHA-256 at the end of a backup that was read.
	Sum [32]byte
	// LogVersion is what a build must understand to restore it.
	LogVersion uint32

	snap       *snapshot
	book       *lease.Book
	tokens     *access.Table
	recoveries uint64
}

// Backup freezes the state. Writing it out happens beside later applies.
func (f *FSM) Backup(madeBy, version string, now time.Time) *Backup {
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.statusLocked()
	h := BackupHeader{
		Format: backupFormat, ClusterID: st.ClusterID, Index: st.AppliedIndex, Term: st.AppliedTerm,
		StateHash: hex.EncodeToString(st.StateHash[:]), ClusterTime: st.Now,
		MadeAt: now.UTC().Truncate(time.Second), MadeBy: madeBy, Version: version, Licences: len(f.book.Licences("")),
	}
	if st.LogVersion > FirstVersion {
		h.LogVersion = st.LogVersion
	}
	h.Sessions, h.Leases = f.book.Counts()
	for _, p := range f.book.Pools("") {
		h.SeatsInUse += p.InUse
	}
	return &Backup{Header: h, LogVersion: st.LogVersion, snap: &snapshot{status: st, frozen: f.book.Freeze(), tokens: f.tokens.Load()}}
}

// WriteTo writes the backup of a frozen state in pieces of some 64 KiB.
func (b *Backup) WriteTo(w io.Writer) (int64, error) {
	header, err := json.Marshal(b.Header)
	if err != nil {
		return 0, err
	}
	sum := sha256.New()
	c := &counter{w: io.MultiWriter(w, sum)}
	head := binary.BigEndian.AppendUint32([]byte(backupMagic), uint32(len(header)))
	if _, err := c.Write(append(head, header...)); err != nil {
		return c.n, err
	}
	if err := writeSnapshot(c, b.snap.status, b.snap.frozen, stage{}, b.snap.tokens); err != nil {
		return c.n, err
	}
	n, err := w.Write(sum.Sum(nil))
	return c.n + int64(n), err
}

// ReadBackup reads a whole backup and checks all of it: checksum, form, and that the
// state is one that the rules could have made. Its errors are one line; ErrDamaged is
// among them.
func ReadBackup(r io.Reader) (*Backup, error) { return readWholeBackup(r, LatestVersion) }

func readWholeBackup(r io.Reader, understands uint32) (*Backup, error) {
	b, err := readBackup(r, understands, func(in io.Reader, b *Backup) error {
		st, book, _, tokens, err := readSnapshot(in, understands)
		b.book, b.tokens, b.LogVersion, b.recoveries = book, tokens, st.LogVersion, st.Recoveries
		return err
	})
	if err != nil {
		return nil, err
	}
	if sessions, leases := b.book.Counts(); sessions != b.Header.Sessions || leases != b.Header.Leases {
		return nil, errors.New("the backup's header does not count what is in it")
	}
	return b, nil
}

// CheckBackup reads the header of a backup and checks the checksum over all of it.
func CheckBackup(r io.Reader) (*Backup, error) {
	return readBackup(r, LatestVersion, func(_ io.Reader, b *Backup) error {
		b.LogVersion = max(b.Header.LogVersion, FirstVersion)
		return nil
	})
}

func readBackup(r io.Reader, understands uint32, state func(io.Reader, *Backup) error) (*Backup, error) {
	in := &summed{r: bufio.NewReaderSize(r, 64<<10), h: sha256.New()}
	b := &Backup{}
	foreign, err := readBackupHeader(in, b, understands)
	if foreign {
		return nil, err
	}
	if err == nil {
		err = state(in, b)
	}
	// Damage explains whatever else is wrong.
	if _, rest := io.Copy(io.Discard, in); rest != nil {
		return nil, rest
	}
	if b.Sum, err = in.sum(err); err != nil {
		return nil, err
	}
	return b, nil
}

// readBackupHeader also says whether the file is no backup at all.
func readBackupHeader(in io.Reader, b *Backup, understands uint32) (foreign bool, err error) {
	head := make([]byte, len(backupMagic)+4)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:len(backupMagic)]) != backupMagic {
		return true, errors.New("this is not a Seatkeeper backup")
	}
	n := binary.BigEndian.Uint32(head[len(backupMagic):])
	if n > maxBackupHeader {
		return false, ErrDamaged
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(in, text); err != nil {
		return false, ErrDamaged
	}
	if err := json.Unmarshal(text, &b.Header); err != nil {
		return false, fmt.Errorf("the backup's header: %w", err)
	}
	if b.Header.Format != backupFormat {
		return false, fmt.Errorf("the backup has format %d, this build knows %d: use the version that made it, or a later one", b.Header.Format, backupFormat)
	}
	if b.Header.LogVersion > understands {
		return false, &NewerError{"the backup", b.Header.LogVersion, understands}
	}
	return false, nil
}

// summed reads all but the last 32 bytes, and adds up what it reads.
type summed struct {
	r *bufio.Reader
	h hash.Hash
}

func (s *summed) Read(p []byte) (int, error) {
	ahead, err := s.r.Peek(min(len(p)+sha256.Size, 64<<10))
	if len(ahead) <= sha256.Size {
		if err == nil || errors.Is(err, bufio.ErrBufferFull) {
			err = io.EOF
		}
		return 0, err
	}
	n := copy(p, ahead[:len(ahead)-sha256.Size])
	s.h.Write(p[:n])
	_, err = s.r.Discard(n)
	return n, err
}

// sum compares the checksum at the end. err is what was wrong before.
func (s *summed) sum(err error) (sum [32]byte, _ error) {
	if _, rerr := io.ReadFull(s.r, sum[:]); rerr != nil || string(s.h.Sum(nil)) != string(sum[:]) {
		return sum, ErrDamaged
	}
	return sum, err
}
