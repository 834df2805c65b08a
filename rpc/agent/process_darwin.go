package agent

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errNoProcess = errors.New("there is no such process")

// zombie is SZOMB of sys/proc.h.
const zombie = 5

// identify looks at a process: its start and its user.
func identify(pid int) (process, int, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || info == nil || int(info.Proc.P_pid) != pid || info.Proc.P_stat == zombie {
		return process{}, 0, errNoProcess
	}
	at := info.Proc.P_starttime
	return process{PID: pid, Start: fmt.Sprintf("%d.%06d", at.Sec, at.Usec)}, int(info.Eproc.Ucred.Uid), nil
}

// ended waits for the end of the process, or of ctx.
func (p process) ended(ctx context.Context) error { return p.poll(ctx) }
