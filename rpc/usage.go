package rpc

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Limits of what is told of usage over time.
const (
	defaultStep = 15 * time.Minute
	// maxPoints bounds an answer: a year in hours of one feature.
	maxPoints = 10_000
)

// historyService tells of denials and usage, from this node's own files.
type historyService struct {
	pb.UnimplementedHistoryServer
	s *Server
}

// historyRequest is what the requests have in common.
type historyRequest interface {
	GetTenant() string
	GetFeature() string
	GetUser() string
	GetHost() string
	GetProject() string
	GetFrom() string
	GetTo() string
}

func historyQuery(r historyRequest) (q cluster.HistoryQuery, err error) {
	q = cluster.HistoryQuery{Tenant: r.GetTenant(), Feature: r.GetFeature(), User: r.GetUser(), Host: r.GetHost(), Project: r.GetProject()}
	if q.From, err = dateOf("from", r.GetFrom()); err != nil {
		return q, err
	}
	if q.To, err = dateOf("to", r.GetTo()); err != nil {
		return q, err
	}
	if q.To != 0 && q.From > q.To {
		return q, invalid("from is later than to")
	}
	return q, nil
}

// pageToken names the place in the history that a listing goes on from.
func pageToken(id lease.DenialID) string {
	if id == (lease.DenialID{}) {
		return ""
	}
	return strconv.FormatUint(id.Index, 36) + "." + strconv.FormatUint(uint64(id.Place), 36)
}

// denialID reads what pageToken writes.
func denialID(token string) (id lease.DenialID, err error) {
	if token == "" {
		return id, nil
	}
	index, place, _ := strings.Cut(token, ".")
	p, errPlace := strconv.ParseUint(place, 36, 32)
	if id.Index, err = strconv.ParseUint(index, 36, 64); err != nil || errPlace != nil {
		return id, invalid("page_token is not one of an earlier answer")
	}
	id.Place = uint32(p)
	return id, nil
}

func (h *historyService) Denials(_ context.Context, r *pb.DenialsRequest) (*pb.DenialsResponse, error) {
	q, err := historyQuery(r)
	if err != nil {
		return nil, err
	}
	if q.Limit, err = pageSize(r.GetPageSize()); err != nil {
		return nil, err
	}
	if q.Before, err = denialID(r.GetPageToken()); err != nil {
		return nil, err
	}
	page := h.s.cfg.Node.Denials(q)
	answer := &pb.DenialsResponse{NextPageToken: pageToken(page.Next)}
	answer.Truncated = !page.Complete || answer.NextPageToken != ""
	for i := range page.Records {
		answer.Denials = append(answer.Denials, denialPB(&page.Records[i]))
	}
	return answer, nil
}

func denialPB(d *lease.DenialRecord) *pb.Denial {
	return &pb.Denial{
		Time: date(d.Date), Feature: d.Feature, Version: d.Version, Count: int32(d.Count), User: d.Principal.User, Host: d.Principal.Host,
		Display: d.Principal.Display, Project: d.Principal.Project, SessionId: d.Session.String(), Reason: string(d.Reason), Final: d.Final,
		Served: date(d.Served), Tenant: d.Tenant, Vendor: d.Vendor, Flexnet: int32(d.Reason.FlexNetNumber()),
	}
}

// records are what ended and what goes on, and the calendar date of now.
func (h *historyService) records(q cluster.HistoryQuery) (records []lease.UsageRecord, now lease.Calendar, complete bool) {
	// What goes on is read first: a lease that ends in between is in both, and taken once.
	var live []lease.UsageRecord
	st := h.s.cfg.Node.ReadStale(func(b *lease.Book) { live = b.LiveUsage(q.Tenant) })
	page := h.s.cfg.Node.Usage(q)
	ended := make(map[lease.ID]bool, len(live))
	for i := range page.Records {
		ended[page.Records[i].Lease] = true
	}
	records = page.Records
	for _, r := range live {
		p := r.Principal
		if !ended[r.Lease] && (q.Feature == "" || q.Feature == r.Feature) && (q.User == "" || q.User == p.User) &&
			(q.Host == "" || q.Host == p.Host) && (q.Project == "" || q.Project == p.Project) {
			records = append(records, r)
		}
	}
	return records, st.Calendar, page.Complete
}

