package rpc

import (
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// seats serves what clients need: take, keep and give back.
type seats struct {
	pb.UnimplementedSeatsServer
	s *Server
}

// digest is what is kept of a session's secret.
func digest[T string | []byte](secret T) lease.SecretDigest {
	sum := sha256.Sum256([]byte(secret))
	return lease.SecretDigest(sum[:16])
}

// mint makes a session for a caller who brought none. crypto/rand does not fail.
func mint() (id lease.SessionID, secret string) {
	var s [16]byte
	for id.IsZero() {
		_, _ = crand.Read(id[:])
	}
	_, _ = crand.Read(s[:])
	return id, hex.EncodeToString(s[:])
}

func (h *seats) Checkout(ctx context.Context, r *pb.CheckoutRequest) (*pb.CheckoutResponse, error) {
	cmd, minted, err := checkoutOf(ctx, r)
	if err != nil {
		return nil, err
	}
	applied, err := h.checkout(ctx, cmd, waitOf(r), queueOf(r))
	if err != nil {
		return nil, queuedAnswer(applied, minted, err)
	}
	return checkoutPB(applied, minted), nil
}

func checkoutPB(a cluster.Applied, minted string) *pb.CheckoutResponse {
	session := sessionPB(a.Reply.Session)
	session.Secret = minted
	x := pb.CheckoutResponseFromVTPool()
	x.Session, x.Leases, x.Refused = session, leasesPB(x.Leases, a.Reply.Leases), refusedPB(a.Reply.Refused)
	x.RaftIndex, x.Term, x.Replayed = a.Index, a.Term, a.Reply.Replayed
	return x
}

// checkoutOf reads the command out of a request; minted is the secret of a session
// made for it.
func checkoutOf(ctx context.Context, r *pb.CheckoutRequest) (cmd lease.Checkout, minted string, err error) {
	if cmd.Items, err = itemsOf(r, r.Count != nil); err != nil {
		return cmd, "", err
	}
	if cmd.Principal, err = principalOf(r, callerOf(ctx).IP); err != nil {
		return cmd, "", err
	}
	if err = checkName("instance_id", r.GetInstanceId()); err != nil {
		return cmd, "", err
	}
	if cmd.Tenant, err = tenantOf(r); err != nil {
		return cmd, "", err
	}
	if err = checkName("booking", r.GetBooking()); err != nil {
		return cmd, "", err
	}
	if r.GetPartial() && max(r.GetWaitMs(), r.GetQueueMs()) > 0 {
		return cmd, "", invalid("a partial checkout takes what is there and does not wait: leave out partial, or wait_ms and queue_ms")
	}
	cmd.InstanceID, cmd.Booking, cmd.Partial = r.GetInstanceId(), r.GetBooking(), r.GetPartial()
	if r.GetSessionId() != "" {
		cmd.Session, err = sessionRef(r.GetSessionId(), r.GetSessionSecret(), r.GetIncarnation(), r.GetSeq())
		return cmd, "", err
	}
	if r.GetSessionSecret() != "" || r.GetIncarnation() != 0 || r.GetSeq() != 0 {
		return cmd, "", invalid("session_id is missing beside session_secret, incarnation or seq")
	}
	id, secret := mint()
	cmd.Session = lease.SessionRef{ID: id, Digest: digest(secret)}
	cmd.Ephemeral = true
	return cmd, secret, nil
}

// propose has the command replicated within the time of one request, and returns a
// refusal by the rules as an error.
func (s *Server) propose(ctx context.Context, cmd lease.Command) (cluster.Applied, error) {
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > s.cfg.RequestTimeout { // its time includes a wait for seats
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cfg.RequestTimeout)
		defer cancel()
	}
	applied, err := s.cfg.Node.Propose(ctx, cmd)
	if err != nil {
		return applied, err
	}
	if applied.Reply.Refusal != nil {
		return applied, applied.Reply.Refusal
	}
	return applied, nil
}

