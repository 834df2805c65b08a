package lease

import "slices"

// UsageGroups tells in which groups of a tenant's policy, as it is in place, a principal
// is; of hosts or of users.
type UsageGroups struct {
	hosts   bool
	tenants map[string]tenantGroups
}

type tenantGroups struct {
	match *matcher
	names []groupName
}

type groupName struct {
	subject uint16
	name    string
}

// UsageGroups makes ready to add usage up by group.
func (b *Book) UsageGroups(hosts bool) *UsageGroups {
	g := &UsageGroups{hosts: hosts, tenants: map[string]tenantGroups{}}
	for _, p := range b.policies {
		t := tenantGroups{match: newMatcher(p)}
		for _, x := range p.Groups {
			if x.Hosts != hosts {
				continue
			}
			kind := SubjectGroup
			if hosts {
				kind = SubjectHostGroup
			}
			t.names = append(t.names, groupName{t.match.number[Subject{kind, p.fold(x.Name)}], x.Name})
		}
		g.tenants[p.Tenant] = t
	}
	return g
}

// Of lists the groups in the order of the policy; one that is in none is in "".
func (g *UsageGroups) Of(tenant string, who Principal) (names []string) {
	if t, ok := g.tenants[tenant]; ok {
		is := t.match.of(who)
		for _, x := range t.names {
			if is.has(x.subject) && !slices.Contains(names, x.name) {
				names = append(names, x.name)
			}
		}
	}
	if names == nil {
		names = []string{""}
	}
	return names
}

// SumUsageByGroup adds records up as SumUsage does, by tenant, feature and group. A record
// of a principal in several groups counts in each.
func SumUsageByGroup(records []UsageRecord, g *UsageGroups, from, to Calendar) []UsageSum {
	var each []UsageRecord
	for i := range records {
		for _, name := range g.Of(records[i].Tenant, records[i].Principal) {
			r := records[i]
			r.Principal = Principal{Project: name} // under which the copy is summed
			each = append(each, r)
		}
	}
	return SumUsage(each, ByProject, from, to)
}
