package report

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/model"
)

// seatBuckets is how finely seats are drawn: about one bucket for two pixels.
const seatBuckets = 600

// usage is one pool over time.
type usage struct {
	pool                          pool
	committed, believed, capacity *series
	// fromStatus: no log tells what was committed, status answers do.
	fromStatus bool
}

// charge counts what is in use in one pool. Where sessions share seats, a seat counts
// once; elsewhere each holder counts, so that a seat issued twice shows.
type charge struct {
	shared bool
	seats  map[int]int
	units  int
}

func (c *charge) move(seats []int, count, by int) {
	if !c.shared || len(seats) == 0 {
		c.units += by * max(count, len(seats))
		return
	}
	for _, s := range seats {
		if c.seats[s] += by; c.seats[s] == 0 {
			delete(c.seats, s)
		}
	}
}

func (c *charge) used() float64 { return float64(c.units + len(c.seats)) }

func charges(p *pools) map[pool]*charge {
	m := map[pool]*charge{}
	for _, k := range p.order {
		m[k] = &charge{shared: p.shared[k], seats: map[int]int{}}
	}
	return m
}

func seatsOverTime(r *checker.Run, log []placed, p *pools, shown []pool) []*usage {
	s := newSpan(r.End, seatBuckets)
	byPool := map[pool]*usage{}
	var list []*usage
	for _, k := range shown {
		u := &usage{pool: k, committed: newSeries(s), believed: newSeries(s), capacity: newSeries(s)}
		u.capacity.set(0, float64(p.sizes[k]))
		byPool[k] = u
		list = append(list, u)
	}
	if len(log) > 0 {
		committed(log, p, byPool)
	} else {
		reported(r.Ops, byPool)
	}
	believed(r, p, byPool)
	for _, u := range list {
		u.committed.done()
		u.believed.done()
		u.capacity.done()
	}
	return list
}

// committed follows the log: what it grants and ends, and what is licensed. No result
// names the leases that were reclaimed to serve a checkout; where the log does not list
// them either, the model says which they were.
func committed(log []placed, p *pools, byPool map[pool]*usage) {
	held := map[uint64]history.AuditLease{}
	in := charges(p)
	files := licences{}
	house := model.New()
	for _, e := range log {
		house.Apply(e.Entry)
		if e.Stale {
			continue
		}
		touched := map[pool]bool{}
		end := func(list []history.AuditEnded) {
			for _, x := range list {
				if l, ok := held[x.ID]; ok {
					k := p.of[x.ID]
					in[k].move(l.Seats, l.Count, -1)
					touched[k] = true
					delete(held, x.ID)
				}
			}
		}
		for i := range e.Commands {
			c := &e.Commands[i]
			end(c.Result.Released)
			end(c.Result.Lost)
			if c.Kind == history.KindCheckout && !c.Result.Replayed {
				for _, l := range c.Result.Leases {
					if _, ok := held[l.ID]; ok {
						continue
					}
					k := p.of[l.ID]
					held[l.ID] = l
					in[k].move(l.Seats, l.Count, 1)
					touched[k] = true
				}
			}
			for k, n := range files.apply(c) {
				if u := byPool[k]; u != nil {
					u.capacity.set(e.at, float64(n))
				}
			}
		}
		end(e.Ended)
		if !e.HasEnded {
			end(house.Ended())
		}
		for k := range touched {
			if u := byPool[k]; u != nil {
				u.committed.set(e.at, in[k].used())
			}
		}
	}
}

// licences are the files that are installed, by tenant and id.
type licences map[pool]*history.LicenceFile

// apply carries out a licence command and gives the sizes of the pools it touched.
func (f licences) apply(c *history.Command) map[pool]int {
	if c.Result.Reason != "" {
		return nil
	}
	var key pool
	switch {
	case c.Kind == history.KindInstall && c.Licence != nil:
		key = poolOf(c.Licence.Tenant, c.Licence.ID)
	case c.Kind == history.KindRemove:
		key = poolOf(c.Tenant, c.LicenceID)
	default:
		return nil
	}
	size := map[pool]int{}
	touch := func(l *history.LicenceFile) {
		if l != nil {
			for _, t := range l.Entitlements {
				size[poolOf(key.tenant, t.Feature)] = 0
			}
		}
	}
	touch(f[key])
	delete(f, key)
	if c.Licence != nil {
		f[key] = c.Licence
		touch(c.Licence)
	}
	for k, l := range f {
		for _, t := range l.Entitlements {
			if x := poolOf(k.tenant, t.Feature); k.tenant == key.tenant {
				if n, ok := size[x]; ok {
					size[x] = n + t.Count
				}
			}
		}
	}
	return size
}

// reported takes the use of pools from what status answered.
func reported(ops []history.Op, byPool map[pool]*usage) {
	for _, u := range byPool {
		u.fromStatus = true
	}
	for i := range ops {
		v, ok := ops[i].Value.(*history.Status)
		if !ok || v.Stale || v.Result != history.Done {
			continue
		}
		for _, x := range v.Pools {
			if u := byPool[poolOf(x.Tenant, x.Feature)]; u != nil {
				u.committed.set(ops[i].Time, float64(x.InUse))
				u.capacity.set(ops[i].Time, float64(x.Total))
			}
		}
	}
}

// killed says from when on leases were taken back by the operator's word: what their
// holders still believe is nothing that anybody promised.
func killed(ops []history.Op) map[uint64]int64 {
	at := map[uint64]int64{}
	asked := map[history.Process]int64{}
	for i := range ops {
		op := &ops[i]
		v, ok := op.Value.(*history.Kill)
		switch {
		case !ok:
		case op.Type == history.Invoke:
			asked[op.Process] = op.Time
		case op.Type == history.OK:
			for _, x := range v.Killed {
				if old, ok := at[x.ID]; !ok || asked[op.Process] < old {
					at[x.ID] = asked[op.Process]
				}
			}
		case op.Type == history.Info:
			for _, id := range v.IDs {
				if _, ok := at[id]; !ok {
					at[id] = asked[op.Process]
				}
			}
		}
	}
	return at
}

// believed adds up what clients believed they held.
func believed(r *checker.Run, p *pools, byPool map[pool]*usage) {
	type turn struct {
		at int64
		by int
		b  *history.Belief
	}
	turns := make([]turn, 0, 2*len(r.Beliefs))
	taken := killed(r.Ops)
	for i := range r.Beliefs {
		b := &r.Beliefs[i]
		to := b.To
		if at, ok := taken[b.Lease.ID]; ok {
			to = min(to, at)
		}
		if to > b.From {
			turns = append(turns, turn{b.From, 1, b}, turn{to, -1, b})
		}
	}
	slices.SortStableFunc(turns, func(a, b turn) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	in := charges(p)
	for _, t := range turns {
		if t.at > r.End {
			break
		}
		k, ok := p.of[t.b.Lease.ID]
		if !ok {
			k = poolOf(p.tenants[t.b.Session], t.b.Lease.Feature)
		}
		u := byPool[k]
		if u == nil {
			continue
		}
		in[k].move(t.b.Lease.Seats, t.b.Lease.Count, t.by)
		u.believed.set(t.at, in[k].used())
	}
}
