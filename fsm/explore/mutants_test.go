//go:build mutants

package explore

import (
	"slices"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Each guard is taken away in turn; a short list of steps must then break an invariant
// that the guard is there for.
func TestWithoutAGuardSomeInterleavingGoesWrong(t *testing.T) {
	for _, g := range []struct {
		guard lease.Guard
		by    string
		seats int
	}{
		{lease.GuardEpoch, "C5", 1},
		{lease.GuardTerm, "C5", 1},
		{lease.GuardExpireTime, "L4", 1},
		{lease.GuardExpireRev, "L4", 1},
		{lease.GuardExpireToken, "L4", 1},
		{lease.GuardSeq, "I1 I2", 1},
		{lease.GuardStaleSeq, "I2", 1},
		{lease.GuardIncarnation, "I2", 1},
		{lease.GuardReattach, "L1", 2},
		{lease.GuardCapacity, "L1", 1},
		{lease.GuardToken, "L3", 1},
		{lease.GuardRelease, "L7", 1},
		{lease.GuardClosed, "I1 I2", 1},
		{lease.GuardDedupeSaved, "I1 I2 F1", 1},
	} {
		t.Run(string(g.guard), func(t *testing.T) {
			lease.Break(g.guard)
			defer lease.Break("")
			r, err := Run(Config{Clients: 2, Seats: g.seats, Depth: 8, MaxStates: 60_000})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", r)
			if !slices.Contains(strings.Fields(g.by), r.Letter) {
				t.Errorf("no interleaving breaks %s without this guard", g.by)
			}
		})
	}
}
