package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

var update = flag.Bool("update", false, "write the golden files anew")

func page(t testing.TB, r *checker.Run, rep *checker.Report, x Extra) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r, rep, x); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	silent = regexp.MustCompile(`(?s)<style>.*?</style>|<script.*?</script>`)
	tags   = regexp.MustCompile(`(?s)<[^>]*>`)
	blank  = regexp.MustCompile(`[ \t]*\n\s*`)
)

// words is what a person reads, a line for each element.
func words(page string) string {
	s := tags.ReplaceAllString(silent.ReplaceAllString(page, ""), "\n")
	return strings.TrimSpace(blank.ReplaceAllString(html.UnescapeString(s), "\n")) + "\n"
}

func TestPageTellsTheRun(t *testing.T) {
	m := small("")
	got := words(page(t, m.run(t), &m.report, Extra{Parameters: []Parameter{{"rate", "4/s"}}}))
	golden := filepath.Join("testdata", "small.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		a, b := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(a), len(b)) {
			if a[i] != b[i] {
				t.Fatalf("line %d is %q, must be %q (go test -update writes it anew)", i+1, a[i], b[i])
			}
		}
		t.Fatalf("%d lines, must be %d", len(a), len(b))
	}
}

// drawings gives every svg of a page, parsed, to look at each start element.
func drawings(t *testing.T, page string, look func(xml.StartElement)) int {
	t.Helper()
	n := 0
	for rest := page; ; n++ {
		at := strings.Index(rest, "<svg class=")
		if at < 0 {
			return n
		}
		d := xml.NewDecoder(strings.NewReader(rest[at:]))
		for depth := 0; ; {
			tok, err := d.Token()
			if err != nil {
				t.Fatalf("drawing %d: %v", n, err)
			}
			if e, ok := tok.(xml.StartElement); ok {
				depth++
				look(e)
			}
			if _, ok := tok.(xml.EndElement); ok {
				if depth--; depth == 0 {
					break
				}
			}
		}
		rest = rest[at+int(d.InputOffset()):]
	}
}

func TestDrawingsAreWellFormed(t *testing.T) {
	m := small("")
	if n := drawings(t, page(t, m.run(t), &m.report, Extra{}), func(xml.StartElement) {}); n < 9 {
		t.Errorf("%d drawings", n)
	}
}

