package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unpacked lays the files of the deb for this machine out.
func unpacked(t *testing.T) string {
	t.Helper()
	list, err := filepath.Glob("../bin/packages/seatkeeper_*_amd64.deb")
	if err != nil || len(list) != 1 {
		t.Skip("no package to look at: make packages")
	}
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Skip("dpkg-deb is missing: apt-get install dpkg")
	}
	root := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-R", list[0], root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return root
}

func TestDebianPackageHasAllThatItsDocumentsName(t *testing.T) {
	root := unpacked(t)
	for _, name := range []string{
		"usr/bin/seatkeeper", "usr/lib/systemd/system/seatkeeper.service", "usr/lib/sysusers.d/seatkeeper.conf", "etc/seatkeeper",
		"usr/share/bash-completion/completions/seatkeeper", "usr/share/zsh/vendor-completions/_seatkeeper", "usr/share/fish/vendor_completions.d/seatkeeper.fish",
		"usr/share/man/man1/seatkeeper.1.gz", "usr/share/man/man1/seatkeeper-server.1.gz", "usr/share/doc/seatkeeper/RUNBOOK.md",
		"DEBIAN/postinst", "DEBIAN/prerm", "DEBIAN/postrm",
	} {
		info, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().IsRegular() && info.Size() == 0 {
			t.Errorf("%s is empty", name)
		}
	}
	for _, link := range []string{"lmutil", "lmstat"} {
		to, err := os.Readlink(filepath.Join(root, "usr/lib/seatkeeper/bin", link))
		if err != nil || to != "/usr/bin/seatkeeper" {
			t.Errorf("%s leads to %q (%v)", link, to, err)
		}
	}
	unit, err := os.ReadFile(filepath.Join(root, "usr/lib/systemd/system/seatkeeper.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, start, _ := strings.Cut(string(unit), "ExecStart=")
	program, _, _ := strings.Cut(start, " ")
	out, err := exec.Command(filepath.Join(root, program), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "seatkeeper ") {
		t.Errorf("the unit's program says %q (%v)", out, err)
	}
	for _, script := range []string{"postinst", "prerm", "postrm"} {
		if out, err := exec.Command("sh", "-n", filepath.Join(root, "DEBIAN", script)).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", script, err, out)
		}
	}
}
