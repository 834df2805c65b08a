package rpc

import (
	"math"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// millis rounds down, so that a client never believes in time it does not have.
func millis(d time.Duration) uint32 {
	return uint32(min(max(d.Milliseconds(), 0), math.MaxUint32))
}

// millisUp rounds up, for hints not to come too early.
func millisUp(d time.Duration) uint32 { return millis(d + time.Millisecond - 1) }

// date prints a calendar date in RFC 3339, "" for none.
func date(c lease.Calendar) string {
	if c == 0 {
		return ""
	}
	return c.Time().Format(time.RFC3339)
}

// until is the date of a borrowed lease; the answer for any other does not have the name.
func until(l lease.Lease) *string {
	if l.Until == 0 {
		return nil
	}
	s := date(l.Until)
	return &s
}

// dateOf reads what date prints.
func dateOf(field, s string) (lease.Calendar, error) {
	if s == "" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return 0, invalid(field + ": want a date and time such as 2026-01-31T08:00:00Z")
	}
	return lease.CalendarOf(t), nil
}

// more lengthens a list by an empty element, which may have been another's.
func more[M any](list []*M) ([]*M, *M) {
	n := len(list)
	if n == cap(list) {
		list = append(list, nil)
	}
	if list = list[:n+1]; list[n] == nil {
		list[n] = new(M)
	}
	return list, list[n]
}

func sessionPB(s lease.SessionInfo) *pb.Session {
	x := pb.SessionFromVTPool()
	x.Id, x.Incarnation, x.HeartbeatMs = s.ID.String(), s.Incarnation, millis(s.Heartbeat)
	return x
}

func seatsPB(out []int32, seats []int) []int32 {
	out = slices.Grow(out, len(seats))
	for _, n := range seats {
		out = append(out, int32(n))
	}
	return out
}

func leasePB(l lease.Lease) *pb.Lease { return leasesPB(nil, []lease.Lease{l})[0] }

// leasesPB appends to an empty list, which may have had others before.
func leasesPB(out []*pb.Lease, ls []lease.Lease) []*pb.Lease {
	out = slices.Grow(out, len(ls))
	for i := range ls {
		var x *pb.Lease
		l := &ls[i]
		out, x = more(out)
		x.Id, x.Handle, x.FencingToken = uint64(l.ID), uint32(l.Handle), uint64(l.Token)
		x.Feature, x.Version, x.Count, x.Seats = l.Feature, l.Version, int32(l.Count), seatsPB(x.Seats, l.Seats)
		x.State, x.RemainingMs, x.GraceMs = l.State.String(), millis(l.Remaining), millis(l.Grace)
		x.Until, x.Overdraft = until(*l), overdraftPB(l)
	}
	return out
}

func lostPB(ls []lease.Lost) []*pb.LostLease {
	out := make([]*pb.LostLease, len(ls))
	for i, l := range ls {
		out[i] = &pb.LostLease{Id: uint64(l.ID), FencingToken: uint64(l.Token), Feature: l.Feature, Reason: l.Reason.String()}
	}
	return out
}

// releasedPB appends to an empty list, which may have had others before.
func releasedPB(out []*pb.ReleasedLease, rs []lease.Released) []*pb.ReleasedLease {
	out = slices.Grow(out, len(rs))
	for i := range rs {
		var x *pb.ReleasedLease
		r := &rs[i]
		out, x = more(out)
		x.Id, x.FencingToken, x.Feature = uint64(r.ID), uint64(r.Token), r.Feature
		x.Count, x.Reason = int32(r.Count), r.Reason.String()
	}
	return out
}

func previewPB(items []lease.PreviewItem) []*pb.PreviewItem {
	out := make([]*pb.PreviewItem, len(items))
	for i, it := range items {
		p := &pb.PreviewItem{Feature: it.Item.Feature, Version: it.Item.Version, Count: int32(it.Item.Count),
			Free: int32(it.Free), Granted: it.Refusal == nil,
			Position: uint32(it.Position)}
		if r := it.Refusal; r != nil {
			p.Reason, p.Message, p.Final = string(r.Reason), r.Message, r.Final
		}
		out[i] = p
	}
	return out
}

func entryPB(l lease.Lease) *pb.LeaseEntry {
	return &pb.LeaseEntry{
		Id:           uint64(l.ID),
		Handle:       uint32(l.Handle),
		Feature:      l.Feature,
		Version:      l.Version,
		Count:        int32(l.Count),
		Seats:        seatsPB(nil, l.Seats),
		User:         l.Principal.User,
		Host:         l.Principal.Host,
		Display:      l.Principal.Display,
		SessionId:    l.Session.String(),
		State:        l.State.String(),
		FencingToken: uint64(l.Token),
		Since:        date(l.Since),
		RemainingMs:  millis(l.Remaining),
		GraceMs:      millis(l.Grace),
		Tenant:       l.Tenant,
		InstanceId:   l.InstanceID,
		Until:        until(l),
		Overdraft:    overdraftPB(&l),
		Vendor:       l.Vendor,
		Charge:       l.Charge,
	}
}

func entriesPB(ls []lease.Lease) []*pb.LeaseEntry {
	out := make([]*pb.LeaseEntry, len(ls))
	for i, l := range ls {
		out[i] = entryPB(l)
	}
	return out
}

func poolsPB(pools []lease.PoolStatus) []*pb.PoolStatus {
	out := make([]*pb.PoolStatus, len(pools))
	for i, p := range pools {
		out[i] = entitledPB(&pb.PoolStatus{Feature: p.Feature, Version: p.Version, Total: int32(p.Total), InUse: int32(p.InUse),
			Reserved: int32(p.Reserved), ReservedFor: reservedPB(p.ReservedFor), OverdraftAllowed: int32(p.OverdraftAllowed), Queued: int32(p.Queued), Vendor: p.Vendor, Expiry: date(p.Expiry),
			Expiring: int32(p.Expiring), Tenant: p.Tenant}, &pools[i])
	}
	return out
}

func usagePB(rs []lease.UsageRecord) []*pb.UsageRecord {
	out := make([]*pb.UsageRecord, len(rs))
	for i, r := range rs {
		out[i] = &pb.UsageRecord{LeaseId: uint64(r.Lease), Feature: r.Feature, Version: r.Version, Count: int32(r.Count),
			User: r.Principal.User, Host: r.Principal.Host, SessionId: r.Session.String(), Start: date(r.StartDate),
			End: date(r.EndDate), Reason: r.Reason.String(), Tenant: r.Tenant,
			Project: r.Principal.Project, Display: r.Principal.Display, Vendor: r.Vendor,
			DurationMs: uint64(max(r.End.Sub(r.Start).Milliseconds(), 0))}
	}
	return out
}

// overdraftPB is left out where there is none, as nearly everywhere.
func overdraftPB(l *lease.Lease) *bool {
	if !l.Overdraft {
		return nil
	}
	yes := true
	return &yes
}
