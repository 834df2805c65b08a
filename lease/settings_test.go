package lease_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func span(k lease.RuleKind, feature string, who lease.Subject, d time.Duration) lease.Rule {
	return lease.Rule{Kind: k, Feature: feature, Who: who, Time: d}
}

func TestThePolicySetsHowLongLeasesLive(t *testing.T) {
	p := lease.Policy{Groups: []lease.PolicyGroup{designers}, Rules: []lease.Rule{
		{Kind: lease.RuleProfile, Who: group("designers"), Time: 10 * time.Second, Grace: 5 * time.Second},
		{Kind: lease.RuleProfile, Feature: "cad", Who: user("bob"), Time: 40 * time.Second, Grace: 0},
		{Kind: lease.RuleProfile, Feature: "cad", Time: 20 * time.Second, Grace: 20 * time.Second},
	}}
	w := ruled(t, p, feature("cad", 9), feature("mesh", 9))
	for n, c := range []struct {
		who, feature string
		life, grace  time.Duration
	}{
		{"zoe", "mesh", lease.DefaultProfile.Lifespan, lease.DefaultProfile.Grace},
		{"zoe", "cad", 20 * time.Second, 20 * time.Second},
		{"ann", "mesh", 10 * time.Second, 5 * time.Second},
		{"ann", "cad", 20 * time.Second, 20 * time.Second}, // what names the feature counts before what names the group
		{"bob", "cad", 40 * time.Second, 0},
	} {
		l := w.must(as(checkout(byte(n+1), c.feature, 1), c.who, "ws")).Leases[0]
		w.equal(c.who+" lifespan", l.Remaining, c.life)
		w.equal(c.who+" grace", l.Grace, c.grace)
	}
	// A later policy does not shorten what was promised.
	w.must(lease.ApplyPolicy{Policy: lease.Policy{}, Expected: 1})
	w.wait(39 * time.Second)
	w.equal("due", w.expireDue(), 1) // ann's of mesh; those of 20 s and 20 s run to 40 s
	w.wait(time.Second)
	w.equal("due", w.expireDue(), 3)
	w.equal("cad", w.used("cad"), 0)
	// Nor does it live on in who gets its place.
	l := w.must(as(checkout(9, "cad", 1), "ann", "ws")).Leases[0]
	w.equal("lifespan without a policy", l.Remaining, lease.DefaultProfile.Lifespan)
}

func TestASeatLingersForItsPrincipal(t *testing.T) {
	for _, c := range []struct {
		name string
		ent  lease.Entitlement
	}{{"shared", shared("cad", 1, 1)}, {"not shared", feature("cad", 1)}} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleLinger, "cad", lease.Subject{}, time.Minute)}}, c.ent)
			w.must(as(checkout(1, "cad", 1), "ann", "ws"))
			w.must(lease.CheckIn{Session: session(1), Close: true})
			w.equal("charged", w.used("cad"), 1)
			w.refused(lease.NoSeats, as(checkout(2, "cad", 1), "bob", "ws"))
			w.must(as(checkout(3, "cad", 1), "ann", "ws")) // takes it up again
			w.equal("charged", w.used("cad"), 1)
			w.must(lease.CheckIn{Session: session(3)})
			w.must(as(checkout(3, "cad", 1), "ann", "ws")) // the same session too
			w.must(lease.CheckIn{Session: session(3)})
			w.wait(59 * time.Second)
			w.refused(lease.NoSeats, as(checkout(2, "cad", 1), "bob", "ws"))
			w.wait(time.Second)
			w.must(as(checkout(2, "cad", 1), "bob", "ws")) // what is due comes back before a seat is denied
			reasons := map[lease.Release]int{}
			for _, e := range w.TakeEvents() {
				if e.Kind == lease.Ended {
					reasons[e.Release]++
				}
			}
			w.equal("linger over", reasons[lease.ReleasedLingerOver], 3)
		})
	}
}

func TestAShortCheckoutIsChargedForItsLeastTime(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleMinCheckout, "cad", lease.Subject{}, time.Minute)}}, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.wait(40 * time.Second)
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("charged", w.used("cad"), 1)
	w.wait(20 * time.Second)
	w.equal("due", w.expireDue(), 1)
	w.must(checkout(2, "cad", 1))
	w.wait(61 * time.Second)
	w.must(lease.CheckIn{Session: session(2)})
	w.equal("long enough: charged", w.used("cad"), 0)
}

func TestAnIdleSeatIsTakenBackButNotBelowTheVendorsFloor(t *testing.T) {
	strict := feature("mesh", 2)
	strict.IdleFloor = time.Hour
	w := ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleIdleTimeout, "", lease.Subject{}, time.Minute)}}, feature("cad", 2), strict)
	w.must(and(checkout(1, "cad", 1), "mesh", 1))
	idle := func(d time.Duration) lease.Reply { return w.must(lease.Renew{Session: session(1), Idle: d}) }
	w.equal("held", len(idle(lease.MinIdleTimeout-1).Leases), 2)
	r := idle(lease.MinIdleTimeout)
	w.equal("held", len(r.Leases), 1)
	w.equal("lost", len(r.Lost), 1)
	w.equal("feature", r.Lost[0].Feature, "cad")
	w.equal("reason", r.Lost[0].Reason, lease.ReleasedTimeout)
	w.equal("held", len(idle(time.Hour).Leases), 0)
}

