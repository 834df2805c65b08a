package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
)

// drawBench draws a report for people.
func drawBench(t *table, r *load.Report) {
	t.text("%s of %s %s on %d × %s, %s, data on %s", r.Bench, r.System, r.Version, r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel, r.Machine.FileSystem)
	t.text("")
	t.row("WHAT", "CLIENTS", "RATE", "PER SECOND", "P50", "P95", "P99", "MAX", "MEAN", "ERRORS", "UNSENT")
	for _, row := range r.Rows {
		rate := ""
		if row.Rate > 0 {
			rate = fmt.Sprintf("%.0f", row.Rate)
		}
		l := row.Latency
		t.row(row.Name, row.Clients, rate, perSecond(row.PerSecond), micros(l.P50), micros(l.P95), micros(l.P99), micros(l.Max), micros(l.Mean), errorsText(row), row.Unsent)
	}
	if len(r.Values) > 0 {
		t.text("")
		for _, v := range r.Values {
			t.row(v.Name, strings.TrimSpace(valueText(v)))
		}
	}
	t.text("")
	for _, n := range r.Notes {
		t.text("- %s", n)
	}
}

func perSecond(f float64) string {
	if f == 0 {
		return ""
	}
	if f < 100 {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

func micros(us float64) string {
	if us == 0 {
		return ""
	}
	d := time.Duration(us * float64(time.Microsecond))
	switch {
	case d < 10*time.Millisecond:
		return d.Round(time.Microsecond).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

func valueText(v load.Value) string {
	switch v.Unit {
	case "us":
		return micros(v.Value)
	case "bytes":
		if v.Value >= 10<<20 {
			return fmt.Sprintf("%.0f MiB", v.Value/(1<<20))
		}
		return fmt.Sprintf("%.0f bytes", v.Value)
	case "clients", "times", "requests":
		return fmt.Sprintf("%.0f", v.Value)
	}
	return fmt.Sprintf("%.2f %s", v.Value, v.Unit)
}

func errorsText(r load.Row) string {
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(r.Errors)) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, r.Errors[reason]))
	}
	return strings.Join(parts, ", ")
}

// stepBar shows on a terminal how far a step is.
type stepBar struct {
	out io.Writer
	mu  sync.Mutex
}

func newStepBar(out io.Writer) *stepBar { return &stepBar{out: out} }

const (
	stepBarWidth = 24
	// stepBarEvery is often enough to look alive and costs nothing.
	stepBarEvery = 200 * time.Millisecond
	clearStep    = "\r\x1b[K"
)

// step is a bench.Progress.
func (b *stepBar) step(what string, takes time.Duration, done *atomic.Int64, total int64) (finished func()) {
	began, stop, stopped := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(stepBarEvery)
		defer tick.Stop()
		for {
			b.draw(what, time.Since(began), takes, done.Load(), total)
			select {
			case <-stop:
				b.write(clearStep)
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		<-stopped
	})
}

func (b *stepBar) draw(what string, gone, takes time.Duration, done, total int64) {
	part, text := 0.0, ""
	switch {
	case total > 0:
		part, text = float64(done)/float64(total), fmt.Sprintf("%d of %d", done, total)
	case takes > 0:
		part, text = float64(gone)/float64(takes), fmt.Sprintf("%s of %s", gone.Round(time.Second), takes)
		if done > 0 {
			text += fmt.Sprintf(", %d done", done)
		}
	default:
		text = gone.Round(time.Second).String()
	}
	full := int(min(part, 1) * stepBarWidth)
	b.write(fmt.Sprintf("%s[%s%s] %s: %s", clearStep, strings.Repeat("#", full), strings.Repeat(".", stepBarWidth-full), what, text))
}

func (b *stepBar) write(s string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = io.WriteString(b.out, s)
}
