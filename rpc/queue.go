package rpc

import (
	"context"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// queueService serves schedulers, and whoever looks at who waits.
type queueService struct {
	pb.UnimplementedQueueServer
	s *Server
}

// pageOf reads how many entries an answer may have.
func pageOf(limit uint32) int {
	if limit == 0 || limit > MaxPage {
		return MaxPage
	}
	return int(limit)
}

func (h *queueService) QueueList(ctx context.Context, r *pb.QueueListRequest) (*pb.QueueListResponse, error) {
	if err := checkNames("feature", r.GetFeature()); err != nil {
		return nil, err
	}
	var places []lease.Place
	st, err := h.s.read(ctx, r.GetStale(), func(b *lease.Book) {
		places = b.Queue(r.GetTenant(), r.GetFeature(), pageOf(r.GetLimit()))
	})
	if err != nil {
		return nil, err
	}
	answer := &pb.QueueListResponse{RaftIndex: st.AppliedIndex, Term: st.AppliedTerm}
	for _, p := range places {
		answer.Places = append(answer.Places, &pb.QueuePlace{
			Position: uint32(p.Position), Ticket: p.Ticket, Items: queueItemsPB(p.Items), User: p.Principal.User, Host: p.Principal.Host, Display: p.Principal.Display,
			SessionId: p.Session.String(), Tenant: p.Tenant, Priority: int32(p.Priority), Since: date(p.Since),
			RemainingMs: millis(p.Remaining), Booking: p.Booking, Aside: p.Aside,
		})
	}
	return answer, nil
}

func queueItemsPB(items []lease.Item) (out []*pb.Item) {
	for _, it := range items {
		out = append(out, &pb.Item{Feature: it.Feature, Version: it.Version, Count: int32(it.Count)})
	}
	return out
}

func (h *queueService) QueueLeave(ctx context.Context, r *pb.QueueLeaveRequest) (*pb.QueueLeaveResponse, error) {
	session, err := sessionRef(r.GetSessionId(), r.GetSessionSecret(), r.GetIncarnation(), 0)
	if err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, lease.Leave{Session: session, Ticket: r.GetTicket()})
	if err != nil {
		return nil, err
	}
	return &pb.QueueLeaveResponse{Released: releasedPB(nil, applied.Reply.Released), RaftIndex: applied.Index, Term: applied.Term}, nil
}

// bookingAsk makes a booking request readable as what itemsOf and principalOf want.
type bookingAsk struct{ *pb.BookingCreateRequest }

func (bookingAsk) GetDisplay() string       { return "" }
func (bookingAsk) GetVendorDefined() string { return "" }

func (h *queueService) BookingCreate(ctx context.Context, r *pb.BookingCreateRequest) (*pb.BookingCreateResponse, error) {
	items, err := itemsOf(bookingAsk{r}, r.Count != nil)
	if err != nil {
		return nil, err
	}
	only, err := principalOf(bookingAsk{r}, "")
	if err != nil {
		return nil, err
	}
	if err = checkName("id", r.GetId()); err != nil {
		return nil, err
	}
	if r.GetId() == "" {
		return nil, invalid("id is missing: the name of the job")
	}
	if r.GetForMs() > uint64(lease.MaxBooking/time.Millisecond) {
		return nil, invalid("for_ms: a booking lasts at most " + lease.MaxBooking.String())
	}
	applied, err := h.s.propose(ctx, lease.MakeBooking{Tenant: r.GetTenant(), ID: r.GetId(), Items: items,
		For: time.Duration(r.GetForMs()) * time.Millisecond, Only: only, By: callerOf(ctx).Name})
	if err != nil {
		return nil, err
	}
	return &pb.BookingCreateResponse{Booking: bookingPB(applied.Reply.Booking), RaftIndex: applied.Index, Term: applied.Term,
		Replayed: applied.Reply.Replayed}, nil
}

func bookingPB(x *lease.Booking) *pb.Booking {
	if x == nil {
		return nil
	}
	out := &pb.Booking{Id: x.ID, User: x.Only.User, Host: x.Only.Host, Project: x.Only.Project, By: x.By, Since: date(x.Since),
		RemainingMs: uint64(x.Remaining.Milliseconds()), Tenant: x.Tenant}
	for _, l := range x.Lines {
		out.Items = append(out.Items, &pb.BookedItem{Feature: l.Feature, Version: l.Version, Count: int32(l.Count), Used: int32(l.Used)})
	}
	return out
}

func (h *queueService) BookingList(ctx context.Context, r *pb.BookingListRequest) (*pb.BookingListResponse, error) {
	var list []lease.Booking
	st, err := h.s.read(ctx, r.GetStale(), func(b *lease.Book) { list = b.ListBookings(r.GetTenant(), pageOf(r.GetLimit())) })
	if err != nil {
		return nil, err
	}
	answer := &pb.BookingListResponse{RaftIndex: st.AppliedIndex, Term: st.AppliedTerm}
	for i := range list {
		answer.Bookings = append(answer.Bookings, bookingPB(&list[i]))
	}
	return answer, nil
}

func (h *queueService) BookingCancel(ctx context.Context, r *pb.BookingCancelRequest) (*pb.BookingCancelResponse, error) {
	if err := checkName("id", r.GetId()); err != nil {
		return nil, err
	}
	applied, err := h.s.propose(ctx, lease.CancelBooking{Tenant: r.GetTenant(), ID: r.GetId(), By: callerOf(ctx).Name})
	if err != nil {
		return nil, err
	}
	return &pb.BookingCancelResponse{Booking: bookingPB(applied.Reply.Booking), RaftIndex: applied.Index, Term: applied.Term}, nil
}

func refusedPB(list []lease.Refused) (out []*pb.RefusedItem) {
	for _, x := range list {
		out = append(out, &pb.RefusedItem{Feature: x.Item.Feature, Version: x.Item.Version, Count: int32(x.Item.Count),
			Reason: string(x.Refusal.Reason), Message: x.Refusal.Message, Final: x.Refusal.Final})
	}
	return out
}
