//go:build linux

package deploy_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// The whole life of the package on a machine that has nothing but Debian's required
// packages: installed by its own dpkg, configured as it says itself, run as its unit
// says, upgraded under the running node, removed, installed again, purged.
func TestDebianPackageLivesOnACleanMachine(t *testing.T) {
	m := newMachine(t)
	before := m.files()
	deb := thePackage(t, "seatkeeper_*_"+strings.TrimSpace(m.run("dpkg", "--print-architecture"))+".deb")
	said := m.install(deb)
	m.installed(t)
	m.hasItsUsers(t)
	m.hasWhatShellsAndReadersLookFor(t)

	// What the package said last is what its operator does.
	hint := regexp.MustCompile(`write the config: (.*?); edit it; systemctl enable --now seatkeeper`).FindStringSubmatch(said)
	if hint == nil {
		t.Fatalf("the package does not say what comes next:\n%s", said)
	}
	m.run("sh", "-c", hint[1])
	api := m.edit(t)
	if got := m.has("/etc/seatkeeper/seatkeeper.yaml"); got != "600 seatkeeper:seatkeeper" {
		t.Errorf("the config is %s", got)
	}
	m.as("seatkeeper", "seatkeeper", "config", "validate", "/etc/seatkeeper/seatkeeper.yaml")
	node := m.startService()
	identity := m.identity(api)
	if out := m.as("nobody", "/usr/lib/seatkeeper/bin/lmstat", "-a", "-c", strings.Split(api, ":")[1]+"@127.0.0.1"); !strings.Contains(out, "license server UP") {
		t.Errorf("lmstat says\n%s", out)
	}

	config := m.read("etc/seatkeeper/seatkeeper.yaml")
	if again := m.install(later(t, deb)); strings.Contains(again, "write the config") {
		t.Errorf("an upgrade asks for a config that is there:\n%s", again)
	}
	m.installed(t)
	if version := m.run("dpkg-query", "-W", "-f", "${Version}", "seatkeeper"); !strings.HasSuffix(version, "+later") {
		t.Errorf("version %s is installed", version)
	}
	node.becomesReady() // the old build goes on until its operator restarts it
	m.kept(t, config)
	node.stop()
	m.startService().stop()

	data := "/var/lib/seatkeeper"
	for _, end := range []string{"--remove", "--purge"} {
		m.run("dpkg", end, "seatkeeper")
		if m.has("/usr/bin/seatkeeper") != "" || m.has("/usr/lib/systemd/system/seatkeeper.service") != "" {
			t.Errorf("the program is there after %s", end)
		}
		m.kept(t, config)
		if m.has(data) != "700 seatkeeper:seatkeeper" {
			t.Errorf("after %s the data is %q", end, m.has(data))
		}
		if left := m.left(before); left != nil {
			t.Errorf("%s leaves %v", end, left)
		}
		m.install(deb)
		node := m.startService()
		if now := m.identity(api); now != identity {
			t.Errorf("after %s and another install the node is %s, was %s", end, now, identity)
		}
		node.stop()
	}
}

// installed wants dpkg to have no objection, and the files to be what it installed.
func (m *machine) installed(t *testing.T) {
	t.Helper()
	if status := m.run("dpkg-query", "-W", "-f", "${Status}", "seatkeeper"); status != "install ok installed" {
		t.Errorf("dpkg says %q", status)
	}
	if out := m.run("dpkg", "--audit"); out != "" {
		t.Errorf("dpkg complains:\n%s", out)
	}
	if out := m.run("dpkg", "--verify", "seatkeeper"); out != "" {
		t.Errorf("files are not what the package holds:\n%s", out)
	}
	if conffiles := m.run("dpkg-query", "-W", "-f", "${Conffiles}", "seatkeeper"); strings.TrimSpace(conffiles) != "" {
		t.Errorf("the package owns files that are the operator's: %s", conffiles)
	}
}

