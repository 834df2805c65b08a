package cluster

import (
	"os"
	"slices"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// HistoryQuery narrows usage and denials; empty fields match everything.
type HistoryQuery struct {
	Tenant, Feature, User, Host, Project string
	// From and To are dates: what ended (or was denied) at From or later, and began before
	// To; 0 is open.
	From, To lease.Calendar
	// Before continues a listing: what came before it only; zero begins at the newest.
	Before lease.DenialID
	// Limit is the most records wanted, the newest first to be counted; 0 means all.
	Limit int
}

func (q *HistoryQuery) wants(r *logv1.HistoryRecord, tenant, feature string, start int64, p *logv1.Principal) bool {
	return (q.Tenant == "" || q.Tenant == tenant) && (q.Feature == "" || q.Feature == feature) &&
		(q.User == "" || q.User == p.GetUser()) && (q.Host == "" || q.Host == p.GetHost()) && (q.Project == "" || q.Project == p.GetProject()) &&
		(q.From == 0 || lease.Calendar(r.GetDate()) >= q.From) && (q.To == 0 || lease.Calendar(start) < q.To) &&
		(q.Before == lease.DenialID{} || idOf(r).Compare(q.Before) < 0)
}

// UsagePage is an answer of usage records, oldest first.
type UsagePage struct {
	Records []lease.UsageRecord
	// Next continues with older records; zero: there are none.
	Next lease.DenialID
	// Complete is false when records that match may be missing: older ones were dropped, or
	// this node was behind and got a snapshot instead of entries.
	Complete bool
}

// DenialPage is an answer of denials, oldest first.
type DenialPage struct {
	Records  []lease.DenialRecord
	Next     lease.DenialID
	Complete bool
}

// Usage lists usage records that this node keeps.
func (n *Node) Usage(q HistoryQuery) UsagePage {
	if n.history == nil {
		return UsagePage{}
	}
	return n.history.usage(q)
}

// Denials lists denials that this node keeps.
func (n *Node) Denials(q HistoryQuery) DenialPage {
	if n.history == nil {
		return DenialPage{}
	}
	return n.history.denials(q)
}

func (h *history) usage(q HistoryQuery) (page UsagePage) {
	var ids []lease.DenialID
	page.Complete = h.backwards(q.From, func(records []*logv1.HistoryRecord) bool {
		for _, r := range slices.Backward(records) {
			u := r.GetUsage()
			if u == nil || !q.wants(r, u.GetTenant(), u.GetFeature(), u.GetStartDate(), u.GetPrincipal()) {
				continue
			}
			if q.Limit > 0 && len(page.Records) == q.Limit {
				page.Next = ids[len(ids)-1]
				return false
			}
			page.Records = append(page.Records, usageFrom(r))
			ids = append(ids, idOf(r))
		}
		return true
	})
	slices.Reverse(page.Records)
	return page
}

func (h *history) denials(q HistoryQuery) (page DenialPage) {
	served := map[lease.DenialID]lease.Calendar{}
	page.Complete = h.backwards(q.From, func(records []*logv1.HistoryRecord) bool {
		for _, r := range slices.Backward(records) {
			if s := r.GetServed(); s != nil {
				served[lease.DenialID{Index: s.GetIndex(), Place: s.GetPlace()}] = lease.Calendar(r.GetDate())
			}
			d := r.GetDenial()
			if d == nil || !q.wants(r, d.GetTenant(), d.GetFeature(), r.GetDate(), d.GetPrincipal()) {
				continue
			}
			if q.Limit > 0 && len(page.Records) == q.Limit {
				page.Next = page.Records[len(page.Records)-1].ID
				return false
			}
			x := denialFrom(r)
			x.Served = served[x.ID]
			page.Records = append(page.Records, x)
		}
		return true
	})
	slices.Reverse(page.Records)
	return page
}

// backwards calls fn with the records of each file, newest file first, until fn returns
// false or the files are older than from. It says whether nothing is missing since then.
func (h *history) backwards(from lease.Calendar, fn func([]*logv1.HistoryRecord) bool) (complete bool) {
	h.mu.Lock()
	h.await()
	segments := slices.Clone(h.segments)
	h.mu.Unlock()
	complete = true
	for _, s := range slices.Backward(segments) {
		if from != 0 && s.newest < from {
			return complete
		}
		if s.gapped != 0 && s.gapped >= from || s.damaged {
			complete = false
		}
		var records []*logv1.HistoryRecord
		f, err := os.Open(h.path(s.number))
		if err != nil {
			return false // dropped meanwhile
		}
		_, _ = readHistory(f, func(r *logv1.HistoryRecord) { records = append(records, r) })
		f.Close()
		if !fn(records) {
			return complete
		}
	}
	return complete && segments[0].number == 1
}
