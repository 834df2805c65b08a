package cluster

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// When a member counts as healthy.
const (
	// contactLimit: a leader sends to each member every 20 to 40 ms, so one that has not
	// answered for a second has missed some thirty messages and several elections.
	contactLimit = time.Second
	// maxTrail is how many entries a healthy member may be behind: under full load some
	// hundred are on their way, and a thousand are replayed within a tenth of a second.
	maxTrail = 1024
)

// Autopilot is the health of the cluster as its leader sees it. Nothing follows from it by
// itself: a dead voter stays a member until the operator removes it.
type Autopilot struct {
	// Healthy says that every member is.
	Healthy bool
	// FailureTolerance is how many more voters may be lost before nobody can lead.
	FailureTolerance int
	Leader           string
	Voters           []string
	Servers          []ServerHealth // in raft's order
	// Waiting are nodes that would join and cannot.
	Waiting []WaitingServer
}

// ServerHealth is one member as the leader sees it.
type ServerHealth struct {
	Peer
	// Contact says whether it has answered this leader, and LastContact how long ago.
	Contact     bool
	LastContact time.Duration
	// LastTerm and LastIndex are how far its log is known to agree with the leader's.
	LastTerm, LastIndex uint64
	Healthy             bool
	// StableSince is since when it is as healthy as it is, at the longest since this
	// leader leads.
	StableSince time.Time
}

// WaitingServer is a node that would join and cannot, and why, with what to do.
type WaitingServer struct{ ID, Name, Address, Why string }

// stability remembers since when each member is as healthy as it is.
type stability struct {
	mu    sync.Mutex
	since map[string]stable
}

type stable struct {
	healthy bool
	since   time.Time
}

func (s *stability) note(id string, healthy bool, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since = make(map[string]stable)
	}
	was, known := s.since[id]
	if !known || was.healthy != healthy {
		was = stable{healthy, now}
		s.since[id] = was
	}
	return was.since
}

// forget ends what the leader of one epoch has seen.
func (s *stability) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.since = nil
}

// Autopilot returns the health of the cluster. Elsewhere than on the leader:
// *NotLeaderError.
func (n *Node) Autopilot() (Autopilot, error) {
	e := n.current.Load()
	if e == nil {
		return Autopilot{}, n.notLeader()
	}
	a := Autopilot{Healthy: true, Leader: n.id}
	voters, good, now := 0, 0, time.Now()
	for _, p := range n.Peers() {
		h := n.healthOf(p, e.Term, now)
		h.StableSince = n.stability.note(p.ID, h.Healthy, now)
		a.Healthy = a.Healthy && h.Healthy
		a.Servers = append(a.Servers, h)
		if p.Voter {
			a.Voters = append(a.Voters, p.ID)
			if voters++; h.Healthy {
				good++
			}
		}
	}
	a.FailureTolerance = max(0, good-majority(voters))
	for _, w := range n.waiting(n.gossiped(), n.servers()) {
		a.Waiting = append(a.Waiting, WaitingServer{w.ID, w.Name, w.RaftAddress, w.Why})
	}
	return a, nil
}

// healthOf judges one member by what it answered to this leader, and by gossip where
// there is any.
func (n *Node) healthOf(p Peer, term uint64, now time.Time) ServerHealth {
	last := n.raft.LastIndex()
	if p.ID == n.id {
		p.Leader = true
		return ServerHealth{Peer: p, Contact: true, LastTerm: term, LastIndex: last, Healthy: true}
	}
	p.Leader = false
	h := ServerHealth{Peer: p}
	if ack := n.acks.last(raft.ServerID(p.ID)); !ack.at.IsZero() {
		h.Contact, h.LastContact = true, now.Sub(ack.at)
		h.LastTerm, h.LastIndex = ack.term, ack.index
	}
	h.Healthy = h.Contact && h.LastContact <= contactLimit && h.LastTerm == term && h.LastIndex+maxTrail >= last &&
		(p.Health == "alive" || p.Health == "unknown")
	return h
}

// noteHealth keeps metrics and stability up to date.
func (n *Node) noteHealth() {
	a, err := n.Autopilot()
	if err != nil {
		return
	}
	healthy := 0.0
	if a.Healthy {
		healthy = 1
	}
	n.metrics.healthy.Set(healthy)
	n.metrics.tolerance.Set(float64(a.FailureTolerance))
	n.metrics.voters.Set(float64(len(a.Voters)))
}

func majority(voters int) int { return voters/2 + 1 }

// servers are the members by id.
func (n *Node) servers() map[string]raft.Server {
	byID := make(map[string]raft.Server)
	for _, s := range n.configuration().Servers {
		byID[string(s.ID)] = s
	}
	return byID
}

// gossiped are the live members that gossip knows, in the order of their ids.
func (n *Node) gossiped() []Member {
	if n.discovery == nil {
		return nil
	}
	members := n.discovery.Members()
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return members
}

// electorate is who may vote, and who of them answers.
type electorate map[string]bool

func (n *Node) electorate() electorate {
	voters := make(electorate)
	for _, s := range n.configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters[string(s.ID)] = n.answers(string(s.ID))
		}
	}
	return voters
}

// answers says whether a server has answered this leader just now.
func (n *Node) answers(id string) bool {
	ack := n.acks.last(raft.ServerID(id))
	return id == n.id || !ack.at.IsZero() && ack.term == n.raft.CurrentTerm() && time.Since(ack.at) <= contactLimit
}

// live counts those that answer.
func (e electorate) live() (live int) {
	for _, answers := range e {
		if answers {
			live++
		}
	}
	return live
}

// without refuses to take a voter out where those that are left and answer would be no
// majority.
func (e electorate) without(id string) error {
	answers, votes := e[id]
	if !votes {
		return nil
	}
	live := e.live()
	if answers {
		live--
	}
	if left := len(e) - 1; live < majority(left) {
		return fmt.Errorf("%s is not removed: only %d of the other %d voters answer, and %d must: bring nodes back first", id, live, left, majority(left))
	}
	return nil
}

// with refuses another voter, which answers, where those that answer would be no majority.
func (e electorate) with(id string) error {
	if all, live := len(e)+1, e.live()+1; live < majority(all) {
		return fmt.Errorf("%s gets no vote: only %d of then %d voters would answer, and %d must: bring nodes back first", id, live, all, majority(all))
	}
	return nil
}
