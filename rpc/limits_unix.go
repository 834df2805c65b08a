//go:build unix

package rpc

import "golang.org/x/sys/unix"

// openFileLimits are how many files and connections this process may have open, now and
// at most.
func openFileLimits() (soft, hard uint64) {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return 0, 0
	}
	return uint64(l.Cur), uint64(l.Max)
}
