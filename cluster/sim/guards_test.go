//go:build mutants

package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Each guard of the time and identity design is taken away in turn; some seed must then
// be red, by an invariant that the guard is there for.
var guards = []struct {
	guard lease.Guard
	by    string // letters of the invariants that may find it
}{
	{lease.GuardEpoch, "C5"},
	{lease.GuardTerm, "C5"},
	{lease.GuardLostTime, "C3"},
	{lease.GuardRebase, "C1 C2 C3"},
	{lease.GuardMonotonic, "C2"},
	{lease.GuardSendTime, "L2"},
	{lease.GuardSuspend, "L2"},
	{lease.GuardExpireTime, "L4"},
	{lease.GuardExpireRev, "L4"},
	{lease.GuardExpireToken, "L4"},
	{lease.GuardSeq, "I1"},
	{lease.GuardStaleSeq, "I2"},
	{lease.GuardIncarnation, "I2"},
	{lease.GuardReattach, "L1"}, // found by Book.Check: two leases for one holder key
	{lease.GuardClosed, "I1"},
	{lease.GuardDedupeSaved, "F1 I1 I2"},
	{lease.GuardCapacity, "L1"},
	{lease.GuardToken, "L3"},
	{lease.GuardRelease, "L7 I4 U1"},
	{lease.GuardVerifyRead, "R2"},
}

// seedsPerGuard bounds the search; most are found by the first few seeds.
const seedsPerGuard = 150

func TestEveryGuardIsNeeded(t *testing.T) {
	for _, g := range guards {
		t.Run(string(g.guard), func(t *testing.T) {
			lease.Break(g.guard)
			defer lease.Break("")
			for seed := range uint64(seedsPerGuard) {
				r := play(t, Config{Seed: seed + 1, Length: 5 * time.Minute})
				for _, v := range r.Violations {
					for letter := range strings.FieldsSeq(g.by) {
						if strings.HasPrefix(v, letter) {
							t.Logf("seed %d: %s", r.Seed, v)
							return
						}
					}
				}
				if len(r.Violations) > 0 && seed%25 == 24 {
					t.Logf("seed %d found only %q", r.Seed, r.Violations[0])
				}
			}
			t.Errorf("no violation of %s in %d seeds without this guard", g.by, seedsPerGuard)
		})
	}
}
