package lease

import (
	"cmp"
	"time"
)

// Terms are what a licence says of a feature beyond how many seats there are. They belong
// to the pool key: entitlements that differ in them are kept in pools of their own, so
// every seat of a pool has the same terms. All zero means what a licence means that says
// nothing.
type Terms struct {
	// Suite marks the seats of a suite: only its components charge them.
	Suite bool
	// Uncounted: there is no number of seats to run out of. Each use is still a lease.
	Uncounted bool
	// BorrowHours is the longest a seat may be borrowed; 0: it may not be borrowed.
	BorrowHours int
	// LingerMin is the least time a seat stays charged after its check-in, IdleFloor the
	// least idle time before an idle seat may be taken back, MinCheckout the least time a
	// checkout is charged for. No policy may go below them.
	LingerMin, IdleFloor, MinCheckout time.Duration
	// Variant keeps entitlements apart that the vendor wants apart though all else agrees
	// (FlexNet's VENDOR_STRING, PLATFORMS and the like). Nothing else looks at it.
	Variant string
	// Draw says which other pool pays for a seat; the zero Draw: none.
	Draw Draw
}

// Draw makes a feature charge another pool: Per seats of the feature cost Cost seats of
// Of, a feature of the same tenant and vendor.
//
// For tokens (Suite false) each charge draws its own: with Cost 5 and Per 1 a checkout of
// two seats takes ten of the token pool. For suites one draw covers all the components
// that one session, or one share group, holds: it is as large as its largest component
// asks for.
type Draw struct {
	Of        string
	Cost, Per int
	Suite     bool
	// Version is that of the suite; the tokens of any version serve.
	Version string
}

// Package makes an entitlement a bundle: it has no seats under its own name but gives
// Count seats to each component (times Component.Count). With Suite the components draw
// on Count seats of the suite. No components: it is not a package.
type Package struct {
	Suite      bool
	Components []Component
}

// Component is one feature of a package.
type Component struct {
	// Version is empty where it is the package's.
	Feature, Version string
	// Count is how many seats of the feature one seat of the package brings, from 1.
	Count int
}

// Limits of what a licence may say.
const (
	// MaxBorrowHours is a year: longer than that it is a licence of its own.
	MaxBorrowHours = 366 * 24
	// MaxFloor bounds LingerMin, IdleFloor and MinCheckout.
	MaxFloor = 7 * 24 * time.Hour
	// MaxGraceDays bounds the days of use after expiry: beyond a quarter it is no oversight.
	MaxGraceDays = 92
	// MaxCost bounds what one seat costs in tokens.
	MaxCost = 10_000
	// MaxComponents bounds a package, so that installing one is short.
	MaxComponents = 64
	// MaxSupersedes bounds the features that one entitlement replaces.
	MaxSupersedes = 64
	// MaxZone is the widest offset of a time zone from UTC, in minutes.
	MaxZone = 14 * 60
)

// compareTerms orders the pools of a feature that differ in their terms alone: what needs
// no seat first, then what costs nothing elsewhere.
func compareTerms(t, u *Terms) int {
	return cmp.Or(
		compareBool(u.Uncounted, t.Uncounted), cmp.Compare(t.Draw.Of, u.Draw.Of), cmp.Compare(t.Draw.Version, u.Draw.Version),
		compareBool(t.Draw.Suite, u.Draw.Suite), cmp.Compare(t.Draw.Cost, u.Draw.Cost), cmp.Compare(t.Draw.Per, u.Draw.Per),
		cmp.Compare(t.BorrowHours, u.BorrowHours), cmp.Compare(t.LingerMin, u.LingerMin),
		cmp.Compare(t.IdleFloor, u.IdleFloor), cmp.Compare(t.MinCheckout, u.MinCheckout), cmp.Compare(t.Variant, u.Variant))
}

// compareBool puts false first.
func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}
