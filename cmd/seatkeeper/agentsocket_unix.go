//go:build unix

package main

import "golang.org/x/sys/unix"

// ownerOnlyMatters: files have modes here.
const ownerOnlyMatters = true

// ownerOnly makes files that are made before the function it returns is called the
// owner's alone. It is the whole process's: call it before others run.
func ownerOnly() (restore func()) {
	old := unix.Umask(0o177)
	return func() { unix.Umask(old) }
}
