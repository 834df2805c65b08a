package license

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// feature reads a FEATURE, INCREMENT or UPGRADE line.
func (m *importer) feature(a *LineAccount, words []flexWord) {
	fields := 6
	form := "name vendor version expiry count"
	if a.Keyword == "UPGRADE" {
		fields, form = 7, "name vendor from_version version expiry count"
	}
	if len(words) < fields {
		a.reject(words[len(words)-1], "fields are missing: want %s %s", a.Keyword, form)
		return
	}
	f := &flexFeature{account: a, first: a.Keyword == "FEATURE"}
	if !m.positional(f, words[1:fields]) {
		return
	}
	l := flexAttributes{account: a, feature: f}
	for _, w := range words[fields:] {
		if !l.take(w) {
			return
		}
	}
	l.finish(m.options)
	f.identical = identityOf(a.Keyword, words)
	f.e.Serial = serialOf(l.sn, f.identical)
	if r := f.e.Check(); r != nil {
		a.reject(a.start(), "%s", r.Message)
		return
	}
	a.Outcome = Imported
	m.features = append(m.features, f)
}

// positional reads the fields that every such line begins with.
func (m *importer) positional(f *flexFeature, words []flexWord) bool {
	a := f.account
	bad := func(w flexWord, err error) bool {
		a.reject(w, "%v", err)
		return false
	}
	e := &f.e
	e.Feature, f.vendor = words[0].text, words[1].text
	if err := checkName(e.Feature); err != nil {
		return bad(words[0], err)
	}
	if err := checkVendor(f.vendor); err != nil {
		return bad(words[1], err)
	}
	var err error
	if a.Keyword == "UPGRADE" {
		if f.from, err = flexVersion(words[2].text); err != nil {
			return bad(words[2], err)
		}
		words = words[1:]
	}
	if e.Version, err = flexVersion(words[2].text); err != nil {
		return bad(words[2], err)
	}
	if a.Keyword == "UPGRADE" && lease.CompareVersions(f.from, e.Version) >= 0 {
		a.reject(words[2], "it upgrades from %s to %s, which is not newer", f.from, e.Version)
		return false
	}
	day, never, note, err := flexDate(words[3].text)
	switch {
	case err != nil:
		return bad(words[3], err)
	case note != "":
		a.note(words[3], "%s", note)
	}
	if !never {
		if day.Year() < firstYear {
			a.reject(words[3], "it expired on %s", day.Format(dateLayout))
			return false
		}
		e.Expiry = zoned(lease.CalendarOf(day.AddDate(0, 0, 1)), m.options.Zone)
	}
	if e.Count, e.Uncounted, err = flexCount(words[4].text); err != nil {
		return bad(words[4], err)
	}
	e.Zone, e.Profile, e.Share = m.options.Zone, m.options.Profile, lease.ShareRule{MaxSessions: 1}
	if e.Profile == (lease.Profile{}) {
		e.Profile = lease.DefaultProfile
	}
	return true
}

// flexAttributes reads what follows the fields: KEY, KEY=value, an old key of digits.
type flexAttributes struct {
	account    *LineAccount
	feature    *flexFeature
	seen       []string
	variant    []string
	start      lease.Calendar
	issued     lease.Calendar
	sn         string
	borrowMax  int
	supersedes flexWord
}

// flexVariant are the keys that are part of FlexNet's pool key and that Seatkeeper only
// keeps apart; of those with a remark, more is meant than that.
var flexVariant = map[string]string{
	"HOSTID":        "Seatkeeper ties no seat to a machine: a policy can (INCLUDE feature HOST name)",
	"FLOAT_OK":      "Seatkeeper knows no dongles: the seats float",
	"USER_BASED":    "seats are not tied to named users here: a policy can (INCLUDE feature GROUP name)",
	"HOST_BASED":    "seats are not tied to named hosts here: a policy can (INCLUDE feature HOST_GROUP name)",
	"PLATFORMS":     "Seatkeeper does not look at the platform of clients",
	"VM_PLATFORMS":  "Seatkeeper does not look for virtual machines",
	"TZ":            "Seatkeeper does not look at the time zone of clients",
	"VENDOR_STRING": "",
}

// flexSilent are the keys that need no remark: signatures, names and their like.
var flexSilent = []string{"SIGN", "SIGN2", "AUTH", "V7.1_LK", "V8.1_LK", "CK", "ISSUER", "NOTICE", "SORT", "TS_OK", "SN", "SUPERSEDE_SIGN"}

// take reads one word; it is false when the line cannot be taken over.
func (l *flexAttributes) take(w flexWord) bool {
	a := l.account
	name, value, keyed := strings.Cut(w.text, "=")
	key := strings.ToUpper(name)
	if keyed && name == strings.ToLower(name) && name != strings.ToUpper(name) {
		return true // lower-case keys are informative
	}
	if keyed && key == "" {
		a.note(w, "%q has no key: it was left out", shown(w.text))
		return true
	}
	_, flag := flexVariant[key]
	flag = flag || slices.Contains(flexSilent, key) || slices.Contains([]string{"BORROW", "SUPERSEDE"}, key)
	if !keyed && !flag {
		l.odd(w)
		return true
	}
	if slices.Contains(l.seen, key) {
		a.note(w, "%s stands twice on this line: the first one counts", shown(key))
		return true
	}
	l.seen = append(l.seen, key)
	if err := l.set(key, value, keyed, w); err != nil {
		a.reject(w, "%v", err)
		return false
	}
	return true
}

