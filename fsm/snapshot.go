package fsm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/hashicorp/raft"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

const (
	snapshotMagic = "SKSNAP01"
	// maxRecord bounds one record on reading: a licence of 256 KiB is the largest.
	maxRecord = 4 << 20
	// seatsPerRecord splits the seats of a large pool.
	seatsPerRecord = 4096
)

var errNoSnapshot = errors.New("this is not a Seatkeeper snapshot of a version this build knows")

// snapshot is a frozen state on its way to the disk.
type snapshot struct {
	status Status
	frozen *lease.Frozen
	stage  stage
	tokens *access.Table

	persisting func(Status) // may be nil
}

// Persist writes the snapshot. Equal states give equal bytes.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if s.persisting != nil {
		s.persisting(s.status)
	}
	if err := writeSnapshot(sink, s.status, s.frozen, s.stage, s.tokens); err != nil {
		sink.Cancel()
		return err
	}
	return sink.Close()
}

// Release does nothing: the frozen pages go with the garbage.
func (s *snapshot) Release() {}

// WriteTo writes the state as a snapshot, as raft would store it.
func (f *FSM) WriteTo(w io.Writer) (int64, error) {
	snap, err := f.Snapshot()
	if err != nil {
		return 0, err
	}
	s := snap.(*snapshot)
	c := &counter{w: w}
	err = writeSnapshot(c, s.status, s.frozen, s.stage, s.tokens)
	return c.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// recordWriter writes records one after another and keeps the checksum over them.
type recordWriter struct {
	w       *bufio.Writer
	crc     hash.Hash32
	buf     []byte
	length  []byte
	records uint64
	err     error
}

func newRecordWriter(out io.Writer) *recordWriter {
	return &recordWriter{w: bufio.NewWriterSize(out, 64<<10), crc: crc32.New(castagnoli)}
}

func (w *recordWriter) put(r *logv1.SnapshotRecord) bool {
	if w.err != nil {
		return false
	}
	body, err := appended(w.buf[:0], r, r.SizeVT())
	if err != nil {
		w.err = err
		return false
	}
	w.buf = body
	w.length = binary.AppendUvarint(w.length[:0], uint64(len(body)))
	w.write(w.length)
	w.write(body)
	w.records++
	return w.err == nil
}

func (w *recordWriter) write(p []byte) {
	if w.err == nil {
		w.crc.Write(p)
		_, w.err = w.w.Write(p)
	}
}

// end writes the last record and the checksum.
func (w *recordWriter) end() error {
	w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_End{End: &logv1.SnapshotEnd{Records: w.records}}})
	w.write(binary.BigEndian.AppendUint32(nil, w.crc.Sum32()))
	if w.err != nil {
		return w.err
	}
	return w.w.Flush()
}

func writeSnapshot(out io.Writer, st Status, f *lease.Frozen, staged stage, tokens *access.Table) error {
	w := newRecordWriter(out)
	w.write([]byte(snapshotMagic))
	w.put(headerRecord(st, f.Header()))
	for _, l := range f.Licences() {
		w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Licence{Licence: toLicence(l)}})
	}
	for _, p := range f.Policies() {
		w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Policy{Policy: toPolicy(p)}})
	}
	f.Pools(func(slot uint32, p *lease.PoolRecord) bool { return writePool(w, slot, p) })
	var session sessionMessage
	var group groupMessage
	var held leaseMessage
	f.Sessions(func(slot uint32, s *lease.SessionRecord) bool { return w.put(session.of(slot, s)) })
	f.Groups(func(slot uint32, g *lease.GroupRecord) bool { return w.put(group.of(slot, g)) })
	f.Leases(func(slot uint32, l *lease.LeaseRecord) bool { return w.put(held.of(slot, l)) })
	putBorrowing(w, f)
	f.Draws(func(slot uint32, d *lease.DrawRecord) bool { return w.put(drawRecord(slot, d)) })
	writeQueue(w, f)
	putTokens(w, tokens)
	staged.each(func(p RestorePart) bool {
		return w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Staged{Staged: toPart(p)}})
	})
	return w.end()
}

func writePool(w *recordWriter, slot uint32, p *lease.PoolRecord) bool {
	w.put(poolRecord(slot, p))
	seats := &logv1.SeatRecords{Pool: slot}
	flush := func() bool {
		ok := len(seats.Number) == 0 || w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Seats{Seats: seats}})
		seats = &logv1.SeatRecords{Pool: slot}
		return ok
	}
	p.EachSeat(func(n uint32, s lease.SeatRecord) bool {
		seats.Number = append(seats.Number, n)
		seats.Group = append(seats.Group, s.Group)
		seats.Last = append(seats.Last, uint64(s.Last))
		return len(seats.Number) < seatsPerRecord || flush()
	})
	return flush()
}

