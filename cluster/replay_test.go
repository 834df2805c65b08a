package cluster

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// linesOf reads an applied log: entry lines by index, and the others in order.
func linesOf(t *testing.T, text []byte) (entries map[uint64]string, rest []string) {
	t.Helper()
	entries = map[uint64]string{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if object, _, chained := cutChain([]byte(line)); chained {
			line = string(object)
		}
		var e fsm.AuditEntry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		if e.Index == 0 {
			rest = append(rest, line)
			continue
		}
		if old, ok := entries[e.Index]; ok && old != line {
			t.Errorf("entry %d was applied in two ways:\n%s\n%s", e.Index, old, line)
		}
		entries[e.Index] = line
	}
	return entries, rest
}

func replay(t *testing.T, dir string, r Replay) (map[uint64]string, []string) {
	t.Helper()
	var out bytes.Buffer
	if err := ReplayLog(dir, r, &out); err != nil {
		t.Fatal(err)
	}
	return linesOf(t, out.Bytes())
}

func TestReplayOfAStoppedNodeIsWhatItApplied(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	cfg.AuditLog = filepath.Join(t.TempDir(), "audit.jsonl")
	n := start(t, cfg)
	leaderOf(t, n)
	for _, cmd := range []lease.Command{licenceOf(2), checkoutOf(1), checkoutOf(2), checkoutOf(3), lease.Renew{Session: checkoutOf(1).Session},
		lease.CheckIn{Session: lease.SessionRef{ID: lease.SessionID{1}, Digest: checkoutOf(1).Session.Digest, Incarnation: 1, Seq: 2}}} {
		if _, err := n.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	checkLine(t, ReplayLog(cfg.DataDir, Replay{}, &bytes.Buffer{}), "is in use by another seatkeeper process")
	stop(t, n)
	n = start(t, cfg) // applies it all again
	leaderOf(t, n)
	last := propose(t, n).Index
	stop(t, n)

	text, err := os.ReadFile(cfg.AuditLog)
	must(t, err)
	want, rest := linesOf(t, text)
	if len(rest) != 2 || !strings.Contains(rest[0], `"run"`) {
		t.Errorf("beside entries: %q", rest)
	}
	have, rest := replay(t, cfg.DataDir, Replay{})
	if len(rest) != 0 || have[last] == "" {
		t.Errorf("replay of a whole log: up to %d wanted, beside entries %q", last, rest)
	}
	for i, line := range have {
		if line != want[i] {
			t.Errorf("entry %d\napplied  %s\nreplayed %s", i, want[i], line)
		}
	}
	if len(have) != len(want) {
		t.Errorf("%d entries replayed, %d applied", len(have), len(want))
	}
	all := strings.Join(strings.Fields(string(text)), "")
	for _, part := range []string{`"kind":"checkout"`, `"reason":"no_seats"`, `"kind":"checkin"`, `"reason":"normal"`, `"lead":{`, `"token":"`, `"deadline_ns":"`} {
		if !strings.Contains(all, part) {
			t.Errorf("no %s in the applied log", part)
		}
	}
	if digest := hex.EncodeToString([]byte{0xd1, 0x9e, 1}); strings.Contains(all, digest) {
		t.Error("a digest is in the applied log")
	}
	if some, _ := replay(t, cfg.DataDir, Replay{From: last - 1, To: last - 1}); len(some) > 1 {
		t.Errorf("%d entries from %d to %d", len(some), last-1, last-1)
	}
}

func TestReplayOfACompactedLogBeginsWithTheState(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	n := start(t, cfg)
	leaderOf(t, n)
	for _, cmd := range []lease.Command{licenceOf(2), checkoutOf(1)} {
		if _, err := n.Propose(t.Context(), cmd); err != nil {
			t.Fatal(err)
		}
	}
	must(t, n.raft.Snapshot().Error())
	upTo := n.FSM().Status().AppliedIndex
	must(t, n.gate.LogStore.DeleteRange(1, upTo)) // as compaction does, later
	after := propose(t, n)
	hash := n.FSM().Status().StateHash
	stop(t, n)
	have, rest := replay(t, cfg.DataDir, Replay{})
	var line struct {
		Snapshot fsm.AuditSnapshot
		Hash     string
	}
	if len(rest) != 1 || json.Unmarshal([]byte(rest[0]), &line) != nil || line.Snapshot.Index != upTo || len(line.Snapshot.Leases) != 1 || len(line.Snapshot.Sessions) != 1 {
		t.Errorf("snapshot up to %d: %q", upTo, rest)
	}
	if have[after.Index] == "" || have[upTo] != "" {
		t.Errorf("entries %v", have)
	}
	if status := n.FSM().Status(); status.StateHash == hash && !strings.Contains(have[status.AppliedIndex], hex.EncodeToString(hash[:])) {
		t.Errorf("the last entry has another hash than %x: %s", hash, have[status.AppliedIndex])
	}
}

func TestReplayStopsWhereNothingShowsThatEntriesWereApplied(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	n := start(t, cfg)
	leaderOf(t, n)
	last := propose(t, n).Index
	stop(t, n)
	// An entry that reached the log and no state machine.
	s, err := openStorage(cfg.DataDir, "n", "", testLogger("n"))
	must(t, err)
	at, err := s.log.LastIndex()
	must(t, err)
	stray := entry(at+1, 9, 0)
	stray.Type = 0
	stray.Data, err = fsm.EncodeLead(fsm.Lead{Node: "n"}, 0)
	must(t, err)
	must(t, s.log.StoreLog(stray))
	must(t, s.Close())
	have, _ := replay(t, cfg.DataDir, Replay{})
	if have[last] == "" || have[at+1] != "" {
		t.Errorf("entry %d must be there, %d must not: %v", last, at+1, have)
	}
	have, _ = replay(t, cfg.DataDir, Replay{Tail: true})
	if !strings.Contains(have[at+1], `"uncertain":true`) || strings.Contains(have[last], "uncertain") {
		t.Errorf("with the tail: %v", have)
	}
}

func TestReplayRefusesDamageAndWhatIsNoDataDirectory(t *testing.T) {
	checkLine(t, ReplayLog(t.TempDir(), Replay{}, &bytes.Buffer{}), "is no data directory")
	dir, _ := usedDir(t)
	must(t, os.Truncate(filepath.Join(dir, logFile), 9000))
	checkLine(t, ReplayLog(dir, Replay{}, &bytes.Buffer{}), "is damaged")
}

func TestAuditLogLosesTheLineThatAKillTore(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for _, c := range []struct{ was, want string }{
		{"", ""}, {"one\n", "one\n"}, {"one\ntw", "one\n"}, {"on", ""}, {"one\n" + long, "one\n"}, {long, ""}, {long + "\n" + long, long + "\n"},
	} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		must(t, os.WriteFile(path, []byte(c.was), 0o600))
		a, err := openAppliedLog(path, "n", "v", testLogger("n"))
		must(t, err)
		a.Close()
		have, err := os.ReadFile(path)
		must(t, err)
		rest, ok := strings.CutPrefix(string(have), c.want)
		if !ok || !strings.HasPrefix(rest, `{"run":`) || strings.Count(rest, "\n") != 1 {
			t.Errorf("after %.10q (%d bytes): %.40q (%d bytes)", c.was, len(c.was), have, len(have))
		}
	}
}

func TestAuditLogThatCannotBeWrittenIsNoReasonToStop(t *testing.T) {
	cfg := testConfig(t, "n", filepath.Join(t.TempDir(), "n"), 1)
	cfg.AuditLog = "/dev/full"
	if _, err := os.Stat(cfg.AuditLog); err != nil {
		t.Skip("no /dev/full here")
	}
	n := start(t, cfg)
	leaderOf(t, n)
	propose(t, n)
	propose(t, n)
	cfg.AuditLog = filepath.Join(t.TempDir(), "no", "such", "dir")
	cfg.DataDir += "2"
	_, err := Start(cfg)
	checkLine(t, err, "audit log")
}

func TestAuditLogCountsWhatItLeavesOut(t *testing.T) {
	a := &appliedLog{pending: make([]byte, auditBuffer)} // nobody writes: its disk hangs
	a.wake.L = &a.mu
	a.append([]byte(`{"x":1}`))
	a.append([]byte(`{"x":2}`))
	a.pending = nil
	a.append([]byte(`{"x":3}`))
	if got, want := string(a.pending), "{\"dropped\":2}\n{\"x\":3}\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
