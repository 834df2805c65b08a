package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// segmentsOf returns the segment files of a data directory, oldest first.
func segmentsOf(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, segmentsDir, "*.wal"))
	must(t, err)
	if len(files) == 0 {
		t.Fatal("no segments")
	}
	return files
}

// usedBytes is how much of a segment file has been written: the rest is zeros.
func usedBytes(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	return len(bytes.TrimRight(b, "\x00"))
}

// reopened wants the content of a directory, or one line about damage in it.
func reopened(t *testing.T, dir string, want content, what string) (found bool) {
	t.Helper()
	s, err := openReadOnly(dir)
	if err != nil {
		if damage := (*DamageError)(nil); !errors.As(err, &damage) {
			t.Errorf("%s: %v is no DamageError", what, err)
		}
		checkLine(t, err, "rebuild this node")
		return true
	}
	defer s.log.Close()
	if have := contentOf(t, s); !have.equal(want) {
		t.Errorf("%s: other content, and no error", what)
	}
	return false
}

func TestFlippedBitsInSegmentsAreNeverServed(t *testing.T) {
	dir, want := usedDirOf(t, LogWAL)
	if reopened(t, dir, want, "nothing flipped") {
		t.Fatal("a whole log was refused")
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, name := range segmentsOf(t, dir) {
		used := usedBytes(t, name)
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		must(t, err)
		flips := 500
		if testing.Short() { // make stories tries all
			flips = 150
		}
		found := 0
		for i := range flips {
			at, bit := int64(rnd.IntN(used+100)), rnd.IntN(8)
			if i < 64 {
				at = int64(i) // the head
			}
			flip := func() {
				var b [1]byte
				_, err := file.ReadAt(b[:], at)
				must(t, err)
				b[0] ^= 1 << bit
				_, err = file.WriteAt(b[:], at)
				must(t, err)
			}
			flip()
			if reopened(t, dir, want, fmt.Sprintf("%s: bit %d of byte %d of %d", filepath.Base(name), bit, at, used)) {
				found++
			}
			flip()
		}
		must(t, file.Close())
		t.Logf("%s: %d of %d flips in %d bytes found", filepath.Base(name), found, flips, used)
		if found < flips/4 {
			t.Errorf("%s: only %d of %d flips were found: did they hit what is used?", filepath.Base(name), found, flips)
		}
	}
	if reopened(t, dir, want, "all flipped back") {
		t.Error("a log that is whole again was refused")
	}
}

func TestSegmentsThatAreNotWholeAreRefused(t *testing.T) {
	for what, damage := range map[string]func(t *testing.T, dir, last string){
		"cut off": func(t *testing.T, dir, last string) { must(t, os.Truncate(last, int64(usedBytes(t, last)/2))) },
		"emptied": func(t *testing.T, dir, last string) { must(t, os.Truncate(last, 0)) },
		"gone":    func(t *testing.T, dir, last string) { must(t, os.Remove(last)) },
		"first gone": func(t *testing.T, dir, _ string) {
			must(t, os.Remove(segmentsOf(t, dir)[0]))
		},
		"folder gone": func(t *testing.T, dir, _ string) { must(t, os.RemoveAll(filepath.Join(dir, segmentsDir))) },
		"raft.db gone": func(t *testing.T, dir, _ string) {
			must(t, errors.Join(os.Remove(filepath.Join(dir, logFile)), os.Remove(filepath.Join(dir, idFile)), os.Remove(filepath.Join(dir, markFile)),
				os.RemoveAll(filepath.Join(dir, snapshotsDir))))
		},
		"snapshots gone": func(t *testing.T, dir, _ string) { must(t, os.RemoveAll(filepath.Join(dir, snapshotsDir))) },
	} {
		t.Run(what, func(t *testing.T) {
			dir, _ := usedDirOf(t, LogWAL)
			files := segmentsOf(t, dir)
			damage(t, dir, files[len(files)-1])
			for range 2 { // what was refused once does not look whole the next time
				s, err := openStorage(dir, "n", LogWAL, testLogger("n"))
				if err == nil {
					s.Close()
					t.Fatal("opened")
				}
				damage := (*DamageError)(nil)
				if !errors.As(err, &damage) {
					t.Errorf("%v is no DamageError", err)
				}
			}
		})
	}
}

func TestALostTailOfSegmentsIsNoticed(t *testing.T) {
	for what, write := range map[string]func(s *storage) error{
		"entries": func(s *storage) error { return s.log.StoreLog(entry(193, 4, 40)) },
		"a vote":  func(s *storage) error { return s.log.SetUint64([]byte("LastVoteTerm"), 5) },
		"a cut":   func(s *storage) error { return s.log.DeleteRange(192, 192) },
	} {
		t.Run(what, func(t *testing.T) {
			dir, _ := usedDirOf(t, LogWAL)
			s, err := openStorage(dir, "n", LogWAL, testLogger("n"))
			must(t, err)
			before := t.TempDir()
			must(t, os.CopyFS(before, os.DirFS(dir)))
			must(t, write(s))
			must(t, killed(s))
			mark, err := os.ReadFile(filepath.Join(dir, markFile))
			must(t, err)
			must(t, os.RemoveAll(dir))
			must(t, os.CopyFS(dir, os.DirFS(before)))
			must(t, os.WriteFile(filepath.Join(dir, markFile), mark, 0o600))
			_, err = openStorage(dir, "n", LogWAL, testLogger("n"))
			checkLine(t, err, "its newest writes are gone")
		})
	}
}

// A process may die between a write and its mark, which then says too little.
func TestSegmentsNewerThanTheirMarkAreWhole(t *testing.T) {
	dir, _ := usedDirOf(t, LogWAL)
	mark, err := os.ReadFile(filepath.Join(dir, markFile))
	must(t, err)
	s, err := openStorage(dir, "n", LogWAL, testLogger("n"))
	must(t, err)
	must(t, s.log.StoreLog(entry(193, 4, 40)))
	must(t, s.log.DeleteRange(190, 193))
	must(t, s.log.StoreLog(entry(190, 5, 40)))
	want := contentOf(t, s)
	must(t, killed(s))
	must(t, os.WriteFile(filepath.Join(dir, markFile), mark, 0o600))
	if s, err = openStorage(dir, "n", "", testLogger("n")); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if !contentOf(t, s).equal(want) {
		t.Error("other content")
	}
}

func TestSegmentsRollOverAndAreDropped(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := openStorage(dir, "n", LogWAL, testLogger("n"))
	must(t, err)
	const size, batch = 400 << 10, 10
	next := uint64(1)
	for range 3 * segmentBytes / size / batch {
		var logs []*raft.Log
		for range batch {
			logs = append(logs, &raft.Log{Index: next, Term: 1, Data: bytes.Repeat([]byte{byte(next)}, size)})
			next++
		}
		must(t, s.log.StoreLogs(logs))
	}
	if n := len(segmentsOf(t, dir)); n < 3 {
		t.Errorf("%d segments hold %d entries", n, next-1)
	}
	takeSnapshot(t, s, next-2, "the state")
	must(t, s.log.DeleteRange(1, next-3))
	if n := len(segmentsOf(t, dir)); n > 2 {
		t.Errorf("%d segments are kept for 2 entries", n)
	}
	must(t, killed(s))
	if s, err = openStorage(dir, "n", LogWAL, testLogger("n")); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, _ := s.log.FirstIndex()
	last, _ := s.log.LastIndex()
	if first != next-2 || last != next-1 {
		t.Errorf("entries %d to %d, want %d to %d", first, last, next-2, next-1)
	}
}

func TestADirectoryKeepsItsLogStoreForGood(t *testing.T) {
	for have, other := range map[LogStore]LogStore{LogBolt: LogWAL, LogWAL: LogBolt} {
		dir, want := usedDirOf(t, have)
		_, err := openStorage(dir, "n", other, testLogger("n"))
		checkLine(t, err, fmt.Sprintf("set log_store: %s", have))
		s, err := openStorage(dir, "n", "", testLogger("n"))
		must(t, err)
		if !contentOf(t, s).equal(want) {
			t.Error("other content")
		}
		must(t, s.Close())
	}
}

// A follower that was away for long takes over a snapshot. Raft then drops the whole log,
// if it knows that it must have no gap, and goes on behind the snapshot.
func TestSegmentsBeginAnewBehindASnapshot(t *testing.T) {
	dir, _ := usedDirOf(t, LogWAL)
	s, err := openStorage(dir, "n", LogWAL, testLogger("n"))
	must(t, err)
	cache, err := raft.NewLogCache(logCacheEntries, &gate{LogStore: s.log})
	must(t, err)
	if !cache.IsMonotonic() {
		t.Error("raft is not told that segments have no gaps")
	}
	takeSnapshot(t, s, 500, "a later state")
	must(t, cache.DeleteRange(121, 192))
	must(t, killed(s)) // here, too, it is whole
	s, err = openStorage(dir, "n", LogWAL, testLogger("n"))
	must(t, err)
	must(t, s.log.StoreLogs([]*raft.Log{entry(501, 5, 40), entry(502, 5, 40)}))
	want := contentOf(t, s)
	must(t, killed(s))
	s, err = openStorage(dir, "n", LogWAL, testLogger("n"))
	must(t, err)
	defer s.Close()
	if have := contentOf(t, s); !have.equal(want) || len(have.logs) != 2 {
		t.Errorf("%d entries", len(have.logs))
	}
}

func TestNodeOnSegmentsGoesOnAfterRestarts(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	cfg.LogStore = LogWAL
	var last uint64
	for range 3 {
		n := start(t, cfg)
		if n.gate.LogStore.(*checkedLog).store() != LogWAL {
			t.Error("its log is not in segments")
		}
		a := propose(t, leaderOf(t, n))
		if a.Index <= last {
			t.Errorf("entry %d after entry %d", a.Index, last)
		}
		last = a.Index
		stop(t, n)
	}
	cfg.LogStore = ""
	_, err := Start(cfg)
	checkLine(t, err, "set log_store: wal")
}
