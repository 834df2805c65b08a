package main

import (
	"cmp"
	"fmt"
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

var topColumns = []topColumn{
	textColumn("FEATURE", 0, func(l *pb.LeaseEntry) string { return l.Feature + " " + l.Version }),
	textColumn("USER", 0, func(l *pb.LeaseEntry) string { return l.User }),
	textColumn("HOST", 0, func(l *pb.LeaseEntry) string { return l.Host }),
	numberColumn("SEATS", 5, func(l *pb.LeaseEntry) string { return fmt.Sprint(l.Count) }, func(l *pb.LeaseEntry) int64 { return int64(l.Count) }),
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
	lines := append(m.head(), m.pools()...)
	lines = append(lines, "", m.titles())
	m.scroll(len(lines))
	rows := m.height - len(lines) - 1
	for i := m.top; i < m.top+rows; i++ {
		lines = append(lines, m.row(i))
	}
	lines = append(lines[:max(0, min(len(lines), m.height-1))], m.foot())
	for i, l := range lines {
		lines[i] = ansi.Truncate(l, m.width, "…")
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	v.WindowTitle = "seatkeeper top"
	return v
}

// rows is how many leases fit on the screen.
func (m *topModel) rows() int { return max(1, m.height-len(m.head())-m.poolLines()-3) }

// scroll keeps the cursor on the screen.
func (m *topModel) scroll(above int) {
	rows := max(1, m.height-above-1)
	m.top = max(0, min(m.top, m.cursor, len(m.frame.leases)-1))
	m.top = max(m.top, m.cursor-rows+1)
}

// head says who leads and whether anything is wrong.
func (m *topModel) head() []string {
	st := m.frame.status
	if st == nil {
		if m.trouble != "" {
			return []string{topBad.Render("no answer: " + m.trouble)}
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
	lines := []string{fmt.Sprintf("%s  leader %s  %s  epoch %d  entry %d  %d leases", topBold.Render("seatkeeper"), leader, nodes, st.Epoch, st.RaftIndex, st.Leases)}
	switch {
	case m.trouble != "":
		lines = append(lines, topBad.Render("as it was at "+m.seen.Format(time.TimeOnly)+", no answer now: "+m.trouble))
	case m.frame.stale:
		lines = append(lines, topBad.Render("no leader: one node's own state, perhaps old; seats cannot be taken"))
	}
	for _, alarm := range st.Alarms {
		lines = append(lines, topWarn.Render("alarm: "+printable(alarm)))
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

func (m *topModel) pools() []string {
	n := m.poolLines()
	lines := make([]string, 0, n)
	for i := range n {
		if left := len(m.frame.status.Pools) - i; i == n-1 && left > 1 {
			lines = append(lines, topFaint.Render(fmt.Sprintf("%d more pools: seatkeeper status lists them", left)))
			break
		}
		lines = append(lines, m.pool(m.frame.status.Pools[i]))
	}
	return lines
}

func (m *topModel) pool(p *pb.PoolStatus) string {
	free := max(0, p.Total-p.InUse-p.Reserved-p.HeldBack)
	line := cell(p.Feature+" "+p.Version, 18, false) + " " + topBar(p, max(10, min(40, m.width-50))) + fmt.Sprintf(" %5d of %-5d", p.InUse, p.Total)
	switch {
	case p.OverUse > 0:
		return line + topWarn.Render(fmt.Sprintf(" %5d over", p.OverUse))
	case p.Total == 0 || p.Uncounted:
		return line + topFaint.Render(" not counted")
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

// widths shares the line among the columns.
func (m *topModel) widths() []int {
	left, open := m.width-len(topColumns)+1, 0
	for _, c := range topColumns {
		left -= c.width
		if c.width == 0 {
			open++
		}
	}
	w := make([]int, len(topColumns))
	for i, c := range topColumns {
		if w[i] = c.width; c.width == 0 {
			w[i] = max(8, left/open)
		}
	}
	return w
}

func (m *topModel) titles() string {
	cells := make([]string, len(topColumns))
	for i, w := range m.widths() {
		title := topColumns[i].title
		if i == m.sort {
			title += map[bool]string{false: "↑", true: "↓"}[m.turned]
		}
		cells[i] = cell(title, w, topColumns[i].right)
	}
	return topBold.Render(strings.Join(cells, " "))
}

func (m *topModel) row(i int) string {
	if i >= len(m.frame.leases) {
		if i == 0 && m.frame.status != nil {
			return topFaint.Render(map[bool]string{true: "nobody holds a seat", false: "no allocation is like that"}[m.search.Value() == ""])
		}
		return ""
	}
	l := m.frame.leases[i]
	cells := make([]string, len(topColumns))
	for c, w := range m.widths() {
		cells[c] = cell(topColumns[c].text(l), w, topColumns[c].right)
	}
	line := strings.Join(cells, " ")
	switch {
	case i == m.cursor:
		return topChosen.Render(line)
	case l.State == "expiring" || l.State == "quarantined":
		return topWarn.Render(line)
	}
	return line
}

func (m *topModel) foot() string {
	switch {
	case m.asking != nil:
		l := m.asking
		return topBad.Render(fmt.Sprintf("Take %s (%d seats) back from %s? y takes it, any other key keeps it", printable(l.Feature), l.Count, holderOf(l)))
	case m.searching:
		return m.search.View()
	case m.note != "":
		return topBold.Render(m.note)
	}
	found := ""
	if s := m.search.Value(); s != "" {
		found = fmt.Sprintf("%d with %q  ", len(m.frame.leases), s)
	}
	if m.frame.more {
		found += fmt.Sprintf("the first %d: / finds the others  ", len(m.frame.leases))
	}
	return topFaint.Render(found + "/ search  s sort  S turn  K take back  q quit")
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
