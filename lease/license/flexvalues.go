package license

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// The values of FlexNet's licence lines.

var flexMonths = []string{"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}

// flexDate reads d-mmm-yyyy. never is true for "permanent" and for the year 0. note says
// what had to be guessed.
func flexDate(s string) (day time.Time, never bool, note string, err error) {
	bad := fmt.Errorf("%q is not a date: want 31-dec-2027, or permanent", shown(s))
	if strings.EqualFold(s, "permanent") {
		return day, true, "", nil
	}
	parts := strings.Split(strings.ToLower(s), "-")
	if len(parts) != 3 || len(parts[0]) > 2 || len(parts[2]) > 4 {
		return day, false, "", bad
	}
	d, err1 := strconv.ParseUint(parts[0], 10, 8)
	year, err2 := strconv.ParseUint(parts[2], 10, 16)
	month := 0
	for i, name := range flexMonths {
		if parts[1] == name {
			month = i + 1
		}
	}
	switch {
	case err1 != nil || err2 != nil || month == 0 || d == 0:
		return day, false, "", bad
	case year == 0:
		return day, true, "", nil
	case year < 100 && year >= 70:
		year += 1900
		note = fmt.Sprintf("the year of %s is taken as %d", s, year)
	case year < 100:
		year += 2000
		note = fmt.Sprintf("the year of %s is taken as %d", s, year)
	}
	day = time.Date(int(year), time.Month(month), int(d), 0, 0, 0, 0, time.UTC)
	if day.Day() != int(d) {
		return day, false, "", bad
	}
	return day, false, note, nil
}

// flexVersion spells a version out: ".5" is 0.5, "5." is 5.
func flexVersion(s string) (string, error) {
	v := s
	if strings.HasPrefix(v, ".") {
		v = "0" + v
	}
	v = strings.TrimSuffix(v, ".")
	if checkVersion(v) != nil {
		return "", fmt.Errorf("version %q is not a decimal number, and others cannot be compared", shown(s))
	}
	return v, nil
}

// flexCount reads a number of seats; uncounted is true for the word and for 0.
func flexCount(s string) (n int, uncounted bool, err error) {
	if strings.EqualFold(s, uncountedWord) {
		return 0, true, nil
	}
	n, err = strconv.Atoi(s)
	switch {
	case err != nil || n < 0:
		return 0, false, fmt.Errorf("%q is not a number of seats, nor \"uncounted\"", shown(s))
	case n > lease.MaxCount:
		return 0, false, fmt.Errorf("%d seats are more than the %d of one line", n, lease.MaxCount)
	}
	return n, n == 0, nil
}

// flexShare reads the value of DUP_GROUP. site means that everybody shares one seat.
func flexShare(s string) (rule lease.ShareRule, site bool, err error) {
	switch strings.ToUpper(s) {
	case "NONE", "":
		return lease.ShareRule{MaxSessions: 1}, false, nil
	case "SITE":
		return lease.ShareRule{MaxSessions: 1}, true, nil
	}
	for _, r := range strings.ToUpper(s) {
		at := strings.IndexRune("UHDV", r)
		if at < 0 {
			return rule, false, fmt.Errorf("DUP_GROUP %q is neither NONE nor SITE nor some of UHDV", shown(s))
		}
		rule.By |= []lease.Mask{lease.MaskUser, lease.MaskHost, lease.MaskDisplay, lease.MaskVendor}[at]
	}
	rule.MaxSessions = lease.MaxShareSessions
	return rule, false, nil
}

// flexComponents reads the value of COMPONENTS.
func flexComponents(s string) (list []lease.Component, err error) {
	for _, word := range strings.Fields(s) {
		parts := strings.Split(word, ":")
		c := lease.Component{Feature: parts[0], Count: 1}
		if len(parts) > 3 {
			return nil, fmt.Errorf("component %q is not NAME[:VERSION[:COUNT]]", shown(word))
		}
		if err := checkName(c.Feature); err != nil {
			return nil, fmt.Errorf("component %q: %w", shown(word), err)
		}
		if len(parts) > 1 && parts[1] != "" {
			if c.Version, err = flexVersion(parts[1]); err != nil {
				return nil, fmt.Errorf("component %q: %w", shown(word), err)
			}
		}
		if len(parts) > 2 {
			n, uncounted, err := flexCount(parts[2])
			if err != nil || uncounted {
				return nil, fmt.Errorf("component %q: %q is not a number of seats", shown(word), shown(parts[2]))
			}
			c.Count = n
		}
		if list = append(list, c); len(list) > lease.MaxComponents {
			return nil, fmt.Errorf("the package has more than %d components: split it", lease.MaxComponents)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the package has no components")
	}
	return list, nil
}

func isHex(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) }) < 0
}
