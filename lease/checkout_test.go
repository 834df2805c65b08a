package lease_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestCheckoutGrantsNumberedSeatsAndCheckInFreesThem(t *testing.T) {
	w := newWorld(t, feature("cad", 3))
	a := w.must(checkout(1, "cad", 2)).Leases[0]
	if len(a.Seats) != 2 || a.Seats[0] != 1 || a.Seats[1] != 2 || a.Token != lease.Token(w.index) || a.State != lease.Active {
		t.Fatalf("first lease: %+v", a)
	}
	w.refused(lease.NoSeats, checkout(2, "cad", 2))
	b := w.must(checkout(2, "cad", 1)).Leases[0]
	if b.Seats[0] != 3 || w.used("cad") != 3 {
		t.Fatalf("second lease: %+v, used %d", b, w.used("cad"))
	}
	r := w.must(lease.CheckIn{Session: session(1)})
	if len(r.Released) != 1 || r.Released[0].Reason != lease.ReleasedNormal || w.used("cad") != 1 {
		t.Fatalf("check-in: %+v, used %d", r, w.used("cad"))
	}
	c := w.must(checkout(3, "cad", 1)).Leases[0]
	if c.Seats[0] != 1 || c.Token <= a.Token || c.ID == a.ID {
		t.Fatalf("successor %+v of %+v", c, a)
	}
}

func TestCheckoutOfSeveralFeaturesIsAllOrNothing(t *testing.T) {
	w := newWorld(t, feature("cad", 2), feature("mesh", 1))
	w.must(checkout(1, "mesh", 1))
	both := checkout(2, "cad", 1)
	both.Items = append(both.Items, lease.Item{Feature: "mesh", Count: 1})
	w.refused(lease.NoSeats, both)
	if w.used("cad") != 0 {
		t.Fatal("a refused checkout took a seat of the other feature")
	}
	w.must(lease.CheckIn{Session: session(1)})
	if r := w.must(both); len(r.Leases) != 2 || w.used("cad") != 1 || w.used("mesh") != 1 {
		t.Fatalf("both: %+v", r)
	}
}

func TestCheckoutIsRefusedForItsReason(t *testing.T) {
	old := feature("old", 1)
	old.Expiry = launch
	soon := feature("soon", 1)
	soon.Start = launch + 1
	open := feature("open", 5)
	long := strings.Repeat("x", lease.MaxNameLen+1)
	item := func(feature, version string, count int) lease.Checkout {
		c := checkout(9, feature, count)
		c.Items[0].Version = version
		return c
	}
	who := func(set func(p *lease.Principal)) lease.Checkout {
		c := checkout(9, "open", 1)
		set(&c.Principal)
		return c
	}
	many := checkout(9, "open", 1)
	many.Items = slices.Repeat(many.Items, lease.MaxItems+1)
	nobody := checkout(9, "open", 1)
	nobody.Session.ID = lease.SessionID{}
	nothing := checkout(9, "open", 1)
	nothing.Items = nil
	stranger := checkout(9, "open", 1)
	stranger.Tenant = "other"
	for _, c := range []struct {
		name  string
		c     lease.Checkout
		want  lease.Reason
		final bool
	}{
		{"all seats taken", item("full", "", 1), lease.NoSeats, false},
		{"unknown feature", item("none", "", 1), lease.NoFeature, true},
		{"another tenant's feature", stranger, lease.NoFeature, true},
		{"later version", item("open", "2026.1", 1), lease.BadVersion, true},
		{"expired", item("old", "", 1), lease.LicenseExpired, true},
		{"not started", item("soon", "", 1), lease.NotStarted, false},
		{"more than licensed", item("open", "", 6), lease.TooManyRequested, true},
		{"absurd count", item("open", "", 1<<40), lease.TooManyRequested, true},
		{"no seats asked", item("open", "", 0), lease.Invalid, true},
		{"negative count", item("open", "", -3), lease.Invalid, true},
		{"version not a number", item("open", "v2", 1), lease.Invalid, true},
		{"no feature named", item("", "", 1), lease.Invalid, true},
		{"long feature", item(long, "", 1), lease.Invalid, true},
		{"feature not UTF-8", item("\xff", "", 1), lease.Invalid, true},
		{"control character", who(func(p *lease.Principal) { p.User = "a\nb" }), lease.Invalid, true},
		{"long host", who(func(p *lease.Principal) { p.Host = long }), lease.Invalid, true},
		{"long project", who(func(p *lease.Principal) { p.Project = long }), lease.Invalid, true},
		{"too many items", many, lease.Invalid, true},
		{"no items", nothing, lease.Invalid, true},
		{"no session", nobody, lease.Invalid, true},
		{"one feature twice", and(checkout(9, "open", 1), "open", 1), lease.Invalid, true},
		{"later seq of no session", numbered(checkout(9, "open", 1), 2), lease.SessionUnknown, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, feature("full", 1), old, soon, open)
			w.must(checkout(1, "full", 1))
			r := w.do(c.c)
			if r.Refusal == nil || r.Refusal.Reason != c.want || r.Refusal.Final != c.final || r.Refusal.Message == "" || strings.Contains(r.Refusal.Message, "\n") {
				t.Fatalf("got %+v, want %s (final %v)", r.Refusal, c.want, c.final)
			}
			if w.used("open") != 0 || w.used("full") != 1 {
				t.Fatal("a refusal took seats")
			}
		})
	}
}

