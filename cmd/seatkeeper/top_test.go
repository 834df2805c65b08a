package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/teatest/v2"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// fakeTop is a cluster that says what a test wants.
type fakeTop struct {
	mu     sync.Mutex
	frame  topFrame
	err    error
	killed []uint64
}

func (f *fakeTop) look(_ context.Context, search string) (topFrame, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := f.frame
	frame.leases = nil
	for _, l := range f.frame.leases {
		if strings.Contains(l.User+l.Host+l.Feature, search) {
			frame.leases = append(frame.leases, l)
		}
	}
	return frame, f.err
}

func (f *fakeTop) kill(_ context.Context, l *pb.LeaseEntry) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.killed = append(f.killed, l.Id)
	return 1, nil
}

func (f *fakeTop) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func entry(id uint64, feature, user, host string, count int32) *pb.LeaseEntry {
	return &pb.LeaseEntry{Id: id, Handle: uint32(id), Feature: feature, Version: "1.0", User: user, Host: host, Count: count, State: "active",
		RemainingMs: 60_000, Since: "2026-02-03T04:05:06Z", Tenant: "default"}
}

func busyTop() *fakeTop {
	return &fakeTop{frame: topFrame{
		status: &pb.StatusResponse{Leader: "node-1-0001", Epoch: 3, RaftIndex: 99, Leases: 3,
			Nodes: []*pb.NodeStatus{{Id: "node-1-0001", Role: "leader"}, {Id: "node-2-0002", Role: "follower"}, {Id: "node-3-0003", Role: "follower"}},
			Pools: []*pb.PoolStatus{{Feature: "cad", Version: "1.0", Total: 10, InUse: 3, Reserved: 2}, {Feature: "mesh", Version: "1.0", Total: 1, InUse: 1, Queued: 4}}},
		leases: []*pb.LeaseEntry{entry(1, "cad", "ann", "ws1", 2), entry(2, "cad", "bob", "ws2", 1), entry(3, "mesh", "kim", "ws3", 1)},
	}}
}

// watched keeps the screen as it was drawn last.
type watched struct {
	*topModel
	mu     *sync.Mutex
	screen *string
}

func (w watched) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	_, cmd := w.topModel.Update(msg)
	return w, cmd
}

func (w watched) View() tea.View {
	v := w.topModel.View()
	w.mu.Lock()
	defer w.mu.Unlock()
	*w.screen = ansi.Strip(v.Content)
	return v
}

// screen is a running top in a terminal of this test.
type screen struct {
	*teatest.TestModel
	t *testing.T
	w watched
}

func openTop(t *testing.T, source topSource, options ...tea.ProgramOption) *screen {
	t.Helper()
	w := watched{newTopModel(t.Context(), source, 10*time.Millisecond), &sync.Mutex{}, new(string)}
	return &screen{teatest.NewTestModel(t, w, teatest.WithInitialTermSize(110, 20), teatest.WithProgramOptions(options...)), t, w}
}

func (s *screen) text() string {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return *s.w.screen
}

// see waits until the screen shows all of wants.
func (s *screen) see(wants ...string) {
	s.t.Helper()
	s.until("see "+strings.Join(wants, ", "), func(text string) error {
		for _, want := range wants {
			if !strings.Contains(text, want) {
				return fmt.Errorf("no %q on the screen:\n%s", want, text)
			}
		}
		return nil
	})
}

func (s *screen) until(what string, check func(text string) error) {
	s.t.Helper()
	if err := waitFor(s.t.Context(), what, 20*time.Second, func(context.Context) error { return check(s.text()) }); err != nil {
		s.t.Fatal(err)
	}
}

var (
	errNotYet = errors.New("not yet")
	enterKey  = tea.KeyPressMsg{Code: tea.KeyEnter}
)

func (s *screen) press(code rune) { s.Send(tea.KeyPressMsg{Code: code}) }

// row is the line that has a text in it.
func (s *screen) row(text string) int {
	for i, line := range strings.Split(s.text(), "\n") {
		if strings.Contains(line, text) {
			return i
		}
	}
	return -1
}

