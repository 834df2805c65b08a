package license

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Format writes the unsigned document of a licence; equal licences give equal bytes.
// Parse reads it back, if the licence keeps the grammar's limits and its dates are
// whole UTC days; Format itself judges nothing, Sign does. A zero profile or share rule
// is left out, which means the default. Text is not used.
func Format(l lease.Licence) []byte {
	var b bytes.Buffer
	formatHeader(&b, &l)
	for i := range l.Entitlements {
		b.WriteString("\n")
		formatBlock(&b, &l.Entitlements[i])
	}
	return b.Bytes()
}

func formatHeader(b *bytes.Buffer, l *lease.Licence) {
	line := func(key, value string) { fmt.Fprintf(b, "%s: %s\n", key, value) }
	b.WriteString(formatLine + "\n")
	line("license", l.ID)
	line("vendor", l.Vendor)
	line("tenant", l.Tenant)
	line("cluster", cmp.Or(l.Cluster, anyCluster))
	line("issued", formatDay(l.Issued))
}

func formatBlock(b *bytes.Buffer, e *lease.Entitlement) {
	line := func(key, value string) { fmt.Fprintf(b, "%s: %s\n", key, value) }
	line(blockOf(e), e.Feature)
	line("version", e.Version)
	line("count", formatSeats(e))
	for _, c := range e.Package.Components {
		line("component", formatComponent(c))
	}
	if e.Start != 0 {
		line("start", formatDay(zoned(e.Start, -e.Zone)))
	}
	line("expiry", formatLastDay(zoned(e.Expiry, -e.Zone)))
	line("serial", e.Serial)
	if e.Profile != (lease.Profile{}) {
		line("profile", formatProfile(e.Profile))
	}
	if e.Share != (lease.ShareRule{}) {
		line("share", FormatShare(e.Share))
	}
	formatTerms(e, line)
}

func blockOf(e *lease.Entitlement) string {
	switch {
	case e.Package.Suite:
		return "suite"
	case len(e.Package.Components) > 0:
		return "package"
	}
	return "feature"
}

// formatTerms writes what few features have.
func formatTerms(e *lease.Entitlement, line func(key, value string)) {
	some := func(is bool, key, value string) {
		if is {
			line(key, value)
		}
	}
	some(e.Draw.Of != "", "tokens", fmt.Sprint(e.Draw.Cost, " ", ofWord, " ", e.Draw.Of))
	some(e.GraceDays != 0, "grace", fmt.Sprint(e.GraceDays, " ", daysWord))
	some(e.Zone != 0, "tz", formatZone(e.Zone))
	some(e.Overdraft != 0, "overdraft", fmt.Sprint(e.Overdraft))
	some(e.BorrowHours != 0, "borrow", fmt.Sprint(e.BorrowHours, "h"))
	some(e.LingerMin != 0, "linger", formatSpan(e.LingerMin))
	some(e.IdleFloor != 0, "idle-floor", formatSpan(e.IdleFloor))
	some(e.MinCheckout != 0, "min-checkout", formatSpan(e.MinCheckout))
	some(e.Issued != 0, "issued", formatDay(e.Issued))
	some(len(e.Supersedes) > 0, "supersedes", strings.Join(e.Supersedes, " "))
	some(e.Variant != "", "variant", e.Variant)
}
