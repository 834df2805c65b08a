package run

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/network"
)

// Possible says what this machine lacks for a run; nil if it lacks nothing. It makes and
// removes a network namespace with a device, and a mounted disk.
func Possible() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: network namespaces, mounts and control groups")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("needs the ip command: install iproute2")
	}
	return errors.Join(possibleNetwork(), possibleDisk())
}

func possibleNetwork() (err error) {
	n, err := network.NewNamespace(fmt.Sprintf("skcan%d", os.Getpid()), netip.MustParseAddr("10.99.0.1"))
	if err != nil {
		return fmt.Errorf("cannot make a network namespace: %w", err)
	}
	defer func() { err = errors.Join(err, n.Delete()) }()
	device, err := n.Open()
	if err != nil {
		return fmt.Errorf("cannot make a network device: %w", err)
	}
	return device.Close()
}

func possibleDisk() (err error) {
	dir, err := os.MkdirTemp("", "seatkeeper-disk-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	x, err := disk.New(filepath.Join(dir, "top"), filepath.Join(dir, "under"))
	if err != nil {
		return err
	}
	if err := x.Mount(); err != nil {
		return errors.Join(fmt.Errorf("cannot mount a disk of our own: %w", err), x.Close())
	}
	return x.Close()
}
