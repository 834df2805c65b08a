//go:build unix

package cluster

import "golang.org/x/sys/unix"

// diskSpace measures the file system that dir is on, as an unprivileged process sees it.
func diskSpace(dir string) (free, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize)
	return uint64(st.Bavail) * size, uint64(st.Blocks) * size, nil
}
