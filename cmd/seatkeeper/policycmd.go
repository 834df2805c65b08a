package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Who may use how much: apply, show and check the rules of a tenant",
		Long: `A policy says who may use which feature, how many seats, what is reserved for whom
and how long seats live. It is one YAML document for each tenant, applied as a whole:

  groups:
    - {name: designers, members: [ann, bob, "con-*"], priority: 5}
  host_groups:
    - {name: lab, members: ["ws-*", 10.1.0.0/16]}
  include:                       # a feature with an include is for those only
    - {feature: solver, group: designers}
  exclude:                       # without a feature: every feature
    - {feature: "cad:VERSION=2026.0", host_group: lab}
  reserve:                       # kept for them; counts as in use until it is filled
    - {feature: cad, group: designers, seats: 2}
  max:                           # hold at most so many, all together
    - {feature: cad, user: ann, seats: 1}
  soft_limit:    [{feature: cad, seats: 8}]
  max_overdraft: [{feature: cad, seats: 1}]
  profile:       [{group: designers, lifespan: 30s, grace: 30s}]
  linger:        [{feature: cad, time: 10m}]
  min_checkout:  [{feature: cad, time: 5m}]
  idle_timeout:  [{feature: cad, time: 2h}]
  min_kill:      [{time: 2m}]
  include_borrow / exclude_borrow, max_borrow_hours (hours), borrow_low_water (seats)

Whom a rule is about: user, host, display, internet (an address), project, group or
host_group. * and ? are wildcards. Where rules meet, the order is exclude, reserve, max,
include. check says what each rule means and what it would come to now.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.policyApplyCommand(), a.policyShowCommand(), a.policyCheckCommand())
	return cmd
}

func (a *app) policyApplyCommand() *cobra.Command {
	var fromOptions bool
	var expected int64
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Put a policy in the place of the tenant's, as a whole or not at all (- for stdin)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, account, err := a.readPolicy(args[0], fromOptions)
			if err != nil {
				return err
			}
			if err := refuseWrongLines(args[0], account); err != nil {
				return err
			}
			if found := src.policy.Faults(); len(found) > 0 {
				at := src.placeOf(&pb.PolicyFinding{Rule: int32(found[0].Rule), Group: int32(found[0].Group)})
				return &configError{file: args[0], problems: []problem{at.problem(found[0].Message + "; nothing changed")}}
			}
			req := &pb.PolicyApplyRequest{Policy: policyMessage(src.policy), Tenant: a.tenantOfPolicy(src)}
			if cmd.Flags().Changed("expect-version") {
				v := uint64(expected)
				req.ExpectedVersion = &v
			}
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := pb.NewPoliciesClient(c.client).PolicyApply(cmd.Context(), req)
			if err != nil {
				return apiError(err)
			}
			for _, l := range account {
				if l.Fate == license.Unknown || l.Fate == license.NotUsed {
					fmt.Fprintf(a.stderr, "%s:%d:%d: %s: %s (%s)\n", args[0], l.Line, l.Column, l.Fate, l.Text, l.Becomes)
				}
			}
			for _, w := range answer.Warnings {
				at := src.placeOf(w)
				fmt.Fprintf(a.stderr, "%s:%d:%d: warning: %s: %s\n", args[0], at.line, at.column, w.Means, w.Now)
			}
			return a.print(answer, func(t *table) {
				if answer.Unchanged {
					t.text("the policy of tenant %s says this already (version %d)", req.Tenant, answer.Version)
				} else {
					t.text("policy of tenant %s applied (version %d): %d group(s), %d rule(s)", req.Tenant, answer.Version, len(src.policy.Groups), len(src.policy.Rules))
				}
			})
		},
	}
	cmd.Flags().BoolVar(&fromOptions, "from-options", false, "FILE is a FlexNet options file")
	cmd.Flags().Int64Var(&expected, "expect-version", 0, "refuse if another version is in place (0: none)")
	return cmd
}

// readPolicy reads a policy file, or with fromOptions a FlexNet options file with the
// account of its lines.
func (a *app) readPolicy(name string, fromOptions bool) (*policySource, []license.OptionsLine, error) {
	data, err := a.readInput(name, maxPolicyInput)
	if err != nil {
		return nil, nil, err
	}
	if !fromOptions {
		src, err := readPolicyFile(name, data)
		return src, nil, err
	}
	o, err := license.ParseOptions(data)
	if err != nil {
		var e *license.Error
		if errors.As(err, &e) && e.Line > 0 {
			return nil, nil, exitf(exitConfig, "%s:%d:%d: %s", name, e.Line, e.Column, e.Message)
		}
		return nil, nil, exitf(exitConfig, "%s: %w", name, err)
	}
	src := &policySource{file: name, policy: o.Policy}
	at := func(line int) place {
		return place{line: o.Lines[line].Line, column: o.Lines[line].Column, text: o.Lines[line].Text}
	}
	for _, l := range o.OfRule {
		src.ofRule = append(src.ofRule, at(l))
	}
	for _, l := range o.OfGroup {
		src.ofGroup = append(src.ofGroup, at(l))
	}
	return src, o.Lines, nil
}

// refuseWrongLines refuses an options file of which a line is wrong, naming the first.
func refuseWrongLines(name string, account []license.OptionsLine) error {
	wrong := 0
	var first license.OptionsLine
	for _, l := range account {
		if l.Fate == license.Malformed {
			if wrong++; wrong == 1 {
				first = l
			}
		}
	}
	switch wrong {
	case 0:
		return nil
	case 1:
		return exitf(exitConfig, "%s:%d:%d: %s; nothing changed", name, first.Line, first.Column, first.Becomes)
	}
	return exitf(exitConfig, "%s:%d:%d: %s (and %d more: seatkeeper policy check --from-options %s); nothing changed", name, first.Line, first.Column, first.Becomes, wrong-1, name)
}

// tenantOfPolicy is the tenant a policy is for: what the file says, else the setting.
func (a *app) tenantOfPolicy(src *policySource) string {
	if src.policy.Tenant != "" {
		return src.policy.Tenant
	}
	return a.cfg.Client.Tenant
}

func (s *policySource) placeOf(f *pb.PolicyFinding) place {
	switch {
	case f.Rule >= 0 && int(f.Rule) < len(s.ofRule):
		return s.ofRule[f.Rule]
	case f.Group >= 0 && int(f.Group) < len(s.ofGroup):
		return s.ofGroup[f.Group]
	}
	return place{line: 1, column: 1}
}

func (a *app) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show the policy in place, as policy apply reads it",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dial(0)
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := pb.NewPoliciesClient(c.client).PolicyGet(cmd.Context(), &pb.PolicyGetRequest{Tenant: a.cfg.Client.Tenant})
			if err != nil {
				return apiError(err)
			}
			p, err := policyOfMessage(answer.Policy)
			if err != nil {
				return err
			}
			text, err := writePolicyFile(p)
			if err != nil {
				return err
			}
			return a.print(answer, func(t *table) {
				if answer.Policy.Version == 0 {
					t.text("# tenant %s has no policy: everybody may use every seat", answer.Policy.Tenant)
					return
				}
				t.text("# version %d", answer.Policy.Version)
				fmt.Fprint(t.w, string(text))
			})
		},
	}
}

// checked is one line of policy check.
type checked struct {
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Severity string `json:"severity"`
	Text     string `json:"text,omitempty"`
	Means    string `json:"means"`
	Now      string `json:"now,omitempty"`
}

func (a *app) policyCheckCommand() *cobra.Command {
	var fromOptions, offline bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what each rule means and what it would come to now, changing nothing",
		Long: `Explains a policy file, or with --from-options a FlexNet options file: every line of it
