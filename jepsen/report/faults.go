package report

import (
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
)

// classOfFamily sorts the families of faults into a few kinds that share a colour.
func classOfFamily(family string) string {
	for _, c := range faultClasses {
		for _, prefix := range c.prefixes {
			if strings.HasPrefix(family, prefix) {
				return c.name
			}
		}
	}
	return "other"
}

var faultClasses = []struct {
	name     string
	prefixes []string
}{
	{"network", []string{"partition", "client-cut", "half-open", "delay", "loss", "retry-storm", "duplicate", "reorder"}},
	{"process", []string{"kill", "pause", "freeze", "starve", "rolling-restart"}},
	{"power", []string{"power"}},
	{"disk", []string{"slow-disk", "hung-disk", "eio", "full-disk", "lying-fsync", "bit-flip", "truncate", "empty-disk"}},
	{"clock", []string{"clock", "uptime"}},
	{"cluster", []string{"transfer", "leader-flap", "membership", "backup", "restore"}},
}

// family is what is known of one family of faults.
type family struct {
	Name, Class string
	Made, Bit   int
	// Longest is the longest gap in service of any, -1 if nobody asked; Limit is what is
	// promised, 0 if nothing is.
	Longest, Limit int64
	// Lasted is how long they were on, all together.
	Lasted  int64
	windows []*checker.Window
}

// Over says whether the gap is longer than promised.
func (f *family) Over() bool { return f.Limit > 0 && f.Longest > f.Limit }

// familiesOf groups the faults, in the order in which the families first appear.
func familiesOf(r *checker.Run, gaps []int64) []*family {
	var list []*family
	byName := map[string]*family{}
	for i := range r.Faults {
		w := &r.Faults[i]
		f := byName[w.Family]
		if f == nil {
			f = &family{Name: w.Family, Class: classOfFamily(w.Family), Longest: -1, Limit: r.Limits.GapNS}
			if x, ok := r.Limits.GapsNS[w.Family]; ok {
				f.Limit = x
			}
			byName[w.Family] = f
			list = append(list, f)
		}
		f.Made++
		if w.Bit {
			f.Bit++
		}
		f.Longest = max(f.Longest, gaps[i])
		f.Lasted += w.To - w.From
		f.windows = append(f.windows, w)
	}
	return list
}

// drawn is a stretch of time in which faults are drawn, in thousandths of the run.
type drawn struct {
	from, to float64
	class    string
	bit      bool
	fault    *checker.Window // nil where several are drawn as one
}

const (
	// mostDrawn is how many faults are drawn one by one; more are drawn in cells.
	mostDrawn = 600
	cells     = 1000
)

// stretches are the places of faults of one class. Beyond mostDrawn in the whole run they
// are merged into cells.
func stretches(windows []*checker.Window, class string, end int64, merge bool) []drawn {
	at := func(t int64) float64 { return min(max(float64(t)/float64(max(end, 1)), 0), 1) * cells }
	var list []drawn
	if !merge {
		for _, w := range windows {
			list = append(list, drawn{at(w.From), at(w.To), class, w.Bit, w})
		}
		return list
	}
	var on [cells]bool
	for _, w := range windows {
		for i := int(at(w.From)); i <= min(int(at(w.To)), cells-1); i++ {
			on[i] = true
		}
	}
	for i := 0; i < cells; i++ {
		if !on[i] {
			continue
		}
		j := i
		for j < cells && on[j] {
			j++
		}
		list = append(list, drawn{float64(i), float64(j), class, true, nil})
		i = j
	}
	return list
}

// shades are the stretches of all faults, by class.
func shades(families []*family, end int64, merge bool) []drawn {
	byClass := map[string][]*checker.Window{}
	var order []string
	for _, f := range families {
		if byClass[f.Class] == nil {
			order = append(order, f.Class)
		}
		byClass[f.Class] = append(byClass[f.Class], f.windows...)
	}
	slices.Sort(order)
	var list []drawn
	for _, c := range order {
		list = append(list, stretches(byClass[c], c, end, merge)...)
	}
	return list
}
