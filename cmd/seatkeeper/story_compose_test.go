//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// composeFile is what deploy/compose/compose.yaml uses of the format; a key that is not
// here is refused.
type composeFile struct {
	Name     string                    `yaml:"name"`
	Node     composeService            `yaml:"x-node"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]any            `yaml:"volumes"`
	Configs  map[string]composeSource  `yaml:"configs"`
	Secrets  map[string]composeSource  `yaml:"secrets"`
}

type composeSource struct {
	File string `yaml:"file"`
}

type composeMount struct {
	Source string `yaml:"source"`
	Target string `yaml:"target"`
}

// UnmarshalYAML takes a name for both, as the format does.
func (m *composeMount) UnmarshalYAML(text []byte) error {
	type plain composeMount
	if err := yaml.UnmarshalWithOptions(text, (*plain)(m), yaml.Strict()); err == nil {
		return nil
	}
	m.Source = strings.TrimSpace(string(text))
	m.Target = m.Source
	return nil
}

type composeService struct {
	Image           string   `yaml:"image"`
	Command         []string `yaml:"command"`
	Restart         string   `yaml:"restart"`
	StopGracePeriod string   `yaml:"stop_grace_period"`
	Healthcheck     struct {
		Test          []string `yaml:"test"`
		Interval      string   `yaml:"interval"`
		Timeout       string   `yaml:"timeout"`
		Retries       int      `yaml:"retries"`
		StartPeriod   string   `yaml:"start_period"`
		StartInterval string   `yaml:"start_interval"`
	} `yaml:"healthcheck"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	Ulimits     map[string]int    `yaml:"ulimits"`
	Configs     []composeMount    `yaml:"configs"`
	Hostname    string            `yaml:"hostname"`
	Environment map[string]string `yaml:"environment"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Secrets     []composeMount    `yaml:"secrets"`
}

const composeDir = "../../deploy/compose"

func readCompose(t *testing.T) composeFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(composeDir, "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file composeFile
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestComposeFileIsThatOfASafeCluster(t *testing.T) {
	file := readCompose(t)
	if len(file.Services) != 3 {
		t.Fatalf("%d services, want 3", len(file.Services))
	}
	for name, s := range file.Services {
		if !strings.HasPrefix(s.Image, "seatkeeper:${SEATKEEPER_VERSION:?") {
			t.Errorf("%s: image %s: the version must be said, and by whoever starts it", name, s.Image)
		}
		grace, err := time.ParseDuration(s.StopGracePeriod)
		if least := transferTimeout + drainTimeout + stopTimeout; err != nil || grace <= least {
			t.Errorf("%s: stop_grace_period %s: a stop takes up to %s", name, s.StopGracePeriod, least)
		}
		if timeout, err := time.ParseDuration(s.Healthcheck.Timeout); err != nil || timeout <= healthTimeout {
			t.Errorf("%s: the health check's timeout %s must outlast the command's own, %s", name, s.Healthcheck.Timeout, healthTimeout)
		}
		if !s.ReadOnly || !slices.Contains(s.CapDrop, "ALL") || len(s.SecurityOpt) == 0 {
			t.Errorf("%s may do more than it needs", name)
		}
		if s.Hostname != name || s.Environment["SEATKEEPER_NAME"] != name {
			t.Errorf("%s is called %s and %s", name, s.Hostname, s.Environment["SEATKEEPER_NAME"])
		}
		for key, value := range s.Environment {
			if regexp.MustCompile(`(KEY|KEYS|TOKEN)$`).MatchString(key) && key != "SEATKEEPER_TRUSTED_KEYS" {
				t.Errorf("%s: %s=%s: a secret in the environment", name, key, value)
			}
		}
		for _, m := range s.Secrets {
			if file.Secrets[m.Source].File == "" {
				t.Errorf("%s: secret %s is not defined", name, m.Source)
			}
		}
		volume, target, _ := strings.Cut(s.Volumes[0], ":")
		if _, there := file.Volumes[volume]; !there || volume != name || target != "/var/lib/seatkeeper" {
			t.Errorf("%s: volume %s", name, s.Volumes[0])
		}
	}
}

// runbookBlocks are the shell blocks of a page of the runbook.
func runbookBlocks(t *testing.T, title string) []string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page, found := strings.Cut(string(text), "\n## "+title+"\n")
	if !found {
		t.Fatalf("the runbook has no page %q", title)
	}
	page, _, _ = strings.Cut(page, "\n## ")
	var blocks []string
	for _, m := range regexp.MustCompile("(?s)\n( *)```sh\n(.*?)\n *```").FindAllStringSubmatch(page, -1) {
		blocks = append(blocks, strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n")) // as it is shown
	}
	return blocks
}

// followed runs the blocks of a page as they stand there, in one folder and with what the
// ones before have exported.
type followed struct {
	t     *testing.T
	dir   string
	bin   string // stand-ins for what is not here
	state string
}

func newFollowed(t *testing.T, dir string) *followed {
	t.Helper()
	f := &followed{t: t, dir: dir, bin: t.TempDir(), state: filepath.Join(t.TempDir(), "exported")}
	return f
}

// standIn puts a script into the PATH in place of a program.
func (f *followed) standIn(name, script string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		f.t.Fatal(err)
	}
}

func (f *followed) run(block string) string {
	f.t.Helper()
	script := "set -eu\n" + block + "\nexport -p > " + f.state + "\nset | grep -E '^(SEATKEEPER_[A-Z]*|VERSION|VENDOR_KEY|NODES)=' >> " + f.state + " || true\n"
	if _, err := os.Stat(f.state); err == nil {
		script = ". " + f.state + "\n" + script
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = f.dir
	cmd.Env = append(withoutSettings(os.Environ()), "PATH="+f.bin+":"+filepath.Dir(programUnderTest(f.t))+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("the runbook's commands fail: %v\n%s\n%s", err, block, out)
	}
	return string(out)
}

// The runbook's page is followed to the letter, but that node's addresses are loopback's
// and that processes stand for the containers, with their command lines and variables.
func TestComposeFileAndItsPageOfTheRunbookMakeACluster(t *testing.T) {
	inFull(t)
	blocks := runbookBlocks(t, "First install: containers with compose")
	if len(blocks) != 3 {
		t.Fatalf("%d blocks of commands, want 3", len(blocks))
	}
	file := readCompose(t)
	vendor := &devCluster{dir: t.TempDir()}
	if err := vendor.makeVendor(); err != nil {
		t.Fatal(err)
	}
	port, dir := takePorts(t), t.TempDir()
	moved := map[string]string{"$(hostname -f)": "127.0.0.1", "VENDOR_KEY=acme+1b2c3d4e+AbCd": "VENDOR_KEY=" + vendor.vendor.VerifierKey}
	for i := range 3 {
		moved[fmt.Sprintf(":%d", apiPort+portsPerNode*i)] = fmt.Sprintf(":%d", port+portsPerNode*i)
	}
	page := newFollowed(t, dir)
	page.standIn("sudo", `[ "$1" = chown ] && [ "$2" = 65532 ] && exec ls "$3" >/dev/null`)
	page.standIn("docker", `echo "$@" >> `+filepath.Join(dir, "docker.log"))
	page.run(replaceAll(blocks[0], moved))
	page.run(replaceAll(blocks[1], moved))
	if told, err := os.ReadFile(filepath.Join(dir, "docker.log")); err != nil || string(told) != "load -i seatkeeper-v0.1.0-linux-amd64.tar\ncompose up -d --wait\n" {
		t.Errorf("docker was told %q (%v)", told, err)
	}
	variables := map[string]string{}
	dotEnv, err := os.ReadFile(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(dotEnv)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		variables[name] = value
	}

	// docker compose up
	c := &composed{t: t, file: file, dir: dir, variables: variables, port: port}
	var nodes []*process
	names := []string{"node-1", "node-2", "node-3"}
	for i, name := range names {
		args, env := c.commandLine(name, i)
		nodes = append(nodes, start(t, env, args...))
	}
	for i, name := range names {
		test := file.Services[name].Healthcheck.Test
		if test[0] != "CMD" || test[1] != "/usr/bin/seatkeeper" {
			t.Fatalf("health check %v", test)
		}
		env := c.environment(name, i)
		eventually(t, name+" to be healthy", func() error {
			code, _, stderr := run(t, env, c.inside(name, i, test[2:])...)
			if code != 0 {
				return fmt.Errorf("exit code %d: %s", code, stderr)
			}
			return nil
		})
	}

	document := write(t, "floating.txt", string(sampleLicence("L-1", devVendorName, []sampleFeature{seats("cad", 2, patientProfile)}, time.Now().AddDate(0, 0, -1))))
	if code, _, stderr := run(t, nil, "license", "sign", document, "--key", vendor.vendor.SignerFile, "--out", filepath.Join(dir, "floating.lic")); code != 0 {
		t.Fatal(stderr)
	}
	if out := page.run(replaceAll(blocks[2], moved)); !strings.Contains(out, "cad") || !strings.Contains(out, "node-3") {
		t.Errorf("the page ends with\n%s", out)
	}
	page.run("seatkeeper checkout cad --user ann --host ws1")
	for i, n := range nodes {
		n.signal(syscall.SIGTERM)
		if code := n.exitCode(); code != 0 {
			t.Errorf("%s ends with %d: %s", names[i], code, n.stderr.String())
		}
	}
}

func replaceAll(text string, by map[string]string) string {
	var list []string
	for from, to := range by {
		list = append(list, from, to)
	}
	return strings.NewReplacer(list...).Replace(text)
}

// composed gives what compose would start, moved to loopback.
type composed struct {
	t         *testing.T
	file      composeFile
	dir       string
	variables map[string]string
	port      int
}

// commandLine is what the image's entry point is started with.
func (c *composed) commandLine(name string, i int) (args, env []string) {
	c.t.Helper()
	for k, v := range c.environment(name, i) {
		env = append(env, k+"="+v)
	}
	return c.inside(name, i, c.file.Services[name].Command), env
}

// environment fills the variables of .env in, and fails where one is missing.
func (c *composed) environment(name string, i int) map[string]string {
	c.t.Helper()
	env := map[string]string{}
	for k, v := range c.file.Services[name].Environment {
		v = regexp.MustCompile(`\$\{([A-Z_]+)(:[?-])[^}]*\}`).ReplaceAllStringFunc(v, func(use string) string {
			m := regexp.MustCompile(`[A-Z_]+`).FindString(use)
			if c.variables[m] == "" {
				c.t.Fatalf("%s is not in .env", m)
			}
			return c.variables[m]
		})
		env[k] = c.inside(name, i, []string{v})[0]
	}
	return env
}

// inside turns paths and addresses of a container into those of this host.
func (c *composed) inside(name string, i int, texts []string) []string {
	c.t.Helper()
	place := filepath.Join(c.dir, "containers", name)
	moved := map[string]string{"/run/secrets/": place + "/secrets/", "/etc/seatkeeper/": place + "/", "/var/lib/seatkeeper": place + "/data"}
	for k := range 3 {
		port := c.port + portsPerNode*k
		moved[fmt.Sprintf("node-%d:%d", k+1, raftPort)] = loopback(port + 1)
		moved[fmt.Sprintf("node-%d:%d", k+1, gossipPort)] = loopback(port + 2)
		moved[fmt.Sprintf("127.0.0.1:%d", apiPort+portsPerNode*k)] = loopback(port)
	}
	for k := range 3 {
		moved[fmt.Sprintf("0.0.0.0:%d", apiPort+k)] = fmt.Sprintf("0.0.0.0:%d", c.port+portsPerNode*i+k)
	}
	if _, err := os.Stat(place); err != nil {
		c.mount(name, place, moved)
	}
	var out []string
	for _, text := range texts {
		out = append(out, replaceAll(text, moved))
	}
	return out
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// mount puts a container's files where its node finds them.
func (c *composed) mount(name, place string, moved map[string]string) {
	c.t.Helper()
	if err := os.MkdirAll(filepath.Join(place, "secrets"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	copyTo := func(from, to string, by map[string]string) {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, []byte(replaceAll(string(text), by)), 0o600)
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	s := c.file.Services[name]
	for _, m := range s.Secrets {
		copyTo(filepath.Join(c.dir, c.file.Secrets[m.Source].File), filepath.Join(place, "secrets", m.Target), nil)
	}
	for _, m := range s.Configs {
		copyTo(filepath.Join(composeDir, c.file.Configs[m.Source].File), filepath.Join(place, filepath.Base(m.Target)), moved)
	}
}