// readSnapshot decodes a whole snapshot before anything is done with it. One of a version
// beyond what is understood is a *NewerError.
func readSnapshot(in io.Reader, understands uint32) (st Status, book *lease.Book, staged stage, tokens *access.Table, err error) {
	crc := crc32.New(castagnoli)
	r := &recordReader{r: bufio.NewReaderSize(in, 64<<10), crc: crc}
	magic := make([]byte, len(snapshotMagic))
	if err := r.full(magic); err != nil || string(magic) != snapshotMagic {
		return Status{}, nil, stage{}, nil, errNoSnapshot
	}
	var load *lease.Loader
	var list []access.Token
	for {
		rec, err := r.next()
		if err != nil {
			return Status{}, nil, stage{}, nil, err
		}
		switch k := rec.Kind.(type) {
		case *logv1.SnapshotRecord_Header:
			if k.Header.Version > understands {
				return Status{}, nil, stage{}, nil, &NewerError{"the snapshot", k.Header.Version, understands}
			}
			if k.Header.Version < FirstVersion {
				return Status{}, nil, stage{}, nil, errors.New("snapshot of log version 0: the file is damaged")
			}
			var h lease.Header
			st, h = fromHeader(k.Header)
			load = lease.NewLoader(h)
		case *logv1.SnapshotRecord_End:
			if load == nil || k.End.Records != r.records-1 {
				return Status{}, nil, stage{}, nil, fmt.Errorf("snapshot has %d records where %d were written", r.records-1, k.End.Records)
			}
			if err := r.checksum(); err != nil {
				return Status{}, nil, stage{}, nil, err
			}
			if tokens, err = loadTokens(list); err != nil {
				return Status{}, nil, stage{}, nil, err
			}
			book, err := load.Finish()
			return st, book, staged, tokens, err
		case *logv1.SnapshotRecord_Token:
			x, err := readToken(k.Token)
			if err != nil {
				return Status{}, nil, stage{}, nil, err
			}
			list = append(list, x)
		case *logv1.SnapshotRecord_Staged:
			if refusal := staged.add(fromPart(k.Staged)); refusal != nil {
				return Status{}, nil, stage{}, nil, fmt.Errorf("snapshot: %s", refusal.Message)
			}
		default:
			if load == nil {
				return Status{}, nil, stage{}, nil, errors.New("snapshot does not begin with its header")
			}
			if err := loadRecord(load, rec); err != nil {
				return Status{}, nil, stage{}, nil, err
			}
		}
	}
}

type recordReader struct {
	r       *bufio.Reader
	crc     hash.Hash32
	records uint64
	buf     []byte
	one     [1]byte
}

func (r *recordReader) full(p []byte) error {
	if _, err := io.ReadFull(r.r, p); err != nil {
		return fmt.Errorf("snapshot is cut short: %w", err)
	}
	r.crc.Write(p)
	return nil
}

// ReadByte serves binary.ReadUvarint.
func (r *recordReader) ReadByte() (byte, error) {
	b, err := r.r.ReadByte()
	if err == nil {
		r.one[0] = b
		r.crc.Write(r.one[:])
	}
	return b, err
}

func (r *recordReader) next() (*logv1.SnapshotRecord, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("snapshot is cut short: %w", err)
	}
	if n > maxRecord {
		return nil, fmt.Errorf("snapshot record of %d bytes: the file is damaged", n)
	}
	if uint64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	body := r.buf[:n]
	if err := r.full(body); err != nil {
		return nil, err
	}
	rec := &logv1.SnapshotRecord{}
	if err := rec.UnmarshalVT(body); err != nil {
		return nil, fmt.Errorf("snapshot record %d: %w", r.records, err)
	}
	r.records++
	return rec, nil
}

func (r *recordReader) checksum() error {
	want := r.crc.Sum32()
	var sum [4]byte
	if _, err := io.ReadFull(r.r, sum[:]); err != nil {
		return fmt.Errorf("snapshot is cut short: %w", err)
	}
	if binary.BigEndian.Uint32(sum[:]) != want {
		return errors.New("snapshot is damaged: its checksum does not match")
	}
	return nil
}
