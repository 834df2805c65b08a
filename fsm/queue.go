package fsm

import (
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// How the queue and the bookings stand in the log and in snapshots.

func toItems(list []lease.Item) (out []*logv1.Item) {
	for _, it := range list {
		out = append(out, &logv1.Item{Feature: it.Feature, Version: it.Version, Count: int64(it.Count)})
	}
	return out
}

func fromItem(x *logv1.Item) lease.Item {
	return lease.Item{Feature: x.GetFeature(), Version: x.GetVersion(), Count: int(x.GetCount())}
}

func fromItems(list []*logv1.Item) (out []lease.Item) {
	for _, x := range list {
		out = append(out, fromItem(x))
	}
	return out
}

// toQueueCommand gives nil for a command that is not of the queue or the bookings.
func toQueueCommand(cmd lease.Command) *logv1.Command {
	switch c := cmd.(type) {
	case lease.Leave:
		return &logv1.Command{Kind: &logv1.Command_Leave{Leave: &logv1.Leave{Session: toSession(c.Session), Ticket: c.Ticket}}}
	case lease.Dequeue:
		return &logv1.Command{Kind: &logv1.Command_Dequeue{Dequeue: &logv1.Dequeue{Slot: c.Slot, Ticket: c.Ticket}}}
	case lease.MakeBooking:
		return &logv1.Command{Kind: &logv1.Command_MakeBooking{MakeBooking: &logv1.MakeBooking{
			Tenant: c.Tenant, Id: c.ID, Items: toItems(c.Items), For: int64(c.For), Only: toPrincipal(c.Only), By: c.By,
		}}}
	case lease.CancelBooking:
		return &logv1.Command{Kind: &logv1.Command_CancelBooking{CancelBooking: &logv1.CancelBooking{Tenant: c.Tenant, Id: c.ID, By: c.By}}}
	case lease.ExpireBooking:
		return &logv1.Command{Kind: &logv1.Command_ExpireBooking{ExpireBooking: &logv1.ExpireBooking{Slot: c.Slot, Number: c.Number}}}
	}
	return nil
}

func fromQueueCommand(pb *logv1.Command) lease.Command {
	switch k := pb.GetKind().(type) {
	case *logv1.Command_Leave:
		return lease.Leave{Session: fromSession(k.Leave.Session), Ticket: k.Leave.Ticket}
	case *logv1.Command_Dequeue:
		return lease.Dequeue{Slot: k.Dequeue.Slot, Ticket: k.Dequeue.Ticket}
	case *logv1.Command_MakeBooking:
		c := k.MakeBooking
		return lease.MakeBooking{Tenant: c.Tenant, ID: c.Id, Items: fromItems(c.Items), For: time.Duration(c.For), Only: fromPrincipal(c.Only), By: c.By}
	case *logv1.Command_CancelBooking:
		return lease.CancelBooking{Tenant: k.CancelBooking.Tenant, ID: k.CancelBooking.Id, By: k.CancelBooking.By}
	case *logv1.Command_ExpireBooking:
		return lease.ExpireBooking{Slot: k.ExpireBooking.Slot, Number: k.ExpireBooking.Number}
	}
	return nil
}

// writeQueue writes the queue and the bookings, if there are any.
func writeQueue(w *recordWriter, f *lease.Frozen) {
	f.Places(func(slot uint32, p *lease.PlaceRecord) bool { return w.put(placeRecord(slot, p)) })
	if pools := f.Stirred(); len(pools) > 0 {
		w.put(&logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Stirred{Stirred: &logv1.StirredRecord{Pools: pools}}})
	}
	f.Bookings(func(slot uint32, r *lease.BookingRecord) bool { return w.put(bookingRecord(slot, r)) })
	f.BookedLeases(func(slot uint32, x lease.BookedLease) bool { return w.put(bookedLeaseRecord(slot, x)) })
}

// loadQueue hands a record of the queue or the bookings to the loader; ok is false if it
// is none, or stands at an impossible place.
func loadQueue(load *lease.Loader, rec *logv1.SnapshotRecord) (ok bool) {
	bad := func(slot uint32) bool { return slot == 0 || slot > lease.MaxLeases }
	switch k := rec.Kind.(type) {
	case *logv1.SnapshotRecord_Place:
		if bad(k.Place.Slot) {
			return false
		}
		load.Place(k.Place.Slot, fromPlace(k.Place))
	case *logv1.SnapshotRecord_Stirred:
		load.Stirred(k.Stirred.Pools)
	case *logv1.SnapshotRecord_Booking:
		if bad(k.Booking.Slot) {
			return false
		}
		load.Booking(k.Booking.Slot, fromBooking(k.Booking))
	case *logv1.SnapshotRecord_BookedLease:
		if bad(k.BookedLease.Slot) {
			return false
		}
		load.BookedLease(k.BookedLease.Slot, fromBookedLease(k.BookedLease))
	default:
		return false
	}
	return true
}

