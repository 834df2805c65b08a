package lease_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// tokens is a feature whose seats cost n of a pool each.
func tokens(name string, n int, of string) lease.Entitlement {
	e := feature(name, 0)
	e.Uncounted, e.Draw = true, lease.Draw{Of: of, Cost: n, Per: 1}
	return e
}

func bundle(name string, count int, suite bool, parts ...lease.Component) lease.Entitlement {
	e := feature(name, count)
	e.Package = lease.Package{Suite: suite, Components: parts}
	return e
}

func part(name string, n int) lease.Component { return lease.Component{Feature: name, Count: n} }

func (w *world) pool(feature string) lease.PoolStatus {
	w.t.Helper()
	for _, p := range w.Pools("") {
		if p.Feature == feature {
			return p
		}
	}
	w.t.Fatalf("no pool of %s", feature)
	return lease.PoolStatus{}
}

func TestAFeaturePaidInTokensChargesTheSharedPool(t *testing.T) {
	w := newWorld(t, feature("units", 20), tokens("cad", 5, "units"), tokens("mesh", 3, "units"))
	w.equal("cad at most", w.pool("cad").Total, 4)
	w.must(checkout(1, "cad", 2))
	w.equal("units", w.used("units"), 10)
	w.must(checkout(2, "mesh", 3))
	w.equal("units", w.used("units"), 19)
	w.refused(lease.NoSeats, checkout(3, "mesh", 1))
	w.refused(lease.TooManyRequested, checkout(3, "cad", 5))
	w.must(checkout(3, "units", 1))
	w.refused(lease.NoSeats, checkout(4, "units", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("units", w.used("units"), 10)
	w.equal("cad", w.used("cad"), 0)
}

func TestARequestNeverPaysTwiceWithTheSameTokens(t *testing.T) {
	w := newWorld(t, feature("units", 9), tokens("cad", 5, "units"), tokens("mesh", 4, "units"))
	w.refused(lease.NoSeats, and(checkout(1, "cad", 1), "units", 5))
	w.refused(lease.NoSeats, and(checkout(1, "units", 5), "cad", 1))
	w.refused(lease.NoSeats, and(and(checkout(1, "cad", 1), "mesh", 1), "units", 1))
	_, ok := w.Preview(and(checkout(1, "units", 5), "cad", 1))
	w.equal("preview", ok, false)
	w.must(and(checkout(1, "cad", 1), "mesh", 1))
	w.equal("units", w.used("units"), 9)
}

func TestAShareGroupPaysItsTokensOnce(t *testing.T) {
	cad := tokens("cad", 2, "units")
	cad.Share = lease.ShareRule{By: lease.MaskUser, MaxSessions: 3}
	w := newWorld(t, feature("units", 7), cad)
	ann := func(n byte, count int) lease.Checkout { return as(checkout(n, "cad", count), "ann", "ws") }
	w.must(ann(1, 1))
	w.must(ann(2, 1))
	w.equal("units", w.used("units"), 2)
	w.must(ann(3, 3))
	w.equal("units", w.used("units"), 6)
	w.must(lease.CheckIn{Session: session(3)})
	w.equal("units", w.used("units"), 2)
	w.must(lease.CheckIn{Session: session(1)})
	w.must(lease.CheckIn{Session: session(2)})
	w.equal("units", w.used("units"), 0)
}

func TestTokensThatNobodyRenewsComeBackForWhoeverIsPaidFromThem(t *testing.T) {
	w := newWorld(t, feature("units", 5), tokens("cad", 5, "units"), tokens("mesh", 3, "units"))
	w.must(checkout(1, "cad", 1))
	w.wait(5 * time.Minute)
	w.must(checkout(2, "mesh", 1)) // the leader has not looked yet
	w.must(lease.CheckIn{Session: session(2)})
	w.must(checkout(3, "mesh", 1))
	w.wait(5 * time.Minute)
	w.must(checkout(4, "units", 5))
}

func TestWithoutTokensAFeatureCannotBeHad(t *testing.T) {
	w := newWorld(t, tokens("cad", 5, "units"))
	r := w.do(checkout(1, "cad", 1))
	if r.Refusal == nil || r.Refusal.Reason != lease.NoFeature || !strings.Contains(r.Refusal.Message, "units") {
		t.Fatalf("%+v", r.Refusal)
	}
}

func TestASuiteSeatCoversAllComponentsOfOneHolder(t *testing.T) {
	w := newWorld(t, bundle("studio", 2, true, part("cad", 1), part("mesh", 1), part("solver", 4)))
	w.equal("solver at most", w.pool("solver").Total, 8)
	w.must(and(checkout(1, "cad", 1), "mesh", 1))
	w.equal("studio", w.used("studio"), 1)
	w.must(checkout(1, "solver", 4))
	w.equal("studio", w.used("studio"), 1)
	w.must(checkout(2, "solver", 3))
	w.equal("studio", w.used("studio"), 2)
	w.refused(lease.NoSeats, checkout(3, "cad", 1))
	w.must(checkout(2, "cad", 1))
	for _, l := range w.must(lease.Renew{Session: session(1)}).Leases[:2] {
		w.must(lease.CheckIn{Session: session(1), Refs: []lease.Ref{l.Ref}})
		w.equal("studio", w.used("studio"), 2)
	}
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("studio", w.used("studio"), 1)
	w.must(checkout(3, "cad", 1))
	w.refused(lease.NoFeature, checkout(4, "studio", 1))
}

func TestAShareGroupHoldsOneSuiteSeat(t *testing.T) {
	e := bundle("studio", 1, true, part("cad", 1), part("mesh", 1))
	e.Share = lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 2}
	w := newWorld(t, e)
	w.must(as(checkout(1, "cad", 1), "ann", "ws"))
	w.must(as(checkout(2, "mesh", 1), "ann", "ws"))
	w.equal("studio", w.used("studio"), 1)
	w.refused(lease.SessionsExceeded, as(checkout(3, "mesh", 1), "ann", "ws"))
	w.refused(lease.NoSeats, as(checkout(4, "mesh", 1), "bob", "ws"))
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("studio", w.used("studio"), 1)
	w.must(lease.CheckIn{Session: session(2)})
	w.must(as(checkout(4, "mesh", 1), "bob", "ws"))
}

func TestAPackageBringsSeatsOfItsComponents(t *testing.T) {
	w := newWorld(t, feature("cad", 1), bundle("office", 3, false, part("cad", 1), part("mesh", 2), lease.Component{Feature: "old", Version: "1.5", Count: 1}))
	w.equal("cad", w.pool("cad").Total, 4)
	w.equal("mesh", w.pool("mesh").Total, 6)
	w.equal("old", w.pool("old").Version, "1.5")
	w.equal("packages", strings.Join(w.pool("mesh").Packages, " "), "office")
	w.must(checkout(1, "mesh", 6))
	r := w.do(checkout(2, "office", 1))
	if r.Refusal == nil || r.Refusal.Reason != lease.NoFeature || !strings.Contains(r.Refusal.Message, "cad, mesh, old") {
		t.Fatalf("%+v", r.Refusal)
	}
}

func TestAnUncountedFeatureIsAlwaysGrantedAndStillLeased(t *testing.T) {
	e := feature("viewer", 0)
	e.Uncounted = true
	w := newWorld(t, e)
	for n := range byte(40) {
		w.must(as(checkout(n+1, "viewer", 30), "ann", "ws"))
	}
	p := w.pool("viewer")
	w.equal("uncounted", p.Uncounted, true)
	w.equal("in use", p.InUse, 1200)
	all, _ := w.Leases(lease.Filter{Feature: "viewer", User: "ann"}, 0, 100)
	w.equal("listed", len(all), 40)
	w.refused(lease.TooManyRequested, as(checkout(60, "viewer", lease.MaxUncounted+1), "ann", "ws"))
	w.wait(10 * time.Minute)
	w.expireDue()
	w.equal("in use", w.used("viewer"), 0)
}

func TestALicenceInItsGraceStaysUsableAndSaysSo(t *testing.T) {
	e := feature("cad", 2)
	e.Expiry, e.GraceDays = launch+lease.Calendar(day/time.Millisecond), 3
	w := newWorld(t, e)
	w.equal("grace", w.pool("cad").InGrace, 0)
	w.wait(day + time.Hour)
	w.must(checkout(1, "cad", 1))
	w.equal("grace", w.pool("cad").InGrace, 2)
	w.equal("standing", w.Standings("default", "L-1")[0], lease.InGrace)
	if a := w.Alarms(); len(a) != 1 || !strings.Contains(a[0], "cad") || !strings.Contains(a[0], "2026-03-05") {
		t.Fatalf("alarms %q", a)
	}
	w.wait(3 * day)
	w.refused(lease.LicenseExpired, checkout(2, "cad", 1))
	w.equal("standing", w.Standings("default", "L-1")[0], lease.Expired)
}

func TestASupersedingLineDropsEarlierOnes(t *testing.T) {
	hour := lease.Calendar(time.Hour / time.Millisecond)
	older, newer, same := licence("L-1", feature("cad", 10), feature("mesh", 4)), licence("L-2", feature("cad", 3)), licence("L-3", feature("cad", 1))
	older.Issued, newer.Issued, same.Issued = launch-2*hour, launch-hour, launch-hour
	newer.Entitlements[0].Supersedes = []string{"cad"}
	newer.Entitlements[0].Start = launch + hour
	elsewhere := licence("L-4", feature("cad", 7))
	elsewhere.Vendor, elsewhere.Issued = "other", launch-2*hour
	w := newWorld(t)
	for _, l := range []lease.Licence{older, newer, same, elsewhere} {
		w.must(lease.InstallLicence{Licence: l})
	}
	w.equal("another vendor's", w.Pools("")[1].Total, 7)
	w.equal("before its start", w.pool("cad").Total, 11)
	w.wait(time.Hour)
	w.equal("cad", w.pool("cad").Total, 4)
	w.equal("mesh", w.pool("mesh").Total, 4)
	w.equal("another vendor's", w.Pools("")[1].Total, 7)
	w.equal("standing", w.Standings("default", "L-1")[0], lease.Superseded)
	w.must(lease.RemoveLicence{Tenant: "default", ID: "L-2"})
	w.equal("cad again", w.pool("cad").Total, 11)
}

// Lines join in one pool when all of the pool key agrees, and only then. Dates, serials,
// counts and overdraft are no part of it.
func TestTermsKeepSeatsApart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(l *lease.Licence, e *lease.Entitlement)
		pools  int
	}{
		"nothing":          {func(*lease.Licence, *lease.Entitlement) {}, 1},
		"expiry":           {func(_ *lease.Licence, e *lease.Entitlement) { e.Expiry = launch + 1<<40 }, 1},
		"overdraft":        {func(_ *lease.Licence, e *lease.Entitlement) { e.Overdraft = 3 }, 1},
		"days of grace":    {func(_ *lease.Licence, e *lease.Entitlement) { e.Expiry, e.GraceDays = launch+1<<40, 3 }, 1},
		"vendor":           {func(l *lease.Licence, _ *lease.Entitlement) { l.Vendor = "other" }, 2},
		"version":          {func(_ *lease.Licence, e *lease.Entitlement) { e.Version = "2027.0" }, 2},
		"profile":          {func(_ *lease.Licence, e *lease.Entitlement) { e.Profile = lease.Profiles["wan"] }, 2},
		"share rule":       {func(_ *lease.Licence, e *lease.Entitlement) { e.Share = lease.DefaultShareRule }, 2},
		"borrow hours":     {func(_ *lease.Licence, e *lease.Entitlement) { e.BorrowHours = 24 }, 2},
		"linger":           {func(_ *lease.Licence, e *lease.Entitlement) { e.LingerMin = time.Minute }, 2},
		"idle floor":       {func(_ *lease.Licence, e *lease.Entitlement) { e.IdleFloor = time.Hour }, 2},
		"minimum checkout": {func(_ *lease.Licence, e *lease.Entitlement) { e.MinCheckout = time.Hour }, 2},
		"variant":          {func(_ *lease.Licence, e *lease.Entitlement) { e.Variant = "VENDOR_STRING=eu" }, 2},
		"price":            {func(_ *lease.Licence, e *lease.Entitlement) { e.Draw = lease.Draw{Of: "units", Cost: 1, Per: 1} }, 2},
		"uncounted":        {func(_ *lease.Licence, e *lease.Entitlement) { e.Count, e.Uncounted = 0, true }, 2},
	} {
		w := newWorld(t, feature("cad", 1))
		l := licence("L-2", feature("cad", 2))
		c.change(&l, &l.Entitlements[0])
		w.must(lease.InstallLicence{Licence: l})
		if got := len(w.Pools("")); got != c.pools {
			t.Errorf("%s differs: %d pools, want %d", name, got, c.pools)
		}
		if c.pools == 1 && w.pool("cad").Total != 3 {
			t.Errorf("%s differs: %d seats in all, want 3", name, w.pool("cad").Total)
		}
	}
}

