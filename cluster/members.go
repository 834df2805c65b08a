package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// Limits of membership work.
const (
	// memberInterval is how often members are looked at without an event; gossip is a
	// hint, so a missed event must not matter for long.
	memberInterval = time.Second
	// memberTimeout bounds one configuration change.
	memberTimeout = 5 * time.Second
)

// Discovery finds other nodes. It is a hint, never truth: what it says makes this
// node propose to add members, and never to remove one.
type Discovery interface {
	// Members returns the live members known, this node among them, in any order.
	Members() []Member
	// Publish replaces what others are told of this node.
	Publish(Member) error
	// Changed delivers a token when Members may have changed.
	Changed() <-chan struct{}
	// Leave tells the others that this node goes away on purpose, waiting at most
	// timeout.
	Leave(timeout time.Duration) error
}

// departures is a Discovery that knows who went away on purpose.
type departures interface{ HasLeft(id string) bool }

// Member is what a node tells others of itself. It travels in gossip metadata, so
// its JSON names are short and never change their meaning.
type Member struct {
	ID          string `json:"i"`           // NAME-INCARNATION
	Name        string `json:"n"`           // for people
	RaftAddress string `json:"r"`           // host:port
	APIAddress  string `json:"a"`           // host:port
	Expect      int    `json:"e,omitempty"` // its bootstrap_expect
	// Founded is set once the node has a raft configuration, by founding or joining.
	Founded bool `json:"b,omitempty"`
	// ClusterID is the cluster it belongs to, when it knows.
	ClusterID string `json:"c,omitempty"`
	// DiskLow says that its disk is nearly full.
	DiskLow bool `json:"d,omitempty"`
	// Recoveries and Lineage say which recovery from the loss of a majority, or restore in the
	// place of a lost cluster, its data comes after; see fsm.Status.
	Recoveries uint64 `json:"g,omitempty"`
	Lineage    string `json:"l,omitempty"`
	// Founders is a digest of the configuration it is ready to found a cluster with.
	Founders string `json:"f,omitempty"`
	// Run is another one after each start of its process.
	Run string `json:"u,omitempty"`
}

// configuration returns raft's latest configuration; it does not block.
func (n *Node) configuration() raft.Configuration {
	return n.raft.GetConfiguration().Configuration()
}

// attend publishes what this node is and founds the cluster when the time has come.
// It runs on every node, as long as it lives.
func (n *Node) attend(ctx context.Context) {
	ticker := time.NewTicker(memberInterval)
	defer ticker.Stop()
	var published Member
	for {
		self := n.self()
		self.Founded = len(n.configuration().Servers) > 0
		self = n.origin().of(self)
		if why := outdated(self, n.discovery.Members()); why != "" {
			n.fail(why + "; " + startEmpty(n.cfg.DataDir))
			return
		}
		if !self.Founded && n.cfg.BootstrapExpect > 0 {
			self.Founders = n.founders
			if self.Founders == "" {
				self.Founders = digest(chooseFounders(n.discovery.Members(), n.cfg.BootstrapExpect))
				n.founders = self.Founders // for good: changing it could found two clusters
			}
		}
		if self != published {
			if err := n.discovery.Publish(self); err != nil {
				n.log.Warn("cannot publish to gossip", "error", err)
			} else {
				published = self
			}
		}
		if !self.Founded && self.Founders != "" {
			n.found()
		}
		select {
		case <-ticker.C:
		case <-n.discovery.Changed():
			n.wakeLeader()
		case <-ctx.Done():
			return
		}
	}
}

