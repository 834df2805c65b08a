//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// A policy takes idle seats back, but none before the vendor's floor; what was used shows
// by the groups of the policy.
func TestAnIdleSeatIsTakenBackEndToEnd(t *testing.T) {
	inFull(t)
	t.Parallel()
	quick, slow := unshared("quick", 2, patientProfile), unshared("slow", 2, patientProfile)
	quick.profile += "\nidle-floor: 2s"
	s := startStory(t, quick, slow) // slow has the floor of those whose licence names none
	policy := write(t, "policy.yaml", "groups:\n  - {name: designers, members: [ann]}\nidle_timeout:\n  - {time: 1s}\n")
	if code, _, stderr := s.cli(t, "policy", "apply", policy); code != exitOK {
		t.Fatalf("apply: %d %s", code, stderr)
	}
	state := filepath.Join(t.TempDir(), "job.seat")
	if code, _, stderr := s.cli(t, "checkout", "quick", "slow", "--user", "ann", "--state", state); code != exitOK {
		t.Fatalf("checkout: %d %s", code, stderr)
	}
	if code, _, stderr := s.cli(t, "renew", "--state", state, "--idle", "1500ms"); code != exitOK {
		t.Errorf("below the vendor's floor: %d %s", code, stderr)
	}
	code, stdout, stderr := s.cli(t, "renew", "--state", state, "--idle", "14m")
	if code != exitError1 || !strings.Contains(stdout, "of quick (timeout)") || strings.Contains(stdout, "of slow (") {
		t.Errorf("idle for 14 minutes: %d %s%s", code, stdout, stderr)
	}
	if code, stdout, _ := s.cli(t, "renew", "--state", state, "--idle", "15m"); code != exitError1 || !strings.Contains(stdout, "of slow (timeout)") {
		t.Errorf("idle for 15 minutes: %d %s", code, stdout)
	}
	// run tells the age of a file.
	stale := write(t, "journal", "")
	if err := os.Chtimes(stale, time.Now(), time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	p := start(t, []string{"SEATKEEPER_ADDR=" + s.address()}, "run", "quick", "--user", "zoe", "--idle-file", stale, "--on-lost=term", "--", "sleep", "60")
	if code, stderr := p.exitCode(), p.stderr.String(); code == exitOK || !strings.Contains(stderr, "lost the seat of quick") || !strings.Contains(stderr, "timeout, it was idle") {
		t.Errorf("run with a stale file: %d %s", code, stderr)
	}
	// A wait that ends without seats is one denial.
	if code, _, stderr := s.cli(t, "checkout", "slow", "-n", "2", "--user", "ann"); code != exitOK {
		t.Fatalf("checkout: %d %s", code, stderr)
	}
	p = start(t, []string{"SEATKEEPER_ADDR=" + s.address()}, "run", "slow", "--user", "late", "--wait", "1s", "--", "true")
	if code, stderr := p.exitCode(), p.stderr.String(); code != exitNoSeat || !strings.Contains(stderr, "waiting at position 1\n") {
		t.Errorf("run --wait: %d %s", code, stderr)
	}
	if code, stdout, _ := s.cli(t, "denials", "--user", "late", "-o", "csv"); code != exitOK || strings.Count(stdout, "late") != 1 {
		t.Errorf("denials: %d %s", code, stdout)
	}
	if code, stdout, stderr := s.cli(t, "usage", "--by", "group", "-o", "csv"); code != exitOK || !strings.Contains(stdout, "quick,designers,1,") || !strings.Contains(stdout, "quick,,1,") {
		t.Errorf("by group: %d %s%s", code, stdout, stderr)
	}
	if code, _, stderr := s.cli(t, "usage", "--by", "team"); code != exitUsage || !strings.Contains(stderr, "host_group") {
		t.Errorf("by something else: %d %s", code, stderr)
	}
}

// A held seat becomes a borrowed one without a moment in which somebody who waits could
// have it, by the SDK and by the command line.
func TestAHeldSeatIsBorrowedWithoutBeingFree(t *testing.T) {
	v := newTraveller(t, "van", 1)
	_, ann := v.sdk(t, "ann", nil, client.SessionConfig{})
	held, err := ann.Checkout(t.Context(), client.Item{Feature: "van", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	_, bob := v.sdk(t, "bob", nil, client.SessionConfig{})
	go func() {
		_, err := bob.CheckoutWait(t.Context(), time.Minute, client.Item{Feature: "van", Count: 1})
		served <- err
	}()
	eventually(t, "bob waits", func() error {
		if v.pool(t, "van").Queued != 1 {
			return errNotYet
		}
		return nil
	})
	seat, err := held[0].Borrow(t.Context(), time.Hour, v.folder)
	if err != nil {
		t.Fatal(err)
	}
	if held[0].Valid() || held[0].Reason() != "borrowed" || seat.Claims.LeaseID != held[0].ID() || seat.Claims.FencingToken != held[0].Token() {
		t.Errorf("the lease is valid: %v (%s); borrowed %+v of %d", held[0].Valid(), held[0].Reason(), seat.Claims, held[0].ID())
	}
	if err := seat.Verify(client.Here("")); err == nil {
		t.Error("ann's seat is good for somebody else")
	}
	if _, err := held[0].Borrow(t.Context(), time.Hour, v.folder); client.ReasonOf(err) != "fenced" {
		t.Errorf("borrowed twice: %v", err)
	}
	// Neither a heartbeat nor the end of the session gives it back.
	for range 2 {
		if err := ann.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := held[0].Close(); err != nil {
		t.Error(err)
	}
	if err := ann.Close(t.Context()); err != nil {
		t.Error(err)
	}
	var list struct {
		Leases []struct{ ID, User, State string }
	}
	v.does(t, &list, "leases")
	if len(list.Leases) != 1 || list.Leases[0].State != "borrowed" || list.Leases[0].User != "ann" || list.Leases[0].ID != held[0].ID().String() {
		t.Errorf("leases: %+v", list)
	}
	v.does(t, nil, "return", "van")
	if err := <-served; err != nil {
		t.Errorf("bob was not served after the return: %v", err)
	}
	_ = bob.Close(t.Context())

	state := filepath.Join(t.TempDir(), "job.seat")
	v.does(t, nil, "checkout", "van", "--state", state)
	var got seatShown
	v.does(t, &got, "borrow", "van", "--for", "1h", "--state", state)
	v.does(t, nil, "checkin", "--state", state)
	v.does(t, &list, "leases")
	if len(list.Leases) != 1 || list.Leases[0].State != "borrowed" || list.Leases[0].ID != got.Lease || got.State != "valid" {
		t.Errorf("leases: %+v, borrowed %+v", list, got)
	}
}
