package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cgroupRoot is where version 1 of control groups is mounted, one directory for each
// controller. Version 2 has no freezer, cpu and memory controller where version 1 took
// them.
const cgroupRoot = "/sys/fs/cgroup"

// The controllers that are used, and a file by which each is recognised.
var controllers = map[string]string{"freezer": "freezer.state", "cpu": "cpu.cfs_quota_us", "memory": "memory.limit_in_bytes"}

// groups are the control groups of one node, by controller; one that the machine lacks
// is not there.
type groups map[string]string

// Controllers says which control group controllers this machine has for us.
func Controllers() map[string]bool {
	has := map[string]bool{}
	for name := range controllers {
		if _, err := os.Stat(filepath.Join(cgroupRoot, name, "cgroup.procs")); err == nil {
			has[name] = true
		}
	}
	return has
}

// makeGroups makes the groups of one node: run/node below each controller.
func makeGroups(l *Ledger, run, node string) (groups, error) {
	g := groups{}
	for name := range Controllers() {
		parent := filepath.Join(cgroupRoot, name, run)
		dir := filepath.Join(parent, node)
		if err := l.note(func(m *made) { m.Cgroups = append(m.Cgroups, parent, dir) }); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if _, err := os.Stat(filepath.Join(dir, controllers[name])); err == nil {
			g[name] = dir
		}
	}
	return g, nil
}

func (g groups) add(pid int) error {
	var errs []error
	for _, dir := range g {
		errs = append(errs, writeFile(dir, "cgroup.procs", strconv.Itoa(pid)))
	}
	return errors.Join(errs...)
}

func (g groups) set(controller, file, value string) error {
	dir, ok := g[controller]
	if !ok {
		return fmt.Errorf("this machine has no %s controller of control groups version 1: %w", controller, errors.ErrUnsupported)
	}
	return writeFile(dir, file, value)
}

func (g groups) get(controller, file string) string {
	data, _ := os.ReadFile(filepath.Join(g[controller], file))
	return strings.TrimSpace(string(data))
}

func writeFile(dir, file, value string) error {
	return os.WriteFile(filepath.Join(dir, file), []byte(value), 0)
}

// freezeWait bounds freezing: a thread in the kernel is frozen when it comes out.
const freezeWait = 2 * time.Second

func (g groups) freeze() error {
	if err := g.set("freezer", "freezer.state", "FROZEN"); err != nil {
		return err
	}
	for end := time.Now().Add(freezeWait); g.get("freezer", "freezer.state") != "FROZEN"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.Join(fmt.Errorf("not frozen after %v", freezeWait), g.thaw())
		}
	}
	return nil
}

func (g groups) thaw() error { return g.set("freezer", "freezer.state", "THAWED") }

// thaw thaws a group that may be one of another controller, or gone.
func thaw(dir string) {
	if _, err := os.Stat(filepath.Join(dir, "freezer.state")); err == nil {
		_ = writeFile(dir, "freezer.state", "THAWED")
	}
}

// removeGroup removes an empty group; that it is gone already is no error.
func removeGroup(dir string) error {
	var err error
	for range 50 { // the last process may still be leaving
		if err = os.Remove(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}