func TestTextsFromOutsideStayTexts(t *testing.T) {
	const evil = `</title></text></td></script><script>alert(1)</script><img src=x onerror="alert(1)">'"{{.}} javascript:x`
	m := small(evil)
	dir := t.TempDir()
	name := `porcupine-"><img src=x onerror=alert(1)>.html`
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	note := struct {
		At   int64  `edn:"at"`
		F    string `edn:"f"`
		Note string `edn:"note"`
	}{1, "note", "left out" + evil}
	seen := struct {
		At     int64  `edn:"at"`
		Leader string `edn:"leader"`
		Term   uint64 `edn:"term"`
	}{second, "n1" + evil, 2}
	lines := append(append(history.MarshalEDN(note), '\n'), history.MarshalEDN(seen)...)
	if err := os.WriteFile(filepath.Join(dir, "nemesis.edn"), append(lines, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	got := page(t, m.run(t), &m.report, Extra{Dir: dir, Repeat: evil, Problem: evil, Parameters: []Parameter{{evil, evil}}})
	if n := strings.Count(got, "<script"); n != 2 {
		t.Errorf("%d scripts, must be the page's own 2", n)
	}
	for _, bad := range []string{"<img", "alert(1)</script>", `href="javascript`, `onerror="`} {
		if strings.Contains(got, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	allowed := strings.Fields("class viewBox data-left data-width role aria-label aria-hidden d x y width height preserveAspectRatio href data-y data-a data-b visibility id")
	drawings(t, got, func(e xml.StartElement) {
		for _, a := range e.Attr {
			if !slices.Contains(allowed, a.Name.Local) {
				t.Errorf("<%s> has the attribute %s", e.Name.Local, a.Name.Local)
			}
		}
	})
	if !strings.Contains(words(got), "left out"+evil) {
		t.Error("the note is not shown as it is")
	}
}

func TestScriptIsTheOneThatThePolicyAllows(t *testing.T) {
	got := page(t, nil, nil, Extra{})
	if !strings.Contains(got, "<script>"+pageScript+"</script>") {
		t.Error("the script was changed on its way into the page: its hash is wrong")
	}
	sum := sha256.Sum256([]byte(pageScript))
	if !strings.Contains(html.UnescapeString(got), "script-src 'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'") {
		t.Error("the policy names another script")
	}
	for _, remote := range []string{"http://", "https://", "//cdn", "@import", "url("} {
		if s := strings.ReplaceAll(got, "http://www.w3.org/2000/svg", ""); strings.Contains(s, remote) {
			t.Errorf("the page names something elsewhere: %s", remote)
		}
	}
}

func TestRunInWhichNothingHappenedHasAPage(t *testing.T) {
	empty, err := checker.NewRun(checker.Test{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*checker.Run{"no run": nil, "no operations": empty} {
		t.Run(name, func(t *testing.T) {
			got := page(t, r, nil, Extra{Problem: "the servers did not start"})
			for _, want := range []string{"not conclusive", "No checker has judged this run", "the servers did not start", "There was no fault"} {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not said", want)
				}
			}
			if strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
				t.Error("a number is none")
			}
			drawings(t, got, func(xml.StartElement) {})
		})
	}
}

func TestMalformedHistoryHasAPage(t *testing.T) {
	m := small("")
	m.ops = append(m.ops[:0:0], m.ops...)
	for i := range m.ops {
		if m.ops[i].Type == history.Invoke {
			m.ops[i].Index = 0 // nothing follows anything
		}
	}
	_, err := checker.NewRun(m.test, m.ops, nil)
	if err == nil {
		t.Fatal("the history is well-formed")
	}
	got := words(page(t, &checker.Run{Facts: checker.Facts{Test: m.test}, Ops: m.ops}, nil, Extra{Problem: err.Error()}))
	for _, want := range []string{err.Error(), "lasted 10 s", "operations, 83.3 % answered"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not said", want)
		}
	}
}

func TestVerdictIsShownAsItIs(t *testing.T) {
	for result, want := range map[checker.Result]string{checker.Valid: "valid", checker.Invalid: "INVALID", checker.Unknown: "not conclusive", "": "not conclusive"} {
		got := page(t, nil, &checker.Report{Result: result}, Extra{})
		if !strings.Contains(got, ">"+want+"</span>") {
			t.Errorf("%q is not shown as %q", result, want)
		}
	}
}

// huge is an hour with half a million operations, many faults, pools and errors.
func huge() (*tape, *checker.Run) {
	const calls, faults, tenants = 250_000 / tenth, 5000, 400
	long := strings.Repeat("x", 500)
	t := &tape{test: checker.Test{Seed: 1, Nodes: []string{"n1", "n2", "n3", "n4", "n5"}, Concurrency: 10, Limits: checker.DefaultLimits()}}
	end := 3600 * second
	for i := range int64(calls) {
		at := end / calls * i
		p := history.Process(i % 10)
		feature := fmt.Sprint("feature-", i%tenants)
		if i%(calls/faults) == 0 {
			f := history.Fault{ID: fmt.Sprintf("f%d", i), Family: fmt.Sprint([]string{"kill", "delay", "eio", "clock-rate"}[i%4], i%100), Nodes: []string{"n1", long}}
			t.fault(at, history.FStart, f)
			f.Bit, f.Proof = true, strings.Repeat("proof ", 100)
			t.fault(at+i%5*second, history.FStop, f)
		}
		index := uint64(i + 10)
		switch {
		case i%50 == 0:
			v := &history.Status{Result: history.Done}
			for n := range uint64(5) {
				v.Nodes = append(v.Nodes, history.NodeState{ID: fmt.Sprint("n", n+1), Applied: index - n*uint64(i%97)%index})
			}
			t.call(at+2, at+3e6, p, history.FStatus, &history.Status{}, v, history.OK, index)
		case i%2 == 1:
			v := &history.Checkin{Result: history.Done, Released: []history.Ended{{ID: uint64(i - 1)}}}
			t.call(at+2, at+2e6+i%1e6, p, history.FCheckin, &history.Checkin{}, v, history.OK, index)
			t.entry(index, 2+uint64(i)/1000, at, history.Command{Kind: history.KindCheckin, Result: history.CommandResult{Released: []history.AuditEnded{{ID: uint64(i - 1)}}}})
		case i%1000 == 0:
			t.lead(index, 2+uint64(i)/1000, at, fmt.Sprint("n", i%5+1))
		default:
			ask, got := granted(feature, "u", uint64(i))
			t.call(at+2, at+1e6+i%9e6, p, history.FCheckout, ask, got, history.OK, index)
			t.believe(at+9e6+3, at+14e6, p, uint64(i), feature)
			t.entry(index, 2+uint64(i)/1000, at, grant(feature, uint64(i)))
		}
		t.ops[len(t.ops)-1].Error = fmt.Sprint("error ", i)
	}
	var facts checker.Facts
	slices.SortStableFunc(t.ops, func(a, b history.Op) int { return int(a.Time - b.Time) })
	for i := range t.ops {
		t.ops[i].Index = int64(i)
	}
	facts, _ = checker.FactsOf(t.test, t.ops)
	r := &checker.Run{Facts: facts, Ops: t.ops, Beliefs: history.Beliefs(t.ops), Audits: []*history.Audit{&t.audit, &t.audit, &t.audit}}
	r.Pairs, _ = history.Pairs(t.ops)
	for i := range 13 {
		v := checker.Verdict{Name: fmt.Sprint("C", i), Result: checker.Invalid, Cases: 1e6}
		for range 5000 {
			v.Evidence = append(v.Evidence, strings.Repeat("evidence ", 1000))
		}
		t.report.Verdicts = append(t.report.Verdicts, v)
	}
	return t, r
}

func TestHugeRunHasASmallPageSoon(t *testing.T) {
	const (
		largest = 3 << 20
		longest = 60 * time.Second // on a busy machine; two seconds are usual
	)
	m, r := huge()
	all := r.Faults
	if len(r.Pairs) < 200_000/tenth || len(all) < 5000 {
		t.Fatalf("%d operations, %d faults", len(r.Pairs), len(all))
	}
	for _, faults := range []int{mostLabels, mostDrawn, len(all)} { // at the bounds and beyond
		r.Faults = all[:faults]
		began := time.Now()
		size := len(page(t, r, &m.report, Extra{Dir: t.TempDir()}))
		took := time.Since(began)
		t.Logf("%d lines of history, %d faults: %d bytes in %v", len(m.ops), faults, size, took)
		if size > largest || took > longest {
			t.Errorf("%d faults: %d bytes in %v; at most %d in %v", faults, size, took, largest, longest)
		}
	}
}

func TestPageIsWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"test.edn", "history.edn", "audit-n1.edn", "vendor.signer.key", "nodes/n1/log", "nodes/n1/backing/data/raft.db"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := small("")
	for range 2 {
		if err := WriteFile(dir, m.run(t), &m.report, Extra{}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(filepath.Join(dir, "index.html"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil || !bytes.HasSuffix(bytes.TrimSpace(data), []byte("</html>")) {
		t.Errorf("the page is not whole: %v", err)
	}
	for link, listed := range map[string]bool{"./test.edn": true, "./history.edn": true, "./audit-n1.edn": true, "./nodes/n1/log": true,
		"./vendor.signer.key": false, "./index.html": false, "./nodes/n1/backing/data/raft.db": false} {
		if got := bytes.Contains(data, []byte(`href="`+link+`"`)); got != listed {
			t.Errorf("%s is listed: %v", link, got)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.new"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
