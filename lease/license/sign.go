package license

import (
	"crypto/rand"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/seatkeeper/seatkeeper/lease"
)

// GenerateKey makes a key pair for a vendor. The signer key is secret and stays with
// the vendor; the verifier key goes into the trusted_keys of its customers. An error
// is BadKey when the vendor's name is not letters, digits and "_".
func GenerateKey(vendor string) (signerKey, verifierKey string, err error) {
	if err := checkVendor(vendor); err != nil {
		return "", "", failf(BadKey, "%v", err)
	}
	return note.GenerateKey(rand.Reader, vendor)
}

// VendorOf returns the vendor a verifier key speaks for; BadKey if it is not a
// verifier key. Space around the key is ignored.
func VendorOf(verifierKey string) (string, error) {
	v, err := verifier(verifierKey)
	if err != nil {
		return "", err
	}
	return v.Name(), nil
}

// Sign checks a document and signs it. It returns the signed file, normalised. An
// error is a *Error: one of Parse, BadKey, or WrongVendor when the key belongs to
// another vendor than the document names.
func Sign(document []byte, signerKey string) ([]byte, error) {
	text, err := normalise(document)
	if err != nil {
		return nil, err
	}
	l, err := parse(text)
	if err != nil {
		return nil, err
	}
	s, err := signer(signerKey)
	if err != nil {
		return nil, err
	}
	if s.Name() != l.Vendor {
		return nil, failf(WrongVendor, "the document is of vendor %q, the key of %q: use a key of %q or correct the vendor line", l.Vendor, s.Name(), l.Vendor)
	}
	file, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, failf(BadKey, "the document cannot be signed with this key: %v", err)
	}
	if len(file) > MaxFileBytes {
		return nil, tooLarge(len(file))
	}
	return file, nil
}

// Verify reads a signed file that one of the trusted keys signed. Text of the licence
// is the normalised file. It does not judge dates and cluster: Check does. An error
// is a *Error: NotSigned, BadSignature, UntrustedKey, WrongVendor, BadKey (a trusted
// key cannot be read) or one of Parse.
func Verify(file []byte, trustedKeys []string) (lease.Licence, error) {
	trusted, err := verifiers(trustedKeys)
	if err != nil {
		return lease.Licence{}, err
	}
	text, err := normalise(file)
	if err != nil {
		return lease.Licence{}, err
	}
	_, sig, err := split(text)
	if err != nil {
		return lease.Licence{}, err
	}
	if sig == nil {
		return lease.Licence{}, failf(NotSigned, "the file has no signature or was cut off: get it again from its vendor, or sign the document first")
	}
	document, err := open(text, sig, trusted)
	if err != nil {
		return lease.Licence{}, err
	}
	l, err := parse(document)
	if err != nil {
		return lease.Licence{}, err
	}
	if l.Vendor != sig.vendor {
		return lease.Licence{}, failf(WrongVendor, "the licence is of vendor %q but signed by %q: ask %q for a file it signed itself", l.Vendor, sig.vendor, l.Vendor)
	}
	l.Text = []byte(text)
	return l, nil
}

// open verifies the signature and returns the text it covers. Two trusted keys may
// share the 32-bit hash in a signature, or one may be listed twice: each is tried.
func open(text string, sig *signature, trusted []note.Verifier) (string, error) {
	known := false
	for _, v := range trusted {
		if v.Name() != sig.vendor || v.KeyHash() != sig.hash {
			continue
		}
		known = true
		if n, err := note.Open([]byte(text), note.VerifierList(v)); err == nil {
			return n.Text, nil
		}
	}
	if known {
		return "", failf(BadSignature, "the file was changed after %s signed it: get it again from its vendor, unchanged", sig.key())
	}
	if len(trusted) == 0 {
		return "", failf(UntrustedKey, "the file is signed by %s, but trusted_keys is empty: add the verifier key of the vendor", sig.key())
	}
	return "", failf(UntrustedKey, "the file is signed by %s, which is not among trusted_keys: add this verifier key, if you trust it, or ask the vendor for another file", sig.key())
}

// Inspect reads a signed file or an unsigned document and trusts nobody: what it
// returns is what the file claims. signedBy names the key in the signature line
// (vendor+hash, unchecked), or is empty. Text is the normalised input. An error is a
// *Error, one of Parse or BadSignature.
func Inspect(file []byte) (l lease.Licence, signedBy string, err error) {
	text, err := normalise(file)
	if err != nil {
		return lease.Licence{}, "", err
	}
	document, sig, err := split(text)
	if err != nil {
		return lease.Licence{}, "", err
	}
	l, err = parse(document)
	if err != nil {
		return lease.Licence{}, "", err
	}
	l.Text = []byte(text)
	if sig != nil {
		signedBy = sig.key()
	}
	return l, signedBy, nil
}

const signerKeyPrefix = "PRIVATE+KEY+"

func verifiers(keys []string) ([]note.Verifier, error) {
	list := make([]note.Verifier, 0, len(keys))
	for i, key := range keys {
		v, err := verifier(key)
		if err != nil {
			return nil, failf(BadKey, "trusted key %d: %v", i+1, err)
		}
		list = append(list, v)
	}
	return list, nil
}

func verifier(key string) (note.Verifier, error) {
	key = strings.TrimSpace(key)
	if strings.HasPrefix(key, signerKeyPrefix) {
		return nil, failf(BadKey, "this is a secret signer key: use the verifier key (VENDOR+HASH+KEY) here and keep the other one secret")
	}
	v, err := note.NewVerifier(key)
	if err != nil || checkVendor(v.Name()) != nil {
		return nil, failf(BadKey, "not a verifier key: copy the whole line VENDOR+HASH+KEY that the vendor gave out")
	}
	return v, nil
}

func signer(key string) (note.Signer, error) {
	key = strings.TrimSpace(key)
	s, err := note.NewSigner(key)
	switch {
	case err == nil:
		return s, nil
	case !strings.HasPrefix(key, signerKeyPrefix):
		return nil, failf(BadKey, "not a signer key: it begins with %q", signerKeyPrefix)
	}
	return nil, failf(BadKey, "the signer key is damaged: copy the whole line %sVENDOR+HASH+KEY", signerKeyPrefix)
}
