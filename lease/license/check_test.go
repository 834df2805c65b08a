package license

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestCheck(t *testing.T) {
	valid := func(start, expiry lease.Calendar) lease.Entitlement {
		return lease.Entitlement{Feature: "cad", Version: "1", Count: 1, Start: start, Expiry: expiry}
	}
	first, after := day(2026, 2, 10), day(2028, 1, 1)
	for _, tc := range []struct {
		name    string
		bound   string
		cluster string
		now     lease.Calendar
		lines   []lease.Entitlement
		want    Code
	}{
		{"any cluster", "", "c1", first, []lease.Entitlement{valid(0, 0)}, ""},
		{"own cluster", "c1", "c1", first, []lease.Entitlement{valid(0, 0)}, ""},
		{"other cluster", "c2", "c1", first, []lease.Entitlement{valid(0, 0)}, WrongCluster},
		{"other cluster by case", "C1", "c1", first, []lease.Entitlement{valid(0, 0)}, WrongCluster},
		{"cluster without an id yet", "c2", "", first, []lease.Entitlement{valid(0, 0)}, WrongCluster},
		{"other cluster and expired", "c2", "c1", after, []lease.Entitlement{valid(0, after)}, WrongCluster},
		{"first instant of the first day", "", "c1", first, []lease.Entitlement{valid(first, after)}, ""},
		{"an instant before", "", "c1", first - 1, []lease.Entitlement{valid(first, after)}, NotStarted},
		{"last instant of the last day", "", "c1", after - 1, []lease.Entitlement{valid(first, after)}, ""},
		{"an instant after", "", "c1", after, []lease.Entitlement{valid(first, after)}, Expired},
		{"one of two expired", "", "c1", after, []lease.Entitlement{valid(0, after), valid(0, 0)}, ""},
		{"both expired", "", "c1", after, []lease.Entitlement{valid(0, first), valid(0, after)}, Expired},
		{"one expired, one to come", "", "c1", first, []lease.Entitlement{valid(0, first), valid(after, 0)}, NotStarted},
		{"one valid, one to come", "", "c1", first, []lease.Entitlement{valid(after, 0), valid(0, 0)}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := lease.Licence{ID: "L1", Vendor: "acme", Cluster: tc.bound, Entitlements: tc.lines}
			wantCode(t, Check(l, tc.cluster, tc.now), tc.want)
		})
	}
}

func TestCheckNamesTheDays(t *testing.T) {
	l := lease.Licence{ID: "L1", Vendor: "acme", Entitlements: []lease.Entitlement{
		{Start: day(2026, 3, 1), Expiry: day(2027, 1, 1)},
		{Start: day(2026, 2, 10), Expiry: day(2028, 1, 1)},
	}}
	if got, want := Check(l, "c1", day(2026, 1, 1)).Error(), "licence L1 starts on 2026-02-10 (UTC): wait until then, or ask acme for an earlier start"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := Check(l, "c1", day(2030, 1, 1)).Error(), "licence L1 ended after 2027-12-31 (UTC): ask acme for a new one"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
