package main

import "syscall"

// dieWithParent makes the kernel end a child when the thread that started it ends,
// so that a killed dev leaves no servers behind.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
