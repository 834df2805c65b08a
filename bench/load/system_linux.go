package load

import (
	"bufio"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// system is kernel, file system below dir and memory in bytes.
func system(dir string) (kernel, fileSystem string, memory uint64) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		memory = uint64(info.Totalram) * uint64(info.Unit)
	}
	return kernel, mountType(dir), memory
}

// CPU is the processor time this process has taken so far.
func CPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// mountType is the type of the file system with the longest mount point above dir.
func mountType(dir string) string {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return ""
	}
	defer f.Close()
	best, kind := "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		at := strings.TrimSuffix(fields[1], "/") + "/"
		if strings.HasPrefix(dir+"/", at) && len(at) >= len(best) {
			best, kind = at, fields[2]
		}
	}
	return kind
}

// Pin keeps this process, all its threads, on some CPUs.
func Pin(cpus []int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return eachThread(func(tid int) error { return unix.SchedSetaffinity(tid, &set) })
}

// GiveWay lets other processes on the same CPU go first: this one, all its threads, gets
// what they leave, and its turn ends when one of them wakes up (SCHED_IDLE; being nice would let it
// finish its slice, milliseconds each time). It is for load whose own speed is not what is
// measured.
func GiveWay() error {
	return eachThread(func(tid int) error { return unix.SchedSetAttr(tid, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0) })
}

// eachThread calls set for each thread of this process.
func eachThread(set func(tid int) error) error {
	// Threads made while we go through the list inherit from one that was not
	// reached yet: a second round finds them.
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			tid := 0
			for _, d := range t.Name() {
				tid = tid*10 + int(d-'0')
			}
			if err := set(tid); err != nil && err != unix.ESRCH {
				return err
			}
		}
	}
	return nil
}

// PinThread keeps the calling thread on some CPUs and returns what undoes that. Lock
// the goroutine to its thread first; processes that it starts inherit the CPUs.
func PinThread(cpus []int) (undo func(), err error) {
	var before, set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, err
	}
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return nil, err
	}
	return func() { _ = unix.SchedSetaffinity(0, &before) }, nil
}
