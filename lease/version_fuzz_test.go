package lease_test

import (
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// FuzzVersions: versions that are accepted are in one order, whatever zeros they are
// written with.
func FuzzVersions(f *testing.F) {
	for _, v := range [][3]string{{"1", "1.0", "01.00"}, {"2026.0", "1.10", "1.9"}, {".5", "0.5", ""}, {"1e3", "١", "-1"}} {
		f.Add(v[0], v[1], v[2])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, v := range []string{a, b, c} {
			if lease.CheckVersion(v) != nil {
				return
			}
			more := "0" + v
			if strings.Contains(v, ".") {
				more += "0"
			}
			if v != "" && lease.CompareVersions(v, more) != 0 {
				t.Errorf("%q is not %q", v, more)
			}
		}
		ab, ba, bc, ac := lease.CompareVersions(a, b), lease.CompareVersions(b, a), lease.CompareVersions(b, c), lease.CompareVersions(a, c)
		if ab != -ba {
			t.Errorf("%q and %q: %d one way, %d the other", a, b, ab, ba)
		}
		if ab <= 0 && bc <= 0 && ac > 0 || ab == 0 && ac != bc {
			t.Errorf("%q, %q, %q have no order: %d %d %d", a, b, c, ab, bc, ac)
		}
	})
}
