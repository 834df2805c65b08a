package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// content is all that raft could read from a data directory.
type content struct {
	logs map[uint64]string
	keys map[string]string
	snap string
}

func (c content) equal(d content) bool {
	return maps.Equal(c.logs, d.logs) && maps.Equal(c.keys, d.keys) && c.snap == d.snap
}

func contentOf(t *testing.T, s *storage) content {
	t.Helper()
	c := content{logs: map[uint64]string{}, keys: map[string]string{}}
	first, _ := s.log.FirstIndex()
	last, _ := s.log.LastIndex()
	for i := first; i <= last && i > 0; i++ {
		var l raft.Log
		if err := s.log.GetLog(i, &l); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		c.logs[i] = fmt.Sprintf("%d %d %v %q %q %d", l.Index, l.Term, l.Type, l.Data, l.Extensions, l.AppendedAt.UnixNano())
	}
	for _, k := range []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"} {
		v, err := s.log.Get([]byte(k))
		c.keys[k] = fmt.Sprint(v, err)
	}
	list, err := s.snapshots.List()
	if err != nil || len(list) == 0 {
		return c
	}
	meta, state, err := s.snapshots.Open(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	body, err := io.ReadAll(state)
	if err != nil || int64(len(body)) != meta.Size {
		t.Errorf("snapshot of %d bytes says %d, error %v", len(body), meta.Size, err)
	}
	c.snap = fmt.Sprintf("%d %d %v %d %q", meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, body)
	return c
}

func entry(i, term uint64, size int) *raft.Log {
	l := &raft.Log{Index: i, Term: term, AppendedAt: time.Unix(1_700_000_000, int64(i))}
	switch {
	case i%7 == 0:
		l.Type = raft.LogNoop
	case i%11 == 0:
		l.Type, l.Data = raft.LogConfiguration, []byte("members")
	default:
		l.Data = bytes.Repeat([]byte{byte(i)}, size)
	}
	if i%13 == 0 {
		l.Extensions = []byte("theirs")
	}
	return l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// usedDir is the data directory of a node that has worked: its log has been appended
// to, cut at both ends, and has a snapshot.
func usedDir(t *testing.T) (dir string, want content) {
	t.Helper()
	return usedDirOf(t, LogBolt)
}

func usedDirOf(t *testing.T, store LogStore) (dir string, want content) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	s, err := openStorage(dir, "n", store, testLogger("n"))
	must(t, err)
	for i := uint64(1); i <= 200; i += 50 {
		var batch []*raft.Log
		for j := range uint64(50) {
			size := 40
			if j == 0 {
				size = 9000 // more than a page
			}
			batch = append(batch, entry(i+j, 3, size))
		}
		must(t, s.log.StoreLogs(batch))
	}
	must(t, s.log.SetUint64([]byte("CurrentTerm"), 4))
	must(t, s.log.SetUint64([]byte("LastVoteTerm"), 4))
	must(t, s.log.Set([]byte("LastVoteCand"), []byte("n2-00000002")))
	takeSnapshot(t, s, 150, "the state")
	must(t, s.log.DeleteRange(1, 120))
	must(t, s.log.DeleteRange(191, 200))
	must(t, s.log.StoreLogs([]*raft.Log{entry(191, 4, 40), entry(192, 4, 40)}))
	want = contentOf(t, s)
	must(t, s.Close())
	return dir, want
}

func takeSnapshot(t *testing.T, s *storage, index uint64, state string) {
	t.Helper()
	_, trans := raft.NewInmemTransport("")
	conf := raft.Configuration{Servers: []raft.Server{{ID: "n-00000001", Address: "h:1"}, {ID: "n2-00000002", Address: "h:2"}}}
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, index, 3, conf, 1, trans)
	must(t, err)
	_, err = io.WriteString(sink, state)
	must(t, err)
	must(t, sink.Close())
}

// reopen opens dir with other bytes in one file, and wants the same
// content or one line about the damage. It says whether the damage was found.
func reopen(t *testing.T, dir, file string, bytes []byte, want content, what string) bool {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, file), bytes, 0o600))
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

// openReadOnly checks all that openStorage checks, and writes nothing, which makes it
// fast enough for hundreds of tries.
func openReadOnly(dir string) (*storage, error) {
	incarnation, err := settleIdentity(dir, "")
	if err != nil {
		return nil, err
	}
	s := &storage{id: "n-" + incarnation}
	if s.snapshots, err = openSnapshots(dir, s.id, hclog.NewNullLogger()); err == nil {
		s.log, err = openLog(dir, s.id, s.snapshots, true, hclog.NewNullLogger())
	}
	return s, err
}

