package explore

import (
	"fmt"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// A client keeps so many copies of its requests under way: the newest, and one that is
// late.
const underWay = 2

// step is one thing that may happen in a state.
type step struct {
	name string
	do   func(w *world, m *machine) error
}

// start is the state in which a leader has installed the licence.
func start(cfg Config) (*world, error) {
	w := &world{cfg: cfg, clients: make([]client, cfg.Clients), tokens: make([]lease.Token, cfg.Seats)}
	for i := range w.clients {
		w.clients[i] = client{incarnation: 1}
	}
	m, err := w.restore()
	if err != nil {
		return nil, err
	}
	if err := w.elect(m); err != nil {
		return nil, err
	}
	_, err = w.commit(m, 0, lease.InstallLicence{Licence: lease.Licence{
		ID: "L", Vendor: "v", Tenant: lease.DefaultTenant,
		Entitlements: []lease.Entitlement{{Feature: "cad", Version: "1", Count: cfg.Seats, Serial: "1", Profile: profile}},
	}})
	return w, err
}

// next lists what may happen in w.
func (w *world) next() (list []step) {
	list = append(list,
		step{"a second passes", func(w *world, m *machine) error { return w.pass(m, unit, true) }},
		step{"a lease's whole time passes", func(w *world, m *machine) error { return w.pass(m, profile.Lifespan+profile.Grace, true) }},
		step{"a second passes that the leader forgets", func(w *world, m *machine) error { return w.pass(m, unit, false) }},
		step{"another leader", func(w *world, m *machine) error { return w.elect(m) }},
		step{"the expirer reclaims what is due", reclaim},
		step{"an entry of another term", func(w *world, m *machine) error {
			return w.stale(m, w.epoch.Index, w.epoch.Term-1, m.Status().Now.Add(unit))
		}},
	)
	if w.last != 0 {
		list = append(list, step{"an entry of the epoch before", func(w *world, m *machine) error {
			return w.stale(m, w.last, w.epoch.Term, m.Status().Now.Add(unit))
		}})
	}
	for i := range w.seen {
		list = append(list, step{fmt.Sprintf("a mistaken expiration, of lease %d", i+1), func(w *world, m *machine) error { return w.expireSeen(m, i) }})
	}
	for c := range w.clients {
		list = append(list, w.clientSteps(c)...)
	}
	return list
}

// clientSteps lists what client c may do, and what may happen to its requests.
func (w *world) clientSteps(c int) (list []step) {
	me := &w.clients[c]
	add := func(name string, do func(w *world, m *machine) error) {
		list = append(list, step{fmt.Sprintf("client %d %s", c+1, name), do})
	}
	add("asks for a seat", func(w *world, _ *machine) error { w.ask(c); return nil })
	if me.open {
		add("sends a heartbeat", func(w *world, _ *machine) error { w.heartbeat(c); return nil })
		add("closes its session", func(w *world, _ *machine) error { w.giveBack(c, true); return nil })
		if me.incarnation < 2 {
			add("crashes and comes back", func(w *world, _ *machine) error {
				me := &w.clients[c]
				me.held, me.seq = nil, 0
				me.incarnation++
				w.heartbeat(c)
				return nil
			})
		}
	}
	if len(me.held) > 0 {
		add("gives its seat back", func(w *world, _ *machine) error { w.giveBack(c, false); return nil })
	}
	for i, r := range me.outbox {
		copied := "'s " + r.name + " arrives"
		if i < len(me.outbox)-1 {
			copied = "'s earlier " + r.name + " arrives"
		}
		add(copied, func(w *world, m *machine) error { return w.deliver(m, c, i, true, false) })
		add(copied+" twice", func(w *world, m *machine) error { return w.deliver(m, c, i, true, true) })
		add(copied+", its answer is lost", func(w *world, m *machine) error { return w.deliver(m, c, i, false, true) })
	}
	return list
}

// pass lets time pass, for the cluster too or for the clients alone.
func (w *world) pass(m *machine, d time.Duration, counted bool) error {
	w.real += d
	if !counted {
		return nil
	}
	_, err := w.commit(m, m.Status().Now.Add(d), lease.Tick{})
	return err
}

// reclaim is the expirer's tick.
func reclaim(w *world, m *machine) error {
	due := m.Due(10)
	for _, cmd := range due {
		if err := w.expireOne(m, cmd); err != nil {
			return err
		}
	}
	leases := w.live(m)
	for _, l := range leases {
		if l.State == lease.Expiring && l.Grace == 0 {
			return broken("L7", "lease of client %d is past its grace after the expirer's tick", clientOf(l.Session)+1)
		}
	}
	return nil
}

// expireOne proposes one expiration and checks L4.
func (w *world) expireOne(m *machine, cmd lease.Command) error {
	before := w.live(m)
	if _, err := w.commit(m, m.Status().Now, cmd); err != nil {
		return err
	}
	after := w.live(m)
	for _, l := range before {
		if slices.ContainsFunc(after, func(x lease.Lease) bool { return x.ID == l.ID }) {
			continue
		}
		e, _ := cmd.(lease.Expire)
		if e.Ref != l.Ref || e.Rev != l.Rev || l.Deadline.Add(profile.Grace) > m.Status().Now {
			return broken("L4", "lease of client %d (token %d, revision %d, %v before it is due) was reclaimed by %+v",
				clientOf(l.Session)+1, l.Token, l.Rev, l.Deadline.Add(profile.Grace).Sub(m.Status().Now), e)
		}
	}
	return nil
}

func (w *world) expireSeen(m *machine, i int) error {
	s := w.seen[i]
	for _, e := range []lease.Expire{
		{Ref: lease.Ref{ID: s.ID, Token: s.Token + 1}, Rev: s.rev},
		{Ref: s.Ref, Rev: s.rev},
	} {
		if err := w.expireOne(m, e); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) live(m *machine) (list []lease.Lease) {
	m.Read(func(b *lease.Book) { list, _ = b.Leases(lease.Filter{}, 0, 100) })
	return list
}

// send puts a request under way.
func (w *world) send(c int, name string, cmd lease.Command) {
	me := &w.clients[c]
	me.outbox = append(me.outbox, request{cmd, name, w.clock()})
	if n := len(me.outbox) - underWay; n > 0 {
		me.outbox = me.outbox[n:]
	}
}

func (w *world) ask(c int) {
	me := &w.clients[c]
	me.seq++
	w.send(c, "checkout", lease.Checkout{
		Tenant: lease.DefaultTenant, Session: me.ref(c, me.seq), Principal: lease.Principal{User: fmt.Sprint(c), Host: fmt.Sprint(c)},
		Items: []lease.Item{{Feature: "cad", Count: 1}},
	})
	me.open = true
}

func (w *world) heartbeat(c int) {
	me := &w.clients[c]
	x := lease.Renew{Session: me.ref(c, 0)}
	for _, h := range me.held {
		x.Held = append(x.Held, h.Ref)
	}
	w.send(c, "heartbeat", x)
}

// giveBack stops the use of a seat and then says so.
func (w *world) giveBack(c int, end bool) {
	me := &w.clients[c]
	me.seq++
	x := lease.CheckIn{Session: me.ref(c, me.seq), Close: end}
	for _, h := range me.held {
		x.Refs = append(x.Refs, h.Ref)
	}
	me.held = nil
	if me.open = !end; end {
		w.send(c, "goodbye", x)
		return
	}
	w.send(c, "check-in", x)
}

// deliver applies the i-th request under way of client c, whose answer may be lost and
// of which a duplicate may stay under way.
func (w *world) deliver(m *machine, c, i int, heard, again bool) error {
	me := &w.clients[c]
	r := me.outbox[i]
	newest := i == len(me.outbox)-1
	if !again {
		me.outbox = slices.Delete(me.outbox, i, i+1)
	}
	before := w.live(m)
	replies, err := w.commit(m, m.Status().Now, r.cmd)
	if err != nil {
		return err
	}
	if err := w.judgeRequest(m, c, r, replies[0], before); err != nil {
		return err
	}
	if heard && newest {
		w.hear(m, c, r, replies[0])
	}
	for _, l := range w.live(m) {
		if s := (seenLease{l.Ref, l.Rev}); !slices.ContainsFunc(w.seen, func(x seenLease) bool { return x.Ref == l.Ref }) {
			w.seen = append(w.seen, s)
		}
	}
	if n := len(w.seen) - w.cfg.Seats; n > 0 {
		w.seen = w.seen[n:]
	}
	return nil
}

// judgeRequest checks I1, I2 and L6: one effect per number, none of an older one, and
// nobody else's lease is touched.
func (w *world) judgeRequest(m *machine, c int, r request, reply lease.Reply, before []lease.Lease) error {
	after := w.live(m)
	var changed bool
	for _, l := range before {
		now := slices.IndexFunc(after, func(x lease.Lease) bool { return x.ID == l.ID })
		switch {
		case now >= 0 && after[now].Deadline < l.Deadline:
			return broken("L5", "the deadline of client %d moved back", clientOf(l.Session)+1)
		case now < 0 && clientOf(l.Session) != c && l.Deadline.Add(profile.Grace) > m.Status().Now:
			return broken("L6", "client %d's %s ended the lease of client %d", c+1, r.name, clientOf(l.Session)+1)
		case now < 0 && clientOf(l.Session) == c || now >= 0 && after[now].Rev != l.Rev:
			changed = true
		}
	}
	for _, l := range after {
		if !slices.ContainsFunc(before, func(x lease.Lease) bool { return x.ID == l.ID }) {
			changed = true
		}
	}
	var ref lease.SessionRef
	switch x := r.cmd.(type) {
	case lease.Checkout:
		ref = x.Session
	case lease.CheckIn:
		ref = x.Session
		if reply.Refusal == nil && !reply.Replayed && (x.Close || len(x.Refs) > 0) {
			for _, l := range after {
				if clientOf(l.Session) == c && (x.Close || slices.Contains(x.Refs, l.Ref)) {
					return broken("L7", "client %d gave its seat back and still holds it", c+1)
				}
			}
		}
	case lease.Renew:
		ref = x.Session
	}
	if changed && w.overtaken(c, ref) {
		return broken("I2", "client %d's %s (incarnation %d, number %d) had an effect after a later one", c+1, r.name, ref.Incarnation, ref.Seq)
	}
	if reply.Refusal != nil || ref.Seq == 0 {
		if reply.Refusal == nil {
			w.note(effect{c, ref.Incarnation, 0})
		}
		return nil
	}
	e := effect{c, ref.Incarnation, ref.Seq}
	if changed && slices.Contains(w.effects, e) {
		return broken("I1", "client %d's %s number %d had a second effect", c+1, r.name, ref.Seq)
	}
	w.note(e)
	return nil
}

func (w *world) note(e effect) {
	if !slices.Contains(w.effects, e) {
		w.effects = append(w.effects, e)
	}
}

func (w *world) overtaken(c int, ref lease.SessionRef) bool {
	for _, e := range w.effects {
		if e.client == c && (e.incarnation > ref.Incarnation || ref.Seq != 0 && e.incarnation == ref.Incarnation && e.seq > ref.Seq) {
			return true
		}
	}
	return false
}

// hear lets the client take the answer to its newest request in, as the SDK does.
func (w *world) hear(m *machine, c int, r request, reply lease.Reply) {
	me := &w.clients[c]
	if reply.Refusal != nil || !me.open {
		if reply.Refusal != nil && reply.Refusal.Reason == lease.SessionUnknown {
			me.held = nil
		}
		return
	}
	if _, out := r.cmd.(lease.CheckIn); out {
		return
	}
	sent := r.sent
	if lease.Broken(lease.GuardSendTime) {
		sent = w.clock()
	}
	for _, l := range reply.Leases {
		i := slices.IndexFunc(me.held, func(h holding) bool { return h.Ref == l.Ref })
		if i < 0 {
			me.held = append(me.held, holding{Ref: l.Ref, seats: l.Seats})
			i = len(me.held) - 1
		}
		me.held[i].belief.Confirm(sent, l.Remaining, l.Grace)
	}
	for _, l := range reply.Lost {
		me.held = slices.DeleteFunc(me.held, func(h holding) bool { return h.ID == l.ID })
	}
}

// sinceAt saturates an age: what is older than any lease is all the same.
func sinceAt(now, then lease.Instant) time.Duration {
	return min(now.Sub(then), profile.Lifespan+profile.Grace+unit).Round(unit / 2)
}
