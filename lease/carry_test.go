package lease_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// inVersion is a feature of another version than the usual one.
func inVersion(e lease.Entitlement, version string) lease.Entitlement {
	e.Version = version
	return e
}

func replace(ents ...lease.Entitlement) lease.InstallLicence {
	return lease.InstallLicence{Licence: licence("L-1", ents...), Replace: true}
}

// A changed file whose seats fall into other pools is one replacement as well: what is out
// of the old ones stays, is shown, and counts against the new ones until it is returned.
func TestSeatsOutOfAReplacedLicenceCountAgainstItsNewOnes(t *testing.T) {
	changed := func(change func(e *lease.Entitlement)) []lease.Entitlement {
		e := feature("cad", 3)
		change(&e)
		return []lease.Entitlement{e}
	}
	for name, ents := range map[string][]lease.Entitlement{
		"a newer version":   changed(func(e *lease.Entitlement) { e.Version = "2027.0" }),
		"an older version":  changed(func(e *lease.Entitlement) { e.Version = "2025.0" }),
		"another profile":   changed(func(e *lease.Entitlement) { e.Profile = lease.Profiles["wan"] }),
		"a share rule":      changed(func(e *lease.Entitlement) { e.Share = lease.DefaultShareRule }),
		"a vendor string":   changed(func(e *lease.Entitlement) { e.Variant = "VENDOR_STRING=eu" }),
		"may be borrowed":   changed(func(e *lease.Entitlement) { e.BorrowHours = 24 }),
		"by a package":      {inVersion(bundle("office", 3, false, part("cad", 1)), "2027.0")},
		"by a suite":        {bundle("office", 3, true, part("cad", 1))},
		"paid in tokens":    {feature("units", 6), tokens("cad", 2, "units")},
		"in two pieces":     {inVersion(feature("cad", 1), "2025.0"), inVersion(feature("cad", 2), "2027.0")},
		"and another start": changed(func(e *lease.Entitlement) { e.Version, e.Start, e.Expiry = "2027.0", launch-1, launch+1<<40 }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, feature("cad", 3))
			for n := byte(1); n <= 3; n++ {
				w.must(checkout(n, "cad", 1))
			}
			w.must(replace(ents...))
			w.equal("in use", w.used("cad"), 3)
			w.equal("renewed", len(w.must(lease.Renew{Session: session(1)}).Leases), 1)
			held, over := 0, 0
			for _, p := range w.Pools("") {
				if p.Feature == "cad" {
					held, over = held+p.HeldBack, over+p.OverUse
				}
			}
			w.equal("over", over, 3)
			w.equal("held back", held, 3)
			r := w.do(checkout(9, "cad", 1))
			if r.Refusal == nil || r.Refusal.Reason != lease.NoSeats || !strings.Contains(r.Refusal.Message, "3 held back for as many still out of an earlier licence") {
				t.Fatalf("%+v", r.Refusal)
			}
			if a := strings.Join(w.Alarms(), "; "); !strings.Contains(a, "feature cad: 3 seats of version 2026.0 still out beyond what is licensed now; as many others are held back") {
				t.Errorf("alarms %q", a)
			}
			for n := byte(1); n <= 3; n++ {
				w.must(lease.CheckIn{Session: session(n)})
				w.must(checkout(10+n, "cad", 1))
				w.refused(lease.NoSeats, checkout(9, "cad", 1))
			}
			w.equal("alarms", len(w.Alarms()), 0)
			w.equal("in use", w.used("cad"), 3)
		})
	}
}

