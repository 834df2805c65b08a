package license_test

import (
	"fmt"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

// The vendor makes a key pair once and signs a document; the cluster, which was given
// the verifier key, verifies the file and checks that it is of use to it today.
func Example() {
	signerKey, verifierKey, err := license.GenerateKey("acme")
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := license.Sign([]byte(`seatkeeper-license/1
license: L-2026-001
vendor: acme
tenant: default
cluster: any
issued: 2026-02-10

feature: cad
version: 2026.0
count: 10
expiry: 2027-12-31
serial: acme-0001
`), signerKey)
	if err != nil {
		fmt.Println(err)
		return
	}

	l, err := license.Verify(file, []string{verifierKey})
	if err != nil {
		fmt.Println(err)
		return
	}
	cad := l.Entitlements[0]
	fmt.Printf("%s: %d seats of %s %s\n", l.ID, cad.Count, cad.Feature, cad.Version)

	lastEvening := time.Date(2027, 12, 31, 23, 59, 0, 0, time.UTC)
	fmt.Println("last evening:", license.Check(l, "c1", lease.CalendarOf(lastEvening)))
	newYear := license.Check(l, "c1", lease.CalendarOf(lastEvening.Add(time.Minute)))
	fmt.Println("a minute later:", license.CodeOf(newYear))

	// Output:
	// L-2026-001: 10 seats of cad 2026.0
	// last evening: <nil>
	// a minute later: expired
}
