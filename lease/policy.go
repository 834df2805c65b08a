package lease

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Policy is the rules of one tenant about who may use how much. It is put in place as a
// whole by ApplyPolicy. Where rules meet, the order is EXCLUDE, RESERVE, MAX, INCLUDE, as
// FlexNet's options file has it: who is excluded gets nothing; a seat reserved for
// somebody is neither stopped by a cap nor by an allow list of others.
type Policy struct {
	Tenant string
	// Version counts the policies of the tenant from 1; the ledger sets it.
	Version uint64
	// FoldCase makes names of users, hosts, groups and so on equal whatever their case
	// (GROUPCASEINSENSITIVE ON). Features are always told apart by case.
	FoldCase bool
	Groups   []PolicyGroup
	Rules    []Rule
}

// PolicyGroup is a set of users or, with Hosts, of hosts.
type PolicyGroup struct {
	Name  string
	Hosts bool
	// Members are names, in which * stands for any characters and ? for one. Members of
	// a host group may also be addresses: 10.1.2.3, 10.1.*, or a network 10.1.0.0/16.
	Members []string
	// Priority moves requests of members ahead in the queue; 0 is everybody's.
	Priority int
}

// RuleKind says what a rule does.
type RuleKind uint8

// Kinds of rules. What a rule needs beside its kind stands in brackets.
const (
	RuleInclude       RuleKind = iota + 1 // [who] only those that some include names may use the feature
	RuleExclude                           // [who] may not use the feature
	RuleMax                               // [who, Seats] together hold at most so many seats
	RuleReserve                           // [who, feature, Seats] so many seats are kept for them
	RuleProfile                           // [Time, Grace] lifespan and grace of leases
	RuleLinger                            // [Time] a seat stays charged so long after its check-in
	RuleMinCheckout                       // [Time] a seat stays charged at least so long after its checkout
	RuleIdleTimeout                       // [Time] a lease whose client was idle so long is taken back
	RuleMinKill                           // [Time] an operator may take a lease back only after so long
	RuleMaxOverdraft                      // [Seats] of what the licence grants as overdraft, so many may be used
	RuleSoftLimit                         // [Seats] more in use raises an alarm, and nothing else
	RuleIncludeBorrow                     // [who] only those that some include names may borrow
	RuleExcludeBorrow                     // [who] may not borrow
	RuleMaxBorrow                         // [Seats: hours] the longest time a seat may be borrowed
	RuleBorrowLow                         // [Seats] so many seats must stay at home
	lastRuleKind      = RuleBorrowLow
)

// ruleForm is what a rule of a kind must and may have.
type ruleForm struct {
	name                      string
	who, feature, seats, span bool // needed; seats and span are refused where they mean nothing
	whoToo                    bool // allowed, not needed
}

var ruleForms = [lastRuleKind + 1]ruleForm{
	RuleInclude:       {name: "include", who: true},
	RuleExclude:       {name: "exclude", who: true},
	RuleMax:           {name: "max", who: true, feature: true, seats: true},
	RuleReserve:       {name: "reserve", who: true, feature: true, seats: true},
	RuleProfile:       {name: "profile", span: true, whoToo: true},
	RuleLinger:        {name: "linger", span: true, whoToo: true},
	RuleMinCheckout:   {name: "min_checkout", span: true, whoToo: true},
	RuleIdleTimeout:   {name: "idle_timeout", span: true, whoToo: true},
	RuleMinKill:       {name: "min_kill", span: true, whoToo: true},
	RuleMaxOverdraft:  {name: "max_overdraft", feature: true, seats: true},
	RuleSoftLimit:     {name: "soft_limit", feature: true, seats: true},
	RuleIncludeBorrow: {name: "include_borrow", who: true},
	RuleExcludeBorrow: {name: "exclude_borrow", who: true},
	RuleMaxBorrow:     {name: "max_borrow_hours", seats: true, whoToo: true},
	RuleBorrowLow:     {name: "borrow_low_water", feature: true, seats: true},
}

func (k RuleKind) String() string {
	if k >= 1 && k <= lastRuleKind {
		return ruleForms[k].name
	}
	return fmt.Sprintf("rule_%d", uint8(k))
}

// RuleKindOf gives the kind with the name; ok says whether there is one.
func RuleKindOf(name string) (k RuleKind, ok bool) {
	for k := RuleKind(1); k <= lastRuleKind; k++ {
		if ruleForms[k].name == name {
			return k, true
		}
	}
	return 0, false
}

// SubjectType says which part of a principal a rule looks at.
type SubjectType uint8

// Types of subjects, in the order and with the names of FlexNet's options file.
const (
	Everybody SubjectType = iota
	SubjectUser
	SubjectHost     // its name, or its address
	SubjectDisplay  // FlexNet's DISPLAY
	SubjectInternet // an address, with wildcards or as a network
	SubjectProject  // what the client has as LM_PROJECT
	SubjectGroup
	SubjectHostGroup
	lastSubject = SubjectHostGroup
)

