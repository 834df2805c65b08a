package license

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/seatkeeper/seatkeeper/lease"
)

// sample is a document with everything a document may have.
const sample = `seatkeeper-license/1
license: L-2026-001
vendor: acme
tenant: default
cluster: any
issued: 2026-02-10

# order 4711
feature: cad
version: 2026.0
count: 10
start: 2026-02-10
expiry: 2027-12-31
serial: acme-0001
profile: lan
share: user+host max 4

feature: mesh
version: 1
count: 2
expiry: never
serial: acme-0002
`

// keyPair fails the test if no key can be made.
func keyPair(t testing.TB, vendor string) (signerKey, verifierKey string) {
	t.Helper()
	signerKey, verifierKey, err := GenerateKey(vendor)
	if err != nil {
		t.Fatal(err)
	}
	return signerKey, verifierKey
}

func signed(t testing.TB, document, signerKey string) []byte {
	t.Helper()
	file, err := Sign([]byte(document), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// signedUnchecked signs what Sign would refuse.
func signedUnchecked(t testing.TB, document, signerKey string) []byte {
	t.Helper()
	s, err := note.NewSigner(signerKey)
	if err != nil {
		t.Fatal(err)
	}
	file, err := note.Sign(&note.Note{Text: document}, s)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// wantCode checks the code, and that the message is one line of text.
func wantCode(t *testing.T, err error, want Code) {
	t.Helper()
	if CodeOf(err) != want {
		t.Fatalf("got %q (%v), want %q", CodeOf(err), err, want)
	}
	if err != nil && (err.Error() == "" || strings.ContainsAny(err.Error(), "\r\n\t\x1b")) {
		t.Errorf("message is not one clear line: %q", err)
	}
}

func replaced(file []byte, old, with string) []byte {
	if !bytes.Contains(file, []byte(old)) {
		panic("nothing to replace: " + old)
	}
	return bytes.Replace(file, []byte(old), []byte(with), 1)
}

func TestVerifyRefuses(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	otherSigner, otherTrusted := keyPair(t, "globex")
	strangerSigner, _ := keyPair(t, "acme")
	file := signed(t, sample, signer)
	secondSignature := file[bytes.LastIndex(file, []byte(signatureMark)):]
	keys := []string{otherTrusted, trusted}
	foreign := strings.Replace(sample, "vendor: acme", "vendor: globex", 1)

	for _, tc := range []struct {
		name string
		file []byte
		keys []string
		want Code
	}{
		{"empty", nil, keys, NotSigned},
		{"unsigned", []byte(sample), keys, NotSigned},
		{"one digit of count", replaced(file, "count: 10", "count: 90"), keys, BadSignature},
		{"longer expiry", replaced(file, "2027-12-31", "2037-12-31"), keys, BadSignature},
		{"other cluster", replaced(file, "cluster: any", "cluster: c2"), keys, BadSignature},
		{"changed comment", replaced(file, "4711", "4712"), keys, BadSignature},
		{"added line", replaced(file, "\n\nfeature: mesh", "\n\n\nfeature: mesh"), keys, BadSignature},
		{"removed block", slices.Concat(file[:bytes.Index(file, []byte("\nfeature: mesh"))], []byte("\n"), secondSignature), keys, BadSignature},
		{"signature of another document", slices.Concat([]byte(foreign), []byte("\n"), secondSignature), keys, BadSignature},
		{"damaged signature", replaced(file, "\u2014 acme ", "\u2014 acme A"), keys, BadSignature},
		{"truncated in the signature", file[:len(file)-10], keys, BadSignature},
		{"truncated in the document", file[:len(file)/2], keys, NotSigned},
		{"two equal signatures", slices.Concat(file, secondSignature), keys, BadSignature},
		{"a second signer", slices.Concat(file, []byte("\u2014 globex "), secondSignature[len("\u2014 acme "):]), keys, BadSignature},
		{"trailing garbage", slices.Concat(file, []byte("count: 99\n")), keys, BadSyntax},
		{"trailing garbage after an empty line", slices.Concat(file, []byte("\nfeature: x\n")), keys, BadSyntax},
		{"a signed file in front", slices.Concat(file, file), keys, BadSyntax},
		{"no empty line before the signature", replaced(file, "\n\n\u2014", "\n\u2014"), keys, BadSyntax},
		{"signature alone", secondSignature, keys, BadSyntax},
		{"stranger with the vendor's name", signed(t, sample, strangerSigner), keys, UntrustedKey},
		{"vendor not trusted", file, []string{otherTrusted}, UntrustedKey},
		{"nobody trusted", file, nil, UntrustedKey},
		{"trusted key of another vendor", signedUnchecked(t, sample, otherSigner), keys, WrongVendor},
		{"signed, but bad", signedUnchecked(t, strings.Replace(sample, "count: 10", "count: 0", 1), signer), keys, BadSyntax},
		{"signed, but one serial twice", signedUnchecked(t, strings.Replace(sample, "acme-0002", "acme-0001", 1), signer), keys, DuplicateSerial},
		{"signed by a later program", signedUnchecked(t, strings.Replace(sample, "license/1", "license/2", 1), signer), keys, UnsupportedFormat},
		{"too large", bytes.Repeat([]byte("#\n"), MaxFileBytes), keys, TooLarge},
		{"bad trusted key", file, []string{trusted, "acme+00000000+AAAA"}, BadKey},
		{"secret key among the trusted", file, []string{signer}, BadKey},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, err := Verify(tc.file, tc.keys)
			wantCode(t, err, tc.want)
			if l.ID != "" || l.Entitlements != nil {
				t.Errorf("a refused file gave %+v", l)
			}
			if err != nil && strings.Contains(err.Error(), signer) {
				t.Errorf("the message shows the secret key: %v", err)
			}
		})
	}
}

func TestVerifyRefusesEveryChangedByte(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	file := signed(t, sample, signer)
	for i := range file {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			changed := bytes.Clone(file)
			changed[i] ^= flip
			if l, err := Verify(changed, []string{trusted}); err == nil {
				t.Fatalf("byte %d of %d: %q for %q was accepted: %+v", i, len(file), changed[i], file[i], l)
			}
		}
	}
}

