package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/network"
)

// LedgerDir is where the ledgers of all runs are. It is emptied by a reboot, as is what
// they name.
const LedgerDir = "/run/seatkeeper-jepsen"

// Ledger says what a run made that outlives it. It is safe for concurrent use.
type Ledger struct {
	mu   sync.Mutex
	path string
	made made
}

// made is the ledger's content.
type made struct {
	Harness    Process   `json:"harness"`
	Namespaces []string  `json:"namespaces,omitempty"`
	Mounts     []string  `json:"mounts,omitempty"`
	Cgroups    []string  `json:"cgroups,omitempty"`
	Processes  []Process `json:"processes,omitempty"`
}

// Process names one process for good: a pid alone may be another one's by now.
type Process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot, of /proc/PID/stat
}

// ProcessOf reads the start time of a process.
func ProcessOf(pid int) (Process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	// The name, in parentheses, may hold blanks and parentheses.
	rest := string(data)[strings.LastIndexByte(string(data), ')')+1:]
	fields := strings.Fields(rest)
	const startTime = 22 - 3 // the first field after the name is number 3
	if len(fields) <= startTime {
		return Process{}, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	start, err := strconv.ParseUint(fields[startTime], 10, 64)
	return Process{pid, start}, err
}

// Alive says whether that very process is still there.
func (p Process) Alive() bool {
	now, err := ProcessOf(p.PID)
	return err == nil && now.Start == p.Start
}

// OpenLedger begins the ledger of a run.
func OpenLedger(run string) (*Ledger, error) {
	if err := os.MkdirAll(LedgerDir, 0o700); err != nil {
		return nil, err
	}
	self, err := ProcessOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	l := &Ledger{path: filepath.Join(LedgerDir, run+".json"), made: made{Harness: self}}
	if _, err := os.Stat(l.path); err == nil {
		return nil, fmt.Errorf("%s: a run of that name was not cleaned up: use the clean command", l.path)
	}
	return l, l.save()
}

func (l *Ledger) save() error {
	data, err := json.MarshalIndent(l.made, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path+".tmp", data, 0o600); err != nil {
		return err
	}
	return os.Rename(l.path+".tmp", l.path)
}

// note adds one thing.
func (l *Ledger) note(add func(*made)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	add(&l.made)
	return l.save()
}

func (l *Ledger) process(pid int) error {
	p, err := ProcessOf(pid)
	if err != nil {
		return err
	}
	return l.note(func(m *made) {
		m.Processes = slices.DeleteFunc(m.Processes, func(p Process) bool { return !p.Alive() })
		m.Processes = append(m.Processes, p)
	})
}

// Clean takes away all that the ledger names and the ledger itself. It is what the end
// of a run calls, too.
func (l *Ledger) Clean() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.made.undo()
	if err == nil {
		err = os.Remove(l.path)
	}
	return err
}

// CleanAll cleans up after every run whose harness is gone and returns their names.
func CleanAll() (cleaned []string, err error) {
	files, err := filepath.Glob(filepath.Join(LedgerDir, "*.json"))
	for _, path := range files {
		data, readErr := os.ReadFile(path)
		var m made
		if readErr == nil {
			readErr = json.Unmarshal(data, &m)
		}
		if readErr != nil {
			err = errors.Join(err, readErr)
			continue
		}
		if running(m.Harness) {
			continue
		}
		l := &Ledger{path: path, made: m}
		if e := l.Clean(); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", path, e))
			continue
		}
		cleaned = append(cleaned, strings.TrimSuffix(filepath.Base(path), ".json"))
	}
	return cleaned, err
}

// endWait bounds the end of killed processes.
const endWait = 10 * time.Second

func (m *made) undo() error {
	var errs []error
	for _, g := range m.Cgroups { // a frozen process cannot die
		thaw(g)
	}
	for _, p := range m.Processes {
		if p.Alive() {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
	for _, path := range m.Mounts {
		// A process that waits for a disk which nobody serves any more cannot die before
		// that: this makes its requests fail.
		_ = unix.Unmount(path, unix.MNT_FORCE)
	}
	for end := time.Now().Add(endWait); slices.ContainsFunc(m.Processes, running); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			errs = append(errs, fmt.Errorf("a process does not end: %v", m.Processes))
			break
		}
	}
	for _, path := range m.Mounts {
		for disk.IsMounted(path) {
			if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
				errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
				break
			}
		}
		if err := disk.SetImmutable(path, false); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, name := range m.Namespaces {
		errs = append(errs, network.DeleteNamespace(name))
	}
	// Longer paths first: a group is removed after those within it.
	slices.SortFunc(m.Cgroups, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	for _, g := range slices.Compact(m.Cgroups) {
		errs = append(errs, removeGroup(g))
	}
	return errors.Join(errs...)
}

// running is Alive without the zombies, which their parent reaps.
func running(p Process) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	return err == nil && p.Alive() && !strings.Contains(string(data), ") Z ")
}
