//go:build linux

package deploy_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// installPatience bounds each wait; these tests run beside others on small machines.
const installPatience = 60 * time.Second

// machine is a Debian with nothing in it but what every Debian has.
type machine struct {
	t    *testing.T
	root string
}

// newMachine unpacks the clean root that make install-check has made.
func newMachine(t *testing.T) *machine {
	t.Helper()
	root := os.Getenv("SEATKEEPER_CLEAN_ROOT")
	if root == "" {
		t.Skip("wants a Debian root to install in: make install-check")
	}
	m := &machine{t: t, root: t.TempDir()}
	if out, err := exec.Command("./cleanroot.sh", "unpack", root, m.root).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for dir := m.root; dir != "/"; dir = filepath.Dir(dir) { // its users have to pass
		info, err := os.Stat(dir)
		if err == nil && info.Mode()&0o001 == 0 {
			err = os.Chmod(dir, info.Mode()|0o011)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// command is one that runs there, as root or as one of its users.
func (m *machine) command(user string, args ...string) *exec.Cmd {
	m.t.Helper()
	cmd := exec.Command("/bin/sh", append([]string{"-c", `exec "$@"`, "sh"}, args...)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Pdeathsig: syscall.SIGKILL}
	if user != "root" {
		u := m.user(user)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid}
	}
	return cmd
}

func (m *machine) as(user string, args ...string) string {
	m.t.Helper()
	out, err := m.command(user, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (m *machine) run(args ...string) string { m.t.Helper(); return m.as("root", args...) }

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

func (m *machine) read(name string) string {
	m.t.Helper()
	text, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// has says what is at a path: "0750 root:seatkeeper", or nothing.
func (m *machine) has(name string) string {
	m.t.Helper()
	if _, err := os.Lstat(m.path(name)); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return strings.TrimSpace(m.run("stat", "-c", "%a %U:%G", name))
}

// account is a line of passwd.
type account struct {
	uid, gid    uint32
	home, shell string
}

func (m *machine) user(name string) account {
	m.t.Helper()
	line := regexp.MustCompile(`(?m)^` + name + `:[^:]*:(\d+):(\d+):[^:]*:([^:]*):(.*)$`).FindStringSubmatch(m.read("etc/passwd"))
	if line == nil {
		m.t.Fatalf("there is no user %s", name)
	}
	uid, _ := strconv.Atoi(line[1])
	gid, _ := strconv.Atoi(line[2])
	return account{uint32(uid), uint32(gid), line[3], line[4]}
}

// files are all that is there but what dpkg and the user database keep for themselves.
func (m *machine) files() []string {
	m.t.Helper()
	own := regexp.MustCompile(`^/(proc|sys|dev|tmp|var/lib/(dpkg|rpm)|var/log|var/cache|etc/(passwd|group|shadow|gshadow|subuid|subgid)-?|etc/\.pwd\.lock)(/|$)`)
	var list []string
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if name := strings.TrimPrefix(path, m.root); err == nil && name != "" && !own.MatchString(name) {
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

// thePackage is the one deb for this machine in bin/packages.
func thePackage(t *testing.T, pattern string) string {
	t.Helper()
	list, err := filepath.Glob("../bin/packages/" + pattern)
	if err != nil || len(list) != 1 {
		t.Fatalf("packages %s: %v (%v): make packages", pattern, list, err)
	}
	return list[0]
}

// install has the machine's own dpkg install a package.
func (m *machine) install(deb string) string {
	m.t.Helper()
	text, err := os.ReadFile(deb)
	if err == nil {
		err = os.WriteFile(m.path("tmp/seatkeeper.deb"), text, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return m.run("dpkg", "--install", "/tmp/seatkeeper.deb")
}

// later is the same package with a higher version.
func later(t *testing.T, deb string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "files")
	if out, err := exec.Command("dpkg-deb", "-R", deb, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	control := filepath.Join(dir, "DEBIAN/control")
	text, err := os.ReadFile(control)
	if err == nil {
		err = os.WriteFile(control, regexp.MustCompile(`(?m)^Version: .*$`).ReplaceAll(text, []byte("$0+later")), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "later.deb")
	if text, err := exec.Command("dpkg-deb", "-Znone", "-b", dir, out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// unitOf reads the keys of the installed unit.
func (m *machine) unit(name string) map[string]string {
	m.t.Helper()
	keys := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^([A-Za-z]+)=(.*)$`).FindAllStringSubmatch(m.read("usr/lib/systemd/system/"+name), -1) {
		keys[line[1]] = line[2]
	}
	return keys
}

// service is the node as its unit starts it, but for systemd's cage.
type service struct {
	m      *machine
	cmd    *exec.Cmd
	log    lockedLog
	exited chan struct{}
}

// lockedLog is read while the process writes.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (m *machine) startService() *service {
	m.t.Helper()
	u := m.unit("seatkeeper.service")
	state := "/var/lib/" + u["StateDirectory"]
	m.run("install", "-d", "-m", u["StateDirectoryMode"], "-o", u["User"], "-g", u["Group"], state)
	s := &service{m: m, cmd: m.command(u["User"], strings.Fields(u["ExecStart"])...), exited: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	ready := s.listens(u["Type"])
	started := make(chan error)
	go func() { // the kernel ends the child with the thread that started it
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
			close(s.exited)
		}
	}()
	if err := <-started; err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.exited })
	ready()
	s.reload(u["ExecReload"])
	s.becomesReady()
	return s
}

// listens for what a service of Type=notify tells systemd when it is ready; an abstract
// socket is there whatever the root folder.
func (s *service) listens(kind string) (ready func()) {
	s.m.t.Helper()
	if kind != "notify" {
		s.m.t.Fatalf("the unit is of type %q: a reload could come before the node knows SIGHUP", kind)
	}
	name := fmt.Sprintf("@seatkeeper-%d-%s", os.Getpid(), filepath.Base(s.m.root))
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		s.m.t.Fatal(err)
	}
	s.cmd.Env = append(s.cmd.Env, "NOTIFY_SOCKET="+name)
	return func() {
		defer l.Close()
		told := make([]byte, 64)
		_ = l.SetReadDeadline(time.Now().Add(installPatience))
		if n, err := l.Read(told); err != nil || string(told[:n]) != "READY=1" {
			s.m.t.Fatalf("the node tells %q (%v): %s", told[:n], err, s.log.String())
		}
	}
}

// reload does what the unit says of a reload, and waits for the node to say that it did.
func (s *service) reload(command string) {
	s.m.t.Helper()
	words := regexp.MustCompile(`^(/bin/sh) -c '(.*)'$`).FindStringSubmatch(strings.ReplaceAll(command, "$$", "$"))
	if words == nil {
		s.m.t.Fatalf("a reload is %q", command)
	}
	m := s.m.command(s.m.unit("seatkeeper.service")["User"], words[1], "-c", words[2])
	m.Env = append(m.Env, fmt.Sprintf("MAINPID=%d", s.cmd.Process.Pid))
	if out, err := m.CombinedOutput(); err != nil {
		s.m.t.Fatalf("reload: %v: %s", err, out)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(installPatience); !strings.Contains(s.log.String(), "config reloaded"); <-tick.C {
		if time.Now().After(deadline) {
			s.m.t.Fatalf("the node does not reload: %s", s.log.String())
		}
	}
}

func (s *service) becomesReady() {
	s.m.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(installPatience); ; {
		out, err := s.m.command("seatkeeper", "seatkeeper", "health", "--config", "/etc/seatkeeper/seatkeeper.yaml").CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.m.t.Fatalf("the node does not become ready: %s", out)
		}
		select {
		case <-s.exited:
			s.m.t.Fatalf("the node ended: %s", s.log.String())
		case <-tick.C:
		}
	}
}

func (s *service) stop() {
	s.m.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
	case <-time.After(installPatience):
		s.m.t.Fatal("the node does not stop")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.m.t.Errorf("the node ends with %d: %s", code, s.log.String())
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
