package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// What a policy says of borrowing, beside what the licence says: whichever is stricter.
func TestThePolicyLimitsWhoBorrowsForHowLongAndHowMany(t *testing.T) {
	ann := func(n byte, term time.Duration) lease.Borrow {
		b := borrow(n, "cad", term)
		b.Principal = lease.Principal{User: "ann", Host: "ws"}
		return b
	}
	hours := func(feature string, who lease.Subject, n int) lease.Rule {
		return rule(lease.RuleMaxBorrow, feature, who, n)
	}
	for _, c := range []struct {
		name  string
		rules []lease.Rule
		term  time.Duration
		want  lease.Reason // empty: granted
	}{
		{"nothing is said", nil, 24 * time.Hour, ""},
		{"only others may", []lease.Rule{rule(lease.RuleIncludeBorrow, "cad", user("bob"), 0)}, time.Hour, lease.BorrowOff},
		{"she may, too", []lease.Rule{rule(lease.RuleIncludeBorrow, "cad", user("bob"), 0), rule(lease.RuleIncludeBorrow, "", group("designers"), 0)}, time.Hour, ""},
		{"she may not", []lease.Rule{rule(lease.RuleExcludeBorrow, "cad", user("ann"), 0)}, time.Hour, lease.BorrowOff},
		{"not to borrow goes before to borrow", []lease.Rule{rule(lease.RuleIncludeBorrow, "cad", user("ann"), 0), rule(lease.RuleExcludeBorrow, "", group("designers"), 0)}, time.Hour, lease.BorrowOff},
		{"another feature's rule", []lease.Rule{rule(lease.RuleExcludeBorrow, "mesh", user("ann"), 0), hours("mesh", lease.Subject{}, 0)}, time.Hour, ""},
		{"up to the policy's hours", []lease.Rule{hours("cad", lease.Subject{}, 8)}, 8 * time.Hour, ""},
		{"beyond the policy's hours", []lease.Rule{hours("cad", lease.Subject{}, 8)}, 8*time.Hour + 1, lease.BorrowTooLong},
		{"beyond the licence's hours, whatever the policy says", []lease.Rule{hours("cad", lease.Subject{}, 500)}, 48*time.Hour + 1, lease.BorrowTooLong},
		{"her own hours count before everybody's", []lease.Rule{hours("cad", lease.Subject{}, 2), hours("cad", user("ann"), 24)}, 24 * time.Hour, ""},
		{"no hours at all", []lease.Rule{hours("cad", lease.Subject{}, 0)}, time.Minute, lease.BorrowOff},
		{"excluded from the feature", []lease.Rule{rule(lease.RuleExclude, "cad", user("ann"), 0)}, time.Hour, lease.Excluded},
		{"capped", []lease.Rule{rule(lease.RuleMax, "cad", user("ann"), 0)}, time.Hour, lease.MaxReached},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ruled(t, lease.Policy{Groups: []lease.PolicyGroup{designers}, Rules: c.rules}, lendable("cad", 3, 48), lendable("mesh", 1, 48))
			w.must(key("first"))
			if c.want != "" {
				w.refused(c.want, ann(1, c.term))
				return
			}
			w.equal("term", w.must(ann(1, c.term)).Leases[0].Remaining, c.term)
		})
	}
}

// So many seats stay at home; for a plain checkout they are there.
func TestSeatsBelowTheLowWaterMarkStayAtHome(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleBorrowLow, "cad", lease.Subject{}, 2)}}, lendable("cad", 3, 48))
	w.must(key("first"))
	first := w.must(borrow(1, "cad", time.Hour)).Leases[0]
	w.refused(lease.BorrowNoneLeft, borrow(2, "cad", time.Hour))
	w.must(checkout(2, "cad", 1))
	w.refused(lease.BorrowNoneLeft, borrow(2, "cad", time.Hour)) // not the one that is held, either
	w.must(checkout(3, "cad", 1))
	w.must(lease.ReturnEarly{Ref: first.Ref})
	w.equal("held and borrowed", w.must(borrow(2, "cad", time.Hour)).Leases[0].State, lease.Borrowed)
}

// The seats of all versions that the rule is about count together, those too that cannot be
// borrowed at all.
func TestTheLowWaterMarkIsOfAllVersions(t *testing.T) {
	old, fresh := feature("cad", 2), lendable("cad", 3, 48)
	old.Version, fresh.Version = "1.0", "2.0"
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleBorrowLow, "cad", lease.Subject{}, 3)}}, old, fresh)
	w.must(key("first"))
	w.must(borrow(1, "cad", time.Hour))
	w.must(borrow(2, "cad", time.Hour))
	w.refused(lease.BorrowNoneLeft, borrow(3, "cad", time.Hour))
}
