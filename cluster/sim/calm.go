package sim

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
)

// Bounds of the liveness mode, counted from the moment the faults are undone.
const (
	// electionTimeouts is how many of raft's timeouts it may take until a leader serves:
	// the old leader must be missed, and candidates may split the votes a few times.
	electionTimeouts = 20
	// retryEvery is how often somebody who waits for a seat asks again.
	retryEvery = 500 * time.Millisecond
	// answerWithin is how long a healthy cluster takes to answer one request, a redirect
	// and a lost first try included.
	answerWithin = 2*patience + time.Second
	// closeWithin is how long all clients together may take to say goodbye.
	closeWithin = time.Minute
)

// electionBound is how long it may take until a leader serves.
func (w *world) electionBound() time.Duration { return electionTimeouts * w.cfg.RaftTimeout }

// seatBound is how long it may take until a seat whose holder vanished is given to
// somebody who asks: one election, the holder's lifespan and grace on a clock that runs
// slow, what the election costs in cluster time, the expirer's ticks, one retry.
func (w *world) seatBound(p lease.Profile) time.Duration {
	held := p.Lifespan + p.Grace
	if w.cfg.Ruled {
		// What was borrowed ends by its date; who vanished from the queue, or comes to it by
		// a late duplicate, may be served once more and keep the seat for a lifespan.
		held = max(held, longestBorrow, lateness+longestWait) + slow.Lifespan
	}
	return w.electionBound() + held + 2*held/cluster.ClockMargin + cluster.MaxStep + 3*cluster.DefaultTick + retryEvery + answerWithin
}

// calmDown undoes all faults and then asks for what must hold: a leader serves soon,
// what vanished holders held comes back in time, everybody is served, nothing is leaked
// and nothing acknowledged is missing.
func (w *world) calmDown() {
	if !w.heal() {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	if w.cfg.Mode == Liveness {
		watching.Go(func() { w.watchTime(ctx) })
		w.serveWaiters()
	}
	for _, c := range w.clients {
		if !c.farewell() {
			w.violated("LIVE", "client %d was not served within %v after all faults were undone", c.n, closeWithin)
		}
	}
	// A session without leases is remembered for the default profile, and a last
	// duplicate may be under way.
	time.Sleep(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace + 40*time.Second)
	stop()
	watching.Wait()
	if w.compareReplicas() {
		w.nothingLeft()
	}
	w.durable()
}

// heal undoes all faults and waits for a leader.
func (w *world) heal() bool {
	w.net.heal()
	for _, n := range w.nodes {
		n.store().disarm()
		n.store().hang(time.Time{})
		n.resume()
		if !n.up() {
			n.start()
		}
	}
	w.logf("all faults are undone")
	healed := w.real()
	for !w.eventually(lease.Tick{}) {
		for _, n := range w.nodes {
			n.supervise()
		}
		if w.real()-healed > w.electionBound() {
			w.violated("LIVE", "no leader %v after all faults were undone", w.electionBound())
			return false
		}
	}
	return true
}

// violated is fail for those who do not hold the lock.
func (w *world) violated(letter, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(letter, format, args...)
}

// serveWaiters lets one newcomer per pool wait for all its seats, and in a ruled world
// others beside it, in the queue. All earlier clients have vanished without a word, so
// every seat must come back by expiry and nothing else, and nobody may starve.
func (w *world) serveWaiters() {
	var pools []lease.PoolStatus
	if c := w.target(true).current(); c != nil {
		c.ReadStale(func(b *lease.Book) { pools = b.Pools("") })
	}
	healed := w.real()
	if w.cfg.Ruled { // everybody may have everything, and nothing is kept for anybody
		for !w.eventually(lease.ApplyPolicy{Policy: plainPolicy(), Expected: lease.AnyVersion}) && w.real()-healed < w.electionBound() {
		}
	}
	var waiting sync.WaitGroup
	wait := func(n int, user, feature string, count int) {
		waiting.Go(func() {
			took, ok := w.waitForSeats(n, user, lease.Item{Feature: feature, Count: count}, healed)
			w.mu.Lock()
			defer w.mu.Unlock()
			if !ok {
				w.fail("LIVE", "%d seats of %s have not come back within %v, though their holders vanished", count, feature, w.seatBound(profileOf(feature)))
			}
			if took > time.Second {
				w.report.Waited++
			}
			w.report.Slowest = max(w.report.Slowest, took)
		})
	}
	for i, p := range pools {
		if p.Total == 0 || p.Uncounted || p.Suite || p.Draw.Of != "" {
			continue // what others pay for comes back with their seats
		}
		wait(2*i, fmt.Sprint("waiter", i), p.Feature, p.Total)
		if w.cfg.Ruled { // somebody who goes first, and somebody who wants little
			wait(2*i+1, urgent.Members[0], p.Feature, 1)
			wait(2*(i+len(pools)), fmt.Sprint("modest", i), p.Feature, 1)
		}
	}
	waiting.Wait()
}

// waitForSeats asks for seats of a pool with one request until it is granted, uses them
// for a moment and gives them back.
func (w *world) waitForSeats(i int, user string, it lease.Item, healed time.Duration) (took time.Duration, ok bool) {
	ref := lease.SessionRef{ID: lease.SessionID{0xaa, byte(i + 1)}, Incarnation: 1, Seq: 1}
	ask := lease.Checkout{
		Tenant: lease.DefaultTenant, Session: ref, Tentative: true,
		Principal: lease.Principal{User: user, Host: fmt.Sprint("waiting-room", i)}, Items: []lease.Item{it},
	}
	bound := w.seatBound(profileOf(it.Feature))
	for w.real()-healed < bound {
		if w.cfg.Ruled {
			ask.Wait = bound
		}
		if a, ok := w.ask(ask); ok && a.Reply.Refusal == nil {
			took = w.real() - healed
			ref.Seq++
			_, ok = w.ask(lease.CheckIn{Session: ref, Close: true})
			return took, ok
		}
		time.Sleep(retryEvery)
	}
	return w.real() - healed, false
}

// ask proposes at the nodes in turn until one answers.
func (w *world) ask(cmd lease.Command) (cluster.Applied, bool) {
	for _, n := range w.nodes {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		a, err := n.propose(ctx, cmd)
		cancel()
		if err == nil {
			w.answered(cmd, a, nil)
			return a, true
		}
	}
	return cluster.Applied{}, false
}

func profileOf(feature string) lease.Profile {
	for _, e := range append(simLicence(1).Entitlements, ruledEntitlements()...) {
		if e.Feature == feature {
			return e.Profile
		}
	}
	if feature == "paint" || feature == "post" {
		return usual
	}
	panic("no such feature: " + feature)
}

// watchTime checks C11: while one leader goes on committing, cluster time moves.
func (w *world) watchTime(ctx context.Context) {
	// What was in flight through an outage may carry one and the same stamp.
	const every = 5 * time.Second
	type look struct {
		epoch   uint64
		entries int
		now     lease.Time
	}
	var last look
	for {
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return
		}
		w.mu.Lock()
		now := look{w.monitor.epochIndex, w.report.Entries - w.report.Stale, w.monitor.now}
		if last.epoch != 0 && now.epoch == last.epoch && now.entries > last.entries+cluster.DefaultEntriesInFlight && now.now == last.now {
			w.fail("C11", "cluster time stands still at %v, while epoch %d committed %d entries in %v", now.now, now.epoch, now.entries-last.entries, every)
		}
		last = now
		w.mu.Unlock()
	}
}

