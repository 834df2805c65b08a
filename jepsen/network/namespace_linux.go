package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Namespace is a named network namespace with one TUN device that a switch reads.
type Namespace struct {
	Name string
	Addr netip.Addr
	path string
}

// namespaceDir is where ip(8) keeps named namespaces.
const namespaceDir = "/run/netns"

// device is the name of the TUN device in every namespace.
const device = "tun0"

// prefixBits: all ports of a switch are neighbours.
const prefixBits = 24

// NewNamespace makes a namespace that has loopback only.
func NewNamespace(name string, addr netip.Addr) (*Namespace, error) {
	n := &Namespace{Name: name, Addr: addr, path: filepath.Join(namespaceDir, name)}
	if err := ip("netns", "add", name); err != nil {
		return nil, err
	}
	if err := ip("-n", name, "link", "set", "lo", "up"); err != nil {
		return nil, errors.Join(err, n.Delete())
	}
	return n, nil
}

// Delete removes the namespace; its processes must have ended before. That it is gone
// already is no error.
func (n *Namespace) Delete() error { return DeleteNamespace(n.Name) }

// DeleteNamespace removes a namespace by its name.
func DeleteNamespace(name string) error {
	if _, err := os.Stat(filepath.Join(namespaceDir, name)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return ip("netns", "delete", name)
}

// Open makes the TUN device and returns this end of it. It ends with the device.
func (n *Namespace) Open() (*os.File, error) {
	var file *os.File
	err := n.Do(func() (err error) {
		file, err = openTUN(device)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", n.Name, err)
	}
	for _, args := range [][]string{
		{"addr", "add", netip.PrefixFrom(n.Addr, prefixBits).String(), "dev", device},
		{"link", "set", device, "mtu", fmt.Sprint(MTU), "txqueuelen", "1000", "up"},
	} {
		if err := ip(append([]string{"-n", n.Name}, args...)...); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return file, nil
}

func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err == nil {
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TUN device: %w", err), unix.Close(fd))
	}
	// After TUNSETIFF, so that the poller sees a device that can be polled.
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

// Do runs fn on a thread inside the namespace: sockets made and processes started by
// fn itself, not by goroutines it starts, belong there.
func (n *Namespace) Do(fn func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			errs <- err
			return
		}
		defer home.Close()
		if err := n.enter(); err != nil {
			errs <- err
			return
		}
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine
		errs <- err
	}()
	return <-errs
}

// enter moves the calling thread into the namespace.
func (n *Namespace) enter() error {
	there, err := os.Open(n.path)
	if err != nil {
		return err
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("setns %s: %w", n.path, err)
	}
	return nil
}

// Start starts a process in the namespace and calls exited when it has ended. The
// process is killed if this process ends first. before, if set, runs on the starting
// thread: what it changes about the thread the process inherits.
func (n *Namespace) Start(cmd *exec.Cmd, before func() error, exited func(error)) error {
	started := make(chan error, 1)
	go func() {
		// The kernel's promise to end the child is tied to this thread. It is never
		// unlocked, so it ends with the goroutine and nobody inherits what it became.
		runtime.LockOSThread()
		err := n.enter()
		if err == nil && before != nil {
			err = before()
		}
		if err == nil {
			err = cmd.Start()
		}
		started <- err
		if err == nil {
			exited(cmd.Wait())
		}
	}()
	return <-started
}

// DialContext connects from inside the namespace to a literal IP address and port.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		// A name would be looked up on other threads, outside.
		return nil, fmt.Errorf("dial from %s: %w", n.Name, err)
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