func (h *historyService) UsageSums(_ context.Context, r *pb.UsageSumsRequest) (*pb.UsageSumsResponse, error) {
	sum, keys, ok := h.summing(r.GetBy())
	if !ok {
		return nil, invalid("by: want feature, user, host, project, group or host_group")
	}
	q, err := historyQuery(r)
	if err != nil {
		return nil, err
	}
	records, _, complete := h.records(q)
	denials := h.s.cfg.Node.Denials(q)
	answer := &pb.UsageSumsResponse{Truncated: !complete || !denials.Complete}
	denied := trueDenials(denials.Records, keys)
	for _, s := range sum(records, q.From, q.To) {
		k := deniedKey{s.Tenant, s.Feature, s.Key}
		answer.Sums = append(answer.Sums, &pb.UsageSum{Tenant: s.Tenant, Feature: s.Feature, Key: s.Key, Checkouts: uint32(s.Checkouts),
			SeatSeconds: float64(s.SeatMillis) / 1000, Peak: int32(s.Peak), Denials: denied.count[k]})
		delete(denied.count, k)
	}
	for _, k := range denied.order { // of those who got nothing at all
		if n := denied.count[k]; n > 0 {
			answer.Sums = append(answer.Sums, &pb.UsageSum{Tenant: k.tenant, Feature: k.feature, Key: k.key, Denials: n})
		}
	}
	return answer, nil
}

// summing gives how records are added up, and under which keys a principal's count.
func (h *historyService) summing(by string) (sum func([]lease.UsageRecord, lease.Calendar, lease.Calendar) []lease.UsageSum, keys func(tenant string, who lease.Principal) []string, ok bool) {
	if by == "group" || by == "host_group" {
		var groups *lease.UsageGroups
		h.s.cfg.Node.ReadStale(func(b *lease.Book) { groups = b.UsageGroups(by == "host_group") })
		return func(list []lease.UsageRecord, from, to lease.Calendar) []lease.UsageSum {
			return lease.SumUsageByGroup(list, groups, from, to)
		}, groups.Of, true
	}
	of, ok := map[string]lease.UsageBy{"": lease.ByFeature, "feature": lease.ByFeature, "user": lease.ByUser, "host": lease.ByHost, "project": lease.ByProject}[by]
	return func(list []lease.UsageRecord, from, to lease.Calendar) []lease.UsageSum {
		return lease.SumUsage(list, of, from, to)
	}, func(_ string, who lease.Principal) []string { return []string{of.Key(who)} }, ok
}

type deniedKey struct{ tenant, feature, key string }

type deniedCounts struct {
	count map[deniedKey]uint32
	order []deniedKey
}

// trueDenials counts the denials that were not served soon after.
func trueDenials(list []lease.DenialRecord, keys func(string, lease.Principal) []string) deniedCounts {
	d := deniedCounts{count: map[deniedKey]uint32{}}
	for i := range list {
		x := &list[i]
		if x.Served != 0 {
			continue
		}
		for _, key := range keys(x.Tenant, x.Principal) {
			k := deniedKey{x.Tenant, x.Feature, key}
			if d.count[k] == 0 {
				d.order = append(d.order, k)
			}
			d.count[k]++
		}
	}
	return d
}

func (h *historyService) Concurrency(_ context.Context, r *pb.ConcurrencyRequest) (*pb.ConcurrencyResponse, error) {
	q, err := historyQuery(r)
	if err != nil {
		return nil, err
	}
	if q.From == 0 {
		return nil, invalid("from is missing: say since when")
	}
	step := defaultStep
	if ms := r.GetStepMs(); ms > 0 {
		step = time.Duration(min(ms, uint64(365*24*time.Hour/time.Millisecond))) * time.Millisecond
	}
	records, now, complete := h.records(q)
	to := q.To
	if to == 0 {
		to = max(now, q.From) + 1
	}
	if steps := int64(to-q.From) / max(step.Milliseconds(), 1); steps > maxPoints {
		return nil, invalid(fmt.Sprintf("%d steps of %v: at most %d are told; take longer steps or a shorter span", steps, step, maxPoints))
	}
	answer := &pb.ConcurrencyResponse{Truncated: !complete}
	for _, p := range lease.Concurrency(records, q.From, to, step) {
		if len(answer.Points) == maxPoints {
			answer.Truncated = true
			break
		}
		answer.Points = append(answer.Points, &pb.ConcurrencyPoint{Tenant: p.Tenant, Feature: p.Feature, Start: date(p.Start), Peak: int32(p.Peak), Mean: p.Mean})
	}
	return answer, nil
}
