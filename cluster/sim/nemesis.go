package sim

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
)

// fault is something the nemesis does; it returns how to undo it, or nil if it passes by
// itself.
type fault struct {
	name string
	do   func(w *world) (undo func())
}

// faults lists all that can go wrong. Which of them are on is drawn per seed (swarm
// testing: Groce et al., ISSTA 2012), because some faults hide others.
var faults = []fault{
	{"isolate-leader", func(w *world) func() { return w.isolate(w.leader()) }},
	{"isolate-node", func(w *world) func() { return w.isolate(w.anyNode()) }},
	{"halves", (*world).splitNodes},
	{"one-way", func(w *world) func() {
		from, to := w.anyNode(), w.anyNode()
		w.net.setCut(from.name, to.name, true)
		return func() { w.net.setCut(from.name, to.name, false) }
	}},
	{"cut-client", (*world).cutClient},
	{"cut-clients-from-leader", func(w *world) func() {
		n := w.leader()
		for _, c := range w.clients {
			w.net.setCut(n.name, c.name, true) // requests arrive, answers do not
		}
		return func() {
			for _, c := range w.clients {
				w.net.setCut(n.name, c.name, false)
			}
		}
	}},
	{"crash-leader", func(w *world) func() { w.leader().crash("by the nemesis", w.span(15*time.Second)); return nil }},
	{"crash-node", func(w *world) func() { w.anyNode().crash("by the nemesis", w.span(40*time.Second)); return nil }},
	{"crash-all", func(w *world) func() {
		d := w.span(90 * time.Second)
		for _, n := range w.nodes {
			n.crash("all go down", d+w.span(time.Second))
		}
		return nil
	}},
	{"power-fail", func(w *world) func() {
		n := w.anyNode()
		n.losePower(1+w.nemesis.IntN(12), outcomes[w.nemesis.IntN(3)], w.span(20*time.Second))
		return nil
	}},
	{"power-fail-all", func(w *world) func() {
		for _, n := range w.nodes {
			n.losePower(1+w.nemesis.IntN(6), outcomes[w.nemesis.IntN(3)], w.span(10*time.Second))
		}
		return nil
	}},
	{"hang-disk", func(w *world) func() { w.leader().store().hang(time.Now().Add(w.span(9 * time.Second))); return nil }},
	{"stop-process", func(w *world) func() { w.leader().stop(w.span(20 * time.Second)); return nil }},
	{"transfer", func(w *world) func() {
		if c := w.leader().current(); c != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			c.TransferLeadership(ctx, "")
		}
		return nil
	}},
	{"deaf-transfer", (*world).deafTransfer},
	{"slow-hand-over", func(w *world) func() {
		n := w.leader()
		n.setHandOver(w.span(4 * time.Second))
		return func() { n.setHandOver(0) }
	}},
	{"weather", func(w *world) func() {
		w.net.weather(w.span(800*time.Millisecond), float64(w.nemesis.IntN(20))/100)
		return func() { w.net.weather(0, 0) }
	}},
	{"wall-step", func(w *world) func() {
		if !w.wallOK {
			w.leader().stepWall(w.span(4*time.Hour) - 2*time.Hour)
		}
		return nil
	}},
	{"stray-entries", func(w *world) func() {
		w.setStrays(true)
		return func() { w.setStrays(false) }
	}},
}

func (w *world) span(d time.Duration) time.Duration { return time.Duration(w.nemesis.Int64N(int64(d))) }

func (w *world) anyNode() *node { return w.nodes[w.nemesis.IntN(len(w.nodes))] }

// leader is the node that leads, or any if none does.
func (w *world) leader() *node {
	for _, n := range w.nodes {
		if c := n.current(); c != nil && c.Leading() {
			return n
		}
	}
	return w.anyNode()
}

