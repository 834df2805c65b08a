package cluster

import (
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

const (
	// maxGather is how long a renewal waits for others to share its entry. An entry costs
	// every node as much as some thirty commands, and of heartbeats that come one by one,
	// thousands in a second, nearly each would make its own. Who sends one believes in its
	// lease from the moment of sending, so these milliseconds are lost to nobody: the
	// shortest term is a second.
	maxGather = 20 * time.Millisecond
	// maxGathered commands wait for no more: beside them an entry costs little.
	maxGathered = 64
	// gatherWith is how many renewals came within maxGather, the newest among them, when they
	// wait for more. With fewer there is little to save, and who comes alone is served at once.
	gatherWith = 4
	// maxRally is how long checkouts and all others that do not wait for company by themselves
	// do so after an entry, when rallyFrom calls or more are on their way at once: whoever was
	// answered by it is about to come back, and an entry of all costs every node and every
	// client less than two of some. A crowd is answered after milliseconds anyway.
	maxRally = 2 * time.Millisecond
	// rallyFrom calls at once make a crowd. Fewer leave the nodes time to spare.
	rallyFrom = 16
	// maxGatheredBytes of commands wait for no others: beside them an entry costs little.
	maxGatheredBytes = 64 << 10
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

// company says how long calls wait for each other before they become an entry. It belongs to
// the queue's lock. Its times are those of this process: they decide nothing but when an entry
// is made.
type company struct {
	first  time.Time             // when the oldest renewal that waits came
	newest [gatherWith]time.Time // when the last ones came, the oldest of them at next
	next   int
	eager  time.Time // when the oldest that waits and is no renewal came
	over   time.Time // when the last entry was
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

// wait is how long those who wait still do if nobody else comes; eager of them are no
// renewals. With no entry on its way and nearly as many waiting as were ever on their way
// lately, nobody else is to be expected before there are answers: these are clients that wait
// for them.
func (g *company) wait(now time.Time, waiting, eager, inFlight int) time.Duration {
	crowd := max(g.most, g.before)
	if inFlight == 0 && 8*waiting >= 7*crowd {
		return 0
	}
	var until time.Time
	switch lonely := now.Sub(g.newest[g.next]) > maxGather; {
	case eager == 0 && (lonely || waiting >= maxGathered), eager > 0 && crowd < rallyFrom:
		return 0
	case eager == 0:
		until = g.first.Add(maxGather)
	case inFlight > 0:
		until = g.eager.Add(maxGather)
	case g.over.After(g.eager):
		until = g.over.Add(maxRally)
	default:
		until = g.eager.Add(maxRally)
	}
	return max(0, until.Sub(now))
}
