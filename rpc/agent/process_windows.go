package agent

import (
	"context"
	"errors"
	"strconv"

	"golang.org/x/sys/windows"
)

var errNoProcess = errors.New("there is no such process")

// stillActive is the exit code of a process that runs.
const stillActive = 259

// identify looks at a process: its start. Whose it is is not asked: callers come with the
// token of one user.
func identify(pid int) (process, int, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(pid))
	if err != nil {
		return process{}, 0, errNoProcess
	}
	defer windows.CloseHandle(h)
	var code uint32
	if err := windows.GetExitCodeProcess(h, &code); err != nil || code != stillActive {
		return process{}, 0, errNoProcess
	}
	var made, ended, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &made, &ended, &kernel, &user); err != nil {
		return process{}, 0, err
	}
	return process{PID: pid, Start: strconv.FormatInt(made.Nanoseconds(), 10)}, noUID, nil
}

// ended waits for the end of the process, or of ctx.
func (p process) ended(ctx context.Context) error { return p.poll(ctx) }
