//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// times of day, handles and borrowed terms differ from run to run.
var (
	lmClock   = regexp.MustCompile(`(start|status on) [A-Z][a-z]{2} \d{1,2}/\d{1,2}(/\d{4})? \d{1,2}:\d\d`)
	lmHandles = regexp.MustCompile(`(node-\d)/\d+ (\d+)\)`)
	lmPorts   = regexp.MustCompile(`\d{5}@`)
	lmAt      = regexp.MustCompile(`\(node-\d/`)
	lmLinger  = regexp.MustCompile(`linger: (\d+) / (\d+)`)
)

// anonymous takes out of lmstat's text what differs from run to run.
func anonymous(text string) string {
	text = lmClock.ReplaceAllString(text, "$1 DATE")
	text = lmHandles.ReplaceAllString(text, "node-N/7800 $2)")
	text = lmAt.ReplaceAllString(text, "(node-N/")
	text = regexp.MustCompile(`\(node-N/\d+\)`).ReplaceAllString(text, "(node-N/7800)")
	text = lmPorts.ReplaceAllString(text, "7800@")
	return lmLinger.ReplaceAllString(text, "linger: LEFT / TOTAL")
}

// A real cluster with something of everything, one node down: lmstat's text is golden, its
// sums agree, and lmremove and lmborrow do what they say.
func TestLmstatOfARichCluster(t *testing.T) {
	inFull(t)
	t.Parallel()
	p := lease.DefaultProfile
	old, cad := unshared("cad", 2, p), unshared("cad", 6, p)
	old.version, cad.version = "2025.0", "2026.0"
	van := unshared("van", 2, p)
	van.borrow = "24h"
	s := startStory(t, old, cad, seats("shared", 3, p), unshared("sticky", 2, p), van)
	installRich(t, s)
	options := filepath.Join(t.TempDir(), "acme.opt")
	text := "GROUP designers zoe kim\nRESERVE 2 cad GROUP designers\nRESERVE 1 cad USER max\nLINGER sticky 3600\n"
	if err := os.WriteFile(options, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := s.cli(t, "policy", "apply", "--from-options", options); code != exitOK {
		t.Fatalf("policy apply: %d %s%s", code, out, stderr)
	}
	take := func(feature, version, user, host, display string, count int32) *pb.CheckoutResponse {
		t.Helper()
		answer, err := s.conn.seats.Checkout(t.Context(), &pb.CheckoutRequest{Feature: feature, Version: version, User: user, Host: host, Display: display, Count: &count})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	take("cad", "2025.0", "old timer", "ws_09", "", 1)
	take("cad", "2026.0", "ann", "ws-01", "/dev/pts/0", 1)
	take("cad", "2025.0", "zoe", "ws-02", ":0", 1) // fills half of the designers' seats
	take("shared", "", "bob", "ws-03", ":0", 1)
	take("shared", "", "bob", "ws-03", ":1", 2)
	gone := take("sticky", "", "kim", "ws-04", ":0", 1)
	if _, err := s.conn.seats.Checkin(t.Context(), &pb.CheckinRequest{SessionId: gone.Session.Id, SessionSecret: gone.Session.Secret}); err != nil {
		t.Fatal(err)
	}
	borrowed := map[string]string{"SEATKEEPER_ADDR": s.address(), "SEATKEEPER_BORROW_FOLDER": t.TempDir()}
	if code, out, stderr := run(t, borrowed, "borrow", "van", "--for", "8h", "--user", "tom", "--host", "laptop"); code != exitOK {
		t.Fatalf("borrow: %d %s%s", code, out, stderr)
	}
	take("viewer", "", "guest", "ws-05", ":0", 1)
	queued := make(chan error, 1)
	waiting, giveUp := context.WithCancel(t.Context())
	defer func() { giveUp(); <-queued }()
	two := int32(2)
	go func() {
		_, err := s.conn.seats.Checkout(waiting, &pb.CheckoutRequest{Feature: "shared", User: "eve", Host: "ws-06", Display: ":5", Count: &two, WaitMs: 60_000})
		queued <- err
	}()
	eventually(t, "eve in the queue", func() error {
		list, err := s.conn.client.Queue().QueueList(t.Context(), &pb.QueueListRequest{})
		if err == nil && len(list.Places) != 1 {
			err = fmt.Errorf("%d places", len(list.Places))
		}
		return err
	})
	down := s.nodes[0]
	if down == s.leader(t) {
		down = s.nodes[1]
	}
	down.kill()

	var out string
	eventually(t, "lmstat with a node down", func() error {
		var code int
		var stderr string
		if code, out, stderr = s.cli(t, "lmutil", "lmstat", "-a", "-c", flexList(s)); code != exitOK {
			return fmt.Errorf("%d %s%s", code, out, stderr)
		}
		if !strings.Contains(out, down.Name+": Cannot connect to license server system.") {
			return fmt.Errorf("%s is not down in\n%s", down.Name, out)
		}
		return nil
	})
	if _, err := consume(out); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	golden(t, "lmstat-cluster.golden", featuresOf(anonymous(out)))

	if code, out, _ := run(t, borrowed, "lmutil", "lmborrow", "-status"); code != exitOK || !strings.Contains(out, "van") {
		t.Errorf("lmborrow -status: %d %s", code, out)
	}
	if code, out, _ := run(t, borrowed, "lmutil", "lmborrow", "-return", "-c", flexList(s), "van"); code != exitOK || !strings.Contains(out, "returned 1 license") {
		t.Errorf("lmborrow -return: %d %s", code, out)
	}
	if code, out, _ := run(t, borrowed, "lmutil", "lmborrow", "-return", "van"); code != exitError1 {
		t.Errorf("lmborrow -return of what was returned: %d %s", code, out)
	}
	if n := s.inUse(t, "van"); n != 0 {
		t.Errorf("%d seats of van in use after the return", n)
	}
	for flag, want := range map[string]int{"-f": 256 - 18, "-i": 256 - 18, "-S": 256 - 97} { // what there is not is said
		if code, out, _ := s.cli(t, "lmutil", "lmstat", flag, "nosuch", "-c", flexList(s)); code != want || !strings.Contains(out, "lmstat: nosuch: ") {
			t.Errorf("lmstat %s of what there is not: %d %s", flag, code, out)
		}
	}
	if code, out, _ := s.cli(t, "lmutil", "lmremove", "cad", "old_timer", "ws-09", "-"); code != exitOK || !strings.Contains(out, "removed old_timer@ws-09") {
		t.Errorf("lmremove by the names shown: %d %s", code, out)
	}
	var ann *pb.LeaseEntry
	for _, l := range s.leases(t, "cad") {
		if l.User == "ann" {
			ann = l
		}
	}
	if code, out, _ := s.cli(t, "lmutil", "lmremove", "-c", flexList(s), "-h", "cad", "node-1", "7800", fmt.Sprint(ann.GetHandle())); code != exitOK {
		t.Errorf("lmremove by handle: %d %s", code, out)
	}
	if left := s.leases(t, "cad"); len(left) != 1 || left[0].User != "zoe" {
		t.Errorf("cad after two removals: %v", left)
	}
}

// installRich adds a feature without a count and one that has expired.
func installRich(t *testing.T, s *story) {
	t.Helper()
	key, err := os.ReadFile(s.vendor.SignerFile)
	if err != nil {
		t.Fatal(err)
	}
	doc := fmt.Sprintf(`seatkeeper-license/1
license: rich-1
vendor: %s
tenant: default
cluster: any
issued: 2020-01-01

feature: viewer
version: 3.1
count: uncounted
expiry: never
serial: rich-1-1
profile: default

feature: relic
version: 1.0
count: 4
expiry: 2024-01-01
serial: rich-1-2
profile: default
`, s.vendor.Name)
	signed, err := license.Sign([]byte(doc), string(key))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.conn.cluster.LicenseApply(t.Context(), &pb.LicenseApplyRequest{File: signed}); err != nil {
		t.Fatal(err)
	}
}

// featuresOf is the text from the features on: which node leads differs from run to run.
func featuresOf(text string) string {
	_, features, _ := strings.Cut(text, "Feature usage info:\n")
	return features
}
