package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
)

// Recovery is the recovery of a cluster from the loss of its majority, on the state of one
// node that is left. It is no entry of a log: there is nobody to agree with. The state
// after it goes into a snapshot, which all nodes that join later begin from.
type Recovery struct {
	// Index and Term are the place of that snapshot, above all that the lost nodes may
	// have reached.
	Index, Term uint64
	// Lineage names the recovery.
	Lineage string
	// Fence is for how long checkouts wait; 0 means what lease.Book.Recover takes then.
	Fence time.Duration
}

// Recover makes the state that of a cluster that knows of no others.
func (f *FSM) Recover(r Recovery) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.book.Recover(r.Fence)
	f.stage = stage{}
	f.status.Recoveries++
	f.status.Lineage = r.Lineage
	f.status.AppliedIndex, f.status.AppliedTerm = r.Index, r.Term
	f.status.Epoch = Epoch{Index: r.Index, Term: r.Term} // what was proposed before is stale
	h := sha256.New()
	h.Write(f.status.StateHash[:])
	h.Write([]byte("recovered " + r.Lineage))
	h.Write(binary.BigEndian.AppendUint64(nil, r.Index))
	h.Sum(f.status.StateHash[:0])
	f.events.gap()
}

// ReadStatus reads what a snapshot says of itself at its beginning.
func ReadStatus(in io.Reader) (Status, error) {
	r := &recordReader{r: bufio.NewReader(in), crc: crc32.New(castagnoli)}
	magic := make([]byte, len(snapshotMagic))
	if err := r.full(magic); err != nil || string(magic) != snapshotMagic {
		return Status{}, errors.New("this is not a Seatkeeper snapshot of a version this build knows")
	}
	rec, err := r.next()
	if err != nil {
		return Status{}, err
	}
	header, ok := rec.Kind.(*logv1.SnapshotRecord_Header)
	if !ok {
		return Status{}, errors.New("snapshot does not begin with its header")
	}
	st, _ := fromHeader(header.Header)
	return st, nil
}
