//go:build unix

package cluster

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// keepOwner gives all of dir to the owner of like: what root makes in a data directory
// must be the server's.
func keepOwner(dir, like string) error {
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(st.Uid), int(st.Gid))
	})
}