func placeRecord(slot uint32, p *lease.PlaceRecord) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Place{Place: &logv1.PlaceRecord{
		Slot: slot, Ticket: p.Ticket, Session: p.Session, Items: toItems(p.Items), Booking: p.Booking, Priority: int64(p.Priority),
		Joined: int64(p.Joined), JoinedDate: int64(p.JoinedDate), Until: int64(p.Until),
		Lifespan: int64(p.Profile.Lifespan), Grace: int64(p.Profile.Grace), Short: int64(p.Short), Aside: p.Aside,
	}}}
}

func fromPlace(x *logv1.PlaceRecord) lease.PlaceRecord {
	return lease.PlaceRecord{
		Ticket: x.Ticket, Session: x.Session, Items: fromItems(x.Items), Booking: x.Booking, Priority: int(x.Priority),
		Joined: lease.Time(x.Joined), JoinedDate: lease.Calendar(x.JoinedDate), Until: lease.Time(x.Until),
		Profile: lease.Profile{Lifespan: time.Duration(x.Lifespan), Grace: time.Duration(x.Grace)}, Short: int(x.Short), Aside: x.Aside,
	}
}

func bookingRecord(slot uint32, r *lease.BookingRecord) *logv1.SnapshotRecord {
	x := &logv1.BookingRecord{
		Slot: slot, Number: r.Number, Tenant: r.Tenant, Id: r.ID, Only: toPrincipal(r.Only), By: r.By,
		Made: int64(r.Made), MadeDate: int64(r.MadeDate), Until: int64(r.Until),
	}
	for _, l := range r.Lines {
		x.Lines = append(x.Lines, &logv1.BookedLineRecord{Item: toItems([]lease.Item{l.Item})[0], Pool: l.Pool, Used: int64(l.Used), Payer: l.Payer})
	}
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_Booking{Booking: x}}
}

func fromBooking(x *logv1.BookingRecord) lease.BookingRecord {
	r := lease.BookingRecord{
		Number: x.Number, Tenant: x.Tenant, ID: x.Id, Only: fromPrincipal(x.Only), By: x.By,
		Made: lease.Time(x.Made), MadeDate: lease.Calendar(x.MadeDate), Until: lease.Time(x.Until),
	}
	for _, l := range x.Lines {
		r.Lines = append(r.Lines, lease.BookedLine{Item: fromItem(l.Item), Pool: l.Pool, Used: int(l.Used), Payer: l.Payer})
	}
	return r
}

func bookedLeaseRecord(slot uint32, x lease.BookedLease) *logv1.SnapshotRecord {
	return &logv1.SnapshotRecord{Kind: &logv1.SnapshotRecord_BookedLease{BookedLease: &logv1.BookedLeaseRecord{
		Slot: slot, Booking: x.Booking, Number: x.Number, Line: x.Line, Seats: x.Seats,
	}}}
}

func fromBookedLease(x *logv1.BookedLeaseRecord) lease.BookedLease {
	return lease.BookedLease{Booking: x.Booking, Number: x.Number, Line: x.Line, Seats: x.Seats}
}

func toRefusedItems(list []lease.Refused) (out []*logv1.RefusedRecord) {
	for _, x := range list {
		out = append(out, &logv1.RefusedRecord{Item: toItems([]lease.Item{x.Item})[0], Refusal: toRefusal(x.Refusal)})
	}
	return out
}

func fromRefusedItems(list []*logv1.RefusedRecord) (out []lease.Refused) {
	for _, x := range list {
		out = append(out, lease.Refused{Item: fromItem(x.Item), Refusal: fromRefusal(x.Refusal)})
	}
	return out
}

func toRefusal(r *lease.Refusal) *logv1.Refusal {
	if r == nil {
		return nil
	}
	return &logv1.Refusal{Reason: string(r.Reason), Message: r.Message, Final: r.Final, RetryAfter: int64(r.RetryAfter)}
}

func fromRefusal(x *logv1.Refusal) *lease.Refusal {
	if x == nil {
		return nil
	}
	return &lease.Refusal{Reason: lease.Reason(x.Reason), Message: x.Message, Final: x.Final, RetryAfter: time.Duration(x.RetryAfter)}
}
