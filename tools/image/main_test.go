package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// patience bounds each wait: these tests run beside others on small machines.
const patience = 60 * time.Second

// program builds the binary as make image does, but for the machine at hand.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "seatkeeper")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./cmd/seatkeeper")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0", "GOARCH=amd64", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func image(t *testing.T, binary, version string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "seatkeeper.tar")
	if err := write(binary, "amd64", version, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestImageIsTheSameEachTimeAndRunsInAnEmptyRoot(t *testing.T) {
	binary := program(t)
	first, second := image(t, binary, "v1.2.3"), image(t, binary, "v1.2.3")
	a, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(second)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the same binary twice gives two images")
	}
	if other, err := os.ReadFile(image(t, binary, "v1.2.4")); err != nil || bytes.Equal(a, other) {
		t.Errorf("another version gives the same image (%v)", err)
	}
	t.Run("runs in an empty root", func(t *testing.T) { runFromNothing(t, first) })
}

func TestImageTakesStaticBinariesOfItsMachineOnly(t *testing.T) {
	for _, c := range []struct{ name, binary, arch, version, want string }{
		{"a dynamic binary", "/bin/sh", "amd64", "v1", "not static"},
		{"another machine", "/bin/sh", "arm64", "v1", "not for arm64"},
		{"no binary", "main.go", "amd64", "v1", "main.go"},
		{"no tag", "/bin/sh", "amd64", "a b", "tag"},
	} {
		out := filepath.Join(t.TempDir(), "x.tar")
		err := write(c.binary, c.arch, c.version, out)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
		if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: an image was written", c.name)
		}
	}
}

// unpack lays the image's files out, as a container engine would.
func unpack(t *testing.T, path string) (root string, c v1.Config) {
	t.Helper()
	img, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	files := mutate.Extract(img)
	defer files.Close()
	root = t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return root, cf.Config
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(root, filepath.Clean("/"+h.Name))
		mode := h.FileInfo().Mode()
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.Mkdir(name, 0o700)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(name, content, 0o600)
			}
		default:
			t.Fatalf("%s is neither a file nor a folder", h.Name)
		}
		if err == nil {
			err = errors.Join(os.Lchown(name, h.Uid, h.Gid), os.Chmod(name, mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

const licence = `seatkeeper-license/1
license: L-1
vendor: acme
tenant: default
cluster: any
issued: 2020-01-01

feature: cad
version: 1.0
count: 2
expiry: never
serial: L-1-1
`

// container runs commands in an unpacked image as its own user, with nothing else there.
type container struct {
	t    *testing.T
	root string
	c    v1.Config
	env  []string
}

func (k *container) command(args ...string) *exec.Cmd {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Err = nil // of looking for it outside
	cmd.Env, cmd.Dir = append(slices.Clone(k.c.Env), k.env...), "/tmp"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: k.root, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return cmd
}

func (k *container) run(args ...string) string {
	k.t.Helper()
	out, err := k.command(append(slices.Clone(k.c.Entrypoint), args...)...).CombinedOutput()
	if err != nil {
		k.t.Fatalf("seatkeeper %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func runFromNothing(t *testing.T, path string) {
	if os.Getuid() != 0 {
		t.Skip("only root can change the root folder")
	}
	root, c := unpack(t, path)
	if want := fmt.Sprintf("%d:%d", uid, uid); c.User != want {
		t.Errorf("the image runs as %s, want %s", c.User, want)
	}
	for dir := root; dir != "/"; dir = filepath.Dir(dir) { // the user of the image has to pass
		if info, err := os.Stat(dir); err != nil || info.Mode()&0o001 == 0 {
			if err := os.Chmod(dir, info.Mode()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	k := &container{t: t, root: root, c: c}
	k.run("license", "keygen", "acme")
	verifier, err := os.ReadFile(filepath.Join(root, "tmp/acme.verifier.key"))
	if err != nil {
		t.Fatal(err)
	}
	api := freePort(t)
	settings := fmt.Sprintf("name: node-1\ndata_dir: /var/lib/seatkeeper\napi: {bind: %s}\nraft: {bind: %s}\ngossip: {bind: %s}\ntrusted_keys: [%s]\n",
		api, freePort(t), freePort(t), strings.TrimSpace(string(verifier)))
	for name, text := range map[string]string{"etc/seatkeeper/seatkeeper.yaml": settings, "tmp/L-1.txt": licence} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	server := k.command(append(slices.Clone(c.Entrypoint), c.Cmd...)...)
	var log bytes.Buffer
	server.Stderr = &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	stopped := false
	defer func() {
		if !stopped {
			_ = server.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", log.String())
		}
	}()

	// The image's own health check says when the node can be used.
	test := c.Healthcheck.Test
	if test[0] != "CMD" {
		t.Fatalf("health check %v: there is no shell in the image", test)
	}
	deadline := time.Now().Add(patience)
	for {
		out, err := k.command(test[1:]...).CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the node does not become healthy: %s", out)
		}
		select {
		case err := <-ended:
			stopped = true
			t.Fatalf("the server ended: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	k.env = []string{"SEATKEEPER_ADDR=" + api}
	k.run("license", "sign", "L-1.txt", "--key", "acme.signer.key", "--out", "L-1.lic")
	k.run("license", "apply", "L-1.lic")
	k.run("checkout", "cad", "--state", "/tmp/seat", "--user", "ann", "--host", "ws1")
	if out := k.run("leases"); !strings.Contains(out, "ann") {
		t.Errorf("the seat is not listed:\n%s", out)
	}
	k.run("checkin", "--state", "/tmp/seat", "--all")
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err = <-ended:
		stopped = true
	case <-time.After(patience):
		t.Fatal("the server does not stop")
	}
	if err != nil {
		t.Errorf("the server ends with %v", err)
	}
	if out, err := k.command(test[1:]...).CombinedOutput(); err == nil {
		t.Errorf("a stopped node is called healthy: %s", out)
	}
}
