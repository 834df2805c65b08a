package lease

import "fmt"

// What an installed licence comes to: each entitlement is one line of seats, a package one
// for each of its components. Lines are derived, never stored; every pool is that of some
// line, or holds what is still checked out.

// lines calls visit for each line of a licence in order. pkg is the package that brings
// it; the line is good until visit returns.
func (x *Licence) lines(visit func(line *Entitlement, pkg string)) {
	for i := range x.Entitlements {
		e := &x.Entitlements[i]
		if len(e.Package.Components) == 0 {
			visit(e, "")
			continue
		}
		if e.Package.Suite {
			seats := *e
			seats.Suite = true
			visit(&seats, "")
		}
		for _, c := range e.Package.Components {
			part := e.part(c)
			visit(&part, e.Feature)
		}
	}
}

// part is the line of one component of a package. It has the terms of its package.
func (e *Entitlement) part(c Component) Entitlement {
	p := *e
	p.Feature, p.Package = c.Feature, Package{}
	if c.Version != "" {
		p.Version = c.Version
	}
	if e.Package.Suite {
		p.Count, p.Overdraft, p.Uncounted = 0, 0, true
		p.Draw = Draw{Of: e.Feature, Version: e.Version, Cost: 1, Per: c.Count, Suite: true}
		return p
	}
	p.Count, p.Overdraft = min(e.Count*c.Count, MaxSeats), min(e.Overdraft*c.Count, MaxSeats)
	return p
}

// Standing says whether an entitlement counts.
type Standing uint8

// An entitlement counts while it is valid or in grace.
const (
	Valid Standing = iota
	InGrace
	Expired
	NotYet
	Superseded
)

func (s Standing) String() string {
	return [...]string{"valid", "grace", "expired", "not_started", "superseded"}[s]
}

// StandingAt judges the dates of an entitlement alone: whether another one supersedes it,
// the ledger knows (Book.Standings).
func (e *Entitlement) StandingAt(now Calendar) Standing {
	switch {
	case e.Expiry != 0 && now >= e.GraceEnd():
		return Expired
	case e.Start > now:
		return NotYet
	case e.Expiry != 0 && now >= e.Expiry:
		return InGrace
	}
	return Valid
}

// GraceEnd is the first instant after Expiry and the days of grace; 0 if it never ends.
func (e *Entitlement) GraceEnd() Calendar {
	if e.Expiry == 0 {
		return 0
	}
	return e.Expiry + Calendar(e.GraceDays)*msPerDay
}

const msPerDay = 24 * 60 * 60 * 1000

// issued is when a line was issued: as it says itself, else with its licence.
func (x *Licence) issued(e *Entitlement) Calendar {
	if e.Issued != 0 {
		return e.Issued
	}
	return x.Issued
}

type vendorFeature struct{ tenant, vendor, feature string }

// superseded tells for each feature before which date of issue its lines count no more. A
// line replaces others from its start on, and for good: what it replaced does not come
// back when it ends, but does when its licence is removed.
func (b *Book) superseded() map[vendorFeature]Calendar {
	before := map[vendorFeature]Calendar{}
	for _, x := range b.licences {
		for i := range x.Entitlements {
			e := &x.Entitlements[i]
			if e.Start > b.Header.Calendar {
				continue
			}
			for _, name := range e.Supersedes {
				k := vendorFeature{x.Tenant, x.Vendor, name}
				before[k] = max(before[k], x.issued(e))
			}
		}
	}
	return before
}

func standing(x *Licence, e *Entitlement, before map[vendorFeature]Calendar, now Calendar) Standing {
	if len(before) > 0 && x.issued(e) < before[vendorFeature{x.Tenant, x.Vendor, e.Feature}] {
		return Superseded
	}
	return e.StandingAt(now)
}

