package license

import (
	"os"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// testdata/v1.lic is a file as it was released, its signer key is gone. Every later
// program must verify it and read the same from it: never write it anew.
func TestReleasedFormat1StillVerifies(t *testing.T) {
	file, err := os.ReadFile("testdata/v1.lic")
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile("testdata/v1.key")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Verify(file, []string{string(key)})
	if err != nil {
		t.Fatal(err)
	}
	sameLicence(t, got, lease.Licence{
		ID: "L-2026-001", Vendor: "acme", Tenant: "default", Issued: day(2026, 2, 10),
		Entitlements: []lease.Entitlement{{
			Feature: "cad", Version: "2026.0", Count: 10, Serial: "acme-0001",
			Start: day(2026, 2, 10), Expiry: day(2028, 1, 1),
			Profile: lease.Profile{Lifespan: 30 * time.Second, Grace: 30 * time.Second},
			Share:   lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 4},
		}, {
			Feature: "solver", Version: "3.1", Count: 1_000_000, Serial: "acme-0002",
			Profile: lease.Profile{Lifespan: 45 * time.Second, Grace: 1500 * time.Millisecond},
			Share:   lease.ShareRule{MaxSessions: 1},
		}, {
			Feature: "mesh", Version: "1", Count: 1, Serial: "acme-0003",
			Expiry:  day(2028, 3, 1),
			Profile: lease.Profile{Lifespan: 120 * time.Second, Grace: 120 * time.Second},
			Share:   lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 4},
		}},
	})
}
