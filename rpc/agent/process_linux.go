package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// errNoProcess is returned when there is no such process, or it has ended.
var errNoProcess = errors.New("there is no such process")

// bootID tells the start times of two runs of the machine apart.
var bootID = sync.OnceValue(func() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
})

// identify looks at a process: its start, in clock ticks since the boot, and its user.
func identify(pid int) (process, int, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return process{}, 0, errNoProcess
	}
	if err != nil {
		return process{}, 0, err
	}
	data, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return process{}, 0, errNoProcess
	}
	// The name may hold anything, also brackets and spaces: what follows the last bracket
	// is the state (field 3), and 19 further on the start (field 22).
	_, rest, _ := cutLast(string(data), ")")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return process{}, 0, fmt.Errorf("%s/stat cannot be read", dir)
	}
	if state := fields[0]; state == "Z" || state == "X" {
		return process{}, 0, errNoProcess
	}
	uid := noUID
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		uid = int(st.Uid)
	}
	return process{PID: pid, Start: bootID() + "/" + fields[19]}, uid, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// ended waits for the end of the process, or of ctx, which is its error. The kernel says
// so by a pidfd, at once; where there are none it is asked every half second.
func (p process) ended(ctx context.Context) error {
	fd, err := unix.PidfdOpen(p.PID, unix.PIDFD_NONBLOCK)
	if err != nil {
		return p.poll(ctx)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	defer f.Close()
	// The pid may have been used again before the file was opened; now it cannot be.
	if !p.alive() {
		return nil
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return p.poll(ctx)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.Close() })
	defer stop()
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || p.alive() {
		return p.poll(ctx) // the file does not tell
	}
	return nil
}

// innerPID is the pid that a process has in its own pid namespace, and how deep that is.
func innerPID(pid int) (inner, depth int) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return pid, 0
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(rest)
			if n, err := strconv.Atoi(f[len(f)-1]); err == nil {
				return n, len(f)
			}
		}
	}
	return pid, 0
}