// isolate cuts a node off from the other nodes, and sometimes from the clients too.
func (w *world) isolate(n *node) (undo func()) {
	var others []string
	for _, o := range w.nodes {
		if o != n {
			others = append(others, o.name)
		}
	}
	if w.nemesis.IntN(2) == 0 {
		for _, c := range w.clients {
			others = append(others, c.name)
		}
	}
	set := func(cut bool) {
		for _, o := range others {
			w.net.setCut(n.name, o, cut)
			w.net.setCut(o, n.name, cut)
		}
	}
	set(true)
	return func() { set(false) }
}

// deafTransfer lets a leader hand over while it hears nobody: its successor serves long
// before it notices.
func (w *world) deafTransfer() (undo func()) {
	n := w.leader()
	set := func(cut bool) {
		for _, o := range w.nodes {
			if o != n {
				w.net.setCut(o.name, n.name, cut)
			}
		}
	}
	set(true)
	if c := n.current(); c != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		c.TransferLeadership(ctx, "")
	}
	return func() { set(false) }
}

func (w *world) splitNodes() (undo func()) {
	side := map[string]bool{}
	for _, n := range w.nodes {
		side[n.name] = w.nemesis.IntN(2) == 0
	}
	set := func(cut bool) {
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if side[a.name] != side[b.name] {
					w.net.setCut(a.name, b.name, cut)
				}
			}
		}
	}
	set(true)
	return func() { set(false) }
}

// cutClient cuts one client off from all nodes.
func (w *world) cutClient() (undo func()) {
	c := w.clients[w.nemesis.IntN(len(w.clients))]
	set := func(cut bool) {
		for _, n := range w.nodes {
			w.net.setCut(c.name, n.name, cut)
			w.net.setCut(n.name, c.name, cut)
		}
	}
	set(true)
	return func() { set(false) }
}

// tormentUntil does one fault after another, overlapping, until ctx ends.
func (w *world) tormentUntil(ctx context.Context) {
	var on []fault
	for _, f := range faults {
		if drawn := w.nemesis.IntN(2) == 0; slices.Contains(w.cfg.Faults, f.name) || drawn && len(w.cfg.Faults) == 0 {
			on = append(on, f)
		}
	}
	if len(on) == 0 {
		on = faults[:1]
	}
	type pending struct {
		at   time.Time
		undo func()
	}
	var undo []pending
	next := time.Now().Add(w.span(10 * time.Second))
	for ctx.Err() == nil {
		time.Sleep(100 * time.Millisecond)
		for _, n := range w.nodes {
			n.supervise()
		}
		undo = slices.DeleteFunc(undo, func(p pending) bool {
			if time.Now().Before(p.at) {
				return false
			}
			p.undo()
			return true
		})
		if time.Now().Before(next) {
			continue
		}
		f := on[w.nemesis.IntN(len(on))]
		w.mu.Lock()
		w.report.Faults[f.name]++
		w.report.Schedule = append(w.report.Schedule, fmt.Sprintf("%10.3fs %s", w.real().Seconds(), f.name))
		w.note("fault: %s", f.name)
		w.mu.Unlock()
		if u := f.do(w); u != nil {
			undo = append(undo, pending{time.Now().Add(w.span(25 * time.Second)), u})
		}
		next = time.Now().Add(w.span(20 * time.Second))
	}
	for _, p := range undo {
		p.undo()
	}
}

