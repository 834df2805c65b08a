package rpc

import (
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// LicenseMessage puts a licence into the API's words. standings are those of its features
// in their order; without them the dates alone are judged, at now.
func LicenseMessage(l lease.Licence, standings []lease.Standing, now lease.Calendar) *pb.License {
	out := &pb.License{Id: l.ID, Vendor: l.Vendor, Tenant: l.Tenant, Cluster: l.Cluster, Issued: date(l.Issued)}
	for i := range l.Entitlements {
		e := &l.Entitlements[i]
		state := e.StandingAt(now)
		if i < len(standings) {
			state = standings[i]
		}
		f := &pb.LicenseFeature{
			Feature: e.Feature, Version: e.Version, Count: int32(e.Count),
			Start: date(e.Start), Expiry: date(e.Expiry), Serial: e.Serial, LifespanMs: millis(e.Profile.Lifespan),
			GraceMs: millis(e.Profile.Grace), Share: license.FormatShare(e.Share), State: state.String(),
			Uncounted: e.Uncounted, GraceDays: uint32(e.GraceDays), Overdraft: int32(e.Overdraft), BorrowHours: uint32(e.BorrowHours),
			LingerMs: millis(e.LingerMin), IdleFloorMs: millis(e.IdleFloor), MinCheckoutMs: millis(e.MinCheckout),
			Lineage: &pb.LicenseLineage{Issued: date(e.Issued), Supersedes: e.Supersedes, Tz: license.FormatZone(e.Zone), Variant: e.Variant},
		}
		if e.GraceDays > 0 {
			f.Lineage.GraceEnd = date(e.GraceEnd())
		}
		if e.Draw.Of != "" {
			f.Tokens = &pb.LicenseTokens{Feature: e.Draw.Of, Cost: int32(e.Draw.Cost)}
		}
		if parts := e.Package.Components; len(parts) > 0 {
			f.Package = &pb.LicensePackage{Suite: e.Package.Suite}
			for _, c := range parts {
				f.Package.Components = append(f.Package.Components, &pb.LicenseComponent{Feature: c.Feature, Version: c.Version, Count: int32(c.Count)})
			}
		}
		out.Features = append(out.Features, f)
	}
	return out
}

// entitledPB adds to a pool what its licences say beyond seats and dates.
func entitledPB(out *pb.PoolStatus, p *lease.PoolStatus) *pb.PoolStatus {
	out.Uncounted, out.OverUse, out.InGrace, out.GraceEnd = p.Uncounted, int32(p.OverUse), int32(p.InGrace), date(p.GraceEnd)
	out.HeldBack = int32(p.HeldBack)
	out.Packages, out.Drawn, out.LicensedOverdraft, out.BorrowHours = p.Packages, int32(p.Drawn), int32(p.LicensedOverdraft), uint32(p.BorrowHours)
	if d := p.Draw; d.Of != "" {
		out.Draw = &pb.PoolDraw{Feature: d.Of, Cost: int32(d.Cost), Per: int32(d.Per), Suite: d.Suite}
	}
	out.Terms = &pb.PoolTerms{
		Variant: p.Variant, LingerMs: millis(p.LingerMin), IdleFloorMs: millis(p.IdleFloor), MinCheckoutMs: millis(p.MinCheckout), Suite: p.Suite,
	}
	return out
}
