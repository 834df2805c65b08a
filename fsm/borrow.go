package fsm

import (
	"encoding/binary"
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// The commands and records of borrowing.

// toBorrowCommand gives nil for a command of another kind.
func toBorrowCommand(cmd lease.Command) *logv1.Command {
	switch c := cmd.(type) {
	case lease.Borrow:
		return &logv1.Command{Kind: &logv1.Command_Borrow{Borrow: &logv1.Borrow{
			Tenant: c.Tenant, Session: toSession(c.Session), Principal: toPrincipal(c.Principal), InstanceId: c.InstanceID,
			Item: &logv1.Item{Feature: c.Item.Feature, Version: c.Item.Version, Count: int64(c.Item.Count)},
			Term: int64(c.For), Ephemeral: c.Ephemeral,
		}}}
	case lease.RenewBorrow:
		return &logv1.Command{Kind: &logv1.Command_RenewBorrow{RenewBorrow: &logv1.RenewBorrow{Ref: toRef(c.Ref), Term: int64(c.For)}}}
	case lease.ReturnEarly:
		return &logv1.Command{Kind: &logv1.Command_ReturnEarly{ReturnEarly: &logv1.ReturnEarly{Ref: toRef(c.Ref)}}}
	case lease.RevokeBorrow:
		return &logv1.Command{Kind: &logv1.Command_RevokeBorrow{RevokeBorrow: &logv1.RevokeBorrow{Tenant: c.Tenant, Id: uint64(c.ID), AtOnce: c.AtOnce, By: c.By}}}
	case lease.RotateBorrowKey:
		return &logv1.Command{Kind: &logv1.Command_RotateBorrowKey{RotateBorrowKey: &logv1.RotateBorrowKey{
			Kid: c.Kid, Public: c.Public[:], Seed: c.Seed[:], IfNone: c.IfNone, By: c.By,
		}}}
	}
	return nil
}

// fromBorrowCommand gives nil for a kind that is not of borrowing.
func fromBorrowCommand(pb *logv1.Command) lease.Command {
	switch k := pb.GetKind().(type) {
	case *logv1.Command_Borrow:
		c := k.Borrow
		return lease.Borrow{
			Tenant: c.Tenant, Session: fromSession(c.Session), Principal: fromPrincipal(c.Principal), InstanceID: c.InstanceId,
			Item: lease.Item{Feature: c.GetItem().GetFeature(), Version: c.GetItem().GetVersion(), Count: int(c.GetItem().GetCount())},
			For:  time.Duration(c.Term), Ephemeral: c.Ephemeral,
		}
	case *logv1.Command_RenewBorrow:
		return lease.RenewBorrow{Ref: fromRef(k.RenewBorrow.Ref), For: time.Duration(k.RenewBorrow.Term)}
	case *logv1.Command_ReturnEarly:
		return lease.ReturnEarly{Ref: fromRef(k.ReturnEarly.Ref)}
	case *logv1.Command_RevokeBorrow:
		c := k.RevokeBorrow
		return lease.RevokeBorrow{Tenant: c.Tenant, ID: lease.ID(c.Id), AtOnce: c.AtOnce, By: c.By}
	case *logv1.Command_RotateBorrowKey:
		c := k.RotateBorrowKey
		x := lease.RotateBorrowKey{Kid: c.Kid, IfNone: c.IfNone, By: c.By}
		copy(x.Public[:], c.Public)
		copy(x.Seed[:], c.Seed)
		return x
	}
	return nil
}

// auditBorrow describes a command of borrowing; false: it is none. The private half of a
// key stays out of it.
func auditBorrow(cmd lease.Command) (AuditCommand, bool) {
	switch c := cmd.(type) {
	case lease.Borrow:
		return AuditCommand{Kind: "borrow", Tenant: c.Tenant, Principal: auditPrincipal(c.Principal), InstanceID: c.InstanceID, Ephemeral: c.Ephemeral,
			Items:  []AuditItem{{c.Item.Feature, c.Item.Version, int64(c.Item.Count)}},
			Borrow: &AuditBorrow{TermNS: int64(c.For)}}.of(c.Session), true
	case lease.RenewBorrow:
		return AuditCommand{Kind: "renew_borrow", Refs: auditRefs([]lease.Ref{c.Ref}), Borrow: &AuditBorrow{TermNS: int64(c.For)}}, true
	case lease.ReturnEarly:
		return AuditCommand{Kind: "return_early", Refs: auditRefs([]lease.Ref{c.Ref})}, true
	case lease.RevokeBorrow:
		return AuditCommand{Kind: "revoke_borrow", Tenant: c.Tenant, Refs: auditRefs([]lease.Ref{{ID: c.ID}}), By: c.By, Borrow: &AuditBorrow{AtOnce: c.AtOnce}}, true
	case lease.RotateBorrowKey:
		return AuditCommand{Kind: "rotate_borrow_key", By: c.By, Borrow: &AuditBorrow{Kid: c.Kid, IfNone: c.IfNone}}, true
	}
	return AuditCommand{}, false
}

// AuditBorrow is what commands of borrowing have beside the others.
type AuditBorrow struct {
	TermNS int64  `json:"term_ns,string,omitempty"` // borrow, renew_borrow
	AtOnce bool   `json:"at_once,omitempty"`        // revoke_borrow
	Kid    string `json:"kid,omitempty"`            // rotate_borrow_key
	IfNone bool   `json:"if_none,omitempty"`
}

// appendLent encodes what a token will say, for the state hash.
func appendLent(buf []byte, x *lease.Lent) []byte {
	if x == nil {
		return buf
	}
	buf = append(append(buf, x.Kid...), 0)
	return binary.BigEndian.AppendUint64(buf, uint64(x.Issued))
}

// putBorrowing writes the records of borrowing that stand in no other table.
func putBorrowing(w *recordWriter, f *lease.Frozen) {
	f.Pins(func(p *lease.PinRecord) bool { return w.put(pinRecord(p)) })
	for _, k := range f.BorrowKeys() {
		w.put(borrowKeyRecord(k))
	}
	for _, o := range f.Overdrawn() {
		w.put(overdrawnRecord(&o))
	}
}

func borrowKeyRecord(k *lease.BorrowKey) *logv1.SnapshotRecord {
	x := &logv1.BorrowKeyRecord{Kid: k.Kid, Public: k.Public[:], Created: int64(k.Created), Last: int64(k.Last)}
	if k.Seed != [32]byte{} {
		x.Seed = k.Seed[:]
	}
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_BorrowKey{BorrowKey: x}}
}

func fromBorrowKey(x *logv1.BorrowKeyRecord) lease.BorrowKey {
	k := lease.BorrowKey{Kid: x.Kid, Created: lease.Calendar(x.Created), Last: lease.Calendar(x.Last)}
	copy(k.Public[:], x.Public)
	copy(k.Seed[:], x.Seed)
	return k
}

func overdrawnRecord(o *lease.Overdrawn) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Overdrawn{Overdrawn: &logv1.OverdrawnRecord{
		Ref: toRef(o.Ref), Tenant: o.Tenant, Feature: o.Feature, Version: o.Version, Count: int64(o.Count),
		End: int64(o.End), Until: int64(o.Until), Principal: toPrincipal(o.Principal), By: o.By,
	}}}
}

func fromOverdrawn(x *logv1.OverdrawnRecord) lease.Overdrawn {
	return lease.Overdrawn{
		Ref: fromRef(x.Ref), Tenant: x.Tenant, Feature: x.Feature, Version: x.Version, Count: int(x.Count),
		End: lease.Time(x.End), Until: lease.Calendar(x.Until), Principal: fromPrincipal(x.Principal), By: x.By,
	}
}
