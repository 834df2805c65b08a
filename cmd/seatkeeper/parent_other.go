//go:build !linux

package main

import "syscall"

// dieWithParent has no equivalent here: servers of a killed dev must be ended by hand.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }
