package rpc

import (
	"context"
	"fmt"
	"slices"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// RenewBatch renews many sessions by one command.
func (h *seats) RenewBatch(ctx context.Context, r *pb.RenewBatchRequest) (*pb.RenewBatchResponse, error) {
	cmd, err := renewManyOf(r)
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	h.s.metrics.renewed.Add(float64(len(cmd.Sessions)))
	return renewBatchPB(applied), nil
}

func renewManyOf(r *pb.RenewBatchRequest) (cmd lease.RenewMany, err error) {
	const idLen = len(lease.SessionID{})
	ids, secrets, incarnations := r.GetSessionIds(), r.GetSessionSecrets(), r.GetIncarnations()
	n := len(ids) / idLen
	switch {
	case n == 0 || len(ids)%idLen != 0:
		return cmd, invalid(fmt.Sprintf("session_ids has %d bytes: want %d for each session", len(ids), idLen))
	case n > lease.MaxRenewMany:
		return cmd, invalid(fmt.Sprintf("%d sessions, at most %d are allowed", n, lease.MaxRenewMany))
	case len(secrets) == 0 || len(secrets)%n != 0:
		return cmd, invalid(fmt.Sprintf("session_secrets has %d bytes: want secrets of one length for %d sessions", len(secrets), n))
	case len(secrets)/n > maxSecret:
		return cmd, invalid(fmt.Sprintf("session secrets are %d bytes long, at most %d are allowed", len(secrets)/n, maxSecret))
	case len(incarnations) != 0 && len(incarnations) != n:
		return cmd, invalid(fmt.Sprintf("%d incarnations for %d sessions", len(incarnations), n))
	}
	width := len(secrets) / n
	cmd.Sessions = make([]lease.Heartbeat, n)
	for i := range cmd.Sessions {
		s := &cmd.Sessions[i]
		copy(s.ID[:], ids[i*idLen:])
		s.Digest = digest(secrets[i*width : (i+1)*width])
		if len(incarnations) > 0 {
			s.Incarnation = incarnations[i]
		}
	}
	return cmd, nil
}

func renewBatchPB(a cluster.Applied) *pb.RenewBatchResponse {
	n := len(a.Reply.Renewed)
	x := pb.RenewBatchResponseFromVTPool()
	x.RaftIndex, x.Term = a.Index, a.Term
	x.Results, x.HeldSums = slices.Grow(x.Results, n), slices.Grow(x.HeldSums, n)
	x.RemainingMs, x.GraceMs = slices.Grow(x.RemainingMs, n), slices.Grow(x.GraceMs, n)
	for i := range a.Reply.Renewed {
		r := &a.Reply.Renewed[i]
		x.Results, x.HeldSums = append(x.Results, renewResult(r)), append(x.HeldSums, r.HeldSum)
		x.RemainingMs, x.GraceMs = append(x.RemainingMs, millis(r.Remaining)), append(x.GraceMs, millis(r.Grace))
	}
	return x
}

func renewResult(r *lease.Renewed) pb.RenewResult {
	switch {
	case r.Reason == "" && r.News:
		return pb.RenewResult_RENEW_RESULT_RENEWED_WITH_NEWS
	case r.Reason == "":
		return pb.RenewResult_RENEW_RESULT_RENEWED
	case r.Reason == lease.Forbidden:
		return pb.RenewResult_RENEW_RESULT_FORBIDDEN
	case r.Reason == lease.Fenced:
		return pb.RenewResult_RENEW_RESULT_FENCED
	}
	return pb.RenewResult_RENEW_RESULT_SESSION_UNKNOWN
}
