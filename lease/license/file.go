package license

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/seatkeeper/seatkeeper/lease"
)

const (
	// MaxFileBytes bounds a signed file after normalisation. The file and the
	// entitlements read from it, which are never longer, share one log entry of
	// 512 KiB.
	MaxFileBytes = 256 << 10
	// maxRawBytes bounds what is normalised at all: at worst every byte of a file is
	// a newline that arrives as CRLF, after a byte order mark.
	maxRawBytes = 2*MaxFileBytes + len(utf8BOM)
	// maxLineBytes keeps lines below the 998 characters that mail can carry unbroken
	// (RFC 5322), with room for the ">" of a quoted reply.
	maxLineBytes = 990

	utf8BOM = "\xef\xbb\xbf"
	// signatureMark begins a signature line of a signed note: em dash, space.
	signatureMark = "\u2014 "
	// signatureBytes is a key hash and an Ed25519 signature.
	signatureBytes = 4 + 64
)

// normalise gives the one form of a file that is signed, verified and kept: no byte
// order mark, LF line ends, exactly one newline at the end.
func normalise(file []byte) (string, error) {
	if len(file) > maxRawBytes {
		return "", tooLarge(len(file))
	}
	if bytes.HasPrefix(file, []byte("\xff\xfe")) || bytes.HasPrefix(file, []byte("\xfe\xff")) {
		return "", failAt(BadSyntax, 1, 1, "the file is UTF-16 text: save it as UTF-8")
	}
	text := strings.TrimPrefix(string(file), utf8BOM)
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.TrimRight(text, "\n") + "\n"
	if len(text) > MaxFileBytes {
		return "", tooLarge(len(text))
	}
	if i := strings.IndexByte(text, '\r'); i >= 0 {
		line, column := placeOf(text, i)
		return "", failAt(BadSyntax, line, column, "carriage return inside a line: end lines with LF or CRLF")
	}
	return text, nil
}

func tooLarge(size int) error {
	return failf(TooLarge, "the file has %d bytes, the limit is %d (and %d features): split it into several licences", size, MaxFileBytes, lease.MaxEntitlements)
}

func tooMany(line int) error {
	return failAt(BadSyntax, line, 1, "more than %d features, the limit of one licence: split it into several, each with its own id", lease.MaxEntitlements)
}

// placeOf gives line and column of the byte at offset.
func placeOf(text string, offset int) (line, column int) {
	before := text[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[start:]) + 1
}

// signature is a parsed signature line. It says who is meant to have signed.
type signature struct {
	vendor string
	hash   uint32
}

// key names the signing key as it begins in its verifier key: vendor+hash.
func (s *signature) key() string { return fmt.Sprintf("%s+%08x", s.vendor, s.hash) }

// split cuts normalised text into the document and its signature, which is nil if
// there is none. It checks the form of the signature line only.
func split(text string) (document string, sig *signature, err error) {
	at := 0
	if !strings.HasPrefix(text, signatureMark) {
		at = strings.Index(text, "\n"+signatureMark) + 1
		if at == 0 {
			return text, nil, nil
		}
	}
	line, _ := placeOf(text, at)
	document, ok := strings.CutSuffix(text[:at], "\n")
	if !ok || !strings.HasSuffix(document, "\n") {
		return "", nil, failAt(BadSyntax, line, 1, "the signature must follow the document after one empty line: get the file again")
	}
	signed, rest, _ := strings.Cut(text[at:], "\n")
	switch {
	case strings.HasPrefix(rest, signatureMark):
		return "", nil, failAt(BadSignature, line+1, 1, "a second signature: a licence has exactly one, get the file again from its vendor")
	case rest != "":
		return "", nil, failAt(BadSyntax, line+1, 1, "text after the signature: remove everything below line %d", line)
	}
	sig, err = parseSignature(strings.TrimPrefix(signed, signatureMark))
	if err != nil {
		return "", nil, failAt(BadSignature, line, 1, "%v: get the file again from its vendor", err)
	}
	return document, sig, nil
}

// parseSignature reads "vendor base64". Base64 is read strictly, so that one
// signature has one spelling.
func parseSignature(s string) (*signature, error) {
	vendor, encoded, ok := strings.Cut(s, " ")
	if !ok || checkVendor(vendor) != nil {
		return nil, fmt.Errorf("the signature line is damaged")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) != signatureBytes {
		return nil, fmt.Errorf("the signature is damaged or cut off")
	}
	return &signature{vendor: vendor, hash: binary.BigEndian.Uint32(raw)}, nil
}
