package cluster

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/seatkeeper/seatkeeper/lease"
)

// logbook feeds a debug log as a node does.
type logbook struct {
	t *testing.T
	*debugLog
	path, dir string
	zone      *time.Location
}

func openLogbook(t *testing.T, dir string, zone *time.Location) *logbook {
	t.Helper()
	path := filepath.Join(dir, "debug.log")
	d, err := openDebugLog(path, dir, zone, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	return &logbook{t, d, path, dir, zone}
}

func (l *logbook) entry(index uint64, at time.Time, events ...lease.Event) {
	date := lease.CalendarOf(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	if index <= l.seen {
		return
	}
	l.seen = index
	for i := range events {
		events[i].Date = date
	}
	l.add(debugItem{index: index, date: date, events: events})
}

// settle waits until all is written.
func (l *logbook) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.written < l.added {
		l.wake.Wait()
	}
}

func (l *logbook) text() string {
	l.t.Helper()
	data, err := os.ReadFile(l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(data)
}

func move(kind lease.EventKind, user string, count int) lease.Event {
	return lease.Event{Kind: kind, Feature: "cad", Vendor: "acme", Count: count, Principal: lease.Principal{User: user, Host: "ws-0" + user[:1]}, Reason: lease.NoSeats}
}

// TestDebugLogIsThatOfTheFormat: the lines of the format's own example.
func TestDebugLogIsThatOfTheFormat(t *testing.T) {
	l := openLogbook(t, t.TempDir(), time.UTC)
	day := func(h, m, s int) time.Time { return time.Date(2025, 2, 10, h, m, s, 0, time.UTC) }
	l.entry(1, day(8, 0, 0))
	l.entry(2, day(8, 5, 10), move(lease.Granted, "ann", 1))
	l.entry(3, day(8, 15, 11), move(lease.Granted, "bob", 2))
	l.entry(4, day(8, 20, 0), move(lease.Denied, "eve", 1))
	l.entry(5, day(8, 20, 1), move(lease.Queued, "dan", 1))
	l.entry(6, day(8, 25, 0), move(lease.Dequeued, "dan", 1))
	l.entry(7, day(8, 40, 0), move(lease.Ended, "bob", 2))
	l.entry(8, day(14, 0, 0))
	l.entry(9, day(23, 59, 59), move(lease.Ended, "ann", 1))
	odd := move(lease.Granted, "x", 1)
	odd.Principal, odd.Vendor = lease.Principal{User: "Ann Lee", Host: "build_7"}, "a-b"
	l.entry(10, day(24, 0, 3), odd)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const want = `8:00:00 (lmgrd) TIMESTAMP 2/10/2025
8:05:10 (acme) OUT: "cad" ann@ws-0a
8:15:11 (acme) OUT: "cad" bob@ws-0b  (2 licenses)
8:20:00 (acme) DENIED: "cad" eve@ws-0e  (Licensed number of users already reached. (-4,342))
8:20:01 (acme) QUEUED: "cad" dan@ws-0d
8:25:00 (acme) DEQUEUED: "cad" dan@ws-0d
8:40:00 (acme) IN: "cad" bob@ws-0b  (2 licenses)
14:00:00 (lmgrd) TIMESTAMP 2/10/2025
23:59:59 (lmgrd) TIMESTAMP 2/10/2025
23:59:59 (acme) IN: "cad" ann@ws-0a
0:00:00 (lmgrd) TIMESTAMP 2/11/2025
0:00:03 (a_b) OUT: "cad" Ann_Lee@build-7
`
	if got := l.text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

var debugLine = regexp.MustCompile(`^(\d{1,2}):(\d\d):(\d\d) \((\w+)\) (?:(TIMESTAMP) (\d{1,2}/\d{1,2}/\d{4})|(OUT|IN|QUEUED|DEQUEUED): "\S+" \S+@\S+(?:  \((\d+) licenses\))?|(DENIED): "\S+" \S+@\S+  \(.* \(-\d+,\d+\)\))$`)

// readDebugLog reads a log as analysers do: the date is known from TIMESTAMP and goes on
// with the time of day. It fails where time goes back, and returns the open OUTs.
func readDebugLog(text string) (open map[string]int, err error) {
	open = map[string]int{}
	var day, last time.Time
	for in := bufio.NewScanner(strings.NewReader(text)); in.Scan(); {
		line := in.Text()
		m := debugLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("no analyser reads %q", line)
		}
		if m[5] != "" {
			if day, err = time.Parse("1/2/2006", m[6]); err != nil {
				return nil, err
			}
		}
		h, _ := strconv.Atoi(m[1])
		mi, _ := strconv.Atoi(m[2])
		s, _ := strconv.Atoi(m[3])
		at := day.Add(time.Duration(h)*time.Hour + time.Duration(mi)*time.Minute + time.Duration(s)*time.Second)
		if day.IsZero() || at.Before(last) {
			return nil, fmt.Errorf("time goes back to %v at %q", at, line)
		}
		if !last.IsZero() && m[5] == "" && at.Sub(last) > 24*time.Hour {
			return nil, fmt.Errorf("a day is not told before %q", line)
		}
		last = at
		_, who, _ := strings.Cut(line, ": ")
		switch m[7] {
		case "OUT":
			open[who]++
		case "IN":
			if open[who]--; open[who] < 0 {
				return nil, fmt.Errorf("IN without OUT: %q", line)
			}
		}
	}
	return open, nil
}

// TestDebugLogIsWholeAfterCrashes: whatever of the file a crash left, entries that come
// again make it what it would have been, apart from the time stamps of starts.
func TestDebugLogIsWholeAfterCrashes(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		type entry struct {
			at     time.Time
			events []lease.Event
		}
		at := time.Date(2025, 2, 10, 20, 0, 0, 0, time.UTC)
		held := map[string]int{}
		var entries []entry
		for range 60 {
			at = at.Add(time.Duration(rng.IntN(7200)) * time.Second)
			e := entry{at: at}
			for range rng.IntN(4) {
				user, count := string('a'+rune(rng.IntN(5))), 1+rng.IntN(2)
				if held[user] > 0 {
					e.events = append(e.events, move(lease.Ended, user, held[user]))
					delete(held, user)
				} else {
					e.events = append(e.events, move(lease.Granted, user, count))
					held[user] = count
				}
			}
			entries = append(entries, e)
		}
		dir := t.TempDir()
		for run := range 4 {
			l := openLogbook(t, dir, zone)
			upTo := len(entries)
			if run < 3 {
				upTo = rng.IntN(len(entries))
			}
			for i := range upTo {
				l.entry(uint64(i+1), entries[i].at, append([]lease.Event(nil), entries[i].events...)...)
				if rng.IntN(10) == 0 {
					l.settle()
				}
			}
			l.settle()
			if run == 3 || rng.IntN(2) == 0 {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			// A crash: the place stays as it was noted, the end of the file may be torn.
			place, err := os.ReadFile(l.placePath)
			if err != nil {
				place = nil
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if place == nil {
				os.Remove(l.placePath)
			} else if err := os.WriteFile(l.placePath, place, 0o600); err != nil {
				t.Fatal(err)
			}
			if place == nil { // nothing was noted: nothing was kept either
				os.Remove(l.path)
			} else if text := l.text(); len(text) > int(l.place.Size) {
				os.WriteFile(l.path, []byte(text[:len(text)-rng.IntN(30)]), 0o600)
			}
		}
		l := &logbook{t: t, path: filepath.Join(dir, "debug.log")}
		whole := openLogbook(t, t.TempDir(), zone)
		for i, e := range entries {
			whole.entry(uint64(i+1), e.at, append([]lease.Event(nil), e.events...)...)
		}
		if err := whole.Close(); err != nil {
			t.Fatal(err)
		}
		if got, want := withoutStamps(l.text()), withoutStamps(whole.text()); got != want {
			t.Fatalf("seed %d: got\n%s\nwant\n%s", seed, got, want)
		}
		open, err := readDebugLog(l.text())
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, l.text())
		}
		for user, count := range held {
			e := move(lease.Granted, user, count)
			if open[whoOf(&e)] != 1 {
				t.Fatalf("seed %d: %s holds %d; open %v\n%s", seed, user, count, open, l.text())
			}
		}
	}
}

// withoutStamps is a log without its time stamps, which a start adds.
func withoutStamps(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, " TIMESTAMP ") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// TestDebugLogTimeStandsStillWhenClocksAreSetBack: in autumn and across restarts.
func TestDebugLogTimeStandsStillWhenClocksAreSetBack(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zones here")
	}
	dir := t.TempDir()
	at := time.Date(2025, 10, 25, 22, 0, 0, 0, time.UTC)
	l := openLogbook(t, dir, zone)
	for i := range uint64(40) {
		kind := lease.Granted
		if i%2 == 1 {
			kind = lease.Ended
		}
		l.entry(i+1, at.Add(time.Duration(i)*10*time.Minute), move(kind, "ann", 1))
		if i == 20 {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l = openLogbook(t, dir, zone)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := readDebugLog(l.text()); err != nil {
		t.Errorf("%v\n%s", err, l.text())
	}
}

// TestDebugLogIsBalancedAfterAStretchNotSeen: a snapshot instead of entries leaves no OUT
// without its IN.
func TestDebugLogIsBalancedAfterAStretchNotSeen(t *testing.T) {
	l := openLogbook(t, t.TempDir(), time.UTC)
	at := time.Date(2025, 2, 10, 8, 0, 0, 0, time.UTC)
	l.entry(1, at, move(lease.Granted, "ann", 1), move(lease.Granted, "bob", 2), move(lease.Granted, "bob", 2))
	record := func(e lease.Event) lease.UsageRecord {
		return lease.UsageRecord{Feature: e.Feature, Vendor: e.Vendor, Count: e.Count, Principal: e.Principal}
	}
	l.mu.Lock()
	l.seen = 90
	l.add(debugItem{index: 90, date: lease.CalendarOf(at.Add(time.Hour)), balance: true,
		live: []lease.UsageRecord{record(move(lease.Granted, "bob", 2)), record(move(lease.Granted, "kim", 1))}})
	l.mu.Unlock()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	open, err := readDebugLog(l.text())
	if err != nil || open[`"cad" ann@ws-0a`] != 0 || open[`"cad" bob@ws-0b  (2 licenses)`] != 1 || open[`"cad" kim@ws-0k`] != 1 {
		t.Errorf("open %v, %v\n%s", open, err, l.text())
	}
}
