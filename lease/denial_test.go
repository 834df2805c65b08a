package lease_test

import (
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// TestDenialsSayWhatWasAskedAndWhetherItIsFinal: item, asker, vendor and finality of the
// event are those of the refusal.
func TestDenialsSayWhatWasAskedAndWhetherItIsFinal(t *testing.T) {
	for _, c := range []struct {
		name string
		ask  lease.Checkout
		want lease.Event
	}{
		{"no seat is free", checkout(2, "cad", 1),
			lease.Event{Feature: "cad", Count: 1, Reason: lease.NoSeats, Vendor: "acme"}},
		{"version too high", lease.Checkout{Session: session(2), Items: []lease.Item{{Feature: "cad", Version: "9999", Count: 1}}},
			lease.Event{Feature: "cad", Version: "9999", Count: 1, Reason: lease.BadVersion, Final: true, Vendor: "acme"}},
		{"the second item has no licence", and(checkout(2, "mesh", 1), "gone", 2),
			lease.Event{Feature: "gone", Count: 2, Reason: lease.NoFeature, Final: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, feature("cad", 1), feature("mesh", 1))
			w.must(checkout(1, "cad", 1))
			w.TakeEvents()
			c.ask = as(c.ask, "eve", "ws-9")
			w.refused(c.want.Reason, c.ask)
			events := w.TakeEvents()
			if len(events) != 1 {
				t.Fatalf("%d events, want one denial", len(events))
			}
			c.want.Kind, c.want.Principal, c.want.Session = lease.Denied, c.ask.Principal, c.ask.Session.ID
			c.want.Tenant, c.want.At, c.want.Date = lease.DefaultTenant, w.Now(), w.Calendar()
			if events[0] != c.want {
				t.Errorf("event %+v\nwant  %+v", events[0], c.want)
			}
		})
	}
}

// TestLeasesOfAShareGroupNameOneCharge: and leases of others name another.
func TestLeasesOfAShareGroupNameOneCharge(t *testing.T) {
	w := newWorld(t, shared("cad", 3, 4))
	take := func(n byte, user string) lease.Lease {
		return w.must(as(checkout(n, "cad", 1), user, "h")).Leases[0]
	}
	a, b, c := take(1, "ann"), take(2, "ann"), take(3, "bob")
	if a.Charge != b.Charge || a.Charge == c.Charge || a.Charge == 0 {
		t.Errorf("charges %d and %d of ann, %d of bob: want the first two equal", a.Charge, b.Charge, c.Charge)
	}
}
