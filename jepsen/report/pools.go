package report

import (
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// pool names the seats of one feature of one tenant.
type pool struct{ tenant, feature string }

const defaultTenant = "default"

func poolOf(tenant, feature string) pool {
	if tenant == "" {
		tenant = defaultTenant
	}
	return pool{tenant, feature}
}

func (p pool) String() string {
	if p.tenant == defaultTenant {
		return p.feature
	}
	return p.tenant + " / " + p.feature
}

// pools knows the pools of a run, in the order in which they first appear, and which
// pool a lease is of. Neither a belief nor a heartbeat names the tenant.
type pools struct {
	order   []pool
	sizes   map[pool]int  // as test.edn has it
	shared  map[pool]bool // several sessions may hold one seat
	of      map[uint64]pool
	tenants map[string]string // session to tenant
}

func findPools(r *checker.Run, log []placed) *pools {
	p := &pools{sizes: map[pool]int{}, shared: map[pool]bool{}, of: map[uint64]pool{}, tenants: map[string]string{}}
	for _, x := range r.Pools {
		k := poolOf(x.Tenant, x.Feature)
		p.add(k)
		p.sizes[k] += x.Total
		p.shared[k] = p.shared[k] || x.ShareBy != ""
	}
	for _, e := range log {
		for i := range e.Commands {
			c := &e.Commands[i]
			switch c.Kind {
			case history.KindCheckout:
				for _, l := range c.Result.Leases {
					p.lease(l.ID, poolOf(c.Tenant, l.Feature))
				}
			case history.KindInstall:
				if c.Licence == nil {
					continue
				}
				for _, t := range c.Licence.Entitlements {
					k := poolOf(c.Licence.Tenant, t.Feature)
					p.add(k)
					p.shared[k] = p.shared[k] || t.ShareBy != ""
				}
			}
		}
	}
	for i := range r.Ops {
		op := &r.Ops[i]
		v, ok := op.Value.(*history.Checkout)
		if !ok {
			continue
		}
		p.tenants[op.Session] = v.Tenant
		for _, l := range v.Leases {
			p.lease(l.ID, poolOf(v.Tenant, l.Feature))
		}
	}
	return p
}

func (p *pools) add(k pool) {
	if _, ok := p.sizes[k]; !ok {
		p.sizes[k] = 0
		p.order = append(p.order, k)
	}
}

func (p *pools) lease(id uint64, k pool) {
	p.add(k)
	p.of[id] = k
}

// about lists the pools that an operation is about, each once.
func (p *pools) about(op *history.Op) []pool {
	var list []pool
	add := func(k pool, ok bool) {
		if ok && !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	byLease := func(id uint64) { k, ok := p.of[id]; add(k, ok) }
	switch v := op.Value.(type) {
	case *history.Checkout:
		for _, x := range v.Items {
			add(poolOf(v.Tenant, x.Feature), x.Feature != "")
		}
	case *history.Renew:
		for _, x := range v.Held {
			byLease(x.ID)
		}
		for _, x := range v.Leases {
			byLease(x.ID)
		}
	case *history.Checkin:
		for _, x := range v.Refs {
			byLease(x.ID)
		}
		for _, x := range v.Released {
			byLease(x.ID)
		}
	case *history.Kill:
		for _, x := range v.Killed {
			byLease(x.ID)
		}
	case *history.Verify:
		byLease(v.ID)
	case *history.Write:
		byLease(v.ID)
	}
	return list
}
