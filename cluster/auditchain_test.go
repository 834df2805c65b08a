package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// auditOf writes a log in several runs, as restarts make it.
func auditOf(t *testing.T, runs ...[]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "applied.jsonl")
	for _, lines := range runs {
		a, err := openAppliedLog(path, "node-1", "v1", hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			a.append([]byte(l))
		}
		a.Close()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func auditEntry(index int, what string) string {
	return fmt.Sprintf(`{"index":"%d","hash":"%s","commands":[]}`, index, what)
}

func TestAuditLogIsChainedAcrossRuns(t *testing.T) {
	text := auditOf(t, []string{auditEntry(1, "aa"), auditEntry(2, "bb")}, []string{auditEntry(2, "bb"), auditEntry(3, "cc")})
	r, err := VerifyAudit(strings.NewReader(text), nil)
	if err != nil || r.Lines != 6 || r.Entries != 3 || r.First != 1 || r.Last != 3 || r.Hash != "cc" {
		t.Fatalf("%+v, %v\n%s", r, err, text)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	join := func(l ...[]string) string {
		var b strings.Builder
		for _, x := range l {
			b.WriteString(strings.Join(x, ""))
		}
		return b.String()
	}
	for name, broken := range map[string]string{
		"a value changed":     strings.Replace(text, `"commands":[]`, `"commands":[{}]`, 1),
		"a line dropped":      join(lines[:2], lines[3:]),
		"the first dropped":   join(lines[1:]),
		"two lines exchanged": join(lines[:1], lines[2:3], lines[1:2], lines[3:]),
		"a line twice":        join(lines[:2], lines[1:]),
		"a line inserted":     join(lines[:2], []string{auditEntry(9, "zz") + "\n"}, lines[2:]),
		"a chain changed":     strings.Replace(text, `"chain":"`, `"chain":"00`, 1),
	} {
		var bad *AuditError
		if _, err := VerifyAudit(strings.NewReader(broken), nil); !errors.As(err, &bad) {
			t.Errorf("%s: not found out (%v)", name, err)
		}
	}
	if r, err := VerifyAudit(strings.NewReader(text[:len(text)-5]), nil); err != nil || r.Lines != 5 {
		t.Errorf("with a last line that is still being written: %+v %v", r, err)
	}
	if _, err := VerifyAudit(strings.NewReader(auditOf(t, []string{auditEntry(2, "bb")}, []string{auditEntry(2, "other")})), nil); err == nil {
		t.Error("one entry with two hashes is taken")
	}
}

func TestChainsAreCutOffWhole(t *testing.T) {
	var c chain
	line := []byte(`{"a":"x\"}","chain":"not this one"}`)
	object, got, ok := cutChain(c.appendChained(nil, line))
	if !ok || !bytes.Equal(object, line) || got != c {
		t.Errorf("%s %v", object, ok)
	}
	for _, bad := range []string{"", "{}", `{"a":1}`, `,"chain":"` + strings.Repeat("0", 64) + `"}`, `{"a":1,"chain":"` + strings.Repeat("g", 64) + `"}`} {
		if _, _, ok := cutChain([]byte(bad)); ok {
			t.Errorf("%q has a chain", bad)
		}
	}
}
