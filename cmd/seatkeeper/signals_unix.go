//go:build unix

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

var (
	// stopSignals end a server or a dev cluster in good order.
	stopSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	// reloadSignals make a server read its config again.
	reloadSignals = []os.Signal{syscall.SIGHUP}
	// passedSignals go on to the command of run.
	passedSignals = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH}
	terminateSignal os.Signal = syscall.SIGTERM
)

// fromTerminal says that the terminal has sent s to the whole foreground process
// group, CMD included, so that passing it on would deliver it twice: many programs
// take a second interrupt for "end at once".
func fromTerminal(s os.Signal) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGQUIT, syscall.SIGWINCH:
	default:
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}

// signalOf returns the signal that ended a process.
func signalOf(p *os.ProcessState) (int, bool) {
	status, ok := p.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0, false
	}
	return int(status.Signal()), true
}

// endsProcess says whether a signal would end us if we did not catch it on CMD's behalf.
func endsProcess(s os.Signal) bool { return s != syscall.SIGWINCH }

func signalNumber(s os.Signal) int {
	n, _ := s.(syscall.Signal)
	return int(n)
}
