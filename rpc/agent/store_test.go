package agent

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func sampleRecord() record {
	return record{ID: strings.Repeat("a", 32), Kind: byProcess, UID: 1000, Principal: lease.Principal{User: "ann", Host: "ws1"},
		Process: process{PID: 7, Start: "boot/1"}, Session: savedSession{ID: strings.Repeat("b", 32), Secret: "s3cret", Incarnation: 3},
		Leases: []lostView{{ID: 1 << 40, FencingToken: 9, Feature: "cad", Count: 1}}}
}

func TestARecordIsPrivateAndSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	st, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := sampleRecord()
	if err := st.save(want); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(st.path(want.ID))
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("the record has mode %v (%v), want 0600", info.Mode(), err)
	}
	if _, err := openStore(dir); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("a second agent gets the folder: %v", err)
	}
	st.close()
	if st, err = openStore(dir); err != nil {
		t.Fatal(err)
	}
	defer st.close()
	got, damaged, err := st.load()
	if err != nil || len(damaged) > 0 || len(got) != 1 {
		t.Fatalf("%v %v %v", got, damaged, err)
	}
	want.Version = recordVersion
	if g := got[0]; g.Session != want.Session || g.Process != want.Process || g.Principal != want.Principal || g.Leases[0] != want.Leases[0] || g.UID != want.UID {
		t.Errorf("read %+v, want %+v", g, want)
	}
}

// Whatever is in the folder, an agent starts, and throws nothing away.
func TestADamagedRecordIsSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	st, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	if err := st.save(sampleRecord()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(st.path(sampleRecord().ID))
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string]string{
		"cut":     string(good[:len(good)/2]),
		"empty":   "",
		"newer":   strings.Replace(string(good), `"version":1`, `"version":2`, 1),
		"kind":    strings.Replace(string(good), `"kind":"process"`, `"kind":"what"`, 1),
		"another": string(good),
		"session": strings.Replace(string(good), `"secret":"s3cret"`, `"secret":""`, 1),
	}
	for name, text := range bad {
		if err := os.WriteFile(st.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "x.1.tmp"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, damaged, err := st.load()
	if err != nil || len(got) != 1 || len(damaged) != len(bad) {
		t.Errorf("%d records, damaged %v, %v: want one and %d", len(got), damaged, err, len(bad))
	}
	for name := range bad {
		if _, err := os.Stat(st.path(name) + ".damaged"); err != nil {
			t.Errorf("%s is gone: %v", name, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}
