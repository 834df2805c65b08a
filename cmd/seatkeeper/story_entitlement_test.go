//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// pool is one pool as the leader shows it.
func (s *story) pool(t *testing.T, feature string) *pb.PoolStatus {
	t.Helper()
	for _, p := range s.status(t).Pools {
		if p.Feature == feature {
			return p
		}
	}
	t.Fatalf("no pool of %s", feature)
	return nil
}

// sign writes the document's lines as a licence of the sample vendor, and gives its file.
func (s *story) sign(t *testing.T, id, features string) string {
	t.Helper()
	document := filepath.Join(t.TempDir(), id+".txt")
	head := "seatkeeper-license/1\nlicense: " + id + "\nvendor: " + s.vendor.Name + "\ntenant: default\ncluster: any\nissued: 2026-01-01\n\n"
	if err := os.WriteFile(document, []byte(head+features), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.signed(t, document)
}

func (s *story) signed(t *testing.T, document string) string {
	t.Helper()
	file := document + ".lic"
	if code, _, stderr := s.cli(t, "license", "sign", document, "--key", s.vendor.SignerFile, "--out", file); code != 0 {
		t.Fatalf("sign: %s", stderr)
	}
	return file
}

func (s *story) apply(t *testing.T, args ...string) {
	t.Helper()
	if code, _, stderr := s.cli(t, append([]string{"license", "apply"}, args...)...); code != 0 {
		t.Fatalf("apply %v: %s", args, stderr)
	}
}

const tokenFeatures = `feature: units
version: 1
count: 20
expiry: never
serial: t-1
profile: wan

feature: cam
version: 1
count: uncounted
tokens: 5 of units
expiry: never
serial: t-2
profile: wan
share: none

suite: studio
version: 3
count: 1
component: paint
component: render::4
expiry: never
serial: t-3
profile: wan
share: none
`

// A suite's seat and tokens are charged before and after the leader dies, and a smaller
// licence takes nothing away: what is in use beyond it is shown until it comes back.
func TestTokensAndSuitesSurviveALeaderKillAndASmallerLicence(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, seats("cad", 1, storyProfile))
	s.apply(t, s.sign(t, "tokens-1", tokenFeatures))
	_, ann := s.sdk(t, "ann", nil, client.SessionConfig{})
	_, bob := s.sdk(t, "bob", nil, client.SessionConfig{})
	cam := take(t, ann, "cam", 3)
	take(t, ann, "paint", 1)
	if n := s.inUse(t, "units"); n != 15 {
		t.Errorf("%d units in use, want 15", n)
	}
	old := s.leader(t)
	old.kill()
	take(t, ann, "render", 4)
	for feature, want := range map[string]int32{"units": 15, "cam": 3, "studio": 1, "paint": 1, "render": 4} {
		if n := s.inUse(t, feature); n != want {
			t.Errorf("after the kill: %d of %s in use, want %d", n, feature, want)
		}
	}
	for _, feature := range []string{"render", "paint"} {
		if _, err := bob.Checkout(t.Context(), client.Item{Feature: feature, Count: 1}); client.ReasonOf(err) != lease.NoSeats || !strings.Contains(err.Error(), "studio") {
			t.Errorf("bob's %s: %v", feature, err)
		}
	}
	if _, err := bob.Checkout(t.Context(), client.Item{Feature: "cam", Count: 2}); client.ReasonOf(err) != lease.NoSeats {
		t.Errorf("bob has cam without tokens: %v", err)
	}
	s.apply(t, "--replace", s.sign(t, "tokens-1", strings.Replace(tokenFeatures, "count: 20", "count: 8", 1)))
	if p := s.pool(t, "units"); p.OverUse != 7 || p.Total != 8 || p.Drawn != 15 {
		t.Errorf("units after the smaller licence: %v", p)
	}
	code, table, _ := s.cli(t, "status")
	if code != 0 || !strings.Contains(table, "7 over") || !strings.Contains(table, "5 of units a seat") {
		t.Errorf("status (%d):\n%s", code, table)
	}
	if err := cam.CheckIn(t.Context()); err != nil {
		t.Fatal(err)
	}
	take(t, bob, "cam", 1)
	if p := s.pool(t, "units"); p.OverUse != 0 || p.InUse != 5 {
		t.Errorf("units after the return: %v", p)
	}
	if err := old.start(); err != nil {
		t.Fatal(err)
	}
	s.allAgree(t)
}

