package rpc

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// policyService serves the rules of a tenant about who may use how much.
type policyService struct {
	pb.UnimplementedPoliciesServer
	s *Server
}

func (h *policyService) PolicyGet(ctx context.Context, r *pb.PolicyGetRequest) (*pb.PolicyGetResponse, error) {
	tenant, err := tenantOf(r)
	if err != nil {
		return nil, err
	}
	var p lease.Policy
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) { p = b.Policy(tenant) })
	if err != nil {
		return nil, err
	}
	return &pb.PolicyGetResponse{Policy: policyPB(p), RaftIndex: st.AppliedIndex, Term: st.AppliedTerm}, nil
}

func (h *policyService) PolicyApply(ctx context.Context, r *pb.PolicyApplyRequest) (*pb.PolicyApplyResponse, error) {
	p, err := policyOf(r, r.GetPolicy())
	if err != nil {
		return nil, err
	}
	cmd := lease.ApplyPolicy{Policy: p, Expected: lease.AnyVersion}
	if r.ExpectedVersion != nil {
		cmd.Expected = r.GetExpectedVersion()
	}
	applied, err := h.s.propose(ctx, cmd)
	if err != nil {
		return nil, err
	}
	answer := &pb.PolicyApplyResponse{
		Version: applied.Reply.PolicyVersion, Unchanged: applied.Reply.PolicySame,
		RaftIndex: applied.Index, Term: applied.Term,
	}
	h.s.cfg.Node.ReadStale(func(b *lease.Book) { // this node has just applied it
		for _, f := range b.ExplainPolicy(p) {
			if f.Severity == lease.FindingWarning {
				answer.Warnings = append(answer.Warnings, findingPB(f))
			}
		}
	})
	return answer, nil
}

func (h *policyService) PolicyCheck(ctx context.Context, r *pb.PolicyCheckRequest) (*pb.PolicyCheckResponse, error) {
	p, err := policyOf(r, r.GetPolicy())
	if err != nil {
		return nil, err
	}
	answer := &pb.PolicyCheckResponse{}
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) {
		answer.Version = b.Policy(p.Tenant).Version
		for _, f := range b.ExplainPolicy(p) {
			answer.Findings = append(answer.Findings, findingPB(f))
		}
	})
	if err != nil {
		return nil, err
	}
	answer.RaftIndex, answer.Term = st.AppliedIndex, st.AppliedTerm
	return answer, nil
}

// policyOf reads a policy out of a request; the tenant of the request counts.
func policyOf(r interface{ GetTenant() string }, x *pb.Policy) (p lease.Policy, err error) {
	if x == nil {
		return p, invalid("policy is missing")
	}
	named := r.GetTenant()
	if named != "" && x.GetTenant() != "" && named != x.GetTenant() {
		return p, invalid("the policy is of another tenant than the request")
	}
	if named == "" {
		p.Tenant, err = tenantOf(x)
	} else {
		p.Tenant, err = tenantOf(r)
	}
	if err != nil {
		return p, err
	}
	p.FoldCase = x.GetIgnoreCase()
	for _, g := range x.GetGroups() {
		p.Groups = append(p.Groups, lease.PolicyGroup{Name: g.GetName(), Hosts: g.GetHosts(), Members: g.GetMembers(), Priority: int(g.GetPriority())})
	}
	for i, rule := range x.GetRules() {
		kind, ok := lease.RuleKindOf(rule.GetKind())
		if !ok {
			return p, invalid(fmt.Sprintf("rules[%d]: no kind of rule is called %.40q", i, rule.GetKind()))
		}
		var who lease.Subject
		if rule.GetWhoType() != "" || rule.GetWho() != "" {
			if who.Type, ok = lease.SubjectTypeOf(rule.GetWhoType()); !ok {
				return p, invalid(fmt.Sprintf("rules[%d]: who_type %.40q: want user, host, display, internet, project, group or host_group", i, rule.GetWhoType()))
			}
			who.Name = rule.GetWho()
		}
		p.Rules = append(p.Rules, lease.Rule{
			Kind: kind, Feature: rule.GetFeature(), Who: who, Seats: int(rule.GetSeats()),
			Time: duration(rule.GetTimeMs()), Grace: duration(rule.GetGraceMs()),
		})
	}
	return p, nil
}

// duration reads milliseconds; what is more than a duration holds becomes the most it does.
func duration(ms uint64) time.Duration {
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return math.MaxInt64
	}
	return time.Duration(ms) * time.Millisecond
}

func policyPB(p lease.Policy) *pb.Policy {
	x := &pb.Policy{Tenant: p.Tenant, Version: p.Version, IgnoreCase: p.FoldCase}
	for _, g := range p.Groups {
		x.Groups = append(x.Groups, &pb.PolicyGroup{Name: g.Name, Hosts: g.Hosts, Members: g.Members, Priority: int32(g.Priority)})
	}
	for _, r := range p.Rules {
		x.Rules = append(x.Rules, &pb.PolicyRule{
			Kind: r.Kind.String(), Feature: r.Feature, WhoType: r.Who.Type.String(), Who: r.Who.Name, Seats: int32(r.Seats),
			TimeMs: uint64(r.Time.Milliseconds()), GraceMs: uint64(r.Grace.Milliseconds()),
		})
	}
	return x
}

func findingPB(f lease.Finding) *pb.PolicyFinding {
	return &pb.PolicyFinding{Group: int32(f.Group), Rule: int32(f.Rule), Severity: string(f.Severity), Means: f.Means, Now: f.Now}
}

func reservedPB(list []lease.Reservation) []*pb.PoolReservation {
	var out []*pb.PoolReservation
	for _, x := range list {
		out = append(out, &pb.PoolReservation{WhoType: x.For.Type.String(), Who: x.For.Name, Seats: int32(x.Seats), Of: int32(x.Of)})
	}
	return out
}
