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
	ruled  bool // it is a rule that only ruled worlds know
}{
	{lease.GuardEpoch, "C5", "", false},
	{lease.GuardTerm, "C5", "stray-entries transfer crash-leader", false},
	{lease.GuardLostTime, "C2/C4", "", false},
	{lease.GuardRebase, "C1 C2 C3", "", false},
	{lease.GuardMonotonic, "C2", "", false},
	{lease.GuardSendTime, "L2", "weather cut-clients-from-leader slow-hand-over hang-disk", false},
	{lease.GuardSuspend, "L2", "", false},
	{lease.GuardExpireTime, "L4", "", false},
	{lease.GuardExpireRev, "L4", "", false},
	{lease.GuardExpireToken, "L4", "", false},
	{lease.GuardSeq, "I1", "", false},
	{lease.GuardStaleSeq, "I2", "", false},
	{lease.GuardIncarnation, "I2", "", false},
	{lease.GuardReattach, "L1", "", false}, // found by Book.Check: two leases for one holder key
	{lease.GuardClosed, "I1", "", false},
	{lease.GuardDedupeSaved, "F1 I1 I2", "", false},
	{lease.GuardCapacity, "L1", "", false},
	{lease.GuardToken, "L3", "", false},
	{lease.GuardRelease, "L7 I4 U1", "", false},
	{lease.GuardVerifyRead, "R2", "deaf-transfer", false},
	{lease.GuardOwnWrite, "F1 L2 I1 L3", "hang-disk crash-leader crash-node isolate-node halves power-fail", false},
	{lease.GuardOwnCommit, "F1", "hang-disk crash-leader crash-node isolate-node halves power-fail", false},
	{lease.GuardLinger, "L4", "", true},
	{lease.GuardHeld, "P2", "", true},
	{lease.GuardReserve, "L1", "", true},
	{lease.GuardReserveFirst, "P2", "", true},
	{lease.GuardExclude, "P1", "", true},
	{lease.GuardMax, "P1", "", true},
	{lease.GuardInclude, "P1", "", true},
	{lease.GuardQuarantine, "L4 L2", "", true},
	{lease.GuardDraw, "L1", "", true},
	{lease.GuardOvertake, "Q1", "", true},
	{lease.GuardServe, "Q2", "", true},
	{lease.GuardLack, "Q2", "", true},
	{lease.GuardOffer, "L4 L7", "", true},
	{lease.GuardBooked, "L1 Q3", "", true},
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
				r := play(t, Config{Seed: seed, Length: 5 * time.Minute, StopAtFirst: i%2 == 0, Ruled: g.ruled, Faults: strings.Fields(g.faults), RaftTimeout: time.Duration(1+i%3) * time.Second})
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
