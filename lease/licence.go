package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxLicences bounds the installed licence files, which every recount visits.
const MaxLicences = 10_000

func refuse(r Reason, format string, args ...any) *Refusal {
	final := r != NoSeats && r != SessionsExceeded && r != Overloaded && r != NotStarted &&
		r != InQueue && r != MaxReached && r != ReservedForOthers && r != TooSoon && r != BorrowNoneLeft
	return &Refusal{Reason: r, Message: fmt.Sprintf(format, args...), Final: final}
}

// checkName refuses a name that is empty, long, not UTF-8 or has control characters.
func checkName(what, s string, empty bool) *Refusal {
	switch {
	case s == "" && !empty:
		return refuse(Invalid, "%s is missing", what)
	case len(s) > MaxNameLen:
		return refuse(Invalid, "%s is longer than %d bytes", what, MaxNameLen)
	case !utf8.ValidString(s) || strings.IndexFunc(s, unicode.IsControl) >= 0:
		return refuse(Invalid, "%s has characters that cannot be printed", what)
	}
	return nil
}

// Check refuses an entitlement that the ledger cannot count.
func (e Entitlement) Check() *Refusal {
	if r := checkName("feature name", e.Feature, false); r != nil {
		return r
	}
	if strings.ContainsFunc(e.Feature, unicode.IsSpace) {
		return refuse(Invalid, "feature %q has a space in its name", e.Feature)
	}
	if CheckVersion(e.Version) != nil {
		return refuse(Invalid, "feature %s: version %q is not a decimal number such as 2026.0", e.Feature, e.Version)
	}
	switch {
	case (e.Count < 1 || e.Count > MaxCount) && !e.Uncounted:
		return refuse(Invalid, "feature %s: count %d is not between 1 and %d", e.Feature, e.Count, MaxCount)
	case e.Expiry != 0 && e.Expiry <= e.Start:
		return refuse(Invalid, "feature %s: expires before it starts", e.Feature)
	case e.Profile.Lifespan < MinLifespan || e.Profile.Lifespan > MaxLifespan:
		return refuse(Invalid, "feature %s: lifespan %v is not between %v and %v", e.Feature, e.Profile.Lifespan, MinLifespan, MaxLifespan)
	case e.Profile.Grace < 0 || e.Profile.Grace > MaxGrace:
		return refuse(Invalid, "feature %s: grace %v is not between 0 and %v", e.Feature, e.Profile.Grace, MaxGrace)
	case e.Share.By != 0 && (e.Share.MaxSessions < 1 || e.Share.MaxSessions > MaxShareSessions):
		return refuse(Invalid, "feature %s: a share group has 1 to %d sessions, not %d", e.Feature, MaxShareSessions, e.Share.MaxSessions)
	}
	if r := e.checkTerms(); r != nil {
		return r
	}
	return checkName("serial", e.Serial, false)
}

func (b *Book) installLicence(c InstallLicence) Reply {
	x := c.Licence
	if r := b.checkLicence(&x); r != nil {
		return Reply{Refusal: r}
	}
	at, found := b.findLicence(x.Tenant, x.ID)
	if found && !c.Replace {
		return Reply{Refusal: refuse(Invalid, "licence %s is already installed; nothing changed (replace puts a newer file in its place)", x.ID)}
	}
	if !found && len(b.licences) >= MaxLicences {
		return Reply{Refusal: refuse(Overloaded, "the cluster holds %d licences already, the most it takes", MaxLicences)}
	}
	if r := b.checkSerials(&x); r != nil {
		return Reply{Refusal: r}
	}
	list := slices.Clone(b.licences)
	if found {
		list[at] = &x
	} else {
		list = slices.Insert(list, at, &x)
	}
	b.licences = list
	x.lines(func(e *Entitlement, _ string) { b.ensurePool(&x, e) })
	b.recount()
	b.rebook()
	b.dropUnusedPools()
	return Reply{}
}

func (b *Book) checkLicence(x *Licence) *Refusal {
	for _, n := range []struct{ what, s string }{{"licence id", x.ID}, {"vendor", x.Vendor}, {"tenant", x.Tenant}} {
		if r := checkName(n.what, n.s, false); r != nil {
			return r
		}
	}
	if len(x.Entitlements) == 0 || len(x.Entitlements) > MaxEntitlements {
		return refuse(Invalid, "licence %s has %d features; 1 to %d are possible", x.ID, len(x.Entitlements), MaxEntitlements)
	}
	for _, e := range x.Entitlements {
		if r := e.Check(); r != nil {
			return r
		}
	}
	return nil
}

// checkSerials refuses a serial that counts already: in the file itself, or in another
// licence of the vendor.
func (b *Book) checkSerials(x *Licence) *Refusal {
	seen := map[string]string{}
	for _, o := range b.licences {
		if o.Vendor != x.Vendor || o.Tenant == x.Tenant && o.ID == x.ID {
			continue
		}
		for _, e := range o.Entitlements {
			seen[e.Serial] = "licence " + o.ID
		}
	}
	for _, e := range x.Entitlements {
		if where, dup := seen[e.Serial]; dup {
			return refuse(Invalid, "serial %s of feature %s is already counted in %s; nothing changed", e.Serial, e.Feature, where)
		}
		seen[e.Serial] = "the same file"
	}
	return nil
}

func (b *Book) removeLicence(c RemoveLicence) Reply {
	at, found := b.findLicence(c.Tenant, c.ID)
	if !found {
		return Reply{Refusal: refuse(Invalid, "no licence %q is installed for tenant %q", c.ID, c.Tenant)}
	}
	b.licences = slices.Delete(slices.Clone(b.licences), at, at+1)
	b.recount()
	b.rebook()
	b.dropUnusedPools()
	return Reply{}
}

func (b *Book) findLicence(tenant, id string) (int, bool) {
	return slices.BinarySearchFunc(b.licences, &Licence{Tenant: tenant, ID: id}, compareLicences)
}

func compareLicences(x, y *Licence) int {
	return cmp.Or(cmp.Compare(x.Tenant, y.Tenant), cmp.Compare(x.ID, y.ID))
}
