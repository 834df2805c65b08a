package deploy_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// packaged is what a package puts at one path.
type packaged struct {
	mode  string // 0755
	owner string
	link  string
	date  int64
}

// ofDeb reads a Debian package; dirs are left out but for the one with a mode of its own.
func ofDeb(t *testing.T, file string) map[string]packaged {
	t.Helper()
	out, err := exec.Command("dpkg-deb", "--fsys-tarfile", file).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]packaged{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.Trim(strings.TrimPrefix(h.Name, "."), "/")
		owner := fmt.Sprintf("%s:%s", h.Uname, h.Gname)
		if h.Uid != 0 || h.Gid != 0 {
			owner = fmt.Sprintf("%d:%d", h.Uid, h.Gid)
		}
		files[name] = packaged{fmt.Sprintf("%04o", h.Mode&0o7777), owner, h.Linkname, h.ModTime.Unix()}
		if h.Typeflag == tar.TypeDir {
			files[name+"/"] = files[name]
			delete(files, name)
		}
	}
}

// ofRPM reads an RPM package.
func ofRPM(t *testing.T, file string) map[string]packaged {
	t.Helper()
	out, err := exec.Command("rpm", "-qp", "--queryformat", `[%{FILENAMES}\t%{FILEMODES:octal}\t%{FILEUSERNAME}:%{FILEGROUPNAME}\t%{FILELINKTOS}\t%{FILEMTIMES}\n]`, file).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]packaged{}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		mode, err := strconv.ParseInt(f[1], 8, 32)
		date, dateErr := strconv.ParseInt(f[4], 10, 64)
		if err := errors.Join(err, dateErr); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(f[0], "/")
		if mode&0o170000 == 0o040000 {
			name += "/"
		}
		files[name] = packaged{fmt.Sprintf("%04o", mode&0o7777), f[2], f[3], date}
	}
	return files
}

// inPackages are the files of every package but the manual pages, with modes that are not 0644.
var inPackages = map[string]string{
	"usr/bin/seatkeeper": "0755", "usr/lib/seatkeeper/bin/lmutil": "", "usr/lib/seatkeeper/bin/lmstat": "",
	"usr/lib/systemd/system/seatkeeper.service": "0644", "usr/lib/systemd/system/seatkeeper-agent.service": "0644",
	"usr/lib/systemd/user/seatkeeper-agent.service": "0644", "usr/lib/sysusers.d/seatkeeper.conf": "0644",
	"usr/share/bash-completion/completions/seatkeeper": "0644", "usr/share/fish/vendor_completions.d/seatkeeper.fish": "0644",
	"usr/share/doc/seatkeeper/CHANGELOG.md": "0644", "usr/share/doc/seatkeeper/RUNBOOK.md": "0644", "usr/share/doc/seatkeeper/agent.md": "0644",
	"usr/share/doc/seatkeeper/metrics.md": "0644", "usr/share/doc/seatkeeper/grafana.json": "0644", "usr/share/doc/seatkeeper/prometheus-rules.yml": "0644",
	"usr/share/doc/seatkeeper/examples/client.sh": "0755", "usr/share/doc/seatkeeper/examples/sidecar.yaml": "0644",
}

// Each package of each machine: these files, this owner, these modes, one date, and a manual
// page for every command.
func TestPackagesHoldTheseFilesAndNoOthers(t *testing.T) {
	list, err := filepath.Glob("../bin/packages/*.[dr][ep][bm]")
	if err != nil || len(list) == 0 {
		t.Skip("no package to look at: make packages")
	}
	if len(list) != 4 {
		t.Errorf("packages are %v, want a deb and an rpm for each of two machines", list)
	}
	pages := pagesOf(t, unpacked(t))
	for _, file := range list {
		read, tool, zsh := ofDeb, "dpkg-deb", "usr/share/zsh/vendor-completions/_seatkeeper"
		if strings.HasSuffix(file, ".rpm") {
			read, tool, zsh = ofRPM, "rpm", "usr/share/zsh/site-functions/_seatkeeper"
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			if _, err := exec.LookPath(tool); err != nil {
				t.Skipf("%s is missing", tool)
			}
			want := maps.Clone(inPackages)
			want[zsh], want["etc/seatkeeper/"] = "0644", "0750"
			for _, page := range pages {
				want["usr/share/man/man1/"+page+".gz"] = "0644"
			}
			holds(t, read(t, file), want)
		})
	}
}

// holds wants files to be these, with these modes; folders of everybody's are not counted.
func holds(t *testing.T, files map[string]packaged, want map[string]string) {
	t.Helper()
	date := files["usr/bin/seatkeeper"].date
	for name, mode := range want {
		got, ok := files[name]
		if link := strings.Contains(name, "seatkeeper/bin/lm"); !ok {
			t.Errorf("%s is missing", name)
		} else if link != (got.link == "/usr/bin/seatkeeper") {
			t.Errorf("%s leads to %q", name, got.link)
		} else if !link && got.mode != mode {
			t.Errorf("%s has mode %s, want %s", name, got.mode, mode)
		}
	}
	for name, got := range files {
		if _, ok := want[name]; !ok && !strings.HasSuffix(name, "/") {
			t.Errorf("%s should not be there", name)
		} else if !ok && got.mode != "0755" {
			t.Errorf("%s has mode %s, want 0755", name, got.mode)
		}
		if got.owner != "root:root" {
			t.Errorf("%s belongs to %s", name, got.owner)
		}
		if got.date != date {
			t.Errorf("%s has a date of its own, %d and not %d: builds differ", name, got.date, date)
		}
	}
}

// pagesOf are the manual pages that the packaged program itself has.
func pagesOf(t *testing.T, root string) (names []string) {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command(filepath.Join(root, "usr/bin/seatkeeper"), "man", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 50 {
		t.Fatalf("%d pages (%v)", len(entries), err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
