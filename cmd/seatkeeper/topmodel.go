package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// topModel is the state of the screen. Its clock is the ticks it is sent.
type topModel struct {
	ctx    context.Context
	source topSource
	every  time.Duration

	width, height int
	frame         topFrame
	seen          time.Time // when frame came; zero: none yet
	trouble       string    // why the last look failed
	leaderless    time.Time // of the first look without a leader; zero: there is one
	note          string    // what the last kill came to

	search    textinput.Model
	searching bool
	sort      int // column of topColumns
	turned    bool
	chosen    uint64 // lease id; the cursor stays on it when rows move
	cursor    int
	top       int            // first row on the screen
	asking    *pb.LeaseEntry // K waits for y
	helping   bool
	looking   bool
}

// What the program is told beside keys.
type (
	topTick   struct{}
	topLooked struct {
		frame  topFrame
		search string
		err    error
	}
	topKilled struct {
		lease *pb.LeaseEntry
		n     int
		err   error
	}
)

func newTopModel(ctx context.Context, source topSource, every time.Duration) *topModel {
	search := textinput.New()
	search.Prompt = "/"
	search.CharLimit = 120
	search.Placeholder = "user, host, display, feature or handle"
	return &topModel{ctx: ctx, source: source, every: every, search: search, width: 80, height: 24}
}

// Init implements tea.Model.
func (m *topModel) Init() tea.Cmd { return m.look() }

// look asks the cluster in the background; one look is on its way at a time.
func (m *topModel) look() tea.Cmd {
	if m.looking {
		return nil
	}
	m.looking = true
	search := m.search.Value()
	return func() tea.Msg {
		frame, err := m.source.look(m.ctx, search)
		return topLooked{frame, search, err}
	}
}

// Update implements tea.Model.
func (m *topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case topTick:
		return m, m.look()
	case topLooked:
		return m, m.looked(msg)
	case topKilled:
		switch {
		case msg.err != nil:
			m.note = "not taken back: " + oneLine(msg.err.Error())
		case msg.n == 0:
			m.note = fmt.Sprintf("%s of %s had ended by itself", msg.lease.Feature, holderOf(msg.lease))
		default:
			m.note = fmt.Sprintf("taken back: %s from %s", msg.lease.Feature, holderOf(msg.lease))
		}
		return m, m.look()
	case tea.KeyPressMsg:
		return m.key(msg)
	}
	return m, nil
}

func (m *topModel) looked(msg topLooked) tea.Cmd {
	m.looking = false
	if msg.err != nil {
		m.trouble = oneLine(msg.err.Error())
	} else {
		m.trouble, m.frame, m.seen = "", msg.frame, time.Now()
		switch {
		case !msg.frame.stale:
			m.leaderless = time.Time{}
		case m.leaderless.IsZero():
			m.leaderless = m.seen
		}
		m.order()
	}
	if msg.search != m.search.Value() {
		return m.look()
	}
	return tea.Tick(m.every, func(time.Time) tea.Msg { return topTick{} })
}

func (m *topModel) key(key tea.KeyPressMsg) (tea.Model, tea.Cmd) {
	name := key.String()
	if name == "ctrl+c" {
		return m, tea.Quit
	}
	switch {
	case m.asking != nil:
		return m, m.answer(name)
	case m.searching:
		return m, m.typed(key)
	case m.helping:
		m.helping = false
		return m, nil
	}
	m.note = ""
	switch name {
	case "q":
		return m, tea.Quit
	case "up", "k":
		m.move(-1)
	case "down", "j":
		m.move(1)
	case "pgup", "ctrl+b":
		m.move(-m.rows())
	case "pgdown", "ctrl+f", "space":
		m.move(m.rows())
	case "home", "g":
		m.move(-len(m.frame.leases))
	case "end", "G":
		m.move(len(m.frame.leases))
	case "?", "h", "f1":
		m.helping = true
	case "s":
		m.sortByNext()
	case "S":
		m.turned = !m.turned
		m.order()
	case "/":
		m.searching = true
		return m, m.search.Focus()
	case "esc":
		m.search.SetValue("")
		return m, m.look()
	case "K":
		if m.cursor < len(m.frame.leases) {
			m.asking = m.frame.leases[m.cursor]
		}
	}
	return m, nil
}

// sortByNext sorts by the next column on the screen.
func (m *topModel) sortByNext() {
	shown := m.columns()
	next := slices.IndexFunc(shown, func(i int) bool { return i > m.sort })
	m.sort = shown[max(0, next)]
	m.order()
}

// typed is a key while the search is written; the list follows each letter.
func (m *topModel) typed(key tea.KeyPressMsg) tea.Cmd {
	switch key.String() {
	case "enter", "down", "up":
		m.searching = false
		m.search.Blur()
		return nil
	case "esc":
		m.searching = false
		m.search.Blur()
		m.search.SetValue("")
		return m.look()
	}
	var cmd tea.Cmd
	m.search, cmd = m.search.Update(key)
	return tea.Batch(cmd, m.look())
}

// answer is a key while top asks whether to take a lease back: only y does.
func (m *topModel) answer(name string) tea.Cmd {
	l := m.asking
	m.asking = nil
	if name != "y" && name != "Y" {
		m.note = "kept"
		return nil
	}
	m.note = "taking it back…"
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(m.ctx, callTimeout)
		defer cancel()
		n, err := m.source.kill(ctx, l)
		return topKilled{l, n, err}
	}
}

// move moves the cursor by rows.
func (m *topModel) move(by int) {
	m.cursor = max(0, min(m.cursor+by, len(m.frame.leases)-1))
	m.chosen = 0
	if m.cursor < len(m.frame.leases) {
		m.chosen = m.frame.leases[m.cursor].Id
	}
}

// order sorts the leases and keeps the cursor on its lease, or near where it was.
func (m *topModel) order() {
	column := topColumns[m.sort]
	slices.SortStableFunc(m.frame.leases, func(x, y *pb.LeaseEntry) int {
		c := column.less(x, y)
		if m.turned {
			c = -c
		}
		return cmp.Or(c, cmp.Compare(x.Handle, y.Handle))
	})
	if i := slices.IndexFunc(m.frame.leases, func(l *pb.LeaseEntry) bool { return l.Id == m.chosen }); i >= 0 {
		m.cursor = i
	}
	m.move(0)
}

func holderOf(l *pb.LeaseEntry) string {
	return cmp.Or(printable(l.User), "nobody named") + " on " + cmp.Or(printable(l.Host), "an unknown host")
}
