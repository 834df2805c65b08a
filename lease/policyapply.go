package lease

import (
	"cmp"
	"reflect"
	"slices"
)

// AnyVersion in ApplyPolicy means: whatever policy is in place.
const AnyVersion = ^uint64(0)

// ApplyPolicy puts a policy in the place of the tenant's, in one step or not at all. A
// policy that says what is said already changes nothing and keeps its version.
type ApplyPolicy struct {
	Policy Policy
	// Expected is the version in place that the sender saw (0: none), or AnyVersion.
	Expected uint64
}

func (ApplyPolicy) isCommand() {}

func (b *Book) applyPolicy(c ApplyPolicy) Reply {
	p := c.Policy
	if p.Tenant == "" {
		p.Tenant = DefaultTenant
	}
	if r := checkName("tenant", p.Tenant, false); r != nil {
		return Reply{Refusal: r}
	}
	at, found := b.findPolicy(p.Tenant)
	p.Version = 0
	if found {
		p.Version = b.policies[at].Version
	}
	if c.Expected != AnyVersion && c.Expected != p.Version {
		return Reply{Refusal: refuse(StaleRequest, "the policy of tenant %s has version %d by now, not %d; nothing changed: look at it (policy show) and apply again", p.Tenant, p.Version, c.Expected)}
	}
	if found && reflect.DeepEqual(*b.policies[at], p) {
		return Reply{PolicyVersion: p.Version, PolicySame: true}
	}
	if r := p.Check(); r != nil {
		r.Message += "; nothing changed"
		return Reply{Refusal: r}
	}
	if !found && len(b.policies) >= MaxPolicies {
		return Reply{Refusal: refuse(Overloaded, "the cluster holds %d policies already, the most it takes", MaxPolicies)}
	}
	p.Version++
	list := slices.Clone(b.policies)
	if found {
		list[at] = &p
	} else {
		list = slices.Insert(list, at, &p)
	}
	b.policies = list
	b.police()
	b.restandAll() // what it allows above the totals decides where one can wait
	return Reply{PolicyVersion: p.Version}
}

// MaxPolicies bounds the tenants with a policy, each of which is compiled in memory.
const MaxPolicies = 1000

func (b *Book) findPolicy(tenant string) (int, bool) {
	return slices.BinarySearchFunc(b.policies, tenant, func(p *Policy, tenant string) int { return cmp.Compare(p.Tenant, tenant) })
}

// Policy gives the policy in place for a tenant ("" = the default one). Without one,
// Version is 0. What it refers to must not be changed.
func (b *Book) Policy(tenant string) Policy {
	if tenant == "" {
		tenant = DefaultTenant
	}
	if at, found := b.findPolicy(tenant); found {
		return *b.policies[at]
	}
	return Policy{Tenant: tenant}
}

// Policies gives the policies by tenant.
func (f *Frozen) Policies() []*Policy { return f.t.policies }

// Policy adds a policy; they come in order.
func (l *Loader) Policy(p *Policy) {
	if n := len(l.b.policies); n > 0 && l.b.policies[n-1].Tenant >= p.Tenant {
		l.fail("the policy of tenant %q is out of order", p.Tenant)
	}
	if r := p.Check(); r != nil || p.Version == 0 || p.Tenant == "" {
		l.fail("the policy of tenant %q is none that could be applied", p.Tenant)
		return
	}
	l.b.policies = append(l.b.policies, p)
}
