package node

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/network"
)

// Ports of every node, on its own address.
const (
	APIPort    = 7800
	RaftPort   = 7801
	GossipPort = 7802
)

// stopWait is how long a server gets to stop by itself; it bounds its own steps at 9 s.
const stopWait = 15 * time.Second

// Exit is the end of a process.
type Exit struct {
	At       time.Time
	Code     int
	Signal   syscall.Signal
	Wanted   bool
	LastLine string
}

func (e Exit) String() string {
	if e.Signal != 0 {
		return "signal " + e.Signal.String()
	}
	return "exit code " + strconv.Itoa(e.Code)
}

// Node is one place for a server. Its methods may be called from several goroutines;
// starting and ending are one at a time.
type Node struct {
	Name string
	Addr netip.Addr
	Disk *disk.Disk
	// Config, Log and Audit are files outside the disk: no fault touches them.
	Config, Log, Audit string
	// UptimeOffset moves the clocks that count since boot, from the next start on.
	UptimeOffset time.Duration

	cluster   *Cluster
	namespace *network.Namespace
	groups    groups

	life sync.Mutex // held while starting or ending
	mu   sync.Mutex
	proc *process
	// wanted says that a process should run: one that ends by itself is started again.
	wanted  bool
	exits   []Exit
	restart *time.Timer
	starts  int
	clock   *clock
}

type process struct {
	id     Process
	exited chan struct{}
}

// API is host:port of the node's API.
func (n *Node) API() string { return netip.AddrPortFrom(n.Addr, APIPort).String() }

// PID is that of the running process, or 0.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc == nil {
		return 0
	}
	return n.proc.id.PID
}

// Running says whether a process runs (or stands still, paused).
func (n *Node) Running() bool { return n.PID() != 0 }

// Exits are the ends of all processes so far.
func (n *Node) Exits() []Exit {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Exit(nil), n.exits...)
}

// Start starts the server, unless it runs.
func (n *Node) Start() error {
	n.life.Lock()
	defer n.life.Unlock()
	return n.start()
}

func (n *Node) start() error {
	if n.Running() {
		return nil
	}
	if err := n.Disk.Mount(); err != nil {
		return err
	}
	log, err := os.OpenFile(n.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	fmt.Fprintf(log, "--- start %d at %s\n", n.starts+1, time.Now().Format(time.RFC3339Nano))
	cmd := exec.Command(n.cluster.Binary, "server", "--config", n.Config)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}, n.cluster.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{exited: make(chan struct{})}
	n.mu.Lock()
	n.wanted = true
	n.mu.Unlock()
	err = n.namespace.Start(cmd, n.moveUptime, func(error) { n.ended(p, cmd.ProcessState) })
	if err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	n.starts++
	id, err := ProcessOf(cmd.Process.Pid)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has ended already, which is told elsewhere
	}
	if err != nil {
		return err
	}
	p.id = id
	n.mu.Lock()
	select {
	case <-p.exited:
	default:
		n.proc = p
	}
	n.clock = nil
	n.mu.Unlock()
	err = errors.Join(n.cluster.Ledger.process(id.PID), n.groups.add(id.PID))
	if !id.Alive() {
		return nil
	}
	return err
}

// moveUptime gives the process to be a time namespace. It runs on the starting thread.
func (n *Node) moveUptime() error {
	if n.UptimeOffset == 0 {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("time namespace: %w", err)
	}
	seconds := int64(n.UptimeOffset / time.Second)
	text := fmt.Sprintf("monotonic %d 0\nboottime %d 0\n", seconds, seconds)
	return os.WriteFile(fmt.Sprintf("/proc/%d/timens_offsets", unix.Gettid()), []byte(text), 0)
}

// ended takes in the end of a process, and starts another after a while as a
// supervisor would, if nobody wanted the end.
func (n *Node) ended(p *process, state *os.ProcessState) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := Exit{At: time.Now(), Wanted: !n.wanted, LastLine: lastLine(n.Log)}
	if state != nil {
		e.Code = state.ExitCode()
		if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal()
		}
	}
	n.exits = append(n.exits, e)
	n.proc = nil
	close(p.exited)
	if n.wanted {
		n.cluster.surprise(n, e)
		n.restart = time.AfterFunc(n.cluster.RestartAfter, func() { n.revive() })
	}
}

// revive starts a server that ended by itself, if it is still wanted.
func (n *Node) revive() {
	n.life.Lock()
	defer n.life.Unlock()
	n.mu.Lock()
	wanted := n.wanted
	n.mu.Unlock()
	if wanted {
		_ = n.start()
	}
}

