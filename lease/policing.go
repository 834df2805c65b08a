package lease

import (
	"cmp"
	"slices"
)

// policing is the policies made ready to judge requests: derived when a policy is applied
// and when pools come, go or change their totals, never saved.
type policing struct {
	tenants map[string]*tenantRules
	pools   []*poolRules // by pool slot; nil: no rule is about the pool
	// lingering are the leases that linger, by who may take them up again, in slot order.
	lingering map[lingerKey][]uint32
}

// tenantRules is one policy, compiled.
type tenantRules struct {
	policy *Policy
	match  *matcher
	who    []uint16            // by rule: the number of its subject
	named  map[string][]uint16 // rules by the feature they name
	every  []uint16            // rules about every feature
	// held is, by rule, how many seats those it is about hold; counted for caps only.
	held []int
	// priorities are the groups that have one.
	priorities []groupPriority
}

type groupPriority struct {
	subject  uint16
	priority int
}

// poolRules is what the tenant's policy says about one pool.
type poolRules struct {
	tenant                   *tenantRules
	vendor, feature, version string
	rules                    [lastRuleKind + 1][]uint16 // by kind, the more special first
	reservations
}

func compileTenant(p *Policy) *tenantRules {
	t := &tenantRules{policy: p, match: newMatcher(p), named: map[string][]uint16{}, held: make([]int, len(p.Rules))}
	for i := range p.Rules {
		r := &p.Rules[i]
		t.who = append(t.who, t.match.subjectOf(p, r))
		if name, _, _, _ := SplitSelector(r.Feature); r.Feature != "" {
			t.named[name] = append(t.named[name], uint16(i))
		} else {
			t.every = append(t.every, uint16(i))
		}
	}
	for _, g := range p.Groups {
		if g.Priority != 0 {
			kind := SubjectGroup
			if g.Hosts {
				kind = SubjectHostGroup
			}
			t.priorities = append(t.priorities, groupPriority{t.match.number[Subject{kind, p.fold(g.Name)}], g.Priority})
		}
	}
	return t
}

// selects says whether the selector of a rule that names the pool's feature means the pool.
func selects(selector string, p *PoolRecord) bool {
	_, key, value, keyed := SplitSelector(selector)
	switch {
	case !keyed:
		return true
	case key == "VERSION":
		return CheckVersion(value) == nil && CompareVersions(value, p.Version) == 0
	case key == "VENDOR":
		return value == p.Vendor
	}
	return false
}

// compilePool gives the rules about a pool; nil if there are none.
func (t *tenantRules) compilePool(p *PoolRecord) *poolRules {
	x := &poolRules{tenant: t, vendor: p.Vendor, feature: p.Feature, version: p.Version}
	some := false
	take := func(list []uint16) {
		for _, i := range list {
			r := &t.policy.Rules[i]
			if r.Feature == "" || selects(r.Feature, p) {
				x.rules[r.Kind] = append(x.rules[r.Kind], i)
				some = true
			}
		}
	}
	take(t.named[p.Feature])
	take(t.every)
	if !some {
		return nil
	}
	// A setting that names the feature comes before one that does not, one for somebody
	// before one for everybody; else the first in the policy counts.
	special := func(i uint16) int {
		r, n := &t.policy.Rules[i], 0
		if r.Feature == "" {
			n += 2
		}
		if r.Who.Type == Everybody {
			n++
		}
		return n
	}
	for k := range x.rules {
		slices.SortStableFunc(x.rules[k], func(i, j uint16) int { return cmp.Compare(special(i), special(j)) })
	}
	return x
}

// police compiles all policies anew and counts who holds what under them. It visits all
// pools, and all charges of those that have caps or reservations.
func (b *Book) police() {
	b.policing = policing{}
	b.findLingering()
	if len(b.policies) == 0 {
		return
	}
	b.policing.tenants = map[string]*tenantRules{}
	for _, p := range b.policies {
		b.policing.tenants[p.Tenant] = compileTenant(p)
	}
	b.policePools()
	b.eachGroup(func(slot uint32, g *groupRow) bool {
		b.countHeld(slot, 1)
		return true
	})
	b.eachDraw(func(slot uint32, _ *DrawRecord) bool {
		b.countDraw(slot, 1)
		return true
	})
	b.findKin() // what is allowed above the totals may be another
}

