package lease

import (
	"fmt"
	"maps"
	"slices"
)

// checkPolicing compiles the policies anew, counts from the charges alone who holds what
// under them, and wants the counters that requests are judged by to say the same: caps,
// reservations by class of holder, what of them is not filled, and who lingers.
func (b *Book) checkPolicing() error {
	fresh := *b // tables are read only; what is derived is made anew
	fresh.police()
	was, is := &b.policing, &fresh.policing
	if len(was.tenants) != len(is.tenants) {
		return fmt.Errorf("%d policies are compiled, %d are there", len(was.tenants), len(is.tenants))
	}
	for name, want := range is.tenants {
		have := was.tenants[name]
		if have == nil {
			return fmt.Errorf("the policy of tenant %s is not compiled", name)
		}
		for i := range want.held {
			if have.held[i] != want.held[i] {
				return fmt.Errorf("tenant %s, rule %d (%s): %d seats held, %d counted", name, i, want.policy.Rules[i].Kind, want.held[i], have.held[i])
			}
		}
	}
	for i := range max(len(was.pools), len(is.pools)) {
		if err := comparePolicing(b.rulesOf(uint32(i)), fresh.rulesOf(uint32(i))); err != nil {
			return fmt.Errorf("pool %d: %w", i, err)
		}
	}
	if !maps.EqualFunc(was.lingering, is.lingering, slices.Equal) {
		return fmt.Errorf("%d principals have lingering seats, %d found", len(is.lingering), len(was.lingering))
	}
	return nil
}

func comparePolicing(have, want *poolRules) error {
	switch {
	case have == nil && want == nil:
		return nil
	case have == nil || want == nil:
		return fmt.Errorf("rules are compiled: %t, there are some: %t", have != nil, want != nil)
	case !slices.Equal(have.want, want.want):
		return fmt.Errorf("feature %s: reserved %v, counted %v", want.feature, want.want, have.want)
	case !maps.Equal(have.held, want.held):
		return fmt.Errorf("feature %s: seats held by class of holder differ: %d classes, %d counted", want.feature, len(want.held), len(have.held))
	case !slices.Equal(have.unfilled, want.unfilled) || have.short != want.short:
		return fmt.Errorf("feature %s: unfilled reservations %v, counted %v", want.feature, want.unfilled, have.unfilled)
	}
	return nil
}