func TestALargerReplacementBringsOnlyWhatItAdds(t *testing.T) {
	w := newWorld(t, feature("cad", 3))
	w.must(checkout(1, "cad", 3))
	w.must(replace(inVersion(feature("cad", 5), "2027.0")))
	w.must(checkout(2, "cad", 2))
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.must(lease.InstallLicence{Licence: licence("L-2", inVersion(feature("cad", 1), "2028.0"))}) // bought beside
	w.must(checkout(3, "cad", 1))
	w.refused(lease.NoSeats, checkout(4, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.must(checkout(4, "cad", 3))
}

// It does not matter how the seats came to be more than are licensed.
func TestSeatsOfALicenceThatEndedCountAgainstItsSuccessor(t *testing.T) {
	ending, next := feature("cad", 2), inVersion(feature("cad", 2), "2027.0")
	ending.Expiry = launch + lease.Calendar(day/time.Millisecond)
	next.Start = ending.Expiry
	superseding := inVersion(feature("cad", 2), "2027.0")
	superseding.Supersedes, superseding.Issued = []string{"cad"}, launch+1
	for name, c := range map[string]struct {
		first lease.Entitlement
		then  func(w *world)
	}{
		"expired, the next year's starts": {ending, func(w *world) {
			w.must(lease.InstallLicence{Licence: licence("L-2", next)})
			w.wait(day)
			w.must(lease.Renew{Session: session(1)})
		}},
		"superseded": {feature("cad", 2), func(w *world) { w.must(lease.InstallLicence{Licence: licence("L-2", superseding)}) }},
		"removed, another installed": {feature("cad", 2), func(w *world) {
			w.must(lease.RemoveLicence{Tenant: "default", ID: "L-1"})
			w.must(lease.InstallLicence{Licence: licence("L-2", inVersion(feature("cad", 2), "2027.0"))})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			c.first.Profile = lease.Profile{Lifespan: lease.MaxLifespan, Grace: lease.MaxGrace}
			w := newWorld(t, c.first)
			w.must(checkout(1, "cad", 2))
			c.then(w)
			w.equal("in use", w.used("cad"), 2)
			w.refused(lease.NoSeats, checkout(2, "cad", 1))
			w.must(lease.CheckIn{Session: session(1)})
			w.must(checkout(2, "cad", 2))
		})
	}
}

// The seats of the same version bear it first, then those of the next higher ones, then
// those of lower ones; another vendor's never do.
func TestWhichSeatsAreHeldBack(t *testing.T) {
	w := newWorld(t, inVersion(feature("cad", 6), "3.0"))
	w.must(checkout(1, "cad", 5))
	w.must(checkout(7, "cad", 1))
	other := licence("L-9", inVersion(feature("cad", 4), "3.5"))
	other.Vendor = "other"
	w.must(lease.InstallLicence{Licence: other})
	variant := inVersion(feature("cad", 1), "3") // the same as 3.0
	variant.Variant = "new"
	w.must(replace(inVersion(feature("cad", 1), "1"), inVersion(feature("cad", 1), "2"), variant, inVersion(feature("cad", 2), "4"), inVersion(feature("cad", 3), "5")))
	held := func() map[string]int {
		out := map[string]int{}
		for _, p := range w.Pools("") {
			out[p.Version] = p.HeldBack
		}
		return out
	}
	is := func(v1, v2, v3, v4, v5 int) {
		t.Helper()
		h := held()
		w.equal("held back", [5]int{h["1"], h["2"], h["3"], h["4"], h["5"]}, [5]int{v1, v2, v3, v4, v5})
		w.equal("of another vendor", h["3.5"], 0)
	}
	is(0, 0, 1, 2, 3)
	w.must(replace(inVersion(feature("cad", 1), "1"), inVersion(feature("cad", 1), "2"), variant, inVersion(feature("cad", 2), "4"), inVersion(feature("cad", 1), "5")))
	is(1, 1, 1, 2, 1)
	w.must(checkout(2, "cad", 4)) // the other vendor's
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	is(0, 0, 1, 0, 0)
	w.must(lease.CheckIn{Session: session(7)})
	is(0, 0, 0, 0, 0)
}

func TestWhoWaitsIsServedWhenASeatOfAReplacedLicenceComesBack(t *testing.T) {
	w := newWorld(t, feature("cad", 3))
	w.must(checkout(1, "cad", 1))
	w.must(checkout(2, "cad", 2))
	w.must(replace(inVersion(feature("cad", 3), "2027.0")))
	w.queued(1, waiting(checkout(3, "cad", 2)))
	w.queued(2, waiting(checkout(4, "cad", 1)))
	w.must(lease.CheckIn{Session: session(1)})
	w.hold("cad", 2)
	w.must(lease.CheckIn{Session: session(2)})
	w.hold("cad", 3, 4)
	w.waits()
}

// What is due of the old licence is reclaimed before a seat of the new one is denied.
func TestADenialReclaimsSeatsOfAReplacedLicence(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.must(replace(inVersion(feature("cad", 1), "2027.0")))
	w.refused(lease.NoSeats, checkout(2, "cad", 1))
	w.wait(5 * time.Minute)
	w.must(checkout(2, "cad", 1))
}

// What a job has booked and not leased moves to the seats that the new file brings.
func TestABookingFollowsItsSeatsToTheNewLicence(t *testing.T) {
	cad := func(version string, n int) lease.Entitlement { return inVersion(feature("cad", n), version) }
	w := newWorld(t, cad("2026.0", 3), inVersion(feature("units", 9), "1"), priced("sim", 3, 2))
	w.must(checkout(1, "cad", 1))
	w.must(booking("job", lease.Item{Feature: "cad", Count: 2}, lease.Item{Feature: "sim", Count: 2}))
	w.must(replace(cad("2027.0", 3), inVersion(feature("units", 9), "2"), priced("sim", 3, 2)))
	for _, p := range w.Pools("") {
		if want := map[string]int{"cad 2027.0": 2, "units 2": 4, "sim 2026.0": 2}[p.Feature+" "+p.Version]; p.Reserved != want {
			t.Errorf("%s %s: %d seats are kept, want %d", p.Feature, p.Version, p.Reserved, want)
		}
	}
	w.refused(lease.NoSeats, checkout(2, "cad", 1)) // one is held back, two are booked
	w.must(withBooking(and(checkout(3, "cad", 2), "sim", 2), "job"))
	w.equal("units", w.used("units"), 4)
	// Without room it stays behind, and its job asks like anybody; what is leased does not move.
	w.must(booking("late", lease.Item{Feature: "sim", Count: 1}))
	w.must(replace(cad("2028.0", 3), inVersion(feature("units", 4), "3"), priced("sim", 3, 2)))
	w.refused(lease.NoSeats, withBooking(checkout(4, "sim", 1), "late"))
	w.must(lease.CheckIn{Session: session(3)})
	w.must(lease.CheckIn{Session: session(1)})
	w.must(lease.CancelBooking{ID: "job"})
	w.must(withBooking(checkout(4, "sim", 1), "late"))
	w.must(lease.CancelBooking{ID: "late"})
	w.must(checkout(5, "cad", 3))
}

func TestReservationsKeepOnlyWhatIsNotHeldBack(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleReserve, "cad", user("zoe"), 2)}}, feature("cad", 4))
	w.must(as(checkout(1, "cad", 1), "ann", "ws"))
	w.must(as(checkout(2, "cad", 1), "bob", "ws"))
	w.must(replace(inVersion(feature("cad", 3), "2027.0")))
	w.reserved("cad", 1)
	w.refused(lease.ReservedForOthers, as(checkout(3, "cad", 1), "eve", "ws"))
	w.must(as(checkout(4, "cad", 1), "zoe", "ws"))
	w.refused(lease.NoSeats, as(checkout(5, "cad", 1), "zoe", "ws2"))
	w.must(lease.CheckIn{Session: session(1)})
	w.reserved("cad", 1)
	w.must(as(checkout(5, "cad", 1), "zoe", "ws2"))
	w.equal("in use", w.used("cad"), 3)
}
