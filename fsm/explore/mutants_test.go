//go:build mutants

package explore

import (
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
	}{
		{lease.GuardEpoch, "C5"},
		{lease.GuardTerm, "C5"},
		{lease.GuardExpireTime, "L4"},
		{lease.GuardExpireRev, "L4"},
		{lease.GuardExpireToken, "L4"},
		{lease.GuardSeq, "I1 I2"},
		{lease.GuardStaleSeq, "I2"},
		{lease.GuardIncarnation, "I2"},
		{lease.GuardReattach, "L1"},
		{lease.GuardCapacity, "L1"},
		{lease.GuardToken, "L3"},
		{lease.GuardRelease, "L7"},
		{lease.GuardClosed, "I1 I2"},
		{lease.GuardSendTime, "L2"},
		{lease.GuardDedupeSaved, "I1 I2 F1"},
	} {
		t.Run(string(g.guard), func(t *testing.T) {
			lease.Break(g.guard)
			defer lease.Break("")
			for _, seats := range []int{1, 2} {
				r, err := Run(Config{Clients: 2, Seats: seats, Depth: 8, MaxStates: 60_000})
				if err != nil {
					t.Fatal(err)
				}
				for letter := range strings.FieldsSeq(g.by) {
					if r.Letter == letter {
						t.Logf("%v", r)
						return
					}
				}
				t.Logf("%d seats: %v", seats, r)
			}
			t.Errorf("no interleaving breaks %s without this guard", g.by)
		})
	}
}
