package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// Styles use the sixteen colours of the terminal, so that they fit its theme, and never
// say something that the words do not.
var (
	topBold   = lipgloss.NewStyle().Bold(true)
	topFaint  = lipgloss.NewStyle().Faint(true)
	topBad    = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
	topWarn   = lipgloss.NewStyle().Foreground(lipgloss.Yellow)
	topGood   = lipgloss.NewStyle().Foreground(lipgloss.Green)
	topUsed   = lipgloss.NewStyle().Foreground(lipgloss.Blue)
	topChosen = lipgloss.NewStyle().Reverse(true)
)

const (
	// topNarrow is the least width of a column that shares what is left.
	topNarrow = 10
	// topPoolWords is what the numbers of a pool need beside its name and its bar.
	topPoolWords = 38
	// topShortestBar: a shorter one says nothing.
	topShortestBar = 6
)

// topColumn is a column of the allocations.
type topColumn struct {
	title string
	width int // 0: shares what is left
	right bool
	text  func(*pb.LeaseEntry) string
	less  func(x, y *pb.LeaseEntry) int
}

func textColumn(title string, width int, text func(*pb.LeaseEntry) string) topColumn {
	return topColumn{title, width, false, text, func(x, y *pb.LeaseEntry) int { return strings.Compare(text(x), text(y)) }}
}

func numberColumn(title string, width int, text func(*pb.LeaseEntry) string, value func(*pb.LeaseEntry) int64) topColumn {
	return topColumn{title, width, true, text, func(x, y *pb.LeaseEntry) int { return cmp.Compare(value(x), value(y)) }}
}

// topDropped are the columns that a narrow terminal does without, the least needed first.
var topDropped = []string{"HANDLE", "SINCE", "DUE", "HOST", "STATE"}

var topColumns = []topColumn{
	{"FEATURE", 0, false, func(l *pb.LeaseEntry) string { return l.Feature + " " + l.Version },
		func(x, y *pb.LeaseEntry) int {
			return cmp.Or(strings.Compare(x.Feature, y.Feature), strings.Compare(x.Version, y.Version))
		}},
	textColumn("USER", 0, func(l *pb.LeaseEntry) string { return l.User }),
	textColumn("HOST", 0, func(l *pb.LeaseEntry) string { return l.Host }),
	numberColumn("SEATS", 6, func(l *pb.LeaseEntry) string { return fmt.Sprint(l.Count) }, func(l *pb.LeaseEntry) int64 { return int64(l.Count) }),
	textColumn("STATE", 11, func(l *pb.LeaseEntry) string { return l.State }),
	numberColumn("DUE", 8, func(l *pb.LeaseEntry) string { return millis(l.RemainingMs).String() }, func(l *pb.LeaseEntry) int64 { return int64(l.RemainingMs) }),
	{"SINCE", 10, false, func(l *pb.LeaseEntry) string { return sinceWhen(l.Since, time.Now()) },
		func(x, y *pb.LeaseEntry) int { return strings.Compare(x.Since, y.Since) }},
	numberColumn("HANDLE", 7, func(l *pb.LeaseEntry) string { return fmt.Sprint(l.Handle) }, func(l *pb.LeaseEntry) int64 { return int64(l.Handle) }),
}

// sinceWhen is the time of day for what began today, else the day, on this host's clock.
func sinceWhen(since string, now time.Time) string {
	t, err := time.Parse(time.RFC3339, since)
	if err != nil {
		return since
	}
	if t = t.Local(); t.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateOnly)
}

// View implements tea.Model.
func (m *topModel) View() tea.View {
	var lines []string
	if m.helping {
		lines = topHelp()
	} else {
		lines = m.screen()
	}
	foot := m.foot()
	lines = append(lines[:max(0, min(len(lines), m.height-len(foot)))], foot...)
	for i, l := range lines {
		lines[i] = ansi.Truncate(l, m.width, "…")
	}
	v := tea.NewView(strings.Join(lines[max(0, len(lines)-m.height):], "\n"))
	v.AltScreen = true
	v.WindowTitle = "seatkeeper top"
	return v
}

// screen is all but the foot.
func (m *topModel) screen() []string {
	lines := append(m.head(), m.pools()...)
	lines = append(lines, "", m.titles())
	rows := max(1, m.height-len(lines)-len(m.foot()))
	m.scroll(rows)
	for i := m.top; i < m.top+rows; i++ {
		lines = append(lines, m.row(i))
	}
	return lines
}

func topHelp() []string {
	lines := []string{topBold.Render("seatkeeper top"), ""}
	for _, l := range strings.Split(topKeys, "\n") {
		lines = append(lines, strings.TrimPrefix(l, "  "))
	}
	return append(lines, "", "DUE is the time to the next heartbeat; a lease that misses it is expiring, then gone.",
		"Bars: full blocks are in use, shaded ones reserved.")
}