func TestTopShowsPoolsAllocationsAndQuits(t *testing.T) {
	s := openTop(t, busyTop())
	s.see("leader node-1-0001", "3 of 3 nodes answer", "cad 1.0", "3 of 10", "5 free", "none free", "4 wait", "ann", "kim", "q quit", "█", "▒")
	s.Type("q")
	s.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}

func TestTopSortsAndTurnsAround(t *testing.T) {
	s := openTop(t, busyTop())
	s.see("FEATURE↑")
	s.Type("s")
	s.see("USER↑")
	s.Type("S")
	s.see("USER↓")
	s.until("kim stands above ann", func(text string) error {
		if k, a := s.row("kim"), s.row("ann"); k > a || k < 0 {
			return errors.New(text)
		}
		return nil
	})
	s.Type("q")
	s.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}

func TestTopSearchesAsOneTypes(t *testing.T) {
	s := openTop(t, busyTop())
	s.see("ann")
	s.Type("/kiq") // q is a letter here
	s.see("no allocation is like that")
	s.press(tea.KeyBackspace)
	s.until("kim alone", func(text string) error {
		if s.row("kim") < 0 || s.row("ann") >= 0 {
			return errors.New(text)
		}
		return nil
	})
	s.press(tea.KeyEscape)
	s.see("ann", "kim", "q quit")
	s.Type("q")
	s.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}

func TestTopKillsOnlyAfterAYes(t *testing.T) {
	source := busyTop()
	s := openTop(t, source)
	s.see("bob")
	s.press(tea.KeyDown)
	s.Type("K")
	s.see("Take cad (1 seat) back from bob on ws2?")
	s.Type("n")
	s.see("kept")
	source.set(func() {
		if len(source.killed) != 0 {
			t.Errorf("killed %v after a no", source.killed)
		}
	})
	s.Type("K")
	// While it asks, the list moves under it; what was asked about is what is taken.
	source.set(func() {
		source.frame.leases = append([]*pb.LeaseEntry{entry(9, "cad", "aaa", "ws0", 1)}, source.frame.leases...)
	})
	s.see("aaa", "from bob on ws2?")
	s.Type("y")
	s.see("taken back: cad from bob on ws2")
	source.set(func() {
		if len(source.killed) != 1 || source.killed[0] != 2 {
			t.Errorf("killed %v, want bob's lease 2", source.killed)
		}
	})
	s.Type("q")
	s.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}

func TestTopKeepsTheLastStateWhenNobodyAnswers(t *testing.T) {
	source := busyTop()
	s := openTop(t, source)
	s.see("ann")
	source.set(func() { source.err = errors.New("connection refused") })
	s.see("as it was at ", "s ago; no answer now: connection refused", "ann")
	source.set(func() { source.err, source.frame.stale = nil, true })
	s.see("leader none", "no leader for ", "one node's own state")
	source.set(func() { source.frame.stale = false })
	s.see("leader node-1-0001")
	s.Type("q")
	s.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}

func TestTopFitsEveryTerminal(t *testing.T) {
	m := newTopModel(t.Context(), busyTop(), time.Second)
	m.Update(m.Init()())
	for _, size := range [][2]int{{200, 60}, {110, 20}, {80, 24}, {40, 10}, {20, 5}, {5, 2}, {1, 1}} {
		m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
		lines := strings.Split(m.View().Content, "\n")
		if len(lines) > size[1] {
			t.Errorf("%d lines on a terminal of %d", len(lines), size[1])
		}
		for _, l := range lines {
			if w := ansi.StringWidth(l); w > size[0] {
				t.Errorf("a line of %d on a terminal of %d columns: %q", w, size[0], ansi.Strip(l))
			}
		}
		for range 5 {
			m.move(1)
			m.View()
		}
	}
}

// drawn is the screen of a terminal of that size, without colours.
func drawn(m *topModel, width, height int) string {
	m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return ansi.Strip(m.View().Content)
}

