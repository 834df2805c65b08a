package cluster

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

func TestDataDirectoryTrouble(t *testing.T) {
	root := t.TempDir()
	write := func(t *testing.T, path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		dir     string
		want    string
	}{
		{"parent missing", nil, "no/such/dir", "parent directory does not exist"},
		{"a file", func(t *testing.T, dir string) { write(t, dir, "") }, "file", "is not a directory"},
		{"below a file", func(t *testing.T, dir string) { write(t, filepath.Dir(dir), "") }, "plain/data", "cannot be created"},
		{"garbage for an id", func(t *testing.T, dir string) { write(t, filepath.Join(dir, idFile), "hello") }, "garbage", "8 hexadecimal digits"},
		{"log without an id", func(t *testing.T, dir string) { write(t, filepath.Join(dir, logFile), "x") }, "noid", "is missing beside"},
		{"log is no database", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, idFile), "0123abcd\n")
			write(t, filepath.Join(dir, logFile), strings.Repeat("garbage ", 4096))
		}, "nodb", "neither of its two meta pages is whole"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := filepath.Join(root, tc.dir)
			if tc.prepare != nil {
				tc.prepare(t, dir)
			}
			s, err := openStorage(dir, "n", "", testLogger("n"))
			if err == nil {
				s.Close()
			}
			checkLine(t, err, tc.want)
		})
	}
}

// checkLine wants one line that names the trouble.
func checkLine(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("no error, want %q", want)
	case !strings.Contains(err.Error(), want), strings.Contains(err.Error(), "\n"):
		t.Errorf("error %q, want one line with %q", err, want)
	}
}

func TestUnreadableDataDirectory(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root reads everything")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0); err != nil {
		t.Fatal(err)
	}
	_, err := openStorage(dir, "n", "", testLogger("n"))
	checkLine(t, err, "cannot be used: permission denied")
}

func TestDataDirectoryIsPrivateAndNamedOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, err := openStorage(dir, "a-b", "", testLogger("n"))
	if err != nil {
		t.Fatal(err)
	}
	if name, inc, ok := cutIncarnation(s.id); !ok || name != "a-b" || len(inc) != 8 {
		t.Errorf("server id %q", s.id)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if _, err := openStorage(dir, "a-b", "", testLogger("n")); err == nil {
		t.Error("opened twice")
	} else {
		checkLine(t, err, "is in use by another seatkeeper process")
	}
	id := s.id
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openStorage(dir, "a-b", "", testLogger("n")); err != nil || s.id != id {
		t.Fatalf("opened again: %v", err)
	}
	s.Close()
}

func TestPortInUseIsSaidInOneLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for what, set := range map[string]func(c *Config){
		"raft address":   func(c *Config) { c.RaftAddr = l.Addr().String() },
		"gossip address": func(c *Config) { c.GossipAddr = l.Addr().String() },
	} {
		cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
		set(&cfg)
		_, err := Start(cfg)
		checkLine(t, err, what+" "+l.Addr().String()+" is in use by another process")
		// Nothing is left open: the same directory starts on other ports.
		stop(t, start(t, testConfig(t, "n", cfg.DataDir, 1)))
	}
}

func TestLogThatBeginsAfterTheSnapshotIsRefused(t *testing.T) {
	logs, snaps := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
	for i := uint64(5); i < 8; i++ {
		if err := logs.StoreLog(&raft.Log{Index: i}); err != nil {
			t.Fatal(err)
		}
	}
	checkLine(t, checkLog(logs, snaps), "entries are missing")
	_, trans := raft.NewInmemTransport("")
	sink, err := snaps.Create(raft.SnapshotVersionMax, 4, 1, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	sink.Close()
	if err := checkLog(logs, snaps); err != nil {
		t.Errorf("snapshot up to 4, log from 5: %v", err)
	}
}
