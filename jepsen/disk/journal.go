package disk

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// sector is what a disk writes whole or not at all, in bytes.
const sector = 512

// Mode says how much of what was not synced a power failure takes.
type Mode string

const (
	// All takes everything that was not synced.
	All Mode = "all"
	// Prefix keeps the oldest changes up to a random one, as a disk that writes in
	// order may have done.
	Prefix Mode = "prefix"
	// Torn is Prefix, and the first write that is lost left some of its sectors.
	Torn Mode = "torn"
)

// Loss is what a power failure took.
type Loss struct {
	Mode Mode
	// Pending is how many changes were not synced, Records how many of them were taken
	// back, Bytes how many bytes of files those were.
	Pending, Records int
	Bytes            int64
	// Torn is how many bytes a half-done write left behind.
	Torn int64
}

// record is one change and how to take it back.
type record struct {
	undo func(keep int64) error
	// file is the inode whose fsync makes the change lasting, for bytes and lengths;
	// dirs are the directories, any of whose fsync does, for names.
	file uint64
	dirs []uint64
	// folder is the directory that the change took away, 0 if it took none.
	folder uint64
	// bytes is the length of a write.
	bytes int64
	// done is called when the record can no longer be taken back.
	done func()
}

// journal is the undo log of one backing directory. It is safe for concurrent use.
type journal struct {
	mu      sync.Mutex
	root    string
	trash   *os.File // where removed things wait
	nextBin uint64
	records []*record
	keepers map[uint64]*keeper
}

// keeper holds a file open for as long as some record of it can be taken back, so that
// neither a rename nor a removal loses it.
type keeper struct {
	f    *os.File
	refs int
}

// keep returns f opened once more; letGo ends that. The caller holds mu.
func (j *journal) keep(f *os.File, ino uint64) (*os.File, error) {
	k := j.keepers[ino]
	if k == nil {
		again, err := os.OpenFile("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		k = &keeper{f: again}
		j.keepers[ino] = k
	}
	k.refs++
	return k.f, nil
}

func (j *journal) letGo(ino uint64) {
	k := j.keepers[ino]
	if k.refs--; k.refs == 0 {
		k.f.Close()
		delete(j.keepers, ino)
	}
}

// openJournal prepares dir, which gets two folders: data is what is served, trash is ours.
func openJournal(dir string) (*journal, error) {
	if err := os.RemoveAll(filepath.Join(dir, "trash")); err != nil {
		return nil, err
	}
	for _, name := range []string{"data", "trash"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	trash, err := os.Open(filepath.Join(dir, "trash"))
	if err != nil {
		return nil, err
	}
	return &journal{root: filepath.Join(dir, "data"), trash: trash, keepers: map[uint64]*keeper{}}, nil
}

// Pending is how many changes would be lost if the power failed now.
func (j *journal) Pending() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.records)
}

// write writes to a file, remembering what was there.
func (j *journal) write(f *os.File, ino uint64, p []byte, off int64) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	old, size, err := peek(f, off, len(p))
	if err != nil {
		return 0, err
	}
	keep, err := j.keep(f, ino)
	if err != nil {
		return 0, err
	}
	n, err := f.WriteAt(p, off)
	j.records = append(j.records, &record{file: ino, bytes: int64(len(p)), done: func() { j.letGo(ino) },
		undo: func(torn int64) error {
			if torn >= int64(len(old)) {
				// Nothing of the old bytes comes back, but the length may.
				return keep.Truncate(max(size, off+torn))
			}
			if _, err := keep.WriteAt(old[torn:], off+torn); err != nil {
				return err
			}
			return keep.Truncate(max(size, off+torn))
		}})
	return n, err
}

// truncate changes a file's length, remembering what it cuts off.
func (j *journal) truncate(f *os.File, ino uint64, length int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	var old []byte
	if length < size {
		if old, _, err = peek(f, length, int(size-length)); err != nil {
			return err
		}
	}
	keep, err := j.keep(f, ino)
	if err != nil {
		return err
	}
	err = f.Truncate(length)
	j.records = append(j.records, &record{file: ino, done: func() { j.letGo(ino) }, undo: func(int64) error {
		if err := keep.Truncate(size); err != nil {
			return err
		}
		_, err := keep.WriteAt(old, length)
		return err
	}})
	return err
}

// peek reads the bytes at off that are there; f is open for both ways.
func peek(f *os.File, off int64, n int) (old []byte, size int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	old = make([]byte, max(min(int64(n), info.Size()-off), 0))
	if _, err = f.ReadAt(old, off); errors.Is(err, io.EOF) {
		err = nil
	}
	return old, info.Size(), err
}

// dir is an open directory of the backing store. Names are changed by it, not by paths,
// which other changes move.
type dir struct {
	f   *os.File
	ino uint64
}

func openDir(path string) (*dir, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, err
	}
	return &dir{f, st.Ino}, nil
}

func (d *dir) fd() int { return int(d.f.Fd()) }

