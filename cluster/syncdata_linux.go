package cluster

import (
	"os"
	"syscall"

	walfs "github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// syncData returns when the bytes of a file, and what is needed to read them, are on the
// disk.
func syncData(f types.WritableFile) error {
	var fd uintptr
	switch f := f.(type) {
	case *os.File:
		fd = f.Fd()
	case *walfs.File:
		fd = f.Fd()
	default:
		return f.Sync()
	}
	for {
		if err := syscall.Fdatasync(int(fd)); err != syscall.EINTR {
			return err
		}
	}
}
