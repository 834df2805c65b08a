//go:build mutants

package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Every rule of the queue and the bookings is taken away in turn: the random programs
// must see it.
func TestWithoutAQueueGuardSomeProgramGoesWrong(t *testing.T) {
	t.Cleanup(func() { lease.Break("") })
	for _, g := range []lease.Guard{lease.GuardOvertake, lease.GuardServe, lease.GuardOffer, lease.GuardBooked, lease.GuardLack} {
		t.Run(string(g), func(t *testing.T) {
			lease.Break(g)
			defer lease.Break("")
			var err error
			for seed := uint64(0); seed < 20 && err == nil; seed++ {
				err = newQueueProgram(seed).run(600)
			}
			if err == nil {
				t.Fatalf("%s is gone and no program noticed", g)
			}
			t.Logf("%.150v", err)
		})
	}
}
