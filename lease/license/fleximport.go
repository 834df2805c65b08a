package license

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Source is one file to be imported.
type Source struct {
	Name string
	Data []byte
}

// ImportOptions say what a FlexNet file does not.
type ImportOptions struct {
	// ID is the id of the licence; with several vendors, each gets "ID-vendor".
	ID, Tenant, Cluster string
	// Issued is the date of issue, a whole UTC day.
	Issued lease.Calendar
	// Zone is where the days of the file's dates are, in minutes ahead of UTC: FlexNet means
	// the server's own place.
	Zone int
	// Profile is given to every feature; zero: the default.
	Profile lease.Profile
}

// Outcome says what became of one line.
type Outcome string

// Outcomes. A line that is not imported says why in its notes.
const (
	Imported   Outcome = "imported"   // it is in the document
	NotNeeded  Outcome = "not_needed" // it says nothing that Seatkeeper needs
	Replaced   Outcome = "replaced"   // another line counts in its place
	NotTaken   Outcome = "rejected"   // it cannot be taken over
	NotKnown   Outcome = "unknown"    // it is no line of a licence file
	maxSources         = 64
)

// MaxImportBytes bounds the files of one import together. Files of a hundred vendors are
// a tenth of it.
const MaxImportBytes = 16 << 20

// Note is a remark on a line, at the place it is about.
type Note struct {
	Line   int    `json:"line"`
	Column int    `json:"column"`
	Text   string `json:"text"`
}

// LineAccount is what became of one logical line.
type LineAccount struct {
	File    string  `json:"file"`
	Line    int     `json:"line"`
	Last    int     `json:"last_line"`
	Column  int     `json:"column"`
	Keyword string  `json:"keyword"`
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Became  string  `json:"became"`
	Notes   []Note  `json:"notes"`
}

// Document is the unsigned licence of one vendor. Its key signs it (Sign).
type Document struct {
	Vendor  string
	Licence lease.Licence
	Text    []byte
}

// Import is what FlexNet files come to.
type Import struct {
	Documents []Document
	// Account has every logical line that is no comment, in order.
	Account []LineAccount
	// Comments counts the lines that are comments.
	Comments int
}

// ImportFlexNet reads FlexNet licence files. It fails as a whole only when they are too
// large or nothing in them can be licensed; the account is there all the same. Signatures
// in them are not checked: no key is known for them.
func ImportFlexNet(sources []Source, o ImportOptions) (Import, error) {
	size := 0
	for _, s := range sources {
		size += len(s.Data)
	}
	if size > MaxImportBytes || len(sources) > maxSources {
		return Import{}, failf(TooLarge, "%d files with %d bytes to import; at most %d files with %d bytes are possible", len(sources), size, maxSources, MaxImportBytes)
	}
	m := &importer{options: o, packages: map[[2]string]*flexPackage{}}
	for _, s := range sources {
		lines, comments := flexLines(string(s.Data))
		m.out.Comments += comments
		for _, l := range lines {
			m.line(s.Name, l)
		}
	}
	m.replaceSuperseded()
	m.keepFirstFeatures()
	m.upgrade()
	m.open()
	m.leaveUnusedPackages()
	err := m.write()
	for _, a := range m.accounts {
		m.out.Account = append(m.out.Account, *a)
	}
	return m.out, err
}

// importer holds the lines between their reading and the document.
type importer struct {
	options  ImportOptions
	out      Import
	accounts []*LineAccount
	features []*flexFeature // FEATURE, INCREMENT and UPGRADE lines that could be read
	packages map[[2]string]*flexPackage
	order    []*flexPackage
}

// flexFeature is a line that licenses something.
type flexFeature struct {
	account   *LineAccount
	e         lease.Entitlement
	vendor    string
	first     bool // FEATURE: only the first of a name counts
	from      string
	issued    lease.Calendar // ISSUED, else START; 0: neither
	site      bool
	gone      bool
	as        string // the package it became
	identical string // the line without its signatures
}

// flexPackage is a PACKAGE line.
type flexPackage struct {
	account    *LineAccount
	version    string
	components []lease.Component
	suite      bool
	share      *lease.ShareRule
	issued     lease.Calendar
	used       bool
}

func (a *LineAccount) note(w flexWord, format string, args ...any) {
	a.Notes = append(a.Notes, Note{Line: w.line, Column: w.column, Text: fmt.Sprintf(format, args...)})
}

// reject notes why the line cannot be taken over.
func (a *LineAccount) reject(w flexWord, format string, args ...any) {
	a.Outcome, a.Became = NotTaken, "not imported"
	a.note(w, format, args...)
}

func (a *LineAccount) start() flexWord { return flexWord{line: a.Line, column: a.Column} }

// place names the line in a remark on another one.
func (a *LineAccount) place() string { return fmt.Sprintf("%s:%d", a.File, a.Line) }

