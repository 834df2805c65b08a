package lease

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// found says whether a person who looks for text means this lease: it is part of what a
// listing shows of the holder or the feature, whatever the case of its letters, or it is
// the handle. It looks at leases one by one, as every filter without an index does.
func (b *Book) found(slot uint32, text string) bool {
	l := b.leases.at(slot)
	if strconv.FormatUint(uint64(slot), 10) == text {
		return true
	}
	who := b.principalOf(l.Session)
	for _, field := range [...]string{who.User, who.Host, who.Display, b.owner(l.Session).instance(), b.pools.at(b.groups.at(l.Group).Pool).Feature} {
		if containsFold(field, text) {
			return true
		}
	}
	return false
}

// containsFold is strings.Contains without regard to case. It allocates nothing; letters
// whose two cases differ in length are told apart.
func containsFold(s, part string) bool {
	for i := 0; len(s)-i >= len(part); {
		if strings.EqualFold(s[i:i+len(part)], part) {
			return true
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
	return part == ""
}
