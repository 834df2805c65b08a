package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

// Settings of gossip that differ from memberlist's own.
const (
	// rejoinAlone is how often an isolated node asks its join addresses; rejoin is how
	// often any node does, so that two halves that forgot each other meet again.
	rejoinAlone = time.Second
	rejoin      = 30 * time.Second
	// reclaimTime after which a member that moved may take its name along.
	reclaimTime = 10 * time.Second
	// gossipTimeout bounds one TCP exchange, and so how long stopping may take.
	gossipTimeout = 2 * time.Second
	// publishTimeout bounds the wait for a broadcast; it travels later anyway.
	publishTimeout = 500 * time.Millisecond
	// maxLeft bounds the members remembered as gone: a cluster has nine at
	// most, and each emptied directory makes another.
	maxLeft = 1000
	// runLength is the length of a run's name in letters of five bits each.
	runLength = 8
	// farewell begins the message of a member that goes away on purpose; its id and run
	// follow.
	farewell = "left "
)

// gossip is Discovery over memberlist. A member's name there is its full server id.
type gossip struct {
	list    *memberlist.Memberlist
	log     hclog.Logger
	changed chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup

	name    string // the server id
	address string
	run     string              // of this process: tells news of a restart from late news
	keyring *memberlist.Keyring // nil: gossip is not encrypted

	mu      sync.Mutex
	meta    []byte
	members map[string]neighbour // by memberlist name, kept up to date by its callbacks
	left    map[string]string    // of members that went, by id, the run that said goodbye, or ""
}

// neighbour is a live member and where it gossips: copies, because the nodes that memberlist
// hands out change under the reader.
type neighbour struct {
	Member
	node memberlist.Node
}

// startGossip listens, and joins in the background until somebody answers.
func startGossip(cfg Config, self Member, m *doorMetrics) (*gossip, error) {
	g := &gossip{name: self.ID, log: cfg.Logger.Named("gossip"), changed: make(chan struct{}, 1), run: rand.Text()[:runLength], members: make(map[string]neighbour), left: make(map[string]string)}
	if err := g.setMeta(self); err != nil {
		return nil, err
	}
	mc, err := g.memberlistConfig(cfg, self.ID)
	if err != nil {
		return nil, err
	}
	door, err := listenGossip(mc, m)
	if err != nil {
		return nil, fmt.Errorf("gossip address %s: %w", cfg.GossipAddr, err)
	}
	if g.list, err = memberlist.Create(mc); err != nil {
		_ = door.Shutdown()
		return nil, fmt.Errorf("gossip address %s: %w", cfg.GossipAddr, err)
	}
	g.address = g.list.LocalNode().Address()
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	g.done.Go(func() { g.join(ctx, cfg.Join) })
	return g, nil
}

func (g *gossip) memberlistConfig(cfg Config, name string) (*memberlist.Config, error) {
	host, port, err := splitAddr("gossip address", cfg.GossipAddr)
	if err != nil {
		return nil, err
	}
	if err := portFree("gossip address", cfg.GossipAddr); err != nil {
		return nil, err
	}
	mc := memberlist.DefaultLANConfig()
	if isLoopback(host) {
		mc = memberlist.DefaultLocalConfig()
	}
	mc.Name = name
	mc.Label = "seatkeeper/" + cfg.ClusterName
	mc.BindAddr, mc.BindPort = host, port
	mc.AdvertisePort = port
	if cfg.GossipAdvertise != "" {
		ahost, aport, err := splitAddr("gossip advertise address", cfg.GossipAdvertise)
		if err != nil {
			return nil, err
		}
		ip, err := net.ResolveIPAddr("ip", ahost)
		if err != nil {
			return nil, fmt.Errorf("gossip advertise address %s: %w", cfg.GossipAdvertise, err)
		}
		mc.AdvertiseAddr, mc.AdvertisePort = ip.String(), aport
	}
	if len(cfg.GossipKeys) > 0 {
		if mc.Keyring, err = memberlist.NewKeyring(cfg.GossipKeys, cfg.GossipKeys[0]); err != nil {
			return nil, fmt.Errorf("gossip keys: %w", err)
		}
		g.keyring = mc.Keyring
	}
	mc.TCPTimeout = gossipTimeout
	mc.DeadNodeReclaimTime = reclaimTime
	mc.Logger = g.log.StandardLogger(&hclog.StandardLoggerOptions{InferLevels: true})
	mc.LogOutput = nil
	mc.Delegate, mc.Events = g, g
	return mc, nil
}

func splitAddr(what, addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(p)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%s %q: want host:port", what, addr)
	}
	if host == "localhost" { // memberlist takes addresses only
		host = "127.0.0.1"
	}
	return host, port, nil
}

// portFree asks the kernel first, because memberlist's own error is three lines long.
func portFree(what, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return listenError(what, addr, err)
	}
	return l.Close()
}

