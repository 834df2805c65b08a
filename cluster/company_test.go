package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// beats proposes a renewal at each of the times given as pauses after the one before, and
// returns how long each was under way once all are answered.
func beats(t *testing.T, p *proposer, pauses ...time.Duration) []time.Duration {
	took := make([]time.Duration, len(pauses))
	var all sync.WaitGroup
	for i, pause := range pauses {
		time.Sleep(pause)
		began := time.Now()
		all.Go(func() {
			if _, err := p.propose(t.Context(), lease.Renew{}); err != nil {
				t.Error(err)
			}
			took[i] = time.Since(began)
		})
	}
	all.Wait()
	return took
}

// expectMany has the proposer believe that many renewals have just come, and that so many
// calls were on their way at once.
func expectMany(p *proposer, crowd int) {
	p.queue.mu.Lock()
	defer p.queue.mu.Unlock()
	now := time.Now()
	for range gatherWith {
		p.queue.company.came(now, false)
	}
	p.queue.company.crowd(now, crowd)
}

func every(pause time.Duration, n int) []time.Duration {
	list := make([]time.Duration, n)
	for i := range list {
		list[i] = pause
	}
	return list
}

func TestHeartbeatsThatComeOneByOneShareEntries(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = 2 * time.Millisecond
		const n = 2000
		for i, took := range beats(t, p, every(400*time.Microsecond, n)...) {
			if took > maxGather+2*r.takes {
				t.Fatalf("heartbeat %d was answered after %v", i, took)
			}
		}
		if entries := len(r.sent()); entries > n/10 {
			t.Errorf("%d heartbeats made %d entries", n, entries)
		}
	})
}

func TestAHeartbeatThatComesAloneGoesAtOnce(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = 2 * time.Millisecond
		beats(t, p, every(400*time.Microsecond, 100)...) // a crowd, and then a calm
		for i, took := range beats(t, p, every(maxGather/2, 20)...) {
			if i > gatherWith && took != r.takes {
				t.Errorf("heartbeat %d was answered after %v", i, took)
			}
		}
	})
}

// Others than renewals take those that wait along, and wait for nothing.
func TestACheckoutWaitsForNoHeartbeats(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = 2 * time.Millisecond
		expectMany(p, rallyFrom-1)
		before := len(r.sent())
		var done sync.WaitGroup
		done.Go(func() { beats(t, p, every(0, 3)...) })
		synctest.Wait()
		if n := len(r.sent()); n != before {
			t.Errorf("the renewals did not wait: %d entries", n-before)
		}
		began := time.Now()
		if _, err := p.propose(t.Context(), lease.Checkout{}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != r.takes {
			t.Errorf("the checkout was answered after %v", took)
		}
		done.Wait()
		if sent := r.sent(); len(sent) != before+1 || sent[before].commands != 4 {
			t.Errorf("%d entries, the first of %d commands: the renewals should have gone along", len(sent)-before, sent[before].commands)
		}
	})
}

func TestEnoughHeartbeatsWaitForNoMore(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = time.Millisecond
		expectMany(p, 1000)
		before, began := len(r.sent()), time.Now()
		beats(t, p, every(10*time.Microsecond, maxGathered)...)
		if sent := r.sent(); sent[before].commands != maxGathered || sent[before].at.Sub(began) != maxGathered*10*time.Microsecond {
			t.Errorf("the entry has %d commands and left after %v", sent[before].commands, sent[before].at.Sub(began))
		}
	})
}

// Clients that wait for each answer before they send again do not wait for each other when
// all are there, whatever their number, and from rallyFrom on they share entries.
func TestClientsThatWaitForTheirAnswersAreNotSlowedDown(t *testing.T) {
	for name, cmd := range map[string]lease.Command{"heartbeats": lease.Renew{}, "checkouts": lease.Checkout{}} {
		for _, clients := range []int{1, 2, 4, 8, 16, 31, 64, 200} {
			proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
				r.takes = time.Millisecond
				const span = 500 * time.Millisecond
				var done atomic.Int64
				var all sync.WaitGroup
				ends := time.Now().Add(span)
				for range clients {
					all.Go(func() {
						for time.Now().Before(ends) {
							if _, err := p.propose(t.Context(), cmd); err != nil {
								t.Error(err)
							}
							done.Add(1)
						}
					})
				}
				all.Wait()
				// With two entries on their way a client waits for its own and for half of another.
				if rounds := float64(done.Load()) / float64(clients); rounds < float64(span/r.takes)/2 {
					t.Errorf("%d clients: %.0f %s each in %v", clients, rounds, name, span)
				}
				if a := int(done.Load()) / len(r.sent()); clients >= rallyFrom && a < clients/2 {
					t.Errorf("%d clients: %d %s an entry", clients, a, name)
				}
			})
		}
	}
}

