package license

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestFormatRoundTrip(t *testing.T) {
	profiles := slices.Collect(maps.Values(lease.Profiles))
	for _, lifespan := range []time.Duration{lease.MinLifespan, 1500 * time.Millisecond, 45 * time.Second, 90 * time.Second, time.Hour, lease.MaxLifespan} {
		for _, grace := range []time.Duration{0, time.Millisecond, time.Minute, lease.MaxGrace} {
			profiles = append(profiles, lease.Profile{Lifespan: lifespan, Grace: grace})
		}
	}
	for _, profile := range profiles {
		for by := lease.Mask(0); by < lease.MaskVendor<<1; by++ {
			rule := lease.ShareRule{By: by, MaxSessions: 1}
			if by != 0 {
				rule.MaxSessions += int(by) % lease.MaxShareSessions
			}
			want := lease.Licence{
				ID: "L.1", Vendor: "acme", Tenant: "lab", Cluster: "0a1b", Issued: day(2026, 12, 31),
				Entitlements: []lease.Entitlement{
					{Feature: "cad", Version: "2026.0", Count: lease.MaxCount, Start: day(2026, 1, 1), Expiry: day(2028, 3, 1), Serial: "1", Profile: profile, Share: rule},
					{Feature: "cad", Version: "2026.0", Count: 1, Expiry: day(9999, 12, 31), Serial: "2", Profile: profile, Share: rule},
				},
			}
			got, err := Parse(Format(want))
			if err != nil {
				t.Fatalf("%v\n%s", err, Format(want))
			}
			sameLicence(t, got, want)
		}
	}
}

func TestFormatIsTheSampleWithoutComments(t *testing.T) {
	l, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(sample, "# order 4711\n", "", 1) + "profile: default\nshare: user+host max 4\n"
	if got := string(Format(l)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestFormatLeavesOutWhatIsNotGiven(t *testing.T) {
	l := lease.Licence{ID: "L1", Vendor: "acme", Tenant: "default", Issued: day(2026, 1, 1), Entitlements: []lease.Entitlement{
		{Feature: "cad", Version: "1", Count: 1, Serial: "1"},
	}}
	if text := string(Format(l)); strings.Contains(text, "profile") || strings.Contains(text, "share") || strings.Contains(text, "start") {
		t.Errorf("zero values are written:\n%s", text)
	}
	got, err := Parse(Format(l))
	if err != nil {
		t.Fatal(err)
	}
	l.Entitlements[0].Profile, l.Entitlements[0].Share = lease.DefaultProfile, lease.DefaultShareRule
	sameLicence(t, got, l)
}

// A licence value that breaks the grammar must not become a document that is
// accepted and says something else.
func TestFormatCannotSmuggleALine(t *testing.T) {
	l := lease.Licence{ID: "L1\ncount: 9", Vendor: "acme", Tenant: "default", Issued: day(2026, 1, 1), Entitlements: []lease.Entitlement{
		{Feature: "cad", Version: "1", Count: 1, Serial: "1"},
	}}
	_, err := Parse(Format(l))
	wantCode(t, err, BadSyntax)
}