// operate is the operator: kills, licences that shrink and grow, and expirations that
// nobody should believe.
func (w *world) operate(ctx context.Context) {
	rnd := stream(w.cfg.Seed, 3)
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rnd.Int64N(int64(4 * time.Second))))
		n := w.nodes[rnd.IntN(len(w.nodes))].current()
		if n == nil || !n.Leading() {
			continue
		}
		var leases, late []lease.Lease
		n.ReadStale(func(b *lease.Book) {
			leases, _ = b.Leases(lease.Filter{}, 0, 100)
			late, _ = b.Leases(lease.Filter{State: lease.Expiring}, 0, 100)
		})
		var cmd lease.Command
		switch p := rnd.IntN(10); {
		case p < 1 && len(leases) > 0 && rnd.IntN(2) == 0:
			l := leases[rnd.IntN(len(leases))]
			if l.State != lease.Borrowed && l.State != lease.Quarantined { // else its seats stay charged
				w.mu.Lock()
				w.killed[l.ID] = true // from now on nobody guarantees it
				w.mu.Unlock()
			}
			cmd = lease.Kill{Refs: []lease.Ref{l.Ref}, By: "operator"}
		case p < 2:
			cmd = lease.InstallLicence{Licence: w.licence(1 + rnd.IntN(4)), Replace: true}
		case len(leases) > 0:
			// What a deposed or mistaken expirer would propose.
			l := leases[rnd.IntN(len(leases))]
			if len(late) > 0 {
				l = late[rnd.IntN(len(late))]
			}
			e := lease.Expire{Ref: l.Ref, Rev: l.Rev}
			switch rnd.IntN(4) {
			case 0:
				e.Rev -= uint64(rnd.IntN(3))
			case 1:
				e.Token += lease.Token(rnd.IntN(2)) - 1
			}
			cmd = e
		default:
			continue
		}
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		n.Propose(short, cmd)
		cancel()
	}
}

// readAround checks R2: a read that was answered reflects every write acknowledged
// before it began.
func (w *world) readAround(ctx context.Context) {
	rnd := stream(w.cfg.Seed, 4)
	for ctx.Err() == nil {
		// The interesting moment is when two nodes believe that they lead.
		for wait := time.Duration(rnd.Int64N(int64(3 * time.Second))); wait > 0 && ctx.Err() == nil; wait -= readLook {
			time.Sleep(readLook)
			if leaders := w.leaders(); len(leaders) > 1 {
				for _, n := range leaders {
					w.readAt(ctx, n)
				}
			}
		}
		w.readAt(ctx, w.nodes[rnd.IntN(len(w.nodes))])
	}
}

// readLook is how often the reader looks for a second leader.
const readLook = 100 * time.Millisecond

// leaders are all nodes that believe they lead.
func (w *world) leaders() (list []*node) {
	for _, n := range w.nodes {
		if c := n.current(); c != nil && c.Leading() {
			list = append(list, n)
		}
	}
	return list
}

func (w *world) readAt(ctx context.Context, n *node) {
	c := n.current()
	if c == nil {
		return
	}
	w.mu.Lock()
	before := w.acked
	w.mu.Unlock()
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	st, err := c.Read(short, func(*lease.Book) {})
	if err == nil && n.current() == c && st.AppliedIndex < before {
		w.violated("R2", "%s answered a read from index %d after %d had been acknowledged", n.name, st.AppliedIndex, before)
	}
}

func (w *world) setStrays(on bool) { w.mu.Lock(); defer w.mu.Unlock(); w.strays = on }

// strayEntry remembers an entry now and then, and gives it back later, when another
// epoch may have begun; or just before a Lead entry, when its epoch is still the latest
// in the log and only the term tells that its leader is gone.
func (w *world) strayEntry(entry []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.strays {
		return nil
	}
	if e, err := fsm.Decode(entry); err != nil || e.Lead != nil {
		if w.strayEpoch == w.monitor.epochIndex {
			return w.stray
		}
		return nil
	}
	w.handed++
	if w.handed%17 == 1 {
		w.stray, w.strayEpoch = bytes.Clone(entry), w.monitor.epochIndex
	}
	if w.strayEpoch != w.monitor.epochIndex && w.handed%5 == 0 {
		return w.stray
	}
	return nil
}

func (n *node) stop(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stoppedUntil = time.Now().Add(d)
}

func (n *node) setHandOver(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slowHandOver = d
}

func (n *node) stepWall(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wallStep += d
}