var subjectNames = [lastSubject + 1]string{"", "user", "host", "display", "internet", "project", "group", "host_group"}

func (t SubjectType) String() string {
	if t <= lastSubject {
		return subjectNames[t]
	}
	return fmt.Sprintf("subject_%d", uint8(t))
}

// SubjectTypeOf gives the type with the name; ok says whether there is one.
func SubjectTypeOf(name string) (t SubjectType, ok bool) {
	for i, n := range subjectNames {
		if i > 0 && n == name {
			return SubjectType(i), true
		}
	}
	return 0, false
}

// Subject names whom a rule is about. The zero Subject is everybody.
type Subject struct {
	Type SubjectType
	// Name is that of a group, else a name or address as in PolicyGroup.Members.
	Name string
}

func (s Subject) String() string {
	if s.Type == Everybody {
		return "everybody"
	}
	return strings.ReplaceAll(s.Type.String(), "_", " ") + " " + s.Name
}

// Rule is one rule of a policy.
type Rule struct {
	Kind RuleKind
	// Feature is a name, or NAME:KEY=VALUE for those pools only in which KEY (VERSION,
	// VENDOR) has that value; empty means every feature.
	Feature string
	Who     Subject
	Seats   int
	Time    time.Duration
	Grace   time.Duration // of RuleProfile
}

// Limits of a policy, so that a request is judged in microseconds and the whole fits one
// log entry.
const (
	MaxPolicyRules  = 4096
	MaxPolicyGroups = 1024
	// MaxPolicyBytes bounds all names of a policy together: an entry has 512 KiB.
	MaxPolicyBytes = 256 << 10
	// MaxPolicyPatterns bounds the members with wildcards and the networks, each of which
	// is looked at for every request.
	MaxPolicyPatterns = 2048
	// MaxReservations bounds the reservations that may touch one pool.
	MaxReservations = 256
	// MaxLinger bounds linger and the least checkout time: a month, beyond which a seat is simply lost.
	MaxLinger = 30 * 24 * time.Hour
	// MinIdleTimeout is the floor of an idle timeout where the vendor sets none, as in FlexNet.
	MinIdleTimeout = 15 * time.Minute
	// MaxPolicyTime bounds every other time of a policy.
	MaxPolicyTime = 30 * 24 * time.Hour
	// MaxPriority bounds a group's priority in either direction.
	MaxPriority = 1000
)

// Check refuses a policy that could not be obeyed whatever the licences are: the first
// thing that is wrong, in the order of the policy. What depends on licences is for
// Book.ExplainPolicy.
func (p *Policy) Check() *Refusal {
	if found := p.Faults(); len(found) > 0 {
		return refuse(Invalid, "%s", found[0].Message)
	}
	return nil
}

// PolicyFault is one thing that is wrong with a policy.
type PolicyFault struct {
	// Rule and Group are the index of what is wrong; -1: it is not a rule, not a group.
	Rule, Group int
	Message     string
}

// Faults lists what Check refuses.
func (p *Policy) Faults() (list []PolicyFault) {
	add := func(rule, group int, format string, args ...any) {
		list = append(list, PolicyFault{rule, group, fmt.Sprintf(format, args...)})
	}
	switch {
	case len(p.Rules) > MaxPolicyRules:
		add(-1, -1, "%d rules; a policy has at most %d", len(p.Rules), MaxPolicyRules)
	case len(p.Groups) > MaxPolicyGroups:
		add(-1, -1, "%d groups; a policy has at most %d", len(p.Groups), MaxPolicyGroups)
	case p.size() > MaxPolicyBytes:
		add(-1, -1, "the names of the policy have %d bytes together; at most %d are possible", p.size(), MaxPolicyBytes)
	}
	if len(list) > 0 {
		return list
	}
	patterns := 0
	seen := map[string]bool{}
	for i, g := range p.Groups {
		key := p.fold(g.Name)
		switch r := checkName("group name", g.Name, false); {
		case r != nil:
			add(-1, i, "%s", r.Message)
		case seen[key]:
			add(-1, i, "group %s is there twice; put all its members into one", g.Name)
		case g.Priority < -MaxPriority || g.Priority > MaxPriority:
			add(-1, i, "group %s: priority %d is not between -%d and %d", g.Name, g.Priority, MaxPriority, MaxPriority)
		}
		seen[key] = true
		if checkName("", g.Name, false) != nil {
			continue
		}
		for _, m := range g.Members {
			if r := checkName("member of group "+g.Name, m, false); r != nil {
				add(-1, i, "%s", r.Message)
			}
			if isPattern(m) {
				patterns++
			}
		}
	}
	for i := range p.Rules {
		r := &p.Rules[i]
		if problem := p.checkRule(r); problem != "" {
			add(i, -1, "%s", problem)
		}
		if r.Who.Type < SubjectGroup && isPattern(r.Who.Name) {
			patterns++
		}
	}
	if patterns > MaxPolicyPatterns {
		add(-1, -1, "%d names with wildcards or networks; a policy has at most %d", patterns, MaxPolicyPatterns)
	}
	return list
}

