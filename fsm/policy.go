package fsm

import (
	"time"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

func toPolicy(p *lease.Policy) *logv1.Policy {
	x := &logv1.Policy{Tenant: p.Tenant, Version: p.Version, FoldCase: p.FoldCase}
	for _, g := range p.Groups {
		x.Groups = append(x.Groups, &logv1.PolicyGroup{Name: g.Name, Hosts: g.Hosts, Members: g.Members, Priority: int64(g.Priority)})
	}
	for _, r := range p.Rules {
		x.Rules = append(x.Rules, &logv1.PolicyRule{
			Kind: uint32(r.Kind), Feature: r.Feature, WhoType: uint32(r.Who.Type), Who: r.Who.Name,
			Seats: int64(r.Seats), Time: int64(r.Time), Grace: int64(r.Grace),
		})
	}
	return x
}

func fromPolicy(x *logv1.Policy) lease.Policy {
	p := lease.Policy{Tenant: x.GetTenant(), Version: x.GetVersion(), FoldCase: x.GetFoldCase()}
	for _, g := range x.GetGroups() {
		p.Groups = append(p.Groups, lease.PolicyGroup{Name: g.Name, Hosts: g.Hosts, Members: g.Members, Priority: int(g.Priority)})
	}
	for _, r := range x.GetRules() {
		p.Rules = append(p.Rules, lease.Rule{
			Kind: lease.RuleKind(min(r.Kind, 255)), Feature: r.Feature, Who: lease.Subject{Type: lease.SubjectType(min(r.WhoType, 255)), Name: r.Who},
			Seats: int(r.Seats), Time: time.Duration(r.Time), Grace: time.Duration(r.Grace),
		})
	}
	return p
}
