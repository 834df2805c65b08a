package rpc

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func pageSize(n uint32) (int, error) {
	if n > MaxPage {
		return 0, invalid(fmt.Sprintf("page_size is %d, at most %d is allowed", n, MaxPage))
	}
	if n == 0 {
		return MaxPage, nil
	}
	return int(n), nil
}

func (h *clusterService) Leases(ctx context.Context, r *pb.LeasesRequest) (*pb.LeasesResponse, error) {
	filter, err := filterOf(r)
	if err != nil {
		return nil, err
	}
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	var cursor uint64
	if r.GetPageToken() != "" {
		if cursor, err = strconv.ParseUint(r.GetPageToken(), 36, 64); err != nil {
			return nil, invalid("page_token is not one of an earlier answer")
		}
	}
	var found []lease.Lease
	var next uint64
	st, err := h.s.read(ctx, r.GetStale(), func(b *lease.Book) { found, next = b.Leases(filter, cursor, size) })
	if err != nil {
		return nil, err
	}
	answer := &pb.LeasesResponse{Leases: entriesPB(found), RaftIndex: st.AppliedIndex, Term: st.AppliedTerm}
	if next != 0 {
		answer.NextPageToken = strconv.FormatUint(next, 36)
	}
	return answer, nil
}

func filterOf(r *pb.LeasesRequest) (lease.Filter, error) {
	f := lease.Filter{Tenant: r.GetTenant(), Feature: r.GetFeature(), User: r.GetUser(), Host: r.GetHost(),
		ID: lease.ID(r.GetId()), Handle: lease.Handle(r.GetHandle()), Search: r.GetSearch()}
	err := checkName("search", f.Search)
	if err != nil {
		return f, err
	}
	if f.State, err = lease.ParseState(r.GetState()); err != nil {
		return f, invalid(err.Error())
	}
	if r.GetSessionId() != "" {
		f.Session, err = sessionOf(r.GetSessionId())
	}
	return f, err
}

// Usage answers from this node's own state: records are closed and never change.
func (h *clusterService) Usage(_ context.Context, r *pb.UsageRequest) (*pb.UsageResponse, error) {
	from, err := dateOf("from", r.GetFrom())
	if err != nil {
		return nil, err
	}
	to, err := dateOf("to", r.GetTo())
	if err != nil {
		return nil, err
	}
	size, err := pageSize(r.GetPageSize())
	if err != nil {
		return nil, err
	}
	before, err := denialID(r.GetPageToken())
	if err != nil {
		return nil, err
	}
	page := h.s.cfg.Node.Usage(cluster.HistoryQuery{Tenant: r.GetTenant(), Feature: r.GetFeature(), User: r.GetUser(), Host: r.GetHost(),
		Project: r.GetProject(), From: from, To: to, Before: before, Limit: size})
	token := pageToken(page.Next)
	return &pb.UsageResponse{Records: usagePB(page.Records), Truncated: !page.Complete || token != "", NextPageToken: token}, nil
}

// Kill selects on a consistent read and then takes back by id and token, so that a
// lease granted in between is never hit by a handle meant for another.
func (h *clusterService) Kill(ctx context.Context, r *pb.KillRequest) (*pb.KillResponse, error) {
	sel, err := selectionOf(r)
	if err != nil {
		return nil, err
	}
	var found []lease.Lease
	var whole bool
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) { found, whole = sel.find(b) })
	if err != nil {
		return nil, err
	}
	if !whole {
		return nil, invalid(fmt.Sprintf("more than %d leases are meant: narrow it", MaxKill))
	}
	answer := &pb.KillResponse{RaftIndex: st.AppliedIndex, Term: st.AppliedTerm}
	if r.GetDryRun() {
		answer.Killed = entriesPB(found)
		return answer, nil
	}
	for chunk := range slices.Chunk(found, killChunk) {
		cmd := lease.Kill{By: callerOf(ctx).Name}
		for _, l := range chunk {
			cmd.Refs = append(cmd.Refs, l.Ref)
		}
		applied, err := h.s.propose(ctx, cmd)
		if err != nil {
			return nil, err
		}
		answer.RaftIndex, answer.Term = applied.Index, applied.Term
		ended := make(map[lease.Ref]bool, len(applied.Reply.Released))
		for _, e := range applied.Reply.Released {
			ended[e.Ref] = true
		}
		for _, l := range applied.Reply.Leases { // borrowed: in quarantine until their end
			answer.Killed = append(answer.Killed, entryPB(l))
		}
		for _, l := range chunk {
			if ended[l.Ref] { // the others had ended by themselves
				answer.Killed = append(answer.Killed, entryPB(l))
			}
		}
	}
	return answer, nil
}

// selection is which leases a kill means; its parts narrow each other.
type selection struct {
	ids     []lease.ID
	handles []lease.Handle
	filter  lease.Filter
}

func selectionOf(r *pb.KillRequest) (selection, error) {
	var s selection
	if len(r.GetLeaseIds())+len(r.GetHandles()) > MaxPage {
		return s, invalid(fmt.Sprintf("more than %d lease ids and handles", MaxPage))
	}
	for _, id := range r.GetLeaseIds() {
		if id == 0 {
			return s, invalid("lease id is 0")
		}
		s.ids = append(s.ids, lease.ID(id))
	}
	for _, n := range r.GetHandles() {
		if n == 0 {
			return s, invalid("handle is 0")
		}
		s.handles = append(s.handles, lease.Handle(n))
	}
	f, err := filterOf(&pb.LeasesRequest{User: r.GetUser(), Host: r.GetHost(), Feature: r.GetFeature(),
		SessionId: r.GetSessionId()})
	if err != nil {
		return s, err
	}
	if len(s.ids) == 0 && len(s.handles) == 0 && f == (lease.Filter{}) {
		return s, invalid("say which leases: lease_ids, handles, user, host, session_id or feature")
	}
	if f.Tenant, err = tenantOf(r); err != nil {
		return s, err
	}
	s.filter = f
	return s, nil
}

// find lists the leases meant; whole is false when there are more than MaxKill.
func (s selection) find(b *lease.Book) (found []lease.Lease, whole bool) {
	seen := make(map[lease.ID]bool)
	whole = true
	scan := func(f lease.Filter) {
		for cursor := uint64(0); whole; {
			page, next := b.Leases(f, cursor, MaxPage)
			for _, l := range page {
				named := len(s.handles) == 0 || slices.Contains(s.handles, l.Handle)
				if named && !seen[l.ID] {
					seen[l.ID] = true
					found = append(found, l)
				}
			}
			whole = len(found) <= MaxKill
			if next == 0 {
				return
			}
			cursor = next
		}
	}
	switch f := s.filter; {
	case len(s.ids) > 0:
		for _, f.ID = range s.ids {
			scan(f)
		}
	case len(s.handles) > 0:
		for _, f.Handle = range s.handles {
			scan(f)
		}
	default:
		scan(f)
	}
	return found, whole
}