// odd is a word without a key: the signature of old formats, or something unknown.
func (l *flexAttributes) odd(w flexWord) {
	const shortestKey = 8
	switch {
	case isHex(w.text) && len(w.text) >= shortestKey && !w.quoted:
	case strings.EqualFold(w.text, "ANY"), strings.EqualFold(w.text, "DEMO"): // the old format's place for a host id
	case w.quoted:
		l.addVariant("VENDOR_STRING", w.text) // the old format's place for it
	default:
		l.account.note(w, "%q is not known on this line: it was left out", shown(w.text))
	}
}

func (l *flexAttributes) set(key, value string, keyed bool, w flexWord) (err error) {
	e := &l.feature.e
	switch key {
	case "START":
		l.start, err = l.date(key, value, w)
	case "ISSUED":
		l.issued, err = l.date(key, value, w)
	case "SN":
		l.sn = value
	case "SUPERSEDE":
		l.supersedes = w
		e.Supersedes = []string{e.Feature}
		if keyed {
			if e.Supersedes, err = parseNames(strings.Join(strings.Fields(value), " ")); err != nil {
				return fmt.Errorf("SUPERSEDE: %w", err)
			}
		}
	case "OVERDRAFT":
		if e.Overdraft, err = parseNumber(value, "a number of seats", lease.MaxCount); err != nil {
			return fmt.Errorf("OVERDRAFT: %w", err)
		}
	case "DUP_GROUP":
		if e.Share, l.feature.site, err = flexShare(value); err == nil && e.Share.By != 0 {
			l.account.note(w, "at most %d sessions share one seat", lease.MaxShareSessions)
		}
	case "BORROW":
		e.BorrowHours = 168 // FlexNet's own limit where none is named: a week
		if keyed {
			e.BorrowHours, err = l.hours(key, value, w)
		}
	case "MAX_BORROW_HOURS":
		l.borrowMax, err = l.hours(key, value, w)
	case "LINGER":
		n, bad := strconv.ParseInt(value, 10, 32)
		if bad != nil || n < 0 || time.Duration(n)*time.Second > lease.MaxFloor {
			return fmt.Errorf("LINGER: %q is not a number of seconds up to %d", shown(value), int(lease.MaxFloor.Seconds()))
		}
		e.LingerMin = time.Duration(n) * time.Second
	default:
		l.other(key, value, keyed, w)
	}
	return err
}

// other handles the keys that do not change how many seats there are.
func (l *flexAttributes) other(key, value string, keyed bool, w flexWord) {
	remark, varies := flexVariant[key]
	switch {
	case varies && key == "HOSTID" && (strings.EqualFold(value, "ANY") || strings.EqualFold(value, "DEMO")):
	case varies:
		if keyed {
			l.addVariant(key, value)
		} else {
			l.variant = append(l.variant, key)
		}
		if remark != "" {
			l.account.note(w, "%s: %s; these seats are kept in a pool of their own", key, remark)
		}
	case slices.Contains(flexSilent, key) || strings.HasPrefix(key, "SIGN"):
	default:
		l.account.note(w, "the key %s is not used: it was left out", shown(key))
	}
}

func (l *flexAttributes) addVariant(key, value string) {
	l.variant = append(l.variant, key+"="+strings.Join(strings.Fields(value), " "))
}

func (l *flexAttributes) date(key, value string, w flexWord) (lease.Calendar, error) {
	day, never, note, err := flexDate(value)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: %w", key, err)
	case never || day.Year() < firstYear:
		return 0, nil
	case note != "":
		l.account.note(w, "%s", note)
	}
	return lease.CalendarOf(day), nil
}

func (l *flexAttributes) hours(key, value string, w flexWord) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s: %q is not a number of hours", key, shown(value))
	}
	if n > lease.MaxBorrowHours {
		l.account.note(w, "%d hours are more than the %d of a licence, which count", n, lease.MaxBorrowHours)
		n = lease.MaxBorrowHours
	}
	return n, nil
}

// finish puts together what several keys say.
func (l *flexAttributes) finish(o ImportOptions) {
	f, e := l.feature, &l.feature.e
	e.Start = zoned(l.start, o.Zone)
	if f.issued = l.issued; f.issued == 0 {
		f.issued = l.start
	}
	if e.Issued = f.issued; e.Issued == 0 {
		// Neither date: older than any line that has one.
		e.Issued = lease.CalendarOf(time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC))
	}
	if len(e.Supersedes) > 0 && f.issued == 0 {
		l.account.note(l.supersedes, "SUPERSEDE has no effect: the line has neither ISSUED nor START")
		e.Supersedes = nil
	}
	if l.borrowMax > 0 {
		e.BorrowHours = l.borrowMax
	}
	if f.site && !e.Uncounted {
		l.account.note(l.account.start(), "DUP_GROUP=SITE lets the whole site share one seat: it is uncounted here")
		e.Count, e.Uncounted = 0, true
	}
	if e.Uncounted && e.Overdraft > 0 {
		l.account.note(l.account.start(), "OVERDRAFT has no effect on an uncounted feature")
		e.Overdraft = 0
	}
	slices.Sort(l.variant)
	e.Variant = fit(strings.Join(l.variant, " "))
}