// line reads one logical line.
func (m *importer) line(file string, l flexLine) {
	head := l.words[0]
	a := &LineAccount{File: file, Line: l.line, Last: l.last, Column: head.column, Keyword: strings.ToUpper(shown(head.text)), Notes: []Note{}}
	if len(l.words) > 1 {
		a.Name = shown(l.words[1].text)
	}
	m.accounts = append(m.accounts, a)
	if l.openLine != 0 {
		a.reject(flexWord{line: l.openLine, column: l.openColumn}, "this quote is not closed before line %d ends: close it", l.last)
		return
	}
	switch a.Keyword {
	case "SERVER":
		m.server(a, l.words)
	case "VENDOR", "DAEMON":
		m.vendorLine(a, l.words)
	case "USE_SERVER":
		a.Outcome, a.Became = NotNeeded, "every client asks the cluster"
	case "FEATURESET":
		a.Outcome, a.Became = NotNeeded, "an obsolete checksum over the file"
	case "FEATURE", "INCREMENT", "UPGRADE":
		m.feature(a, l.words)
	case "PACKAGE":
		m.pack(a, l.words)
	default:
		a.Outcome, a.Became = NotKnown, "not imported"
		a.note(head, "%q begins no line of a licence file: nothing of it was taken over", shown(head.text))
	}
}

func (m *importer) server(a *LineAccount, words []flexWord) {
	a.Outcome, a.Became = NotNeeded, "clients find the cluster by SEATKEEPER_ADDR"
	if len(words) < 3 {
		a.note(words[len(words)-1], "a SERVER line has a host and a host id")
		return
	}
	for _, w := range words[3:] {
		if !isDigits(w.text) && !strings.Contains(w.text, "=") && !strings.EqualFold(w.text, "PRIMARY_IS_MASTER") {
			a.note(w, "%q is neither a port nor a KEY=VALUE", shown(w.text))
		}
	}
}

func (m *importer) vendorLine(a *LineAccount, words []flexWord) {
	a.Outcome, a.Became = NotNeeded, "no daemon is needed"
	if len(words) < 2 {
		a.note(words[0], "a %s line has the vendor's name", a.Keyword)
		return
	}
	a.Became = "no daemon is needed; the key of vendor " + a.Name + " signs the document"
	for n, w := range words[2:] {
		key, value, keyed := strings.Cut(w.text, "=")
		switch {
		case keyed && strings.EqualFold(key, "options"):
			a.note(w, "the options file %s is imported by itself: seatkeeper policy check", shown(value))
		case keyed && strings.EqualFold(key, "port"), keyed && strings.EqualFold(key, "path"), isDigits(w.text), n == 0:
		case n == 1:
			a.note(w, "the options file %s is imported by itself: seatkeeper policy check", shown(w.text))
		default:
			a.note(w, "%q is not known on this line", shown(w.text))
		}
	}
}

// replaceSuperseded drops lines that a later one supersedes, here. The document says it
// too, for licences that are installed already.
func (m *importer) replaceSuperseded() {
	type latest struct {
		issued lease.Calendar
		by     *flexFeature
	}
	before := map[[2]string]latest{}
	for _, f := range m.features {
		for _, name := range f.e.Supersedes {
			if k := ([2]string{f.vendor, name}); f.issued > before[k].issued {
				before[k] = latest{f.issued, f}
			}
		}
	}
	for _, f := range m.features {
		if x := before[[2]string{f.vendor, f.e.Feature}]; x.by != nil && f.issued < x.issued {
			f.replaced("superseded by %s, issued later", x.by.account.place())
		}
	}
}

// replaced says which other line counts instead.
func (f *flexFeature) replaced(format string, args ...any) {
	f.gone = true
	f.account.Outcome, f.account.Became = Replaced, fmt.Sprintf(format, args...)
}

// keepFirstFeatures drops later FEATURE lines of a name, and lines that are there twice.
func (m *importer) keepFirstFeatures() {
	first, same := map[[2]string]*flexFeature{}, map[string]*flexFeature{}
	for _, f := range m.features {
		if f.gone {
			continue
		}
		if x := same[f.identical]; x != nil {
			f.replaced("the same as %s: it counts once", x.account.place())
			continue
		}
		same[f.identical] = f
		if !f.first {
			continue
		}
		k := [2]string{f.vendor, f.e.Feature}
		if x := first[k]; x != nil {
			f.replaced("only the first FEATURE of a name counts, which is %s; INCREMENT lines add", x.account.place())
			continue
		}
		first[k] = f
	}
}

// upgrade moves seats of older versions to the version of an UPGRADE line. It is about
// the lines before it.
func (m *importer) upgrade() {
	for n, up := range m.features {
		if up.from == "" || up.gone {
			continue
		}
		want, uncounted, found := up.e.Count, up.e.Uncounted, 0
		for _, f := range m.features[:n] {
			old := &f.e
			if f.gone || f.vendor != up.vendor || old.Feature != up.e.Feature || lease.CompareVersions(old.Version, up.from) < 0 ||
				lease.CompareVersions(old.Version, up.e.Version) >= 0 {
				continue
			}
			if old.Uncounted || uncounted {
				up.e.Count, up.e.Uncounted = old.Count, old.Uncounted
				found = max(found, 1)
				f.replaced("upgraded to %s by %s", up.e.Version, up.account.place())
				break
			}
			take := min(old.Count, want-found)
			if take == 0 {
				continue
			}
			found += take
			if old.Count -= take; old.Count == 0 {
				f.replaced("all its seats are upgraded to %s by %s", up.e.Version, up.account.place())
				continue
			}
			f.account.note(f.account.start(), "%d of its seats are upgraded to %s by %s", take, up.e.Version, up.account.place())
		}
		switch {
		case found == 0:
			up.gone = true
			up.account.reject(up.account.start(), "no line before it licenses version %s up to below %s of %s: there is nothing to upgrade", up.from, up.e.Version, up.e.Feature)
		case !up.e.Uncounted && found < want:
			up.e.Count = found
			up.account.note(up.account.start(), "only %d of %d seats were there to upgrade", found, want)
		}
	}
}

