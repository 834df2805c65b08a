package report

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Sizes in the units of a drawing's own grid. The part that can be zoomed is 1000 wide
// and 100 high whatever its size on the page.
const (
	fullWidth, halfWidth = 1160, 570
	// wideGutter is room for the names of families, narrowGutter for numbers.
	wideGutter, narrowGutter = 112, 62
	rightGutter              = 10
	axisHeight               = 22
	labelHeight              = 14
	plotWidth                = 1000.0
	plotHeight               = 100.0
	// letter is how wide a small letter is, for what fits.
	letter = 6.0
)

// tick is a place on the upright axis, 0 below to 1 above.
type tick struct {
	at    float64
	label string
}

// chart is one drawing over the span of the run.
type chart struct {
	title         string
	width, height int // height of the plot alone
	left          int
	end           int64
	ticks         []tick
	shaded        bool
	body          strings.Builder // in the plot's units
	over          strings.Builder // labels, in page units
}

func newChart(title string, width, height int, end int64) *chart {
	left := wideGutter
	if width < fullWidth {
		left = narrowGutter
	}
	return &chart{title: title, width: width, height: height, left: left, end: max(end, 1), shaded: true}
}

func (c *chart) plotPixels() float64 { return float64(c.width - c.left - rightGutter) }

// num writes a number in few letters.
func num(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0")
}

// across is the place of a time in the plot.
func (c *chart) across(t int64) float64 {
	return min(max(float64(t)/float64(c.end), 0), 1) * plotWidth
}

// up turns a share of the height into a place in the plot, which counts downwards.
func up(share float64) float64 { return plotHeight * (1 - min(max(share, 0), 1)) }

// steps draws values that stay for a bucket as a line; NaN leaves a gap.
func (c *chart) steps(class string, values []float64, share func(float64) float64) {
	var d strings.Builder
	width := plotWidth / float64(len(values))
	pen, last := false, math.NaN()
	for i, v := range values {
		if math.IsNaN(v) {
			pen = false
			continue
		}
		y := up(share(v))
		x := float64(i) * width
		switch {
		case !pen:
			fmt.Fprintf(&d, "M%s %s", num(x), num(y))
		case num(y) != num(last):
			fmt.Fprintf(&d, "H%sV%s", num(x), num(y))
		}
		if i+1 == len(values) || math.IsNaN(values[i+1]) {
			fmt.Fprintf(&d, "H%s", num(x+width))
		}
		pen, last = true, y
	}
	c.path(class, d.String())
}

// area fills between two rows of values.
func (c *chart) area(class string, lower, upper []float64, share func(float64) float64) {
	var d strings.Builder
	width := plotWidth / float64(len(upper))
	for i := 0; i < len(upper); {
		if upper[i] <= lower[i] {
			i++
			continue
		}
		from := i
		for i < len(upper) && upper[i] > lower[i] {
			i++
		}
		fmt.Fprintf(&d, "M%s %s", num(float64(from)*width), num(up(share(upper[from]))))
		for k := from; k < i; k++ {
			if k == from || num(up(share(upper[k]))) != num(up(share(upper[k-1]))) {
				fmt.Fprintf(&d, "H%sV%s", num(float64(k)*width), num(up(share(upper[k]))))
			}
		}
		fmt.Fprintf(&d, "H%s", num(float64(i)*width))
		fmt.Fprintf(&d, "V%s", num(up(share(lower[i-1]))))
		for k := i - 1; k >= from; k-- {
			if k == from || num(up(share(lower[k]))) != num(up(share(lower[k-1]))) {
				fmt.Fprintf(&d, "H%s", num(float64(k)*width))
				if k > from {
					fmt.Fprintf(&d, "V%s", num(up(share(lower[k-1]))))
				}
			}
		}
		d.WriteString("Z")
	}
	c.path(class, d.String())
}

// dots marks values; NaN has none.
func (c *chart) dots(class string, values []float64, share func(float64) float64) {
	var d strings.Builder
	width := plotWidth / float64(len(values))
	for i, v := range values {
		if !math.IsNaN(v) {
			fmt.Fprintf(&d, "M%s %sh0", num((float64(i)+0.5)*width), num(up(share(v))))
		}
	}
	c.path(class, d.String())
}

// line joins the middles of buckets; NaN leaves a gap.
func (c *chart) line(class string, values []float64, share func(float64) float64) {
	var d strings.Builder
	width := plotWidth / float64(len(values))
	pen := false
	for i, v := range values {
		if math.IsNaN(v) {
			pen = false
			continue
		}
		step := "L"
		if !pen {
			step = "M"
		}
		x := (float64(i) + 0.5) * width
		fmt.Fprintf(&d, "%s%s %s", step, num(x), num(up(share(v))))
		if !pen && (i+1 == len(values) || math.IsNaN(values[i+1])) {
			d.WriteString("h.1") // alone, but to be seen
		}
		pen = true
	}
	c.path(class, d.String())
}

func (c *chart) path(class, d string) {
	if d != "" {
		fmt.Fprintf(&c.body, `<path class="%s" d="%s"/>`, html.EscapeString(class), d)
	}
}

// box draws a bar from one place of the plot to another (thousandths and shares of the
// height); hover, if any, is shown by the browser when the pointer rests on it.
func (c *chart) box(class string, from, to, low, high float64, hover string) {
	const thinnest = 0.8
	fmt.Fprintf(&c.body, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"`, html.EscapeString(class), num(from), num(up(high)),
		num(max(to-from, thinnest)), num((high-low)*plotHeight))
	if hover == "" {
		c.body.WriteString("/>")
		return
	}
	fmt.Fprintf(&c.body, "><title>%s</title></rect>", html.EscapeString(hover))
}

