package main

import (
	"errors"
	"fmt"
)

// Exit codes: those of sysexits.h where one fits, and the shell's.
const (
	exitOK          = 0
	exitError1      = 1
	exitUsage       = 2  // also: status found no leader
	exitUnreachable = 69 // EX_UNAVAILABLE: no node answers, or none leads
	exitNoSeat      = 75 // EX_TEMPFAIL: no free seat, try later
	exitNotAllowed  = 77 // EX_NOPERM
	exitConfig      = 78 // EX_CONFIG
	exitCannotRun   = 126
	exitNotFound    = 127
	exitSignal      = 128 // + the signal's number
)

// exitError is an error that knows its exit code. A nil err prints nothing: all
// that is to be said was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func exitf(code int, format string, args ...any) error {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}

func usagef(format string, args ...any) error { return exitf(exitUsage, format, args...) }

// asUsage makes an error of the command line's parser say where help is.
func asUsage(err error) error {
	var e *exitError
	if errors.As(err, &e) {
		return err
	}
	return usagef("%w (see seatkeeper help)", err)
}
