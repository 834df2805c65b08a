package lease

import "strings"

// FlexNet's numbers and words, for logs and tools that are read by programs made for it.

// flexNetTexts is the one table of reasons as FlexNet's programs give them: number, detail, text.
var flexNetTexts = map[Reason]struct {
	code, detail int
	text         string
}{
	NoSeats:           {-4, 342, "Licensed number of users already reached."},
	NoFeature:         {-5, 346, "No such feature exists."},
	LicenseExpired:    {-10, 32, "Feature has expired."},
	BadVersion:        {-21, 126, "License file does not support this version."},
	TooManyRequested:  {-26, 120, "More licenses requested than issued."},
	NotStarted:        {-31, 147, "Feature start date is in the future."},
	InQueue:           {-35, 159, "Request is queued."},
	Excluded:          {-38, 349, "User/host on EXCLUDE list for feature."},
	NotIncluded:       {-39, 348, "User/host not on INCLUDE list for feature."},
	BorrowNoneLeft:    {-67, 355, "All licenses that may be borrowed are in use."},
	BorrowOff:         {-68, 356, "License BORROW support not enabled."},
	TooSoon:           {-64, 270, "lmremove too soon."},
	MaxReached:        {-87, 352, "Checkout exceeds MAX specified in options file."},
	ReservedForOthers: {-101, 357, "All licenses are reserved for others."},
	BorrowTooLong:     {-104, 358, "Borrow period too long."},
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

// FlexNetNumber gives FlexNet's number of a reason, 0 where there is none.
func (r Reason) FlexNetNumber() int { return flexNetTexts[r].code }

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
