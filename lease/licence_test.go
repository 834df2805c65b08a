package lease_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestInstallRefusesWhatItCannotCount(t *testing.T) {
	set := func(f func(e *lease.Entitlement)) lease.Licence {
		l := licence("L-2", feature("mesh", 1))
		f(&l.Entitlements[0])
		return l
	}
	top := func(f func(l *lease.Licence)) lease.Licence {
		l := licence("L-2", feature("mesh", 1))
		f(&l)
		return l
	}
	many := make([]lease.Entitlement, lease.MaxEntitlements+1)
	for i := range many {
		many[i] = feature("mesh", 1)
		many[i].Serial = fmt.Sprint(i)
	}
	for name, l := range map[string]lease.Licence{
		"no id":               top(func(l *lease.Licence) { l.ID = "" }),
		"no vendor":           top(func(l *lease.Licence) { l.Vendor = "" }),
		"no tenant":           top(func(l *lease.Licence) { l.Tenant = "" }),
		"long id":             top(func(l *lease.Licence) { l.ID = strings.Repeat("x", 129) }),
		"no features":         top(func(l *lease.Licence) { l.Entitlements = nil }),
		"too many features":   licence("L-2", many...),
		"same id":             licence("L-1", feature("mesh", 1)),
		"serial of another":   set(func(e *lease.Entitlement) { e.Serial = "L-1-cad-2026.0" }),
		"serial twice":        top(func(l *lease.Licence) { l.Entitlements = append(l.Entitlements, l.Entitlements[0]) }),
		"no serial":           set(func(e *lease.Entitlement) { e.Serial = "" }),
		"no feature name":     set(func(e *lease.Entitlement) { e.Feature = "" }),
		"space in the name":   set(func(e *lease.Entitlement) { e.Feature = "a b" }),
		"no seats":            set(func(e *lease.Entitlement) { e.Count = 0 }),
		"absurd count":        set(func(e *lease.Entitlement) { e.Count = lease.MaxCount + 1 }),
		"bad version":         set(func(e *lease.Entitlement) { e.Version = "1.2.3" }),
		"ends before it is":   set(func(e *lease.Entitlement) { e.Start, e.Expiry = launch, launch }),
		"short lifespan":      set(func(e *lease.Entitlement) { e.Profile.Lifespan = lease.MinLifespan - 1 }),
		"long lifespan":       set(func(e *lease.Entitlement) { e.Profile.Lifespan = lease.MaxLifespan + 1 }),
		"negative grace":      set(func(e *lease.Entitlement) { e.Profile.Grace = -1 }),
		"long grace":          set(func(e *lease.Entitlement) { e.Profile.Grace = lease.MaxGrace + 1 }),
		"large share group":   set(func(e *lease.Entitlement) { e.Share = lease.ShareRule{By: 1, MaxSessions: 9} }),
		"share group of none": set(func(e *lease.Entitlement) { e.Share = lease.ShareRule{By: 1} }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, feature("cad", 1))
			w.refused(lease.Invalid, lease.InstallLicence{Licence: l})
			if len(w.Pools("")) != 1 || len(w.Licences("")) != 1 {
				t.Fatalf("a refused licence left pools %+v", w.Pools(""))
			}
		})
	}
}

func TestFewerSeatsThanInUseLeaveThemUntilTheyAreReturned(t *testing.T) {
	for name, shrink := range map[string]lease.Command{
		"replaced": lease.InstallLicence{Licence: licence("L-1", feature("cad", 1)), Replace: true},
		"removed":  lease.RemoveLicence{Tenant: "default", ID: "L-1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, feature("cad", 3))
			w.must(checkout(1, "cad", 2))
			w.must(checkout(2, "cad", 1))
			w.must(shrink)
			w.equal("in use", w.used("cad"), 3)
			if a := w.Alarms(); len(a) != 1 || !strings.Contains(a[0], "cad") {
				t.Fatalf("alarms %q", a)
			}
			w.equal("renewed", len(w.must(lease.Renew{Session: session(1)}).Leases), 1)
			want := lease.NoSeats
			if name == "removed" {
				want = lease.NoFeature
			}
			w.refused(want, checkout(3, "cad", 1))
			w.must(lease.CheckIn{Session: session(1)})
			w.refused(want, checkout(3, "cad", 1))
			w.must(lease.CheckIn{Session: session(2)})
			w.equal("alarms", len(w.Alarms()), 0)
			if name == "replaced" {
				w.must(checkout(3, "cad", 1))
			}
		})
	}
}

