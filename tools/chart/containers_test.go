//go:build linux

package chart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds each wait: these tests run beside others on small machines.
const patience = 90 * time.Second

// host is a machine of its own for containers: a network that nobody else sees, with a
// bridge, and the image as make image writes it. The test binary is started again in
// new namespaces for it, so all ports are free and nothing is left behind.
type host struct {
	t      *testing.T
	image  imageConfig
	layers []string
	names  map[string]string // of containers, to addresses
}

// imageConfig is what the image says of how it is run.
type imageConfig struct {
	Config struct {
		User            string
		Env, Entrypoint []string
		Cmd             []string
		Volumes         map[string]struct{}
	} `json:"config"`
}

// inside starts a test again in namespaces of its own, and says whether this is the second
// time.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv("INSIDE") != "" {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("only root can make namespaces")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--net", "--mount-proc", "--propagation", "private", "--pid", "--fork", "--kill-child",
		self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), "INSIDE=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

func shell(t *testing.T, script string, args ...string) string {
	t.Helper()
	out, err := exec.Command("sh", append([]string{"-euc", script, "sh"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", script, args, err, out)
	}
	return string(out)
}

func newHost(t *testing.T) *host {
	t.Helper()
	list, err := filepath.Glob("../../bin/image/seatkeeper-*-linux-" + runtime.GOARCH + ".tar")
	if err != nil || len(list) != 1 {
		t.Fatalf("images: %v (%v): make image", list, err)
	}
	h := &host{t: t, names: map[string]string{}}
	dir := t.TempDir()
	shell(t, `tar -C "$1" -xf "$2"`, dir, list[0])
	var manifest []struct {
		Config string
		Layers []string
	}
	readJSON(t, filepath.Join(dir, "manifest.json"), &manifest)
	readJSON(t, filepath.Join(dir, manifest[0].Config), &h.image)
	for _, l := range manifest[0].Layers {
		h.layers = append(h.layers, filepath.Join(dir, l))
	}
	shell(t, `ip link set lo up
mount -t tmpfs none /run
ip link add br0 type bridge
ip addr add 10.88.0.1/24 dev br0
ip link set br0 up`)
	return h
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// container is the image's program in a root and a network of its own.
type container struct {
	h             *host
	name, root    string
	address       string
	user          string // number:number
	env           []string
	cmd           *exec.Cmd
	log           bytes.Buffer
	exited        chan struct{}
	command, stop []string
}

// container unpacks the image. What is mounted there is added to its root before it starts.
func (h *host) container(name string) *container {
	h.t.Helper()
	c := &container{h: h, name: name, root: filepath.Join(h.t.TempDir(), name), user: h.image.Config.User, env: h.image.Config.Env,
		address: fmt.Sprintf("10.88.0.%d", len(h.names)+2), exited: make(chan struct{})}
	h.names[name] = c.address
	for _, l := range h.layers {
		shell(h.t, `mkdir -p "$1" && tar -C "$1" --numeric-owner -xpf "$2"`, c.root, l)
	}
	shell(h.t, `d=$1; while [ "$d" != / ]; do chmod go+x "$d"; d=$(dirname "$d"); done; chmod 0555 "$1/tmp"`, c.root) // read_only
	shell(h.t, `ip netns add "$1"
ip link add "v$2" type veth peer name eth0 netns "$1"
ip link set "v$2" master br0 up
ip -n "$1" addr add "$3/24" dev eth0
ip -n "$1" link set eth0 up
ip -n "$1" link set lo up`, name, strings.ReplaceAll(c.address, ".", ""), c.address)
	return c
}

// path is where a path of the container is here.
func (c *container) path(name string) string { return filepath.Join(c.root, name) }

// process is a command as the container's user, with nothing but what is there.
func (c *container) process(args ...string) *exec.Cmd {
	chroot, err := exec.LookPath("chroot") // env has the image's PATH
	if err != nil {
		c.h.t.Fatal(err)
	}
	line := []string{"netns", "exec", c.name, "env", "-i"}
	line = append(append(line, c.env...), chroot, "--userspec="+c.user, "--groups=", c.root)
	return exec.Command("ip", append(line, args...)...)
}

func (c *container) start() {
	c.h.t.Helper()
	var hosts strings.Builder
	for name, address := range c.h.names {
		fmt.Fprintln(&hosts, address, name)
	}
	if err := os.WriteFile(c.path("/etc/hosts"), []byte(hosts.String()), 0o644); err != nil {
		c.h.t.Fatal(err)
	}
	c.cmd = c.process(append(c.h.image.Config.Entrypoint, c.command...)...)
	c.cmd.Stdout, c.cmd.Stderr = &c.log, &c.log
	if err := c.cmd.Start(); err != nil {
		c.h.t.Fatal(err)
	}
	go func() { _ = c.cmd.Wait(); close(c.exited) }()
	c.h.t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.exited
		if c.h.t.Failed() {
			c.h.t.Logf("log of %s:\n%s", c.name, c.log.String())
		}
	})
}

// healthy waits until a probe has no objection.
func (c *container) healthy(probe []string) {
	c.h.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); ; {
		out, err := c.process(probe...).CombinedOutput()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.h.t.Fatalf("%s: %v does not succeed: %s", c.name, probe, out)
		}
		select {
		case <-c.exited:
			c.h.t.Fatalf("%s ended", c.name)
		case <-tick.C:
		}
	}
}

// ends wants a kind stop to be a good one.
func (c *container) ends() {
	c.h.t.Helper()
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(patience):
		c.h.t.Fatalf("%s does not stop", c.name)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		c.h.t.Errorf("%s ends with %d", c.name, code)
	}
}

// publish has a port of the host lead to one of a container, as engines do.
func (h *host) publish(port string, to string) {
	h.t.Helper()
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				go func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
}

// page is a page of the runbook whose commands are run as they stand there.
type page struct {
	t      *testing.T
	dir    string
	bin    string
	blocks []string
	moved  *strings.Replacer
	state  string
}

func openPage(t *testing.T, title, dir string, moved ...string) *page {
	t.Helper()
	text, err := os.ReadFile("../../deploy/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+title+"\n")
	if !found {
		t.Fatalf("the runbook has no page %q", title)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	p := &page{t: t, dir: dir, bin: t.TempDir(), moved: strings.NewReplacer(moved...), state: filepath.Join(t.TempDir(), "state")}
	for _, m := range regexp.MustCompile("(?s)\n( *)```sh\n(.*?)\n *```").FindAllStringSubmatch(rest, -1) {
		p.blocks = append(p.blocks, strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n"))
	}
	if len(p.blocks) != 3 {
		t.Fatalf("%d blocks of commands, want 3", len(p.blocks))
	}
	return p
}

// standIn puts a script into the PATH in place of a program that is not here.
func (p *page) standIn(name, script string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// run runs commands in one shell's surroundings with those before.
func (p *page) run(block string) string {
	p.t.Helper()
	script := "set -eu\nif [ -e " + p.state + " ]; then . " + p.state + "; fi\n" + p.moved.Replace(block) +
		"\nexport -p | grep -vE ' (PATH|PWD|OLDPWD|_)=' > " + p.state + "\nset | grep -E '^(SEATKEEPER_[A-Z]*|VERSION|VENDOR_KEY)=' >> " + p.state + " || true\n"
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir, cmd.Env = p.dir, []string{"PATH=" + p.bin + ":" + os.Getenv("PATH"), "HOME=" + p.dir}
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("the runbook's commands fail: %v\n%s\n%s", err, block, out)
	}
	return string(out)
}