// Standings tells how each entitlement of an installed licence stands now, in its order;
// nil if it is not installed.
func (b *Book) Standings(tenant, id string) []Standing {
	at, found := b.findLicence(tenant, id)
	if !found {
		return nil
	}
	x := b.licences[at]
	before := b.superseded()
	out := make([]Standing, len(x.Entitlements))
	for i := range x.Entitlements {
		out[i] = standing(x, &x.Entitlements[i], before, b.Header.Calendar)
	}
	return out
}

// checkTerms refuses terms and packages that mean nothing or are beyond the limits.
func (e *Entitlement) checkTerms() *Refusal {
	bad := func(format string, args ...any) *Refusal {
		return refuse(Invalid, "feature %s: "+format, append([]any{e.Feature}, args...)...)
	}
	switch {
	case e.Uncounted && e.Count != 0:
		return bad("it is uncounted and has the count %d; give one of the two", e.Count)
	case e.Overdraft < 0 || e.Overdraft > MaxCount || e.Uncounted && e.Overdraft > 0:
		return bad("overdraft %d is not between 0 and %d, or there is no count to go above", e.Overdraft, MaxCount)
	case e.GraceDays < 0 || e.GraceDays > MaxGraceDays:
		return bad("%d days of grace are not between 0 and %d", e.GraceDays, MaxGraceDays)
	case e.BorrowHours < 0 || e.BorrowHours > MaxBorrowHours:
		return bad("%d borrow hours are not between 0 and %d", e.BorrowHours, MaxBorrowHours)
	case e.Issued < 0 || e.Zone < -MaxZone || e.Zone > MaxZone:
		return bad("it has an impossible date of issue or time zone")
	case e.Suite:
		return bad("only its package makes a suite's seats")
	case len(e.Supersedes) > MaxSupersedes:
		return bad("it supersedes %d features; at most %d are possible", len(e.Supersedes), MaxSupersedes)
	}
	for _, d := range []struct {
		what string
		span int64
	}{{"linger", int64(e.LingerMin)}, {"idle floor", int64(e.IdleFloor)}, {"minimum checkout", int64(e.MinCheckout)}} {
		if d.span < 0 || d.span > int64(MaxFloor) {
			return bad("%s is not between 0 and %v", d.what, MaxFloor)
		}
	}
	for _, name := range e.Supersedes {
		if r := checkName("a superseded feature's name", name, false); r != nil {
			return r
		}
	}
	if r := checkName("variant", e.Variant, true); r != nil {
		return r
	}
	if d := e.Draw; d != (Draw{}) {
		switch {
		case d.Of == e.Feature:
			return bad("it cannot cost tokens of itself")
		case d.Suite || d.Version != "" || d.Per != 1 || d.Cost < 1 || d.Cost > MaxCost:
			return bad("a seat costs 1 to %d tokens, not %d", MaxCost, d.Cost)
		case len(e.Package.Components) > 0:
			return bad("a package cannot cost tokens; let its components do so")
		}
		return checkName("the token pool's name", d.Of, false)
	}
	return e.checkPackage()
}

func (e *Entitlement) checkPackage() *Refusal {
	parts := e.Package.Components
	if len(parts) == 0 && e.Package.Suite || len(parts) > MaxComponents {
		return refuse(Invalid, "package %s has %d components; 1 to %d are possible", e.Feature, len(parts), MaxComponents)
	}
	seen := map[string]bool{}
	for _, c := range parts {
		if r := checkName("component name", c.Feature, false); r != nil {
			return r
		}
		key := fmt.Sprint(c.Feature, " ", c.Version)
		switch {
		case CheckVersion(c.Version) != nil:
			return refuse(Invalid, "package %s: version %q of %s is not a decimal number such as 2026.0", e.Feature, c.Version, c.Feature)
		case c.Count < 1 || c.Count > MaxCount:
			return refuse(Invalid, "package %s: count %d of %s is not between 1 and %d", e.Feature, c.Count, c.Feature, MaxCount)
		case c.Feature == e.Feature || seen[key]:
			return refuse(Invalid, "package %s has the component %s twice, or in itself", e.Feature, c.Feature)
		}
		seen[key] = true
	}
	return nil
}
