package cluster

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// debugStampEvery is how long a reader may go without knowing the date: lines have the
// time of day only.
const debugStampEvery = 6 * 3600

const debugDay = 24 * 3600

// debugText makes the lines of FlexNet's debug log. Its clock is local time and never goes
// back: when clocks are set back in autumn it stands still for an hour, because a reader
// would take an earlier time for the next day.
type debugText struct {
	zone         *time.Location
	clock, stamp int64 // as in debugPlace
	started      bool
	buf          []byte
}

func newDebugText(zone *time.Location, p debugPlace) *debugText {
	return &debugText{zone: zone, clock: p.Clock, stamp: p.Stamp}
}

// set moves the clock to a date and writes the time stamps that are due.
func (t *debugText) set(date lease.Calendar, mayStart bool) {
	at := date.Time().In(t.zone)
	_, offset := at.Zone()
	now := max(at.Unix()+int64(offset), t.clock)
	if midnight := now - now%debugDay; t.clock != 0 && t.clock < midnight && t.stamp < midnight {
		t.clock = midnight
		t.writeStamp()
	}
	t.clock = now
	if mayStart && !t.started || now-t.stamp >= debugStampEvery {
		t.started = t.started || mayStart
		t.writeStamp()
	}
}

func (t *debugText) writeStamp() {
	t.stamp = t.clock
	t.line("lmgrd", "TIMESTAMP "+time.Unix(t.clock, 0).UTC().Format("1/2/2006"))
}

func (t *debugText) line(daemon, text string) {
	s := t.clock % debugDay
	t.buf = fmt.Appendf(t.buf, "%d:%02d:%02d (%s) %s\n", s/3600, s/60%60, s%60, daemon, text)
}

// lines writes what happened at a date. mayStart: a time stamp for the start of this
// process may stand here.
func (t *debugText) lines(date lease.Calendar, events []lease.Event, mayStart bool) []byte {
	t.buf = t.buf[:0]
	t.set(date, mayStart)
	for i := range events {
		e := &events[i]
		text := ""
		switch e.Kind {
		case lease.Granted:
			text = "OUT: " + whoOf(e)
		case lease.Ended:
			text = "IN: " + whoOf(e)
		case lease.Queued:
			text = "QUEUED: " + whoOf(e)
		case lease.Dequeued:
			text = "DEQUEUED: " + whoOf(e)
		case lease.Denied:
			code, detail, why := e.Reason.FlexNet()
			text = fmt.Sprintf("DENIED: %s  (%s (%d,%d))", nameOf(e), why, code, detail)
		default:
			continue
		}
		t.line(lease.FlexNetName(cmp.Or(e.Vendor, "seatkeeper")), text)
	}
	return t.buf
}

// nameOf is "feature" user@host, whoOf that with how many seats, if more than one.
func nameOf(e *lease.Event) string {
	return fmt.Sprintf("%q %s@%s", lease.FlexNetWord(e.Feature), lease.FlexNetWord(e.Principal.User), lease.FlexNetHost(e.Principal.Host))
}

func whoOf(e *lease.Event) string {
	if e.Count > 1 {
		return fmt.Sprintf("%s  (%d licenses)", nameOf(e), e.Count)
	}
	return nameOf(e)
}

// debugMove is a line that takes or gives back.
var debugMove = regexp.MustCompile(`^\d+:\d\d:\d\d \((\w+)\) (OUT|IN): (.*)$`)

// balance makes the log agree with what is held: after a stretch that this node has not
// seen, seats held but not logged get their OUT, and logged ones not held get their IN.
func (t *debugText) balance(path string, date lease.Calendar, live []lease.UsageRecord) []byte {
	type seat struct{ vendor, who string }
	open := map[seat]int{}
	if f, err := os.Open(path); err == nil {
		for in := bufio.NewScanner(f); in.Scan(); {
			if m := debugMove.FindStringSubmatch(in.Text()); m != nil {
				if k := (seat{m[1], m[3]}); m[2] == "OUT" {
					open[k]++
				} else if open[k] > 0 {
					open[k]--
				}
			}
		}
		f.Close()
	}
	for i := range live {
		r := &live[i]
		e := lease.Event{Feature: r.Feature, Count: r.Count, Principal: r.Principal}
		open[seat{lease.FlexNetName(cmp.Or(r.Vendor, "seatkeeper")), whoOf(&e)}]--
	}
	keys := make([]seat, 0, len(open))
	for k := range open {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b seat) int { return cmp.Or(cmp.Compare(a.vendor, b.vendor), cmp.Compare(a.who, b.who)) })
	t.buf = t.buf[:0]
	t.set(date, true)
	for _, k := range keys {
		for ; open[k] > 0; open[k]-- {
			t.line(k.vendor, "IN: "+k.who)
		}
		for ; open[k] < 0; open[k]++ {
			t.line(k.vendor, "OUT: "+k.who)
		}
	}
	return t.buf
}
