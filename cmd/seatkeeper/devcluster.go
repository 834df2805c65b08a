package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

// devCluster is a cluster of real server processes on loopback, for dev, for the
// demo and for tests. Its directory holds a folder for each node, the vendor's keys
// and the licence.
type devCluster struct {
	dir       string
	temporary bool
	nodes     []*devNode
	vendor    devVendor
}

// devVendor is the made-up vendor that signs the sample licence.
type devVendor struct {
	Name        string
	VerifierKey string
	SignerFile  string
	LicenceFile string
}

// devNode is one server process.
type devNode struct {
	Name   string
	API    string
	Raft   string
	Gossip string
	Dir    string
	Config string

	binary string
	cpus   []int    // that the process may use; empty: all
	env    []string // settings beside those of the config file
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended
}

const (
	// portsPerNode is how far apart the API ports of dev nodes are: room for Raft and
	// gossip beside each.
	portsPerNode = 10
	// maxDevNodes: more than a cluster ever has.
	maxDevNodes = 7
	// devReadyTimeout bounds the start of all processes, an election and all joins.
	devReadyTimeout = 60 * time.Second
	// devStopTimeout is how long servers get to stop before they are killed.
	devStopTimeout = 10 * time.Second
	devVendorName  = "acme"
)

// newDevCluster writes the configs of n nodes with API ports from port on. An empty
// dir means a temporary one. What a dir of an earlier run holds is kept.
func newDevCluster(binary, dir string, n, port int) (*devCluster, error) {
	if n < 1 || n > maxDevNodes {
		return nil, usagef("--nodes %d: use 1 to %d", n, maxDevNodes)
	}
	if port < 1 || port+portsPerNode*n > 65535 {
		return nil, usagef("--port %d: use 1 to %d", port, 65535-portsPerNode*n)
	}
	d := &devCluster{dir: dir}
	if dir == "" {
		tmp, err := os.MkdirTemp("", "seatkeeper-dev-")
		if err != nil {
			return nil, err
		}
		d.dir, d.temporary = tmp, true
	}
	err := d.prepare(binary, n, port)
	if err != nil {
		d.removeTemporary()
		return nil, err
	}
	return d, nil
}

func (d *devCluster) prepare(binary string, n, port int) error {
	abs, err := filepath.Abs(d.dir)
	if err != nil {
		return err
	}
	d.dir = abs
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return exitf(exitError1, "%s: %s: choose another --data-dir", d.dir, fileMessage(err))
	}
	if err := d.makeVendor(); err != nil {
		return err
	}
	gossipKey, err := d.keep("gossip.key", newGossipKey)
	if err != nil {
		return err
	}
	label, err := d.keep("cluster.name", func() (string, error) {
		var b [4]byte
		rand.Read(b[:])
		return "dev-" + hex.EncodeToString(b[:]), nil
	})
	if err != nil {
		return err
	}
	address := func(p int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p)) }
	for i := range n {
		name := fmt.Sprintf("node-%d", i+1)
		p := port + portsPerNode*i
		d.nodes = append(d.nodes, &devNode{
			Name: name, API: address(p), Raft: address(p + 1), Gossip: address(p + 2),
			Dir: filepath.Join(d.dir, name), Config: filepath.Join(d.dir, name+".yaml"), binary: binary,
		})
	}
	for _, node := range d.nodes {
		if err := d.writeNodeConfig(node, label, gossipKey); err != nil {
			return err
		}
	}
	return nil
}

func newGossipKey() (string, error) {
	var key [gossipKeyBytes]byte
	rand.Read(key[:])
	return base64.StdEncoding.EncodeToString(key[:]), nil
}

// keep returns the content of a small file of the cluster's directory, made once.
func (d *devCluster) keep(name string, make func() (string, error)) (string, error) {
	path := filepath.Join(d.dir, name)
	data, err := readLimited(path, maxStateBytes)
	if err == nil {
		return strings.TrimSpace(string(data)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", exitf(exitError1, "%s: %s", path, fileMessage(err))
	}
	text, err := make()
	if err != nil {
		return "", err
	}
	return text, os.WriteFile(path, []byte(text+"\n"), 0o600)
}

// makeVendor makes the sample vendor's keys, once for each directory.
func (d *devCluster) makeVendor() error {
	d.vendor = devVendor{Name: devVendorName, SignerFile: filepath.Join(d.dir, "vendor.signer.key"), LicenceFile: filepath.Join(d.dir, "floating.lic")}
	var verifier string
	_, err := d.keep("vendor.signer.key", func() (string, error) {
		signer, public, err := license.GenerateKey(devVendorName)
		verifier = public
		return signer, err
	})
	if err != nil {
		return err
	}
	d.vendor.VerifierKey, err = d.keep("vendor.verifier.key", func() (string, error) {
		if verifier == "" {
			return "", exitf(exitError1, "%s has a signer key without its verifier key: choose another --data-dir", d.dir)
		}
		return verifier, nil
	})
	return err
}

func (d *devCluster) writeNodeConfig(node *devNode, label, gossipKey string) error {
	c := defaultConfig()
	c.Name, c.ClusterName, c.DataDir = node.Name, label, node.Dir
	c.API.Bind, c.Raft.Bind, c.Gossip.Bind, c.Gossip.Key = node.API, node.Raft, node.Gossip, gossipKey
	c.BootstrapExpect = len(d.nodes)
	c.TrustedKeys = []string{d.vendor.VerifierKey}
	c.Client.Addr = d.address()
	for _, other := range d.nodes {
		if other != node {
			c.Join = append(c.Join, other.Gossip)
		}
	}
	data, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return os.WriteFile(node.Config, data, 0o600)
}

// address is what clients are told: every node.
func (d *devCluster) address() string {
	var list []string
	for _, n := range d.nodes {
		list = append(list, n.API)
	}
	return strings.Join(list, ",")
}

// checkPorts finds a port in use before any process starts, to say it in one line.
func (d *devCluster) checkPorts(remedy string) error {
	for _, n := range d.nodes {
		for _, address := range []string{n.API, n.Raft, n.Gossip} {
			if err := checkFree(address, address == n.Gossip); err != nil {
				return exitf(exitError1, "%s of %s is in use: stop what uses it, or choose other ports with %s", address, n.Name, remedy)
			}
		}
	}
	return nil
}

func checkFree(address string, udpToo bool) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	l.Close()
	if !udpToo {
		return nil
	}
	u, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	return u.Close()
}