func TestTopOnANarrowTerminalKeepsWhatMatters(t *testing.T) {
	m := newTopModel(t.Context(), busyTop(), time.Second)
	m.Update(m.Init()())
	for width, want := range map[int][]string{
		120: {"FEATURE↑", "USER", "HOST", "SEATS", "STATE", "DUE", "SINCE", "HANDLE"},
		60:  {"FEATURE↑", "USER", "HOST", "SEATS", "STATE", "DUE"},
		40:  {"FEATURE↑", "USER", "SEATS", "STATE"},
		30:  {"FEATURE↑", "USER", "SEATS"},
	} {
		for line := range strings.Lines(drawn(m, width, 20)) {
			if strings.HasPrefix(line, "FEATURE") && !slices.Equal(strings.Fields(line), want) {
				t.Errorf("%d columns wide the titles are %q, want %q", width, strings.Fields(line), want)
			}
		}
	}
	// What is asked is read whole, and so is how to answer.
	m.Update(tea.KeyPressMsg{Code: 'K', Text: "K"})
	text := strings.Join(strings.Fields(drawn(m, 36, 20)), " ")
	if !strings.Contains(text, "Take cad (2 seats) back from ann on ws1? y takes it, any other key keeps it") {
		t.Errorf("the question is\n%s", text)
	}
	m.Update(tea.KeyPressMsg{Code: 'n', Text: "n"})
	// Sorting goes through the columns that are there.
	for _, want := range []string{"USER↑", "SEATS↑", "STATE↑", "FEATURE↑"} {
		m.Update(tea.KeyPressMsg{Code: 's', Text: "s"})
		if text := drawn(m, 40, 20); !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestTopShowsTheFullestPoolsWhereNotAllFit(t *testing.T) {
	source := busyTop()
	pools := source.frame.status.Pools[:0:0]
	for i := range 40 {
		pools = append(pools, &pb.PoolStatus{Feature: fmt.Sprintf("feature-%02d", i), Version: "1.0", Total: 10, InUse: int32(i % 9)})
	}
	pools[33].InUse = 10
	source.frame.status.Pools = pools
	m := newTopModel(t.Context(), source, time.Second)
	m.Update(m.Init()())
	text := drawn(m, 110, 24)
	if !strings.Contains(text, "feature-33") || !strings.Contains(text, "33 emptier") || strings.Contains(text, "feature-00") {
		t.Errorf("what is full is not shown:\n%s", text)
	}
}

func TestTopHelpsAndGoesBack(t *testing.T) {
	s := openTop(t, busyTop())
	s.see("ann", "? help")
	s.Type("?")
	s.see("take the chosen lease back", "sort by the next column", "any key goes back")
	s.Type("q")
	s.see("ann", "? help")
	s.Type("q")
	s.WaitFinished(t, teatest.WithFinalTimeout(10*time.Second))
}

func TestTopShowsHostileNamesHarmlessly(t *testing.T) {
	source := busyTop()
	source.frame.leases = []*pb.LeaseEntry{entry(1, "cad", "\x1b[2J\x07evil\u202e", "\nws", 1)}
	m := newTopModel(t.Context(), source, time.Second)
	m.Update(tea.WindowSizeMsg{Width: 160, Height: 20})
	m.Update(m.Init()())
	text := m.View().Content
	if strings.Contains(text, "\x1b[2J") || strings.ContainsAny(text, "\x07\u202e") || !strings.Contains(ansi.Strip(text), "\ufffd[2J\ufffdevil\ufffd") {
		t.Errorf("%q", text)
	}
}

func TestTopHasNoColourWhereNoneIsWanted(t *testing.T) {
	s := openTop(t, busyTop(), tea.WithColorProfile(colorprofile.Ascii))
	s.see("none free", "ann")
	s.Type("q")
	var out strings.Builder
	buf := make([]byte, 1<<16)
	for r := s.FinalOutput(t, teatest.WithFinalTimeout(10*time.Second)); ; {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		if err != nil {
			break
		}
	}
	for _, colour := range []string{"\x1b[33m", "\x1b[34m", "\x1b[32m", "\x1b[31m"} {
		if strings.Contains(out.String(), colour) {
			t.Errorf("a colour is written: %q", colour)
		}
	}
	// The variable chooses that profile.
	if p := colorprofile.Env([]string{"TERM=xterm-256color", "NO_COLOR=1"}); p != colorprofile.Ascii {
		t.Errorf("NO_COLOR gives %v", p)
	}
}

func TestTopNeedsATerminal(t *testing.T) {
	code, stdout, stderr := run(t, nil, "top")
	if code != exitError1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "terminal") || !strings.Contains(stderr, "status") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}
