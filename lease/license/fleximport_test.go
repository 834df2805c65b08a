package license

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

var update = flag.Bool("update", false, "write the golden files anew")

func importSample(t testing.TB) Import {
	data, err := os.ReadFile("testdata/flexnet/sample.lic")
	if err != nil {
		t.Fatal(err)
	}
	m, err := ImportFlexNet([]Source{{Name: "sample.lic", Data: data}}, ImportOptions{ID: "L-1", Tenant: "default", Issued: day(2026, 2, 10), Zone: 60})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := "testdata/flexnet/" + name
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what it was; look at the difference, then run with -update\n%s", name, got)
	}
}

func accountText(m Import) string {
	var b strings.Builder
	for _, a := range m.Account {
		fmt.Fprintf(&b, "%s:%d:%d %s %s: %s, %s\n", a.File, a.Line, a.Column, a.Keyword, a.Name, a.Outcome, a.Became)
		for _, n := range a.Notes {
			fmt.Fprintf(&b, "    %d:%d %s\n", n.Line, n.Column, n.Text)
		}
	}
	return b.String()
}

// The sample has every construct of the format; the golden files say what each of its
// lines becomes.
func TestEveryLineOfAFlexNetFileIsAccountedFor(t *testing.T) {
	m := importSample(t)
	golden(t, "account.golden", accountText(m))
	for _, d := range m.Documents {
		golden(t, d.Vendor+".golden", string(d.Text))
		l, err := Parse(d.Text)
		if err != nil {
			t.Fatalf("%s: %v", d.Vendor, err)
		}
		sameLicence(t, l, d.Licence)
	}
	if len(m.Documents) != 3 {
		t.Errorf("%d documents, want one of each vendor", len(m.Documents))
	}
	// Every physical line that is no comment and not empty is in the account once.
	data, _ := os.ReadFile("testdata/flexnet/sample.lic")
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != 200 {
		t.Errorf("the sample has %d lines", len(lines))
	}
	covered := map[int]int{}
	for _, a := range m.Account {
		for n := a.Line; n <= a.Last; n++ {
			covered[n]++
		}
	}
	comments := 0
	for i, text := range lines {
		text = strings.TrimSpace(text)
		want := 1
		if text == "" || text[0] == '#' {
			want = 0
			comments += len(text[:min(len(text), 1)])
		}
		if covered[i+1] != want {
			t.Errorf("line %d is accounted for %d times: %s", i+1, covered[i+1], text)
		}
	}
	if m.Comments != comments {
		t.Errorf("%d comments, want %d", m.Comments, comments)
	}
}

// The documents of the sample do in a ledger what the lines say.
func TestAnImportedFileCountsAsItsLinesDo(t *testing.T) {
	b := lease.NewBook()
	b.Advance(0, day(2026, 2, 20))
	for i, d := range importSample(t).Documents {
		if r := b.Apply(uint64(i+1), lease.InstallLicence{Licence: d.Licence}); r.Refusal != nil {
			t.Fatalf("%s: %v", d.Vendor, r.Refusal)
		}
	}
	total := map[string]int{}
	for _, p := range b.Pools("") {
		total[p.Feature+" "+p.Version] += p.Total
	}
	for name, want := range map[string]int{
		"cad 2026.0": 15, "cad 2025.0": 3, "mesh 1.0": 5, "solver 12.5": 32, "flow 1.0": 0, "flow 2.0": 10, "heat 1.0": 0,
		"stress 1.0": 0, "stress 1.5": 0, "stress 2.0": 0, "stress 2.5": 8, "writer 1.0": 6, "calc 1.0": 3, "studio 3.0": 3, "render 3.0": 12,
		"trial 1.0": 0, "tess_gui 0.5": 12, "tess_api 5": 1,
	} {
		if total[name] != want {
			t.Errorf("%s: %d seats, want %d", name, total[name], want)
		}
	}
	again := importSample(t).Documents[0].Licence
	again.ID = "another"
	if r := b.Apply(9, lease.InstallLicence{Licence: again}); r.Refusal == nil || !strings.Contains(r.Refusal.Message, "already counted") {
		t.Errorf("the same lines count twice: %+v", r.Refusal)
	}
}

func TestImportSaysWhichLimitIsBroken(t *testing.T) {
	var b strings.Builder
	for i := range lease.MaxEntitlements + 1 {
		fmt.Fprintf(&b, "INCREMENT f%d acme 1.0 permanent 1\n", i)
	}
	for _, c := range []struct{ data, want string }{
		{b.String(), "2001 features and increments, a licence has at most 2000"},
		{strings.Repeat("#\n", MaxImportBytes), "bytes are possible"},
		{"SERVER a b\n", "nothing in these files can be licensed"},
	} {
		m, err := ImportFlexNet([]Source{{Name: "x", Data: []byte(c.data)}}, ImportOptions{ID: "L", Tenant: "t", Issued: day(2026, 1, 1)})
		if err == nil || !strings.Contains(err.Error(), c.want) || len(m.Documents) != 0 {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// FuzzImportFlexNet: whatever the bytes, every line that is neither empty nor a comment is
// accounted for, and the documents are ones that Sign takes.
func FuzzImportFlexNet(f *testing.F) {
	data, err := os.ReadFile("testdata/flexnet/sample.lic")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	for _, line := range strings.Split(strings.ReplaceAll(string(data), "\\\n", "\\\r\n"), "\n") {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ImportFlexNet([]Source{{Name: "x", Data: data}}, ImportOptions{ID: "L", Tenant: "t", Issued: day(2026, 1, 1), Zone: -90})
		if err != nil {
			checkRefusal(t, err)
		}
		last := 0
		for _, a := range m.Account {
			if a.Line <= last || a.Last < a.Line || a.Column < 1 || a.Outcome == "" || a.Became == "" || strings.ContainsAny(a.Became+a.Name, "\n\x1b") {
				t.Errorf("account %+v", a)
			}
			last = a.Last
			if (a.Outcome == NotTaken || a.Outcome == NotKnown) && len(a.Notes) == 0 {
				t.Errorf("line %d is left out without a word", a.Line)
			}
			for _, n := range a.Notes {
				if n.Line < a.Line || n.Line > a.Last || n.Column < 1 || strings.ContainsAny(n.Text, "\n\r\x1b\x00") {
					t.Errorf("line %d: note %+v", a.Line, n)
				}
			}
		}
		for _, d := range m.Documents {
			l, err := Parse(d.Text)
			if err != nil {
				t.Fatalf("%v\n%s", err, d.Text)
			}
			checkLimits(t, l)
			sameLicence(t, l, d.Licence)
		}
	})
}
