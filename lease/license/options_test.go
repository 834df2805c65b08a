package license

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

var updateAccount = flag.Bool("update-account", false, "write the account of testdata/options.opt")

// account is what policy check prints of an options file.
func account(o *Options) string {
	var b strings.Builder
	for _, l := range o.Lines {
		fmt.Fprintf(&b, "%d:%d\t%s\t%s\n\t%s\n", l.Line, l.Column, l.Fate, l.Text, l.Becomes)
	}
	return b.String()
}

// The sample has 200 lines with every construct; what becomes of each is released.
func TestEveryLineOfAnOptionsFileIsAccountedFor(t *testing.T) {
	file, err := os.ReadFile("testdata/options.opt")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(file, []byte("\n")); n != 200 {
		t.Errorf("%d lines, want 200", n)
	}
	o, err := ParseOptions(file)
	if err != nil {
		t.Fatal(err)
	}
	got := []byte(account(o))
	const golden = "testdata/options.account"
	if *updateAccount {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the account differs from %s:\n%s", golden, got)
	}
	for f, want := range map[Fate]int{Unknown: 1, Malformed: 9, NotUsed: 10} {
		if n := o.Count(f); n != want {
			t.Errorf("%d lines are %s, want %d", n, f, want)
		}
	}
	for keyword := range options {
		if !strings.Contains(strings.ToUpper(string(file)), "\n"+keyword+" ") {
			t.Errorf("the sample has no %s", keyword)
		}
	}
}

func TestOptionsBecomeRules(t *testing.T) {
	ann := lease.Subject{Type: lease.SubjectUser, Name: "ann"}
	for _, c := range []struct {
		text string
		want lease.Rule
	}{
		{"MAX 3 cad USER ann", lease.Rule{Kind: lease.RuleMax, Feature: "cad", Who: ann, Seats: 3}},
		{"max 3 cad \\\n  user \"ann\" # more", lease.Rule{Kind: lease.RuleMax, Feature: "cad", Who: ann, Seats: 3}},
		{"\ufeffRESERVE 1 cad:VERSION=2.0 USER ann\r\n", lease.Rule{Kind: lease.RuleReserve, Feature: "cad:VERSION=2.0", Who: ann, Seats: 1}},
		{"EXCLUDEALL USER ann", lease.Rule{Kind: lease.RuleExclude, Who: ann}},
		{"INCLUDEALL USER ann", lease.Rule{Kind: lease.RuleInclude, Who: ann}},
		{"TIMEOUTALL 7200", lease.Rule{Kind: lease.RuleIdleTimeout, Time: 2 * time.Hour}},
		{"LINGER cad 600", lease.Rule{Kind: lease.RuleLinger, Feature: "cad", Time: 10 * time.Minute}},
		{"MAX_BORROW_HOURS cad 72", lease.Rule{Kind: lease.RuleMaxBorrow, Feature: "cad", Seats: 72}},
		{"EXCLUDE cad PROJECT \"big one\"", lease.Rule{Kind: lease.RuleExclude, Feature: "cad", Who: lease.Subject{Type: lease.SubjectProject, Name: "big one"}}},
	} {
		o, err := ParseOptions([]byte(c.text))
		if err != nil || len(o.Policy.Rules) != 1 || o.Policy.Rules[0] != c.want || o.Count(Used) != 1 {
			t.Errorf("%q: %+v, %v", c.text, o, err)
		}
	}
}

func TestNoOptionsFile(t *testing.T) {
	for name, file := range map[string][]byte{
		"binary": {'M', 0, 'X'}, "not UTF-8": {0xff, 0xfe}, "too large": bytes.Repeat([]byte("#"), MaxOptionsBytes+1),
	} {
		if _, err := ParseOptions(file); CodeOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseOptions: whatever the bytes, the account has every line that is neither empty
// nor a comment exactly once and in order, each in one clear line; and what is not called
// wrong is a policy that can be applied.
func FuzzParseOptions(f *testing.F) {
	sample, err := os.ReadFile("testdata/options.opt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	for line := range bytes.Lines(sample) {
		f.Add(line)
	}
	f.Add([]byte("GROUP a \\\n\\\n b\\\n# c \\\nMAX 1 x GROUP a"))
	f.Fuzz(func(t *testing.T, file []byte) {
		o, err := ParseOptions(file)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		last := 0
		for _, l := range o.Lines {
			if l.Fate != Malformed && l.Line <= last || l.Line < 1 || l.Column < 1 || l.Line > bytes.Count(file, []byte("\n"))+1 {
				t.Errorf("line %d, column %d behind %d", l.Line, l.Column, last)
			}
			last = max(last, l.Line)
			if strings.ContainsAny(l.Text+l.Becomes, "\r\n\x1b\x00") || l.Becomes == "" || l.Text == "" {
				t.Errorf("not one clear line: %q: %q", l.Text, l.Becomes)
			}
			switch l.Fate {
			case Used, NotUsed, Unknown, Malformed:
			default:
				t.Errorf("fate %q", l.Fate)
			}
		}
		if len(o.OfRule) != len(o.Policy.Rules) || len(o.OfGroup) != len(o.Policy.Groups) {
			t.Errorf("%d of %d rules and %d of %d groups have a line", len(o.OfRule), len(o.Policy.Rules), len(o.OfGroup), len(o.Policy.Groups))
		}
		if o.Count(Malformed) > 0 {
			return
		}
		b := lease.NewBook()
		if r := b.Apply(1, lease.ApplyPolicy{Policy: o.Policy}); r.Refusal != nil && len(o.Lines) > 0 {
			t.Errorf("the account finds nothing wrong, the ledger does: %v", r.Refusal)
		}
	})
}