func (m *machine) hasItsUsers(t *testing.T) {
	t.Helper()
	for _, unit := range []string{"system/seatkeeper.service", "system/seatkeeper-agent.service", "user/seatkeeper-agent.service"} {
		programs := regexp.MustCompile(`(?m)^Exec[A-Za-z]+=(\S+)`).FindAllStringSubmatch(m.read("usr/lib/systemd/"+unit), -1)
		for _, p := range programs {
			if m.has(p[1]) == "" {
				t.Errorf("%s runs %s, which is not everywhere", unit, p[1])
			}
		}
		if len(programs) < 2 {
			t.Errorf("%s runs %v", unit, programs)
		}
	}
	if got := m.has("/etc/seatkeeper"); got != "750 root:seatkeeper" {
		t.Errorf("/etc/seatkeeper is %s", got)
	}
	for unit, name := range map[string]string{"seatkeeper.service": "seatkeeper", "seatkeeper-agent.service": "seatkeeper-agent"} {
		u := m.unit(unit)
		if u["User"] != name || u["Group"] != name || u["StateDirectory"] != name {
			t.Errorf("%s runs as %s:%s with %s", unit, u["User"], u["Group"], u["StateDirectory"])
		}
		a := m.user(name)
		if a.uid == 0 || a.uid >= 1000 || a.shell != "/usr/sbin/nologin" || a.home != "/var/lib/"+name {
			t.Errorf("%s: %+v", name, a)
		}
		if group := fmt.Sprintf("\n%s:x:%d:", name, a.gid); !strings.Contains(m.read("etc/group"), group) {
			t.Errorf("%s has no group of its own", name)
		}
		if shadow := regexp.MustCompile(`(?m)^` + name + `:([^:]*):`).FindStringSubmatch(m.read("etc/shadow")); shadow == nil || !strings.HasPrefix(shadow[1], "!") {
			t.Errorf("%s could log in: %v", name, shadow)
		}
	}
}

// hasWhatShellsAndReadersLookFor tries the links, the completion and the manual pages.
func (m *machine) hasWhatShellsAndReadersLookFor(t *testing.T) {
	t.Helper()
	if out := m.as("nobody", "/usr/lib/seatkeeper/bin/lmutil", "lmver"); !strings.HasPrefix(out, "lmver - ") {
		t.Errorf("lmutil lmver says %q", out)
	}
	complete := `set -e
. /usr/share/bash-completion/completions/seatkeeper
complete -p seatkeeper
words=$(seatkeeper __complete sta 2>/dev/null)
case $words in status*) ;; *) echo "sta is completed to $words"; exit 1 ;; esac`
	if out := m.as("nobody", "bash", "-c", complete); !strings.Contains(out, "-F __start_seatkeeper seatkeeper") {
		t.Errorf("bash completes %s", out)
	}
	for _, page := range []string{"seatkeeper", "seatkeeper-server", "seatkeeper-operator-raft-replace-peer"} {
		z, err := gzip.NewReader(strings.NewReader(m.read("usr/share/man/man1/" + page + ".1.gz")))
		if err != nil {
			t.Errorf("%s: %v", page, err)
			continue
		}
		var text bytes.Buffer
		if _, err := text.ReadFrom(z); err != nil || !strings.Contains(text.String(), ".TH") || !strings.Contains(text.String(), strings.ReplaceAll(page, "-", `\-`)) && !strings.Contains(text.String(), page) {
			t.Errorf("%s is no manual page (%v)", page, err)
		}
	}
}

