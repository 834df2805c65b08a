package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"sync"
)

// signalRelay catches this process's signals: before CMD runs they cancel what we do,
// while it runs they go on to it.
type signalRelay struct {
	caught chan os.Signal
	done   chan struct{}
	cancel context.CancelFunc

	mu     sync.Mutex
	target *os.Process
	// first is the signal that came before CMD ran.
	first os.Signal
}

// relaySignals begins; the context ends with a signal that comes before CMD runs.
func relaySignals(ctx context.Context) (context.Context, *signalRelay) {
	ctx, cancel := context.WithCancel(ctx)
	r := &signalRelay{caught: make(chan os.Signal, 16), done: make(chan struct{}), cancel: cancel}
	signal.Notify(r.caught, passedSignals...)
	go func() {
		for {
			select {
			case s := <-r.caught:
				r.pass(s)
			case <-r.done:
				return
			}
		}
	}()
	return ctx, r
}

func (r *signalRelay) stop() {
	signal.Stop(r.caught)
	close(r.done)
	r.cancel()
}

func (r *signalRelay) pass(s os.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.target == nil:
		if endsProcess(s) {
			r.first = s
			r.cancel()
		}
	case !fromTerminal(s):
		// An error means that CMD has just ended; Wait will say so.
		_ = r.target.Signal(s)
	}
}

// send delivers a signal of our own to CMD, if it runs.
func (r *signalRelay) send(s os.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.target != nil {
		_ = r.target.Signal(s)
	}
}

// start starts CMD, unless a signal came first.
func (r *signalRelay) start(cmd *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first != nil {
		return interrupted(r.first)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.target = cmd.Process
	return nil
}

// orElse returns the exit code of the signal that interrupted us, if one did, else err.
func (r *signalRelay) orElse(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first != nil {
		return interrupted(r.first)
	}
	return err
}

func interrupted(s os.Signal) error { return &exitError{code: exitSignal + signalNumber(s)} }

// findCommand finds CMD as a shell would: 127 when it is not there, 126 when it
// cannot be executed.
func findCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return "", exitf(exitNotFound, "%s: command not found", name)
	}
	return "", exitf(exitCannotRun, "%s: cannot be executed: %w", name, errors.Unwrap(err))
}

// runCommandUnder runs CMD with our own input and outputs and returns its exit code.
// It stays in our process group, so that a terminal's job control works on both.
func (a *app) runCommandUnder(signals *signalRelay, path string, args, env []string) error {
	cmd := exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	cmd.Env = append(os.Environ(), env...)
	if err := signals.start(cmd); err != nil {
		var e *exitError
		if errors.As(err, &e) {
			return err
		}
		return exitf(exitCannotRun, "%s: cannot be executed: %s", args[0], fileMessage(err))
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &exit):
		return exitf(exitError1, "waiting for %s: %w", args[0], err)
	}
	if n, signaled := signalOf(exit.ProcessState); signaled {
		return &exitError{code: exitSignal + n}
	}
	return &exitError{code: exit.ExitCode()}
}
