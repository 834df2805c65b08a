//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A server that is told to reload while it starts must not end by it. Its config is a pipe
// here: who can write to it knows that the server has begun, and has read nothing yet.
func TestAServerThatStartsOutlivesHangups(t *testing.T) {
	t.Parallel()
	// With one processor for Go a server does not start itself again for its timers.
	for name, env := range map[string][]string{"starts again": nil, "does not start again": {"GOMAXPROCS=1"}} {
		t.Run(name, func(t *testing.T) { outlivesHangups(t, env) })
	}
}

func outlivesHangups(t *testing.T, env []string) {
	config := filepath.Join(t.TempDir(), "pipe.yaml")
	if err := syscall.Mkfifo(config, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, env, "server", "--config", config)
	var pipe *os.File
	eventually(t, "the server to read its config", func() (err error) {
		select {
		case <-p.exited:
			t.Fatalf("it has ended: %v %s", p.cmd.ProcessState, p.stderr.String())
		default:
		}
		pipe, err = os.OpenFile(config, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err
	})
	for range 100 {
		p.signal(syscall.SIGHUP)
	}
	fmt.Fprintln(pipe, "no_such_key: 1")
	pipe.Close()
	if code := p.exitCode(); code != exitConfig {
		t.Errorf("it ends with %d (%v), want %d for its config: %s", code, p.cmd.ProcessState, exitConfig, p.stderr.String())
	}
}

// Who starts a server may have it ignore hangups (nohup): then none ends it, however early
// it comes, and however often the server starts itself again.
func TestHangupsThatAreIgnoredAtTheStartNeverEndAServer(t *testing.T) {
	t.Parallel()
	config := write(t, "wrong.yaml", "no_such_key: 1\n")
	sent, servers := 0, 20
	if testing.Short() { // make stories tries all
		servers = 5
	}
	for range servers {
		cmd := exec.Command("sh", "-c", `trap "" HUP; echo; exec "$0" server --config "$1"`, programUnderTest(t), config)
		cmd.Env = withoutSettings(os.Environ())
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // now they are ignored
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		tick := time.NewTicker(100 * time.Microsecond)
		for alive := true; alive; {
			select {
			case <-ended:
				alive = false
			case <-tick.C:
				_ = cmd.Process.Signal(syscall.SIGHUP)
				sent++
			}
		}
		tick.Stop()
		if code := cmd.ProcessState.ExitCode(); code != exitConfig {
			t.Fatalf("after %d hangups it ends with %v, want %d for its config", sent, cmd.ProcessState, exitConfig)
		}
	}
	if sent < 5*servers {
		t.Errorf("only %d hangups were sent", sent)
	}
}

// readiness is where a process tells that it is ready, as systemd listens.
func readiness(t *testing.T) (socket string, ready func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return socket, func() error {
		told := make([]byte, 64)
		if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := l.Read(told)
		if err == nil && string(told[:n]) != "READY=1" {
			err = fmt.Errorf("told %q", told[:n])
		}
		return err
	}
}

// systemd sends no reload before a service has said that it is ready; from then on each counts.
func TestServerAndAgentSayWhenTheyAreReadyAndReloadFromThenOn(t *testing.T) {
	t.Parallel()
	d, err := newDevCluster(programUnderTest(t), t.TempDir(), 1, takePorts(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"server": {"server", "--config", d.nodes[0].Config},
		"agent":  {"agent", "--addr", d.nodes[0].API, "--socket", filepath.Join(t.TempDir(), "s"), "--state-dir", filepath.Join(t.TempDir(), "state")},
	} {
		socket, ready := readiness(t)
		p := start(t, []string{"NOTIFY_SOCKET=" + socket}, args...)
		if err := ready(); err != nil {
			t.Fatalf("%s: %v: %s", name, err, p.stderr.String())
		}
		p.signal(syscall.SIGHUP)
		eventually(t, name+" to reload", func() error {
			if !strings.Contains(p.stderr.String(), "config reloaded") {
				return errors.New(p.stderr.String())
			}
			return nil
		})
		p.signal(syscall.SIGTERM)
		if code := p.exitCode(); code != exitOK {
			t.Errorf("%s ends with %d", name, code)
		}
	}
}
