package license

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reading a FlexNet licence file into logical lines of words. Nothing is judged here but
// the quotes; every word knows where it stands, so that what is said of it can be found.

// flexWord is one word of a logical line. Quotes are taken off; a word of KEY="a b" is one.
type flexWord struct {
	text         string
	quoted       bool // some of it was in quotes
	line, column int
}

// flexLine is one logical line: physical ones joined by a backslash at their ends.
type flexLine struct {
	words      []flexWord
	line, last int // the first and last physical line
	// A quote that is not closed; 0: none.
	openLine, openColumn int
}

// flexLines cuts a file into logical lines. Comments and empty lines are counted only.
func flexLines(data string) (lines []flexLine, comments int) {
	data = strings.TrimPrefix(data, utf8BOM)
	physical := strings.Split(strings.ReplaceAll(data, "\r\n", "\n"), "\n")
	for i := 0; i < len(physical); i++ {
		text := strings.TrimSpace(physical[i])
		if text == "" {
			continue
		}
		if text[0] == '#' {
			comments++
			continue
		}
		l := flexLexer{flexLine: flexLine{line: i + 1}}
		for more := true; more; {
			more = l.read(physical[i], i+1) && i+1 < len(physical)
			if more {
				i++
			}
		}
		l.last = i + 1
		l.endWord()
		if l.inQuote {
			l.openLine, l.openColumn = l.quoteLine, l.quoteColumn
		}
		if len(l.words) == 0 { // a backslash alone
			l.words = []flexWord{{text: text, line: l.line, column: 1}}
		}
		lines = append(lines, l.flexLine)
	}
	return lines, comments
}

type flexLexer struct {
	flexLine
	word                   strings.Builder
	in, quoted, inQuote    bool
	wordLine, wordColumn   int
	quoteLine, quoteColumn int
}

// read takes in one physical line; it says whether the next one continues it.
func (l *flexLexer) read(text string, number int) (more bool) {
	text = strings.TrimRight(text, " \t\r\n\v\f")
	text, more = strings.CutSuffix(text, `\`)
	column := 0
	for _, r := range text {
		column++
		switch {
		case r == '"':
			l.begin(number, column)
			l.quoted = true
			if l.inQuote = !l.inQuote; l.inQuote {
				l.quoteLine, l.quoteColumn = number, column
			}
		case unicode.IsSpace(r) && !l.inQuote:
			l.endWord()
		case unicode.IsSpace(r):
			l.word.WriteByte(' ')
		default:
			l.begin(number, column)
			l.word.WriteRune(r)
		}
	}
	if !l.inQuote {
		l.endWord()
	}
	return more
}

func (l *flexLexer) begin(line, column int) {
	if !l.in {
		l.in, l.wordLine, l.wordColumn = true, line, column
	}
}

func (l *flexLexer) endWord() {
	if l.in {
		l.words = append(l.words, flexWord{text: l.word.String(), quoted: l.quoted, line: l.wordLine, column: l.wordColumn})
	}
	l.word.Reset()
	l.in, l.quoted = false, false
}

// shown makes a piece of a foreign file fit to be shown in one line.
func shown(s string) string {
	const limit = 60
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "..."
	}
	return s
}