// fit makes a variant printable and short; one that is cut stays a name of its own.
func fit(s string) string {
	const room = 100
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	if clean == s && len(s) <= lease.MaxNameLen {
		return s
	}
	if len(clean) > room {
		clean = clean[:room]
	}
	return clean + "~" + digest(s)
}

// identityOf is the line without what signs or describes it: two that agree are one.
func identityOf(keyword string, words []flexWord) string {
	parts := []string{keyword}
	for _, w := range words[1:] {
		key, _, keyed := strings.Cut(w.text, "=")
		if keyed && (key == strings.ToLower(key) || strings.HasPrefix(key, "SIGN") || key == "AUTH") {
			continue
		}
		parts = append(parts, w.text)
	}
	return strings.Join(parts, "\x00")
}

// serialOf is the same for the same line wherever it stands, so that the ledger never
// counts it twice.
func serialOf(sn, identity string) string {
	serial := "flex-" + digest(identity)
	if sn != "" && checkName(sn) == nil && len(sn) <= 64 {
		serial = sn + "-" + digest(identity)
	}
	return serial
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:6])
}

// pack reads a PACKAGE line.
func (m *importer) pack(a *LineAccount, words []flexWord) {
	if len(words) < 4 {
		a.reject(words[len(words)-1], "fields are missing: want PACKAGE name vendor [version] COMPONENTS=\"feature ...\"")
		return
	}
	name, vendor := words[1], words[2]
	if err := checkName(name.text); err != nil {
		a.reject(name, "%v", err)
		return
	}
	if err := checkVendor(vendor.text); err != nil {
		a.reject(vendor, "%v", err)
		return
	}
	p := &flexPackage{account: a}
	rest := words[3:]
	if !strings.Contains(rest[0].text, "=") {
		v, err := flexVersion(rest[0].text)
		if err != nil {
			a.reject(rest[0], "%v", err)
			return
		}
		p.version, rest = v, rest[1:]
	}
	for _, w := range rest {
		if err := p.take(w); err != nil {
			a.reject(w, "%v", err)
			return
		}
	}
	switch {
	case p.components == nil:
		a.reject(a.start(), "the package has no COMPONENTS")
		return
	case slices.ContainsFunc(p.components, func(c lease.Component) bool { return c.Feature == name.text }):
		a.reject(a.start(), "the package %s has itself as a component", name.text)
		return
	}
	a.Outcome, a.Became = Imported, p.text()
	k := [2]string{vendor.text, name.text}
	switch old := m.packages[k]; {
	case old != nil && p.issued <= old.issued:
		a.Outcome, a.Became = Replaced, "the package of "+old.account.place()+" counts: it is first, or issued later"
		return
	case old != nil:
		old.account.Outcome, old.account.Became = Replaced, "superseded by "+a.place()+", issued later"
	}
	m.packages[k] = p
	m.order = append(m.order, p)
}

func (p *flexPackage) text() string {
	kind := "a package"
	if p.suite {
		kind = "a suite"
	}
	var parts []string
	for _, c := range p.components {
		parts = append(parts, formatComponent(c))
	}
	return kind + " of " + strings.Join(parts, ", ")
}

// take reads one KEY=value of a PACKAGE line.
func (p *flexPackage) take(w flexWord) (err error) {
	name, value, keyed := strings.Cut(w.text, "=")
	key := strings.ToUpper(name)
	switch {
	case keyed && name == strings.ToLower(name), !keyed && isHex(w.text), slices.Contains(flexSilent, key), strings.HasPrefix(key, "SIGN"):
	case key == "COMPONENTS":
		p.components, err = flexComponents(value)
	case key == "OPTIONS":
		for _, option := range strings.Fields(strings.ToUpper(value)) {
			switch option {
			case "SUITE":
				p.suite = true
			case "SUITE_RESERVED":
				p.suite = true
				p.account.note(w, "SUITE_RESERVED is taken as SUITE")
			default:
				p.account.note(w, "the option %s is not used", shown(option))
			}
		}
	case key == "SUITE_DUP_GROUP":
		rule, site, bad := flexShare(value)
		if site {
			p.account.note(w, "SUITE_DUP_GROUP=SITE is taken as NONE")
		}
		p.share, err = &rule, bad
	case key == "ISSUED":
		day, never, _, bad := flexDate(value)
		if err = bad; err == nil && !never {
			p.issued = lease.CalendarOf(day)
		}
	case key == "SUPERSEDE":
	default:
		p.account.note(w, "%q is not used: it was left out", shown(w.text))
	}
	return err
}