func (h *seats) Renew(ctx context.Context, r *pb.RenewRequest) (*pb.RenewResponse, error) {
	cmd, err := renewOf(r)
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	h.s.metrics.renewed.Inc()
	return renewPB(applied), nil
}

func renewOf(r *pb.RenewRequest) (lease.Renew, error) {
	session, err := sessionRef(r.GetSessionId(), r.GetSessionSecret(), r.GetIncarnation(), 0)
	if err != nil {
		return lease.Renew{}, err
	}
	held, err := refsOf(nil, r.GetHeld())
	return lease.Renew{Session: session, Held: held, Idle: duration(r.GetIdleMs())}, err
}

func renewPB(a cluster.Applied) *pb.RenewResponse {
	x := pb.RenewResponseFromVTPool()
	x.Session, x.Leases, x.Lost = sessionPB(a.Reply.Session), leasesPB(x.Leases, a.Reply.Leases), lostPB(a.Reply.Lost)
	x.RaftIndex, x.Term = a.Index, a.Term
	return x
}

func (h *seats) Checkin(ctx context.Context, r *pb.CheckinRequest) (*pb.CheckinResponse, error) {
	cmd, err := checkinOf(r)
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	return checkinPB(applied), nil
}

func checkinOf(r *pb.CheckinRequest) (lease.CheckIn, error) {
	session, err := sessionRef(r.GetSessionId(), r.GetSessionSecret(), r.GetIncarnation(), r.GetSeq())
	if err != nil {
		return lease.CheckIn{}, err
	}
	refs, err := refsOf(r.GetLeaseIds(), r.GetRefs())
	return lease.CheckIn{Session: session, Refs: refs, Close: r.GetClose()}, err
}

func checkinPB(a cluster.Applied) *pb.CheckinResponse {
	x := pb.CheckinResponseFromVTPool()
	x.Released, x.RaftIndex, x.Term, x.Replayed = releasedPB(x.Released, a.Reply.Released), a.Index, a.Term, a.Reply.Replayed
	return x
}

func (h *seats) Preview(ctx context.Context, r *pb.PreviewRequest) (*pb.PreviewResponse, error) {
	var cmd lease.Checkout
	var err error
	if cmd.Items, err = itemsOf(r, r.Count != nil); err != nil {
		return nil, err
	}
	if cmd.Principal, err = principalOf(r, callerOf(ctx).IP); err != nil {
		return nil, err
	}
	if cmd.Tenant, err = tenantOf(r); err != nil {
		return nil, err
	}
	if err = checkName("booking", r.GetBooking()); err != nil {
		return nil, err
	}
	cmd.Booking = r.GetBooking()
	if r.GetSessionId() != "" {
		if cmd.Session.ID, err = sessionOf(r.GetSessionId()); err != nil {
			return nil, err
		}
	}
	var items []lease.PreviewItem
	var granted bool
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) { items, granted = b.Preview(cmd) })
	if err != nil {
		return nil, err
	}
	return &pb.PreviewResponse{
		Granted:   granted,
		Items:     previewPB(items),
		RaftIndex: st.AppliedIndex,
		Term:      st.AppliedTerm,
	}, nil
}

func (h *seats) Verify(ctx context.Context, r *pb.VerifyRequest) (*pb.VerifyResponse, error) {
	if r.GetLeaseId() == 0 || r.GetFencingToken() == 0 {
		return nil, invalid("lease_id and fencing_token are both needed")
	}
	ref := lease.Ref{ID: lease.ID(r.GetLeaseId()), Token: lease.Token(r.GetFencingToken())}
	var found lease.Lease
	var valid bool
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) { found, valid = b.Verify(ref) })
	if err != nil {
		return nil, err
	}
	answer := &pb.VerifyResponse{RaftIndex: st.AppliedIndex, Term: st.AppliedTerm}
	if valid && (r.GetTenant() == "" || r.GetTenant() == found.Tenant) {
		answer.Valid, answer.Lease = true, leasePB(found)
	}
	return answer, nil
}
