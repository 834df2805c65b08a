package cluster

import (
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"strings"
	"syscall"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// DamageError is returned when a file of the data directory is not what this node
// wrote. A node must not go on with it: it might forget an acknowledged checkout or a
// vote.
type DamageError struct {
	File string // the damaged file
	What string // what is wrong with it
	ID   string // server id of the node, if it could be read
}

func (e *DamageError) Error() string {
	id := e.ID
	if id == "" {
		id = "this node's old server id"
	}
	return fmt.Sprintf("%s is damaged: %s; rebuild this node: move %s away, start with an empty one (it joins as a new member), then remove %s (seatkeeper operator raft remove-peer)",
		e.File, e.What, dataDirOf(e.File), id)
}

// dataDirOf is the data directory that a file of it belongs to.
func dataDirOf(file string) string {
	dir := filepath.Dir(file)
	for d := dir; d != filepath.Dir(d); d = filepath.Dir(d) {
		if filepath.Base(d) == snapshotsDir {
			return filepath.Dir(d)
		}
	}
	return dir
}

// writeFailed says in one line that a node stops because it cannot write, and what to
// do. After a failed write or sync nobody knows what is on the disk, so going on would
// be a guess; a restart reads it again.
func writeFailed(path string, err error) error {
	todo := "check the disk, then start it again"
	if isFull(err) {
		todo = "free space, then start it again"
	}
	return fmt.Errorf("%s cannot be written (%w): this node stops and the others go on; %s", path, err, todo)
}

// isFull knows a full disk, also where bolt has made text of the error.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || strings.Contains(err.Error(), syscall.ENOSPC.Error())
}