func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const tail = 4096
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		_, _ = f.Seek(-tail, 2)
	}
	buf := make([]byte, tail)
	k, _ := f.Read(buf)
	lines := strings.Split(strings.TrimSpace(string(buf[:k])), "\n")
	return lines[len(lines)-1]
}

// Signal sends a signal to the process, if it runs.
func (n *Node) Signal(s syscall.Signal) error {
	pid := n.PID()
	if pid == 0 {
		return fmt.Errorf("%s does not run", n.Name)
	}
	return syscall.Kill(pid, s)
}

// Kill ends the process at once, whatever state it is in, and waits until it is gone.
func (n *Node) Kill() error { return n.end(syscall.SIGKILL) }

// Stop asks the process to end, and kills it if it does not in time.
func (n *Node) Stop() error { return n.end(syscall.SIGTERM) }

func (n *Node) end(s syscall.Signal) error {
	n.life.Lock()
	defer n.life.Unlock()
	n.mu.Lock()
	n.wanted = false
	if n.restart != nil {
		n.restart.Stop()
	}
	p := n.proc
	n.mu.Unlock()
	if p == nil {
		return nil
	}
	_ = syscall.Kill(p.id.PID, s)
	_ = n.Thaw()
	_ = syscall.Kill(p.id.PID, syscall.SIGCONT)
	if s != syscall.SIGKILL {
		select {
		case <-p.exited:
			return nil
		case <-time.After(stopWait):
			_ = syscall.Kill(p.id.PID, syscall.SIGKILL)
		}
	}
	// A request that hangs in the disk would keep the process from dying.
	hung := n.Disk.Faults()
	if hung.Hang {
		n.Disk.SetFaults(disk.Faults{WriteError: true, SyncError: true})
		defer n.Disk.SetFaults(hung)
	}
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopWait):
		return fmt.Errorf("%s (pid %d) does not die", n.Name, p.id.PID)
	}
}

// Pause stops the process as SIGSTOP does; Resume goes on.
func (n *Node) Pause() error  { return n.Signal(syscall.SIGSTOP) }
func (n *Node) Resume() error { return n.Signal(syscall.SIGCONT) }

// Freeze stops the process by the freezer, which it cannot notice; Thaw goes on.
func (n *Node) Freeze() error { return n.groups.freeze() }
func (n *Node) Thaw() error   { return n.groups.thaw() }

// cpuPeriod is over what time a CPU quota is shared out, in microseconds.
const cpuPeriod = 100_000

// StarveCPU leaves the node a share of one processor; 0 or less means all.
func (n *Node) StarveCPU(share float64) error {
	quota := "-1"
	if share > 0 {
		quota = strconv.Itoa(max(int(share*cpuPeriod), 1000))
	}
	return n.groups.set("cpu", "cpu.cfs_quota_us", quota)
}

// Throttled is how often the CPU quota held the node up.
func (n *Node) Throttled() int {
	for line := range strings.Lines(n.groups.get("cpu", "cpu.stat")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "nr_throttled "); ok {
			k, _ := strconv.Atoi(v)
			return k
		}
	}
	return 0
}

// StarveMemory limits the node's memory to bytes; 0 means no limit. The error wraps EBUSY
// when the kernel cannot take back enough of what the node has.
func (n *Node) StarveMemory(bytes int64) error {
	value := "-1"
	if bytes > 0 {
		value = strconv.FormatInt(bytes, 10)
	}
	return n.groups.set("memory", "memory.limit_in_bytes", value)
}

// MemoryUsed is how many bytes are charged to the node now: its heap, and the pages of
// files that it brought in. Pages of the binary count where they were read first.
func (n *Node) MemoryUsed() int64 {
	k, _ := strconv.ParseInt(n.groups.get("memory", "memory.usage_in_bytes"), 10, 64)
	return k
}

// MemoryRefused is how often the memory limit was hit.
func (n *Node) MemoryRefused() int {
	k, _ := strconv.Atoi(n.groups.get("memory", "memory.failcnt"))
	return k
}

// LimitFiles lowers how many descriptors the process may have open; 0 gives back what
// it had. It returns how many it has now.
func (n *Node) LimitFiles(limit uint64) (open int, err error) {
	pid := n.PID()
	if pid == 0 {
		return 0, fmt.Errorf("%s does not run", n.Name)
	}
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, err
	}
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return len(entries), err
	}
	set := unix.Rlimit{Cur: limit, Max: old.Max}
	if limit == 0 {
		set.Cur = old.Max
	}
	return len(entries), unix.Prlimit(pid, unix.RLIMIT_NOFILE, &set, nil)
}

// DataDir is the node's data directory as the server sees it.
func (n *Node) DataDir() string { return filepath.Join(n.Disk.Mountpoint, "data") }
