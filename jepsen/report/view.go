package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

var (
	//go:embed page.gohtml
	pageText string
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageScript string

	pageTemplate = template.Must(template.New("page").Parse(pageText))
)

// Bounds of what one page shows; the files have the rest.
const (
	mostPools     = 24
	mostPoolRows  = 200
	mostFaultRows = 500
	mostEvidence  = 30
	mostLetters   = 1500 // of one line of evidence
	mostErrors    = 15
	mostOnHover   = 500 // faults that the cross-hair names
)

// view is what the template shows.
type view struct {
	Style  template.CSS
	Script template.JS
	Policy string // content security policy

	Title, Result, ResultWord, Why string
	Problem                        string
	Begun, Lasted, Seed            string
	EndNS                          int64
	Repeat, Again                  string
	Tiles                          []tile
	Parameters                     []Parameter

	Verdicts []verdict
	Shades   template.HTML
	Timeline template.HTML
	Classes  []string
	Notes    []Parameter
	Hover    []hovered

	Seats               []figure
	SeatsLeftOut        int
	LatencyAll          figure
	Latency             []figure
	Rates               []figure
	Leaders, Terms, Lag template.HTML
	RaftNote            string
	Lagging             []nodeKey

	Gaps          []gapRow
	Kinds         []kindRow
	PoolColumns   []string
	PoolRows      []poolRow
	PoolsLeftOut  int
	Errors        []errorRow
	Faults        []faultRow
	FaultsLeftOut int
	Files         []rawFile
}

type tile struct{ Number, Words, Class string }

type verdict struct {
	Name, Title, Result, Word, Summary string
	Evidence                           []string
	More                               int
	Files                              []rawFile
	Open                               bool
}

// hovered is a fault as the cross-hair needs it.
type hovered struct {
	A, B float64 // thousandths of the run
	T    string
}

type nodeKey struct {
	Name, Class string
}

type gapRow struct {
	*family
	Gap, LimitText, Lasting string
	// Share and LimitShare are the lengths of the bar and of its mark in percent.
	Share, LimitShare float64
}

type kindRow struct {
	Name                         string
	Invoked                      string
	OK, Denied, Fail, Info       string
	P50, P99, Max                string
	OKShare, DeniedShare         float64
	FailShare, InfoShare, Length float64
}

type poolRow struct {
	Name  string
	Cells []string
}

type errorRow struct{ Count, Text string }

type faultRow struct {
	ID, Family, Class, Where, When, Lasted, Proof, Gap string
	Meanwhile                                          string
	Bit, NoMajority                                    bool
}

func makeView(r *checker.Run, rep *checker.Report, x Extra, notes nemesisNotes) *view {
	log := placeEntries(r)
	p := findPools(r, log)
	w := workDone(r.Ops, r.End, p)
	gaps := checker.Gaps(r)
	families := familiesOf(r, gaps)
	raft := raftOf(r, log, notes.changes)
	merge := len(r.Faults) > mostDrawn
	shade := shades(families, r.End, merge)

	sum := sha256.Sum256([]byte(pageScript))
	v := &view{Style: template.CSS(pageStyle), Script: template.JS(pageScript), EndNS: max(r.End, 1),
		Policy:  "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'",
		Problem: clip(x.Problem, mostLetters)}
	v.head(r, rep, x)
	v.tiles(r, w, raft, families, gaps)
	v.verdicts(rep)
	v.Shades = shadeDefs(shade)
	v.Timeline = drawTimeline(families, phasesOf(r), r.End, merge)
	v.classes(families)
	for _, n := range notes.notes {
		v.Notes = append(v.Notes, Parameter{timeText(n.at), clip(n.text, mostLetters)})
	}
	if !merge {
		for _, s := range shade[:min(len(shade), mostOnHover)] {
			v.Hover = append(v.Hover, hovered{s.from, s.to, clip(s.fault.Family, 40) + " " + joined(s.fault.Nodes)})
		}
	}
	shown := p.order[:min(len(p.order), mostPools)]
	v.SeatsLeftOut = len(p.order) - len(shown)
	for _, u := range seatsOverTime(r, log, p, shown) {
		v.Seats = append(v.Seats, drawSeats(u, shade))
	}
	v.latencies(w, shade, r.End)
	v.Rates = []figure{drawRates(w, "answered", classOK, classDenied, shade, 130), drawRates(w, "not answered", classFail, classInfo, shade, 70)}
	v.raft(raft, r.End, shade)
	v.gaps(families)
	v.counts(w, p)
	v.faults(r, gaps)
	v.Files = filesOf(x.Dir)
	return v
}

