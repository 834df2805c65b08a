package lease_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// ruled is a world with a policy.
func ruled(t *testing.T, p lease.Policy, ents ...lease.Entitlement) *world {
	t.Helper()
	w := newWorld(t, ents...)
	w.must(lease.ApplyPolicy{Policy: p, Expected: lease.AnyVersion})
	return w
}

func rule(k lease.RuleKind, feature string, who lease.Subject, seats int) lease.Rule {
	return lease.Rule{Kind: k, Feature: feature, Who: who, Seats: seats}
}

func user(name string) lease.Subject  { return lease.Subject{Type: lease.SubjectUser, Name: name} }
func group(name string) lease.Subject { return lease.Subject{Type: lease.SubjectGroup, Name: name} }

var designers = lease.PolicyGroup{Name: "designers", Members: []string{"ann", "bob", "con-*"}}

func TestAPolicyIsAppliedAsAWholeOrNotAtAll(t *testing.T) {
	good := lease.Policy{Groups: []lease.PolicyGroup{designers}, Rules: []lease.Rule{rule(lease.RuleMax, "cad", group("designers"), 1)}}
	w := newWorld(t, feature("cad", 3))
	w.equal("no policy", w.Policy("").Version, uint64(0))
	w.equal("first", w.must(lease.ApplyPolicy{Policy: good}).PolicyVersion, uint64(1))
	again := w.must(lease.ApplyPolicy{Policy: good, Expected: 1})
	w.equal("the same again: version", again.PolicyVersion, uint64(1))
	w.equal("the same again: same", again.PolicySame, true)
	bad := good
	bad.Rules = append([]lease.Rule{rule(lease.RuleExclude, "cad", user("ann"), 0)}, rule(lease.RuleMax, "cad", group("desingers"), 1))
	w.refused(lease.StaleRequest, lease.ApplyPolicy{Policy: bad, Expected: 0})
	w.refused(lease.Invalid, lease.ApplyPolicy{Policy: bad, Expected: 1})
	w.must(as(checkout(1, "cad", 1), "ann", "ws")) // the exclude of the refused policy is not there
	w.refused(lease.MaxReached, as(checkout(2, "cad", 1), "bob", "ws"))
	good.Rules = []lease.Rule{rule(lease.RuleMax, "cad", group("designers"), 2)}
	w.equal("second", w.must(lease.ApplyPolicy{Policy: good, Expected: 1}).PolicyVersion, uint64(2))
	w.must(as(checkout(2, "cad", 1), "bob", "ws"))
	// Each tenant has its own.
	elsewhere := licence("L-9", feature("cad", 3))
	elsewhere.Tenant = "other"
	w.must(lease.InstallLicence{Licence: elsewhere})
	c := as(checkout(9, "cad", 3), "ann", "ws")
	c.Tenant = "other"
	w.must(c)
	w.equal("the other's", w.must(lease.ApplyPolicy{Policy: lease.Policy{Tenant: "other", Groups: good.Groups, Rules: good.Rules}}).PolicyVersion, uint64(1))
	w.equal("this one's", w.Policy("").Version, uint64(2))
}

func TestAWrongPolicyIsRefusedInOneLine(t *testing.T) {
	groups := []lease.PolicyGroup{designers, {Name: "lab", Hosts: true, Members: []string{"10.0.0.0/8"}}}
	for _, c := range []struct {
		rule lease.Rule
		want string
	}{
		{rule(lease.RuleMax, "cad", group("desingers"), 1), `unknown group "desingers"`},
		{rule(lease.RuleMax, "cad", group("lab"), 1), "lab is no group but a host group"},
		{rule(lease.RuleExclude, "cad", lease.Subject{}, 0), "who is meant is missing"},
		{rule(lease.RuleReserve, "", user("ann"), 1), "the feature is missing"},
		{rule(lease.RuleReserve, "cad", user("ann"), 0), "0 seats reserve nothing"},
		{rule(lease.RuleMax, "cad", user("ann"), -1), "-1 is not between"},
		{rule(lease.RuleSoftLimit, "cad", user("ann"), 1), "is for everybody"},
		{rule(lease.RuleExclude, "cad:VERSION", user("ann"), 0), "neither a name nor NAME:KEY=VALUE"},
		{rule(lease.RuleExclude, "cad", user("ann"), 3), "takes no number of seats"},
		{lease.Rule{Kind: lease.RuleLinger, Time: 800 * time.Hour}, "800h0m0s is not between"},
		{lease.Rule{Kind: lease.RuleProfile, Time: time.Millisecond}, "1ms is not between"},
		{lease.Rule{Kind: 99}, "unknown kind 99"},
	} {
		w := newWorld(t, feature("cad", 3))
		r := w.do(lease.ApplyPolicy{Policy: lease.Policy{Groups: groups, Rules: []lease.Rule{c.rule}}})
		if r.Refusal == nil || !strings.Contains(r.Refusal.Message, c.want) || strings.Contains(r.Refusal.Message, "\n") {
			t.Errorf("%+v: got %v, want %q", c.rule, r.Refusal, c.want)
		}
		w.equal("version", w.Policy("").Version, uint64(0))
	}
}