func listenError(what, addr string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s is in use by another process", what, addr)
	}
	return fmt.Errorf("%s %s: %w", what, addr, err)
}

func (g *gossip) join(ctx context.Context, addrs []string) {
	if len(addrs) == 0 {
		return
	}
	for {
		if _, err := g.list.Join(addrs); err != nil {
			g.log.Debug("no join address answers", "error", err)
		}
		pause := rejoin
		if g.list.NumMembers() < 2 {
			pause = rejoinAlone
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// Address is where this node gossips, as others see it.
func (g *gossip) Address() string { return g.address }

// Members implements Discovery.
func (g *gossip) Members() []Member {
	var members []Member
	for _, n := range g.neighbours() {
		members = append(members, n.Member)
	}
	return members
}

func (g *gossip) neighbours() []neighbour {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.members))
}

// Publish implements Discovery.
func (g *gossip) Publish(self Member) error {
	if err := g.setMeta(self); err != nil {
		return err
	}
	if err := g.list.UpdateNode(publishTimeout); err != nil {
		g.log.Debug("update is still on its way", "error", err)
	}
	return nil
}

// setMeta refuses what memberlist would panic on.
func (g *gossip) setMeta(self Member) error {
	self.Run = g.run
	meta, err := json.Marshal(self)
	if err != nil {
		return err
	}
	if len(meta) > memberlist.MetaMaxSize {
		return fmt.Errorf("gossip metadata has %d bytes, the limit is %d: shorten names and addresses", len(meta), memberlist.MetaMaxSize)
	}
	g.mu.Lock()
	g.meta = meta
	g.mu.Unlock()
	return nil
}

// Changed implements Discovery.
func (g *gossip) Changed() <-chan struct{} { return g.changed }

// Leave implements Discovery.
func (g *gossip) Leave(timeout time.Duration) error {
	goodbye := []byte(farewell + g.name + " " + g.run)
	var told sync.WaitGroup
	defer told.Wait()
	for _, n := range g.neighbours() {
		if n.ID != g.name {
			// memberlist does not tell those who left from the dead.
			told.Go(func() { _ = g.list.SendReliable(&n.node, goodbye) })
		}
	}
	return g.list.Leave(timeout)
}

// Close stops gossiping at once.
func (g *gossip) Close() error {
	g.cancel()
	err := g.list.Shutdown()
	g.done.Wait()
	return err
}

// NodeMeta is called by memberlist.
func (g *gossip) NodeMeta(int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta
}

// NotifyMsg is called by memberlist with what another member sent: a farewell. It may
// arrive before older news of that member, and after its death was suspected; strangers'
// farewells are none.
func (g *gossip) NotifyMsg(msg []byte) {
	who, ok := strings.CutPrefix(string(msg), farewell)
	id, run, _ := strings.Cut(who, " ")
	g.mu.Lock()
	defer g.mu.Unlock()
	_, here := g.members[id]
	_, gone := g.left[id]
	if ok && len(run) <= runLength && (gone || here && len(g.left) < maxLeft) {
		g.left[id] = run
	}
}

// GetBroadcasts, LocalState and MergeRemoteState are not used.
func (g *gossip) GetBroadcasts(int, int) [][]byte { return nil }
func (g *gossip) LocalState(bool) []byte          { return nil }
func (g *gossip) MergeRemoteState([]byte, bool)   {}

// NotifyJoin is called by memberlist, which may hold its locks: it only takes note.
func (g *gossip) NotifyJoin(node *memberlist.Node) {
	var m Member
	if err := json.Unmarshal(node.Meta, &m); err != nil || m.ID != node.Name {
		g.log.Warn("member with unreadable metadata", "name", node.Name)
		g.NotifyLeave(node)
		return
	}
	at := memberlist.Node{Name: node.Name, Addr: slices.Clone(node.Addr), Port: node.Port}
	g.note(func() {
		g.members[node.Name] = neighbour{Member: m, node: at}
		if g.left[node.Name] != m.Run {
			delete(g.left, node.Name)
		}
	})
}

// NotifyUpdate is called by memberlist.
func (g *gossip) NotifyUpdate(node *memberlist.Node) { g.NotifyJoin(node) }

// NotifyLeave is called by memberlist, for members that left and that died.
func (g *gossip) NotifyLeave(node *memberlist.Node) {
	g.note(func() {
		_, here := g.members[node.Name]
		_, gone := g.left[node.Name]
		if here && !gone && len(g.left) < maxLeft {
			g.left[node.Name] = ""
		}
		delete(g.members, node.Name)
	})
}

// HasLeft says whether a member went away on purpose.
func (g *gossip) HasLeft(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.left[id] != ""
}

func (g *gossip) note(change func()) {
	g.mu.Lock()
	change()
	g.mu.Unlock()
	select {
	case g.changed <- struct{}{}:
	default:
	}
}
