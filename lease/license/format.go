package license

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Format writes the unsigned document of a licence; equal licences give equal bytes.
// Parse reads it back, if the licence keeps the grammar's limits and its dates are
// whole UTC days; Format itself judges nothing, Sign does. A zero profile or share rule
// is left out, which means the default. Text is not used.
func Format(l lease.Licence) []byte {
	var b bytes.Buffer
	line := func(key, value string) { fmt.Fprintf(&b, "%s: %s\n", key, value) }
	b.WriteString(formatLine + "\n")
	line("license", l.ID)
	line("vendor", l.Vendor)
	line("tenant", l.Tenant)
	line("cluster", cmp.Or(l.Cluster, anyCluster))
	line("issued", formatDay(l.Issued))
	for _, e := range l.Entitlements {
		b.WriteString("\n")
		line("feature", e.Feature)
		line("version", e.Version)
		line("count", fmt.Sprint(e.Count))
		if e.Start != 0 {
			line("start", formatDay(e.Start))
		}
		line("expiry", formatLastDay(e.Expiry))
		line("serial", e.Serial)
		if e.Profile != (lease.Profile{}) {
			line("profile", formatProfile(e.Profile))
		}
		if e.Share != (lease.ShareRule{}) {
			line("share", FormatShare(e.Share))
		}
	}
	return b.Bytes()
}
