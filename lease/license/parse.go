package license

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/seatkeeper/seatkeeper/lease"
)

const (
	formatName    = "seatkeeper-license/"
	formatVersion = "1"
	formatLine    = formatName + formatVersion
)

// Parse reads an unsigned document. Text of the licence stays empty. An error is a
// *Error: BadSyntax, UnsupportedFormat, DuplicateSerial or TooLarge.
func Parse(document []byte) (lease.Licence, error) {
	text, err := normalise(document)
	if err != nil {
		return lease.Licence{}, err
	}
	return parse(text)
}

// key is one word that may stand before a colon.
type key[T any] struct {
	name     string
	optional bool
	repeated bool
	set      func(to *T, value string) error
}

var headerKeys = []key[lease.Licence]{
	{name: "license", set: func(l *lease.Licence, v string) error { l.ID = v; return checkName(v) }},
	{name: "vendor", set: func(l *lease.Licence, v string) error { l.Vendor = v; return checkVendor(v) }},
	{name: "tenant", set: func(l *lease.Licence, v string) error { l.Tenant = v; return checkName(v) }},
	{name: "cluster", set: func(l *lease.Licence, v string) (err error) { l.Cluster, err = parseCluster(v); return err }},
	{name: "issued", set: func(l *lease.Licence, v string) (err error) { l.Issued, err = ParseDay(v); return err }},
}

var featureKeys = []key[lease.Entitlement]{
	{name: "feature", optional: true, set: func(e *lease.Entitlement, v string) error { e.Feature = v; return checkName(v) }},
	{name: "package", optional: true, set: func(e *lease.Entitlement, v string) error { e.Feature = v; return checkName(v) }},
	{name: "suite", optional: true, set: func(e *lease.Entitlement, v string) error { e.Feature, e.Package.Suite = v, true; return checkName(v) }},
	{name: "version", set: func(e *lease.Entitlement, v string) error { e.Version = v; return checkVersion(v) }},
	{name: "count", set: parseSeats},
	{name: "start", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Start, err = ParseDay(v); return err }},
	{name: "expiry", set: func(e *lease.Entitlement, v string) (err error) { e.Expiry, err = parseLastDay(v); return err }},
	{name: "serial", set: func(e *lease.Entitlement, v string) error { e.Serial = v; return checkName(v) }},
	{name: "profile", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Profile, err = parseProfile(v); return err }},
	{name: "share", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Share, err = parseShare(v); return err }},
	{name: "component", optional: true, repeated: true, set: addComponent},
	{name: "tokens", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Draw, err = parseTokens(v); return err }},
	{name: "grace", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.GraceDays, err = parseGrace(v); return err }},
	{name: "tz", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Zone, err = ParseZone(v); return err }},
	{name: "overdraft", optional: true, set: func(e *lease.Entitlement, v string) (err error) {
		e.Overdraft, err = parseNumber(v, "a number of seats", lease.MaxCount)
		return err
	}},
	{name: "borrow", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.BorrowHours, err = parseBorrow(v); return err }},
	{name: "linger", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.LingerMin, err = parseFloor(v); return err }},
	{name: "idle-floor", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.IdleFloor, err = parseFloor(v); return err }},
	{name: "min-checkout", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.MinCheckout, err = parseFloor(v); return err }},
	{name: "issued", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Issued, err = ParseDay(v); return err }},
	{name: "supersedes", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Supersedes, err = parseNames(v); return err }},
	{name: "variant", optional: true, set: func(e *lease.Entitlement, v string) (err error) { e.Variant, err = parseVariant(v); return err }},
}

// beginsBlock says whether a key begins a block, of a feature, a package or a suite.
func beginsBlock(key string) bool { return key == "feature" || key == "package" || key == "suite" }

// section is the header or one feature block while it is read.
type section[T any] struct {
	name string
	keys []key[T]
	line int // where it begins
	seen map[string]bool
}

// pair is one "key: value" line.
type pair struct {
	key, value   string
	line, column int // column is that of the value
}

func (s *section[T]) set(to *T, p pair) error {
	for _, k := range s.keys {
		if k.name != p.key {
			continue
		}
		if s.seen[p.key] && !k.repeated {
			return failAt(BadSyntax, p.line, 1, "%q stands twice in the %s: remove one", p.key, s.name)
		}
		s.seen[p.key] = true
		if err := k.set(to, p.value); err != nil {
			return failAt(BadSyntax, p.line, p.column, "%s: %v", p.key, err)
		}
		return nil
	}
	return failAt(BadSyntax, p.line, 1, "unknown key %.40q in the %s: use %s", p.key, s.name, s.known())
}

func (s *section[T]) known() string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.name
	}
	return strings.Join(names, ", ")
}

// complete is nil when no required key is missing.
func (s *section[T]) complete() error {
	for _, k := range s.keys {
		if !k.optional && !s.seen[k.name] {
			return failAt(BadSyntax, s.line, 1, "the %s that begins here has no %q line: add one", s.name, k.name)
		}
	}
	return nil
}

// parser holds a licence while its lines are read. An entitlement is added to it when
// its block ends.
type parser struct {
	licence lease.Licence
	header  section[lease.Licence]
	block   *section[lease.Entitlement] // nil while in the header
	current lease.Entitlement
	serials map[string]int // serial → line
}

