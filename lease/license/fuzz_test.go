package license

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

// FuzzParse: whatever the bytes, Parse either refuses with one clear line or gives a
// licence within all limits, which the ledger takes and which Format and Parse carry
// round unchanged.
func FuzzParse(f *testing.F) {
	released, err := os.ReadFile("testdata/v1.lic")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(released)
	f.Add([]byte(sample))
	f.Add(bytes.ReplaceAll([]byte(sample), []byte("\n"), []byte("\r\n")))
	f.Add([]byte(features(2)))
	rich, err := os.ReadFile("testdata/rich.lic")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rich)
	f.Fuzz(func(t *testing.T, file []byte) {
		if l, _, err := Inspect(file); err == nil {
			again, _, err := Inspect(l.Text)
			if err != nil || !reflect.DeepEqual(again, l) {
				t.Errorf("the normalised file reads differently: %v\n%+v\n%+v", err, again, l)
			}
		}
		l, err := Parse(file)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		checkLimits(t, l)
		text := Format(l)
		again, err := Parse(text)
		if len(text) > MaxFileBytes && CodeOf(err) == TooLarge {
			return // a document at the limit grows by the defaults it left out
		}
		if err != nil || !reflect.DeepEqual(again, l) {
			t.Errorf("round trip: %v\n%+v\n%+v", err, again, l)
		}
		if !bytes.Equal(Format(again), text) {
			t.Errorf("Format is not stable:\n%s", text)
		}
	})
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code == "" {
		t.Fatalf("%T without a code: %v", err, err)
	}
	if strings.ContainsAny(e.Error(), "\r\n\x1b\x00") || len(e.Error()) > 400 {
		t.Errorf("message is not one clear line: %q", e)
	}
	if (e.Line == 0) != (e.Column == 0) || (e.Code == BadSyntax && e.Line == 0) {
		t.Errorf("place is missing: %+v", e)
	}
}

func checkLimits(t *testing.T, l lease.Licence) {
	t.Helper()
	names := []string{l.ID, l.Vendor, l.Tenant}
	if n := len(l.Entitlements); n == 0 || n > lease.MaxEntitlements || l.Issued <= 0 || len(l.Cluster) > lease.MaxNameLen {
		t.Errorf("limits of the header: %+v", l)
	}
	serials := map[string]bool{}
	for _, e := range l.Entitlements {
		names = append(names, e.Feature, e.Version, e.Serial)
		if r := e.Check(); r != nil {
			t.Errorf("the ledger would refuse it: %v", r)
		}
		switch {
		case e.Count < 1 && !e.Uncounted, e.Count > lease.MaxCount,
			e.Start < 0, e.Expiry < 0, e.Expiry != 0 && e.Expiry <= e.Start,
			e.Profile.Lifespan < lease.MinLifespan, e.Profile.Lifespan > lease.MaxLifespan,
			e.Profile.Grace < 0, e.Profile.Grace > lease.MaxGrace,
			e.Share.MaxSessions < 1, e.Share.MaxSessions > lease.MaxShareSessions,
			serials[e.Serial]:
			t.Errorf("limits of a feature: %+v", e)
		}
		serials[e.Serial] = true
	}
	for _, n := range names {
		if n == "" || len(n) > lease.MaxNameLen || strings.ContainsAny(n, " \t\n\"':,=/") {
			t.Errorf("name %q", n)
		}
	}
}