// made remembers that a name was added to a directory. It takes over d.
func (j *journal) made(d *dir, name string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, &record{dirs: []uint64{d.ino}, done: func() { d.f.Close() },
		undo: func(int64) error {
			return unix.Renameat(d.fd(), name, int(j.trash.Fd()), j.bin())
		}})
}

// bin is a fresh name in the trash. The caller holds mu.
func (j *journal) bin() string {
	j.nextBin++
	return strconv.FormatUint(j.nextBin, 10)
}

// remove takes a name out of a directory. It takes over d, also when it fails.
func (j *journal) remove(d *dir, name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	bin := j.bin()
	var st unix.Stat_t
	err := unix.Fstatat(d.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil {
		err = unix.Renameat(d.fd(), name, int(j.trash.Fd()), bin)
	}
	if err != nil {
		d.f.Close()
		return err
	}
	var folder uint64
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		folder = st.Ino
	}
	j.records = append(j.records, &record{dirs: []uint64{d.ino}, folder: folder, done: func() { d.f.Close(); j.discard(bin) },
		undo: func(int64) error { return unix.Renameat(int(j.trash.Fd()), bin, d.fd(), name) }})
	return nil
}

func (j *journal) discard(bin string) {
	_ = os.RemoveAll(filepath.Join(filepath.Dir(j.root), "trash", bin))
}

// rename moves a name, over another one if that is there. It takes over both.
func (j *journal) rename(from *dir, old string, to *dir, name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	bin, displaced := j.bin(), true
	err := unix.Renameat(to.fd(), name, int(j.trash.Fd()), bin)
	if errors.Is(err, unix.ENOENT) {
		displaced, err = false, nil
	}
	if err == nil {
		if err = unix.Renameat(from.fd(), old, to.fd(), name); err != nil && displaced {
			err = errors.Join(err, unix.Renameat(int(j.trash.Fd()), bin, to.fd(), name))
		}
	}
	if err != nil {
		from.f.Close()
		to.f.Close()
		return err
	}
	j.records = append(j.records, &record{dirs: []uint64{from.ino, to.ino},
		done: func() { from.f.Close(); to.f.Close(); j.discard(bin) },
		undo: func(int64) error {
			err := unix.Renameat(to.fd(), name, from.fd(), old)
			if err == nil && displaced {
				err = unix.Renameat(int(j.trash.Fd()), bin, to.fd(), name)
			}
			return err
		}})
	return nil
}

// syncFile makes changes to a file's bytes lasting, syncDir those to a directory's names.
func (j *journal) syncFile(ino uint64) {
	j.settle(func(r *record) bool { return r.dirs == nil && r.file == ino })
}

func (j *journal) syncDir(ino uint64) {
	j.settle(func(r *record) bool { return slices.Contains(r.dirs, ino) })
}

// settle makes changes lasting. With a directory that is gone for good, what was done to
// the names in it is final too: there is nothing left that they could come back to.
func (j *journal) settle(lasting func(*record) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for again := true; again; {
		var gone []uint64
		rest := j.records[:0]
		for _, r := range j.records {
			if !lasting(r) {
				rest = append(rest, r)
				continue
			}
			if r.folder != 0 {
				gone = append(gone, r.folder)
			}
			r.done()
		}
		clear(j.records[len(rest):])
		j.records = rest
		again = len(gone) > 0
		lasting = func(r *record) bool {
			return slices.ContainsFunc(r.dirs, func(d uint64) bool { return slices.Contains(gone, d) })
		}
	}
}

// fail takes back what was not synced. Nobody may use the files meanwhile.
func (j *journal) fail(mode Mode, rng *rand.Rand) (Loss, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	loss := Loss{Mode: mode, Pending: len(j.records)}
	kept := 0
	if mode != All && len(j.records) > 0 {
		kept = rng.IntN(len(j.records))
	}
	if mode == Torn {
		kept = j.tearable(kept)
	}
	var errs []error
	for i := len(j.records) - 1; i >= kept; i-- {
		r := j.records[i]
		var torn int64
		if mode == Torn && i == kept && r.bytes > sector {
			torn = sector * (1 + rng.Int64N((r.bytes-1)/sector))
			loss.Torn = torn
		}
		if err := r.undo(torn); err != nil {
			errs = append(errs, fmt.Errorf("record %d of %d: %w", i, len(j.records), err))
		}
		loss.Records++
		loss.Bytes += r.bytes - torn
	}
	for i := len(j.records) - 1; i >= 0; i-- {
		j.records[i].done()
	}
	j.records = nil
	return loss, errors.Join(errs...)
}

// tearable is the first record from i on that more than one sector was written by, or
// i if there is none.
func (j *journal) tearable(i int) int {
	for k := i; k < len(j.records); k++ {
		if j.records[k].bytes > sector {
			return k
		}
	}
	return i
}

// close lets go of everything; what was not synced stays as it is.
func (j *journal) close() error {
	j.settle(func(*record) bool { return true })
	return j.trash.Close()
}
