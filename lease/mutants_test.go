//go:build mutants

package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Every guard of this room is taken away in turn: some program must then go wrong.
func TestWithoutAGuardSomeProgramGoesWrong(t *testing.T) {
	t.Cleanup(func() { lease.Break("") })
	for _, g := range []lease.Guard{
		lease.GuardExpireTime, lease.GuardExpireRev, lease.GuardExpireToken, lease.GuardSeq, lease.GuardStaleSeq, lease.GuardIncarnation,
		lease.GuardReattach, lease.GuardCapacity, lease.GuardToken, lease.GuardRelease, lease.GuardClosed, lease.GuardCalendar,
	} {
		t.Run(string(g), func(t *testing.T) {
			lease.Break(g)
			defer lease.Break("")
			for _, by := range []struct {
				name string
				run  func(seed uint64) error
			}{
				{"model", func(seed uint64) error { return newProgram(seed).run(propertySteps) }},
				{"invariants", func(seed uint64) error { return newBlindProgram(seed).run(propertySteps) }},
			} {
				var err error
				for seed := range uint64(20) {
					if err = by.run(seed); err != nil {
						break
					}
				}
				switch {
				case err != nil:
					t.Logf("%s: %.150v", by.name, err)
				case by.name == "model":
					t.Errorf("%s is gone and no program noticed", g)
				default:
					t.Logf("%s: found by the model only", g)
				}
			}
			lease.Break("")
			if err := newProgram(1).run(propertySteps); err != nil {
				t.Errorf("the guard is back: %v", err)
			}
		})
	}
}

// newBlindProgram judges by the invariants alone, to show that these see a fault too.
func newBlindProgram(seed uint64) *program {
	p := newProgram(seed)
	p.blind = true
	return p
}

// Without the quarantine, or where a check-in gives back what is borrowed, some program
// grants a seat that its borrower may still use.
func TestWithoutQuarantineSomeProgramGoesWrong(t *testing.T) {
	for _, g := range []lease.Guard{lease.GuardQuarantine, lease.GuardLentKept} {
		t.Run(string(g), func(t *testing.T) {
			lease.Break(g)
			defer lease.Break("")
			for seed := range uint64(20) {
				if _, err := lend(seed, 3000); err != nil {
					t.Logf("%.200v", err)
					return
				}
			}
			t.Errorf("%s is gone and no program noticed", g)
		})
	}
}
