package lease_test

import (
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestVersionsCompareAsDecimals(t *testing.T) {
	ordered := [][]string{{"", "0", "0.0", "00"}, {".05"}, {"0.5", ".5", "0.50"}, {"1", "1.0", "01.00"}, {"1.09"}, {"1.1", "1.10"}, {"1.9"}, {"2"}, {"10", "10.0"}, {"2026.0"}, {"2026.01"}}
	for i, as := range ordered {
		for j, bs := range ordered {
			for _, a := range as {
				for _, b := range bs {
					got := lease.CompareVersions(a, b)
					if (got < 0) != (i < j) || (got > 0) != (i > j) {
						t.Errorf("%q and %q: %d", a, b, got)
					}
				}
			}
		}
	}
}

func TestOnlyDecimalsAreVersions(t *testing.T) {
	for v, ok := range map[string]bool{
		"": true, "1": true, "1.0": true, ".5": true, "2026.0": true, strings.Repeat("9", 20): true,
		".": false, "1.": false, "1.2.3": false, "v1": false, "1,0": false, "-1": false, "1e3": false, " 1": false, "١": false, strings.Repeat("9", 21): false,
	} {
		if err := lease.CheckVersion(v); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestSessionIDsAreReadStrictly(t *testing.T) {
	hex := "00112233445566778899aabbccddeeff"
	for s, ok := range map[string]bool{
		hex: true, strings.ToUpper(hex): true, "00112233-4455-6677-8899-aabbccddeeff": true,
		"": false, hex[1:]: false, hex + "0": false, "g" + hex[1:]: false, strings.Repeat("0", 32): false,
	} {
		id, err := lease.ParseSessionID(s)
		if (err == nil) != ok || ok && id.String() != hex {
			t.Errorf("%q: %v %v", s, id, err)
		}
	}
}
