package main

import (
	"errors"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

const plotWidth, plotHeight = 8 * vg.Inch, 4 * vg.Inch

// colours that people who see few of them can tell apart (Okabe and Ito).
var colours = []color.Color{
	color.RGBA{0, 114, 178, 255}, color.RGBA{213, 94, 0, 255}, color.RGBA{230, 159, 0, 255},
	color.RGBA{0, 158, 115, 255}, color.RGBA{204, 121, 167, 255}, color.RGBA{86, 180, 233, 255},
	color.RGBA{90, 90, 90, 255},
}

// line is one line of a plot: points with their spread at the places of the x axis.
type line struct {
	title string
	at    []int
	y     []spread
}

func drawPlots(r *results, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, each := range []struct {
		file, title, y string
		list           []series
		f              field
	}{
		{"cycles.svg", "Checkout and check-in, durable", "cycles/s", cycles, perSecond},
		{"latency.svg", "p99 of a cycle", "ms", cycles, func(r load.Row) float64 { return r.Latency.P99 / 1000 }},
		{"heartbeats.svg", "Heartbeats", "sessions renewed/s", heartbeats, perSecond},
	} {
		clients := r.clients(each.list...)
		var names []string
		for _, n := range clients {
			names = append(names, strconv.Itoa(n))
		}
		var lines []line
		for _, s := range each.list {
			l := line{title: s.title}
			for i, n := range clients {
				if v := r.of(s, n, each.f); len(v) > 0 && v.median() > 0 {
					l.at, l.y = append(l.at, i), append(l.y, v)
				}
			}
			lines = append(lines, l)
		}
		if err := drawLines(filepath.Join(dir, each.file), each.title, "clients", each.y, names, lines); err != nil {
			return err
		}
	}
	return drawSurge(r, dir)
}

// drawSurge shows what the quiet tenant feels.
func drawSurge(r *results, dir string) error {
	report := r.Single["surge"]
	if report == nil {
		return nil
	}
	var lines []line
	for _, name := range []string{"quiet tenant alone", "quiet tenant beside polite ones", "quiet tenant beside rude ones", "quiet tenant beside streamed ones"} {
		row, ok := report.Row(name, 0)
		if !ok {
			continue
		}
		l := line{title: name}
		for i, us := range []float64{row.Latency.P50, row.Latency.P90, row.Latency.P95, row.Latency.P99, row.Latency.Max} {
			if us > 0 {
				l.at, l.y = append(l.at, i), append(l.y, spread{us / 1000})
			}
		}
		lines = append(lines, l)
	}
	return drawLines(filepath.Join(dir, "surge.svg"), "A quiet tenant beside one that misbehaves", "percentile of a cycle", "ms",
		[]string{"p50", "p90", "p95", "p99", "max"}, lines)
}

// drawLines draws one plot. Rates differ by magnitudes: the y axis is logarithmic.
func drawLines(file, title, xTitle, yTitle string, names []string, lines []line) error {
	p := plot.New()
	p.Title.Padding = vg.Points(6)
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, xTitle, yTitle
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.3, float64(len(names))-0.7
	p.Legend.Top, p.Legend.Left = false, false
	p.Legend.XOffs, p.Legend.Padding = -vg.Points(4), vg.Points(2)
	grid := plotter.NewGrid()
	grid.Vertical.Color = nil
	grid.Horizontal.Color = color.Gray{190}
	p.Add(grid)
	least := math.Inf(1)
	for i, l := range lines {
		if len(l.at) == 0 {
			continue
		}
		points := &spreadPoints{}
		for k, at := range l.at {
			// A little beside each other, or whiskers hide one another.
			points.add(float64(at)+0.03*(float64(i)-float64(len(lines)-1)/2), l.y[k])
			least = min(least, points.low(k))
		}
		drawn, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return err
		}
		whiskers, err := plotter.NewYErrorBars(points)
		if err != nil {
			return err
		}
		c := colours[i%len(colours)]
		drawn.Color, dots.Color, whiskers.Color = c, c, c
		drawn.Width, dots.Shape, dots.Radius = vg.Points(1.5), draw.CircleGlyph{}, vg.Points(3)
		p.Add(drawn, dots, whiskers)
		p.Legend.Add(l.title, drawn, dots)
	}
	// Room below the lines for the legend.
	p.Y.Min = least / math.Pow(2, 1+float64(len(lines)))
	canvas := vgsvg.New(plotWidth, plotHeight)
	const margin = 8
	p.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}

// spreadPoints are medians with the distance to the least and the most.
type spreadPoints struct {
	plotter.XYs
	plotter.YErrors
}

func (s *spreadPoints) add(x float64, y spread) {
	m := y.median()
	low, high := m, m
	for _, v := range y {
		low, high = min(low, v), max(high, v)
	}
	s.XYs = append(s.XYs, plotter.XY{X: x, Y: m})
	s.YErrors = append(s.YErrors, struct{ Low, High float64 }{m - low, high - m})
}

func (s *spreadPoints) low(i int) float64 { return s.XYs[i].Y - s.YErrors[i].Low }
