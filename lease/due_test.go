package lease

import (
	"math/rand/v2"
	"reflect"
	"slices"
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
			if key, ok := b.dueLeases.keyOf(b.poolAt(slot), slot); !ok || key != b.leaseDue(slot) {
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

// Before seats are denied what is due in the pools asked for comes back, longest due first
// whosever it is, until it is enough. What is due elsewhere is not touched.
func TestReclaimBeforeADenialGoesByTimeInThePoolsAskedFor(t *testing.T) {
	b := crowd(t, 50)
	b.Advance(Time(10*time.Second), 0)
	for i := range 50 {
		if i != 30 {
			b.Apply(3, Renew{Session: one(i)})
		}
	}
	b.Apply(3, Checkout{Session: one(100), Items: []Item{{Feature: "cam", Count: 1}}})
	b.Advance(Time(700*time.Second), 0)
	for i := 40; i < 50; i++ {
		b.Apply(4, Renew{Session: one(i)})
	}
	r := b.Apply(5, Checkout{Session: one(101), Items: []Item{{Feature: "cam", Count: 1}}})
	if r.Refusal != nil || len(r.Leases) != 1 {
		t.Fatalf("%+v", r)
	}
	if _, leases := b.Counts(); leases != 51 {
		t.Errorf("%d leases are left; the one of cam changed its holder, and nothing else", leases)
	}
	b.TakeEvents()
	if r := b.Apply(6, Checkout{Session: one(102), Items: []Item{{Feature: "cad", Count: 3}}}); r.Refusal != nil {
		t.Fatal(r.Refusal)
	}
	var ended []SessionID
	for _, e := range b.TakeEvents() {
		if e.Kind == Ended {
			ended = append(ended, e.Session)
		}
	}
	want := []SessionID{one(30).ID, one(0).ID, one(1).ID}
	if !slices.Equal(ended, want) {
		t.Errorf("reclaimed %v; want those that were due longest and no more, %v", ended, want)
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
}

// A denial that finds more due than one command may reclaim is none: the next try, with
// the same number, goes on where this one stopped.
func TestOneCommandReclaimsABoundedNumber(t *testing.T) {
	const n = 2*maxRegain + 1
	b := crowd(t, n)
	b.Advance(Time(700*time.Second), 0)
	ask := Checkout{Session: one(n), Items: []Item{{Feature: "cad", Count: n}}}
	ask.Session.Seq = 1
	for _, left := range []int{n - maxRegain, n - 2*maxRegain} {
		r := b.Apply(3, ask)
		if r.Refusal == nil || r.Refusal.Reason != Overloaded || r.Refusal.Final || r.Refusal.RetryAfter <= 0 {
			t.Fatalf("%+v, want to be asked to come back", r.Refusal)
		}
		if _, leases := b.Counts(); leases != left {
			t.Fatalf("%d leases are left, want %d", leases, left)
		}
	}
	for _, e := range b.TakeEvents() {
		if e.Kind == Denied {
			t.Errorf("noted as a denial: %+v", e)
		}
	}
	if r := b.Apply(3, ask); r.Refusal != nil || len(r.Leases) != 1 {
		t.Fatalf("%+v", r)
	}
	if err := b.Check(); err != nil {
		t.Error(err)
	}
}

// Who asks may lose a lease of its own by asking. That a snapshot was just taken must not
// change what it gets.
func TestReclaimingOnesOwnLeaseIsTheSameAfterAFreeze(t *testing.T) {
	run := func(freeze bool) Reply {
		b := NewBook()
		b.Apply(1, InstallLicence{Licence: Licence{ID: "L", Vendor: "v", Tenant: "default", Entitlements: []Entitlement{
			{Feature: "cad", Version: "1", Count: 1, Serial: "1", Profile: Profiles["lan"]},
			{Feature: "cad", Version: "2", Count: 1, Serial: "2", Profile: Profiles["lan"]},
			{Feature: "solver", Version: "1", Count: 5, Serial: "3", Profile: Profiles["wan"]},
		}}})
		take := func(i int, items ...Item) Reply { return b.Apply(2, Checkout{Session: one(i), Items: items}) }
		solver := Item{Feature: "solver", Count: 1}
		take(1, Item{Feature: "cad", Version: "1", Count: 1}, solver)
		b.Advance(Time(time.Second), 0)
		take(2, Item{Feature: "cad", Version: "2", Count: 1})
		b.Advance(Time(100*time.Second), 0)
		if freeze {
			b.Freeze()
		}
		r := take(1, Item{Feature: "cad", Version: "2", Count: 1}, solver)
		if err := b.Check(); err != nil {
			t.Error(err)
		}
		if _, leases := b.Counts(); leases != 2 {
			t.Errorf("%d leases, want 2: the solver is held already", leases)
		}
		return r
	}
	if plain, frozen := run(false), run(true); !reflect.DeepEqual(plain, frozen) {
		t.Errorf("%+v after a snapshot, %+v without", frozen, plain)
	}
}

// Small heaps stay small: there is one for each pool.
func TestAPoolWithOneLeaseHasASmallDueIndex(t *testing.T) {
	var d duePools
	d.push(3, 1, 10)
	if n := len(d.heap(3).keys.chunks[0]); n > firstChunk {
		t.Errorf("room for %d keys", n)
	}
	for i := uint32(2); i < 3*chunkSize; i++ {
		d.push(3, i, Time(2*i))
	}
	if slot, pool, ok := d.top(10, []uint32{2, 3, 4}, func(uint32) Time { return 10 }); slot != 1 || pool != 3 || !ok {
		t.Errorf("slot %d of pool %d, %v", slot, pool, ok)
	}
	for i := uint32(1); i < 3*chunkSize; i++ {
		d.remove(3, i)
	}
	if d.n != 0 || d.heap(3) != nil || d.first.n != 0 {
		t.Errorf("something is left: %+v", d)
	}
}

// The promise behind all this: nobody is told that there is no seat while one is due in a
// pool of what it asks for, in one that pays for it, or in one that is paid by the same.
func TestNothingIsDeniedThatIsDueInAPoolAskedFor(t *testing.T) {
	seeds, enough, refused := uint64(40), 1000, 0
	if testing.Short() { // make stories tries all
		seeds, enough = 12, 300
	}
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 1))
		b := NewBook()
		tokens := func(feature string, cost int, p Profile) Entitlement {
			return Entitlement{Feature: feature, Version: "1", Serial: feature, Profile: p, Share: ShareRule{MaxSessions: 1},
				Terms: Terms{Uncounted: true, Draw: Draw{Of: "units", Cost: cost, Per: 1}}}
		}
		for _, tenant := range []string{"default", "other"} {
			b.Apply(1, InstallLicence{Licence: Licence{ID: "L-" + tenant, Vendor: "v", Tenant: tenant, Entitlements: []Entitlement{
				{Feature: "cad", Version: "1", Count: 3, Serial: "1", Profile: Profiles["lan"]},
				{Feature: "cad", Version: "2", Count: 2, Serial: "2", Profile: DefaultProfile},
				{Feature: "cam", Version: "1", Count: 2, Serial: "3", Profile: Profiles["wan"], Share: DefaultShareRule},
				{Feature: "units", Version: "1", Count: 12, Serial: "4", Profile: DefaultProfile},
				tokens("mesh", 3, Profiles["lan"]), tokens("solver", 5, DefaultProfile),
			}}})
		}
		features := []string{"cad", "cam", "units", "mesh", "solver"}
		for i := range 400 {
			b.Advance(b.Now().Add(time.Duration(rnd.IntN(40))*time.Second), 0)
			if rnd.IntN(4) == 0 {
				b.Freeze()
			}
			c := Checkout{Tenant: []string{"default", "other"}[rnd.IntN(2)], Session: one(rnd.IntN(12)), Principal: Principal{User: "u", Host: "h"}}
			c.Session.ID[3] = c.Tenant[0]
			for _, k := range rnd.Perm(len(features))[:1+rnd.IntN(2)] {
				c.Items = append(c.Items, Item{Feature: features[k], Count: 1 + rnd.IntN(2)})
			}
			r := b.Apply(uint64(i+2), c)
			if err := b.Check(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, i, err)
			}
			if r.Refusal == nil || !reclaimHelps(r.Refusal) {
				continue
			}
			refused++
			if l := b.dueAmong(&c); l != 0 {
				t.Fatalf("seed %d, step %d: %v of %v, and lease %d of %s is due", seed, i, r.Refusal, c.Items, l, b.pools.at(b.poolAt(l)).Feature)
			}
		}
	}
	if refused < enough {
		t.Errorf("%d refusals prove little", refused)
	}
}

// dueAmong finds, by looking at all there are, a lease that is due and might help.
func (b *Book) dueAmong(c *Checkout) (found uint32) {
	b.eachLease(func(slot uint32, _ *leaseRow) bool {
		x := b.pools.at(b.poolAt(slot))
		for _, it := range c.Items {
			helps := x.Feature == it.Feature || x.Draw.Of == it.Feature
			b.pools.all(func(_ uint32, p *PoolRecord) bool {
				if p.Tenant == c.Tenant && p.Feature == it.Feature && p.Draw.Of != "" {
					helps = helps || p.Draw.Of == x.Feature || p.Draw.Of == x.Draw.Of
				}
				return true
			})
			if helps && x.Tenant == c.Tenant && b.leaseDue(slot) <= b.Now() {
				found = slot
			}
		}
		return found == 0
	})
	return found
}
