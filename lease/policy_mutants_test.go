//go:build mutants

package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Every rule of a policy is taken away in turn: some random program must then go wrong.
func TestWithoutARuleOfPolicySomeProgramGoesWrong(t *testing.T) {
	t.Cleanup(func() { lease.Break("") })
	for _, g := range []lease.Guard{
		lease.GuardReserve, lease.GuardReserveFirst, lease.GuardExclude, lease.GuardMax, lease.GuardInclude, lease.GuardCapacity, lease.GuardHeld,
	} {
		t.Run(string(g), func(t *testing.T) {
			lease.Break(g)
			defer lease.Break("")
			var err error
			for seed := range uint64(20) {
				if err = newRuler(seed).run(rulerSteps); err != nil {
					break
				}
			}
			if err == nil {
				t.Fatalf("%s is gone and no program noticed", g)
			}
			t.Logf("%.150v", err)
		})
	}
	lease.Break("")
	if err := newRuler(1).run(rulerSteps); err != nil {
		t.Errorf("the guards are back: %v", err)
	}
}

func TestWithoutLingerAReturnGoesWrong(t *testing.T) {
	lease.Break(lease.GuardLinger)
	defer lease.Break("")
	w := ruled(t, lease.Policy{Rules: []lease.Rule{span(lease.RuleLinger, "cad", lease.Subject{}, lease.MaxLinger)}}, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("charged", w.used("cad"), 0)
}
