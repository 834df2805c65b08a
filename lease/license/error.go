package license

import (
	"errors"
	"fmt"
)

// Code says what is wrong. Programs compare codes, never messages.
type Code string

// The codes. Each is returned when the words beside it hold.
const (
	BadSyntax         Code = "bad_syntax"         // the text breaks the grammar; Line and Column say where
	UnsupportedFormat Code = "unsupported_format" // a format version this program does not know
	DuplicateSerial   Code = "duplicate_serial"   // two features of the file have one serial
	TooLarge          Code = "too_large"          // more than MaxFileBytes
	NotSigned         Code = "not_signed"         // there is no signature line
	BadSignature      Code = "bad_signature"      // the signature is damaged, not alone, or of another text
	UntrustedKey      Code = "untrusted_key"      // no trusted key signed the file
	WrongVendor       Code = "wrong_vendor"       // the key belongs to another vendor than the document names
	BadKey            Code = "bad_key"            // a signer or verifier key cannot be read
	WrongCluster      Code = "wrong_cluster"      // the licence is bound to another cluster
	Expired           Code = "expired"            // every feature is past its last day
	NothingToImport   Code = "nothing_to_import"  // no line of the files licenses anything
	NotStarted        Code = "not_started"        // no feature is valid yet, some will be
)

// Error is the error type of this package.
type Error struct {
	Code Code
	// Line and Column count from 1, in characters; both are 0 when the error is not
	// about one place in the file.
	Line, Column int
	// Message is one line for a person and says what to do. It never holds a key.
	Message string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// CodeOf returns the code of err, or "" if err is not of this package.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func failf(code Code, format string, args ...any) error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func failAt(code Code, line, column int, format string, args ...any) error {
	return &Error{Code: code, Line: line, Column: column, Message: fmt.Sprintf(format, args...)}
}
