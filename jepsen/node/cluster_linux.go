package node

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/disk"
	"github.com/seatkeeper/seatkeeper/jepsen/network"
)

// Options say what cluster to make.
type Options struct {
	// Run names everything that is made on the machine; Dir is where files go.
	Run, Dir string
	// Binary is the server; Env is added to its environment.
	Binary string
	Env    []string
	Nodes  int
	// Groups are the names of the groups of clients; each gets a namespace.
	Groups []string
	// LogStore is the servers' log_store: bolt or wal.
	LogStore string
	Seed     uint64
	// Surprise is told of every process that ended though nobody wanted it.
	Surprise func(*Node, Exit)
	// RestartAfter is when such a process is started again; default 1 s.
	RestartAfter time.Duration
}

// Group is a place for clients: an address, no process.
type Group struct {
	Name      string
	Addr      netip.Addr
	Namespace *network.Namespace
}

// Cluster is all nodes, groups and the switch between them.
type Cluster struct {
	Options
	Ledger *Ledger
	Switch *network.Switch
	Nodes  []*Node
	Groups []*Group
	// Audited says that the servers keep an audit log.
	Audited bool

	gossipKey string
	verifier  string

	mu    sync.Mutex
	guest []*Node // added while the run goes on
	next  int
}

// The one subnet of every run. Runs do not meet: each has its own namespaces.
var subnet = [4]byte{10, 77, 0, 0}

// Addresses of groups begin here, those of nodes at 1.
const firstGroup = 101

