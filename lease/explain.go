package lease

import (
	"fmt"
	"slices"
	"time"
)

// Explain says in plain words what a rule means.
func (r *Rule) Explain() string {
	feature := "every feature"
	if r.Feature != "" {
		name, key, value, keyed := SplitSelector(r.Feature)
		feature = name
		if keyed {
			feature = fmt.Sprintf("%s where %s is %s", name, key, value)
		}
	}
	who := r.Who.String()
	whose := ""
	if r.Who.Type != Everybody {
		whose = " for " + who
	}
	switch r.Kind {
	case RuleInclude:
		return fmt.Sprintf("%s may use %s; who is not included may not", who, feature)
	case RuleExclude:
		if r.Feature == "" {
			return who + " may use no feature"
		}
		return fmt.Sprintf("%s may not use %s", who, feature)
	case RuleMax:
		return fmt.Sprintf("%s may hold at most %s of %s, all together", who, seatsText(r.Seats), feature)
	case RuleReserve:
		return fmt.Sprintf("%s of %s %s kept for %s", seatsText(r.Seats), feature, isOrAre(r.Seats), who)
	case RuleProfile:
		return fmt.Sprintf("leases of %s%s live %v without a heartbeat, then %v of grace", feature, whose, r.Time, r.Grace)
	case RuleLinger:
		return fmt.Sprintf("seats of %s stay charged for %v after their check-in%s", feature, r.Time, whose)
	case RuleMinCheckout:
		return fmt.Sprintf("seats of %s stay charged for at least %v after their checkout%s", feature, r.Time, whose)
	case RuleIdleTimeout:
		return fmt.Sprintf("leases of %s are taken back when their client was idle for %v%s", feature, r.Time, whose)
	case RuleMinKill:
		return fmt.Sprintf("leases of %s may be taken back by an operator after %v only%s", feature, r.Time, whose)
	case RuleMaxOverdraft:
		return fmt.Sprintf("at most %s of %s above the licensed count", seatsText(r.Seats), feature)
	case RuleSoftLimit:
		return fmt.Sprintf("an alarm when more than %s of %s %s in use", seatsText(r.Seats), feature, isOrAre(r.Seats))
	case RuleIncludeBorrow:
		return fmt.Sprintf("%s may borrow %s; who is not included may not", who, feature)
	case RuleExcludeBorrow:
		return fmt.Sprintf("%s may not borrow %s", who, feature)
	case RuleMaxBorrow:
		return fmt.Sprintf("%s may be borrowed for at most %d hours%s", feature, r.Seats, whose)
	case RuleBorrowLow:
		return fmt.Sprintf("%s of %s cannot be borrowed", seatsText(r.Seats), feature)
	}
	return r.Kind.String()
}

func isOrAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func seatsText(n int) string {
	if n == 1 {
		return "1 seat"
	}
	return fmt.Sprintf("%d seats", n)
}

// Severity says how bad a finding is.
type Severity string

// Severities of findings.
const (
	FindingOK      Severity = "ok"
	FindingWarning Severity = "warning" // it can be applied, and is perhaps not what was meant
	FindingError   Severity = "error"   // the policy is refused for it
)

// Finding is what there is to say about one rule or group of a policy.
type Finding struct {
	// Rule and Group are the index of what it is about; -1: not a rule, not a group.
	Rule, Group int
	Severity    Severity
	// Means is what it says in plain words, Now what it would come to as things stand.
	Means, Now string
}

// ExplainPolicy says what each group and rule of a policy means, and what it would come to
// now, with the licences installed and the leases held. Errors are what ApplyPolicy
// refuses. It looks at every lease once if there are caps or reservations.
func (b *Book) ExplainPolicy(p Policy) []Finding {
	if p.Tenant == "" {
		p.Tenant = DefaultTenant
	}
	list := p.Explain()
	if len(list) == 1 && list[0].Rule < 0 && list[0].Group < 0 {
		return list
	}
	wrong := slices.ContainsFunc(list, func(f Finding) bool { return f.Severity == FindingError })
	e := explainer{b: b, p: &p, used: map[string]bool{}}
	if !wrong {
		e.count()
	}
	for i := range p.Rules {
		if w := p.Rules[i].Who; w.Type >= SubjectGroup {
			e.used[w.Type.String()+p.fold(w.Name)] = true
		}
	}
	for i := range list {
		switch f := &list[i]; {
		case f.Severity == FindingError:
		case f.Group >= 0:
			f.Severity, f.Now = e.judgeGroup(&p.Groups[f.Group])
		default:
			f.Severity, f.Now = e.judgeRule(f.Rule)
		}
	}
	return list
}

