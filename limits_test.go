package seatkeeper_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// limitName is what the constants that bound something are called here.
var limitName = regexp.MustCompile(`^(max|Max|Default)[A-Z]|^[a-z]+[A-Za-z]*(Timeout|Limit|Bound|Wait)$`)

// constantsIn lists the numeric constants of a room that are called like limits, as they
// stand in the code, and whether a comment is there to say why.
func constantsIn(t *testing.T, room string) (values map[string]string, reasons map[string]bool) {
	t.Helper()
	values, reasons = map[string]string{}, map[string]bool{}
	files, err := filepath.Glob(filepath.Join(room, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			group, ok := d.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			said := group.Doc != nil
			for _, s := range group.Specs {
				spec := s.(*ast.ValueSpec)
				said = said || spec.Doc != nil // of the lines that follow it too
				for i, n := range spec.Names {
					if i >= len(spec.Values) || !limitName.MatchString(n.Name) {
						continue
					}
					var text bytes.Buffer
					if err := printer.Fprint(&text, set, spec.Values[i]); err != nil {
						t.Fatal(err)
					}
					if !strings.Contains(text.String(), `"`) {
						values[n.Name], reasons[n.Name] = text.String(), said || spec.Comment != nil
					}
				}
			}
		}
	}
	return values, reasons
}

// Nothing grows without bound, and each bound has a default with a reason, a metric that
// shows it, and a line in docs/limits.md with the value that it really has.
func TestEveryLimitIsDocumented(t *testing.T) {
	page, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := os.ReadFile("docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile("^## .*\\(`(.*)`\\)$")
	row := regexp.MustCompile("^\\| `([A-Za-z]+)` \\| `([^`]+)` \\| (.+) \\| (.+) \\|$")
	metric := regexp.MustCompile("`(seatkeeper_[a-z_]+)`")
	type place struct{ room, name string }
	listed := map[place]string{}
	room := ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			room = m[1]
		}
		m := row.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		listed[place{room, m[1]}] = m[2]
		names := metric.FindAllStringSubmatch(m[4], -1)
		if len(names) == 0 && !strings.HasPrefix(m[4], "no refusal") {
			t.Errorf("%s.%s: neither a metric nor why there is none", room, m[1])
		}
		for _, n := range names {
			if !strings.HasPrefix(n[1], "seatkeeper_raft_") && !strings.Contains(string(metrics), "`"+n[1]+"`") {
				t.Errorf("%s.%s is seen in %s, which docs/metrics.md does not have", room, m[1], n[1])
			}
		}
	}
	found := 0
	for _, room := range []string{"lease", "lease/license", "lease/access", "lease/offline", "fsm", "cluster", "rpc", "rpc/console"} {
		values, reasons := constantsIn(t, room)
		for name, value := range values {
			found++
			switch got, ok := listed[place{room, name}]; {
			case !ok:
				t.Errorf("%s.%s = %s is not in docs/limits.md: add its value, why it is so, and the metric that shows it", room, name, value)
			case got != value:
				t.Errorf("%s.%s is %s in the code and %s in docs/limits.md", room, name, value, got)
			}
			if !reasons[name] {
				t.Errorf("%s.%s has no comment that says why", room, name)
			}
			delete(listed, place{room, name})
		}
	}
	for l := range listed {
		t.Errorf("docs/limits.md lists %s.%s, which is gone", l.room, l.name)
	}
	if found < 100 {
		t.Errorf("%d limits found: the pattern misses them", found)
	}
}
