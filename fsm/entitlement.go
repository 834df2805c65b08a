package fsm

import (
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// The two directions of what a licence grants. What is not there costs no byte, so files
// and snapshots from before it was known read as they did.

func toEntitlement(e *lease.Entitlement) *logv1.Entitlement {
	x := &logv1.Entitlement{
		Feature: e.Feature, Version: e.Version, Count: int64(e.Count), Start: int64(e.Start), Expiry: int64(e.Expiry), Serial: e.Serial,
		Lifespan: int64(e.Profile.Lifespan), Grace: int64(e.Profile.Grace),
		ShareBy: uint32(e.Share.By), ShareMaxSessions: int64(e.Share.MaxSessions),
		Terms: toTerms(&e.Terms), Overdraft: int64(e.Overdraft), GraceDays: int64(e.GraceDays),
		Issued: int64(e.Issued), Supersedes: e.Supersedes, Zone: int64(e.Zone), Suite: e.Package.Suite,
	}
	for _, c := range e.Package.Components {
		x.Components = append(x.Components, &logv1.Component{Feature: c.Feature, Version: c.Version, Count: int64(c.Count)})
	}
	return x
}

func fromEntitlement(x *logv1.Entitlement) lease.Entitlement {
	e := lease.Entitlement{
		Feature: x.Feature, Version: x.Version, Count: int(x.Count), Start: lease.Calendar(x.Start), Expiry: lease.Calendar(x.Expiry), Serial: x.Serial,
		Profile: lease.Profile{Lifespan: time.Duration(x.Lifespan), Grace: time.Duration(x.Grace)},
		Share:   lease.ShareRule{By: lease.Mask(x.ShareBy), MaxSessions: int(x.ShareMaxSessions)},
		Terms:   fromTerms(x.Terms), Overdraft: int(x.Overdraft), GraceDays: int(x.GraceDays),
		Issued: lease.Calendar(x.Issued), Supersedes: x.Supersedes, Zone: int(x.Zone),
		Package: lease.Package{Suite: x.Suite},
	}
	for _, c := range x.Components {
		e.Package.Components = append(e.Package.Components, lease.Component{Feature: c.Feature, Version: c.Version, Count: int(c.Count)})
	}
	return e
}

func toTerms(t *lease.Terms) *logv1.Terms {
	if *t == (lease.Terms{}) {
		return nil
	}
	x := &logv1.Terms{
		Uncounted: t.Uncounted, BorrowHours: int64(t.BorrowHours), LingerMin: int64(t.LingerMin),
		IdleFloor: int64(t.IdleFloor), MinCheckout: int64(t.MinCheckout), Variant: t.Variant, Suite: t.Suite,
	}
	if d := t.Draw; d != (lease.Draw{}) {
		x.Draw = &logv1.Draw{Of: d.Of, Cost: int64(d.Cost), Per: int64(d.Per), Suite: d.Suite, Version: d.Version}
	}
	return x
}

func fromTerms(x *logv1.Terms) lease.Terms {
	t := lease.Terms{
		Uncounted: x.GetUncounted(), BorrowHours: int(x.GetBorrowHours()), LingerMin: time.Duration(x.GetLingerMin()),
		IdleFloor: time.Duration(x.GetIdleFloor()), MinCheckout: time.Duration(x.GetMinCheckout()), Variant: x.GetVariant(), Suite: x.GetSuite(),
	}
	if d := x.GetDraw(); d != nil {
		t.Draw = lease.Draw{Of: d.Of, Cost: int(d.Cost), Per: int(d.Per), Suite: d.Suite, Version: d.Version}
	}
	return t
}

func drawRecord(slot uint32, d *lease.DrawRecord) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Draw{Draw: &logv1.DrawRecord{
		Slot: slot, Pool: d.Pool, Seats: d.Seats, Charges: d.Charges,
	}}}
}

func fromDraw(x *logv1.DrawRecord) lease.DrawRecord {
	return lease.DrawRecord{Pool: x.Pool, Seats: x.Seats, Charges: x.Charges}
}
