//go:build mutants

package sim

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Each guard of the time and identity design is taken away in turn; some seed must then
// be red, by an invariant that the guard is there for.
var guards = []struct {
	guard lease.Guard
	by    string // letters of the invariants that may find it
	// faults that matter, where most runs would find nothing; empty: any
	faults string
}{
	{lease.GuardEpoch, "C5", ""},
	{lease.GuardTerm, "C5", "stray-entries transfer crash-leader"},
	{lease.GuardLostTime, "C2/C4", ""},
	{lease.GuardRebase, "C1 C2 C3", ""},
	{lease.GuardMonotonic, "C2", ""},
	{lease.GuardSendTime, "L2", "weather cut-clients-from-leader slow-hand-over hang-disk"},
	{lease.GuardSuspend, "L2", ""},
	{lease.GuardExpireTime, "L4", ""},
	{lease.GuardExpireRev, "L4", ""},
	{lease.GuardExpireToken, "L4", ""},
	{lease.GuardSeq, "I1", ""},
	{lease.GuardStaleSeq, "I2", ""},
	{lease.GuardIncarnation, "I2", ""},
	{lease.GuardReattach, "L1", ""}, // found by Book.Check: two leases for one holder key
	{lease.GuardClosed, "I1", ""},
	{lease.GuardDedupeSaved, "F1 I1 I2", ""},
	{lease.GuardCapacity, "L1", ""},
	{lease.GuardToken, "L3", ""},
	{lease.GuardRelease, "L7 I4 U1", ""},
	{lease.GuardVerifyRead, "R2", "deaf-transfer"},
}

// seedsPerGuard bounds the search. Most are found by the first few seeds, the rarest by
// one in fifty: the bound leaves no room for chance.
const seedsPerGuard = 600

func TestEveryGuardIsNeeded(t *testing.T) {
	for _, g := range guards {
		t.Run(string(g.guard), func(t *testing.T) {
			lease.Break(g.guard)
			defer lease.Break("")
			var mu sync.Mutex
			found, other := "", ""
			spread(seedsPerGuard, func(i int) bool {
				// A run ends at its first violation, unless that is not what the guard is for.
				seed := uint64(i) + 1
				r := play(t, Config{Seed: seed, Length: 5 * time.Minute, StopAtFirst: i%2 == 0, Faults: strings.Fields(g.faults), RaftTimeout: time.Duration(1+i%3) * time.Second})
				mu.Lock()
				defer mu.Unlock()
				for _, v := range r.Violations {
					for letter := range strings.FieldsSeq(g.by) {
						if strings.HasPrefix(v, letter) && found == "" {
							found = fmt.Sprintf("seed %d: %s", seed, v)
						}
					}
					other = v
				}
				return found == ""
			})
			if found == "" {
				t.Errorf("no violation of %s in %d seeds without this guard; found only %q", g.by, seedsPerGuard, other)
			} else {
				t.Log(found)
			}
		})
	}
}
