package lease_test

import (
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// A policy's profile goes with the lease that it was given to: whoever gets the slot next
// has the pool's.
func TestTheNextLeaseOfASlotHasAProfileOfItsOwn(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(lease.ApplyPolicy{Policy: lease.Policy{Rules: []lease.Rule{
		{Kind: lease.RuleProfile, Feature: "cad", Who: lease.Subject{Type: lease.SubjectUser, Name: "zoe"}, Time: 10 * time.Second, Grace: 5 * time.Second}}}})
	short := w.must(as(checkout(1, "cad", 1), "zoe", "ws")).Leases[0]
	w.equal("zoe's", short.Remaining+short.Grace, 15*time.Second)
	w.must(lease.CheckIn{Session: session(1)})
	long := w.must(as(checkout(2, "cad", 1), "ann", "ws")).Leases[0]
	w.equal("the same slot", long.Handle, short.Handle)
	w.equal("ann's", long.Remaining+long.Grace, 240*time.Second)
}