// explainer compares a policy with the ledger.
type explainer struct {
	b      *Book
	p      *Policy
	t      *tenantRules
	used   map[string]bool // groups that a rule names
	wanted map[string]int  // seats reserved so far, by feature as the rule names it
}

func (e *explainer) judgeGroup(g *PolicyGroup) (Severity, string) {
	kind := SubjectGroup
	if g.Hosts {
		kind = SubjectHostGroup
	}
	switch {
	case len(g.Members) == 0:
		return FindingWarning, "it has no member: rules for it are for nobody"
	case !e.used[kind.String()+e.p.fold(g.Name)] && g.Priority == 0:
		return FindingWarning, "no rule names it"
	}
	return FindingOK, ""
}

// count finds out what those that the rules are about hold now.
func (e *explainer) count() {
	e.t = compileTenant(e.p)
	e.wanted = map[string]int{}
	pools := map[uint32]*poolRules{}
	e.b.eachGroup(func(slot uint32, g *groupRow) bool {
		p := e.b.pools.at(g.Pool)
		if p.Tenant != e.p.Tenant {
			return true
		}
		x, known := pools[g.Pool]
		if !known {
			x = e.t.compilePool(p)
			pools[g.Pool] = x
		}
		if x == nil || len(e.b.members(slot)) == 0 {
			return true
		}
		is := e.t.match.of(e.b.principalOf(e.b.leases.at(e.b.members(slot)[0]).Session))
		for _, list := range x.rules {
			for _, i := range list {
				if is.has(e.t.who[i]) {
					e.t.held[i] += len(e.b.seats(slot))
				}
			}
		}
		return true
	})
}

// pools lists the pools that a rule with a feature means, and their seats; some says that
// a licence has the feature at all.
func (e *explainer) pools(r *Rule) (total, overdraft, charged int, some, met bool) {
	name, _, _, _ := SplitSelector(r.Feature)
	for _, i := range e.b.poolsByFeature[featureKey{e.p.Tenant, name}] {
		p, st := e.b.pools.at(i), &e.b.state[i]
		some = some || st.licensed()
		if !selects(r.Feature, p) || !st.licensed() {
			continue
		}
		met = true
		total, overdraft, charged = total+st.total, overdraft+st.overdraft, charged+int(p.Charged)
	}
	return total, overdraft, charged, some, met
}