func TestAskingAgainForWhatIsHeldGivesTheSameLease(t *testing.T) {
	w := newWorld(t, feature("cad", 3), feature("mesh", 1))
	a := w.must(checkout(1, "cad", 2)).Leases[0]
	w.wait(time.Minute)
	again := w.must(and(checkout(1, "cad", 2), "mesh", 1)).Leases
	if again[0].Ref != a.Ref || again[0].Remaining != lease.DefaultProfile.Lifespan || len(again) != 2 {
		t.Fatalf("again: %+v, was %+v", again, a)
	}
	w.refused(lease.Invalid, checkout(1, "cad", 1)) // another count
	w.equal("seats in use", w.used("cad"), 2)
	// A session's principal is that of its first request: nobody shares by asking twice.
	b := w.must(as(checkout(1, "cad", 2), "somebody", "else")).Leases[0]
	w.equal("user", b.Principal.User, a.Principal.User)
}

func TestLowestVersionThatFitsIsUsedFirst(t *testing.T) {
	older := feature("cad", 1)
	older.Version = "2025"
	w := newWorld(t, feature("cad", 1), older)
	w.equal("first", w.must(checkout(1, "cad", 1)).Leases[0].Version, "2025")
	w.equal("then", w.must(checkout(2, "cad", 1)).Leases[0].Version, "2026.0")
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
}

// Versions are decimals: 10.40 is 10.4, which is before 10.5.
func TestARequestIsServedUpToTheLicensedVersion(t *testing.T) {
	e := feature("cad", 9)
	e.Version = "10.5"
	for version, ok := range map[string]bool{
		"": true, "0": true, "9": true, "9.99": true, "10": true, "10.40": true, "10.5": true, "010.500": true,
		"10.51": false, "10.6": false, "11": false, "100": false,
	} {
		c := checkout(1, "cad", 1)
		c.Items[0].Version = version
		if r := newWorld(t, e).do(c); (r.Refusal == nil) != ok || !ok && r.Refusal.Reason != lease.BadVersion {
			t.Errorf("version %q: %v", version, r.Refusal)
		}
	}
}

func TestSeatsAreHandedOutLowestFirst(t *testing.T) {
	w := newWorld(t, feature("cad", 6))
	for n := byte(1); n <= 5; n++ {
		w.must(checkout(n, "cad", 1))
	}
	w.must(lease.CheckIn{Session: session(4)})
	w.must(lease.CheckIn{Session: session(2)})
	if seats := w.must(checkout(6, "cad", 3)).Leases[0].Seats; !slices.Equal(seats, []int{2, 4, 6}) {
		t.Fatalf("seats %v", seats)
	}
}

func TestASessionHoldsABoundedNumberOfLeases(t *testing.T) {
	var ents []lease.Entitlement
	for i := range lease.MaxLeasesPerSession + 1 {
		ents = append(ents, feature("f"+strings.Repeat("x", i%100)+string(rune('a'+i/100)), 1))
	}
	w := newWorld(t, ents...)
	for len(ents) > 1 {
		n := min(lease.MaxItems, len(ents)-1)
		c := checkout(1, ents[0].Feature, 1)
		for _, e := range ents[1:n] {
			c = and(c, e.Feature, 1)
		}
		w.index++
		if r := w.Apply(w.index, c); r.Refusal != nil {
			t.Fatal(r.Refusal)
		}
		ents = ents[n:]
	}
	w.refused(lease.Overloaded, checkout(1, ents[0].Feature, 1))
	items, ok := w.Preview(checkout(1, ents[0].Feature, 1))
	if ok || items[0].Refusal == nil || items[0].Refusal.Reason != lease.Overloaded {
		t.Fatalf("preview: %+v %v", items, ok)
	}
	w.must(checkout(2, ents[0].Feature, 1))
}

func TestAReplacedLicenceOfFewerSeatsStillCountsTheSharedOnes(t *testing.T) {
	w := newWorld(t, shared("cad", 2, 4))
	w.must(as(checkout(1, "cad", 2), "ann", "ws1"))
	w.must(lease.InstallLicence{Licence: licence("L-1", shared("cad", 1, 4)), Replace: true})
	w.must(as(checkout(2, "cad", 1), "ann", "ws1")) // charges nothing
	w.refused(lease.NoSeats, as(checkout(3, "cad", 1), "bob", "ws1"))
}
