package lease

import (
	"testing"
	"time"
)

// crowd is a ledger with n sessions of one lease each.
func crowd(t *testing.T, n int) *Book {
	b := NewBook()
	b.Apply(1, InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
		{Feature: "cad", Version: "1", Count: n, Serial: "1", Profile: DefaultProfile},
		{Feature: "cam", Version: "1", Count: 1, Serial: "2", Profile: Profiles["wan"]},
	}}})
	for i := range n {
		if r := b.Apply(2, Checkout{Session: one(i), Items: []Item{{Feature: "cad", Count: 1}}}); r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
	}
	b.TakeEvents()
	return b
}

func one(i int) SessionRef { return SessionRef{ID: SessionID{byte(i), byte(i >> 8), 1}} }

// A node that never asks what is due puts its index in order with the entries, a bounded
// part with each.
func TestKeysArePutRightAsTimePasses(t *testing.T) {
	const n = 3 * settleStep
	b := crowd(t, n)
	b.Advance(Time(100*time.Second), 0)
	for i := range n {
		b.Apply(3, Renew{Session: one(i)})
	}
	stale := func() (stale int) {
		b.dueLeases.walk(1<<62, func(slot uint32) bool {
			if *b.dueLeases.keys.at(uint32(b.dueLeases.place(slot))) != b.leaseDue(slot) {
				stale++
			}
			return true
		})
		return stale
	}
	for _, want := range []int{n - settleStep, n - 2*settleStep, 0, 0} {
		b.Advance(Time(250*time.Second), 0)
		if got := stale(); got != want {
			t.Fatalf("%d keys are early, %d expected", got, want)
		}
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
}

// To look what is due takes steps of bounded length, and finds it all the same.
func TestDueTakesShortSteps(t *testing.T) {
	const n = 4 * dueStep
	b := crowd(t, n)
	b.Advance(Time(100*time.Second), 0)
	for i := 1; i < n; i++ {
		b.Apply(3, Renew{Session: one(i)})
	}
	b.Header.Now = Time(250 * time.Second) // as if no entry had come between
	steps := 0
	for ; ; steps++ {
		due, done := b.DueStep(10)
		if done {
			if len(due) != 1 || due[0].(Expire).ID != b.leases.at(1).id(1) {
				t.Errorf("due: %v", due)
			}
			break
		}
	}
	if steps < 3 || steps > 5 {
		t.Errorf("%d steps", steps)
	}
}

// Before seats are denied what is due comes back, longest due first whosever it is, until
// it is enough.
func TestReclaimBeforeADenialGoesByTime(t *testing.T) {
	b := crowd(t, 50)
	b.Apply(3, Checkout{Session: one(100), Items: []Item{{Feature: "cam", Count: 1}}})
	b.Advance(Time(700*time.Second), 0)
	for i := 40; i < 50; i++ {
		b.Apply(4, Renew{Session: one(i)})
	}
	r := b.Apply(5, Checkout{Session: one(101), Items: []Item{{Feature: "cam", Count: 1}}})
	if r.Refusal != nil || len(r.Leases) != 1 {
		t.Fatalf("%+v", r)
	}
	if _, leases := b.Counts(); leases != 11 {
		t.Errorf("%d leases are left; 10 were renewed and 1 is new", leases)
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
}