// resultWords are how a result is shown.
func resultWords(res checker.Result) (class, word string) {
	switch res {
	case checker.Valid:
		return "valid", "valid"
	case checker.Invalid:
		return "invalid", "INVALID"
	}
	return "unknown", "not conclusive"
}

func (v *view) head(r *checker.Run, rep *checker.Report, x Extra) {
	v.Result, v.ResultWord = resultWords(rep.Result)
	var bad, unsure []string
	for _, c := range rep.Verdicts {
		switch c.Result {
		case checker.Invalid:
			bad = append(bad, c.Name+" ("+c.Title+")")
		case checker.Unknown:
			unsure = append(unsure, c.Name)
		}
	}
	var why []string
	if len(bad) > 0 {
		why = append(why, "Against it: "+strings.Join(bad, ", ")+".")
	}
	if len(unsure) > 0 {
		why = append(why, "Too little was seen for "+strings.Join(unsure, ", ")+".")
	}
	switch {
	case len(rep.Verdicts) == 0:
		why = append(why, "No checker has judged this run.")
	case len(why) == 0:
		why = append(why, fmt.Sprintf("All %d checkers saw enough and found nothing.", len(rep.Verdicts)))
	}
	v.Why = strings.Join(why, " ")
	v.Seed = fmt.Sprint(r.Seed)
	v.Lasted = durationText(r.End)
	v.Begun = clip(r.Started, 60)
	if t, err := time.Parse(time.RFC3339, r.Started); err == nil {
		v.Begun = t.UTC().Format("2 January 2006, 15:04:05 UTC")
	}
	v.Title = "Chaos run"
	if x.Dir != "" {
		v.Title = filepath.Base(x.Dir)
	} else if r.Name != "" {
		v.Title = r.Name
	}
	v.Title = clip(v.Title, 120)
	if v.Repeat = x.Repeat; v.Repeat == "" {
		v.Repeat = guessRepeat(r)
	}
	if x.Dir != "" {
		v.Again = "make jepsen-replay RUN=" + x.Dir
	}
	v.parameters(r, x)
}

func (v *view) parameters(r *checker.Run, x Extra) {
	add := func(name, value string) {
		if value != "" {
			v.Parameters = append(v.Parameters, Parameter{clip(name, 60), clip(strings.TrimSpace(value), mostLetters)})
		}
	}
	add("seed", fmt.Sprint(r.Seed))
	add("name", r.Name)
	add("nodes", strings.Join(r.Nodes, ", "))
	add("workload", r.Workload)
	add("processes at once", zeroless(r.Concurrency))
	add("fault families", strings.Join(r.Nemesis, ", "))
	var list []string
	for _, p := range r.Pools {
		list = append(list, fmt.Sprintf("%s: %d seats, lifespan %s, grace %s", poolOf(p.Tenant, p.Feature), p.Total, durationText(p.LifespanNS), durationText(p.GraceNS)))
	}
	add("pools", strings.Join(list, "; "))
	l := r.Limits
	add("promises", fmt.Sprintf("tick %s, largest step of cluster time %s, election %s, gap in service %s",
		durationText(l.TickNS), durationText(l.MaxStepNS), durationText(l.ElectionNS), durationText(l.GapNS)))
	for _, p := range x.Parameters {
		add(p.Name, p.Value)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Versions)) {
		add("version of "+k, r.Versions[k])
	}
}

