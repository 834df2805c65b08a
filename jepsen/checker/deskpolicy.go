package checker

import (
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// means says whether a rule of a policy is about a user.
func means(p *history.PolicyText, r *history.PolicyRule, user string) bool {
	switch r.WhoType {
	case "":
		return true
	case "user":
		return r.Who == user
	case "group":
		return slices.ContainsFunc(p.Groups, func(g history.PolicyGroup) bool { return g.Name == r.Who && slices.Contains(g.Members, user) })
	}
	return false
}

// rules are those of a kind about a feature in a policy.
func rules(p *history.PolicyText, kind, feature string) (list []*history.PolicyRule) {
	if p == nil {
		return nil
	}
	for i := range p.Rules {
		if r := &p.Rules[i]; r.Kind == kind && (r.Feature == "" || r.Feature == feature) {
			list = append(list, r)
		}
	}
	return list
}

// named says whether a rule of the kind, in the policy in force, is about the user.
func (d *desk) named(kind, feature, user string) bool {
	return slices.ContainsFunc(rules(d.policy, kind, feature), func(r *history.PolicyRule) bool { return means(d.policy, r, user) })
}

// everNamed says whether any policy of the run has such a rule.
func (d *desk) everNamed(kind, feature, user string) bool {
	return slices.ContainsFunc(d.policies, func(p *history.PolicyText) bool {
		return slices.ContainsFunc(rules(p, kind, feature), func(r *history.PolicyRule) bool { return means(p, r, user) })
	})
}

// priority is how far ahead in the queue a policy puts a user's requests.
func priority(p *history.PolicyText, user string) int {
	most, found := 0, false
	if p != nil {
		for _, g := range p.Groups {
			if g.Priority != 0 && slices.Contains(g.Members, user) && (!found || g.Priority > most) {
				most, found = g.Priority, true
			}
		}
	}
	return most
}

// priorities are the lowest and the highest that a user has in the run.
func (d *desk) priorities(user string) (low, high int) {
	for _, p := range d.policies {
		n := priority(p, user)
		low, high = min(low, n), max(high, n)
	}
	return low, high
}

// held is how many seats of a feature those hold whom a rule means.
func (d *desk) held(r *history.PolicyRule, feature string) (n int) {
	for _, p := range d.leases {
		if p.feature == feature && means(d.policy, r, p.user) {
			n += p.count
		}
	}
	return n
}

// unfilled is how many reserved seats nobody holds for whom they are. Each seat fills one
// reservation; they are dealt out so that as many are filled as can be.
func (d *desk) unfilled(feature string) int {
	list := rules(d.policy, "reserve", feature)
	if len(list) == 0 {
		return 0
	}
	var wanted []*history.PolicyRule // once for each seat
	left := 0
	if p := d.pools[feature]; p != nil {
		left = p.Total
	}
	for _, r := range list {
		for range min(r.Seats, left) {
			wanted = append(wanted, r)
			left--
		}
	}
	filled := make([]string, len(wanted)) // by whose seat
	n := len(wanted)
	for _, p := range d.leases {
		for range p.count {
			if p.feature == feature && d.fills(p.user, wanted, filled, make([]bool, len(wanted))) {
				n--
			}
		}
	}
	return n
}

// fills finds a reserved seat for one more seat of the user, moving others where they fit.
func (d *desk) fills(user string, wanted []*history.PolicyRule, filled []string, tried []bool) bool {
	for i, r := range wanted {
		if tried[i] || !means(d.policy, r, user) {
			continue
		}
		tried[i] = true
		if filled[i] == "" || d.fills(filled[i], wanted, filled, tried) {
			filled[i] = user
			return true
		}
	}
	return false
}