func (e *explainer) judgeRule(i int) (Severity, string) {
	r := &e.p.Rules[i]
	if e.t == nil {
		return FindingOK, "" // something else is wrong with the policy: nothing was counted
	}
	held := e.t.held[i]
	if r.Feature == "" {
		if r.Kind == RuleExclude && held > 0 {
			return FindingOK, fmt.Sprintf("they hold %s now, which stay until they are returned", seatsText(held))
		}
		return FindingOK, ""
	}
	total, overdraft, charged, some, met := e.pools(r)
	name, key, value, _ := SplitSelector(r.Feature)
	switch {
	case !some:
		return FindingWarning, fmt.Sprintf("no licence of tenant %s has the feature %s", e.p.Tenant, name)
	case !met && key != "VERSION" && key != "VENDOR":
		return FindingWarning, fmt.Sprintf("seats of %s are not told apart by %s, only by VERSION and VENDOR: the rule is for nothing", name, key)
	case !met:
		return FindingWarning, fmt.Sprintf("no licence of tenant %s has %s with %s %s", e.p.Tenant, name, key, value)
	}
	switch r.Kind {
	case RuleReserve:
		before := e.wanted[r.Feature]
		e.wanted[r.Feature] += r.Seats
		switch {
		case r.Seats > total:
			return FindingWarning, fmt.Sprintf("%d are reserved, the licence counts %d: only these can be kept", r.Seats, total)
		case before+r.Seats > total:
			return FindingWarning, fmt.Sprintf("with the reservations above %d are reserved, the licence counts %d: the later get what is left", before+r.Seats, total)
		case charged-min(held, r.Seats) > total-r.Seats:
			return FindingWarning, fmt.Sprintf("others hold %s now: %d of %d can be kept until some come back", seatsText(charged-held), max(0, total-charged), r.Seats)
		}
		return FindingOK, fmt.Sprintf("they hold %d now: %d would be kept free for them", held, max(0, r.Seats-held))
	case RuleMax:
		switch {
		case held > r.Seats:
			return FindingWarning, fmt.Sprintf("they hold %d now, more than %d: these stay until they are returned, and nobody of them gets another until then", held, r.Seats)
		case r.Seats >= total:
			return FindingWarning, fmt.Sprintf("the licence counts %d: this limits nobody", total)
		}
		return FindingOK, fmt.Sprintf("they hold %d now: %d more are possible", held, r.Seats-held)
	case RuleExclude, RuleExcludeBorrow:
		if held > 0 {
			return FindingOK, fmt.Sprintf("they hold %s now, which stay until they are returned", seatsText(held))
		}
	case RuleMaxOverdraft:
		if r.Seats > overdraft {
			return FindingWarning, fmt.Sprintf("the licence allows %d above its count: no more are possible", overdraft)
		}
	case RuleSoftLimit:
		if charged > r.Seats {
			return FindingWarning, fmt.Sprintf("%d are in use: the alarm would be raised at once", charged)
		}
	case RuleBorrowLow:
		if r.Seats >= total {
			return FindingWarning, fmt.Sprintf("the licence counts %d: nothing could be borrowed", total)
		}
	case RuleIdleTimeout:
		if floor := e.floor(r); r.Time < floor {
			return FindingWarning, fmt.Sprintf("the vendor's floor is %v: that is what counts", floor)
		}
	}
	return FindingOK, ""
}

// floor is the highest idle floor of the pools that a rule means.
func (e *explainer) floor(r *Rule) (floor time.Duration) {
	name, _, _, _ := SplitSelector(r.Feature)
	for _, i := range e.b.poolsByFeature[featureKey{e.p.Tenant, name}] {
		if p := e.b.pools.at(i); selects(r.Feature, p) {
			floor = max(floor, idleFloor(p))
		}
	}
	return floor
}

// Explain says what each group and rule means, without a ledger to compare it with.
func (p *Policy) Explain() []Finding {
	faults := map[[2]int]string{}
	var list []Finding
	for _, f := range p.Faults() {
		if f.Rule < 0 && f.Group < 0 {
			return []Finding{{Rule: -1, Group: -1, Severity: FindingError, Means: "the whole policy", Now: f.Message}}
		}
		if k := [2]int{f.Rule, f.Group}; faults[k] == "" {
			faults[k] = f.Message
		}
	}
	add := func(rule, group int, means string) {
		f := Finding{Rule: rule, Group: group, Severity: FindingOK, Means: means}
		if wrong := faults[[2]int{rule, group}]; wrong != "" {
			f.Severity, f.Now = FindingError, wrong
		}
		list = append(list, f)
	}
	for i := range p.Groups {
		add(-1, i, p.Groups[i].Explain())
	}
	for i := range p.Rules {
		add(i, -1, p.Rules[i].Explain())
	}
	return list
}

// Explain says in plain words what a group is.
func (g *PolicyGroup) Explain() string {
	kind := "group"
	if g.Hosts {
		kind = "host group"
	}
	text := fmt.Sprintf("%s %s has %d member(s)", kind, g.Name, len(g.Members))
	if g.Priority != 0 {
		text += fmt.Sprintf(" and priority %d in the queue", g.Priority)
	}
	return text
}