// policePools looks at the pools anew: there may be others, with other totals.
func (b *Book) policePools() {
	if len(b.policing.tenants) == 0 {
		return
	}
	old := b.policing.pools
	b.policing.pools = make([]*poolRules, len(b.state))
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		t := b.policing.tenants[p.Tenant]
		if p.Feature == "" || t == nil {
			return true
		}
		if int(i) < len(old) && old[i] != nil {
			if x := old[i]; x.tenant == t && x.vendor == p.Vendor && x.feature == p.Feature && x.version == p.Version {
				b.policing.pools[i] = x
				return true
			}
		}
		if x := t.compilePool(p); x != nil {
			x.open(len(x.rules[RuleReserve]))
			b.policing.pools[i] = x
		}
		return true
	})
	b.shareOut()
}

// rulesOf gives what a policy says about a pool; nil: nothing.
func (b *Book) rulesOf(pool uint32) *poolRules {
	if int(pool) >= len(b.policing.pools) {
		return nil
	}
	return b.policing.pools[pool]
}

// rulesFor gives the rules about a pool, and which of their subjects the principal is.
func (b *Book) rulesFor(pool uint32, who Principal) (*poolRules, *subjects) {
	x := b.rulesOf(pool)
	if x == nil {
		return nil, nil
	}
	return x, x.tenant.match.of(who)
}

// rulesForSession is rulesFor the principal of a session, who is looked at only if there are
// rules.
func (b *Book) rulesForSession(pool, session uint32) (*poolRules, *subjects) {
	if b.rulesOf(pool) == nil {
		return nil, nil
	}
	return b.rulesFor(pool, b.principalOf(session))
}

// setting gives the rule of the kind that counts for a principal; nil: none.
func (x *poolRules) setting(k RuleKind, is *subjects) *Rule {
	if x == nil {
		return nil
	}
	for _, i := range x.rules[k] {
		if is.has(x.tenant.who[i]) {
			return &x.tenant.policy.Rules[i]
		}
	}
	return nil
}

// some gives the first rule of the kind that names the principal; -1: none.
func (x *poolRules) some(k RuleKind, is *subjects) int {
	for _, i := range x.rules[k] {
		if is.has(x.tenant.who[i]) {
			return int(i)
		}
	}
	return -1
}

// priority is how far ahead in the queue a principal's requests go: the highest of its
// groups, 0 for everybody else.
func (b *Book) priority(who Principal, pool uint32) int {
	p := b.pools.at(pool)
	t := b.policing.tenants[p.Tenant]
	if t == nil || len(t.priorities) == 0 {
		return 0
	}
	is := t.match.of(who)
	found, most := false, 0
	for _, g := range t.priorities {
		if is.has(g.subject) && (!found || g.priority > most) {
			found, most = true, g.priority
		}
	}
	return most
}

// borrowAllowed says whether the policy lets a principal borrow from a pool, for how many
// hours at most (0: the policy sets no limit), and by which rule seats must stay at home
// (nil: by none).
func (b *Book) borrowAllowed(pool uint32, who Principal) (maxHours int, lowWater *Rule, refusal *Refusal) {
	x, is := b.rulesFor(pool, who)
	if x == nil {
		return 0, nil, nil
	}
	feature := b.pools.at(pool).Feature
	if x.some(RuleExcludeBorrow, is) >= 0 {
		return 0, nil, refuse(BorrowOff, "feature %s: the policy lets %s borrow nothing", feature, nameOf(who))
	}
	if len(x.rules[RuleIncludeBorrow]) > 0 && x.some(RuleIncludeBorrow, is) < 0 {
		return 0, nil, refuse(BorrowOff, "feature %s: the policy lets only others borrow, not %s", feature, nameOf(who))
	}
	if r := x.setting(RuleMaxBorrow, is); r != nil {
		if r.Seats == 0 {
			return 0, nil, refuse(BorrowOff, "feature %s: the policy allows 0 hours of borrowing", feature)
		}
		maxHours = r.Seats
	}
	return maxHours, x.setting(RuleBorrowLow, is), nil
}

// lendable is how many seats may be borrowed at a time of a pool and of all others that the
// rule is about, and how many of them are. The seats of a version that stay count for all.
func (b *Book) lendable(pool uint32, who Principal, lowWater *Rule) (most, lent int) {
	if lowWater == nil {
		return b.state[pool].total, b.lentSeats[pool]
	}
	p := b.pools.at(pool)
	for _, i := range b.poolsByFeature[featureKey{p.Tenant, p.Feature}] {
		if x, is := b.rulesFor(i, who); i == pool || x.setting(RuleBorrowLow, is) == lowWater {
			most, lent = most+b.state[i].total, lent+b.lentSeats[i]
		}
	}
	return most - lowWater.Seats, lent
}

// nameOf names a principal in a message.
func nameOf(who Principal) string {
	switch {
	case who.User == "" && who.Host == "":
		return "a request without a name"
	case who.Host == "":
		return who.User
	}
	return who.User + "@" + who.Host
}