func TestVerifyAcceptsWhatEditorsAndMailDo(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	crlf := func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) }
	bom := func(b []byte) []byte { return slices.Concat([]byte(utf8BOM), b) }
	file := signed(t, sample, signer)
	want, err := Verify(file, []string{trusted})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		file []byte
	}{
		{"as signed", file},
		{"CRLF after signing", crlf(file)},
		{"CRLF before signing", signed(t, string(crlf([]byte(sample))), signer)},
		{"BOM after signing", bom(file)},
		{"BOM and CRLF after signing", bom(crlf(file))},
		{"BOM and CRLF before signing", signed(t, string(bom(crlf([]byte(sample)))), signer)},
		{"last newline lost", bytes.TrimSuffix(file, []byte("\n"))},
		{"empty lines at the end", slices.Concat(file, []byte("\n\r\n\n"))},
		{"document without its last newline", signed(t, strings.TrimSuffix(sample, "\n"), signer)},
		{"document with empty lines at the end", signed(t, sample+"\n\n", signer)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Verify(tc.file, []string{trusted})
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Text) != string(want.Text) {
				t.Errorf("Text is not the normalised file:\n%q\n%q", got.Text, want.Text)
			}
			sameLicence(t, got, want)
		})
	}
}

func TestVerifyAcceptsKeysAsPeopleKeepThem(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	_, other := keyPair(t, "acme")
	file := signed(t, sample, signer)
	for name, keys := range map[string][]string{
		"listed twice":      {trusted, trusted},
		"with line ends":    {" " + trusted + "\r\n"},
		"old and new key":   {other, trusted},
		"behind many other": {other, other, other, trusted},
	} {
		if _, err := Verify(file, keys); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A signature may be written with other base64 padding bits and still be the same
// bytes; one licence must have one text.
func TestVerifyRefusesAnotherSpellingOfTheSignature(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	file := bytes.TrimSuffix(signed(t, sample, signer), []byte("=\n"))
	alphabet := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := len(file) - 1
	for spare := range 3 {
		other := slices.Concat(file, []byte("=\n"))
		other[last] = alphabet[strings.IndexByte(alphabet, file[last])+spare+1]
		at := bytes.LastIndexByte(other, ' ') + 1
		if _, err := base64.StdEncoding.DecodeString(string(other[at : len(other)-1])); err != nil {
			t.Fatal(err)
		}
		_, err := Verify(other, []string{trusted})
		wantCode(t, err, BadSignature)
	}
}

func TestSignRefuses(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	other, _ := keyPair(t, "globex")
	for _, tc := range []struct {
		name, document, key string
		want                Code
	}{
		{"bad document", strings.Replace(sample, "count: 10", "count: -1", 1), signer, BadSyntax},
		{"one serial twice", strings.Replace(sample, "acme-0002", "acme-0001", 1), signer, DuplicateSerial},
		{"signed already", string(signed(t, sample, signer)), signer, BadSyntax},
		{"key of another vendor", sample, other, WrongVendor},
		{"verifier key", sample, trusted, BadKey},
		{"damaged key", sample, signer[:len(signer)-4], BadKey},
		{"no key", sample, "", BadKey},
		{"too large with its signature", sample + strings.Repeat("#\n", (MaxFileBytes-len(sample))/2), signer, TooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file, err := Sign([]byte(tc.document), tc.key)
			wantCode(t, err, tc.want)
			if file != nil {
				t.Error("a file was returned beside the error")
			}
		})
	}
}

func TestKeysAreOfOneVendor(t *testing.T) {
	for _, vendor := range []string{"", "a b", "a-b", "a+b", "ä", "a\n", strings.Repeat("v", lease.MaxNameLen+1)} {
		_, _, err := GenerateKey(vendor)
		wantCode(t, err, BadKey)
	}
	signer, trusted := keyPair(t, "Acme_2")
	if vendor, err := VendorOf(trusted + "\n"); err != nil || vendor != "Acme_2" {
		t.Errorf("VendorOf: %q, %v", vendor, err)
	}
	_, err := VendorOf(signer)
	wantCode(t, err, BadKey)
}

func TestInspectTrustsNobodyAndReadsEverything(t *testing.T) {
	signer, trusted := keyPair(t, "acme")
	file := signed(t, sample, signer)

	l, by, err := Inspect([]byte(sample))
	if err != nil || by != "" || string(l.Text) != sample {
		t.Errorf("unsigned: signed by %q, %v", by, err)
	}
	l, by, err = Inspect(file)
	if err != nil || !strings.HasPrefix(trusted, by+"+") || string(l.Text) != string(file) {
		t.Errorf("signed: signed by %q, %v", by, err)
	}
	l, _, err = Inspect(replaced(file, "count: 10", "count: 90"))
	if err != nil || l.Entitlements[0].Count != 90 {
		t.Errorf("forged: %v", err)
	}
	for name, bad := range map[string][]byte{
		"text after the signature":         slices.Concat(file, []byte("x\n")),
		"carriage return in the signature": replaced(file, "=\n", "\r=\n"),
	} {
		if _, _, err := Inspect(bad); CodeOf(err) != BadSyntax {
			t.Errorf("%s: %v", name, err)
		}
	}
}