// rows is how many leases fit on the screen.
func (m *topModel) rows() int {
	return max(1, m.height-len(m.head())-m.poolLines()-2-len(m.foot()))
}

// scroll keeps the cursor on the screen.
func (m *topModel) scroll(rows int) {
	m.top = max(0, min(m.top, m.cursor, len(m.frame.leases)-1))
	m.top = max(m.top, m.cursor-rows+1)
}

// head says who leads and whether anything is wrong.
func (m *topModel) head() []string {
	st := m.frame.status
	if st == nil {
		if m.trouble != "" {
			return m.wrapped(topBad, "no answer: "+m.trouble)
		}
		return []string{topFaint.Render("asking the cluster…")}
	}
	leader := topGood.Render(cmp.Or(printable(st.Leader), "none"))
	if m.frame.stale || st.Leader == "" {
		leader = topBad.Render("none")
	}
	reached := 0
	for _, n := range st.Nodes {
		if n.Role != "unreachable" {
			reached++
		}
	}
	nodes := fmt.Sprintf("%d of %d nodes answer", reached, len(st.Nodes))
	if reached < len(st.Nodes) {
		nodes = topWarn.Render(nodes)
	}
	lines := []string{fmt.Sprintf("%s  leader %s  %s  %s  epoch %d  entry %d", topBold.Render("seatkeeper"), leader, nodes, countOf(int(st.Leases), "lease"), st.Epoch, st.RaftIndex)}
	switch {
	case m.trouble != "":
		lines = append(lines, m.wrapped(topBad, fmt.Sprintf("as it was at %s, %s ago; no answer now: %s", m.seen.Format(time.TimeOnly), age(m.seen), m.trouble))...)
	case m.frame.stale:
		lines = append(lines, m.wrapped(topBad, "no leader for "+age(m.leaderless)+": one node's own state, perhaps old; seats cannot be taken")...)
	}
	for _, alarm := range st.Alarms {
		lines = append(lines, topWarn.Render("alarm: "+printable(alarm)))
	}
	return lines
}

// age is how long ago t was, as exact as people care for.
func age(t time.Time) string { return time.Since(t).Round(time.Second).String() }

