package license

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func day(year int, month time.Month, d int) lease.Calendar {
	return lease.CalendarOf(time.Date(year, month, d, 0, 0, 0, 0, time.UTC))
}

// sameLicence compares all but Text.
func sameLicence(t *testing.T, got, want lease.Licence) {
	t.Helper()
	got.Text, want.Text = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestParseReadsADocument(t *testing.T) {
	got, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	sameLicence(t, got, lease.Licence{
		ID: "L-2026-001", Vendor: "acme", Tenant: "default", Issued: day(2026, 2, 10),
		Entitlements: []lease.Entitlement{{
			Feature: "cad", Version: "2026.0", Count: 10, Serial: "acme-0001",
			Start: day(2026, 2, 10), Expiry: day(2028, 1, 1),
			Profile: lease.Profiles["lan"], Share: lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 4},
		}, {
			Feature: "mesh", Version: "1", Count: 2, Serial: "acme-0002",
			Profile: lease.DefaultProfile, Share: lease.DefaultShareRule,
		}},
	})
	if got.Text != nil {
		t.Error("an unsigned document has no signed text")
	}
}

func TestParseIsFreeInOrderAndAlignment(t *testing.T) {
	got, err := Parse([]byte(`seatkeeper-license/1
issued:  2026-02-10
# Grüße
cluster: c-1
tenant:  lab
vendor:  acme
license: L1
feature: cad
serial:  s1
expiry:  2026-02-10
count:   1000000
start:   2026-02-10
version: 9
share:   none
profile: lifespan 1s grace 0s`))
	if err != nil {
		t.Fatal(err)
	}
	sameLicence(t, got, lease.Licence{
		ID: "L1", Vendor: "acme", Tenant: "lab", Cluster: "c-1", Issued: day(2026, 2, 10),
		Entitlements: []lease.Entitlement{{
			Feature: "cad", Version: "9", Count: lease.MaxCount, Serial: "s1",
			Start: day(2026, 2, 10), Expiry: day(2026, 2, 11),
			Profile: lease.Profile{Lifespan: time.Second}, Share: lease.ShareRule{MaxSessions: 1},
		}},
	})
}

