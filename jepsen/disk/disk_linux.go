package disk

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Disk is one node's file system. Its methods are called by one goroutine at a time,
// except SetFaults and the readers.
type Disk struct {
	// Mountpoint is where programs see it, Backing where the bytes are.
	Mountpoint, Backing string

	journal *journal
	gate    *gate
	server  *fuse.Server
}

// immutableFlag is FS_IMMUTABLE_FL of linux/fs.h.
const immutableFlag = 0x10

// mountWait bounds mounting and unmounting.
const mountWait = 10 * time.Second

// New prepares a disk whose bytes are in backing/data, to be seen at mountpoint. Both
// are made if they are not there; what backing holds is kept.
func New(mountpoint, backing string) (*Disk, error) {
	for _, p := range []string{mountpoint, backing} {
		if err := os.MkdirAll(p, 0o700); err != nil {
			return nil, err
		}
	}
	j, err := openJournal(backing)
	if err != nil {
		return nil, err
	}
	d := &Disk{Mountpoint: mountpoint, Backing: backing, journal: j, gate: newGate()}
	// A server that starts before the mount must not write beneath it.
	if err := SetImmutable(mountpoint, true); err != nil {
		return nil, errors.Join(err, j.close())
	}
	return d, nil
}

// SetImmutable sets or clears the immutable flag of a directory. File systems without
// such a flag are left as they are.
func SetImmutable(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		want := flags &^ immutableFlag
		if on {
			want |= immutableFlag
		}
		err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, want)
	}
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// Mount shows the disk and returns when it is there.
func (d *Disk) Mount() error {
	if d.server != nil {
		return nil
	}
	var st syscall.Stat_t
	if err := syscall.Stat(d.journal.root, &st); err != nil {
		return err
	}
	base := &fs.LoopbackRoot{Path: d.journal.root, Dev: uint64(st.Dev)}
	root := &node{LoopbackNode: &fs.LoopbackNode{RootData: base}, d: d}
	base.RootNode = root
	zero := time.Duration(0)
	// The FUSE library does not mark its end of the connection as ours alone. A server that
	// inherited it would keep the disk connected, and itself waiting, after our end.
	syscall.ForkLock.RLock()
	server, err := fs.Mount(d.Mountpoint, root, &fs.Options{
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "seatkeeper-jepsen", Name: "jepsen"},
		EntryTimeout: &zero, AttrTimeout: &zero, NegativeTimeout: &zero, NullPermissions: true,
	})
	closeOnExec()
	syscall.ForkLock.RUnlock()
	if err != nil {
		return fmt.Errorf("mount %s: %w", d.Mountpoint, err)
	}
	d.server = server
	for end := time.Now().Add(mountWait); !IsMounted(d.Mountpoint); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("mount %s: is not there after %v", d.Mountpoint, mountWait)
		}
	}
	return nil
}

// closeOnExec keeps connections to the kernel's FUSE from child processes.
func closeOnExec() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if target, _ := os.Readlink("/proc/self/fd/" + e.Name()); target == "/dev/fuse" {
			if fd, err := strconv.Atoi(e.Name()); err == nil {
				syscall.CloseOnExec(fd)
			}
		}
	}
}

// IsMounted asks the kernel's list, which also has mounts that nobody serves any more.
func IsMounted(path string) bool {
	list, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(list)) {
		// Paths of runs have no blanks, which the list would spell in octal.
		if f := strings.Fields(line); len(f) > 4 && f[4] == path {
			return true
		}
	}
	return false
}

// Unmount hides the disk. Processes that use it must have ended before.
func (d *Disk) Unmount() error {
	if d.server == nil {
		return nil
	}
	var err error
	for end := time.Now().Add(mountWait); ; time.Sleep(20 * time.Millisecond) {
		if err = unix.Unmount(d.Mountpoint, 0); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("unmount %s: %w", d.Mountpoint, err)
		_ = unix.Unmount(d.Mountpoint, unix.MNT_DETACH)
	} else {
		d.server.Wait()
	}
	d.server = nil
	return err
}

// Close unmounts the disk and lets the mountpoint be removed.
func (d *Disk) Close() error {
	d.gate.set(Faults{})
	return errors.Join(d.Unmount(), SetImmutable(d.Mountpoint, false), d.journal.close())
}

// PowerFailure takes back what was not synced. The node's process must have ended.
func (d *Disk) PowerFailure(mode Mode, rng *rand.Rand) (Loss, error) {
	if err := d.Unmount(); err != nil {
		return Loss{}, err
	}
	loss, err := d.journal.fail(mode, rng)
	return loss, errors.Join(err, d.Mount())
}

// Settle makes every change lasting, as a disk does that has had time.
func (d *Disk) Settle() { d.journal.settle(func(*record) bool { return true }) }

// Pending is how many changes are not synced.
func (d *Disk) Pending() int { return d.journal.Pending() }

// SetFaults changes how the disk misbehaves, at once; what hangs goes on if it may.
func (d *Disk) SetFaults(f Faults) { d.gate.set(f) }

// Counts is what happened to operations so far.
func (d *Disk) Counts() Counts { return d.gate.counts() }

// Wipe empties the disk, as when it is replaced. The node's process must have ended.
func (d *Disk) Wipe() (files int, err error) {
	if err := d.Unmount(); err != nil {
		return 0, err
	}
	d.Settle()
	_ = filepath.WalkDir(d.journal.root, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files++
		}
		return nil
	})
	entries, err := os.ReadDir(d.journal.root)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(d.journal.root, e.Name())))
	}
	return files, errors.Join(err, d.Mount())
}

// Path is where a file of the disk is in the backing directory.
func (d *Disk) Path(name string) string { return filepath.Join(d.journal.root, name) }

// Faults are the present ones.
func (d *Disk) Faults() Faults {
	f, _ := d.gate.get()
	return f
}
