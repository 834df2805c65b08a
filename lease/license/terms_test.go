package license

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestParseReadsEveryTerm(t *testing.T) {
	document, err := os.ReadFile("testdata/rich.lic")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	minutes := func(n int) lease.Calendar { return lease.Calendar(n) * 60_000 }
	want := lease.Licence{
		ID: "L-2026-002", Vendor: "acme", Tenant: "default", Issued: day(2026, 2, 10),
		Entitlements: []lease.Entitlement{{
			Feature: "units", Version: "1.0", Count: 100, Start: day(2026, 2, 10) - minutes(330), Expiry: day(2028, 1, 1) - minutes(330),
			Zone: 330, GraceDays: 14, Overdraft: 5, Serial: "acme-1",
		}, {
			Feature: "solver", Version: "2026.0", Issued: day(2026, 1, 5), Supersedes: []string{"solver", "old-solver"}, Serial: "acme-2",
			Terms: lease.Terms{Uncounted: true, BorrowHours: 96, LingerMin: 30 * time.Minute, IdleFloor: 15 * time.Minute, MinCheckout: 10 * time.Minute,
				Variant: `VENDOR_STRING="eu only"`, Draw: lease.Draw{Of: "units", Cost: 5, Per: 1}},
		}, {
			Feature: "studio", Version: "3.0", Count: 4, Expiry: day(2027, 1, 1) + minutes(480), Zone: -480, Serial: "acme-3",
			Package: lease.Package{Suite: true, Components: []lease.Component{{Feature: "cad", Count: 1}, {Feature: "mesh", Version: "2.5", Count: 1}, {Feature: "render", Count: 8}}},
		}, {
			Feature: "office", Version: "1", Count: 2, Serial: "acme-4",
			Package: lease.Package{Components: []lease.Component{{Feature: "post", Version: "1", Count: 2}}},
		}},
	}
	for i := range want.Entitlements {
		want.Entitlements[i].Profile, want.Entitlements[i].Share = lease.DefaultProfile, lease.DefaultShareRule
	}
	sameLicence(t, got, want)
	again, err := Parse(Format(got))
	if err != nil {
		t.Fatal(err)
	}
	sameLicence(t, again, want)
}

func TestParseSaysWhatIsWrongWithATerm(t *testing.T) {
	block := func(lines string) string {
		return "seatkeeper-license/1\nlicense: L\nvendor: v\ntenant: t\ncluster: any\nissued: 2026-01-01\n" + lines + "\nversion: 1\nexpiry: never\nserial: s\n"
	}
	for _, c := range []struct{ lines, want string }{
		{"feature: a\ncount: some", `line 8, column 8: count: "some" is not a count: use 1 to 1000000, or "uncounted"`},
		{"feature: a\ncount: 1\ngrace: 14", "write \"14 days\""},
		{"feature: a\ncount: 1\ngrace: 93 days", "use 0 to 92"},
		{"feature: a\ncount: 1\ntokens: 5 units", "write \"5 of units\""},
		{"feature: a\ncount: 1\ntokens: 0 of units", "a price of 0 is none"},
		{"feature: a\ncount: 1\ntokens: 5 of a", "it cannot cost tokens of itself"},
		{"feature: a\ncount: 1\nborrow: 2d", "use hours, \"96h\""},
		{"feature: a\ncount: 1\nborrow: 9000h", "use 0 to 8784"},
		{"feature: a\ncount: 1\nlinger: 30", "whole number with h, m, s or ms"},
		{"feature: a\ncount: 1\ntz: Europe/Berlin", "write +01:00"},
		{"feature: a\ncount: 1\ntz: +15:00", "use -14:00 to +14:00"},
		{"feature: a\ncount: 1\noverdraft: -1", "use 0 to"},
		{"feature: a\ncount: uncounted\noverdraft: 1", "no count to go above"},
		{"feature: a\ncount: 1\nsupersedes: a b!", "is not a name"},
		{"feature: a\ncount: 1\ncomponent: b", `the feature block that begins here has 1 "component" lines`},
		{"suite: a\ncount: 1", `the suite block that begins here has 0 "component" lines`},
		{"package: a\ncount: 1\ncomponent: a", "has the component a twice, or in itself"},
		{"package: a\ncount: 1\ncomponent: b:1:1", `write "b:1"`},
		{"package: a\ncount: 1\ncomponent: b:x", "is not a version"},
		{"package: a\ncount: 1\ncomponent: b\ntokens: 1 of u", "a package cannot cost tokens"},
	} {
		_, err := Parse([]byte(block(c.lines)))
		if err == nil || !strings.Contains(err.Error(), c.want) || CodeOf(err) != BadSyntax {
			t.Errorf("%q: %v, want %q", c.lines, err, c.want)
		}
	}
}

func TestALicenceWithFarTooManyFeaturesSaysTheLimit(t *testing.T) {
	var b strings.Builder
	b.WriteString("seatkeeper-license/1\nlicense: L\nvendor: v\ntenant: t\ncluster: any\nissued: 2026-01-01\n")
	for i := range 100_000 {
		fmt.Fprintf(&b, "\nfeature: f%d\nversion: 1\ncount: 1\nexpiry: never\nserial: s%d\n", i, i)
	}
	for _, n := range []int{b.Len(), MaxFileBytes - 100} {
		_, err := Parse([]byte(b.String()[:n]))
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(lease.MaxEntitlements, " features")) || !strings.Contains(err.Error(), "split") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
