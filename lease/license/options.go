package license

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seatkeeper/seatkeeper/lease"
)

// MaxOptionsBytes bounds an options file: the largest in use have some thousand lines.
const MaxOptionsBytes = 1 << 20

// Fate says what becomes of a line of a foreign file.
type Fate string

// Fates.
const (
	Used      Fate = "used"     // it becomes part of the policy
	NotUsed   Fate = "not used" // a known keyword that means nothing here
	Unknown   Fate = "unknown"  // no keyword of the grammar
	Malformed Fate = "wrong"    // a known keyword with something wrong behind it
)

// OptionsLine is the account of one logical line.
type OptionsLine struct {
	// Line and Column, from 1 and in characters, are where it begins; of a wrong line,
	// where it is wrong.
	Line, Column int
	// Text is the line, its parts separated by single spaces, cut if it is long.
	Text string
	Fate Fate
	// Becomes says in plain words what the line becomes, or what is wrong with it.
	Becomes string
}

// Options is a FlexNet options file, read.
type Options struct {
	Policy lease.Policy
	// Lines are all lines that are neither empty nor comments, in order.
	Lines []OptionsLine
	// OfRule and OfGroup give for each rule and group of Policy the index in Lines of the
	// line (the first, for a group) that it comes from.
	OfRule, OfGroup []int
}

// Wrong counts the lines with this fate.
func (o *Options) Count(f Fate) (n int) {
	for i := range o.Lines {
		if o.Lines[i].Fate == f {
			n++
		}
	}
	return n
}

// ParseOptions reads a FlexNet options file. What is wrong with a line stands in the
// account; the error is for a file that is none at all.
//
// One option stands on a line; a backslash at its end continues it, # begins a comment,
// quotes keep spaces. Keywords and types are read in any case.
func ParseOptions(file []byte) (*Options, error) {
	if len(file) > MaxOptionsBytes {
		return nil, failf(TooLarge, "the options file has %d bytes; at most %d are possible", len(file), MaxOptionsBytes)
	}
	if line, column, ok := firstBadByte(file); !ok {
		return nil, failAt(BadSyntax, line, column, "a character that is no text: save the file as UTF-8")
	}
	r := optionsReader{groups: map[string]int{}}
	s := wordScanner{rest: strings.TrimPrefix(string(file), "\ufeff"), line: 1}
	for words := s.next(); words != nil; words = s.next() {
		r.line(words)
	}
	r.judge()
	return &r.Options, nil
}

// firstBadByte finds the first byte that is no text.
func firstBadByte(file []byte) (line, column int, ok bool) {
	line, column = 1, 1
	for len(file) > 0 {
		r, n := utf8.DecodeRune(file)
		switch {
		case r == utf8.RuneError && n == 1 || r == 0:
			return line, column, false
		case r == '\n':
			line, column = line+1, 0
		}
		file = file[n:]
		column++
	}
	return 0, 0, true
}

// word is one part of a line and where it stands.
type word struct {
	text         string
	line, column int
}

// wordScanner cuts a file into logical lines and these into words.
type wordScanner struct {
	rest string
	line int
}

