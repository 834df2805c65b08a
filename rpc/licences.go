package rpc

import (
	"context"
	"fmt"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (h *clusterService) LicenseApply(ctx context.Context, r *pb.LicenseApplyRequest) (*pb.LicenseApplyResponse, error) {
	if len(r.GetFile()) == 0 {
		return nil, invalid("file is missing: send the signed licence file")
	}
	l, err := license.Verify(r.GetFile(), *h.s.trusted.Load())
	if err != nil {
		return nil, licenceRefusal(err)
	}
	if mine := callerOf(ctx).tenant(); mine != "" && l.Tenant != mine {
		return nil, forbidden(fmt.Sprintf("you act for tenant %.80q only, and this licence is for %.80q", mine, l.Tenant))
	}
	st, err := h.s.cfg.Node.Read(ctx, func(*lease.Book) {})
	if err != nil {
		return nil, err
	}
	if err := license.Check(l, st.ClusterID, st.Calendar); err != nil {
		return nil, licenceRefusal(err)
	}
	applied, err := h.s.propose(ctx, lease.InstallLicence{Licence: l, Replace: r.GetReplace()})
	if err != nil {
		return nil, err
	}
	return &pb.LicenseApplyResponse{License: LicenseMessage(l, nil, st.Calendar), RaftIndex: applied.Index, Term: applied.Term}, nil
}

// licenceRefusal gives what is wrong with a file its reason.
func licenceRefusal(err error) error {
	r := &lease.Refusal{Reason: lease.Invalid, Message: err.Error(), Final: true}
	switch license.CodeOf(err) {
	case license.NotSigned, license.BadSignature, license.UntrustedKey, license.WrongVendor, license.WrongCluster:
		r.Reason = lease.Forbidden
	case license.Expired:
		r.Reason = lease.LicenseExpired
	case license.NotStarted:
		r.Reason, r.Final = lease.NotStarted, false
	}
	return r
}

// LicenseList shows the signed file itself only when one licence is asked for.
func (h *clusterService) LicenseList(ctx context.Context, r *pb.LicenseListRequest) (*pb.LicenseListResponse, error) {
	var found []lease.Licence
	var standings [][]lease.Standing
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) {
		found, standings = b.Licences(r.GetTenant()), nil
		for _, l := range found {
			standings = append(standings, b.Standings(l.Tenant, l.ID))
		}
	})
	if err != nil {
		return nil, err
	}
	answer := &pb.LicenseListResponse{}
	for i, l := range found {
		if r.GetId() != "" && r.GetId() != l.ID {
			continue
		}
		shown := LicenseMessage(l, standings[i], st.Calendar)
		if r.GetId() != "" {
			shown.File = l.Text
		}
		answer.Licenses = append(answer.Licenses, shown)
	}
	return answer, nil
}

func (h *clusterService) LicenseRemove(ctx context.Context, r *pb.LicenseRemoveRequest) (*pb.LicenseRemoveResponse, error) {
	if r.GetId() == "" {
		return nil, invalid("id is missing: say which licence to remove")
	}
	if err := checkName("id", r.GetId()); err != nil {
		return nil, err
	}
	tenant, err := tenantOf(r)
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, lease.RemoveLicence{Tenant: tenant, ID: r.GetId()})
	if err != nil {
		return nil, err
	}
	return &pb.LicenseRemoveResponse{RaftIndex: applied.Index, Term: applied.Term}, nil
}