// compareReplicas waits until all nodes stand at one index, and compares them byte for
// byte.
func (w *world) compareReplicas() bool {
	for try := 0; ; try++ {
		same := true
		for _, n := range w.nodes {
			n.supervise() // one may have given up, and its supervisor starts it again
		}
		first := w.nodes[0].state()
		for _, n := range w.nodes[1:] {
			if s := n.state(); s.index != first.index || s.index == 0 {
				same = false
			} else if s.bytes != first.bytes || s.hash != first.hash {
				w.violated("F1", "nodes %s and %s differ at index %d", w.nodes[0].name, n.name, s.index)
				return false
			}
		}
		if same {
			return true
		}
		if try > 600 {
			w.violated("LIVE", "the nodes have not come together a minute after all faults were undone: %s", w.standings())
			return false
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// nothingLeft checks that no seat is in use, as every client has gone.
func (w *world) nothingLeft() {
	w.nodes[0].current().ReadStale(func(b *lease.Book) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, p := range b.Pools("") {
			if p.InUse != 0 {
				w.fail("L7", "%d seats of %s are leaked: every client has gone", p.InUse, p.Feature)
			}
		}
		if sessions, leases := b.Counts(); sessions+leases != 0 {
			w.fail("I4", "%d sessions and %d leases are left after every client has gone", sessions, leases)
		}
		w.monitor.finish()
	})
}

// durable checks C8: everything acknowledged to a client is in the log of a majority,
// or in the snapshot that stands for the log's beginning.
func (w *world) durable() {
	w.mu.Lock()
	defer w.mu.Unlock()
	missing := 0
	for index, term := range w.acks {
		have := 0
		for _, n := range w.nodes {
			t, logged := n.store().entry(index)
			if logged && t == term || !logged && n.store().covers(index) {
				have++
			}
		}
		if have <= len(w.nodes)/2 {
			missing++
		}
	}
	if missing > 0 {
		w.fail("C8", "%d acknowledged commands are not in the log of a majority", missing)
	}
}

// standings says where each node stands.
func (w *world) standings() string {
	var b strings.Builder
	for _, n := range w.nodes {
		lo, _ := n.store().FirstIndex()
		hi, _ := n.store().LastIndex()
		fmt.Fprintf(&b, "%s applied %d, log %d to %d, up %v; ", n.name, n.state().index, lo, hi, n.up())
	}
	return b.String()
}
