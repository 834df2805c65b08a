package cluster

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// The lines of an applied log are chained: each ends with "chain", the SHA-256 of the
// chain before it and of the line without it. Whoever changes, drops or inserts a line
// would have to write all later ones anew; the newest chain, noted elsewhere, tells. What
// an entry's line says beside its chain is equal on all nodes.

// chainKey begins what a line ends with.
const chainKey = `,"chain":"`

// chain is a SHA-256.
type chain [sha256.Size]byte

// next is the chain after a line (without its end).
func (c chain) next(line []byte) chain {
	h := sha256.New()
	h.Write(c[:])
	h.Write(line)
	return chain(h.Sum(nil))
}

// appendChained appends a JSON object with its chain, and its end of line.
func (c *chain) appendChained(buf, line []byte) []byte {
	*c = c.next(line)
	buf = append(append(buf, line[:len(line)-1]...), chainKey...)
	buf = hex.AppendEncode(buf, c[:])
	return append(buf, "\"}\n"...)
}

// cutChain takes a line apart: the object without its chain, and the chain.
func cutChain(line []byte) (object []byte, c chain, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	at := len(line) - len(chainKey) - 2*sha256.Size - len(`"}`)
	if at < 1 || !bytes.HasPrefix(line[at:], []byte(chainKey)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return nil, c, false
	}
	if _, err := hex.Decode(c[:], line[at+len(chainKey):len(line)-2]); err != nil {
		return nil, c, false
	}
	return append(line[:at:at], '}'), c, true
}

// lastChain is that of the last line of a file; the zero chain if it has none.
func lastChain(f *os.File) (chain, error) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return chain{}, err
	}
	// The chain stands at the end of the line, however long that is.
	end := make([]byte, min(info.Size(), int64(len(chainKey)+2*sha256.Size+len("x\"}\n"))))
	if _, err := f.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return chain{}, err
	}
	_, c, _ := cutChain(end)
	return c, nil
}

// AuditReport is what VerifyAudit found.
type AuditReport struct {
	Lines, Entries int
	// First and Last are the log indexes of the first and the last entry.
	First, Last uint64
	// Chain is that of the last line, and Hash the state hash of the last entry: equal on
	// all nodes at one index.
	Chain, Hash string
	// Dropped counts lines that the node could not write.
	Dropped int
}

// AuditError says which line of an applied log is not as the node wrote it.
type AuditError struct {
	Line int
	What string
}

func (e *AuditError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// VerifyAudit checks that an applied log is as the node wrote it: no line changed, dropped
// or inserted, and no entry told in two ways. entry, if not nil, is called with the index
// of each entry and its line without the chain. A last line without an end is still being
// written, and left out.
func VerifyAudit(in io.Reader, entry func(index uint64, object []byte) error) (r AuditReport, err error) {
	lines := bufio.NewReaderSize(in, 1<<20)
	var before chain
	hashes := map[uint64]string{}
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
		r.Lines++
		bad := func(format string, args ...any) (AuditReport, error) {
			return r, &AuditError{r.Lines, fmt.Sprintf(format, args...)}
		}
		object, c, ok := cutChain(line)
		if !ok {
			return bad("it has no chain: it was not written by this version, or was changed")
		}
		if want := before.next(object); c != want {
			return bad("its chain does not follow from the line before: one of the two was changed, or lines are missing")
		}
		before, r.Chain = c, hex.EncodeToString(c[:])
		var head struct {
			Index   uint64 `json:"index,string"`
			Hash    string `json:"hash"`
			Dropped int    `json:"dropped"`
		}
		if err := json.Unmarshal(object, &head); err != nil {
			return bad("it is no JSON object: %v", err)
		}
		r.Dropped += head.Dropped
		if head.Index == 0 {
			continue
		}
		if known, again := hashes[head.Index]; again && known != head.Hash {
			return bad("entry %d has another state hash than before", head.Index)
		} else if !again {
			hashes[head.Index] = head.Hash
			r.Entries++
		}
		if r.First == 0 {
			r.First = head.Index
		}
		if head.Index >= r.Last {
			r.Last, r.Hash = head.Index, head.Hash
		}
		if entry != nil {
			if err := entry(head.Index, object); err != nil {
				return bad("%v", err)
			}
		}
	}
}
