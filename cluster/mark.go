package cluster

import (
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
)

// mark is the high-water mark of the log: what was certainly on the disk once. It is
// written after each write of the log and never synced, which costs a few microseconds:
// after a power failure it may be older than the log, and says less, but never newer.
type mark struct {
	seq     uint64 // of the mark itself
	txid    uint64 // bolt's newest transaction
	last    uint64 // last entry of the log
	applied uint64 // last entry that the state machine had applied
}

// markSlot is the size of one of the two places, which take turns: a torn write leaves
// the other one whole.
const markSlot = 64

func (m mark) encode() []byte {
	buf := make([]byte, 0, markSlot)
	for _, v := range []uint64{m.seq, m.txid, m.last, m.applied} {
		buf = little.AppendUint64(buf, v)
	}
	buf = little.AppendUint32(buf, crc32.Checksum(buf, castagnoli))
	return buf[:markSlot]
}

func decodeMark(b []byte) (mark, bool) {
	if len(b) < 36 || crc32.Checksum(b[:32], castagnoli) != little.Uint32(b[32:]) {
		return mark{}, false
	}
	return mark{little.Uint64(b), little.Uint64(b[8:]), little.Uint64(b[16:]), little.Uint64(b[24:])}, true
}

// readMark returns the newest whole mark; none is a mark of zeros, which asks nothing.
// A file of full size with no whole mark in it is damaged.
func readMark(path string) (mark, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return mark{}, nil
	}
	if err != nil {
		return mark{}, err
	}
	var newest mark
	found := false
	for at := 0; at+markSlot <= len(b) && at < 2*markSlot; at += markSlot {
		if m, ok := decodeMark(b[at : at+markSlot]); ok && (!found || m.seq > newest.seq) {
			newest, found = m, true
		}
	}
	if !found && len(b) >= 2*markSlot {
		return mark{}, errors.New("neither of its two marks is whole")
	}
	return newest, nil
}