func (p *Policy) size() (n int) {
	for _, g := range p.Groups {
		n += len(g.Name)
		for _, m := range g.Members {
			n += len(m)
		}
	}
	for _, r := range p.Rules {
		n += len(r.Feature) + len(r.Who.Name)
	}
	return n
}

// fold makes names that shall be equal the same.
func (p *Policy) fold(name string) string {
	if p.FoldCase {
		return strings.ToLower(name)
	}
	return name
}

// group finds a group of the kind by name.
func (p *Policy) group(t SubjectType, name string) *PolicyGroup {
	for i := range p.Groups {
		if g := &p.Groups[i]; g.Hosts == (t == SubjectHostGroup) && p.fold(g.Name) == p.fold(name) {
			return g
		}
	}
	return nil
}

// checkRule says what is wrong with a rule; "" means nothing.
func (p *Policy) checkRule(r *Rule) string {
	if r.Kind < 1 || r.Kind > lastRuleKind {
		return fmt.Sprintf("rule of unknown kind %d", r.Kind)
	}
	form := &ruleForms[r.Kind]
	if r.Feature != "" {
		name, key, value, keyed := SplitSelector(r.Feature)
		if refusal := checkName("feature name", name, false); refusal != nil {
			return refusal.Message
		}
		if refusal := cmp.Or(checkName("key behind the feature", key, true), checkName("value behind the feature", value, true)); refusal != nil {
			return refusal.Message
		}
		if keyed && (key == "" || value == "") {
			return fmt.Sprintf("feature %q is neither a name nor NAME:KEY=VALUE", r.Feature)
		}
	} else if form.feature {
		return fmt.Sprintf("%s: the feature is missing", r.Kind)
	}
	if problem := p.checkWho(r, form); problem != "" {
		return problem
	}
	return checkAmounts(r, form)
}

func (p *Policy) checkWho(r *Rule, form *ruleForm) string {
	switch {
	case r.Who.Type > lastSubject:
		return fmt.Sprintf("%s: unknown type of subject %d", r.Kind, r.Who.Type)
	case r.Who.Type == Everybody && form.who:
		return fmt.Sprintf("%s: who is meant is missing; name a user, host, display, internet, project, group or host_group", r.Kind)
	case r.Who.Type == Everybody:
		return ""
	case !form.who && !form.whoToo:
		return fmt.Sprintf("%s is for everybody; it cannot be for %s only", r.Kind, r.Who)
	}
	if refusal := checkName(r.Who.Type.String()+" name", r.Who.Name, false); refusal != nil {
		return refusal.Message
	}
	if r.Who.Type >= SubjectGroup && p.group(r.Who.Type, r.Who.Name) == nil {
		what := strings.ReplaceAll(r.Who.Type.String(), "_", " ")
		other := SubjectGroup
		if r.Who.Type == SubjectGroup {
			other = SubjectHostGroup
		}
		if p.group(other, r.Who.Name) != nil {
			return fmt.Sprintf("%s: %s is no %s but a %s", r.Kind, r.Who.Name, what, strings.ReplaceAll(other.String(), "_", " "))
		}
		return fmt.Sprintf("%s: unknown %s %q; define it under groups", r.Kind, what, r.Who.Name)
	}
	return ""
}

func checkAmounts(r *Rule, form *ruleForm) string {
	least, most := time.Duration(0), time.Duration(MaxPolicyTime)
	switch r.Kind {
	case RuleProfile:
		least, most = MinLifespan, MaxLifespan
	case RuleLinger, RuleMinCheckout:
		most = MaxLinger
	}
	switch {
	case !form.seats && r.Seats != 0:
		return fmt.Sprintf("%s takes no number of seats", r.Kind)
	case r.Seats < 0 || r.Seats > MaxCount:
		return fmt.Sprintf("%s: %d is not between 0 and %d", r.Kind, r.Seats, MaxCount)
	case r.Kind == RuleReserve && r.Seats == 0:
		return "reserve: 0 seats reserve nothing; leave the rule out"
	case !form.span && (r.Time != 0 || r.Grace != 0), r.Kind != RuleProfile && r.Grace != 0:
		return fmt.Sprintf("%s takes no such time", r.Kind)
	case form.span && (r.Time < least || r.Time > most):
		return fmt.Sprintf("%s: %v is not between %v and %v", r.Kind, r.Time, least, most)
	case r.Grace < 0 || r.Grace > MaxGrace:
		return fmt.Sprintf("%s: grace %v is not between 0 and %v", r.Kind, r.Grace, time.Duration(MaxGrace))
	}
	return ""
}

// SplitSelector takes NAME or NAME:KEY=VALUE apart. keyed says that there was a colon.
func SplitSelector(s string) (name, key, value string, keyed bool) {
	name, rest, keyed := strings.Cut(s, ":")
	key, value, _ = strings.Cut(rest, "=")
	return name, strings.ToUpper(key), value, keyed
}
