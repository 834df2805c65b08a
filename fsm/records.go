package fsm

import (
	"fmt"
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// The two directions of each snapshot record stand side by side.

func headerRecord(st Status, h lease.Header) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Header{Header: &logv1.SnapshotHeader{
		Version: st.LogVersion, ClusterId: st.ClusterID,
		EpochIndex: st.Epoch.Index, EpochTerm: st.Epoch.Term, EpochNode: st.Epoch.Node, EpochApiAddress: st.Epoch.APIAddress,
		AppliedIndex: st.AppliedIndex, AppliedTerm: st.AppliedTerm, StateHash: st.StateHash[:],
		Now: int64(h.Now), Calendar: int64(h.Calendar), Anchor: int64(h.Anchor), AnchorTime: int64(h.AnchorTime),
		HeldSince: int64(h.HeldSince), FenceUntil: int64(h.FenceUntil),
		Floor: uint64(h.Floor), High: uint64(h.High), Grants: h.Grants, Places: h.Places, Bookings: h.Bookings,
		Recoveries: st.Recoveries, Lineage: st.Lineage,
	}}}
}

func fromHeader(x *logv1.SnapshotHeader) (Status, lease.Header) {
	st := Status{
		ClusterID:    x.ClusterId,
		Epoch:        Epoch{Index: x.EpochIndex, Term: x.EpochTerm, Node: x.EpochNode, APIAddress: x.EpochApiAddress},
		AppliedIndex: x.AppliedIndex, AppliedTerm: x.AppliedTerm,
		LogVersion: x.Version,
		Recoveries: x.Recoveries, Lineage: x.Lineage,
	}
	copy(st.StateHash[:], x.StateHash)
	return st, lease.Header{
		Now: lease.Time(x.Now), Calendar: lease.Calendar(x.Calendar), Anchor: lease.Calendar(x.Anchor), AnchorTime: lease.Time(x.AnchorTime),
		HeldSince: lease.Time(x.HeldSince), FenceUntil: lease.Time(x.FenceUntil),
		Floor: lease.Token(x.Floor), High: lease.Token(x.High), Grants: x.Grants, Places: x.Places, Bookings: x.Bookings,
	}
}

func poolRecord(slot uint32, p *lease.PoolRecord) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Pool{Pool: &logv1.PoolRecord{
		Slot: slot, Tenant: p.Tenant, Vendor: p.Vendor, Feature: p.Feature, Version: p.Version,
		Lifespan: int64(p.Profile.Lifespan), Grace: int64(p.Profile.Grace),
		ShareBy: uint32(p.Share.By), ShareMaxSessions: int64(p.Share.MaxSessions),
		Charged: p.Charged, Grants: p.Grants, Releases: p.Releases, SeatMillis: p.SeatMillis,
		Terms: toTerms(&p.Terms),
	}}}
}

func fromPool(x *logv1.PoolRecord) lease.PoolRecord {
	return lease.PoolRecord{
		Tenant: x.Tenant, Vendor: x.Vendor, Feature: x.Feature, Version: x.Version,
		Profile: lease.Profile{Lifespan: time.Duration(x.Lifespan), Grace: time.Duration(x.Grace)},
		Share:   lease.ShareRule{By: lease.Mask(x.ShareBy), MaxSessions: int(x.ShareMaxSessions)},
		Charged: x.Charged, Grants: x.Grants, Releases: x.Releases, SeatMillis: x.SeatMillis,
		Terms: fromTerms(x.Terms),
	}
}

func sessionRecord(slot uint32, s *lease.SessionRecord) *logv1.SnapshotRecord {
	return new(sessionMessage).of(slot, s)
}

// sessionMessage, groupMessage and leaseMessage are the records of which a snapshot has
// millions. One of each serves for all; it is good until the next one is made of it.
type sessionMessage struct {
	record    logv1.SnapshotRecord
	kind      logv1.SnapshotRecord_Session
	session   logv1.SessionRecord
	principal logv1.Principal
}

func (m *sessionMessage) of(slot uint32, s *lease.SessionRecord) *logv1.SnapshotRecord {
	p, x := &m.principal, &m.session
	p.User, p.Host, p.Ip = s.Principal.User, s.Principal.Host, s.Principal.IP
	p.Display, p.VendorDefined, p.Project = s.Principal.Display, s.Principal.VendorDefined, s.Principal.Project
	x.Slot, x.Id, x.Digest, x.Tenant, x.Principal, x.InstanceId = slot, s.ID[:], s.Digest[:], s.Tenant, p, s.InstanceID
	x.Incarnation, x.Seq, x.Last, x.Renewed, x.Rev = s.Incarnation, s.Seq, toDone(&s.Last), int64(s.Renewed), s.Rev
	x.Lifespan, x.Grace, x.First, x.Tail, x.Leases = int64(s.Lifespan), int64(s.Grace), s.First, s.Tail, s.Leases
	x.Ephemeral, x.Closed, x.Lost, x.Told = s.Ephemeral, s.Closed, toLost(s.Lost), int64(s.Told)
	if lease.Broken(lease.GuardDedupeSaved) {
		x.Seq, x.Last = 0, nil
	}
	m.kind.Session, m.record.Kind = x, &m.kind
	return &m.record
}

