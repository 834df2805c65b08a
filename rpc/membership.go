package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// membership is what the API needs of the node for its members. Elsewhere than on the
// leader all of it gives *cluster.NotLeaderError; cluster.ErrUnknown means that a change
// may have been made, and any other error that none was.
type membership interface {
	// Autopilot says how healthy the members are.
	Autopilot() (cluster.Autopilot, error)
	// AddPeer makes a server a member without a vote and returns its id.
	AddPeer(ctx context.Context, ref, address string) (id string, err error)
	// ReplacePeer does one step of a replacement.
	ReplacePeer(ctx context.Context, old, next string, begun bool) (cluster.Replacement, error)
}

// membershipService serves Membership.
type membershipService struct {
	pb.UnimplementedMembershipServer
	s *Server
}

// AutopilotState implements pb.MembershipServer.
func (h *membershipService) AutopilotState(context.Context, *pb.AutopilotStateRequest) (*pb.AutopilotStateResponse, error) {
	a, err := h.s.cfg.Node.Autopilot()
	if err != nil {
		return nil, err
	}
	answer := &pb.AutopilotStateResponse{Healthy: a.Healthy, FailureTolerance: uint32(a.FailureTolerance), Leader: a.Leader, Voters: a.Voters}
	for _, x := range a.Servers {
		contact := int64(-1)
		if x.Contact {
			contact = x.LastContact.Milliseconds()
		}
		answer.Servers = append(answer.Servers, &pb.ServerHealth{
			Id: x.ID, Name: x.Name, Address: x.Address, ApiAddress: x.APIAddress, Status: x.Health, Voter: x.Voter, Leader: x.Leader,
			LastContactMs: contact, LastTerm: x.LastTerm, LastIndex: x.LastIndex, Healthy: x.Healthy,
			StableSince: x.StableSince.UTC().Format(time.RFC3339),
		})
	}
	for _, w := range a.Waiting {
		answer.Waiting = append(answer.Waiting, &pb.WaitingServer{Id: w.ID, Name: w.Name, Address: w.Address, Why: w.Why})
	}
	return answer, nil
}

// AddPeer implements pb.MembershipServer.
func (h *membershipService) AddPeer(ctx context.Context, r *pb.AddPeerRequest) (*pb.AddPeerResponse, error) {
	if r.GetId() == "" {
		return nil, invalid("id is missing: say which server to add")
	}
	id, err := h.s.cfg.Node.AddPeer(ctx, r.GetId(), r.GetAddress())
	if err != nil {
		return nil, membershipError(err)
	}
	return &pb.AddPeerResponse{Id: id}, nil
}

// ReplacePeer implements pb.MembershipServer.
func (h *membershipService) ReplacePeer(ctx context.Context, r *pb.ReplacePeerRequest) (*pb.ReplacePeerResponse, error) {
	switch {
	case r.GetOld() == "":
		return nil, invalid("old is missing: say which dead member is replaced")
	case r.GetNew() == "":
		return nil, invalid("new is missing: say which live node takes its place")
	}
	x, err := h.s.cfg.Node.ReplacePeer(ctx, r.GetOld(), r.GetNew(), r.GetBegun())
	if err != nil {
		return nil, membershipError(err)
	}
	return &pb.ReplacePeerResponse{Old: x.Old, New: x.New, Done: x.Done, Step: x.Step}, nil
}

// membershipError makes a refusal of what the node says no to.
func membershipError(err error) error {
	var notLeader *cluster.NotLeaderError
	if errors.As(err, &notLeader) || errors.Is(err, cluster.ErrUnknown) || errors.Is(err, cluster.ErrStopped) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return invalid(err.Error())
}
