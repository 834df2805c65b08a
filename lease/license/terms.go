package license

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// The words of a feature block beyond seats and dates.

const (
	uncountedWord = "uncounted"
	offWord       = "off"
	ofWord        = "of"
	daysWord      = "days"
)

// parseSeats reads a count, or "uncounted".
func parseSeats(e *lease.Entitlement, s string) (err error) {
	if s == uncountedWord {
		e.Uncounted = true
		return nil
	}
	if e.Count, err = parseCount(s); err != nil {
		err = fmt.Errorf("%w, or %q", err, uncountedWord)
	}
	return err
}

func formatSeats(e *lease.Entitlement) string {
	if e.Uncounted {
		return uncountedWord
	}
	return strconv.Itoa(e.Count)
}

// parseNumber reads a whole number from 0 to limit, spelt without leading zeros.
func parseNumber(s, what string, limit int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > limit || strconv.Itoa(n) != s {
		return 0, fmt.Errorf("%.40q is not %s: use 0 to %d", s, what, limit)
	}
	return n, nil
}

// parseGrace reads "14 days".
func parseGrace(s string) (int, error) {
	n, ok := strings.CutSuffix(s, " "+daysWord)
	if !ok {
		return 0, fmt.Errorf("%.40q is not a number of days: write \"14 days\"", s)
	}
	return parseNumber(n, "a number of days", lease.MaxGraceDays)
}

// parseTokens reads "5 of units".
func parseTokens(s string) (lease.Draw, error) {
	words := strings.Split(s, " ")
	if len(words) != 3 || words[1] != ofWord {
		return lease.Draw{}, fmt.Errorf("%.40q is not a price: write \"5 of units\", units being a feature of the same vendor", s)
	}
	cost, err := parseNumber(words[0], "a number of tokens", lease.MaxCost)
	if err != nil {
		return lease.Draw{}, err
	}
	if cost == 0 {
		return lease.Draw{}, errors.New("a price of 0 is none: leave the line out")
	}
	return lease.Draw{Of: words[2], Cost: cost, Per: 1}, checkName(words[2])
}

// parseBorrow reads "off" or hours, "96h".
func parseBorrow(s string) (int, error) {
	if s == offWord {
		return 0, nil
	}
	n, ok := strings.CutSuffix(s, "h")
	if !ok {
		return 0, fmt.Errorf("%.40q is not a time to borrow for: use hours, \"96h\", or %q", s, offWord)
	}
	return parseNumber(n, "a number of hours", lease.MaxBorrowHours)
}

func parseFloor(s string) (time.Duration, error) { return parseSpan(s, lease.MaxFloor) }

// parseVariant takes any short text: nobody but the vendor gives it a meaning.
func parseVariant(s string) (string, error) {
	if len(s) > lease.MaxNameLen {
		return "", fmt.Errorf("a variant has 1 to %d bytes", lease.MaxNameLen)
	}
	return s, nil
}

// ParseZone reads an offset from UTC, "+05:30". A name such as Europe/Berlin would mean
// what the time zone database of each machine says.
func ParseZone(s string) (minutes int, err error) {
	t, err := time.Parse("-07:00", s)
	if err != nil || len(s) != len("+00:00") {
		return 0, fmt.Errorf("%.40q is not an offset from UTC: write +01:00", s)
	}
	_, seconds := t.Zone()
	if minutes = seconds / 60; minutes < -lease.MaxZone || minutes > lease.MaxZone || formatZone(minutes) != s {
		return 0, fmt.Errorf("%.40q is no time zone's offset from UTC: use -14:00 to +14:00", s)
	}
	return minutes, nil
}

// FormatZone writes an offset from UTC as it stands in a licence, "+05:30"; "" for UTC.
func FormatZone(minutes int) string {
	if minutes == 0 {
		return ""
	}
	return formatZone(minutes)
}

func formatZone(minutes int) string {
	sign := '+'
	if minutes < 0 {
		sign, minutes = '-', -minutes
	}
	return fmt.Sprintf("%c%02d:%02d", sign, minutes/60, minutes%60)
}

// zoned moves a UTC day to where the days are so many minutes ahead.
func zoned(c lease.Calendar, minutes int) lease.Calendar {
	if c == 0 {
		return 0
	}
	return c - lease.Calendar(minutes)*60_000
}

// parseNames reads names separated by single spaces.
func parseNames(s string) ([]string, error) {
	names := strings.Split(s, " ")
	if len(names) > lease.MaxSupersedes {
		return nil, fmt.Errorf("%d features are named; at most %d are possible", len(names), lease.MaxSupersedes)
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// addComponent reads one component of a package, "cad", "cad:2026.0" or "cad:2026.0:2".
func addComponent(e *lease.Entitlement, s string) error {
	parts := strings.Split(s, ":")
	c := lease.Component{Feature: parts[0], Count: 1}
	if err := checkName(c.Feature); err != nil {
		return err
	}
	if len(parts) > 3 {
		return fmt.Errorf("%.40q is not a component: write NAME, NAME:VERSION or NAME:VERSION:COUNT", s)
	}
	if len(parts) > 1 && parts[1] != "" {
		if c.Version = parts[1]; checkVersion(c.Version) != nil {
			return checkVersion(c.Version)
		}
	}
	if len(parts) == 3 {
		n, err := parseCount(parts[2])
		if err != nil {
			return err
		}
		c.Count = n
	}
	if formatComponent(c) != s {
		return fmt.Errorf("write %q", formatComponent(c))
	}
	if len(e.Package.Components) == lease.MaxComponents {
		return fmt.Errorf("a package has at most %d components", lease.MaxComponents)
	}
	e.Package.Components = append(e.Package.Components, c)
	return nil
}

func formatComponent(c lease.Component) string {
	switch {
	case c.Count != 1:
		return c.Feature + ":" + c.Version + ":" + strconv.Itoa(c.Count)
	case c.Version != "":
		return c.Feature + ":" + c.Version
	}
	return c.Feature
}
