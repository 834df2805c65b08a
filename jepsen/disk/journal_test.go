package disk

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// backing is a journal over a temporary folder, used as the file system uses it.
type backing struct {
	*journal
	t *testing.T
}

func newBacking(t *testing.T) *backing {
	t.Helper()
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.close() })
	return &backing{j, t}
}

func (b *backing) path(name string) string { return filepath.Join(b.root, name) }

func (b *backing) check(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *backing) dir(name string) *dir {
	b.t.Helper()
	d, err := openDir(b.path(name))
	b.check(err)
	return d
}

func ino(f *os.File) uint64 {
	var st unix.Stat_t
	_ = unix.Fstat(int(f.Fd()), &st)
	return st.Ino
}

func (b *backing) create(name string) *os.File {
	b.t.Helper()
	f, err := os.OpenFile(b.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	b.check(err)
	b.t.Cleanup(func() { f.Close() })
	b.made(b.dir(filepath.Dir(name)), filepath.Base(name))
	return f
}

func (b *backing) put(f *os.File, text string, off int64) {
	b.t.Helper()
	_, err := b.write(f, ino(f), []byte(text), off)
	b.check(err)
}

func (b *backing) sync(f *os.File) { b.syncFile(ino(f)) }

func (b *backing) syncFolder(name string) {
	d := b.dir(name)
	b.syncDir(d.ino)
	d.f.Close()
}

func (b *backing) lose(m Mode) Loss {
	b.t.Helper()
	loss, err := b.fail(m, rand.New(rand.NewPCG(1, 2)))
	b.check(err)
	return loss
}

func (b *backing) holds(name, want string) {
	b.t.Helper()
	got, err := os.ReadFile(b.path(name))
	if err != nil {
		b.t.Fatal(err)
	}
	if string(got) != want {
		b.t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

func (b *backing) names() []string {
	entries, err := os.ReadDir(b.root)
	b.check(err)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// lasting makes a file that survives a power failure.
func (b *backing) lasting(name, text string) *os.File {
	b.t.Helper()
	f := b.create(name)
	b.put(f, text, 0)
	b.sync(f)
	b.syncFolder(filepath.Dir(name))
	return f
}

func TestSyncedBytesSurviveAndOthersGo(t *testing.T) {
	b := newBacking(t)
	f := b.lasting("log", "abcdef")
	b.put(f, "XY", 1)
	b.put(f, "beyond", 6)
	if loss := b.lose(All); loss.Records != 2 || loss.Bytes != 8 {
		t.Errorf("lost %+v, want 2 records of 8 bytes", loss)
	}
	b.holds("log", "abcdef")
}

func TestAnFsyncOfTheFileDoesNotKeepItsName(t *testing.T) {
	b := newBacking(t)
	f := b.create("log")
	b.put(f, "abc", 0)
	b.sync(f)
	b.lose(All)
	if got := b.names(); len(got) > 0 {
		t.Errorf("%v survived", got)
	}
}

func TestAnFsyncOfTheDirectoryDoesNotKeepTheBytes(t *testing.T) {
	b := newBacking(t)
	f := b.create("log")
	b.put(f, "abc", 0)
	b.syncFolder(".")
	b.lose(All)
	b.holds("log", "")
}

// A folder is emptied and taken away, and the folder that it was in is synced: what was in
// it is gone for good too, although nobody ever synced it.
func TestARemovalThatLastsTakesWhatWasInTheFolderAlong(t *testing.T) {
	b := newBacking(t)
	b.check(os.Mkdir(b.path("snapshot"), 0o700))
	b.made(b.dir("."), "snapshot")
	b.lasting("snapshot/state", "state")
	b.syncFolder(".")
	b.check(b.remove(b.dir("snapshot"), "state"))
	b.check(b.remove(b.dir("."), "snapshot"))
	b.lasting("log", "abc")
	b.put(b.lasting("late", "x"), "yz", 0)
	if loss := b.lose(All); loss.Records != 1 {
		t.Errorf("lost %+v, want the last write alone", loss)
	}
	b.holds("log", "abc")
	b.holds("late", "x")
}

func TestRenamesRemovalsAndTruncationsAreTakenBack(t *testing.T) {
	b := newBacking(t)
	b.lasting("old", "old")
	b.lasting("gone", "gone")
	long := b.lasting("long", "0123456789")
	b.check(b.rename(b.dir("."), "long", b.dir("."), "old")) // over another
	b.check(b.remove(b.dir("."), "gone"))
	b.check(b.truncate(long, ino(long), 3))
	b.put(long, "zzz", 0) // under its new name
	b.lose(All)
	if got := b.names(); !slices.Equal(got, []string{"gone", "long", "old"}) {
		t.Errorf("names are %v", got)
	}
	b.holds("old", "old")
	b.holds("gone", "gone")
	b.holds("long", "0123456789")
}

func TestAMovedFolderComesBackWithWhatWasSyncedInIt(t *testing.T) {
	b := newBacking(t)
	b.check(os.Mkdir(b.path("snap.tmp"), 0o700))
	b.made(b.dir("."), "snap.tmp")
	b.syncFolder(".")
	f := b.create("snap.tmp/state")
	b.put(f, "state", 0)
	b.sync(f)
	b.syncFolder("snap.tmp")
	b.check(b.rename(b.dir("."), "snap.tmp", b.dir("."), "snap"))
	b.lose(All)
	b.holds("snap.tmp/state", "state")
}

func TestAPrefixKeepsTheOldestChanges(t *testing.T) {
	b := newBacking(t)
	f := b.lasting("log", "")
	const n = 50
	for i := range n {
		b.put(f, string(rune('a'+i%26)), int64(i))
	}
	loss := b.lose(Prefix)
	got, err := os.ReadFile(b.path("log"))
	b.check(err)
	if len(got) != n-loss.Records || loss.Records == 0 || loss.Records == n {
		t.Errorf("%d bytes are left, lost %+v", len(got), loss)
	}
}

func TestATornWriteLeavesWholeSectors(t *testing.T) {
	b := newBacking(t)
	const sectors = 8
	old := bytes.Repeat([]byte("o"), sectors*sector)
	f := b.lasting("log", string(old))
	b.put(f, string(bytes.Repeat([]byte("n"), sectors*sector)), 0)
	loss := b.lose(Torn)
	got, err := os.ReadFile(b.path("log"))
	b.check(err)
	fresh := bytes.Count(got, []byte("n"))
	if len(got) != len(old) || int64(fresh) != loss.Torn || fresh == 0 || fresh == len(old) || fresh%sector != 0 {
		t.Errorf("%d new bytes of %d, lost %+v", fresh, len(got), loss)
	}
	if bytes.HasPrefix(got, []byte("o")) {
		t.Error("the old bytes are in front")
	}
}