// Whoever was answered last is waited for, but not for long: it may have gone.
func TestACrowdWaitsForThoseWhoWereAnsweredAndNotForEver(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = time.Millisecond
		var all sync.WaitGroup
		asked := func(n int) {
			for range n {
				all.Go(func() {
					if _, err := p.propose(t.Context(), lease.Checkout{}); err != nil {
						t.Error(err)
					}
				})
			}
		}
		asked(64)
		all.Wait()
		before := len(r.sent())
		asked(20)
		time.Sleep(maxRally / 4)
		asked(20)
		all.Wait()
		again := time.Now()
		asked(1)
		all.Wait()
		if took := time.Since(again); took != maxRally+r.takes {
			t.Errorf("one that came back alone was answered after %v", took)
		}
		time.Sleep(2*crowdSpan + time.Millisecond)
		alone := time.Now()
		asked(1)
		all.Wait()
		if took := time.Since(alone); took != r.takes {
			t.Errorf("one that came when the crowd had gone was answered after %v", took)
		}
		var sizes []int
		for _, e := range r.sent()[before:] {
			sizes = append(sizes, e.commands)
		}
		if !slices.Equal(sizes, []int{40, 1, 1}) {
			t.Errorf("entries of %d commands, want those who came back in one", sizes)
		}
	})
}

// Who came while the entry before was on its way waits for those whom it answered, too.
func TestThoseBehindAnEntryWaitForThoseInIt(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = 5 * time.Millisecond
		var all sync.WaitGroup
		for range rallyFrom { // each comes twice
			all.Go(func() {
				for range 2 {
					p.propose(t.Context(), lease.Checkout{})
					time.Sleep(maxRally / 2)
				}
			})
		}
		synctest.Wait()
		before := len(r.sent())
		time.Sleep(r.takes / 2)
		for range rallyFrom / 2 {
			all.Go(func() { p.propose(t.Context(), lease.Checkout{}) })
		}
		all.Wait()
		if first := r.sent()[before].commands; first < rallyFrom*3/2*7/8 {
			t.Errorf("an entry of %d commands: want nearly all in it", first)
		}
	})
}

// A checkout that joins renewals goes when it is to go, not when they were.
func TestACheckoutInACrowdWaitsNoLongerThanCheckoutsDo(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = time.Millisecond
		expectMany(p, 1000)
		var done sync.WaitGroup
		done.Go(func() { beats(t, p, every(0, 3)...) })
		synctest.Wait()
		began := time.Now()
		if _, err := p.propose(t.Context(), lease.Checkout{}); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != maxRally+r.takes {
			t.Errorf("the checkout was answered after %v", took)
		}
		done.Wait()
	})
}

// An entry that hangs does not keep others from being handed over.
func TestACrowdWaitsForAnEntryOnItsWayAndNotForEver(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r.answerAfter(0) // not at all
		go p.proposeMany(ctx, ticks(rallyFrom))
		synctest.Wait()
		before := len(r.sent())
		ask(ctx, p, 10*rallyFrom)
		time.Sleep(maxGather - time.Microsecond)
		synctest.Wait()
		if n := len(r.sent()); n != before {
			t.Errorf("%d entries behind one that was on its way", n-before)
		}
		time.Sleep(time.Microsecond)
		synctest.Wait()
		if sent := r.sent(); len(sent) != before+1 || sent[before].commands != 10*rallyFrom {
			t.Errorf("%d entries behind one that hangs, want one of all", len(sent)-before)
		}
	})
}

// So many bytes are worth an entry, however many others may come.
func TestLargeCommandsWaitForNoOthers(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.answerAfter(0) // not at all
		expectMany(p, 1000)
		large := lease.RenewMany{Sessions: make([]lease.Heartbeat, 2000)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go p.propose(ctx, large)
		synctest.Wait()
		if n := len(r.sent()); n != 1 {
			t.Errorf("%d entries of a large command", n)
		}
	})
}

// However long the entry before takes.
func TestHeartbeatsWaitNoLongerThanTheyMayBehindAnEntry(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = 2 * time.Millisecond
		r.answerAfter(0) // not at all
		before := len(r.sent())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var done sync.WaitGroup
		defer done.Wait()
		done.Go(func() { p.proposeMany(ctx, ticks(5)) })
		synctest.Wait()
		expectMany(p, 1000)
		for range 5 {
			time.Sleep(time.Millisecond)
			done.Go(func() { p.propose(ctx, lease.Renew{}) })
		}
		time.Sleep(maxGather)
		if sent := r.sent(); len(sent) != before+2 || sent[before+1].commands != 5 {
			t.Errorf("%d entries, want that of the ticks and that of the renewals", len(sent)-before)
		}
	})
}

func TestAHeartbeatGivenUpWhileItWaitsIsNotApplied(t *testing.T) {
	proposing(t, 4000, func(t *testing.T, p *proposer, r *fakeRaft, _ func()) {
		r.takes = 2 * time.Millisecond
		expectMany(p, 1000)
		before := len(r.sent())
		ctx, cancel := context.WithTimeout(t.Context(), maxGather/2)
		defer cancel()
		if _, err := p.propose(ctx, lease.Renew{}); !errors.Is(err, ErrNotApplied) {
			t.Errorf("given up: %v", err)
		}
		time.Sleep(2 * maxGather)
		if n := len(r.sent()); n != before {
			t.Errorf("%d entries of nothing", n-before)
		}
		expectMany(p, 1000)
		began := time.Now()
		if _, err := p.propose(t.Context(), lease.Renew{}); err != nil || time.Since(began) != maxGather+r.takes {
			t.Errorf("the next one: %v after %v", err, time.Since(began))
		}
	})
}
