package license

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

const (
	anyCluster  = "any"
	neverWord   = "never"
	noShareWord = "none"
	dateLayout  = time.DateOnly
	// firstYear is the first year a date may have. Calendar 0 means "no date", so
	// dates near 1970 must not be; and one before this year is a slip of the pen.
	firstYear = 2000
)

func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// checkName is for names that are typed on command lines, stand in URLs and are
// printed where readers split at spaces, commas, colons and quotes.
func checkName(s string) error {
	if s == "" || len(s) > lease.MaxNameLen {
		return fmt.Errorf("a name has 1 to %d characters", lease.MaxNameLen)
	}
	for i := range len(s) {
		if isWord(s[i]) || i > 0 && (s[i] == '-' || s[i] == '.') {
			continue
		}
		return fmt.Errorf("%.40q is not a name: use letters, digits, \"_\", \"-\" and \".\", and begin with none of the last two", s)
	}
	return nil
}

// checkVendor is stricter: lmstat readers take a vendor as \w+.
func checkVendor(s string) error {
	if s == "" || len(s) > lease.MaxNameLen {
		return fmt.Errorf("a vendor name has 1 to %d characters", lease.MaxNameLen)
	}
	for i := range len(s) {
		if !isWord(s[i]) {
			return fmt.Errorf("%.40q is not a vendor name: use letters, digits and \"_\"", s)
		}
	}
	return nil
}

// checkVersion takes what the ledger can compare, written out: "0.5", not ".5".
func checkVersion(s string) error {
	whole, _, _ := strings.Cut(s, ".")
	if !isDigits(whole) || lease.CheckVersion(s) != nil {
		return fmt.Errorf("%.40q is not a version: use a short decimal number like 2026.0", s)
	}
	return nil
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

func parseCluster(s string) (string, error) {
	if s == anyCluster {
		return "", nil
	}
	return s, checkName(s)
}

func parseCount(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > lease.MaxCount || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%.40q is not a count: use 1 to %d", s, lease.MaxCount)
	}
	return n, nil
}

// ParseDay gives the first instant of a UTC day.
func ParseDay(s string) (lease.Calendar, error) {
	t, err := time.Parse(dateLayout, s)
	if err != nil || t.Year() < firstYear {
		return 0, fmt.Errorf("%.40q is not a date: use year-month-day from %d-01-01 on", s, firstYear)
	}
	return lease.CalendarOf(t), nil
}

// parseLastDay gives the first instant after a UTC day, or 0 for never.
func parseLastDay(s string) (lease.Calendar, error) {
	if s == neverWord {
		return 0, nil
	}
	day, err := ParseDay(s)
	if err != nil {
		return 0, fmt.Errorf("%w, or %q", err, neverWord)
	}
	return lease.CalendarOf(day.Time().AddDate(0, 0, 1)), nil
}

func formatDay(c lease.Calendar) string { return c.Time().Format(dateLayout) }

func formatLastDay(c lease.Calendar) string {
	if c == 0 {
		return neverWord
	}
	return c.Time().AddDate(0, 0, -1).Format(dateLayout)
}

// units are the units of a time span, longest first.
var units = []struct {
	name string
	span time.Duration
}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}

// parseSpan reads a whole number of one unit; more freedom would give one span many
// spellings.
func parseSpan(s string, limit time.Duration) (time.Duration, error) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	for _, u := range units {
		if err == nil && s[digits:] == u.name && n <= int64(limit/u.span) {
			return time.Duration(n) * u.span, nil
		}
	}
	return 0, fmt.Errorf("%.40q is not a time span: use a whole number with h, m, s or ms, at most %s", s, formatSpan(limit))
}

func formatSpan(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	for _, u := range units {
		if d%u.span == 0 {
			return strconv.FormatInt(int64(d/u.span), 10) + u.name
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

// ProfileNames lists the profiles that a licence may name.
func ProfileNames() []string { return slices.Sorted(maps.Keys(lease.Profiles)) }

// parseProfile reads a profile's name, or "lifespan 45s grace 15s".
func parseProfile(s string) (lease.Profile, error) {
	if p, ok := lease.Profiles[s]; ok {
		return p, nil
	}
	words := strings.Split(s, " ")
	if len(words) != 4 || words[0] != "lifespan" || words[2] != "grace" {
		return lease.Profile{}, fmt.Errorf("%.40q is not a profile: use %s, or \"lifespan 45s grace 15s\"", s, strings.Join(ProfileNames(), ", "))
	}
	lifespan, err := parseSpan(words[1], lease.MaxLifespan)
	if err != nil {
		return lease.Profile{}, err
	}
	if lifespan < lease.MinLifespan {
		return lease.Profile{}, fmt.Errorf("lifespan %s is too short: use at least %s", words[1], formatSpan(lease.MinLifespan))
	}
	grace, err := parseSpan(words[3], lease.MaxGrace)
	return lease.Profile{Lifespan: lifespan, Grace: grace}, err
}

func formatProfile(p lease.Profile) string {
	for _, name := range ProfileNames() {
		if lease.Profiles[name] == p {
			return name
		}
	}
	return "lifespan " + formatSpan(p.Lifespan) + " grace " + formatSpan(p.Grace)
}

// shareFields are the words for the fields of a share mask.
var shareFields = []struct {
	name string
	mask lease.Mask
}{{"user", lease.MaskUser}, {"host", lease.MaskHost}, {"display", lease.MaskDisplay}, {"vendor", lease.MaskVendor}}

// parseShare reads "none" or "user+host max 4". None is the rule that masks nothing
// and has room for one session; the zero rule means "not given".
func parseShare(s string) (lease.ShareRule, error) {
	if s == noShareWord {
		return lease.ShareRule{MaxSessions: 1}, nil
	}
	words := strings.Split(s, " ")
	if len(words) != 3 || words[1] != "max" {
		return lease.ShareRule{}, errors.New("not a share rule: use \"none\" or fields and a number, \"user+host max 4\"")
	}
	var rule lease.ShareRule
	for name := range strings.SplitSeq(words[0], "+") {
		mask := shareMask(name)
		if mask == 0 || rule.By&mask != 0 {
			return lease.ShareRule{}, fmt.Errorf("%.40q is not a set of fields: join user, host, display, vendor with \"+\", each at most once", words[0])
		}
		rule.By |= mask
	}
	n, err := strconv.Atoi(words[2])
	if err != nil || n < 1 || n > lease.MaxShareSessions || strconv.Itoa(n) != words[2] {
		return lease.ShareRule{}, fmt.Errorf("%.40q is not a number of sessions: use 1 to %d", words[2], lease.MaxShareSessions)
	}
	rule.MaxSessions = n
	return rule, nil
}

func shareMask(name string) lease.Mask {
	for _, f := range shareFields {
		if f.name == name {
			return f.mask
		}
	}
	return 0
}

// FormatShare writes a share rule as it stands in a licence: "user+host max 4".
func FormatShare(r lease.ShareRule) string {
	var names []string
	for _, f := range shareFields {
		if r.By&f.mask != 0 {
			names = append(names, f.name)
		}
	}
	if names == nil {
		return noShareWord
	}
	return strings.Join(names, "+") + " max " + strconv.Itoa(r.MaxSessions)
}
