//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease/license"
)

// A dev cluster of one node is enough for what one process does with its signals.
func startOneNode(t *testing.T) devReady {
	t.Helper()
	port := takePorts(t)
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 1, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if err := d.waitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.installLicence(t.Context(), []sampleFeature{{"cad", "1.0", 1, "lifespan 2s grace 1s", ""}}); err != nil {
		t.Fatal(err)
	}
	return devReady{Addresses: []string{d.nodes[0].API}, DataDir: d.dir, SignerFile: d.vendor.SignerFile,
		Nodes: []devReadyNode{{Name: d.nodes[0].Name, PID: d.nodes[0].pid(), Config: d.nodes[0].Config, Log: d.nodes[0].logPath()}}}
}

func TestRunTellsOfALostSeat(t *testing.T) {
	t.Parallel()
	ready := startOneNode(t)
	env := []string{"SEATKEEPER_ADDR=" + ready.Addresses[0]}
	script := `trap "exit 43" TERM; echo up; while :; do sleep 0.02; done`
	for onLost, wantCode := range map[string]int{"term": 43, "warn": 128 + int(syscall.SIGKILL)} {
		t.Run(onLost, func(t *testing.T) {
			p := start(t, env, "run", "cad", "--on-lost", onLost, "--", "sh", "-c", "echo $$; "+script)
			child := p.line()
			if up := p.line(); up != "up" {
				t.Fatalf("the command says %q", up)
			}
			ready.cli(t, 0, "kill", "--feature", "cad")
			if onLost == "warn" {
				// The command goes on: its seat is free again, and only we end it.
				eventually(t, "the line about the lost seat", func() error {
					if !strings.Contains(p.stderr.String(), "lost the seat of cad") {
						return fmt.Errorf("stderr: %q", p.stderr.String())
					}
					return nil
				})
				var pid int
				if _, err := fmt.Sscan(child, &pid); err != nil {
					t.Fatal(err)
				}
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			if code := p.exitCode(); code != wantCode {
				t.Errorf("exit code %d, want %d: %s", code, wantCode, p.stderr.String())
			}
			if got := p.stderr.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "removed_by_admin") {
				t.Errorf("stderr %q, want one line with the reason", got)
			}
		})
	}
}

func TestRunInterruptedWhileItWaitsTakesNothing(t *testing.T) {
	t.Parallel()
	ready := startOneNode(t)
	ready.cli(t, 0, "checkout", "cad", "--user", "hog", "--host", "h")
	p := start(t, []string{"SEATKEEPER_ADDR=" + ready.Addresses[0]}, "run", "cad", "--user", "me", "--wait", "1h", "--", "true")
	eventually(t, "the request to wait at the node", func() error {
		resp, err := http.Get("http://" + ready.Addresses[0] + "/metrics")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err == nil && !strings.Contains(string(data), "\nseatkeeper_rpc_waiting 1\n") {
			err = errors.New("nobody waits")
		}
		return err
	})
	p.signal(syscall.SIGTERM)
	if code := p.exitCode(); code != 128+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want 143: %s", code, p.stderr.String())
	}
	if out := ready.cli(t, 0, "leases", "--user", "me"); strings.Contains(out, "cad") {
		t.Errorf("it took a seat: %s", out)
	}
}

func TestHangupReloadsTrustedKeysAndLogLevel(t *testing.T) {
	t.Parallel()
	ready := startOneNode(t)
	signer, verifier, err := license.GenerateKey("zenith")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := license.Sign(sampleLicence("z-1", "zenith", []sampleFeature{{"zoom", "1.0", 1, "ci", ""}}, time.Now()), signer)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "z.lic", string(signed))
	ready.cli(t, 77, "license", "apply", file)

	config, err := os.ReadFile(ready.Nodes[0].Config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string) {
		if err := os.WriteFile(ready.Nodes[0].Config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(ready.Nodes[0].PID, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	logged := func(want string) {
		eventually(t, want+" in the log", func() error {
			data, err := os.ReadFile(ready.Nodes[0].Log)
			if err == nil && !strings.Contains(string(data), want) {
				err = fmt.Errorf("not yet in %s", filepath.Base(ready.Nodes[0].Log))
			}
			return err
		})
	}
	reload("nmae: typo\n")
	logged("config not reloaded")
	ready.cli(t, 77, "license", "apply", file)

	text := strings.Replace(string(config), "trusted_keys:\n", "trusted_keys:\n- "+verifier+"\n", 1)
	reload(strings.Replace(text, "level: info", "level: debug", 1))
	logged("config reloaded")
	ready.cli(t, 0, "license", "apply", file)
	ready.cli(t, 0, "checkout", "zoom")
	// The API notes garbage at debug level.
	c, err := net.Dial("tcp", ready.Addresses[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("garbage\r\n\r\n, more than a preface of HTTP/2 is long\n")); err != nil {
		t.Fatal(err)
	}
	logged("[DEBUG]")
}

func TestDevAgainOnTheSameDataKeepsEverything(t *testing.T) {
	inFull(t)
	port := takePorts(t)
	dir := t.TempDir()
	args := []string{"dev", "--nodes", "1", "--port", fmt.Sprint(port), "--data-dir", dir, "-o", "json"}
	first := start(t, nil, args...)
	first.line()
	ready := devReady{Addresses: []string{fmt.Sprintf("127.0.0.1:%d", port)}}
	ready.cli(t, 0, "checkout", "cad", "--user", "ann", "--host", "h")
	first.signal(syscall.SIGTERM)
	if code := first.exitCode(); code != 0 {
		t.Fatalf("dev ends with %d: %s", code, first.stderr.String())
	}
	again := start(t, nil, args...)
	again.line()
	if out := ready.cli(t, 0, "leases"); !strings.Contains(out, "ann") {
		t.Errorf("the lease did not survive: %s", out)
	}
	again.signal(syscall.SIGTERM)
	if code := again.exitCode(); code != 0 {
		t.Fatalf("dev ends with %d: %s", code, again.stderr.String())
	}
}
