//go:build mutants

package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Without the carry some program has more seats of a feature out than are licensed.
func TestWithoutCarrySomeProgramGoesWrong(t *testing.T) {
	t.Cleanup(func() { lease.Break("") })
	lease.Break(lease.GuardCarry)
	for seed := range uint64(20) {
		if _, err := shift(seed, 600); err != nil {
			t.Logf("%.150v", err)
			return
		}
	}
	t.Errorf("%s is gone and no program noticed", lease.GuardCarry)
}
