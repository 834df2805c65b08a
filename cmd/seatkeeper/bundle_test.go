package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease/access"
	"github.com/seatkeeper/seatkeeper/lease/license"
)

// What should never get into a bundle is taken out of it all the same.
func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	var id [access.IDBytes]byte
	var secret [access.SecretBytes]byte
	rand.Read(id[:])
	rand.Read(secret[:])
	signer, verifier, err := license.GenerateKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	_, keyPEM, err := mintCA("x", time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token := access.Text(id, secret)
	b := newBundle()
	b.add("log.txt", []byte("a line\ngot "+token+" and Authorization: Bearer abcdefgh12345678\nkey "+signer+"\n"+string(keyPEM)+
		"\n{\"session_secret\":\"0123456789abcdef\",\"feature\":\"cad\"}\ntrusted "+verifier+"\n"))
	b.missing("part", errors.New("refused "+token))
	text := string(b.files["log.txt"]) + strings.Join(b.errors, "")
	lines := strings.Split(string(keyPEM), "\n")
	for _, bad := range []string{token, "abcdefgh12345678", strings.TrimSpace(signer), lines[1], "0123456789abcdef"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q is left in\n%s", bad, text)
		}
	}
	for _, good := range []string{"a line", `"feature":"cad"`, strings.TrimSpace(verifier)} {
		if !strings.Contains(text, good) {
			t.Errorf("%q is gone from\n%s", good, text)
		}
	}
}

func TestBundleIsBoundedAndSaysWhatItLeftOut(t *testing.T) {
	inFull(t)
	b := newBundle()
	b.add("huge.pb.gz", make([]byte, maxBundlePart+1))
	for i := range maxBundle/maxBundlePart + 2 {
		b.add(strings.Repeat("x", i+1)+".pb.gz", make([]byte, maxBundlePart))
	}
	if b.size > maxBundle || len(b.files) != maxBundle/maxBundlePart || len(b.errors) != 3 {
		t.Errorf("%d bytes in %d files, %q", b.size, len(b.files), b.errors)
	}
	var out bytes.Buffer
	if err := b.write(&out, "b", nil, time.Now()); err != nil || out.Len() > maxBundle {
		t.Errorf("%d bytes: %v", out.Len(), err)
	}
}
