//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// machines is where the drill's nodes live: a folder for each, with a Debian in it into
// which its own dpkg installed the package. Empty: the nodes are started from outside.
var machines = os.Getenv("SEATKEEPER_DRILL_MACHINES")

// nextPackage is the installed package with the next build in it, as a version of its own.
func nextPackage(t *testing.T, binary string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "files")
	command(t, "dpkg-deb", "-R", os.Getenv("SEATKEEPER_DRILL_PACKAGE"), dir)
	command(t, "cp", binary, filepath.Join(dir, "usr/bin/seatkeeper"))
	command(t, "rm", filepath.Join(dir, "DEBIAN/md5sums"))
	control := filepath.Join(dir, "DEBIAN/control")
	text, err := os.ReadFile(control)
	if err == nil {
		err = os.WriteFile(control, regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(text, []byte("$0+next")), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "next.deb")
	command(t, "dpkg-deb", "-Znone", "-b", dir, out)
	return out
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// install puts the next build on a node's machine. The node goes on with the old one.
func (d *drill) install(n *devNode, next string) {
	d.t.Helper()
	if machines == "" {
		n.binary = next
		return
	}
	root := filepath.Join(machines, n.Name)
	command(d.t, "cp", next, filepath.Join(root, "tmp/next.deb"))
	command(d.t, "chroot", root, "dpkg", "--install", "/tmp/next.deb")
}

// own gives a machine's files to the user that its node runs as.
func (d *drill) own(n *devNode) {
	d.t.Helper()
	if machines != "" {
		command(d.t, "chown", "-R", "--reference", filepath.Join(machines, n.Name, "var/lib/seatkeeper"), d.pki)
	}
}
