package rpc

import (
	"context"
	"encoding/hex"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// clusterService serves operators, dashboards and exporters.
type clusterService struct {
	pb.UnimplementedClusterServer
	s *Server
}

// read answers from this node's own state, or consistently (on the leader only).
func (s *Server) read(ctx context.Context, stale bool, fn func(*lease.Book)) (fsm.Status, error) {
	if stale {
		return s.cfg.Node.ReadStale(fn), nil
	}
	return s.cfg.Node.Read(ctx, fn)
}

func (h *clusterService) Status(ctx context.Context, r *pb.StatusRequest) (*pb.StatusResponse, error) {
	if hopped(ctx) && r.GetStale() {
		st := h.s.cfg.Node.ReadStale(func(*lease.Book) {})
		return &pb.StatusResponse{ClusterId: st.ClusterID, Nodes: []*pb.NodeStatus{h.self(st)}}, nil // another node gathers
	}
	var pools []lease.PoolStatus
	var alarms []string
	var sessions, leases int
	st, err := h.s.read(ctx, r.GetStale(), func(b *lease.Book) {
		pools, alarms = b.Pools(r.GetTenant()), b.Alarms()
		sessions, leases = b.Counts()
	})
	if err != nil {
		return nil, err
	}
	if n, ok := h.s.cfg.Node.(interface{ Alarms() []string }); ok {
		alarms = append(alarms, n.Alarms()...) // of disks: what the ledger cannot know
	}
	answer := &pb.StatusResponse{
		ClusterId:     st.ClusterID,
		Epoch:         st.Epoch.Index,
		Nodes:         h.nodes(ctx, st),
		Pools:         poolsPB(pools),
		ClusterTimeMs: uint64(max(int64(st.Now)/1e6, 0)),
		Calendar:      date(st.Calendar),
		Alarms:        alarms,
		RaftIndex:     st.AppliedIndex,
		Term:          st.AppliedTerm,
		Sessions:      uint32(sessions),
		Leases:        uint32(leases),
		LogVersion:    st.LogVersion,
	}
	if epoch, ok := h.s.cfg.Node.Leader(); ok {
		answer.Leader = epoch.Node
		answer.Epoch = max(answer.Epoch, epoch.Index) // 0 while its first entry is on the way
	}
	return answer, nil
}

// self is this node as it sees itself.
func (h *clusterService) self(st fsm.Status) *pb.NodeStatus {
	id := h.s.cfg.Node.ID()
	n := &pb.NodeStatus{
		Id:           id,
		Role:         "learner",
		AppliedIndex: st.AppliedIndex,
		StateHash:    hex.EncodeToString(st.StateHash[:]),
		Version:      h.s.cfg.Version,
		LogVersion:   understood(h.s.cfg.Node),
	}
	for _, p := range h.s.cfg.Node.Peers() {
		if p.ID == id {
			n.Address = p.APIAddress
			n.Role = roleOf(p)
		}
	}
	if h.s.cfg.Node.Leading() {
		n.Role = "leader"
	}
	return n
}

// understood is the highest log version that a node's build knows.
func understood(n Node) uint32 {
	if u, ok := n.(interface{ Understands() uint32 }); ok {
		return u.Understands()
	}
	return fsm.LatestVersion
}

func roleOf(p cluster.Peer) string {
	switch {
	case p.Leader:
		return "leader"
	case p.Voter:
		return "follower"
	}
	return "learner"
}

// nodes lists every member in the order of Peers, each by its own word.
func (h *clusterService) nodes(ctx context.Context, st fsm.Status) []*pb.NodeStatus {
	peers := h.s.cfg.Node.Peers()
	found := h.s.gather(ctx, peers)
	self := h.self(st)
	found[self.GetId()] = self
	out := make([]*pb.NodeStatus, 0, len(peers))
	for _, p := range peers {
		n := found[p.ID]
		if n == nil {
			n = &pb.NodeStatus{Id: p.ID, Role: "unreachable"}
		}
		if n.GetAddress() == "" {
			n.Address = p.APIAddress
		}
		out = append(out, n)
	}
	return out
}

// StatusLeader answers on any node, as Consul's does.
func (h *clusterService) StatusLeader(context.Context, *pb.StatusLeaderRequest) (*pb.StatusLeaderResponse, error) {
	epoch, ok := h.s.cfg.Node.Leader()
	if !ok {
		return &pb.StatusLeaderResponse{}, nil
	}
	return &pb.StatusLeaderResponse{Id: epoch.Node, Address: epoch.APIAddress, Epoch: epoch.Index, Term: epoch.Term}, nil
}

// StatusPeers answers on any node, as Consul's does.
func (h *clusterService) StatusPeers(ctx context.Context, _ *pb.StatusPeersRequest) (*pb.StatusPeersResponse, error) {
	said := make(map[string]*pb.NodeStatus)
	st := h.s.cfg.Node.ReadStale(func(*lease.Book) {})
	for _, n := range h.nodes(ctx, st) {
		said[n.GetId()] = n
	}
	answer := &pb.StatusPeersResponse{}
	for _, p := range h.s.cfg.Node.Peers() {
		state := "follower"
		if p.Leader {
			state = "leader"
		}
		answer.Peers = append(answer.Peers, &pb.Peer{Id: p.ID, Name: p.Name, Address: p.Address, ApiAddress: p.APIAddress,
			State: state, Voter: p.Voter, AppliedIndex: said[p.ID].GetAppliedIndex(), Health: p.Health,
			Version: said[p.ID].GetVersion(), LogVersion: said[p.ID].GetLogVersion()})
	}
	return answer, nil
}

func (h *clusterService) TransferLeadership(ctx context.Context, r *pb.TransferLeadershipRequest) (*pb.TransferLeadershipResponse, error) {
	node := h.s.cfg.Node
	if !node.Leading() {
		return nil, &cluster.NotLeaderError{}
	}
	to := ""
	if r.GetTo() != "" {
		p, err := h.successor(r.GetTo())
		if err != nil {
			return nil, err
		}
		to = p.ID
	}
	if err := node.TransferLeadership(ctx, to); err != nil {
		return nil, err
	}
	answer := &pb.TransferLeadershipResponse{Leader: to}
	if epoch, ok := node.Leader(); ok && epoch.Node != node.ID() {
		answer.Leader = epoch.Node
	}
	return answer, nil
}

// RemovePeer is for a node that will not come back: a dead voter is never removed by
// itself, because a cluster that forgets voters can forget its majority.
func (h *clusterService) RemovePeer(ctx context.Context, r *pb.RemovePeerRequest) (*pb.RemovePeerResponse, error) {
	node := h.s.cfg.Node
	if !node.Leading() {
		return nil, &cluster.NotLeaderError{}
	}
	p, err := h.removable(r.GetId())
	if err != nil {
		return nil, err
	}
	if err := node.RemovePeer(ctx, p.ID); err != nil {
		return nil, membershipError(err)
	}
	return &pb.RemovePeerResponse{Id: p.ID}, nil
}

// removable finds the member that is to be removed, by id or by a name that is its alone.
func (h *clusterService) removable(id string) (found cluster.Peer, err error) {
	if id == "" {
		return found, invalid("id is missing: say which member to remove")
	}
	for _, p := range h.s.cfg.Node.Peers() {
		switch {
		case p.ID == id:
			found, err = p, nil
		case p.Name != id:
			continue
		case found.ID == "":
			found = p
			continue
		default:
			err = invalid("two members are called " + id + ": name the one to remove by its id")
			continue
		}
		break
	}
	switch {
	case err != nil:
	case found.ID == "":
		err = invalid("no member is called " + id)
	case found.ID == h.s.cfg.Node.ID():
		err = invalid(found.ID + " leads: transfer leadership first")
	case found.Health == "alive":
		err = invalid(found.ID + " is alive: stop it first")
	}
	return found, err
}

// successor finds the member that leadership may go to, by id or name.
func (h *clusterService) successor(to string) (cluster.Peer, error) {
	for _, p := range h.s.cfg.Node.Peers() {
		if p.ID != to && p.Name != to {
			continue
		}
		switch {
		case p.ID == h.s.cfg.Node.ID():
			return p, invalid("node " + to + " is the leader already")
		case !p.Voter:
			return p, invalid("node " + to + " is a learner and cannot lead yet")
		}
		return p, nil
	}
	return cluster.Peer{}, invalid("no member is called " + to)
}
