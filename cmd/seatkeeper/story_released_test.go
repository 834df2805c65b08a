//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	"github.com/seatkeeper/seatkeeper/lease/offline"
	"github.com/seatkeeper/seatkeeper/rpc/client"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// testdata/released has a set of what each release writes; its README says how one is added.
const (
	releasedDir = "testdata/released"
	// releasedSet is the set that -released writes.
	releasedSet = "v1"
)

var writeReleased = flag.Bool("released", false, "write the set of files of this release (see testdata/released); never over an existing one")

// releasedProfile is short, so that nothing has to be waited for, with a grace that outlasts
// the start of a server on a busy machine: cluster time stands still while none runs.
var releasedProfile = lease.Profile{Lifespan: 20 * time.Second, Grace: 10 * time.Minute}

var releasedFeatures = []sampleFeature{
	{name: "cad", version: "2026.0", count: 10, profile: profileOf(releasedProfile) + "\nshare: none", borrow: "168h"},
	{name: "mesh", version: "1.0", count: 2, profile: "default"},
}

const releasedPolicy = `groups:
  - {name: designers, members: [ann, "con-*"]}
reserve:
  - {feature: mesh, group: designers, seats: 1}
`

// releasedLogs are the kinds of log that a set has a data directory of.
func releasedLogs() []cluster.LogStore { return []cluster.LogStore{cluster.LogBolt, cluster.LogWAL} }

