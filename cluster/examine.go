package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Facts is what a node knows of itself, for those who look for what is wrong with it.
// There is no secret in it.
type Facts struct {
	ClusterName, DataDir           string
	RaftBind, RaftAdvertise        string
	GossipBind, GossipAdvertise    string
	GossipKeyID                    string   // equal where the gossip key is; empty: none
	GossipMembers                  []string // server ids, sorted
	State                          string   // follower, candidate, leader or shutdown
	Leader                         string   // server id; empty: none is known
	Term                           uint64
	LastLog, Commit, Applied, Snap uint64
	LastContact                    time.Duration // since the leader was heard of
	Heard                          bool          // a leader was ever heard of
	Match                          map[string]uint64
	HistoryTrouble                 string
}

// Facts reads them; it does not block.
func (n *Node) Facts() Facts {
	f := Facts{ClusterName: n.cfg.ClusterName, DataDir: n.cfg.DataDir,
		RaftBind: n.cfg.RaftAddr, RaftAdvertise: n.raftAddress, GossipBind: n.cfg.GossipAddr, GossipAdvertise: n.cfg.GossipAdvertise,
		State: strings.ToLower(n.raft.State().String()), Term: n.raft.CurrentTerm(),
		LastLog: n.raft.LastIndex(), Commit: n.raft.CommitIndex(), Applied: n.raft.AppliedIndex()}
	_, id := n.raft.LeaderWithID()
	f.Leader = string(id)
	f.Snap, _ = strconv.ParseUint(n.raft.Stats()["last_snapshot_index"], 10, 64)
	if at := n.raft.LastContact(); !at.IsZero() {
		f.Heard, f.LastContact = true, time.Since(at)
	}
	if g, ok := n.discovery.(*gossip); ok {
		f.GossipAdvertise, f.GossipKeyID = g.address, g.keyID()
		for _, m := range g.Members() {
			f.GossipMembers = append(f.GossipMembers, m.ID)
		}
		slices.Sort(f.GossipMembers)
	}
	if n.raft.State() == raft.Leader {
		f.Match = map[string]uint64{}
		for _, s := range n.configuration().Servers {
			f.Match[string(s.ID)] = n.acks.index(s.ID, f.Term)
		}
	}
	if n.history != nil {
		f.HistoryTrouble = n.history.trouble()
	}
	return f
}

// RaftStats are raft's own numbers.
func (n *Node) RaftStats() map[string]string { return n.raft.Stats() }

// Clocks reads the node's two clocks.
func (n *Node) Clocks() (wall time.Time, mono time.Duration) {
	return n.clocks.Wall(), n.clocks.Mono()
}

// keyID is what may be said of the key that encrypts: the same where the key is the same.
// The key is random and long, so nobody finds it from this.
func (g *gossip) keyID() string {
	if g.keyring == nil {
		return ""
	}
	return GossipKeyID(g.keyring.GetPrimaryKey())
}

// GossipKeyID names a gossip key without telling it.
func GossipKeyID(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("seatkeeper gossip key id"))
	return hex.EncodeToString(mac.Sum(nil)[:4])
}

// trouble says what is missing in the history; "" means nothing.
func (h *history) trouble() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	damaged, gapped := 0, 0
	for _, s := range h.segments {
		if s.damaged {
			damaged++
		}
		if s.gapped != 0 {
			gapped++
		}
	}
	switch {
	case damaged > 0:
		return fmt.Sprintf("%d of its files were damaged, what stood behind the damage is missing", damaged)
	case gapped > 0:
		return "it has a gap: this node was so far behind that it was sent a snapshot, or its disk was too slow"
	}
	return ""
}