// What comes first where rules meet: EXCLUDE, RESERVE, MAX, INCLUDE.
func TestPrecedence(t *testing.T) {
	groups := []lease.PolicyGroup{designers}
	include := rule(lease.RuleInclude, "cad", user("zoe"), 0)
	for _, c := range []struct {
		name  string
		rules []lease.Rule
		want  lease.Reason
	}{
		{"nothing is said", nil, ""},
		{"excluded by name", []lease.Rule{rule(lease.RuleExclude, "cad", user("ann"), 0)}, lease.Excluded},
		{"excluded from every feature", []lease.Rule{rule(lease.RuleExclude, "", group("designers"), 0)}, lease.Excluded},
		{"excluded from another version", []lease.Rule{rule(lease.RuleExclude, "cad:VERSION=1.0", user("ann"), 0)}, ""},
		{"excluded from this version", []lease.Rule{rule(lease.RuleExclude, "cad:VERSION=2026.00", user("ann"), 0)}, lease.Excluded},
		{"excluded from another vendor's", []lease.Rule{rule(lease.RuleExclude, "cad:VENDOR=other", user("ann"), 0)}, ""},
		{"excluded from this vendor's", []lease.Rule{rule(lease.RuleExclude, "cad:VENDOR=acme", user("ann"), 0)}, lease.Excluded},
		{"others are included in this version", []lease.Rule{rule(lease.RuleInclude, "cad:VERSION=2026.0", user("zoe"), 0)}, lease.NotIncluded},
		{"others are included", []lease.Rule{include}, lease.NotIncluded},
		{"included beside others", []lease.Rule{include, rule(lease.RuleInclude, "cad", group("designers"), 0)}, ""},
		{"included in every feature", []lease.Rule{include, rule(lease.RuleInclude, "", user("ann"), 0)}, ""},
		{"capped at nothing", []lease.Rule{rule(lease.RuleMax, "cad", user("ann"), 0)}, lease.MaxReached},
		{"a cap beats an include", []lease.Rule{rule(lease.RuleMax, "cad", user("ann"), 0), rule(lease.RuleInclude, "cad", user("ann"), 0)}, lease.MaxReached},
		{"a reservation beats a cap", []lease.Rule{rule(lease.RuleMax, "cad", user("ann"), 0), rule(lease.RuleReserve, "cad", user("ann"), 1)}, ""},
		{"a reservation beats an include of others", []lease.Rule{include, rule(lease.RuleReserve, "cad", group("designers"), 1)}, ""},
		{"an exclude beats a reservation", []lease.Rule{rule(lease.RuleReserve, "cad", user("ann"), 1), rule(lease.RuleExclude, "cad", user("ann"), 0)}, lease.Excluded},
		{"an exclude beats an include", []lease.Rule{rule(lease.RuleInclude, "cad", user("ann"), 0), rule(lease.RuleExclude, "cad", user("ann"), 0)}, lease.Excluded},
		{"all is reserved for others", []lease.Rule{rule(lease.RuleReserve, "cad", user("zoe"), 3)}, lease.ReservedForOthers},
		{"a part is reserved for others", []lease.Rule{rule(lease.RuleReserve, "cad", user("zoe"), 2)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, lease.Policy{Groups: groups, Rules: c.rules}, feature("cad", 3))
			if r := w.do(as(checkout(1, "cad", 1), "ann", "ws")); c.want == "" && r.Refusal != nil || c.want != "" && (r.Refusal == nil || r.Refusal.Reason != c.want) {
				t.Errorf("got %v, want %q", r.Refusal, c.want)
			}
		})
	}
}