// startReleased starts one server on a folder that may hold what an earlier one left.
func startReleased(t *testing.T, dir string, store cluster.LogStore) *story {
	t.Helper()
	d, err := newDevCluster(programUnderTest(t), dir, 1, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(d.nodes[0].Config)
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte("log_store: bolt"), []byte("log_store: "+string(store)), 1)
	config = bytes.Replace(config, []byte("entries: 32768"), fmt.Appendf(nil, "entries: %d", minSnapshotEntries), 1)
	if err := os.WriteFile(d.nodes[0].Config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &story{devCluster: d, t: t}
	t.Cleanup(s.end)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if err := d.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.conn, err = dialCluster(Client{Addr: d.address()}, callTimeout); err != nil {
		t.Fatal(err)
	}
	return s
}

// A set of every release is read by today's build: a server goes on with its data
// directories, of either kind of log, and the programs with their state files.
func TestWhatEarlierReleasesWroteIsRead(t *testing.T) {
	inFull(t)
	sets, err := filepath.Glob(filepath.Join(releasedDir, "v*"))
	if err != nil || len(sets) == 0 {
		t.Fatalf("no sets in %s: %v", releasedDir, err)
	}
	for _, set := range sets {
		t.Run(filepath.Base(set)+"/files", func(t *testing.T) { readReleasedFiles(t, set) })
		for _, store := range releasedLogs() {
			t.Run(filepath.Base(set)+"/"+string(store), func(t *testing.T) { serveReleased(t, set, store) })
		}
	}
}

// serveReleased goes on with a data directory as if the server had been stopped a moment ago.
func serveReleased(t *testing.T, set string, store cluster.LogStore) {
	dir := t.TempDir()
	unpack(t, filepath.Join(set, string(store)+".tar.gz"), dir)
	s := startReleased(t, dir, store)
	st := s.status(t)
	if st.ClusterId == "" || st.Leases < 3 || st.Nodes[0].LogVersion < 1 {
		t.Errorf("it goes on as %v", st)
	}
	states := map[string]int{}
	for _, l := range s.leases(t, "cad") {
		states[l.State]++
	}
	if states["borrowed"] != 1 || states["active"]+states["expiring"] != 2 {
		t.Errorf("leases of cad: %v", states)
	}
	var policy, licences bytes.Buffer
	for _, x := range []struct {
		into *bytes.Buffer
		args []string
		want string
	}{
		{&policy, []string{"policy", "show", "-o", "json"}, `"designers"`},
		{&licences, []string{"license", "list", "-o", "json"}, `"2026.0"`},
		{&bytes.Buffer{}, []string{"token", "list", "-o", "json"}, `"tokens": []`},
		{&bytes.Buffer{}, []string{"usage", "-o", "json"}, `"mesh"`},
		{&bytes.Buffer{}, []string{"denials", "-o", "json"}, `"nothing"`},
	} {
		code, out, stderr := s.cli(t, x.args...)
		if code != exitOK || !strings.Contains(out, x.want) {
			t.Errorf("seatkeeper %v: %d, %s%s", x.args, code, out, stderr)
		}
	}

	// The programs of then go on with their seats.
	state := filepath.Join(dir, "sdk.json")
	c, err := client.New(client.Config{Addresses: []string{s.address()}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(t.Context()))
	session, err := c.OpenSession(t.Context(), client.SessionConfig{Principal: lease.Principal{User: "ann", Host: "ws-1"}, StateFile: state})
	if err != nil {
		t.Fatal(err)
	}
	if held := session.Leases(); len(held) != 1 {
		t.Errorf("the program of the state file holds %v", held)
	}
	if code, out, stderr := s.cli(t, "renew", "--state", filepath.Join(dir, "steps.json"), "-o", "json"); code != exitOK || strings.Count(out, `"fencing_token"`) != 1 {
		t.Errorf("renew by the state file of single steps: %d %s%s", code, out, stderr)
	}
	if code, _, stderr := s.cli(t, "return", "--all", "--folder", filepath.Join(dir, "borrowed")); code != exitOK {
		t.Errorf("the borrowed seat cannot be returned: %s", stderr)
	}
	s.checkout(t, "mesh", "con-eve", "ws-9")
	if code, _, stderr := s.cli(t, "snapshot", "restore", "--yes", filepath.Join(set, "backup.snap"), "--force-cluster-id"); code != exitOK {
		t.Errorf("the backup cannot be restored: %s", stderr)
	}
}

// readReleasedFiles reads what needs no server.
func readReleasedFiles(t *testing.T, set string) {
	code, out, stderr := run(t, nil, "config", "validate", "--config", filepath.Join(set, "seatkeeper.yaml"))
	if code != exitOK {
		t.Errorf("the config: %s%s", out, stderr)
	}
	backup, err := os.ReadFile(filepath.Join(set, "backup.snap"))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := fsm.ReadBackup(bytes.NewReader(backup)); err != nil || b.Header.Leases < 3 || b.Header.Licences != 1 {
		t.Errorf("the backup: %+v, %v", b, err)
	}

	dir := t.TempDir()
	unpack(t, filepath.Join(set, "bolt.tar.gz"), dir)
	file, key := readAll(t, filepath.Join(dir, "floating.lic")), strings.TrimSpace(string(readAll(t, filepath.Join(dir, "vendor.verifier.key"))))
	l, err := license.Verify(file, []string{key})
	if err != nil || len(l.Entitlements) != len(releasedFeatures) {
		t.Fatalf("the licence: %+v, %v", l, err)
	}
	again, err := license.Parse(license.Format(l))
	again.Text = l.Text
	if err != nil || !reflect.DeepEqual(again, l) {
		t.Errorf("written and read again it is %+v, %v, was %+v", again, err, l)
	}

	seats, err := filepath.Glob(filepath.Join(dir, "borrowed", "*.seat.json"))
	if err != nil || len(seats) != 1 {
		t.Fatal(seats, err)
	}
	var kept struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(readAll(t, seats[0]), &kept); err != nil {
		t.Fatal(err)
	}
	keys, err := offline.ParseKeys(readAll(t, filepath.Join(dir, "borrowed", "jwks.json")))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := offline.Read(kept.Token, keys)
	if err != nil || claims.Feature != "cad" || claims.For(offline.Holder{User: "ann", Host: "ws-1"}) != nil ||
		claims.At(time.Unix(claims.IssuedAt, 0)) != nil || claims.At(claims.Until()) == nil {
		t.Errorf("the borrowed token: %+v, %v", claims, err)
	}
	borrowed, err := client.BorrowedSeats(filepath.Join(dir, "borrowed"))
	if err != nil || len(borrowed) != 1 || borrowed[0].Claims.LeaseID != claims.LeaseID {
		t.Errorf("the folder of borrowed seats: %v, %v", borrowed, err)
	}
}

// TestWriteReleasedSet makes the set of this release.
func TestWriteReleasedSet(t *testing.T) {
	if !*writeReleased {
		t.Skip("run with -released to write the files of this release")
	}
	set := filepath.Join(releasedDir, releasedSet)
	if _, err := os.Stat(set); err == nil {
		t.Fatalf("%s is released and must not change; raise releasedSet", set)
	}
	if err := os.MkdirAll(set, 0o755); err != nil {
		t.Fatal(err)
	}
	code, config, stderr := run(t, nil, "config", "init", "-")
	if code != exitOK {
		t.Fatal(stderr)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(set, "seatkeeper.yaml"), []byte(config), 0o644))
	for _, store := range releasedLogs() {
		dir := t.TempDir()
		s := startReleased(t, dir, store)
		must(s.installLicence(t.Context(), releasedFeatures))
		s.does(t, "policy", "apply", write(t, "policy.yaml", releasedPolicy))
		s.does(t, "checkout", "mesh", "--user", "bob", "--host", "ws-2", "--state", filepath.Join(dir, "gone.json"))
		s.does(t, "checkin", "--state", filepath.Join(dir, "gone.json"))
		if code, _, _ := s.cli(t, "checkout", "nothing", "--user", "bob", "--host", "ws-2"); code == exitOK {
			t.Fatal("a feature that nobody has licensed is given")
		}
		s.fill(t)
		s.does(t, "checkout", "cad", "--user", "bob", "--host", "ws-2", "--state", filepath.Join(dir, "steps.json"))
		s.does(t, "borrow", "cad", "--for", "2h", "--user", "ann", "--host", "ws-1", "--folder", filepath.Join(dir, "borrowed"))
		c, err := client.New(client.Config{Addresses: []string{s.address()}})
		must(err)
		session, err := c.OpenSession(t.Context(), client.SessionConfig{Principal: lease.Principal{User: "ann", Host: "ws-1"}, StateFile: filepath.Join(dir, "sdk.json")})
		must(err)
		_, err = session.Checkout(t.Context(), client.Item{Feature: "cad"})
		must(err)
		if store == cluster.LogBolt {
			s.does(t, "snapshot", "save", filepath.Join(set, "backup.snap"))
		}
		session.Suspend()
		s.nodes[0].kill() // as a crash leaves it
		<-s.nodes[0].exited
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_ = c.Close(ctx)
		must(pack(filepath.Join(set, string(store)+".tar.gz"), dir))
	}
}

func (s *story) does(t *testing.T, args ...string) {
	t.Helper()
	if code, out, stderr := s.cli(t, args...); code != exitOK {
		t.Fatalf("seatkeeper %v: %d %s%s", args, code, out, stderr)
	}
}

// fill writes entries until the node has made a snapshot.
func (s *story) fill(t *testing.T) {
	t.Helper()
	for range minSnapshotEntries + 100 {
		if _, err := s.conn.seats.Renew(t.Context(), &pb.RenewRequest{SessionId: strings.Repeat("0", 31) + "1", SessionSecret: "none"}); client.ReasonOf(err) != lease.SessionUnknown {
			t.Fatal(err)
		}
	}
	eventually(t, "a snapshot", func() error {
		made, err := filepath.Glob(filepath.Join(s.nodes[0].Dir, "snapshots", "*", "state.bin"))
		if err == nil && len(made) == 0 {
			err = fs.ErrNotExist
		}
		return err
	})
}

// leftOut is what a set does without: what no release reads, and the vendor's secret.
var leftOut = []string{"vendor.signer.key", "node-1.yaml", "node-1.log", "gone.json", "gone.json.lock", "sdk.json.lock", "node-1/lock"}

func pack(name, dir string) error {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	w := tar.NewWriter(zip)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if err != nil || !d.Type().IsRegular() || slices.Contains(leftOut, rel) {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(data)), Format: tar.FormatUSTAR}); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := zip.Close(); err != nil {
		return err
	}
	return os.WriteFile(name, out.Bytes(), 0o644)
}

// unpack writes files whose ends are zeros as holes: a segment of the log has 64 MiB.
func unpack(t *testing.T, name, dir string) {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(readAll(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.TrimRight(data, "\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(len(data))); err != nil {
			t.Fatal(err)
		}
	}
}

func readAll(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
