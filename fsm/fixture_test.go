package fsm_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/fsm"
)

// What was once released stays in testdata for ever: testdata/vN has a log (log.hex: index,
// term and entry in a line), the snapshot after it and the state hash.
var update = flag.Bool("update", false, "write the fixtures of fixtureVersion; never writes over existing ones")

// fixtureVersion is the version that -update writes. Raise it when an entry or a snapshot
// gets a new form.
const fixtureVersion = "v1"

func TestWriteFixtures(t *testing.T) {
	if !*update {
		t.Skip("run with -update to write the fixtures of a new version")
	}
	dir := filepath.Join("testdata", fixtureVersion)
	if _, err := os.Stat(dir); err == nil {
		t.Fatalf("%s is released and must not change; raise fixtureVersion", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	logs := logOf(t, 2026, 120)
	f := fsm.New(fsm.Options{})
	for _, l := range logs {
		f.Apply(l)
	}
	st := f.Status()
	data, err := fsm.EncodeBatch(st.Epoch.Index, st.Now+1, launch, fsm.EveryCommand())
	if err != nil {
		t.Fatal(err)
	}
	last := &raft.Log{Index: uint64(len(logs) + 1), Term: st.Epoch.Term, Data: data}
	f.Apply(last)
	var text bytes.Buffer
	for _, l := range append(logs, last) {
		fmt.Fprintf(&text, "%d %d %x\n", l.Index, l.Term, l.Data)
	}
	hash := f.Status().StateHash
	for name, data := range map[string][]byte{
		"log.hex": text.Bytes(), "snapshot.hex": []byte(hex.EncodeToString(bytesOf(t, f)) + "\n"), "state-hash": []byte(hex.EncodeToString(hash[:]) + "\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// F2: every command and snapshot version ever released still decodes, to the same state.
func TestReleasedFormsStillDecode(t *testing.T) {
	dirs, err := filepath.Glob("testdata/v*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			want := strings.TrimSpace(readFixture(t, dir, "state-hash"))
			applied := fsm.New(fsm.Options{Fatal: func(err error) { t.Fatal(err) }})
			lines := bufio.NewScanner(strings.NewReader(readFixture(t, dir, "log.hex")))
			lines.Buffer(nil, 4*fsm.MaxEntryBytes)
			for lines.Scan() {
				l := &raft.Log{}
				if _, err := fmt.Sscanf(lines.Text(), "%d %d %x", &l.Index, &l.Term, &l.Data); err != nil {
					t.Fatal(err)
				}
				applied.Apply(l)
			}
			snap, err := hex.DecodeString(strings.TrimSpace(readFixture(t, dir, "snapshot.hex")))
			if err != nil {
				t.Fatal(err)
			}
			restored := restore(t, snap)
			for name, f := range map[string]*fsm.FSM{"log": applied, "snapshot": restored} {
				if hash := f.Status().StateHash; hex.EncodeToString(hash[:]) != want {
					t.Errorf("%s gives state %x, released was %s", name, hash, want)
				}
			}
			if !bytes.Equal(bytesOf(t, applied), bytesOf(t, restored)) {
				t.Error("log and snapshot give different states")
			}
			if filepath.Base(dir) == fixtureVersion && !bytes.Equal(bytesOf(t, applied), snap) {
				t.Error("the snapshot of this version has other bytes than the released one")
			}
			if sessions, leases := counts(restored); sessions == 0 || leases == 0 {
				t.Errorf("%d sessions and %d leases prove little", sessions, leases)
			}
		})
	}
}

func readFixture(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