// chooseFounders returns the members that should found the cluster, or nil if they
// are not all there, or if one already belongs to a cluster. Every node chooses
// alike from the same view: the lowest ids.
func chooseFounders(members []Member, expect int) []Member {
	var can []Member
	for _, m := range members {
		if m.Founded {
			return nil
		}
		if m.Expect == expect {
			can = append(can, m)
		}
	}
	if len(can) < expect {
		return nil
	}
	slices.SortFunc(can, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return can[:expect]
}

func digest(founders []Member) string {
	if len(founders) == 0 {
		return ""
	}
	h := sha256.New()
	for _, m := range founders {
		h.Write([]byte(m.ID + "\n" + m.RaftAddress + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// found bootstraps raft once all founders have said that they would found with the
// same configuration. What a node has said it keeps to until it stops, so two sets of
// founders that share a node never both agree.
func (n *Node) found() {
	founders := chooseFounders(n.discovery.Members(), n.cfg.BootstrapExpect)
	if digest(founders) != n.founders {
		if len(founders) > 0 && !n.foundersWarned {
			n.foundersWarned = true
			n.log.Warn("other founders are here than were agreed on: restart the nodes that wait for the cluster")
		}
		return
	}
	var cfg raft.Configuration
	mine := false
	for _, m := range founders {
		if m.ID == n.id {
			mine = true
		} else if m.Founders != n.founders {
			return
		}
		cfg.Servers = append(cfg.Servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.RaftAddress)})
	}
	if !mine {
		return
	}
	n.log.Info("founding the cluster", "servers", len(cfg.Servers))
	err := n.raft.BootstrapCluster(cfg).Error()
	if err != nil && !errors.Is(err, raft.ErrCantBootstrap) { // another founder was quicker, with the same
		n.log.Warn("founding failed", "error", err)
	}
}

// wakeLeader passes a membership event on to the epoch, if there is one.
func (n *Node) wakeLeader() {
	select {
	case n.membersChanged <- struct{}{}:
	default:
	}
}

// tendMembers is a leader's duty: add members it learns of as non-voters, follow
// changes of address, and promote a non-voter that has caught up while voters are
// missing.
func (n *Node) tendMembers(ctx context.Context, e *epoch) {
	if n.discovery == nil {
		return
	}
	ticker := time.NewTicker(memberInterval)
	defer ticker.Stop()
	var goal uint64 // commit index at the last look: who has reached it keeps up
	for {
		members := n.gossiped()
		for _, c := range n.fit(ctx, n.membershipChanges(e.Term, members, goal)) {
			if !n.changeMember(ctx, c) {
				break
			}
		}
		goal = n.raft.CommitIndex()
		n.noteHealth()
		select {
		case <-ticker.C:
		case <-n.membersChanged:
			goal = 0 // only a full interval shows who keeps up
		case <-ctx.Done():
			return
		}
	}
}

// memberChange is one step of membership: add as non-voter, new address, or promotion.
type memberChange struct {
	why   string
	voter bool
	m     Member
}

// membershipChanges decides what to change; it changes nothing.
func (n *Node) membershipChanges(term uint64, members []Member, goal uint64) (changes []memberChange) {
	servers := make(map[string]raft.Server)
	voters := 0
	for _, s := range n.configuration().Servers {
		servers[string(s.ID)] = s
		if s.Suffrage == raft.Voter {
			voters++
		}
	}
	n.noteWaiting(members, servers)
	want := n.cfg.BootstrapExpect
	for _, m := range members {
		if n.cfg.BootstrapExpect == 0 {
			want = max(want, m.Expect)
		}
	}
	for _, m := range members {
		s, known := servers[m.ID]
		switch {
		case m.ID == n.id || m.ID == "" || m.RaftAddress == "":
		case !known && n.unfit(m, servers) != "":
		case !known:
			changes = append(changes, memberChange{"joins as non-voter", false, m})
		case string(s.Address) != m.RaftAddress:
			changes = append(changes, memberChange{"has a new address", s.Suffrage == raft.Voter, m})
		case s.Suffrage != raft.Voter && voters < want && goal > 0 && n.acks.index(s.ID, term) >= goal:
			voters++
			changes = append(changes, memberChange{"has caught up: becomes voter", true, m})
		}
	}
	return append(changes, n.quietPromotions(term, members, want-voters, goal)...)
}

// quietPromotions gives a vote to non-voters that gossip does not know of (an operator
// has added them, or gossip's port is blocked) and that keep up nevertheless.
func (n *Node) quietPromotions(term uint64, members []Member, missing int, goal uint64) (changes []memberChange) {
	for _, s := range n.configuration().Servers {
		heard := slices.ContainsFunc(members, func(m Member) bool { return m.ID == string(s.ID) })
		if heard || s.Suffrage == raft.Voter || missing <= 0 || goal == 0 || n.acks.index(s.ID, term) < goal {
			continue
		}
		missing--
		changes = append(changes, memberChange{"has caught up: becomes voter", true, Member{ID: string(s.ID), RaftAddress: string(s.Address)}})
	}
	return changes
}

// unfit says why a node that gossip knows of cannot become a member; "" if it can.
func (n *Node) unfit(m Member, servers map[string]raft.Server) string {
	clusterID := n.fsm.Status().ClusterID
	switch {
	case m.ClusterID != "" && m.ClusterID != clusterID:
		return fmt.Sprintf("node %s is of another cluster (%s): not added; take it out of this one's gossip", m.ID, m.ClusterID)
	case m.Founded && m.ClusterID == "":
		return fmt.Sprintf("node %s is of a cluster whose id it does not know: not added", m.ID)
	case m.Founded && m.Lineage != n.fsm.Status().Lineage:
		return fmt.Sprintf("node %s has data from before this cluster was recovered or restored, or of another recovery: not added; stop it, move its data directory away and start it with an empty one", m.ID)
	}
	// Most likely it is the server it was itself, before it lost its data directory. Raft
	// takes no two servers of one address, and only the operator can know that the old
	// one is gone for good.
	for id, s := range servers {
		if id != m.ID && string(s.Address) == m.RaftAddress {
			return fmt.Sprintf("node %s waits to join at the address of %s: if that has lost its data directory, replace it (seatkeeper operator raft replace-peer %s %s) or remove it (seatkeeper operator raft remove-peer %s)",
				m.ID, id, id, m.ID, id)
		}
	}
	return ""
}

// waitingNode is a node that would join and cannot.
type waitingNode struct {
	Member
	Why string
}

// waiting lists the nodes that gossip knows of and that cannot become members, in the
// order of members.
func (n *Node) waiting(members []Member, servers map[string]raft.Server) (list []waitingNode) {
	for _, m := range members {
		if _, known := servers[m.ID]; known || m.ID == n.id || m.ID == "" || m.RaftAddress == "" {
			continue
		}
		if why := n.unfit(m, servers); why != "" {
			list = append(list, waitingNode{m, why})
		}
	}
	return list
}

// noteWaiting raises an alarm for each node that would join and cannot, and logs each
// once.
func (n *Node) noteWaiting(members []Member, servers map[string]raft.Server) {
	var waiting []string
	for _, w := range n.waiting(members, servers) {
		waiting = append(waiting, w.Why)
	}
	if old := n.replaced.Swap(&waiting); len(waiting) > 0 && (old == nil || !slices.Equal(*old, waiting)) {
		for _, w := range waiting {
			n.log.Warn(w)
		}
	}
}

// RemovePeer takes a server that is gone for good out of the members, named by its
// server id. It refuses to remove this node, and one that is alive, which would only
// join again.
func (n *Node) RemovePeer(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	i := slices.IndexFunc(n.configuration().Servers, func(s raft.Server) bool { return string(s.ID) == id })
	switch {
	case i < 0:
		return fmt.Errorf("no member has the server id %.80q", id)
	case id == n.id:
		return fmt.Errorf("%s leads: transfer leadership first", id)
	case n.aliveInGossip(id):
		return fmt.Errorf("%s is alive: stop it first", id)
	}
	if err := n.electorate().without(id); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	if err := n.waitFuture(ctx, n.raft.RemoveServer(raft.ServerID(id), 0, memberTimeout)); err != nil {
		return fmt.Errorf("%s not removed: %w", id, err)
	}
	n.log.Info("member removed", "id", id)
	n.wakeLeader()
	return nil
}

// changeMember proposes one change and says whether it was committed in time.
func (n *Node) changeMember(ctx context.Context, c memberChange) bool {
	n.log.Info("member "+c.why, "id", c.m.ID, "raft", c.m.RaftAddress)
	id, addr := raft.ServerID(c.m.ID), raft.ServerAddress(c.m.RaftAddress)
	var future raft.IndexFuture
	if c.voter {
		future = n.raft.AddVoter(id, addr, 0, memberTimeout)
	} else {
		future = n.raft.AddNonvoter(id, addr, 0, memberTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	if err := n.waitFuture(ctx, future); err != nil {
		n.log.Warn("membership not changed", "id", c.m.ID, "error", err)
		return false
	}
	return true
}

// Peers merges raft's configuration with what gossip knows, in raft's order.
func (n *Node) Peers() []Peer {
	known := make(map[string]Member)
	if n.discovery != nil {
		for _, m := range n.discovery.Members() {
			known[m.ID] = m
		}
	}
	_, leader := n.raft.LeaderWithID()
	var peers []Peer
	for _, s := range n.configuration().Servers {
		p := Peer{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader, Health: "unknown"}
		p.Name, _, _ = cutIncarnation(p.ID)
		m, alive := known[p.ID]
		switch {
		case p.ID == n.id:
			p.APIAddress, p.Health = n.cfg.APIAddress, "alive"
		case alive:
			p.APIAddress, p.Health = m.APIAddress, "alive"
		case n.discovery != nil:
			p.Health = "failed"
			if d, ok := n.discovery.(departures); ok && d.HasLeft(p.ID) {
				p.Health = "left"
			}
		}
		peers = append(peers, p)
	}
	return peers
}
