//go:build unix

package cluster

import (
	"errors"
	"os"
	"syscall"
)

// lockHandle takes an exclusive lock that ends with the file handle, so that a
// process that was killed leaves none behind.
func lockHandle(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}