const flexFile = `SERVER lic1 ANY 27000
VENDOR sample
Feature drill sample 2026.0 31-dec-2097 4 BORROW=48 SIGN="00"
INCREMENT drill sample 2026.0 31-dec-2097 2 BORROW=48 SIGN="01"
PACKAGE shop sample 1.0 COMPONENTS="lathe \
	press:1.0:2" OPTIONS=SUITE SIGN="02"
INCREMENT shop sample 1.0 permanent 1 SIGN="03"
WHATEVER this is
`

// A FlexNet file is imported, signed with an own key, applied and used, by the commands
// that the help names.
func TestAFlexNetFileIsImportedSignedAndUsed(t *testing.T) {
	inFull(t)
	t.Parallel()
	s := startStory(t, seats("cad", 1, storyProfile))
	folder := t.TempDir()
	file, document := filepath.Join(folder, "license.dat"), filepath.Join(folder, "site.txt")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(flexFile, "sample", s.vendor.Name)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, account := s.cli(t, "license", "import", file, "--id", "site-1", "--out", document)
	if code != 0 || !strings.Contains(account, "license.dat:8:1: WHATEVER this: unknown") || !strings.Contains(account, "7 lines: 4 imported, 2 not needed, 0 replaced by others, 0 rejected, 1 unknown") {
		t.Errorf("account (%d):\n%s", code, account)
	}
	if code, _, _ := s.cli(t, "license", "import", file, "--id", "site-1", "--strict", "--out", document+"2"); code != 1 {
		t.Errorf("--strict ends with %d", code)
	}
	s.apply(t, s.signed(t, document))
	if p := s.pool(t, "drill"); p.Total != 6 || p.BorrowHours != 48 {
		t.Errorf("drill: %v", p)
	}
	code, list, _ := s.cli(t, "license", "list", "-o", "json")
	var answer struct {
		Licenses []struct {
			ID       string `json:"id"`
			Features []struct {
				Feature     string `json:"feature"`
				BorrowHours int    `json:"borrow_hours"`
				Package     *struct {
					Suite      bool             `json:"suite"`
					Components []map[string]any `json:"components"`
				} `json:"package"`
			} `json:"features"`
		} `json:"licenses"`
	}
	if err := json.Unmarshal([]byte(list), &answer); err != nil || code != 0 {
		t.Fatalf("list (%d): %v", code, err)
	}
	found := map[string]bool{}
	for _, l := range answer.Licenses {
		for _, f := range l.Features {
			if f.Feature == "shop" && f.Package != nil && f.Package.Suite && len(f.Package.Components) == 2 || f.Feature == "drill" && f.BorrowHours == 48 {
				found[f.Feature] = true
			}
		}
	}
	if !found["shop"] || !found["drill"] {
		t.Errorf("list: %s", list)
	}
	_, ann := s.sdk(t, "ann", nil, client.SessionConfig{})
	take(t, ann, "lathe", 1)
	take(t, ann, "press", 2)
	take(t, ann, "drill", 6)
	if n := s.inUse(t, "shop"); n != 1 {
		t.Errorf("%d of shop in use", n)
	}
}

// A licence with 100,000 features is refused in one line that names the limit.
func TestALicenceOfFarTooManyFeaturesIsRefusedInOneLine(t *testing.T) {
	var b strings.Builder
	b.WriteString("seatkeeper-license/1\nlicense: big\nvendor: v\ntenant: default\ncluster: any\nissued: 2026-01-01\n")
	for range 100_000 {
		b.WriteString("\nfeature: f\nversion: 1\ncount: 1\nexpiry: never\nserial: s\n")
	}
	file := filepath.Join(t.TempDir(), "big.txt")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"sign", file, "--key", "x"}, {"inspect", file}, {"apply", file}, {"verify", file}} {
		if args[0] == "sign" {
			args[3] = signerFile(t)
		}
		began := time.Now()
		code, _, stderr := run(t, map[string]string{"SEATKEEPER_ADDR": "127.0.0.1:1"}, append([]string{"license"}, args...)...)
		if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "2000 features") || time.Since(began) > 10*time.Second {
			t.Errorf("%s (%d): %s", args[0], code, stderr)
		}
	}
}

func signerFile(t *testing.T) string {
	t.Helper()
	key, _, err := license.GenerateKey("v")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "v.signer.key")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
