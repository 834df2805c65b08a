//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestHealthSaysWhetherThisHostsNodeIsReady(t *testing.T) {
	port := takePorts(t)
	address := func(p int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p)) }
	// It joins a cluster that is not there: alive, and not ready.
	config := write(t, "node.yaml", fmt.Sprintf("name: n1\ndata_dir: %s\napi: {bind: 0.0.0.0:%d, advertise: %s}\nraft: {bind: %s}\ngossip: {bind: %s}\nbootstrap_expect: 0\njoin: [%s]\ninsecure: true\n",
		filepath.Join(t.TempDir(), "n1"), port, address(port), address(port+1), address(port+2), address(port+portsPerNode)))
	health := func(args ...string) (int, string, string) {
		return run(t, nil, append([]string{"health", "--config", config}, args...)...)
	}
	if code, _, stderr := health(); code != exitUnreachable || !strings.Contains(stderr, "no node answers at "+address(port)) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("without a node: exit code %d, %q", code, stderr)
	}
	node := start(t, nil, "server", "--config", config)
	eventually(t, "the node to answer", func() error {
		if code, out, stderr := health("--live"); code != 0 || out != "ok\n" {
			return fmt.Errorf("exit code %d, %s%s", code, out, stderr)
		}
		return nil
	})
	if code, _, stderr := health(); code != exitError1 || !strings.Contains(stderr, "no leader is known") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("without a leader: exit code %d, %q", code, stderr)
	}
	node.signal(syscall.SIGTERM)
	if code := node.exitCode(); code != 0 {
		t.Errorf("the server ends with %d: %s", code, node.stderr.String())
	}
	if code, _, _ := run(t, nil, "health"); code != exitUsage {
		t.Errorf("without a config: exit code %d, want %d", code, exitUsage)
	}
}

func TestSecretsComeFromFilesThatVariablesName(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	load := func(env map[string]string) (*loadedConfig, error) {
		return loadConfig("", func(name string) (string, bool) { v, ok := env[name]; return v, ok }, nil)
	}
	l, err := load(map[string]string{
		"SEATKEEPER_GOSSIP_KEY_FILE":  put("key", "one\n"),
		"SEATKEEPER_GOSSIP_KEYS_FILE": put("keys", "new\nold\n"),
		"SEATKEEPER_TOKEN_FILE":       put("token", "from-file\n"),
		"SEATKEEPER_TOKEN":            "from-env",
		"SEATKEEPER_NAME_FILE":        put("name", "nobody"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if l.Gossip.Key != "one" || strings.Join(l.Gossip.Keys, " ") != "new old" || l.Client.Token != "from-env" || l.Name == "nobody" {
		t.Errorf("key %q, keys %q, token %q, name %q", l.Gossip.Key, l.Gossip.Keys, l.Client.Token, l.Name)
	}
	if got := l.origin["gossip.key"]; got != "env SEATKEEPER_GOSSIP_KEY_FILE" {
		t.Errorf("config show would say that the key is from %q", got)
	}
	for name, want := range map[string]string{put("empty", "\n"): "is empty", filepath.Join(dir, "none"): "no such file"} {
		_, err := load(map[string]string{"SEATKEEPER_GOSSIP_KEY_FILE": name})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "SEATKEEPER_GOSSIP_KEY_FILE") {
			t.Errorf("%s: %v, want the file, its variable and %q", name, err, want)
		}
	}
}