func TestNamesMatch(t *testing.T) {
	who := lease.Principal{User: "ann", Host: "ws-17", IP: "10.1.2.3", Display: ":0", Project: "apollo"}
	hosts := func(members ...string) []lease.PolicyGroup {
		return []lease.PolicyGroup{{Name: "lab", Hosts: true, Members: members}}
	}
	lab := lease.Subject{Type: lease.SubjectHostGroup, Name: "lab"}
	for _, c := range []struct {
		name   string
		groups []lease.PolicyGroup
		who    lease.Subject
		fold   bool
		want   bool
	}{
		{"user", nil, user("ann"), false, true},
		{"other user", nil, user("anna"), false, false},
		{"wildcard", nil, user("a*"), false, true},
		{"one character", nil, user("an?"), false, true},
		{"case", nil, user("ANN"), false, false},
		{"case does not matter", nil, user("ANN"), true, true},
		{"group, wildcard", []lease.PolicyGroup{{Name: "g", Members: []string{"x", "*n"}}}, group("g"), false, true},
		{"group, case does not matter", []lease.PolicyGroup{{Name: "G", Members: []string{"ANN"}}}, group("g"), true, true},
		{"host", nil, lease.Subject{Type: lease.SubjectHost, Name: "ws-17"}, false, true},
		{"host by address", nil, lease.Subject{Type: lease.SubjectHost, Name: "10.1.2.3"}, false, true},
		{"display", nil, lease.Subject{Type: lease.SubjectDisplay, Name: ":0"}, false, true},
		{"project", nil, lease.Subject{Type: lease.SubjectProject, Name: "apollo"}, false, true},
		{"internet, wildcard", nil, lease.Subject{Type: lease.SubjectInternet, Name: "10.1.*.*"}, false, true},
		{"internet, network", nil, lease.Subject{Type: lease.SubjectInternet, Name: "10.0.0.0/8"}, false, true},
		{"internet, other network", nil, lease.Subject{Type: lease.SubjectInternet, Name: "10.2.0.0/16"}, false, false},
		{"host group, name", hosts("x", "ws-*"), lab, false, true},
		{"host group, address", hosts("10.1.2.3"), lab, false, true},
		{"host group, network", hosts("10.1.2.0/24"), lab, false, true},
		{"host group, other", hosts("10.1.3.0/24", "ws-1?0"), lab, false, false},
	} {
		w := ruled(t, lease.Policy{FoldCase: c.fold, Groups: c.groups, Rules: []lease.Rule{rule(lease.RuleExclude, "cad", c.who, 0)}}, feature("cad", 3))
		cmd := checkout(1, "cad", 1)
		cmd.Principal = who
		if excluded := w.do(cmd).Refusal != nil; excluded != c.want {
			t.Errorf("%s: matches %v, want %v", c.name, excluded, c.want)
		}
	}
}

func TestAReservationShrinksAsItFills(t *testing.T) {
	p := lease.Policy{Groups: []lease.PolicyGroup{designers}, Rules: []lease.Rule{rule(lease.RuleReserve, "cad", group("designers"), 2)}}
	w := ruled(t, p, feature("cad", 4))
	w.reserved("cad", 2)
	w.must(as(checkout(1, "cad", 2), "zoe", "ws"))
	w.refused(lease.ReservedForOthers, as(checkout(2, "cad", 1), "yan", "ws"))
	w.must(as(checkout(3, "cad", 1), "ann", "ws"))
	w.reserved("cad", 1)
	w.refused(lease.ReservedForOthers, as(checkout(2, "cad", 1), "yan", "ws"))
	w.must(as(checkout(4, "cad", 1), "con-7", "ws"))
	w.reserved("cad", 0)
	w.refused(lease.NoSeats, as(checkout(2, "cad", 1), "yan", "ws"))
	w.must(lease.CheckIn{Session: session(3)})
	w.reserved("cad", 1)
	w.refused(lease.ReservedForOthers, as(checkout(2, "cad", 1), "yan", "ws"))
	w.must(lease.CheckIn{Session: session(1)})
	w.must(as(checkout(2, "cad", 1), "yan", "ws"))
}

func (w *world) reserved(feature string, want int) {
	w.t.Helper()
	n := 0
	for _, p := range w.Pools("") {
		if p.Feature == feature {
			n += p.Reserved
		}
	}
	w.equal("reserved", n, want)
}

// ann may take the seat of her own and the one of the group; which of the two she took
// first does not matter for what is left for bob.
func TestASeatFillsOneReservation(t *testing.T) {
	p := lease.Policy{Groups: []lease.PolicyGroup{designers}, Rules: []lease.Rule{
		rule(lease.RuleReserve, "cad", group("designers"), 1), rule(lease.RuleReserve, "cad", user("ann"), 1),
	}}
	w := ruled(t, p, feature("cad", 2))
	w.must(as(checkout(1, "cad", 1), "ann", "ws"))
	w.reserved("cad", 1)
	w.refused(lease.ReservedForOthers, as(checkout(2, "cad", 1), "zoe", "ws"))
	w.must(as(checkout(2, "cad", 1), "bob", "ws"))
	w.reserved("cad", 0)
}

func TestCapsCountSharedSeatsOnce(t *testing.T) {
	p := lease.Policy{Rules: []lease.Rule{rule(lease.RuleMax, "cad", user("ann"), 2)}}
	w := ruled(t, p, shared("cad", 5, 4))
	w.must(as(checkout(1, "cad", 1), "ann", "ws1"))
	w.must(as(checkout(2, "cad", 1), "ann", "ws1"))
	w.must(as(checkout(3, "cad", 1), "ann", "ws2"))
	w.refused(lease.MaxReached, as(checkout(4, "cad", 1), "ann", "ws3"))
	w.must(as(checkout(5, "cad", 1), "ann", "ws1"))
	w.must(lease.CheckIn{Session: session(3)})
	w.must(as(checkout(4, "cad", 1), "ann", "ws3"))
}

func TestACapCountsAllItemsOfARequest(t *testing.T) {
	old := feature("cad", 5)
	old.Version = "1.0"
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleMax, "cad", user("ann"), 3)}}, feature("cad", 5), old)
	c := as(checkout(1, "cad", 2), "ann", "ws")
	c.Items = append(c.Items, lease.Item{Feature: "cad", Version: "2026.0", Count: 2})
	w.refused(lease.MaxReached, c)
	c.Items[1].Count = 1
	w.must(c)
}