// edit is the operator's part: here, ports that nobody else on this host has.
func (m *machine) edit(t *testing.T) (api string) {
	t.Helper()
	api = freeAddress(t)
	text := strings.NewReplacer("127.0.0.1:7800", api, "127.0.0.1:7801", freeAddress(t), "127.0.0.1:7802", freeAddress(t)).Replace(m.read("etc/seatkeeper/seatkeeper.yaml"))
	if err := os.WriteFile(m.path("etc/seatkeeper/seatkeeper.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return api
}

// identity is who the node says it is: it stays as long as its data does.
func (m *machine) identity(api string) string {
	m.t.Helper()
	out := m.as("nobody", "seatkeeper", "status", "--addr", api, "-o", "json")
	id := regexp.MustCompile(`"cluster_id": *"([^"]+)"`).FindStringSubmatch(out)
	node := regexp.MustCompile(`"leader": *"([^"]+)"`).FindStringSubmatch(out)
	if id == nil || node == nil {
		m.t.Fatalf("status says\n%s", out)
	}
	return id[1] + " " + node[1]
}

// kept wants the operator's config as it was.
func (m *machine) kept(t *testing.T, config string) {
	t.Helper()
	if m.has("/etc/seatkeeper") != "750 root:seatkeeper" || m.has("/etc/seatkeeper/seatkeeper.yaml") != "600 seatkeeper:seatkeeper" || m.read("etc/seatkeeper/seatkeeper.yaml") != config {
		t.Errorf("the config is not as it was: %s, %s", m.has("/etc/seatkeeper"), m.has("/etc/seatkeeper/seatkeeper.yaml"))
	}
}

// rpm does on the machine what rpm there would; Debian's rpm wants to be told that it is meant.
func (m *machine) rpm(args ...string) string {
	m.t.Helper()
	cmd := exec.Command("rpm", append([]string{"--root", m.root}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("rpm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The RPM package as far as it can be tried without a distribution of RPMs: rpm itself
// installs it and runs its scripts, in a root that has a shell and useradd.
func TestRPMPackageLivesOnACleanMachine(t *testing.T) {
	m := newMachine(t)
	if _, err := exec.LookPath("rpm"); err != nil {
		t.Skip("rpm is missing: apt-get install rpm")
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	file, err := filepath.Abs(thePackage(t, "seatkeeper-*."+arch+".rpm"))
	if err != nil {
		t.Fatal(err)
	}
	before := m.files()
	m.rpm("--initdb")
	said := m.rpm("--install", "--force-debian", "--nodeps", file)
	hint := regexp.MustCompile(`write the config: (.*?); edit it`).FindStringSubmatch(said)
	if hint == nil {
		t.Fatalf("the package does not say what comes next:\n%s", said)
	}
	m.hasItsUsers(t)
	m.hasWhatShellsAndReadersLookFor(t)
	if got := m.has("/usr/share/zsh/site-functions/_seatkeeper"); got != "644 root:root" {
		t.Errorf("zsh's completion: %q", got)
	}
	m.run("sh", "-c", hint[1])
	api := m.edit(t)
	node := m.startService()
	config, identity := m.read("etc/seatkeeper/seatkeeper.yaml"), m.identity(api)
	m.rpm("--upgrade", "--force", "--force-debian", "--nodeps", file)
	m.kept(t, config)
	node.becomesReady()
	node.stop()

	m.rpm("--erase", "seatkeeper")
	m.kept(t, config)
	// rpm's own, and folders that a distribution of RPMs has.
	others := []string{"/root/.rpmdb", "/usr/lib/sysusers.d", "/usr/lib/systemd/user", "/usr/share/fish", "/usr/share/zsh"}
	left := slices.DeleteFunc(m.left(before), func(name string) bool {
		return slices.ContainsFunc(others, func(o string) bool { return strings.HasPrefix(name, o) })
	})
	if len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
	m.rpm("--install", "--force-debian", "--nodeps", file)
	node = m.startService()
	if now := m.identity(api); now != identity {
		t.Errorf("after another install the node is %s, was %s", now, identity)
	}
	node.stop()
}

// left are files that were not there before, but for what is the operator's.
func (m *machine) left(before []string) (names []string) {
	m.t.Helper()
	for _, name := range m.files() {
		if !slices.Contains(before, name) && name != "/etc/seatkeeper" && name != "/etc/seatkeeper/seatkeeper.yaml" && !strings.HasPrefix(name, "/var/lib/seatkeeper") {
			names = append(names, name)
		}
	}
	return names
}
