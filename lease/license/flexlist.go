package license

import (
	"fmt"
	"strings"
)

// ListedLine is a FEATURE, INCREMENT or UPGRADE line of a FlexNet licence file, with its
// fields as they were written.
type ListedLine struct {
	Keyword, Feature, Vendor, Version, Expiry, Count string
	// Line is where it begins. Problem says what is wrong with it; empty: nothing.
	Line    int
	Problem string
}

// ListFlexNet lists the lines of a FlexNet licence file that count seats. Nothing is judged
// but that the fields are there.
func ListFlexNet(data []byte) (list []ListedLine) {
	lines, _ := flexLines(string(data))
	for _, l := range lines {
		x := ListedLine{Keyword: strings.ToUpper(l.words[0].text), Line: l.line}
		fields := 5
		switch x.Keyword {
		case "FEATURE", "INCREMENT":
		case "UPGRADE": // name vendor from_version version expiry count
			fields = 6
		default:
			continue
		}
		if len(l.words) <= fields {
			x.Problem = fmt.Sprintf("%s has %d of its %d fields", x.Keyword, len(l.words)-1, fields)
			list = append(list, x)
			continue
		}
		w := make([]string, len(l.words))
		for i := range l.words {
			w[i] = shown(l.words[i].text)
		}
		x.Feature, x.Vendor = w[1], w[2]
		x.Version, x.Expiry, x.Count = w[fields-2], w[fields-1], w[fields]
		list = append(list, x)
	}
	return list
}