// countOf writes a number with its word.
func countOf(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

// wrapped breaks a text that matters into lines that fit, instead of cutting it off.
func (m *topModel) wrapped(style lipgloss.Style, text string) []string {
	lines := strings.Split(ansi.Wrap(text, max(1, m.width), ""), "\n")
	for i := range lines {
		lines[i] = style.Render(lines[i])
	}
	return lines
}

// poolLines is how many lines the pools take: at most a third of the screen.
func (m *topModel) poolLines() int {
	if m.frame.status == nil {
		return 0
	}
	return min(len(m.frame.status.Pools), max(3, m.height/3))
}

// pools are all, or the fullest where there is no room for all, in the cluster's order.
func (m *topModel) pools() []string {
	n := m.poolLines()
	if n == 0 {
		return nil
	}
	all := m.frame.status.Pools
	shown := all
	if len(all) > n {
		shown = slices.Clone(all)
		slices.SortStableFunc(shown, func(x, y *pb.PoolStatus) int { return cmp.Compare(fullness(y), fullness(x)) })
		shown = shown[:n-1]
	}
	lines := make([]string, 0, n)
	for _, p := range all {
		if slices.Contains(shown, p) {
			lines = append(lines, m.pool(p))
		}
	}
	if left := len(all) - len(shown); left > 0 {
		lines = append(lines, topFaint.Render(fmt.Sprintf("%d emptier: seatkeeper status lists them", left)))
	}
	return lines
}

// fullness is the share of a pool that nobody else can have.
func fullness(p *pb.PoolStatus) float64 {
	if p.Total == 0 || p.Uncounted {
		return -1
	}
	return float64(p.InUse+p.Reserved) / float64(p.Total)
}

func (m *topModel) pool(p *pb.PoolStatus) string {
	free := max(0, p.Total-p.InUse-p.Reserved-p.HeldBack)
	name := max(10, min(28, m.width/4))
	line := cell(p.Feature+" "+p.Version, name, false)
	if bar := min(40, m.width-name-topPoolWords); bar >= topShortestBar {
		line += " " + topBar(p, bar)
	}
	line += fmt.Sprintf(" %5d of %-5d", p.InUse, p.Total)
	switch {
	case p.OverUse > 0:
		return line + topWarn.Render(fmt.Sprintf(" %5d over", p.OverUse))
	case p.Uncounted:
		return line + topFaint.Render(" not counted")
	case p.Total == 0:
		return line + topFaint.Render(" no valid licence")
	}
	if free == 0 {
		line += topWarn.Render(" none free")
	} else {
		line += fmt.Sprintf(" %5d free", free)
	}
	if p.Queued > 0 {
		line += topWarn.Render(fmt.Sprintf("  %d wait", p.Queued))
	}
	if p.Expiring > 0 {
		line += topWarn.Render(fmt.Sprintf("  %d late", p.Expiring))
	}
	return line
}

// topBar draws what is in use (full blocks), reserved (shaded) and free.
func topBar(p *pb.PoolStatus, width int) string {
	total := int(max(p.Total, p.InUse+p.Reserved, 1))
	share := func(n int32) int { // at least one block for what is not nothing
		if n <= 0 {
			return 0
		}
		return max(1, int(n)*width/total)
	}
	used := min(share(p.InUse), width)
	kept := min(share(p.Reserved), width-used)
	style := topUsed
	if p.InUse+p.Reserved >= p.Total {
		style = topWarn
	}
	return "[" + style.Render(strings.Repeat("█", used)) + topFaint.Render(strings.Repeat("▒", kept)) + strings.Repeat(" ", width-used-kept) + "]"
}

// columns are the indices of topColumns that fit.
func (m *topModel) columns() []int {
	need := len(topColumns) - 1
	for _, c := range topColumns {
		need += cmp.Or(c.width, topNarrow)
	}
	dropped := map[string]bool{}
	for _, title := range topDropped {
		if need <= m.width {
			break
		}
		i := slices.IndexFunc(topColumns, func(c topColumn) bool { return c.title == title })
		need -= cmp.Or(topColumns[i].width, topNarrow) + 1
		dropped[title] = true
	}
	kept := make([]int, 0, len(topColumns))
	for i, c := range topColumns {
		if !dropped[c.title] {
			kept = append(kept, i)
		}
	}
	return kept
}

// line puts the cells of the columns that fit side by side.
func (m *topModel) line(text func(i int, c topColumn) string) string {
	shown := m.columns()
	left, open := m.width-len(shown)+1, 0
	for _, i := range shown {
		left -= topColumns[i].width
		if topColumns[i].width == 0 {
			open++
		}
	}
	cells := make([]string, len(shown))
	for n, i := range shown {
		c := topColumns[i]
		width := c.width
		if width == 0 {
			width = max(1, left/open)
		}
		cells[n] = cell(text(i, c), width, c.right)
	}
	return strings.Join(cells, " ")
}

func (m *topModel) titles() string {
	return topBold.Render(m.line(func(i int, c topColumn) string {
		if i == m.sort {
			return c.title + map[bool]string{false: "↑", true: "↓"}[m.turned]
		}
		return c.title
	}))
}

func (m *topModel) row(i int) string {
	if i >= len(m.frame.leases) {
		if i == 0 && m.frame.status != nil {
			return topFaint.Render(map[bool]string{true: "nobody holds a seat", false: "no allocation is like that"}[m.search.Value() == ""])
		}
		return ""
	}
	l := m.frame.leases[i]
	line := m.line(func(_ int, c topColumn) string { return c.text(l) })
	switch {
	case i == m.cursor:
		return topChosen.Render(line)
	case l.State == "expiring" || l.State == "quarantined":
		return topWarn.Render(line)
	}
	return line
}

// foot is a question, what is typed, what happened, or the keys.
func (m *topModel) foot() []string {
	switch {
	case m.asking != nil:
		l := m.asking
		return append(m.wrapped(topBad, fmt.Sprintf("Take %s (%s) back from %s?", printable(l.Feature), countOf(int(l.Count), "seat"), holderOf(l))),
			topBad.Render("y takes it, any other key keeps it"))
	case m.helping:
		return []string{topFaint.Render("any key goes back")}
	case m.searching:
		return []string{m.search.View()}
	case m.note != "":
		return m.wrapped(topBold, m.note)
	}
	found := ""
	if s := m.search.Value(); s != "" {
		found = fmt.Sprintf("%d with %q, Esc shows all  ", len(m.frame.leases), s)
	}
	if m.frame.more {
		found += fmt.Sprintf("the first %d: / finds the others  ", len(m.frame.leases))
	}
	return []string{topFaint.Render(found + "? help  K take back  / search  s sort  S turn  q quit")}
}

// cell makes a text exactly so wide, as a terminal counts.
func cell(text string, width int, right bool) string {
	text = ansi.Truncate(printable(text), width, "…")
	pad := strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
	if right {
		return pad + text
	}
	return text + pad
}

// printable shows what steers a terminal, or turns text around, as a replacement mark:
// names are written by strangers.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}