// New makes namespaces, switch, disks and configs. Close takes them away, also after
// an error of a later step. Needs root.
func New(o Options) (_ *Cluster, err error) {
	if o.LogStore == "" {
		o.LogStore = "bolt"
	}
	if o.RestartAfter == 0 {
		o.RestartAfter = time.Second
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	ledger, err := OpenLedger(o.Run)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Options: o, Ledger: ledger, Switch: network.NewSwitch(o.Seed)}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if err := c.makeKeys(); err != nil {
		return nil, err
	}
	var key [32]byte
	rand.Read(key[:])
	c.gossipKey = base64.StdEncoding.EncodeToString(key[:])
	c.Audited = c.knowsAudit()
	for range o.Nodes {
		n, err := c.addNode()
		if n != nil {
			c.Nodes = append(c.Nodes, n)
		}
		if err != nil {
			return nil, err
		}
	}
	for i, name := range o.Groups {
		if err := c.addGroup(name, byte(firstGroup+i)); err != nil {
			return nil, err
		}
	}
	for _, n := range c.Nodes {
		if err := c.writeConfig(n, o.Nodes); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// namespace makes a namespace that is a port of the switch.
func (c *Cluster) namespace(name string, last byte) (*network.Namespace, netip.Addr, error) {
	a := subnet
	a[3] = last
	addr := netip.AddrFrom4(a)
	full := c.Run + "-" + name
	if err := c.Ledger.note(func(m *made) { m.Namespaces = append(m.Namespaces, full) }); err != nil {
		return nil, addr, err
	}
	ns, err := network.NewNamespace(full, addr)
	if err != nil {
		return nil, addr, err
	}
	dev, err := ns.Open()
	if err != nil {
		return nil, addr, err
	}
	return ns, addr, c.Switch.AddPort(name, addr, dev)
}

func (c *Cluster) addGroup(name string, last byte) error {
	ns, addr, err := c.namespace(name, last)
	if err != nil {
		return err
	}
	c.Groups = append(c.Groups, &Group{Name: name, Addr: addr, Namespace: ns})
	return nil
}

// addNode makes the place of one node. What it returns beside an error has a disk that
// must be closed.
func (c *Cluster) addNode() (*Node, error) {
	c.next++
	if c.next >= firstGroup {
		return nil, fmt.Errorf("%d nodes: no address is left for another", c.next)
	}
	name := fmt.Sprintf("n%d", c.next)
	ns, addr, err := c.namespace(name, byte(c.next))
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(c.Dir, "nodes", name)
	mountpoint := filepath.Join(dir, "disk")
	if err := c.Ledger.note(func(m *made) { m.Mounts = append(m.Mounts, mountpoint) }); err != nil {
		return nil, err
	}
	d, err := disk.New(mountpoint, filepath.Join(dir, "backing"))
	if err != nil {
		return nil, err
	}
	n := &Node{Name: name, Addr: addr, Disk: d, cluster: c, namespace: ns,
		Config: filepath.Join(dir, "config.yaml"), Log: filepath.Join(dir, "log"), Audit: filepath.Join(dir, "audit.json")}
	n.groups, err = makeGroups(c.Ledger, c.Run, name)
	return n, err
}

// Invite makes one more node, which joins when it is started. It is not among Nodes, so
// that nothing but its inviter meddles with it.
func (c *Cluster) Invite() (*Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.addNode()
	if n != nil {
		c.guest = append(c.guest, n)
	}
	if err != nil {
		return nil, err
	}
	return n, c.writeConfig(n, 0)
}

// Dismiss ends an invited node for good.
func (c *Cluster) Dismiss(n *Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.guest, n)
	if i < 0 {
		return nil
	}
	c.guest = slices.Delete(c.guest, i, i+1)
	return errors.Join(n.Kill(), n.Disk.Close())
}

func (c *Cluster) surprise(n *Node, e Exit) {
	if c.Surprise != nil {
		go c.Surprise(n, e) // the caller holds the node's lock
	}
}

// writeConfig writes the config of a node; expect is how many nodes found the cluster.
func (c *Cluster) writeConfig(n *Node, expect int) error {
	var join []string
	for _, other := range c.Nodes {
		if other != n {
			join = append(join, fmt.Sprintf("%q", netip.AddrPortFrom(other.Addr, GossipPort)))
		}
	}
	bind := func(port uint16) string { return fmt.Sprintf("%q", netip.AddrPortFrom(n.Addr, port)) }
	text := fmt.Sprintf(`name: %s
cluster_name: %s
data_dir: %s
log_store: %s
api: {bind: %s}
raft: {bind: %s}
gossip: {bind: %s, key: %q}
bootstrap_expect: %d
join: [%s]
trusted_keys: [%q]
snapshots: {entries: 1000}
insecure: true
`, n.Name, c.Run, n.DataDir(), c.LogStore, bind(APIPort), bind(RaftPort), bind(GossipPort), c.gossipKey, expect, strings.Join(join, ", "), c.verifier)
	if c.Audited {
		text += fmt.Sprintf("audit: {file: %s}\n", n.Audit)
	}
	return os.WriteFile(n.Config, []byte(text), 0o600)
}

// knowsAudit asks the binary whether it can keep an audit log.
func (c *Cluster) knowsAudit() bool {
	out, err := c.Command("config", "init", "-")
	return err == nil && strings.Contains(string(out), "audit:")
}

// commandWait bounds a command of the binary that talks to nobody.
const commandWait = 30 * time.Second

// Command runs a command of the binary here, outside the namespaces.
func (c *Cluster) Command(args ...string) ([]byte, error) {
	cmd := exec.Command(c.Binary, args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=/nonexistent"}, c.Env...)
	cmd.WaitDelay = commandWait
	timer := time.AfterFunc(commandWait, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// vendor is who signs the licences of a run.
const vendor = "jepsen"

func (c *Cluster) makeKeys() error {
	prefix := filepath.Join(c.Dir, vendor)
	if _, err := os.Stat(prefix + ".verifier.key"); err != nil {
		if _, err := c.Command("license", "keygen", vendor, "--out", prefix); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(prefix + ".verifier.key")
	c.verifier = strings.TrimSpace(string(data))
	return err
}

// Pool is one feature of a licence.
type Pool struct {
	Tenant, Feature string
	Count           int
	Lifespan, Grace time.Duration
	// Share is a share rule in the licence's grammar; empty means none.
	Share string
	// Borrow lets seats be borrowed for so long; 0: not.
	Borrow time.Duration
}

// Sign makes a signed licence file of pools of one tenant.
func (c *Cluster) Sign(id, tenant string, pools []Pool) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "seatkeeper-license/1\nlicense: %s\nvendor: %s\ntenant: %s\ncluster: any\nissued: 2026-01-01\n", id, vendor, tenant)
	for _, p := range pools {
		share := p.Share
		if share == "" {
			share = "none"
		}
		fmt.Fprintf(&b, "\nfeature: %s\nversion: 1.0\ncount: %d\nexpiry: never\nserial: %s-%s\nprofile: lifespan %s grace %s\nshare: %s\n",
			p.Feature, p.Count, id, p.Feature, seconds(p.Lifespan), seconds(p.Grace), share)
		if p.Borrow > 0 {
			fmt.Fprintf(&b, "borrow: %dh\n", int(p.Borrow.Hours()))
		}
	}
	doc := filepath.Join(c.Dir, "licences", id+".txt")
	if err := os.MkdirAll(filepath.Dir(doc), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(doc, []byte(b.String()), 0o644); err != nil {
		return nil, err
	}
	signed := filepath.Join(c.Dir, "licences", id+".lic")
	if _, err := c.Command("license", "sign", doc, "--key", filepath.Join(c.Dir, vendor+".signer.key"), "--out", signed); err != nil {
		return nil, err
	}
	return os.ReadFile(signed)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// Start starts all nodes.
func (c *Cluster) Start() error {
	var errs []error
	for _, n := range c.Nodes {
		errs = append(errs, n.Start())
	}
	return errors.Join(errs...)
}

// Addresses are the APIs of all nodes.
func (c *Cluster) Addresses() []string {
	var list []string
	for _, n := range c.Nodes {
		list = append(list, n.API())
	}
	return list
}

// Node finds a node by its name or by a server id that begins with it.
func (c *Cluster) Node(id string) *Node {
	i := slices.IndexFunc(c.Nodes, func(n *Node) bool { return n.Name == id || strings.HasPrefix(id, n.Name+"-") })
	if i < 0 {
		return nil
	}
	return c.Nodes[i]
}

// Group finds a group of clients by its name.
func (c *Cluster) Group(name string) *Group {
	i := slices.IndexFunc(c.Groups, func(g *Group) bool { return g.Name == name })
	if i < 0 {
		return nil
	}
	return c.Groups[i]
}

// Close ends every process and takes everything away but the files. It may be called
// twice.
func (c *Cluster) Close() error {
	if c.Ledger == nil {
		return nil
	}
	errs := make([]error, len(c.Nodes))
	done := make(chan int)
	for i, n := range c.Nodes {
		go func() { errs[i] = n.Kill(); done <- i }()
	}
	for range c.Nodes {
		<-done
	}
	errs = append(errs, c.Switch.Close())
	for _, n := range c.Nodes {
		errs = append(errs, n.Disk.Close())
	}
	for _, n := range slices.Clone(c.guest) {
		errs = append(errs, c.Dismiss(n))
	}
	errs = append(errs, c.Ledger.Clean())
	c.Ledger = nil
	return errors.Join(errs...)
}