// next gives the words of the next logical line that has some; nil at the end.
func (s *wordScanner) next() []word {
	var words []word
	for s.rest != "" {
		physical, rest, _ := strings.Cut(s.rest, "\n")
		s.rest = rest
		physical = strings.TrimRight(physical, " \t\r")
		body, continued := strings.CutSuffix(physical, `\`)
		found, comment := cutWords(body, s.line)
		words = append(words, found...)
		s.line++
		if (!continued || comment) && len(words) > 0 {
			return words
		}
	}
	return words
}

// cutWords cuts one line into words; comment says that a comment ended it.
func cutWords(line string, number int) (words []word, comment bool) {
	var b strings.Builder
	open, started, column, start := false, false, 0, 0
	flush := func() {
		if started {
			words = append(words, word{b.String(), number, start})
			b.Reset()
			started = false
		}
	}
	for _, c := range line {
		column++
		switch {
		case c == '"':
			if !started {
				started, start = true, column
			}
			open = !open
		case !open && (c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'):
			flush()
		case !open && !started && c == '#':
			return words, true
		default:
			if !started {
				started, start = true, column
			}
			b.WriteRune(c)
		}
	}
	flush()
	return words, false
}

// optionsReader turns lines into a policy and an account.
type optionsReader struct {
	Options
	groups map[string]int // index in Policy.Groups, by kind and name
}

// option is what is known of a keyword: the kind of rule and which parts follow.
type option struct {
	kind  lease.RuleKind
	parts string // f feature, n number, s seconds, w type and name
}

var options = map[string]option{
	"INCLUDE":          {lease.RuleInclude, "fw"},
	"INCLUDEALL":       {lease.RuleInclude, "w"},
	"EXCLUDE":          {lease.RuleExclude, "fw"},
	"EXCLUDEALL":       {lease.RuleExclude, "w"},
	"RESERVE":          {lease.RuleReserve, "nfw"},
	"MAX":              {lease.RuleMax, "nfw"},
	"LINGER":           {lease.RuleLinger, "fs"},
	"TIMEOUT":          {lease.RuleIdleTimeout, "fs"},
	"TIMEOUTALL":       {lease.RuleIdleTimeout, "s"},
	"MAX_OVERDRAFT":    {lease.RuleMaxOverdraft, "fn"},
	"INCLUDE_BORROW":   {lease.RuleIncludeBorrow, "fw"},
	"EXCLUDE_BORROW":   {lease.RuleExcludeBorrow, "fw"},
	"MAX_BORROW_HOURS": {lease.RuleMaxBorrow, "fn"},
	"BORROW_LOWWATER":  {lease.RuleBorrowLow, "fn"},
}

// notUsed are keywords that mean something to FlexNet and nothing here, and why.
var notUsed = map[string]string{
	"DEBUGLOG":                 "the debug log is set in the config file",
	"REPORTLOG":                "usage records take its place: seatkeeper usage",
	"NOLOG":                    "what is logged is set in the config file",
	"MAX_CONNECTIONS":          "connections are limited in the config file",
	"AUTOMATIC_REREAD":         "nothing is read again: license apply and policy apply work at once",
	"DAEMON_SELECT_TIMEOUT":    "there is no vendor daemon",
	"FQDN_MATCHING":            "host names are compared as they are; use wildcards",
	"MAX_CONSUMABLE":           "there are no consumable licences",
	"BORROW_LOWWATERALL":       "name each feature",
	"SUSPENDED_HOST":           "nothing of this kind is kept",
	"TRANSIENT_LINGER_TIMEOUT": "nothing of this kind is kept",
}

// notUsedPrefix and notUsedSuffix are families of such keywords.
const (
	notUsedPrefix = "ACTIVATION_"
	notUsedSuffix = "_ENTITLEMENT"
)

// maxShownLine is how much of a line a message shows: about two of a terminal.
const maxShownLine = 160

func (r *optionsReader) line(words []word) {
	var text []string
	for _, w := range words {
		if strings.ContainsAny(w.text, " \t") || w.text == "" {
			text = append(text, `"`+w.text+`"`)
		} else {
			text = append(text, w.text)
		}
	}
	l := OptionsLine{Line: words[0].line, Column: words[0].column, Text: shorten(strings.Join(text, " "), maxShownLine), Fate: Used}
	fail := func(at word, format string, args ...any) {
		l.Fate, l.Line, l.Column, l.Becomes = Malformed, at.line, at.column, fmt.Sprintf(format, args...)
	}
	keyword := strings.ToUpper(words[0].text)
	option, known := options[keyword]
	why, idle := notUsed[keyword]
	switch {
	case keyword == "GROUP" || keyword == "HOST_GROUP":
		r.group(&l, words, keyword == "HOST_GROUP", fail)
	case keyword == "GROUPCASEINSENSITIVE":
		r.foldCase(&l, words, fail)
	case known:
		r.rule(&l, option, words, fail)
	case idle:
		l.Fate, l.Becomes = NotUsed, why
	case strings.HasPrefix(keyword, notUsedPrefix) || strings.HasSuffix(keyword, notUsedSuffix):
		l.Fate, l.Becomes = NotUsed, "there is no activation of this kind"
	default:
		l.Fate, l.Becomes = Unknown, fmt.Sprintf("no such option as %s", shorten(words[0].text, 40))
	}
	r.Lines = append(r.Lines, l)
}

type failure func(at word, format string, args ...any)

func (r *optionsReader) group(l *OptionsLine, words []word, hosts bool, fail failure) {
	what := "group"
	if hosts {
		what = "host group"
	}
	if len(words) < 2 {
		fail(words[0], "the name of the %s is missing", what)
		return
	}
	name := words[1].text
	at, known := r.groups[what+"\x00"+name]
	if !known {
		at = len(r.Policy.Groups)
		r.groups[what+"\x00"+name] = at
		r.Policy.Groups = append(r.Policy.Groups, lease.PolicyGroup{Name: name, Hosts: hosts})
		r.OfGroup = append(r.OfGroup, len(r.Lines))
	}
	g := &r.Policy.Groups[at]
	for _, w := range words[2:] {
		g.Members = append(g.Members, w.text)
	}
	l.Becomes = fmt.Sprintf("%s %s with %d member(s)", what, shorten(name, 40), len(words)-2)
	if known {
		l.Becomes = fmt.Sprintf("%d more member(s) of %s %s, %d by now", len(words)-2, what, shorten(name, 40), len(g.Members))
	}
}

func (r *optionsReader) foldCase(l *OptionsLine, words []word, fail failure) {
	if len(words) != 2 {
		fail(words[0], "want ON or OFF behind it")
		return
	}
	switch strings.ToUpper(words[1].text) {
	case "ON":
		r.Policy.FoldCase = true
		l.Becomes = "names are compared without regard to case"
	case "OFF":
		r.Policy.FoldCase = false
		l.Becomes = "names are compared with regard to case"
	default:
		fail(words[1], "%q is neither ON nor OFF", shorten(words[1].text, 40))
	}
}

func (r *optionsReader) rule(l *OptionsLine, o option, words []word, fail failure) {
	x := lease.Rule{Kind: o.kind}
	rest := words[1:]
	take := func(what string) (word, bool) {
		if len(rest) == 0 {
			fail(words[len(words)-1], "%s is missing at the end of the line", what)
			return word{}, false
		}
		w := rest[0]
		rest = rest[1:]
		return w, true
	}
	for _, part := range o.parts {
		switch part {
		case 'f':
			w, ok := take("the feature")
			if !ok {
				return
			}
			x.Feature = w.text
			if w.text == "" {
				fail(w, "the feature is empty")
				return
			}
		case 'n', 's':
			w, ok := take("the number")
			if !ok {
				return
			}
			n, err := strconv.Atoi(w.text)
			if err != nil || n < 0 || n > maxOptionNumber {
				fail(w, "%q is no whole number from 0 to %d", shorten(w.text, 40), maxOptionNumber)
				return
			}
			if part == 'n' {
				x.Seats = n
			} else {
				x.Time = time.Duration(n) * time.Second
			}
		case 'w':
			kind, ok := take("the type (USER, HOST, DISPLAY, INTERNET, PROJECT, GROUP, HOST_GROUP)")
			if !ok {
				return
			}
			if x.Who.Type, ok = lease.SubjectTypeOf(strings.ToLower(kind.text)); !ok {
				fail(kind, "%q is no type: want USER, HOST, DISPLAY, INTERNET, PROJECT, GROUP or HOST_GROUP", shorten(kind.text, 40))
				return
			}
			name, ok := take("the name")
			if !ok {
				return
			}
			x.Who.Name = name.text
		}
	}
	if len(rest) > 0 {
		fail(rest[0], "%q is one word too many", shorten(rest[0].text, 40))
		return
	}
	l.Becomes = x.Explain()
	r.Policy.Rules = append(r.Policy.Rules, x)
	r.OfRule = append(r.OfRule, len(r.Lines))
}

// maxOptionNumber bounds the numbers of an options file; as seconds it is eleven days
// more than the longest time that a policy takes.
const maxOptionNumber = 3_600_000

// judge notes at their lines what is wrong with the policy as a whole: a group that is
// not defined is known only at the end of the file.
func (r *optionsReader) judge() {
	for _, f := range r.Policy.Faults() {
		at := -1
		switch {
		case f.Rule >= 0:
			at = r.OfRule[f.Rule]
		case f.Group >= 0:
			at = r.OfGroup[f.Group]
		}
		if at < 0 {
			r.Lines = append(r.Lines, OptionsLine{Line: 1, Column: 1, Text: "(the whole file)", Fate: Malformed, Becomes: f.Message})
			continue
		}
		if l := &r.Lines[at]; l.Fate != Malformed {
			l.Fate, l.Becomes = Malformed, f.Message
		}
	}
}

// shorten cuts a text that is too long to be shown, and what could not be printed.
func shorten(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if len([]rune(s)) <= most {
		return s
	}
	return string([]rune(s)[:most-1]) + "…"
}
