package cluster

import (
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

const (
	// gatherFor is how long a renewal waits for others to share its entry. An entry costs
	// every node as much as some thirty commands, and of heartbeats that come one by one,
	// thousands in a second, nearly each would make its own. Who sends one believes in its
	// lease from the moment of sending, so these milliseconds are lost to nobody: the
	// shortest term is a second.
	gatherFor = 10 * time.Millisecond
	// gatherEnough commands wait for no more: beside them an entry costs little.
	gatherEnough = 32
	// gatherWith is how many renewals came within gatherFor, the newest among them, when they
	// wait for more. With fewer there is little to save, and who comes alone is served at once.
	gatherWith = 4
	// crowdSpan is how long it is remembered how many calls were on their way at once, and
	// once more after that: some tens of entries.
	crowdSpan = 100 * time.Millisecond
)

// patient says which commands may wait for company: heartbeats, to which milliseconds mean
// nothing. Whoever asks for a seat or gives one back is waiting for the answer.
func patient(cmd lease.Command) bool {
	switch cmd.(type) {
	case lease.Renew, lease.RenewMany:
		return true
	}
	return false
}

// company says how long renewals wait for each other. It belongs to the queue's lock. Its
// times are those of this process: they decide nothing but when an entry is made.
type company struct {
	first  time.Time             // when the oldest that waits came
	newest [gatherWith]time.Time // when the last ones came, the oldest of them at next
	next   int
	// most calls were on their way at once since the time, and in the span before it.
	most, before int
	since        time.Time
}

// came notes a renewal; first says that no other is waiting.
func (g *company) came(now time.Time, first bool) {
	if first {
		g.first = now
	}
	g.newest[g.next] = now
	g.next = (g.next + 1) % gatherWith
}

// crowd notes how many calls are on their way at once, in the queue and in entries.
func (g *company) crowd(now time.Time, calls int) {
	if age := now.Sub(g.since); age > crowdSpan {
		g.before, g.most, g.since = g.most, 0, now
		if age > 2*crowdSpan {
			g.before = 0
		}
	}
	g.most = max(g.most, calls)
}

// wait is how long the renewals that wait still do if nobody else comes. With no entry on its
// way and nearly as many waiting as were ever on their way lately, nobody else is to be
// expected before there are answers: these are clients that wait for them.
func (g *company) wait(now time.Time, waiting, inFlight int) time.Duration {
	lonely := now.Sub(g.newest[g.next]) > gatherFor
	allHere := inFlight == 0 && 8*waiting >= 7*max(g.most, g.before)
	if lonely || waiting >= gatherEnough || allHere {
		return 0
	}
	return max(0, g.first.Add(gatherFor).Sub(now))
}
