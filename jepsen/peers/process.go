package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	// readyBound is how long servers may take to serve, stopBound to end before they
	// are killed.
	readyBound = 30 * time.Second
	stopBound  = 10 * time.Second
)

// process is a server that was started here.
type process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// startProcess starts a server with its output in a log in dir. It ends with us,
// whatever becomes of us.
func startProcess(dir, name, binary string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...), log: filepath.Join(dir, name+".log"), exited: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	go func() {
		// The kernel ends the child with the thread that started it: that must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			close(p.exited)
		}
	}()
	return p, <-started
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(stopBound):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// self starts a server that is a command of this program.
func self(dir, name string, args ...string) (*process, error) {
	binary, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startProcess(dir, name, binary, args...)
}

func stopAll(list []*process) {
	for _, p := range list {
		p.stop()
	}
}

// waitReady asks until check has no objection.
func waitReady(ctx context.Context, list []*process, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyBound)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		for _, p := range list {
			select {
			case <-p.exited:
				text, _ := os.ReadFile(p.log)
				return fmt.Errorf("a server has ended: %s", text[max(0, len(text)-500):])
			default:
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready within %s: %w", readyBound, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freeAddresses finds n addresses of loopback that nobody listens on.
func freeAddresses(n int) ([]string, error) {
	var list []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // all at the end, so that all are different
		list = append(list, net.JoinHostPort("127.0.0.1", strconv.Itoa(l.Addr().(*net.TCPAddr).Port)))
	}
	return list, nil
}
