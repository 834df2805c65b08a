package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/raft"
)

// maxBehind is how many entries a server may be behind when it gets a vote by
// ReplacePeer: what is on its way under load, and replayed in milliseconds.
const maxBehind = 64

// Replacement is how far ReplacePeer has come.
type Replacement struct {
	Old, New string // server ids
	Done     bool
	Step     string // what was done now, or is waited for, for people
}

// AddPeer makes a server a member without a vote, and returns its id. It is named by its
// server id or name as gossip knows it; one that gossip cannot see by its server id and
// Raft address. It gets a vote when it has caught up and a voter is missing. One that is a
// member already stays what it is.
func (n *Node) AddPeer(ctx context.Context, ref, address string) (id string, err error) {
	if n.current.Load() == nil {
		return "", n.notLeader()
	}
	servers := n.servers()
	if _, known := servers[ref]; known {
		return ref, nil
	}
	m, err := n.newcomer(ref, "")
	switch {
	case err == nil && address != "" && address != m.RaftAddress:
		return "", fmt.Errorf("%s says that its Raft address is %s, not %s: leave the address out", m.ID, m.RaftAddress, address)
	case err == nil:
	case address == "":
		return "", err
	default:
		if _, _, ok := cutIncarnation(ref); !ok {
			return "", fmt.Errorf("%.80q is no server id: want NAME-INCARNATION, which the node says when it starts", ref)
		}
		if _, err := checkAddr("Raft address", address); err != nil {
			return "", err
		}
		m = Member{ID: ref, RaftAddress: address}
	}
	if _, known := servers[m.ID]; known {
		return m.ID, nil
	}
	if why := n.unfit(m, servers); why != "" {
		return "", errors.New(why)
	}
	change := memberChange{"is added by the operator as non-voter", false, m}
	if len(n.fit(ctx, []memberChange{change})) == 0 {
		return "", fmt.Errorf("%s is not added: it does not understand what the log holds, or does not answer: install this cluster's version there and start it", m.ID)
	}
	if !n.changeMember(ctx, change) {
		return "", fmt.Errorf("%s not added: %w", m.ID, ErrUnknown)
	}
	n.wakeLeader()
	return m.ID, nil
}

// newcomer finds a live node in gossip by its server id or by its name; not is the id of
// another server that may have the same name.
func (n *Node) newcomer(ref, not string) (found Member, err error) {
	for _, m := range n.gossiped() {
		switch {
		case m.ID == not:
		case m.ID == ref:
			return m, nil
		case m.Name == ref && found.ID != "":
			err = fmt.Errorf("two live nodes are called %.80q: name the one that is meant by its id", ref)
		case m.Name == ref:
			found = m
		}
	}
	if found.ID == "" {
		err = fmt.Errorf("no live node is called %.80q: start it with an empty data directory and \"join\" to the members, and wait until it says that it is ready", ref)
	}
	return found, err
}

// ReplacePeer puts the server that is called next in the place of a dead member. It does
// the next step of that and returns; call it again, with the ids that it returned and begun
// set, until it is done. After each step a majority of voters answers: the new server joins
// without a vote, gets one when it has caught up, and then the old one is removed. Only
// where both have one address, because the node was rebuilt with an empty data directory,
// must the old one go first. Any leader can go on with it.
func (n *Node) ReplacePeer(ctx context.Context, old, next string, begun bool) (Replacement, error) {
	if n.current.Load() == nil {
		return Replacement{}, n.notLeader()
	}
	servers := n.servers()
	gone, err := n.deadMember(old, begun)
	if err != nil {
		return Replacement{}, err
	}
	r := Replacement{Old: gone, New: next}
	m, err := n.newcomer(next, gone)
	if err != nil {
		return r, err
	}
	r.New = m.ID
	s, member := servers[m.ID]
	_, there := servers[gone]
	switch {
	case !member:
		return r, n.admit(ctx, &r, m, servers)
	case s.Suffrage != raft.Voter:
		return r, n.enfranchise(ctx, &r, s)
	case there:
		r.Step = fmt.Sprintf("%s is no member any more", gone)
		return r, n.RemovePeer(ctx, gone)
	}
	r.Done, r.Step = true, fmt.Sprintf("%s votes in place of %s", m.ID, gone)
	return r, nil
}

// deadMember finds the member to be replaced, by its id or by a name, and refuses one that
// lives. One that is gone already is fine once the replacement has begun.
func (n *Node) deadMember(ref string, begun bool) (string, error) {
	var dead, alive []string
	for _, p := range n.Peers() {
		switch {
		case p.ID != ref && p.Name != ref:
		case p.ID == n.id || p.Health == "alive" || n.answers(p.ID):
			alive = append(alive, p.ID)
		default:
			dead = append(dead, p.ID)
		}
	}
	switch {
	case len(dead) == 1:
		return dead[0], nil
	case len(dead) > 1:
		return "", fmt.Errorf("two dead members are called %.80q: name the one to replace by its id", ref)
	case len(alive) > 0 && alive[0] == n.id:
		return "", fmt.Errorf("%s leads: only a dead member is replaced", n.id)
	case len(alive) > 0:
		return "", fmt.Errorf("%s is alive, or was some seconds ago: only a dead member is replaced; stop it first", alive[0])
	case !begun:
		return "", fmt.Errorf("no member is called %.80q: seatkeeper operator raft list-peers shows them", ref)
	}
	return ref, nil
}

// admit makes the new server a member, after the old one where both have one address.
func (n *Node) admit(ctx context.Context, r *Replacement, m Member, servers map[string]raft.Server) error {
	if old, there := servers[r.Old]; there && string(old.Address) == m.RaftAddress {
		r.Step = fmt.Sprintf("%s is no member any more; %s joins at its address", r.Old, m.ID)
		return n.RemovePeer(ctx, r.Old)
	}
	r.Step = fmt.Sprintf("%s joins without a vote", m.ID)
	_, err := n.AddPeer(ctx, m.ID, "")
	return err
}

// enfranchise gives the new server a vote when it has caught up.
func (n *Node) enfranchise(ctx context.Context, r *Replacement, s raft.Server) error {
	have, all := n.acks.index(s.ID, n.raft.CurrentTerm()), n.raft.LastIndex()
	if !n.answers(r.New) || have+maxBehind < all {
		r.Step = fmt.Sprintf("%s catches up: it has %d of %d entries", r.New, have, all)
		return nil
	}
	if err := n.electorate().with(r.New); err != nil {
		return err
	}
	r.Step = fmt.Sprintf("%s has caught up and votes", r.New)
	m := Member{ID: r.New, RaftAddress: string(s.Address)}
	if !n.changeMember(ctx, memberChange{"has caught up: becomes voter in place of " + r.Old, true, m}) {
		return fmt.Errorf("%s got no vote: %w", r.New, ErrUnknown)
	}
	return nil
}

// aliveInGossip says whether gossip knows a live member of this id.
func (n *Node) aliveInGossip(id string) bool {
	return slices.ContainsFunc(n.gossiped(), func(m Member) bool { return m.ID == id })
}
