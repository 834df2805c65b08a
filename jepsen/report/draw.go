package report

import (
	"fmt"
	"html/template"
	"math"
	"slices"
	"strconv"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// figure is a chart with its words.
type figure struct {
	Title, Note string
	Chart       template.HTML
	// Over warns: what is drawn is more than may be.
	Over bool
}

// shadeDefs are the faults as every chart shows them behind its lines.
func shadeDefs(list []drawn) template.HTML {
	c := newChart("", fullWidth, 1, 1)
	for _, s := range list {
		c.box("shade "+s.class, s.from, s.to, 0, 1, "")
	}
	return template.HTML(`<svg class="defs" width="0" height="0" aria-hidden="true"><defs><g id="shade">` + c.body.String() + `</g></defs></svg>`) // all of it is ours
}

const rowHeight = 17

// mostRows bounds the rows of the timeline.
const mostRows = 60

// phase is a turn of the run with its time.
type phase struct {
	name     string
	from, to int64
}

// drawTimeline has the phases in its first row and one row for each family of faults.
func drawTimeline(families []*family, phases []phase, end int64, merge bool) template.HTML {
	families = families[:min(len(families), mostRows)]
	rows := len(families) + 1
	c := newChart("phases and faults over time", fullWidth, rows*rowHeight, end)
	c.shaded = false
	const gap = 0.13 // of a row
	row := func(i int) (low, high, middle float64) {
		h := 1 / float64(rows)
		high = 1 - float64(i)*h
		return high - h + gap*h, high - gap*h, high - h/2
	}
	low, high, mid := row(0)
	c.ticks = append(c.ticks, tick{mid, "phase"})
	for i, p := range phases {
		a, b := c.across(p.from), c.across(p.to)
		c.box(fmt.Sprintf("phase p%d", i%2), a, b, low, high, p.name+": "+spanText(p.from, p.to))
		c.label("in", p.name, a, b, mid-4/float64(c.height))
	}
	for i, f := range families {
		low, high, mid := row(i + 1)
		c.ticks = append(c.ticks, tick{mid, clip(f.Name, 18)})
		for _, s := range stretches(f.windows, f.Class, end, merge) {
			class, hover := "bar "+s.class, ""
			if !s.bit {
				class += " nobite"
			}
			if w := s.fault; w != nil {
				hover = fmt.Sprintf("%s: %s\n%s\n%s", clip(w.ID, 60), spanText(w.From, w.To), joined(w.Nodes, w.CutOff), bitText(w.Bit, w.Proof))
			}
			c.box(class, s.from, s.to, low, high, hover)
		}
	}
	return c.svg()
}

// drawSeats shows one pool: committed, believed and licensed seats.
func drawSeats(u *usage, shade []drawn) figure {
	top := max(u.committed.highest(), u.believed.highest(), u.capacity.highest(), 1)
	c := newChart("seats of "+u.pool.String(), fullWidth, 120, u.capacity.end)
	ticks, scale := countTicks(top, 1)
	c.ticks = ticks
	share := func(v float64) float64 { return v / scale }
	zero := make([]float64, len(u.committed.peak))
	c.area("peak", zero, u.committed.peak, share)
	c.area("fill committed", zero, u.committed.mean, share)
	c.steps("line committed", u.committed.mean, share)
	c.steps("line believed", u.believed.mean, share)
	c.steps("line capacity", u.capacity.peak, share)
	beyond := slices.Repeat([]float64{math.NaN()}, len(zero))
	f := figure{Title: u.pool.String()}
	for i := range beyond {
		if v := max(u.committed.peak[i], u.believed.peak[i]); v > u.capacity.peak[i] {
			beyond[i], f.Over = v, true
		}
	}
	c.dots("dot over-capacity", beyond, share)
	c.faultLabels(shade)
	f.Note = fmt.Sprintf("at most %s committed, %s believed, of %s", count(u.committed.highest()), count(u.believed.highest()), count(u.capacity.highest()))
	if u.fromStatus {
		f.Note += " · committed as status answers told it: no log is there"
	}
	if f.Over {
		f.Note += " · more than there are"
	}
	f.Chart = c.svg()
	return f
}

func count(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// drawLatency shows how long answers of one kind took.
func drawLatency(k *kind, width int, shade []drawn, end int64) figure {
	title := string(k.f)
	if title == "" {
		title = "all operations"
	}
	c := newChart("latency of "+title, width, 130, end)
	var p50, p99, most []float64
	lowest, highest := math.Inf(1), 0.0
	for _, s := range k.spreads {
		if s == nil {
			p50, p99, most = append(p50, math.NaN()), append(p99, math.NaN()), append(most, math.NaN())
			continue
		}
		a, b, m := float64(s.quantile(.5)), float64(s.quantile(.99)), float64(s.max)
		lowest, highest = min(lowest, a), max(highest, m)
		p50, p99, most = append(p50, a), append(p99, b), append(most, m)
	}
	if highest == 0 { // an axis for nothing
		lowest, highest = 1e6, 1e9
	}
	bottom := math.Floor(math.Log10(max(lowest, fastest)))
	top := max(math.Ceil(math.Log10(max(highest, fastest))), bottom+1)
	share := func(v float64) float64 { return (math.Log10(max(v, 1)) - bottom) / (top - bottom) }
	for e := bottom; e <= top; e++ {
		c.ticks = append(c.ticks, tick{(e - bottom) / (top - bottom), durationText(int64(math.Pow(10, e)))})
	}
	c.dots("dot max", most, share)
	c.line("line p99", p99, share)
	c.line("line p50", p50, share)
	c.faultLabels(shade)
	return figure{Title: title, Chart: c.svg(), Note: fmt.Sprintf("%s answered · p50 %s · p99 %s · longest %s", thousands(int(k.whole.n)),
		durationText(k.whole.quantile(.5)), durationText(k.whole.quantile(.99)), durationText(k.whole.max))}
}

// drawRates stacks two classes of outcomes.
func drawRates(w *work, title string, lower, upper int, shade []drawn, height int) figure {
	c := newChart(title, fullWidth, height, w.span.end)
	first := w.rates[lower]
	both := make([]float64, len(first))
	zero := make([]float64, len(first))
	top := 0.0
	for i := range both {
		both[i] = first[i] + w.rates[upper][i]
		top = max(top, both[i])
	}
	ticks, scale := countTicks(top, .1)
	c.ticks = ticks
	share := func(v float64) float64 { return v / scale }
	c.area("stack "+classNames[lower], zero, first, share)
	c.area("stack "+classNames[upper], first, both, share)
	c.faultLabels(shade)
	return figure{Title: title, Chart: c.svg(), Note: fmt.Sprintf("%s %s · %s %s", thousands(w.classes[lower]), classNames[lower],
		thousands(w.classes[upper]), classNames[upper])}
}

// drawLeaders has a row for each node that shows while it led, with the term, and marks
// where the harness saw a leader from outside.
func drawLeaders(f *raftFacts, end int64, shade []drawn) template.HTML {
	rows := max(len(f.nodes), 1)
	c := newChart("leaders and terms over time", fullWidth, rows*24, end)
	h := 1 / float64(rows)
	row := map[string]float64{} // middle
	for i, n := range f.nodes {
		row[n] = 1 - (float64(i)+.5)*h
		c.ticks = append(c.ticks, tick{row[n], clip(n, 18)})
	}
	merged := len(f.leaders) > mostDrawn
	step := 1
	if merged { // each n-th: the page stays small
		step = len(f.leaders)/mostDrawn + 1
	}
	for i := 0; i < len(f.leaders); i += step {
		l := f.leaders[i]
		mid, ok := row[l.node]
		if !ok {
			continue
		}
		a, b := c.across(l.from), c.across(l.to)
		c.box(fmt.Sprintf("lead l%d", i%2), a, b, mid-h*.36, mid+h*.36, fmt.Sprintf("%s leads in term %d, epoch %d: %s", l.node, l.term, l.index, spanText(l.from, l.to)))
		c.label("in", fmt.Sprintf("term %d", l.term), a, b, mid-4/float64(c.height))
	}
	for i := 0; i < min(len(f.seen), mostDrawn); i++ {
		s := f.seen[i]
		if mid, ok := row[nodeName(s.Leader)]; ok {
			x := c.across(s.At)
			c.box("seen", x-.7, x+.7, mid-h*.48, mid+h*.48, fmt.Sprintf("%s was seen to lead in term %d at %s", clip(s.Leader, 40), s.Term, timeText(s.At)))
		}
	}
	c.faultLabels(shade)
	return c.svg()
}

func drawTerms(f *raftFacts, end int64) template.HTML {
	c := newChart("raft term over time", fullWidth, 60, end)
	ticks, scale := countTicks(f.terms.highest(), 1)
	c.ticks = ticks
	c.steps("line committed", f.terms.peak, func(v float64) float64 { return v / scale })
	return c.svg()
}

// drawLag shows, on a log scale that begins at 0, how far each node was behind.
func drawLag(f *raftFacts, end int64) template.HTML {
	c := newChart("entries behind the foremost node", fullWidth, 120, end)
	top := 1.0
	for _, list := range f.lags {
		for _, v := range list {
			top = max(top, v)
		}
	}
	decades := math.Ceil(math.Log10(1 + top))
	share := func(v float64) float64 { return math.Log10(1+v) / decades }
	c.ticks = []tick{{0, "0"}}
	for e := 0.0; e <= decades; e++ {
		if v := math.Pow(10, e); share(v) <= 1 {
			c.ticks = append(c.ticks, tick{share(v), thousands(int(v))})
		}
	}
	for i, n := range f.nodes {
		var list []float64
		for _, v := range f.lags[n] {
			if v < 0 {
				v = math.NaN()
			}
			list = append(list, v)
		}
		if list != nil {
			c.line(fmt.Sprintf("line node%d", i%nodeColours), list, share)
		}
	}
	return c.svg()
}

// nodeColours is how many nodes have a colour of their own.
const nodeColours = 6

func spanText(from, to int64) string {
	return fmt.Sprintf("%s to %s (%s)", timeText(from), timeText(to), durationText(to-from))
}

func bitText(bit bool, proof string) string {
	if !bit {
		return "had no effect: " + clip(proof, 200)
	}
	return clip(proof, 200)
}

func joined(lists ...[]string) string {
	var s string
	for _, list := range lists {
		for i, x := range list {
			if i == 12 {
				s += "…"
				break
			}
			s += clip(x, 40) + " "
		}
	}
	return s
}

// kindsDrawn are the kinds that get a chart of their own.
func kindsDrawn(list []*kind) []*kind {
	const most, fewest = 10, 2
	var out []*kind
	for _, k := range list {
		if k.f != "" && k.whole.n >= fewest && len(out) < most && k.f != history.FTransfer {
			out = append(out, k)
		}
	}
	return out
}
