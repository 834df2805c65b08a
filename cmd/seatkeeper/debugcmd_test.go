package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
)

// chains end the lines of a file, and not those of a replay.
var chains = regexp.MustCompile(`,"chain":"[0-9a-f]{64}"}`)

// appliedDir is the data directory of a node that was stopped, and its audit log.
func appliedDir(t *testing.T) (dir, file string, while func(func())) {
	t.Helper()
	dir, file = filepath.Join(t.TempDir(), "n"), filepath.Join(t.TempDir(), "applied.jsonl")
	cfg := cluster.Config{Name: "n", DataDir: dir, AuditLog: file, RaftAddr: "127.0.0.1:0", GossipAddr: "127.0.0.1:0",
		APIAddress: "n:7800", BootstrapExpect: 1}
	while = func(do func()) {
		t.Helper()
		n, err := cluster.Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); !n.Leading() && time.Now().Before(deadline); {
			<-time.After(5 * time.Millisecond)
		}
		do()
		if err := n.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	while(func() {})
	return dir, file, while
}

func TestDebugLogPrintsWhatANodeApplied(t *testing.T) {
	dir, file, while := appliedDir(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	code, fromFile, stderr := run(t, nil, "debug", "log", "--file", file)
	if code != 0 || fromFile != string(text) {
		t.Errorf("exit code %d, %s, the file is\n%s\nshown\n%s", code, stderr, text, fromFile)
	}
	code, fromDir, stderr := run(t, nil, "debug", "log", "--data-dir", dir)
	if code != 0 || !strings.Contains(fromDir, `"lead":{"node":"n-`) || !strings.HasSuffix(chains.ReplaceAllString(fromFile, "}"), fromDir) {
		t.Errorf("exit code %d, %s, the file says\n%s\nreplayed\n%s", code, stderr, fromFile, fromDir)
	}
	if code, out, _ := run(t, nil, "debug", "log", "--file", file, "--from", "1000"); code != 0 || strings.Contains(out, `"index"`) {
		t.Errorf("exit code %d, entries from 1000 on: %s", code, out)
	}
	while(func() {
		code, out, stderr := run(t, nil, "debug", "log", "--data-dir", dir)
		if code != exitError1 || out != "" || !strings.Contains(stderr, "is in use by another seatkeeper process") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("a directory in use: exit code %d, %q, %q", code, out, stderr)
		}
	})
}

func TestDebugLogSaysWhatIsWrong(t *testing.T) {
	junk := write(t, "junk", "hello\n")
	for want, args := range map[string][]string{
		"name one of --data-dir":         nil,
		"is no data directory":           {"--data-dir", t.TempDir()},
		"no such file":                   {"--file", "/does/not/exist"},
		"junk:1: this is no line":        {"--file", junk},
		"--from 5 is after --to 4":       {"--file", junk, "--from", "5", "--to", "4"},
		"name one of --data-dir (of a s": {"--file", junk, "--data-dir", "x"},
	} {
		code, out, stderr := run(t, nil, append([]string{"debug", "log"}, args...)...)
		if code == 0 || out != "" || !strings.Contains(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit code %d, %q, %q", args, code, out, stderr)
		}
	}
}