is accounted for, with line and column, also those that are not used or not known. The
cluster is asked what each rule would come to with its licences and leases; --offline
does without it. Exits 78 when the policy would be refused, 0 when it has warnings only.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, account, err := a.readPolicy(args[0], fromOptions)
			if err != nil {
				return err
			}
			list, err := a.checkPolicy(cmd, src, account, offline)
			if err != nil {
				return err
			}
			bad, warned := 0, 0
			for _, x := range list {
				switch x.Severity {
				case string(lease.FindingError):
					bad++
				case string(lease.FindingOK), string(license.NotUsed):
				default:
					warned++
				}
			}
			if err := a.print(list, func(t *table) { drawChecked(t, args[0], list) }); err != nil {
				return err
			}
			if bad > 0 {
				return exitf(exitConfig, "%s would be refused: %d error(s), %d warning(s)", args[0], bad, warned)
			}
			fmt.Fprintf(a.stderr, "%s can be applied: %d warning(s)\n", args[0], warned)
			return nil
		},
	}
	cmd.Flags().BoolVar(&fromOptions, "from-options", false, "FILE is a FlexNet options file")
	cmd.Flags().BoolVar(&offline, "offline", false, "do not ask the cluster")
	return cmd
}

func drawChecked(t *table, name string, list []checked) {
	for _, x := range list {
		t.text("%s:%d:%d: %s: %s", name, x.Line, x.Column, x.Severity, x.Means)
		if x.Text != "" {
			t.text("    %s", x.Text)
		}
		if x.Now != "" {
			t.text("    now: %s", x.Now)
		}
	}
}