func TestAnotherVendorsTokensPayForNothing(t *testing.T) {
	w := newWorld(t, tokens("cad", 5, "units"))
	l := licence("L-2", feature("units", 50))
	l.Vendor = "other"
	w.must(lease.InstallLicence{Licence: l})
	w.refused(lease.NoFeature, checkout(1, "cad", 1))
}

func TestASmallerLicenceTakesNoTokensAway(t *testing.T) {
	w := newWorld(t, feature("units", 20), tokens("cad", 5, "units"))
	first := w.must(checkout(1, "cad", 3)).Leases[0]
	w.must(lease.InstallLicence{Replace: true, Licence: licence("L-1", feature("units", 8), tokens("cad", 4, "units"))})
	w.equal("renewed", len(w.must(lease.Renew{Session: session(1)}).Leases), 1)
	w.equal("units", w.pool("units").OverUse, 7)
	w.refused(lease.NoSeats, checkout(2, "cad", 1))
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("units", w.pool("units").OverUse, 0)
	second := w.must(checkout(2, "cad", 2)).Leases[0]
	if second.Token <= first.Token {
		t.Fatalf("token %d after %d", second.Token, first.Token)
	}
	w.equal("units", w.used("units"), 8)
}

func TestTermsThatMeanNothingAreRefused(t *testing.T) {
	set := func(e lease.Entitlement, f func(e *lease.Entitlement)) lease.Entitlement { f(&e); return e }
	cad := feature("cad", 1)
	for name, e := range map[string]lease.Entitlement{
		"uncounted with a count": set(cad, func(e *lease.Entitlement) { e.Uncounted = true }),
		"negative overdraft":     set(cad, func(e *lease.Entitlement) { e.Overdraft = -1 }),
		"overdraft of nothing":   set(tokens("cad", 1, "units"), func(e *lease.Entitlement) { e.Overdraft = 1 }),
		"a year of grace":        set(cad, func(e *lease.Entitlement) { e.GraceDays = 365 }),
		"borrowed for ever":      set(cad, func(e *lease.Entitlement) { e.BorrowHours = lease.MaxBorrowHours + 1 }),
		"negative linger":        set(cad, func(e *lease.Entitlement) { e.LingerMin = -1 }),
		"tokens of itself":       tokens("cad", 1, "cad"),
		"free of charge":         tokens("cad", 0, "units"),
		"empty suite":            set(cad, func(e *lease.Entitlement) { e.Package.Suite = true }),
		"package in itself":      bundle("cad", 1, false, part("cad", 1)),
		"component twice":        bundle("studio", 1, false, part("cad", 1), part("cad", 2)),
		"component of none":      bundle("studio", 1, false, part("cad", 0)),
		"suite seats by hand":    set(cad, func(e *lease.Entitlement) { e.Suite = true }),
		"no such zone":           set(cad, func(e *lease.Entitlement) { e.Zone = 15 * 60 }),
	} {
		t.Run(name, func(t *testing.T) {
			newWorld(t).refused(lease.Invalid, lease.InstallLicence{Licence: licence("L-1", e)})
		})
	}
}

