package fsm

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Encoded is one command as it stands in an entry, its field number and length before
// it. Whoever brings a command encodes it, beside the others; joining a batch is then a
// copy for the one goroutine that makes entries.
type Encoded []byte

// message is what has generated code for its encoding: the same bytes as the library's in a quarter
// of the time, and no look whether a string is UTF-8.
type message interface {
	SizeVT() int
	MarshalToSizedBufferVTStrict(buf []byte) (int, error)
}

// appended appends a message of size bytes whose strings are known to be UTF-8: the API looked, or
// they are the ledger's own.
func appended(buf []byte, m message, size int) ([]byte, error) {
	buf = slices.Grow(buf, size)[:len(buf)+size]
	_, err := m.MarshalToSizedBufferVTStrict(buf[len(buf)-size:])
	return buf, err
}

// frequent are the commands that the API sends by the thousand and reads word by word. The strings
// of the others may come out of files, and the library refuses what is not UTF-8.
func frequent(pb *logv1.Command) bool {
	switch pb.Kind.(type) {
	case *logv1.Command_Checkout, *logv1.Command_Renew, *logv1.Command_RenewMany, *logv1.Command_CheckIn,
		*logv1.Command_Expire, *logv1.Command_ExpireSession:
		return true
	}
	return false
}

// commandsField is the number of Entry.commands.
const commandsField = 5

// EncodeCommand encodes one command. It fails for a command that has no encoding.
func EncodeCommand(cmd lease.Command) (Encoded, error) {
	pb, err := toCommand(cmd)
	if err != nil {
		return nil, err
	}
	defer pb.ReturnToVTPool()
	size := pb.SizeVT()
	buf := make([]byte, 0, size+protowire.SizeTag(commandsField)+protowire.SizeVarint(uint64(size)))
	buf = protowire.AppendTag(buf, commandsField, protowire.BytesType)
	buf = protowire.AppendVarint(buf, uint64(size))
	if frequent(pb) {
		return appended(buf, pb, size)
	}
	return proto.MarshalOptions{Deterministic: true}.MarshalAppend(buf, pb)
}

// JoinBatch makes one log entry of up to MaxBatch encoded commands: byte for byte what
// EncodeBatch makes of the commands themselves.
func JoinBatch(epoch uint64, stamp lease.Time, cal lease.Calendar, cmds []Encoded) ([]byte, error) {
	if len(cmds) > MaxBatch {
		return nil, fmt.Errorf("%d commands in one entry; at most %d are possible", len(cmds), MaxBatch)
	}
	const head = 64 // more than the envelope and the three numbers need
	size := head
	for _, c := range cmds {
		size += len(c)
	}
	e := &logv1.Entry{Epoch: epoch, Stamp: int64(stamp), Calendar: int64(cal)}
	buf, err := appended(make([]byte, envelope, size), e, e.SizeVT())
	if err != nil {
		return nil, err
	}
	for _, c := range cmds {
		buf = append(buf, c...)
	}
	return finish(buf)
}

// finish fills the envelope in front of a payload.
func finish(buf []byte) ([]byte, error) {
	if len(buf) > MaxEntryBytes {
		return nil, fmt.Errorf("log entry of %d bytes; at most %d are possible", len(buf), MaxEntryBytes)
	}
	buf[0] = entryVersion
	binary.BigEndian.PutUint32(buf[1:], crc32.Checksum(buf[envelope:], castagnoli))
	return buf, nil
}

// packedSession is the width of one session in RenewMany.sessions.
const packedSession = len(lease.SessionID{}) + len(lease.SecretDigest{}) + 8

// packSessions appends to an empty buffer, which may have been another's.
func packSessions(buf []byte, list []lease.Heartbeat) []byte {
	buf = slices.Grow(buf, len(list)*packedSession)
	for i := range list {
		s := &list[i]
		buf = append(append(buf, s.ID[:]...), s.Digest[:]...)
		buf = binary.BigEndian.AppendUint64(buf, s.Incarnation)
	}
	return buf
}

// unpackSessions uses the room it is given, if that is large enough.
func unpackSessions(room []lease.Heartbeat, buf []byte) (list []lease.Heartbeat, ok bool) {
	if len(buf)%packedSession != 0 {
		return nil, false
	}
	if len(buf) == 0 {
		return nil, true
	}
	n := len(buf) / packedSession
	list = slices.Grow(room[:0], n)[:n]
	for i := range list {
		s, b := &list[i], buf[i*packedSession:]
		copy(s.ID[:], b)
		copy(s.Digest[:], b[len(s.ID):])
		s.Incarnation = binary.BigEndian.Uint64(b[len(s.ID)+len(s.Digest):])
	}
	return list, true
}