// checkPolicy joins what the file says with what the cluster says of it, in file order.
func (a *app) checkPolicy(command *cobra.Command, src *policySource, account []license.OptionsLine, offline bool) ([]checked, error) {
	findings, err := a.findings(command, src, offline)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(findings, func(x, y *pb.PolicyFinding) int {
		return cmp.Or(cmp.Compare(src.placeOf(x).line, src.placeOf(y).line), cmp.Compare(src.placeOf(x).column, src.placeOf(y).column))
	})
	if account == nil {
		var list []checked
		for _, f := range findings {
			at := src.placeOf(f)
			list = append(list, checked{at.line, at.column, f.Severity, "", f.Means, f.Now})
		}
		return list, nil
	}
	type key struct{ line, column int }
	said := map[key]*pb.PolicyFinding{}
	for _, f := range findings {
		at := src.placeOf(f)
		if old := said[key{at.line, at.column}]; old == nil || old.Severity == string(lease.FindingOK) {
			said[key{at.line, at.column}] = f
		}
	}
	var list []checked
	for _, l := range account {
		x := checked{l.Line, l.Column, string(lease.FindingOK), l.Text, l.Becomes, ""}
		switch l.Fate {
		case license.Malformed:
			x.Severity = string(lease.FindingError)
		case license.Unknown, license.NotUsed:
			x.Severity = string(l.Fate)
		default:
			if f := said[key{l.Line, l.Column}]; f != nil {
				x.Severity, x.Now = f.Severity, f.Now
			}
		}
		list = append(list, x)
	}
	return list, nil
}

func (a *app) findings(cmd *cobra.Command, src *policySource, offline bool) ([]*pb.PolicyFinding, error) {
	if offline {
		var list []*pb.PolicyFinding
		for _, f := range src.policy.Explain() {
			list = append(list, &pb.PolicyFinding{Group: int32(f.Group), Rule: int32(f.Rule), Severity: string(f.Severity), Means: f.Means, Now: f.Now})
		}
		return list, nil
	}
	c, err := a.dial(0)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	answer, err := pb.NewPoliciesClient(c.client).PolicyCheck(cmd.Context(), &pb.PolicyCheckRequest{Policy: policyMessage(src.policy), Tenant: a.tenantOfPolicy(src)})
	if err != nil {
		err = apiError(err)
		if isUnreachable(err) {
			return nil, exitf(exitUnreachable, "%w (--offline checks without the cluster)", err)
		}
		return nil, err
	}
	return answer.Findings, nil
}

// policyMessage puts a policy into the API's words.
func policyMessage(p lease.Policy) *pb.Policy {
	x := &pb.Policy{Tenant: p.Tenant, IgnoreCase: p.FoldCase}
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

func policyOfMessage(x *pb.Policy) (lease.Policy, error) {
	p := lease.Policy{Tenant: x.GetTenant(), Version: x.GetVersion(), FoldCase: x.GetIgnoreCase()}
	for _, g := range x.GetGroups() {
		p.Groups = append(p.Groups, lease.PolicyGroup{Name: g.Name, Hosts: g.Hosts, Members: g.Members, Priority: int(g.Priority)})
	}
	for _, r := range x.GetRules() {
		kind, ok := lease.RuleKindOf(r.Kind)
		who, named := lease.SubjectTypeOf(r.WhoType)
		if !ok || !named && r.WhoType != "" {
			return p, exitf(exitError1, "the policy has a rule %q that this program does not know: use a newer one, or -o json", r.Kind)
		}
		p.Rules = append(p.Rules, lease.Rule{
			Kind: kind, Feature: r.Feature, Who: lease.Subject{Type: who, Name: r.Who}, Seats: int(r.Seats),
			Time: time.Duration(r.TimeMs) * time.Millisecond, Grace: time.Duration(r.GraceMs) * time.Millisecond,
		})
	}
	return p, nil
}

// drawReserved says for whom seats are kept: they are neither in use nor free.
func drawReserved(t *table, pools []*pb.PoolStatus) {
	for _, p := range pools {
		for _, r := range p.ReservedFor {
			t.text("reserved: %d of %d seats of %s %s for %s %s", r.Seats, r.Of, p.Feature, p.Version, strings.ReplaceAll(r.WhoType, "_", " "), r.Who)
		}
	}
}