func fromSessionRecord(x *logv1.SessionRecord) lease.SessionRecord {
	s := lease.SessionRecord{
		Tenant: x.Tenant, Principal: fromPrincipal(x.Principal), InstanceID: x.InstanceId,
		Incarnation: x.Incarnation, Seq: x.Seq, Last: fromDone(x.Last), Renewed: lease.Time(x.Renewed), Rev: x.Rev,
		Lifespan: time.Duration(x.Lifespan), Grace: time.Duration(x.Grace), First: x.First, Tail: x.Tail, Leases: x.Leases,
		Ephemeral: x.Ephemeral, Closed: x.Closed, Lost: fromLost(x.Lost), Told: int(x.Told),
	}
	copy(s.ID[:], x.Id)
	copy(s.Digest[:], x.Digest)
	return s
}

func groupRecord(slot uint32, g *lease.GroupRecord) *logv1.SnapshotRecord {
	return new(groupMessage).of(slot, g)
}

type groupMessage struct {
	record logv1.SnapshotRecord
	kind   logv1.SnapshotRecord_Group
	group  logv1.GroupRecord
}

func (m *groupMessage) of(slot uint32, g *lease.GroupRecord) *logv1.SnapshotRecord {
	x := &m.group
	x.Slot, x.Pool, x.Seats, x.Members, x.Shared = slot, g.Pool, g.Seats, g.Members[:g.N], g.Shared
	m.kind.Group, m.record.Kind = x, &m.kind
	return &m.record
}

func fromGroup(x *logv1.GroupRecord) (lease.GroupRecord, error) {
	g := lease.GroupRecord{Pool: x.Pool, Seats: x.Seats, Shared: x.Shared, N: uint8(len(x.Members))}
	if len(x.Members) > len(g.Members) {
		return g, fmt.Errorf("snapshot: a charge with %d members", len(x.Members))
	}
	copy(g.Members[:], x.Members)
	return g, nil
}

func leaseRecord(slot uint32, l *lease.LeaseRecord) *logv1.SnapshotRecord {
	return new(leaseMessage).of(slot, l)
}

type leaseMessage struct {
	record logv1.SnapshotRecord
	kind   logv1.SnapshotRecord_Lease
	lease  logv1.LeaseRecord
}

func (m *leaseMessage) of(slot uint32, l *lease.LeaseRecord) *logv1.SnapshotRecord {
	x := &m.lease
	x.Slot, x.Id, x.Token, x.Session, x.Group = slot, uint64(l.ID), uint64(l.Token), l.Session, l.Group
	x.Next, x.Prev, x.Count, x.Granted, x.Since = l.Next, l.Prev, l.Count, int64(l.Granted), int64(l.Since)
	x.Lifespan, x.Grace = int64(l.Profile.Lifespan), int64(l.Profile.Grace)
	m.kind.Lease, m.record.Kind = x, &m.kind
	return &m.record
}

func fromLeaseRecord(x *logv1.LeaseRecord) lease.LeaseRecord {
	return lease.LeaseRecord{
		ID: lease.ID(x.Id), Token: lease.Token(x.Token), Session: x.Session, Group: x.Group,
		Next: x.Next, Prev: x.Prev, Count: x.Count, Granted: lease.Time(x.Granted), Since: lease.Calendar(x.Since),
		Profile: lease.Profile{Lifespan: time.Duration(x.Lifespan), Grace: time.Duration(x.Grace)},
	}
}

func pinRecord(p *lease.PinRecord) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Pin{Pin: &logv1.PinRecord{
		Slot: p.Slot, Kind: uint32(p.Kind), End: int64(p.End), Until: int64(p.Until), Revoked: p.Revoked,
	}}}
}

func fromPin(x *logv1.PinRecord) lease.PinRecord {
	return lease.PinRecord{Slot: x.Slot, Pin: lease.Pin{
		Kind: lease.PinKind(x.Kind), End: lease.Time(x.End), Until: lease.Calendar(x.Until), Revoked: x.Revoked,
	}}
}