// freePorts finds a port from which n nodes find all they need free.
func freePorts(n int) (int, error) {
	const from, to = 20000, 32000 // below the range systems hand out by themselves
	start := from + int(time.Now().UnixNano()/1000%1000)*portsPerNode
	for i := 0; i < to-from; i += portsPerNode * n {
		port := from + (start-from+i)%(to-from)
		if blockFree(port, n) {
			return port, nil
		}
	}
	return 0, exitf(exitError1, "no %d free ports between %d and %d: choose them with --port", 3*n, from, to)
}

func blockFree(port, n int) bool {
	for i := range n {
		for k := range 3 {
			address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port+portsPerNode*i+k))
			if checkFree(address, k == 2) != nil {
				return false
			}
		}
	}
	return true
}

// start starts every server.
func (d *devCluster) start() error {
	for _, n := range d.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	return nil
}

// stop ends all servers, kindly first, and removes a temporary directory.
func (d *devCluster) stop() error {
	for _, n := range d.nodes {
		n.signal(terminateSignal)
	}
	deadline := time.NewTimer(devStopTimeout)
	defer deadline.Stop()
	for _, n := range d.nodes {
		if n.exited == nil {
			continue
		}
		select {
		case <-n.exited:
		case <-deadline.C:
			for _, late := range d.nodes {
				late.signal(os.Kill)
			}
			<-n.exited
		}
	}
	return d.removeTemporary()
}

func (d *devCluster) removeTemporary() error {
	if !d.temporary {
		return nil
	}
	return os.RemoveAll(d.dir)
}

// node returns the node whose name or server id (NAME-INCARNATION) is given.
func (d *devCluster) node(id string) *devNode {
	i := slices.IndexFunc(d.nodes, func(n *devNode) bool { return n.Name == id || strings.HasPrefix(id, n.Name+"-") })
	if i < 0 {
		return nil
	}
	return d.nodes[i]
}

// died returns the first server that has ended, if any.
func (d *devCluster) died() *devNode {
	for _, n := range d.nodes {
		if n.exited != nil && isClosed(n.exited) {
			return n
		}
	}
	return nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// start starts the server process, its output in a log beside its data.
func (n *devNode) start() error {
	logFile, err := os.OpenFile(n.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	cmd := exec.Command(n.binary, "server", "--config", n.Config)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.Env = append(withoutSettings(os.Environ()), n.env...)
	cmd.SysProcAttr = dieWithParent()
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// The kernel ends the child with the thread that started it, not with the
		// process: the thread must stay for as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := startOn(n.cpus, cmd)
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(exited)
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", n.Name, err)
	}
	n.cmd, n.exited = cmd, exited
	return nil
}

// startOn starts a server that may use only some CPUs. The calling goroutine is
// locked to its thread, from which the process inherits them and the slack of its timers.
func startOn(cpus []int, cmd *exec.Cmd) error {
	defer lendTimerSlack()()
	if len(cpus) == 0 {
		return cmd.Start()
	}
	undo, err := load.PinThread(cpus)
	if err != nil {
		return err
	}
	defer undo()
	return cmd.Start()
}

// withoutSettings drops our own variables, so that a developer's shell does not
// change the servers.
func withoutSettings(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, "SEATKEEPER_") })
}

func (n *devNode) logPath() string { return n.Dir + ".log" }

func (n *devNode) pid() int {
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

func (n *devNode) signal(s os.Signal) {
	if n.cmd != nil && !isClosed(n.exited) {
		_ = n.cmd.Process.Signal(s)
	}
}

// kill ends the process as a power failure would, and waits until it is gone.
func (n *devNode) kill() {
	n.signal(os.Kill)
	<-n.exited
}

// lastLog is the last line that the server wrote, for an error message.
func (n *devNode) lastLog() string {
	data, err := os.ReadFile(n.logPath())
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(lines[len(lines)-1])
}

// waitFor asks until check has no objection or the bound passes.
func waitFor(ctx context.Context, what string, bound time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return exitf(exitError1, "%s did not happen within %s: %v", what, bound, err)
		case <-tick.C:
		}
	}
}
