package report

import (
	"fmt"
	"strconv"
	"time"
)

// durationText words a span of nanoseconds with two or three figures.
func durationText(ns int64) string {
	d := time.Duration(ns)
	three := func(v float64) string { return strconv.FormatFloat(v, 'g', 3, 64) }
	switch {
	case ns < 0:
		return "–"
	case d == 0:
		return "0 s"
	case d < 999500*time.Nanosecond:
		return three(float64(ns)/1e3) + " µs"
	case d < 999500*time.Microsecond:
		return three(float64(ns)/1e6) + " ms"
	case d < 59950*time.Millisecond:
		return three(float64(ns)/1e9) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
}

// timeText is a moment of the run.
func timeText(ns int64) string {
	s := float64(ns) / 1e9
	if s < 60 {
		return fmt.Sprintf("%.2f s", s)
	}
	if s < 3600 {
		return fmt.Sprintf("%d:%04.1f", int(s)/60, s-float64(int(s)/60*60))
	}
	return fmt.Sprintf("%d:%02d:%02d", int(s)/3600, int(s)/60%60, int(s)%60)
}

// thousands groups digits: 12 345.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