// loadRecord hands one record to the loader. Slots are bounded before they are used as
// an index: a damaged record must not make the node allocate without end.
func loadRecord(load *lease.Loader, rec *logv1.SnapshotRecord) error {
	bad := func(slot uint32) bool { return slot == 0 || slot > lease.MaxLeases }
	switch k := rec.Kind.(type) {
	case *logv1.SnapshotRecord_Licence:
		l := fromLicence(k.Licence)
		load.Licence(&l)
		return nil
	case *logv1.SnapshotRecord_Policy:
		p := fromPolicy(k.Policy)
		load.Policy(&p)
		return nil
	case *logv1.SnapshotRecord_Pool:
		if !bad(k.Pool.Slot) {
			load.Pool(k.Pool.Slot, fromPool(k.Pool))
			return nil
		}
	case *logv1.SnapshotRecord_Seats:
		return loadSeats(load, k.Seats)
	case *logv1.SnapshotRecord_Session:
		if !bad(k.Session.Slot) {
			load.Session(k.Session.Slot, fromSessionRecord(k.Session))
			return nil
		}
	case *logv1.SnapshotRecord_Group:
		g, err := fromGroup(k.Group)
		if err != nil {
			return err
		}
		if !bad(k.Group.Slot) {
			load.Group(k.Group.Slot, g)
			return nil
		}
	case *logv1.SnapshotRecord_Draw:
		if !bad(k.Draw.Slot) {
			load.Draw(k.Draw.Slot, fromDraw(k.Draw))
			return nil
		}
	case *logv1.SnapshotRecord_Lease:
		if !bad(k.Lease.Slot) {
			load.Lease(k.Lease.Slot, fromLeaseRecord(k.Lease))
			return nil
		}
	case *logv1.SnapshotRecord_BorrowKey:
		load.BorrowKey(fromBorrowKey(k.BorrowKey))
		return nil
	case *logv1.SnapshotRecord_Overdrawn:
		load.Overdrawn(fromOverdrawn(k.Overdrawn))
		return nil
	case *logv1.SnapshotRecord_Pin:
		if !bad(k.Pin.Slot) {
			load.Pin(fromPin(k.Pin))
			return nil
		}
	}
	if loadQueue(load, rec) {
		return nil
	}
	return fmt.Errorf("snapshot holds a record this build does not know, or at an impossible place: %T", rec.Kind)
}

func loadSeats(load *lease.Loader, x *logv1.SeatRecords) error {
	if len(x.Group) != len(x.Number) || len(x.Last) != len(x.Number) {
		return fmt.Errorf("snapshot: seats of pool %d are not whole", x.Pool)
	}
	if x.Pool == 0 || x.Pool > lease.MaxLeases {
		return fmt.Errorf("snapshot: seats of pool %d", x.Pool)
	}
	for i, n := range x.Number {
		if n == 0 || n > lease.MaxSeats {
			return fmt.Errorf("snapshot: seat number %d", n)
		}
		load.Seat(x.Pool, n, lease.SeatRecord{Group: x.Group[i], Last: lease.Token(x.Last[i])})
	}
	return nil
}

func toLost(list []lease.Lost) []*logv1.LostRecord {
	var out []*logv1.LostRecord
	for _, x := range list {
		out = append(out, &logv1.LostRecord{Ref: toRef(x.Ref), Feature: x.Feature, Reason: uint32(x.Reason)})
	}
	return out
}

func fromLost(list []*logv1.LostRecord) []lease.Lost {
	var out []lease.Lost
	for _, x := range list {
		out = append(out, lease.Lost{Ref: fromRef(x.Ref), Feature: x.Feature, Reason: lease.Release(x.Reason)})
	}
	return out
}

func toDone(d *lease.Done) *logv1.DoneRecord {
	if d.Kind == lease.DoneNothing {
		return nil
	}
	x := &logv1.DoneRecord{Kind: uint32(d.Kind), Lost: toLost(d.Lost), Refused: toRefusedItems(d.Refused), Refusal: toRefusal(d.Refusal)}
	if len(d.Granted) > 0 {
		x.Granted = toRefs(nil, d.Granted)
	}
	for _, r := range d.Released {
		x.Released = append(x.Released, &logv1.ReleasedRecord{Ref: toRef(r.Ref), Feature: r.Feature, Count: int64(r.Count), Reason: uint32(r.Reason)})
	}
	return x
}

func fromDone(x *logv1.DoneRecord) lease.Done {
	if x == nil {
		return lease.Done{}
	}
	d := lease.Done{Kind: lease.DoneKind(x.Kind), Granted: fromRefs(x.Granted), Lost: fromLost(x.Lost), Refused: fromRefusedItems(x.Refused), Refusal: fromRefusal(x.Refusal)}
	for _, r := range x.Released {
		d.Released = append(d.Released, lease.Released{Ref: fromRef(r.Ref), Feature: r.Feature, Count: int(r.Count), Reason: lease.Release(r.Reason)})
	}
	return d
}
