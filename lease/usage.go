package lease

import (
	"cmp"
	"slices"
	"time"
)

// What usage records add up to. Seat time is counts × cluster time, summed over leases,
// and is what the pools' own counters say. Peaks and concurrency count what was charged:
// the leases of one share group count once.

// UsageBy says what usage is summed over, beside the feature.
type UsageBy uint8

// Kinds of sums.
const (
	ByFeature UsageBy = iota
	ByUser
	ByHost
	ByProject
)

// SeatMillis is the seat time of one record: seats × milliseconds of cluster time.
func (r *UsageRecord) SeatMillis() uint64 {
	return uint64(r.Count) * uint64(r.End.Sub(r.Start).Milliseconds())
}

// UsageSum is what the records of one key come to.
type UsageSum struct {
	Tenant, Feature, Key string // Key is empty by feature
	// Checkouts counts leases, SeatMillis their seat time within the span asked for.
	Checkouts  int
	SeatMillis uint64
	// Peak is the most seats charged at one time.
	Peak int
}

type usageKey struct{ tenant, feature, key string }

func (by UsageBy) keyOf(r *UsageRecord) usageKey {
	return usageKey{r.Tenant, r.Feature, by.Key(r.Principal)}
}

// Key is what a principal is summed under.
func (by UsageBy) Key(p Principal) string {
	switch by {
	case ByUser:
		return p.User
	case ByHost:
		return p.Host
	case ByProject:
		return p.Project
	}
	return ""
}

// within clips a record to the dates from and to (0: open); ok is false if it lies
// outside. A record that is cut keeps the share of its seat time that its dates say.
func (r *UsageRecord) within(from, to Calendar) (start, end Calendar, millis uint64, ok bool) {
	start, end = r.StartDate, r.EndDate
	if from != 0 {
		start = max(start, from)
	}
	if to != 0 {
		end = min(end, to)
	}
	switch {
	case start > end || to != 0 && r.StartDate >= to:
		return 0, 0, 0, false
	case start == r.StartDate && end == r.EndDate:
		return start, end, r.SeatMillis(), true
	}
	return start, end, uint64(r.Count) * uint64(end-start), true
}

// SumUsage adds records up, by tenant, feature and key. Seat time outside from and to (0:
// open) is not counted.
func SumUsage(records []UsageRecord, by UsageBy, from, to Calendar) []UsageSum {
	sums := map[usageKey]*UsageSum{}
	var order []usageKey
	for i := range records {
		r := &records[i]
		_, _, millis, ok := r.within(from, to)
		if !ok {
			continue
		}
		k := by.keyOf(r)
		s := sums[k]
		if s == nil {
			s = &UsageSum{Tenant: k.tenant, Feature: k.feature, Key: k.key}
			sums[k] = s
			order = append(order, k)
		}
		s.Checkouts++
		s.SeatMillis += millis
	}
	sweep(records, by, from, to, func(k usageKey, _, _ Calendar, charged int) {
		if s := sums[k]; s != nil {
			s.Peak = max(s.Peak, charged)
		}
	})
	out := make([]UsageSum, len(order))
	for i, k := range order {
		out[i] = *sums[k]
	}
	slices.SortFunc(out, func(a, b UsageSum) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Feature, b.Feature), cmp.Compare(a.Key, b.Key))
	})
	return out
}

// UsagePoint is how many seats of a feature were charged in one step of time.
type UsagePoint struct {
	Tenant, Feature string
	Start           Calendar
	Peak            int
	Mean            float64
}

// Concurrency tells, for each feature and each step between from and to, how many seats
// were charged. Steps in which none were are told too, so that a chart needs no rule.
func Concurrency(records []UsageRecord, from, to Calendar, step time.Duration) []UsagePoint {
	width := max(Calendar(step/time.Millisecond), 1)
	n := int((to - from + width - 1) / width)
	if n <= 0 {
		return nil
	}
	points := map[usageKey][]UsagePoint{}
	var order []usageKey
	sweep(records, ByFeature, from, to, func(k usageKey, start, end Calendar, charged int) {
		if points[k] == nil {
			points[k] = make([]UsagePoint, n)
			order = append(order, k)
		}
		for i := int((start - from) / width); i < n && from+Calendar(i)*width < max(end, start+1); i++ {
			p := &points[k][i]
			p.Peak = max(p.Peak, charged)
			begin := from + Calendar(i)*width
			covered := min(end, begin+width, to) - max(start, begin)
			p.Mean += float64(charged) * float64(max(covered, 0)) / float64(min(begin+width, to)-begin)
		}
	})
	slices.SortFunc(order, func(a, b usageKey) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.feature, b.feature))
	})
	var out []UsagePoint
	for _, k := range order {
		for i, p := range points[k] {
			p.Tenant, p.Feature, p.Start = k.tenant, k.feature, from+Calendar(i)*width
			out = append(out, p)
		}
	}
	return out
}

// edge is where a record begins or ends.
type edge struct {
	at     Time
	date   Calendar
	begins bool
	record *UsageRecord
}

// sweep goes through time and tells each stretch in which the seats charged for a key
// stayed the same. Records without length charge nothing.
func sweep(records []UsageRecord, by UsageBy, from, to Calendar, tell func(k usageKey, start, end Calendar, charged int)) {
	var edges []edge
	for i := range records {
		r := &records[i]
		if start, end, _, ok := r.within(from, to); ok && r.Start < r.End {
			edges = append(edges, edge{r.Start, start, true, r}, edge{r.End, end, false, r})
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int {
		first := func(e edge) int { // at one time seats come free before they are taken
			if e.begins {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(first(a), first(b)))
	})
	now := map[usageKey]*charges{}
	for _, e := range edges {
		k := by.keyOf(e.record)
		c := now[k]
		if c == nil {
			c = &charges{since: e.date, members: map[uint32][]int{}}
			now[k] = c
		}
		if c.sum > 0 {
			tell(k, c.since, e.date, c.sum)
		}
		c.since = e.date
		c.change(e)
	}
}

// charges is what is charged for one key at one time.
type charges struct {
	since   Calendar
	sum     int
	members map[uint32][]int // counts of the leases of each charge
}

// change lets a record begin or end. A charge is as large as its largest lease.
func (c *charges) change(e edge) {
	k, n := e.record.Charge, e.record.Count
	list := c.members[k]
	before := largest(list)
	if e.begins {
		list = append(list, n)
	} else if i := slices.Index(list, n); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if len(list) == 0 {
		delete(c.members, k)
	} else {
		c.members[k] = list
	}
	c.sum += largest(list) - before
}

func largest(list []int) (n int) {
	for _, x := range list {
		n = max(n, x)
	}
	return n
}

// LiveUsage makes open records of the live leases of a tenant ("" = all), as if they
// ended now: usage up to now is what ended and what goes on.
func (b *Book) LiveUsage(tenant string) []UsageRecord {
	var out []UsageRecord
	b.eachLease(func(slot uint32, l *leaseRow) bool {
		if e := b.event(Ended, slot); tenant == "" || tenant == e.Tenant {
			out = append(out, e.Usage())
		}
		return true
	})
	return out
}