// label writes words over a stretch of the plot, if they fit.
func (c *chart) label(class, text string, from, to, height float64) {
	y := labelHeight + float64(c.height)*(1-height)
	c.place(&c.over, class, text, from, to, y)
}

func (c *chart) place(b *strings.Builder, class, text string, from, to, y float64) {
	pixels := (to - from) / plotWidth * c.plotPixels()
	hidden := ""
	if pixels < letter*float64(len([]rune(text))) {
		hidden = ` visibility="hidden"`
	}
	fmt.Fprintf(b, `<text class="over %s" x="%s" y="%s" data-a="%s" data-b="%s"%s>%s</text>`, html.EscapeString(class),
		num(float64(c.left)+(from+to)/2/plotWidth*c.plotPixels()), num(y), num(from), num(to), hidden, html.EscapeString(text))
}

// mostLabels is how many faults may be named above each chart.
const mostLabels = 80

// faultLabels names the shaded stretches above the plot.
func (c *chart) faultLabels(list []drawn) {
	if c.width < fullWidth || len(list) > mostLabels {
		return // few would fit
	}
	for _, s := range list {
		if s.fault == nil {
			continue
		}
		text := clip(s.fault.Family, 30)
		if pixels := (s.to - s.from) / plotWidth * c.plotPixels(); pixels < letter*float64(len(text)) {
			text, _, _ = strings.Cut(clip(s.fault.ID, 8), "-")
		}
		c.place(&c.over, "fault "+s.class, text, s.from, s.to, labelHeight-4)
	}
}

// svg is the finished drawing.
func (c *chart) svg() template.HTML {
	var b strings.Builder
	total := labelHeight + c.height + axisHeight
	fmt.Fprintf(&b, `<svg class="chart" viewBox="0 0 %d %d" data-left="%d" data-width="%s" role="img" aria-label="%s">`, c.width, total,
		c.left, num(c.plotPixels()), html.EscapeString(c.title))
	right := c.width - rightGutter
	for _, t := range c.ticks {
		y := labelHeight + float64(c.height)*(1-t.at)
		fmt.Fprintf(&b, `<path class="grid" d="M%d %sH%d"/>`, c.left, num(y), right)
		fmt.Fprintf(&b, `<text class="y" x="%d" y="%s">%s</text>`, c.left-8, num(y+3.5), html.EscapeString(t.label))
	}
	fmt.Fprintf(&b, `<svg class="plot" x="%d" y="%d" width="%s" height="%d" viewBox="0 0 1000 100" preserveAspectRatio="none">`, c.left, labelHeight,
		num(c.plotPixels()), c.height)
	if c.shaded {
		b.WriteString(`<use href="#shade"/>`)
	}
	b.WriteString(c.body.String())
	b.WriteString(`</svg>`)
	bottom := labelHeight + c.height
	fmt.Fprintf(&b, `<path class="base" d="M%d %dH%d"/><g class="x" data-y="%d">`, c.left, bottom, right, bottom+15)
	for _, t := range timeTicks(c.end, int(c.plotPixels()/100)) {
		fmt.Fprintf(&b, `<text x="%s" y="%d">%s</text>`, num(float64(c.left)+t.at*c.plotPixels()), bottom+15, t.label)
	}
	fmt.Fprintf(&b, `</g>%s<path class="cross" d="M0 %dV%d"/></svg>`, c.over.String(), labelHeight, bottom)
	return template.HTML(b.String()) // every text in it was escaped
}

// timeTicks are round times along the level axis, about as many as wanted.
func timeTicks(end int64, wanted int) []tick {
	steps := []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400}
	s := float64(end) / 1e9
	step := steps[len(steps)-1]
	for _, x := range steps {
		if s/x <= float64(max(wanted, 2)) {
			step = x
			break
		}
	}
	for s/step > 50 {
		step *= 2
	}
	var list []tick
	for i := 0; float64(i)*step <= s; i++ {
		list = append(list, tick{float64(i) * step / s, clockText(float64(i)*step, step)})
	}
	return list
}

// clockText is a time since the run began: 1.5 s, 12 s, 3:20, 1:02:00.
func clockText(s, step float64) string {
	switch {
	case step < 1:
		return strconv.FormatFloat(s, 'g', 4, 64) + " s"
	case s < 60:
		return strconv.FormatFloat(s, 'g', 4, 64) + " s"
	case s < 3600:
		return fmt.Sprintf("%d:%02d", int(s)/60, int(s)%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", int(s)/3600, int(s)/60%60, int(s)%60)
}

// countTicks are round numbers, none closer than least, up to about top, and the number
// that the full height stands for.
func countTicks(top, least float64) (list []tick, scale float64) {
	const most = 4
	top = max(top, least)
	step := least
	for ten := math.Pow(10, math.Floor(math.Log10(top))-1); top/step > most; ten *= 10 {
		for _, k := range []float64{1, 2, 5} {
			if step = max(least, ten*k); top/step <= most {
				break
			}
		}
	}
	scale = top * 1.06
	for i := 0; float64(i)*step <= scale; i++ {
		list = append(list, tick{float64(i) * step / scale, strconv.FormatFloat(float64(i)*step, 'f', -1, 64)})
	}
	return list, scale
}

// clip shortens a text that somebody else made.
func clip(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
