//go:build linux

package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// traveller is a machine with a folder of borrowed seats.
type traveller struct {
	*story
	folder string
}

func newTraveller(t *testing.T, name string, count int) *traveller {
	f := unshared(name, count, patientProfile)
	f.borrow = "24h"
	return &traveller{startStory(t, f), t.TempDir()}
}

func (v *traveller) cli(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return run(t, map[string]string{"SEATKEEPER_ADDR": v.address(), "SEATKEEPER_BORROW_FOLDER": v.folder}, args...)
}

// does runs a command that must succeed and prints JSON.
func (v *traveller) does(t *testing.T, into any, args ...string) {
	t.Helper()
	code, stdout, stderr := v.cli(t, append(args, "-o", "json")...)
	if code != 0 {
		t.Fatalf("seatkeeper %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(stdout), into); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
	}
}

// refused runs a command that must fail with the code and say the words on stderr.
func (v *traveller) refused(t *testing.T, code int, words string, args ...string) {
	t.Helper()
	got, _, stderr := v.cli(t, args...)
	if got != code || !strings.Contains(stderr, words) {
		t.Errorf("seatkeeper %s: exit code %d, want %d with %q: %s", strings.Join(args, " "), got, code, words, stderr)
	}
}

// powerOff ends all servers at once.
func (v *traveller) powerOff() {
	for _, n := range v.nodes {
		n.signal(os.Kill)
	}
	for _, n := range v.nodes {
		<-n.exited
	}
}

// A borrowed seat outlives its session and the leader, and the key that signs goes on.
func TestBorrowSurvivesTheLeader(t *testing.T) {
	inFull(t)
	v := newTraveller(t, "van", 2)
	var got, renewed seatShown
	v.does(t, &got, "borrow", "van", "--for", "1h")
	v.does(t, nil, "borrow", "van", "--for", "1h", "--folder", t.TempDir())
	v.refused(t, exitNoSeat, "borrow_none_left", "borrow", "van", "--for", "1h")
	keysOf := func(n *devNode) string {
		r, err := http.Get("http://" + n.API + "/.well-known/jwks.json")
		if err != nil {
			return err.Error()
		}
		defer r.Body.Close()
		var keys offline.Keys
		if err := json.NewDecoder(r.Body).Decode(&keys); err != nil || len(keys.Keys) != 1 {
			return fmt.Sprint(keys, err)
		}
		return keys.Keys[0].Kid + " " + keys.Keys[0].X
	}
	v.allAgree(t)
	want := keysOf(v.nodes[0])
	for _, n := range v.nodes {
		if got := keysOf(n); got != want {
			t.Errorf("%s publishes %s, want %s", n.Name, got, want)
		}
	}

	old := v.leader(t)
	old.kill()
	v.waitInUse(t, "van", 2)
	if now := v.leader(t); now == old || keysOf(now) != want {
		t.Errorf("%s leads and publishes %s, want %s", now.Name, keysOf(now), want)
	}
	found := false
	for _, l := range v.leases(t, "van") {
		if fmt.Sprint(l.Id) == got.Lease {
			found = l.State == "borrowed" && l.GetUntil() != "" && fmt.Sprint(l.FencingToken) == got.Token
		}
	}
	if !found {
		t.Errorf("lease %s is not listed as borrowed: %v", got.Lease, v.leases(t, "van"))
	}
	v.does(t, nil, "borrow", "verify", "van")
	v.does(t, &renewed, "borrow", "renew", "van", "--for", "2h")
	if renewed.Until <= got.Until || renewed.Lease != got.Lease {
		t.Errorf("renewed until %s, was %s", renewed.Until, got.Until)
	}
	v.does(t, nil, "borrow", "rotate")
	v.does(t, nil, "borrow", "verify", "van", "--offline") // by the key before
	v.does(t, nil, "return", "van")
	v.waitInUse(t, "van", 1)
	v.refused(t, exitError1, "no seat of van is borrowed", "return", "van")

	// Revoked, the other seat stays in use; only the explicit override frees it.
	other := v.leases(t, "van")[0]
	v.does(t, nil, "borrow", "revoke", "--lease", fmt.Sprint(other.Id))
	if l := v.leases(t, "van"); len(l) != 1 || l[0].State != "quarantined" || v.inUse(t, "van") != 1 {
		t.Errorf("after the revocation: %v", l)
	}
	v.does(t, nil, "borrow", "revoke", "--lease", fmt.Sprint(other.Id), "--now")
	v.waitInUse(t, "van", 0)
	if a := v.status(t).Alarms; len(a) != 1 || !strings.Contains(a[0], "van") {
		t.Errorf("the overdraft is not told: %q", a)
	}
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	v.allAgree(t)
}

// The whole journey: borrow, no network, run on the token, its end, and home again.
func TestJourneyWithABorrowedSeat(t *testing.T) {
	inFull(t)
	v := newTraveller(t, "van", 1)
	const term = 12 * time.Second
	var got seatShown
	v.does(t, &got, "borrow", "van", "--for", term.String())
	if code, _, stderr := v.cli(t, "run", "van", "--", "true"); code != 0 || !strings.Contains(stderr, "no free seat: running on what was borrowed") {
		t.Errorf("online, with all seats borrowed by ourselves: %d %s", code, stderr)
	}

	v.powerOff()
	code, stdout, stderr := v.cli(t, "run", "van", "--", "sh", "-c", "echo $SEATKEEPER_LEASE_ID $SEATKEEPER_FENCING_TOKEN $SEATKEEPER_BORROWED_UNTIL")
	if code != 0 || strings.TrimSpace(stdout) != got.Lease+" "+got.Token+" "+got.Until || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "out of reach") {
		t.Errorf("offline: exit code %d, %q, %q", code, stdout, stderr)
	}
	v.does(t, nil, "borrow", "verify", "van", "--offline")
	v.refused(t, exitNotAllowed, "bound to", "borrow", "verify", "van", "--offline", "--host", "elsewhere")
	v.tampered(t)

	until, err := time.Parse(time.RFC3339, got.Until)
	if err != nil {
		t.Fatal(err)
	}
	elapse(t, time.Until(until))
	v.refused(t, exitNotAllowed, "was borrowed until", "borrow", "verify", "van", "--offline")
	v.refused(t, exitUnreachable, "was borrowed until", "run", "van", "--", "true")

	// Nobody paid for the outage: what was left of the term on the cluster's clock runs on,
	// and then the seat is free by itself.
	if err := v.start(); err != nil {
		t.Fatal(err)
	}
	v.waitInUse(t, "van", 0)
	v.does(t, nil, "return", "--all") // what is over is only forgotten

	v.does(t, nil, "borrow", "van", "--for", "1h")
	if n := v.inUse(t, "van"); n != 1 {
		t.Errorf("%d seats in use, want 1", n)
	}
	v.does(t, nil, "return", "van")
	if n := v.inUse(t, "van"); n != 0 {
		t.Errorf("%d seats in use after the return, want 0", n)
	}
	if left, _ := filepath.Glob(filepath.Join(v.folder, "*.seat.json")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	v.allAgree(t)
}

// tampered changes the token in its file in some ways; each is refused, and put right.
func (v *traveller) tampered(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(v.folder, "*.seat.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]any
	if err := json.Unmarshal(whole, &file); err != nil {
		t.Fatal(err)
	}
	token := file["token"].(string)
	part := strings.Split(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	claims, _ := offline.Peek(token)
	claims.Expires += 3600
	longer, _ := json.Marshal(claims)
	more := strings.Replace(string(body), `"count":1`, `"count":9`, 1)
	for name, forged := range map[string]string{"a longer term": string(longer), "more seats": more} {
		file["token"] = part[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(forged)) + "." + part[2]
		text, _ := json.Marshal(file)
		if err := os.WriteFile(files[0], text, 0o600); err != nil {
			t.Fatal(err)
		}
		if code, _, stderr := v.cli(t, "borrow", "verify", "van", "--offline"); code != exitNotAllowed || !strings.Contains(stderr, "tampered") {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
	v.refused(t, exitUnreachable, "tampered", "run", "van", "--", "true")
	if err := os.WriteFile(files[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

// An application with the SDK keeps a borrowed seat: it is renewed while the cluster can be
// reached, also after the leader is gone, and goes on without it.
func TestBorrowedSeatIsRenewedAcrossALeaderKill(t *testing.T) {
	inFull(t)
	v := newTraveller(t, "van", 1)
	c := v.conn.client
	cfg := client.BorrowConfig{Item: client.Item{Feature: "van"}, For: 8 * time.Second, Folder: v.folder, Principal: lease.Principal{User: "ann", Host: "laptop"}}
	seat, err := c.Borrow(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	holder := offline.Holder{User: "ann", Host: "laptop"}
	first := seat.Until()
	kept := make(chan error, 1)
	go func() { kept <- c.KeepBorrowed(t.Context(), seat) }()
	v.leader(t).kill()
	eventually(t, "a token with a later end", func() error {
		now, err := client.FindBorrowed(v.folder, cfg.Item, holder)
		switch {
		case err != nil:
			return err
		case !now.Until().After(first):
			return errors.New("it is the first one still")
		}
		return nil
	})
	select {
	case err := <-kept:
		t.Error("gave up:", err)
	default:
	}
}