func TestALeaseIsNotKilledTooSoon(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleMinKill, "cad", lease.Subject{}, 2*time.Minute)}}, feature("cad", 2), feature("mesh", 1))
	a := w.must(checkout(1, "mesh", 1)).Leases[0].Ref
	b := w.must(checkout(2, "cad", 1)).Leases[0].Ref
	w.refused(lease.TooSoon, lease.Kill{Refs: []lease.Ref{a, b}})
	w.equal("nothing was taken", w.used("mesh"), 1)
	w.must(lease.Kill{Refs: []lease.Ref{a}})
	w.wait(time.Minute)
	w.must(lease.Renew{Session: session(2)})
	w.wait(time.Minute)
	w.equal("killed", len(w.must(lease.Kill{Refs: []lease.Ref{b}}).Released), 1)
}

func TestOverdraftIsWhatLicenceAndPolicyAllow(t *testing.T) {
	ent := feature("cad", 2)
	ent.Overdraft = 2
	w := newWorld(t, ent)
	w.must(checkout(1, "cad", 2))
	w.refused(lease.NoSeats, checkout(2, "cad", 1)) // no policy allows it
	w.must(lease.ApplyPolicy{Policy: lease.Policy{Rules: []lease.Rule{rule(lease.RuleMaxOverdraft, "cad", lease.Subject{}, 1)}}})
	l := w.must(checkout(2, "cad", 1)).Leases[0]
	w.equal("flagged", l.Overdraft, true)
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.must(lease.ApplyPolicy{Policy: lease.Policy{Rules: []lease.Rule{rule(lease.RuleMaxOverdraft, "cad", lease.Subject{}, 9)}}, Expected: 1})
	w.must(checkout(3, "cad", 1))
	w.refused(lease.NoSeats, checkout(4, "cad", 1)) // never more than the licence says
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("flagged", w.must(checkout(4, "cad", 1)).Leases[0].Overdraft, false)
}

func TestASoftLimitOnlyAlarms(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleSoftLimit, "cad", lease.Subject{}, 1)}}, feature("cad", 3))
	w.must(checkout(1, "cad", 1))
	w.equal("alarms", len(w.Alarms()), 0)
	w.must(checkout(2, "cad", 1))
	w.equal("alarms", strings.Join(w.Alarms(), "\n"), "feature cad of tenant default: 2 seats in use, above the soft limit of 1")
}

func TestExplainPolicySaysWhatItWouldComeToNow(t *testing.T) {
	groups := []lease.PolicyGroup{designers, {Name: "idle", Members: []string{"x"}}}
	ent := feature("cad", 4)
	ent.Overdraft = 1
	w := newWorld(t, ent)
	w.must(as(checkout(1, "cad", 3), "zoe", "ws"))
	for _, c := range []struct {
		rule     lease.Rule
		severity lease.Severity
		now      string
	}{
		{rule(lease.RuleReserve, "cad", group("designers"), 1), "ok", "they hold 0 now: 1 would be kept free for them"},
		{rule(lease.RuleReserve, "cad", group("designers"), 2), "warning", "others hold 3 seats now: 1 of 2 can be kept until some come back"},
		{rule(lease.RuleReserve, "cad", group("designers"), 5), "warning", "5 are reserved, the licence counts 4: only these can be kept"},
		{rule(lease.RuleMax, "cad", user("zoe"), 2), "warning", "they hold 3 now, more than 2: these stay until they are returned, and nobody of them gets another until then"},
		{rule(lease.RuleMax, "cad", user("zoe"), 9), "warning", "the licence counts 4: this limits nobody"},
		{rule(lease.RuleMax, "cad", user("ann"), 1), "ok", "they hold 0 now: 1 more are possible"},
		{rule(lease.RuleMax, "cda", user("ann"), 1), "warning", "no licence of tenant default has the feature cda"},
		{rule(lease.RuleExclude, "cad:VERSION=1.0", user("ann"), 0), "warning", "no licence of tenant default has cad with VERSION 1.0"},
		{rule(lease.RuleExclude, "cad:HOSTID=x", user("ann"), 0), "warning", "seats of cad are not told apart by HOSTID, only by VERSION and VENDOR: the rule is for nothing"},
		{rule(lease.RuleExclude, "cad", user("zoe"), 0), "ok", "they hold 3 seats now, which stay until they are returned"},
		{rule(lease.RuleMaxOverdraft, "cad", lease.Subject{}, 2), "warning", "the licence allows 1 above its count: no more are possible"},
		{rule(lease.RuleSoftLimit, "cad", lease.Subject{}, 2), "warning", "3 are in use: the alarm would be raised at once"},
		{rule(lease.RuleBorrowLow, "cad", lease.Subject{}, 4), "warning", "the licence counts 4: nothing could be borrowed"},
		{span(lease.RuleIdleTimeout, "cad", lease.Subject{}, time.Minute), "warning", "the vendor's floor is 15m0s: that is what counts"},
		{rule(lease.RuleMax, "cad", group("nobody"), 1), "error", `max: unknown group "nobody"; define it under groups`},
	} {
		list := w.ExplainPolicy(lease.Policy{Groups: groups, Rules: []lease.Rule{c.rule}})
		f := list[len(list)-1]
		if f.Rule != 0 || f.Severity != c.severity || f.Now != c.now {
			t.Errorf("%s %s:\n got %s: %s\nwant %s: %s", c.rule.Kind, c.rule.Feature, f.Severity, f.Now, c.severity, c.now)
		}
	}
	list := w.ExplainPolicy(lease.Policy{Groups: groups})
	w.equal("idle group", list[1].Now, "no rule names it")
	w.equal("policy", w.Policy("").Version, uint64(0)) // nothing changed
}