// open makes packages of the lines that license a package's name.
func (m *importer) open() {
	for _, f := range m.features {
		p := m.packages[[2]string{f.vendor, f.e.Feature}]
		if p == nil || f.gone {
			continue
		}
		if p.version != "" && lease.CompareVersions(p.version, f.e.Version) != 0 {
			f.account.note(f.account.start(), "the package %s of %s has version %s: it is licensed by this name alone", f.e.Feature, p.account.place(), p.version)
			continue
		}
		p.used = true
		f.e.Package = lease.Package{Suite: p.suite, Components: slices.Clone(p.components)}
		if p.share != nil {
			f.e.Share = *p.share
		}
		f.as = ", as " + p.text()
		if r := f.e.Check(); r != nil {
			f.gone = true
			f.account.reject(f.account.start(), "%s", r.Message)
		}
	}
}

func (m *importer) leaveUnusedPackages() {
	for _, p := range m.order {
		if !p.used && p.account.Outcome == Imported {
			p.account.reject(p.account.start(), "no FEATURE or INCREMENT line licenses the package %s", p.account.Name)
		}
	}
}

// write makes one document of each vendor.
func (m *importer) write() error {
	var vendors []string
	by := map[string][]*flexFeature{}
	for _, f := range m.features {
		if f.gone {
			continue
		}
		if by[f.vendor] == nil {
			vendors = append(vendors, f.vendor)
		}
		by[f.vendor] = append(by[f.vendor], f)
		f.account.Became = f.text()
	}
	if len(vendors) == 0 {
		return failf(NothingToImport, "nothing in these files can be licensed: see what is said of each line")
	}
	for _, v := range vendors {
		if n := len(by[v]); n > lease.MaxEntitlements {
			return failf(TooLarge, "vendor %s has %d features and increments, a licence has at most %d: import parts of the file one by one, each with an --id of its own", v, n, lease.MaxEntitlements)
		}
		l := lease.Licence{ID: m.options.ID, Vendor: v, Tenant: m.options.Tenant, Cluster: m.options.Cluster, Issued: m.options.Issued}
		if len(vendors) > 1 {
			l.ID += "-" + v
		}
		var b bytes.Buffer
		formatHeader(&b, &l)
		b.WriteString("\n# Imported from FlexNet licence lines, whose signatures were not checked.\n")
		for _, f := range by[v] {
			l.Entitlements = append(l.Entitlements, f.e)
			fmt.Fprintf(&b, "\n# %s of %s\n", f.account.Keyword, shown(f.account.place()))
			for _, n := range f.account.Notes {
				fmt.Fprintf(&b, "# %s\n", shownLong(n.Text))
			}
			formatBlock(&b, &f.e)
		}
		if b.Len() > MaxFileBytes {
			return failf(TooLarge, "the document of vendor %s would have %d bytes, a licence has at most %d: import parts of the file one by one, each with an --id of its own", v, b.Len(), MaxFileBytes)
		}
		if _, err := Parse(b.Bytes()); err != nil {
			return fmt.Errorf("the document of vendor %s: %w", v, err)
		}
		m.out.Documents = append(m.out.Documents, Document{Vendor: v, Licence: l, Text: b.Bytes()})
	}
	return nil
}

// shownLong is shown for remarks, which are made here and short but for what they quote.
func shownLong(s string) string {
	const limit = 500
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return strings.TrimSpace(s)
}

// Summary counts the lines by outcome.
func (m *Import) Summary() map[Outcome]int {
	n := map[Outcome]int{}
	for _, a := range m.Account {
		n[a.Outcome]++
	}
	return n
}

// text says what the line is in the document.
func (f *flexFeature) text() string {
	e := &f.e
	return fmt.Sprintf("%s %s, %s, until %s, serial %s%s", e.Feature, e.Version, seatsText(e), formatLastDay(zoned(e.Expiry, -e.Zone)), e.Serial, f.as)
}

func seatsText(e *lease.Entitlement) string {
	if e.Uncounted {
		return uncountedWord
	}
	if e.Count == 1 {
		return "1 seat"
	}
	return fmt.Sprintf("%d seats", e.Count)
}

// Keep drops the documents of other vendors; "" keeps all.
func (m *Import) Keep(vendor string) {
	if vendor != "" {
		m.Documents = slices.DeleteFunc(m.Documents, func(d Document) bool { return d.Vendor != vendor })
	}
}