func zeroless(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// guessRepeat makes the command out of what the test tells. Faults that overlap or come
// often were mixed.
func guessRepeat(r *checker.Run) string {
	if len(r.Nodes) == 0 {
		return ""
	}
	const often = 3 // a family that does not bite is tried so often
	mixed := false
	made := map[string]int{}
	for i := range r.Faults {
		made[r.Faults[i].Family]++
		mixed = mixed || made[r.Faults[i].Family] > often || i > 0 && r.Faults[i].From < r.Faults[i-1].To
	}
	if mixed {
		hours := float64(r.Phases[history.PhaseHealed]-r.Phases[history.PhaseFaults]) / float64(time.Hour)
		return fmt.Sprintf("make jepsen-long HOURS=%.2g NODES=%d SEED=%d", max(hours, 0.01), len(r.Nodes), r.Seed)
	}
	return fmt.Sprintf("make jepsen SEED=%d", r.Seed)
}

func (v *view) tiles(r *checker.Run, w *work, raft *raftFacts, families []*family, gaps []int64) {
	bit := 0
	var kinds int
	for _, f := range families {
		bit += f.Bit
		kinds++
	}
	var longest int64 = -1
	for _, g := range gaps {
		longest = max(longest, g)
	}
	answered := w.classes[classOK] + w.classes[classDenied]
	share := "none answered"
	if w.invoked > 0 {
		share = fmt.Sprintf("%.1f %% answered", 100*float64(answered)/float64(w.invoked))
	}
	v.Tiles = []tile{
		{thousands(w.invoked), "operations, " + share, ""},
		{fmt.Sprintf("%s of %s", thousands(bit), thousands(len(r.Faults))), fmt.Sprintf("faults bit, of %d families", kinds), ""},
		{thousands(raft.changes()), "changes of leader", ""},
		{durationText(longest), "longest gap in service", ""},
		{thousands(len(r.Beliefs)), "beliefs in seats", ""},
		{thousands(raft.entries), "log entries", ""},
	}
}

func (v *view) verdicts(rep *checker.Report) {
	for _, c := range rep.Verdicts {
		class, word := resultWords(c.Result)
		x := verdict{Name: c.Name, Title: clip(c.Title, 200), Result: class, Word: word, Summary: clip(c.Summary, mostLetters), Open: c.Result == checker.Invalid}
		for _, e := range c.Evidence[:min(len(c.Evidence), mostEvidence)] {
			x.Evidence = append(x.Evidence, clip(e, mostLetters))
		}
		x.More = max(0, c.Cases-len(x.Evidence))
		for _, f := range c.Files[:min(len(c.Files), mostEvidence)] {
			x.Files = append(x.Files, rawFile{Name: clip(f, 200), Link: link(filepath.ToSlash(f))})
		}
		v.Verdicts = append(v.Verdicts, x)
	}
}

// phasesOf orders the phases; each lasts to the next.
func phasesOf(r *checker.Run) []phase {
	const most = 50
	var list []phase
	for name, at := range r.Phases {
		list = append(list, phase{name: clip(name, 40), from: at})
	}
	slices.SortFunc(list, func(a, b phase) int { return cmp.Or(cmp.Compare(a.from, b.from), strings.Compare(a.name, b.name)) })
	for i := range list {
		if list[i].to = r.End; i+1 < len(list) {
			list[i].to = list[i+1].from
		}
	}
	return list[:min(len(list), most)]
}

func (v *view) classes(families []*family) {
	for _, f := range families {
		if !slices.Contains(v.Classes, f.Class) {
			v.Classes = append(v.Classes, f.Class)
		}
	}
	slices.Sort(v.Classes)
}

func (v *view) latencies(w *work, shade []drawn, end int64) {
	v.LatencyAll = drawLatency(w.kinds[0], fullWidth, shade, end)
	for _, k := range kindsDrawn(w.kinds) {
		v.Latency = append(v.Latency, drawLatency(k, halfWidth, shade, end))
	}
}

func (v *view) raft(f *raftFacts, end int64, shade []drawn) {
	v.Leaders, v.Terms = drawLeaders(f, end, shade), drawTerms(f, end)
	if len(f.lags) > 0 {
		v.Lag = drawLag(f, end)
	}
	for i, n := range f.nodes {
		if f.lags[n] != nil {
			v.Lagging = append(v.Lagging, nodeKey{clip(n, 40), fmt.Sprintf("node%d", i%nodeColours)})
		}
	}
	v.RaftNote = fmt.Sprintf("%s epochs, last index %s", thousands(len(f.leaders)), thousands(int(f.last)))
	if f.entries == 0 {
		v.RaftNote = fmt.Sprintf("%s leaders seen from outside; no log is there", thousands(len(f.leaders)))
	}
}