// killed lets go of the files of a node that did not close them in order.
func killed(s *storage) error {
	var err error
	if s.log.wal != nil {
		err = s.log.wal.Close() // it writes nothing
	}
	return errors.Join(err, s.log.bolt.Close(), s.lock.Close())
}

func TestFlippedBitsInTheLogAreNeverServed(t *testing.T) {
	dir, want := usedDir(t)
	file, err := os.ReadFile(filepath.Join(dir, logFile))
	must(t, err)
	whole := bytes.Clone(file)
	if reopen(t, dir, logFile, file, want, "nothing flipped") {
		t.Fatal("a whole log was refused")
	}
	const flips = 600
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	for i := range flips {
		at, bit := rnd.IntN(len(file)), rnd.IntN(8)
		file[at] ^= 1 << bit
		if reopen(t, dir, logFile, file, want, fmt.Sprintf("bit %d of byte %d", bit, at)) {
			found++
		} else if i%20 == 0 { // also as a node would, which writes
			s, err := openStorage(dir, "n", "", testLogger("n"))
			must(t, err)
			if have := contentOf(t, s); !have.equal(want) {
				t.Errorf("bit %d of byte %d: other content for a node that writes", bit, at)
			}
			must(t, killed(s))
		}
		file[at] ^= 1 << bit
	}
	must(t, os.WriteFile(filepath.Join(dir, logFile), whole, 0o600))
	if found < flips/20 {
		t.Errorf("only %d of %d flips were found: did they hit what is used?", found, flips)
	}
	// The two meta pages, bit by bit where it matters most.
	for at := 0; at < 2*os.Getpagesize(); at++ {
		if at%os.Getpagesize() >= boltHeader+boltMetaSize {
			continue
		}
		bit := rnd.IntN(8)
		file[at] ^= 1 << bit
		reopen(t, dir, logFile, file, want, fmt.Sprintf("bit %d of byte %d", bit, at))
		file[at] ^= 1 << bit
	}
}

func TestCutOffLogIsRefused(t *testing.T) {
	dir, want := usedDir(t)
	file, err := os.ReadFile(filepath.Join(dir, logFile))
	must(t, err)
	for _, size := range []int{0, 1, 100, 4096, 8192, 8193, len(file) / 4, len(file) / 2} {
		if !reopen(t, dir, logFile, file[:size], want, fmt.Sprintf("cut off at %d", size)) {
			t.Errorf("cut off at %d of %d, and opened", size, len(file))
		}
	}
	reopen(t, dir, logFile, file[:len(file)-1], want, "the last byte is gone")
}

func TestFlippedBitsInASnapshotAreNeverServed(t *testing.T) {
	dir, want := usedDir(t)
	names, err := filepath.Glob(filepath.Join(dir, snapshotsDir, "*", "*"))
	must(t, err)
	for _, name := range names {
		rel, _ := filepath.Rel(dir, name)
		file, err := os.ReadFile(name)
		must(t, err)
		found := 0
		for at := range file {
			bit := at % 8
			file[at] ^= 1 << bit
			if reopen(t, dir, rel, file, want, fmt.Sprintf("%s: bit %d of byte %d", rel, bit, at)) {
				found++
			}
			file[at] ^= 1 << bit
		}
		if found < len(file)/3 {
			t.Errorf("%s: only %d of %d flips were found", rel, found, len(file))
		}
		if !reopen(t, dir, rel, file[:len(file)/2], want, rel+" cut off") {
			t.Errorf("%s cut off, and opened", rel)
		}
		must(t, os.WriteFile(name, file, 0o600))
	}
	if len(names) != 2 {
		t.Fatalf("files of the snapshot: %v", names)
	}
}

// changeLog changes the log's file with bolt itself, below all checks.
func changeLog(t *testing.T, dir string, do func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, logFile), 0o600, nil)
	must(t, err)
	must(t, db.Update(do))
	must(t, db.Close())
}