func TestParseRefusesWithPlace(t *testing.T) {
	long := strings.Repeat("n", lease.MaxNameLen+1)
	for _, tc := range []struct {
		name, old, with string // one change to sample
		line, column    int
	}{
		{"no format line", "seatkeeper-license/1\n", "", 1, 1},
		{"space after format", "license/1\n", "license/1 \n", 1, 1},
		{"format version that is no number", "license/1\n", "license/one\n", 1, 1},
		{"empty first line", "seatkeeper", "\nseatkeeper", 1, 1},
		{"FlexNet file", "seatkeeper-license/1", "SERVER this_host ANY", 1, 1},
		{"unknown header key", "tenant:", "tennant:", 4, 1},
		{"unknown feature key", "count: 10", "conut: 10", 11, 1},
		{"upper-case key", "count: 10", "Count: 10", 11, 1},
		{"header key in a block", "count: 10", "vendor: acme", 11, 1},
		{"feature key in the header", "tenant: default", "tenant: default\ncount: 1", 5, 1},
		{"key twice in the header", "tenant: default", "tenant: default\ntenant: lab", 5, 1},
		{"key twice in a block", "count: 10", "count: 10\ncount: 11", 12, 1},
		{"header key missing", "cluster: any\n", "", 1, 1},
		{"count missing", "count: 10\n", "", 9, 1},
		{"expiry missing in the last block", "expiry: never\n", "", 18, 1},
		{"serial missing", "serial: acme-0001\n", "", 9, 1},
		{"no colon", "count: 10", "count 10", 11, 1},
		{"no key", "count: 10", ": 10", 11, 1},
		{"no value", "count: 10", "count:", 11, 7},
		{"no space", "count: 10", "count:10", 11, 7},
		{"indented", "count: 10", "  count: 10", 11, 1},
		{"space at the end", "count: 10", "count: 10 ", 11, 10},
		{"line of spaces", "\n\nfeature: mesh", "\n  \nfeature: mesh", 17, 1},
		{"tab", "count: 10", "count:\t10", 11, 7},
		{"control character in a comment", "order 4711", "order\x1b[2J", 8, 8},
		{"text direction in a comment", "order 4711", "order \u202e1174", 8, 9},
		{"DEL", "feature: cad", "feature: c\x7fd", 9, 11},
		{"not UTF-8", "order", "ordr\xe9", 8, 7},
		{"lone carriage return", "count: 10", "count: 10\rcount: 99", 11, 10},
		{"NUL", "count: 10", "count: 1\x000", 11, 9},
		{"line too long", "order", strings.Repeat("x", maxLineBytes), 8, 1},
		{"count 0", "count: 10", "count: 0", 11, 8},
		{"count negative", "count: 10", "count: -1", 11, 8},
		{"count too high", "count: 10", "count: 1000001", 11, 8},
		{"count absurd", "count: 10", "count: 99999999999999999999", 11, 8},
		{"count not decimal", "count: 10", "count: 0x10", 11, 8},
		{"count padded", "count: 10", "count: 010", 11, 8},
		{"count signed", "count: 10", "count: +10", 11, 8},
		{"count aligned and wrong", "count: 10", "count:     ten", 11, 12},
		{"feature with a space", "feature: cad", "feature: c ad", 9, 10},
		{"feature with a quote", "feature: cad", "feature: c\"d", 9, 10},
		{"feature with a colon", "feature: cad", "feature: cad:2", 9, 10},
		{"feature not ASCII", "feature: cad", "feature: cäd", 9, 10},
		{"feature like a flag", "feature: cad", "feature: -cad", 9, 10},
		{"feature like a path", "feature: cad", "feature: ../cad", 9, 10},
		{"feature too long", "feature: cad", "feature: " + long, 9, 10},
		{"vendor with a dash", "vendor: acme", "vendor: ac-me", 3, 9},
		{"vendor too long", "vendor: acme", "vendor: " + long, 3, 9},
		{"tenant with a slash", "tenant: default", "tenant: a/b", 4, 9},
		{"licence id with a space", "license: L-2026-001", "license: L 1", 2, 10},
		{"cluster with a space", "cluster: any", "cluster: any one", 5, 10},
		{"serial too long", "acme-0001", long, 14, 9},
		{"version with letters", "version: 2026.0", "version: v2026", 10, 10},
		{"version with two dots", "version: 2026.0", "version: 1.2.3", 10, 10},
		{"version with a bare dot", "version: 2026.0", "version: 1.", 10, 10},
		{"version without its whole part", "version: 2026.0", "version: .5", 10, 10},
		{"version too long", "version: 2026.0", "version: " + strings.Repeat("1", 21), 10, 10},
		{"issued never", "issued: 2026-02-10", "issued: never", 6, 9},
		{"no such day", "expiry: 2027-12-31", "expiry: 2027-02-29", 13, 9},
		{"date the other way round", "expiry: 2027-12-31", "expiry: 31-12-2027", 13, 9},
		{"date with a time", "expiry: 2027-12-31", "expiry: 2027-12-31T00:00:00Z", 13, 9},
		{"expiry that would mean never", "expiry: 2027-12-31", "expiry: 1969-12-31", 13, 9},
		{"start that would mean open", "start: 2026-02-10", "start: 1970-01-01", 12, 8},
		{"ends before it starts", "expiry: 2027-12-31", "expiry: 2026-02-09", 9, 1},
		{"unknown profile", "profile: lan", "profile: slow", 15, 10},
		{"lifespan too short", "profile: lan", "profile: lifespan 999ms grace 1s", 15, 10},
		{"lifespan too long", "profile: lan", "profile: lifespan 25h grace 1s", 15, 10},
		{"lifespan wraps round", "profile: lan", "profile: lifespan 9999999999999999h grace 1s", 15, 10},
		{"grace too long", "profile: lan", "profile: lifespan 45s grace 86401s", 15, 10},
		{"grace negative", "profile: lan", "profile: lifespan 45s grace -1s", 15, 10},
		{"span without unit", "profile: lan", "profile: lifespan 45 grace 15", 15, 10},
		{"span without number", "profile: lan", "profile: lifespan s grace 15s", 15, 10},
		{"span mixed", "profile: lan", "profile: lifespan 1m30s grace 15s", 15, 10},
		{"profile without grace", "profile: lan", "profile: lifespan 45s", 15, 10},
		{"share 0", "max 4", "max 0", 16, 8},
		{"share above the limit", "max 4", "max 9", 16, 8},
		{"share without number", "user+host max 4", "user+host", 16, 8},
		{"share with an unknown field", "user+host", "user+mac", 16, 8},
		{"share with a field twice", "user+host", "user+user", 16, 8},
		{"share with no field", "user+host max 4", "+ max 4", 16, 8},
		{"share none with a number", "user+host max 4", "none max 4", 16, 8},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(replaced([]byte(sample), tc.old, tc.with))
			wantCode(t, err, BadSyntax)
			e := err.(*Error)
			if e.Line != tc.line || e.Column != tc.column {
				t.Errorf("%v: want line %d, column %d", err, tc.line, tc.column)
			}
			if len(err.Error()) > 300 {
				t.Errorf("message of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestParseRefusesWholeFiles(t *testing.T) {
	header, _, _ := strings.Cut(sample, "\n# order")
	for _, tc := range []struct {
		name, document string
		want           Code
	}{
		{"empty", "", BadSyntax},
		{"newlines", "\n\n\n", BadSyntax},
		{"binary", "\x7fELF\x02\x01\x01\x00", BadSyntax},
		{"no feature", header, BadSyntax},
		{"UTF-16", "\xff\xfes\x00e\x00", BadSyntax},
		{"two byte order marks", utf8BOM + utf8BOM + sample, BadSyntax},
		{"later format", strings.Replace(sample, "license/1", "license/2", 1), UnsupportedFormat},
		{"same serial twice", strings.Replace(sample, "acme-0002", "acme-0001", 1), DuplicateSerial},
		{"too many features", features(lease.MaxEntitlements + 1), BadSyntax},
		{"too large", sample + strings.Repeat("#\n", MaxFileBytes/2), TooLarge},
		{"far too large", strings.Repeat("\r\n", MaxFileBytes+2), TooLarge},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.document))
			wantCode(t, err, tc.want)
		})
	}
	_, err := Parse([]byte(strings.Replace(sample, "acme-0002", "acme-0001", 1)))
	if e := err.(*Error); e.Line != 22 || e.Column != 9 || !strings.Contains(e.Message, "line 14") {
		t.Errorf("duplicate serial: %v", err)
	}
}

// features is a document with n small features.
func features(n int) string {
	header, _, _ := strings.Cut(sample, "\n# order")
	var b strings.Builder
	b.WriteString(header)
	for i := range n {
		fmt.Fprintf(&b, "feature: f%d\nversion: 1\ncount: 1\nexpiry: never\nserial: s%d\n", i, i)
	}
	return b.String()
}

func TestParseTakesTheMostFeatures(t *testing.T) {
	l, err := Parse([]byte(features(lease.MaxEntitlements)))
	if err != nil || len(l.Entitlements) != lease.MaxEntitlements {
		t.Errorf("%d features, %v", len(l.Entitlements), err)
	}
}
