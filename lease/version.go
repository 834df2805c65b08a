package lease

import (
	"cmp"
	"errors"
	"strings"
)

// maxVersionLen is generous: FlexNet allows ten characters.
const maxVersionLen = 20

// CheckVersion accepts a decimal version: digits with at most one dot ("2026.0"). The
// empty version means any.
func CheckVersion(v string) error {
	if v == "" {
		return nil
	}
	whole, frac, dotted := strings.Cut(v, ".")
	if len(v) > maxVersionLen || whole == "" && frac == "" || dotted && frac == "" || !digits(whole) || !digits(frac) {
		return errors.New("a version is a decimal number such as 2026.0")
	}
	return nil
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

// CompareVersions compares two valid versions as decimals: 1.10 is 1.1, before 1.9.
// The empty version comes first.
func CompareVersions(a, b string) int {
	aw, af, _ := strings.Cut(a, ".")
	bw, bf, _ := strings.Cut(b, ".")
	aw, bw = strings.TrimLeft(aw, "0"), strings.TrimLeft(bw, "0")
	if c := cmp.Compare(len(aw), len(bw)); c != 0 {
		return c
	}
	if c := cmp.Compare(aw, bw); c != 0 {
		return c
	}
	return cmp.Compare(strings.TrimRight(af, "0"), strings.TrimRight(bf, "0"))
}