func indexKey(i uint64) []byte {
	return []byte{byte(i >> 56), byte(i >> 48), byte(i >> 40), byte(i >> 32), byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
}

func TestLogThatIsNotWholeIsRefused(t *testing.T) {
	used, _ := usedDir(t)
	drop := func(from, to uint64) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			changeLog(t, dir, func(tx *bbolt.Tx) error {
				for i := from; i <= to; i++ {
					if err := tx.Bucket([]byte("logs")).Delete(indexKey(i)); err != nil {
						return err
					}
				}
				return nil
			})
		}
	}
	for _, tc := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string // empty: it opens
	}{
		{"entries missing after the snapshot", drop(170, 171), "entries 170 to 171 are missing"},
		{"begins after the snapshot", drop(121, 151), "begins at entry 152 but the newest snapshot ends at 150"},
		{"a hole that the snapshot covers", drop(130, 150), ""},
		{"snapshot gone", func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, snapshotsDir))) }, "newest snapshot ends at 0"},
		{"an unknown value", func(t *testing.T, dir string) {
			changeLog(t, dir, func(tx *bbolt.Tx) error {
				return tx.Bucket([]byte("conf")).Put([]byte("CurrentTerm"), []byte("12345678"))
			})
		}, `the value of "CurrentTerm" does not match its checksum`},
		{"entries swapped", func(t *testing.T, dir string) {
			changeLog(t, dir, func(tx *bbolt.Tx) error {
				b := tx.Bucket([]byte("logs"))
				v := bytes.Clone(b.Get(indexKey(160)))
				return b.Put(indexKey(161), v)
			})
		}, "entry 161 is not what was written"},
		{"another node's id", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, idFile), []byte("00000000\n"), 0o600))
		}, "not the node-id that raft.db belongs to"},
		{"no id", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, idFile))) }, "node-id is missing beside raft.db"},
		{"no log", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, logFile))) }, "it is missing beside node-id"},
		{"a snapshot alone", func(t *testing.T, dir string) {
			must(t, errors.Join(os.Remove(filepath.Join(dir, logFile)), os.Remove(filepath.Join(dir, idFile)), os.Remove(filepath.Join(dir, markFile))))
		}, "it is missing beside snapshots"},
		{"marks overwritten", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, markFile), make([]byte, 2*markSlot), 0o600))
		}, "neither of its two marks is whole"},
		{"unfinished snapshot", func(t *testing.T, dir string) {
			must(t, os.MkdirAll(filepath.Join(dir, snapshotsDir, "3-160-1.tmp"), 0o700))
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			must(t, os.CopyFS(dir, os.DirFS(used)))
			tc.damage(t, dir)
			s, err := openStorage(dir, "n", "", testLogger("n"))
			if tc.want != "" {
				checkLine(t, err, tc.want)
				return
			}
			must(t, err)
			defer s.Close()
			if left, _ := filepath.Glob(filepath.Join(dir, snapshotsDir, "*.tmp")); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

func TestALostTailIsNoticed(t *testing.T) {
	for what, write := range map[string]func(s *storage) error{
		"entries": func(s *storage) error { return s.log.StoreLog(entry(193, 4, 40)) },
		"a vote":  func(s *storage) error { return s.log.SetUint64([]byte("LastVoteTerm"), 5) },
		"a cut":   func(s *storage) error { return s.log.DeleteRange(192, 192) },
	} {
		t.Run(what, func(t *testing.T) {
			dir, _ := usedDir(t)
			s, err := openStorage(dir, "n", "", testLogger("n"))
			must(t, err)
			before, err := os.ReadFile(s.log.path)
			must(t, err)
			must(t, write(s))
			if txid, err := boltTransaction(s.log.path); err != nil || txid != s.log.mark.txid {
				t.Errorf("the mark says transaction %d, bolt %d, error %v", s.log.mark.txid, txid, err)
			}
			// Killed: nothing is closed in order.
			must(t, killed(s))
			must(t, os.WriteFile(s.log.path, before, 0o600))
			_, err = openStorage(dir, "n", "", testLogger("n"))
			checkLine(t, err, "its newest writes are gone")
		})
	}
}

func TestFoundingThatWasNeverFinishedGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := openStorage(dir, "n", "", testLogger("n"))
	must(t, err)
	id := s.id
	must(t, s.Close())
	must(t, os.Remove(filepath.Join(dir, idFile))) // as if power had failed before it was written
	s, err = openStorage(dir, "n", "", testLogger("n"))
	must(t, err)
	defer s.Close()
	if s.id != id {
		t.Errorf("id %s, was %s", s.id, id)
	}
}

func TestNodeOnDamagedDiskDoesNotStart(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	n := start(t, cfg)
	leaderOf(t, n)
	propose(t, n)
	id := n.ID()
	stop(t, n)
	changeLog(t, cfg.DataDir, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("logs"))
		k, v := b.Cursor().Last()
		v = bytes.Clone(v)
		v[len(v)/2] ^= 4
		return b.Put(k, v)
	})
	_, err := Start(cfg)
	checkLine(t, err, "rebuild this node: move "+cfg.DataDir+" away")
	if err != nil && !strings.Contains(err.Error(), "remove "+id) {
		t.Errorf("%v does not name %s", err, id)
	}
}

