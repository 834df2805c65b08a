package lease

import "strings"

// FlexNet's numbers and words, for logs and tools that are read by programs made for it.

// flexNetTexts are reasons as FlexNet's programs give them: number, detail, text.
var flexNetTexts = map[Reason]struct {
	code, detail int
	text         string
}{
	NoSeats:               {-4, 342, "Licensed number of users already reached."},
	NoFeature:             {-5, 346, "No such feature exists."},
	LicenseExpired:        {-10, 32, "Feature has expired."},
	BadVersion:            {-21, 126, "License file does not support this version."},
	TooManyRequested:      {-26, 120, "More licenses requested than issued."},
	NotStarted:            {-31, 147, "Feature start date is in the future."},
	"queued":              {-35, 159, "Request is queued."},
	"excluded":            {-38, 349, "User/host on EXCLUDE list for feature."},
	"not_included":        {-39, 348, "User/host not on INCLUDE list for feature."},
	"borrow_none_left":    {-67, 355, "All licenses that may be borrowed are in use."},
	"borrow_off":          {-68, 356, "License BORROW support not enabled."},
	"max_reached":         {-87, 352, "Checkout exceeds MAX specified in options file."},
	"reserved_for_others": {-101, 357, "All licenses are reserved for others."},
	"borrow_too_long":     {-104, 358, "Borrow period too long."},
}

// flexNetOther stands for reasons that FlexNet does not know.
const flexNetOther = -12

// FlexNet gives FlexNet's number, detail number and text of a reason. One it does not know
// keeps its own name as the text.
func (r Reason) FlexNet() (code, detail int, text string) {
	if f, ok := flexNetTexts[r]; ok {
		return f.code, f.detail, f.text
	}
	return flexNetOther, 0, strings.ReplaceAll(string(r), "_", " ") + "."
}

// FlexNetWord writes a name in one word: blanks, control characters, quotes, commas, "@" and
// parentheses become "_"; an empty one becomes "unknown".
func FlexNetWord(s string) string {
	if s == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune(`"(),@`, r) {
			return '_'
		}
		return r
	}, s)
}

// FlexNetHost writes a host in letters, digits, dashes and dots; all else becomes a dash.
func FlexNetHost(s string) string {
	return flexNetOnly(s, '-', func(r rune) bool { return r == '-' || r == '.' || alphanumeric(r) })
}

// FlexNetName writes a vendor or group in letters, digits and "_".
func FlexNetName(s string) string {
	return flexNetOnly(s, '_', func(r rune) bool { return r == '_' || alphanumeric(r) })
}

func alphanumeric(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

func flexNetOnly(s string, instead rune, ok func(rune) bool) string {
	if s == "" {
		return "unknown"
	}
	return strings.Map(func(r rune) rune {
		if ok(r) {
			return r
		}
		return instead
	}, s)
}
