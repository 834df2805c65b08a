//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// A backup is saved, work goes on, and the backup is restored under it: whoever held a
// seat then goes on, whoever took one since keeps it alone until it has run out for them,
// and afterwards all is served.
func TestBackupIsRestoredUnderClients(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, unshared("cad", 2, storyProfile))
	_, early := s.sdk(t, "early", nil, client.SessionConfig{})
	if _, err := early.Checkout(t.Context(), client.Item{Feature: "cad", Count: 1}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cluster.backup")
	save(t, s, file)

	_, late := s.sdk(t, "late", nil, client.SessionConfig{})
	taken, err := late.Checkout(t.Context(), client.Item{Feature: "cad", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	before := s.status(t)

	if code, _, stderr := s.cli(t, "snapshot", "restore", file); code != exitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("restore without a word of consent: %d, %s", code, stderr)
	}
	code, stdout, stderr := s.cli(t, "snapshot", "restore", "--yes", file)
	if code != exitOK || !strings.Contains(stdout, "1 sessions, 1 leases") {
		t.Fatalf("restore: %d, %s%s", code, stdout, stderr)
	}
	restored := time.Now()
	after := s.status(t)
	if after.ClusterTimeMs < before.ClusterTimeMs || after.Epoch <= before.Epoch {
		t.Errorf("cluster time %d after %d, epoch %d after %d", after.ClusterTimeMs, before.ClusterTimeMs, after.Epoch, before.Epoch)
	}
	if use := s.inUse(t, "cad"); use != 1 {
		t.Errorf("%d seats in use after the restore, want that of the backup", use)
	}

	// The seat of the late one is free now in the ledger, and nobody may get it.
	code, _, stderr = s.cli(t, "checkout", "cad", "--user", "third")
	if code != exitNoSeat || !strings.Contains(stderr, "restored from a backup") {
		t.Errorf("checkout within the fence: %d, %s", code, stderr)
	}
	_, third := s.sdk(t, "third", nil, client.SessionConfig{})
	var got []*client.Lease
	eventually(t, "the third is served", func() (err error) {
		got, err = third.Checkout(t.Context(), client.Item{Feature: "cad", Count: 1})
		return err
	})
	if waited := time.Since(restored); waited < storyLifespan+storyGrace {
		t.Errorf("a seat was given %v after the restore", waited)
	}
	if taken[0].Valid() {
		t.Error("the late one believes in a seat that somebody else has")
	}
	if got[0].Ref().Token <= taken[0].Ref().Token {
		t.Errorf("token %d after %d", got[0].Ref().Token, taken[0].Ref().Token)
	}
	if held := early.Leases(); len(held) != 1 || held[0].State() != lease.Active {
		t.Errorf("the early one holds %v", held)
	}
	s.waitInUse(t, "cad", 2)
	s.allAgree(t)
}

// save makes a backup and looks at all that shows of it.
func save(t *testing.T, s *story, file string) {
	t.Helper()
	code, stdout, stderr := s.cli(t, "snapshot", "save", file)
	if code != exitOK || !strings.Contains(stdout, "sha256 ") || strings.Count(stdout, "\n") != 1 {
		t.Fatalf("save: %d, %s%s", code, stdout, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	if code, _, stderr := s.cli(t, "snapshot", "save", file); code != exitError1 || !strings.Contains(stderr, "there already") {
		t.Errorf("save over a file: %d, %s", code, stderr)
	}
	if code, _, stderr := s.cli(t, "snapshot", "save", "--force", file); code != exitOK {
		t.Errorf("save --force: %d, %s", code, stderr)
	}
	code, stdout, stderr = s.cli(t, "snapshot", "inspect", "-o", "json", file)
	var seen snapshotInfo
	if err := json.Unmarshal([]byte(stdout), &seen); code != exitOK || err != nil {
		t.Fatalf("inspect: %d, %v, %s", code, err, stderr)
	}
	if seen.Leases != 1 || seen.Sessions != 1 || seen.SeatsInUse != 1 || seen.Licences != 1 || seen.ClusterID != s.status(t).ClusterId {
		t.Errorf("inspect shows %+v", seen)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damaged := file + "-damaged"
	if err := os.WriteFile(damaged, bytes.Replace(data, []byte("early"), []byte("eerly"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"inspect", damaged}, {"restore", "--yes", damaged}, {"inspect", "/etc/hostname"}} {
		if code, _, stderr := s.cli(t, append([]string{"snapshot"}, args...)...); code != exitError1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: %d, %s", args, code, stderr)
		}
	}
	web, err := http.Get("http://" + splitList(s.address())[0] + "/v1/snapshot") // follows the redirect
	if err != nil {
		t.Fatal(err)
	}
	defer web.Body.Close()
	if body, err := io.ReadAll(web.Body); err != nil || web.StatusCode != http.StatusOK || !bytes.HasPrefix(body, data[:8]) {
		t.Errorf("GET /v1/snapshot: %s, %d bytes, %v", web.Status, len(body), err)
	}
}