func TestADamagedDrawIsNotLoaded(t *testing.T) {
	w := newWorld(t, feature("units", 20), tokens("cad", 5, "units"))
	w.must(checkout(1, "cad", 2))
	for name, damage := range map[string]func(d *lease.DrawRecord){
		"too small":     func(d *lease.DrawRecord) { d.Seats = d.Seats[:5] },
		"another seat":  func(d *lease.DrawRecord) { d.Seats = append([]uint32{19}, d.Seats[1:]...) },
		"no charge":     func(d *lease.DrawRecord) { d.Charges = nil },
		"nobody's":      func(d *lease.DrawRecord) { d.Charges = []uint32{7} },
		"no such pool":  func(d *lease.DrawRecord) { d.Pool = 9 },
		"its own payer": func(d *lease.DrawRecord) { d.Pool = 3 - d.Pool },
	} {
		f := w.Freeze()
		load := lease.NewLoader(f.Header())
		restate(f, load, damage)
		if _, err := load.Finish(); err == nil {
			t.Errorf("%s: it was loaded", name)
		}
	}
	f := w.Freeze()
	load := lease.NewLoader(f.Header())
	restate(f, load, func(*lease.DrawRecord) {})
	if _, err := load.Finish(); err != nil {
		t.Error(err)
	}
}