// parse reads normalised text.
func parse(text string) (lease.Licence, error) {
	p := &parser{
		header:  section[lease.Licence]{name: "header", keys: headerKeys, line: 1, seen: map[string]bool{}},
		serials: map[string]int{},
	}
	number := 0
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		number++
		if err := p.line(number, line); err != nil {
			return lease.Licence{}, err
		}
	}
	if p.block == nil {
		if err := p.header.complete(); err != nil {
			return lease.Licence{}, err
		}
		return lease.Licence{}, failAt(BadSyntax, number, 1, "the licence has no feature: add a block that begins with \"feature: NAME\"")
	}
	if err := p.endBlock(); err != nil {
		return lease.Licence{}, err
	}
	return p.licence, nil
}

func (p *parser) line(number int, text string) error {
	if number == 1 {
		return checkFormat(text)
	}
	if text == "" {
		return nil
	}
	if err := checkLine(number, text); err != nil {
		return err
	}
	if text[0] == '#' {
		return nil
	}
	kv, err := splitPair(number, text)
	if err != nil {
		return err
	}
	if beginsBlock(kv.key) {
		if err := p.beginBlock(number, kv.key); err != nil {
			return err
		}
	}
	if p.block == nil {
		return p.header.set(&p.licence, kv)
	}
	if err := p.block.set(&p.current, kv); err != nil {
		return err
	}
	if kv.key == "serial" {
		if before, dup := p.serials[kv.value]; dup {
			return failAt(DuplicateSerial, kv.line, kv.column, "serial %q stands on line %d already: give each feature its own", kv.value, before)
		}
		p.serials[kv.value] = number
	}
	return nil
}

func (p *parser) beginBlock(number int, kind string) error {
	if p.block == nil {
		if err := p.header.complete(); err != nil {
			return err
		}
	} else if err := p.endBlock(); err != nil {
		return err
	}
	if len(p.licence.Entitlements) == lease.MaxEntitlements {
		return tooMany(number)
	}
	p.block = &section[lease.Entitlement]{name: kind + " block", keys: featureKeys, line: number, seen: map[string]bool{}}
	p.current = lease.Entitlement{}
	return nil
}

// endBlock judges what needs the whole block, and adds it.
func (p *parser) endBlock() error {
	if err := p.block.complete(); err != nil {
		return err
	}
	e := p.current
	e.Start, e.Expiry = zoned(e.Start, e.Zone), zoned(e.Expiry, e.Zone)
	if p.block.seen["feature"] != (len(e.Package.Components) == 0) {
		return failAt(BadSyntax, p.block.line, 1, "the %s that begins here has %d \"component\" lines: packages and suites have some, features none", p.block.name, len(e.Package.Components))
	}
	if e.Expiry != 0 && e.Expiry <= e.Start {
		return failAt(BadSyntax, p.block.line, 1, "feature %q expires before it starts: correct one of the dates", e.Feature)
	}
	if e.Profile == (lease.Profile{}) {
		e.Profile = lease.DefaultProfile
	}
	if e.Share == (lease.ShareRule{}) {
		e.Share = lease.DefaultShareRule
	}
	if r := e.Check(); r != nil {
		return failAt(BadSyntax, p.block.line, 1, "%s", r.Message)
	}
	p.licence.Entitlements = append(p.licence.Entitlements, e)
	return nil
}

func checkFormat(text string) error {
	if text == formatLine {
		return nil
	}
	if version, ok := strings.CutPrefix(text, formatName); ok && isDigits(version) {
		return failAt(UnsupportedFormat, 1, 1, "licence format version %.20q is unknown here: upgrade Seatkeeper, or ask the vendor for format %s", version, formatVersion)
	}
	return failAt(BadSyntax, 1, 1, "not a Seatkeeper licence: the first line must be %q", formatLine)
}

// checkLine refuses what a person cannot see or a mail program would change.
func checkLine(number int, text string) error {
	if len(text) > maxLineBytes {
		return failAt(BadSyntax, number, 1, "the line has %d bytes, the limit is %d: break it", len(text), maxLineBytes)
	}
	if strings.HasPrefix(text, signatureMark) {
		return failAt(BadSyntax, number, 1, "the document is signed already: remove the signature line to sign it again")
	}
	column := 0
	for i, r := range text {
		column++
		if r == utf8.RuneError && !strings.HasPrefix(text[i:], string(utf8.RuneError)) {
			return failAt(BadSyntax, number, column, "not UTF-8: save the file as UTF-8")
		}
		if !unicode.IsPrint(r) {
			return failAt(BadSyntax, number, column, "invisible character %U: remove it or use a space", r)
		}
	}
	if text[0] == ' ' {
		return failAt(BadSyntax, number, 1, "the line begins with a space: remove it, mail programs change such lines")
	}
	if text[len(text)-1] == ' ' {
		return failAt(BadSyntax, number, column, "the line ends with a space: remove it, mail programs change such lines")
	}
	return nil
}

// splitPair reads "key: value"; more spaces after the colon are for alignment.
func splitPair(number int, text string) (pair, error) {
	name, rest, ok := strings.Cut(text, ":")
	if !ok || name == "" {
		return pair{}, failAt(BadSyntax, number, 1, "%.40q is not \"key: value\": correct the line, or begin it with # as a comment", text)
	}
	value := strings.TrimLeft(rest, " ")
	column := utf8.RuneCountInString(text) - utf8.RuneCountInString(value) + 1
	switch {
	case value == "":
		return pair{}, failAt(BadSyntax, number, column, "%.40q has no value: add one", name)
	case value == rest:
		return pair{}, failAt(BadSyntax, number, column, "no space after %.40q: write \"key: value\"", name+":")
	}
	return pair{key: name, value: value, line: number, column: column}, nil
}