// breakLog makes the next write of a node fail.
func breakLog(t *testing.T, n *Node) {
	t.Helper()
	must(t, n.gate.LogStore.(*checkedLog).bolt.Close())
}

func TestNodeThatCannotWriteItsLogStopsAndServiceGoesOn(t *testing.T) {
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprintf("leader=%v", leads), func(t *testing.T) {
			gaveUp := make(chan string, 9)
			nodes := startThreeWith(t, func(c *Config) { c.Fatal = func(reason string) { gaveUp <- reason } })
			leader := leaderOf(t, nodes...)
			victim := leader
			if !leads {
				victim = others(nodes, leader)[0]
			}
			breakLog(t, victim)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, _ = leader.Propose(ctx, tick)
			select {
			case reason := <-gaveUp:
				checkLine(t, errors.New(reason), "cannot be written")
				if took := time.Since(began); took > DefaultWatchdog {
					t.Errorf("gave up after %v only", took)
				}
			case <-time.After(DefaultWatchdog):
				t.Fatal("nobody gave up")
			}
			next := leaderOf(t, others(nodes, victim)...)
			propose(t, next)
			// A task of its own may have asked raft something just then: it must stop all the same.
			victim.tasks.Go(func() { victim.raft.BootstrapCluster(raft.Configuration{}) })
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				crash(t, victim)
			}()
			select {
			case <-stopped:
			case <-time.After(20 * time.Second):
				t.Fatal("it does not stop")
			}
			cfg := victim.cfg
			cfg.RaftAddr, cfg.GossipAddr, cfg.Join = victim.raftAddress, gossipAddr(victim), []string{gossipAddr(next)}
			again := start(t, cfg)
			a := propose(t, leaderOf(t, others(nodes, victim)...))
			eventually(t, "it works again after a restart", func() bool { return again.FSM().Status().AppliedIndex >= a.Index })
			if len(gaveUp) > 0 {
				t.Errorf("also gave up: %s", <-gaveUp)
			}
		})
	}
}

func TestNothingIsWrittenAfterAFailedWrite(t *testing.T) {
	s, err := openStorage(filepath.Join(t.TempDir(), "n"), "n", "", testLogger("n"))
	must(t, err)
	defer s.Close()
	said := make(chan string, 9)
	s.log.run(func(reason string) { said <- reason })
	must(t, s.log.StoreLog(entry(1, 1, 10)))
	must(t, s.log.bolt.Close())
	checkLine(t, s.log.StoreLog(entry(2, 1, 10)), "cannot be written")
	// Bolt may show after a failed sync what it has not written: no second try.
	s.log.bolt, err = openBolt(s.log.path, false)
	must(t, err)
	if err := s.log.StoreLog(entry(2, 1, 10)); err == nil {
		t.Error("written after a failed write")
	}
	if len(said) != 1 {
		t.Errorf("said %d times", len(said))
	}
}

func TestFailedVoteOrTermEndsRaftWithoutAPanic(t *testing.T) {
	s, err := openStorage(filepath.Join(t.TempDir(), "n"), "n", "", testLogger("n"))
	must(t, err)
	defer s.Close()
	must(t, s.log.bolt.Close())
	if err := s.log.SetUint64([]byte("CurrentTerm"), 5); err == nil {
		t.Error("a node that does not run yet was not told")
	}
	s.log.broken = nil
	said := make(chan string, 9)
	s.log.run(func(reason string) { said <- reason })
	returned, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.log.SetUint64([]byte("CurrentTerm"), 6)
		returned = true
	}()
	<-ended
	if returned || len(said) != 1 {
		t.Errorf("returned %v to raft, which would panic; said %d times", returned, len(said))
	}
}

func TestFullDiskIsNamed(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{errors.New("file resize error: no space left on device"), "free space, then start it again"},
		{errors.New("input/output error"), "check the disk, then start it again"},
	} {
		checkLine(t, writeFailed("/data/raft.db", tc.err), tc.want)
	}
}

func TestFailedSnapshotLeavesNothingBehind(t *testing.T) {
	s, err := openStorage(filepath.Join(t.TempDir(), "n"), "n", "", testLogger("n"))
	must(t, err)
	defer s.Close()
	_, trans := raft.NewInmemTransport("")
	sink, err := s.snapshots.Create(raft.SnapshotVersionMax, 5, 1, raft.Configuration{}, 1, trans)
	must(t, err)
	inner := sink.(*checkedSink).SnapshotSink.(*raft.FileSnapshotSink)
	_, err = inner.Write(bytes.Repeat([]byte("x"), 1<<20))
	must(t, err)
	must(t, inner.Cancel())
	must(t, sink.Cancel())
	if left, _ := os.ReadDir(s.snapshots.dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
