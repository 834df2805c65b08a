//go:build mutants

package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestWithoutDrawSomeProgramGoesWrong(t *testing.T) {
	t.Cleanup(func() { lease.Break("") })
	lease.Break(lease.GuardDraw)
	var err error
	for seed := uint64(0); seed < 20 && err == nil; seed++ {
		err = newRichProgram(seed).runRich(propertySteps)
	}
	if err == nil {
		t.Errorf("%s is gone and no program noticed", lease.GuardDraw)
	}
	t.Logf("%.150v", err)
}
