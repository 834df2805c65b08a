package main

import (
	"os"
	"os/signal"
	"runtime"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may wake a thread of a server that sleeps, in
// nanoseconds, so that it can wake several together; the usual is 50 µs. Go's monitor thread
// sleeps 20 µs at a time for a millisecond and more after each sync of the disk: with the
// usual slack that took a sixth of a follower's processor time under load. All waits of a
// node are far longer than a millisecond.
const timerSlack = 1_000_000

// startedAgain is in the environment of a program that coarseTimers has started, so that a
// kernel that forgets the slack does not make it a loop.
const startedAgain = "_SEATKEEPER_STARTED_AGAIN"

// The kernel keeps what it promised the parent (to end this process with it, see
// dieWithParent) for the main thread alone, so that is the one that starts the program again.
func init() { runtime.LockOSThread() }

// coarseTimers gives this process the slack. The monitor is there before any code of ours,
// and another thread's slack is not ours to set, but a new program takes over that of the
// thread that starts it: so the program starts itself again, once, under the same process
// id. Where that cannot be done all goes on as it was. Nothing may be open yet, and the caller
// is the main goroutine.
func coarseTimers() {
	defer runtime.UnlockOSThread()
	// With one processor for Go, the monitor is what gives it back while a thread waits for
	// the disk: there it must not be late.
	if runtime.GOMAXPROCS(0) < 2 {
		return
	}
	if os.Getenv(startedAgain) != "" {
		os.Unsetenv(startedAgain)
		return
	}
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || now >= timerSlack {
		return
	}
	program, err := os.Executable()
	if err != nil || unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) != nil {
		return
	}
	// What is ignored stays so in the new program until it catches it; what is caught now would
	// end it. Nothing is missed by that: the config is not read yet.
	signal.Ignore(reloadSignals...)
	_ = unix.Exec(program, os.Args, append(os.Environ(), startedAgain+"=1"))
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(now), 0, 0, 0)
}

// lendTimerSlack gives the calling thread the slack, for the process that it starts next:
// that one need not start again. The calling goroutine is locked to its thread.
func lendTimerSlack() (undo func()) {
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || now >= timerSlack || unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) != nil {
		return func() {}
	}
	return func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(now), 0, 0, 0) }
}