// What is still checked out keeps its pool, but nobody has the feature any more.
func TestARemovedLicenceIsNoLicenceOfAnyVersion(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.must(lease.RemoveLicence{Tenant: "default", ID: "L-1"})
	c := checkout(2, "cad", 1)
	c.Items[0].Version = "2027"
	w.refused(lease.NoFeature, c)
	w.refused(lease.Invalid, lease.RemoveLicence{Tenant: "default", ID: "L-1"})
}

// Tenants have licences, seats, queues and bookings of their own, by the same names.
func TestTenantsShareNothing(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	theirs := licence("L-1", feature("cad", 2), feature("mesh", 1))
	theirs.Tenant = "other"
	w.refused(lease.Invalid, lease.InstallLicence{Licence: theirs}) // a serial counts once, wherever
	for i := range theirs.Entitlements {
		theirs.Entitlements[i].Serial += "-other"
	}
	w.must(lease.InstallLicence{Licence: theirs})
	in := func(c lease.Checkout, tenant string) lease.Checkout { c.Tenant = tenant; return c }
	w.must(checkout(1, "cad", 1))
	w.refused(lease.NoFeature, checkout(2, "mesh", 1))
	w.queued(1, waiting(checkout(2, "cad", 1)))
	w.must(in(checkout(3, "cad", 1), "other")) // neither denied nor held up by who waits elsewhere
	w.must(lease.MakeBooking{Tenant: "other", ID: "j", Items: []lease.Item{{Feature: "cad", Count: 1}}, For: time.Hour})
	w.queued(1, in(waiting(checkout(4, "cad", 1)), "other"))
	job := checkout(5, "cad", 1)
	job.Booking = "j"
	w.refused(lease.BookingUnknown, job)
	w.refused(lease.Forbidden, in(checkout(1, "cad", 1), "other")) // a session is of one tenant
	w.must(lease.CheckIn{Session: session(3)})
	w.waits(2)
	w.must(lease.RemoveLicence{Tenant: "other", ID: "L-1"})
	w.equal("licences left", len(w.Licences("default")), 1)
	w.must(lease.CheckIn{Session: session(1)})
	w.waits()
}

func TestLicencesOfOnePoolAddUp(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(lease.InstallLicence{Licence: licence("L-2", feature("cad", 2))})
	w.equal("pools", len(w.Pools("")), 1)
	w.must(checkout(1, "cad", 3))
	w.must(lease.RemoveLicence{Tenant: "default", ID: "L-1"})
	w.equal("total", w.Pools("")[0].Total, 2)
	l := w.Licences("default")
	if len(l) != 1 || l[0].ID != "L-2" || len(w.Licences("other")) != 0 {
		t.Fatalf("licences %+v", l)
	}
}

func TestAPoolHasABoundedNumberOfSeats(t *testing.T) {
	var ents []lease.Entitlement
	for i := range lease.MaxSeats/lease.MaxCount + 2 {
		e := feature("cad", lease.MaxCount)
		e.Serial = fmt.Sprint(i)
		ents = append(ents, e)
	}
	w := newWorld(t, ents...)
	w.equal("total", w.Pools("")[0].Total, lease.MaxSeats)
}

func TestLicenceDatesAreKept(t *testing.T) {
	soon, later := feature("cad", 2), feature("cad", 3)
	soon.Expiry = launch + lease.Calendar(day/time.Millisecond)
	soon.Serial = "soon"
	later.Start = launch + lease.Calendar(2*day/time.Millisecond)
	w := newWorld(t, soon, later)
	for _, c := range []struct {
		after time.Duration
		total int
		want  lease.Reason
	}{
		{0, 2, ""}, {day - time.Millisecond, 2, ""}, {time.Millisecond, 0, lease.NotStarted}, {day, 3, ""},
	} {
		w.wait(c.after)
		w.equal("total", w.Pools("")[0].Total, c.total)
		r := w.do(lease.Checkout{Session: session(1), Items: []lease.Item{{Feature: "cad", Count: 1}}, Ephemeral: true})
		if c.want == "" {
			w.equal("refused", r.Refusal == nil, true)
			w.must(lease.CheckIn{Session: session(1), Close: true})
		} else {
			w.equal("reason", r.Refusal.Reason, c.want)
		}
	}
}
