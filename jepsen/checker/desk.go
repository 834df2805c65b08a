package checker

import (
	"cmp"
	"maps"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// desk goes through the log of a ruled run and keeps account of what it says: who holds,
// borrows or booked what, who waits, and which policy is in force. It takes the log's word
// for what happened and decides nothing by itself; R1 to R5 ask at each step whether that
// may be. It knows the default tenant, and features with one pool that nobody shares.
type desk struct {
	hooks
	now int64
	at  *history.Entry

	pools    map[string]*Pool
	leases   map[uint64]*paper
	jobs     map[string]*deskJob
	places   map[uint64]*place
	user     map[string]string // of sessions
	heard    map[string]int64  // when a session last spoke
	policy   *history.PolicyText
	policies []*history.PolicyText // all of the run
	made     uint64                // bookings so far
	// lost says why nothing can be said any more.
	lost string
}

// hooks are called while the desk goes through the log; any may be nil.
type hooks struct {
	// entry is called before each entry, ask before a command takes effect.
	entry func(e *history.Entry)
	ask   func(c *history.Command)
	// granted is called for each new lease, booked for each new booking, when it counts
	// already; before is what was promised of its pool without it.
	granted func(p *paper, c *history.Command, before int)
	booked  func(x *deskJob, feature string, before int)
	// ended is called when a lease ends, while it still counts.
	ended func(p *paper, c *history.Command)
	// queued is called for a new place, after after each command.
	queued func(x *place)
	after  func(c *history.Command)
}

// Kinds of papers.
const (
	ordinary = iota
	offered  // from the queue, and not collected
	borrowed
	quarantined // borrowed, and revoked
)

// paper is a live lease.
type paper struct {
	id, token     uint64
	feature       string
	count         int
	seats         []int
	session, user string
	kind          int
	end           int64 // of what is not ordinary, in cluster time
	job           *deskJob
	booked        int    // seats of it
	place         *place // it was granted to somebody who waited here
}

// deskJob is a live booking.
type deskJob struct {
	id, user string
	number   uint64
	until    int64
	count    map[string]int
	used     map[string]int
}

// place is one in the queue.
type place struct {
	ticket        uint64
	session, user string
	items         []history.Item
	booking       string
	priority      int
	until         int64
}

func newDesk(r *Run, h hooks) *desk {
	d := &desk{hooks: h, pools: map[string]*Pool{}, leases: map[uint64]*paper{}, jobs: map[string]*deskJob{}, places: map[uint64]*place{},
		user: map[string]string{}, heard: map[string]int64{}}
	for i := range r.Pools {
		d.pools[r.Pools[i].Feature] = &r.Pools[i]
	}
	for _, e := range r.log.Entries {
		for i := range e.Commands {
			if c := &e.Commands[i]; c.Kind == history.KindPolicy && c.Policy != nil {
				d.policies = append(d.policies, c.Policy)
			}
		}
	}
	return d
}

// walk goes through the log, and tells the jury if it is not whole.
func (d *desk) walk(r *Run, j *jury) {
	if !r.log.Whole {
		j.missing("the log cannot be followed: %s", r.log.Why)
		return
	}
	for _, e := range r.log.Entries {
		d.at = e
		if d.entry != nil {
			d.entry(e)
		}
		if e.Stale {
			continue
		}
		d.now = max(d.now, e.NowNS)
		for i := range e.Commands {
			if d.lost != "" {
				j.missing("entry %d: %s", e.Index, d.lost)
				return
			}
			d.carry(&e.Commands[i])
		}
	}
}

func (d *desk) carry(c *history.Command) {
	if c.Session != "" && c.User != "" && d.user[c.Session] == "" {
		d.user[c.Session] = c.User
	}
	if d.ask != nil {
		d.ask(c)
	}
	done := c.Result.Reason == ""
	events := c.Events
	if len(events) == 0 {
		events = d.plainEvents(c)
	}
	// What makes room comes before those who are served by it; a booking finds its seats
	// behind what was reclaimed for it.
	d.makesRoom(c)
	made := c.Kind != history.KindBook || !done || c.Result.Replayed
	for i := range events {
		if !made && events[i].Kind != history.EventEnded {
			made = true
			d.book(c)
		}
		d.event(c, &events[i])
	}
	if !made {
		d.book(c)
	}
	switch c.Kind {
	case history.KindCheckout, history.KindBorrow:
		if done && !c.Result.Replayed || c.Result.Place != nil {
			d.heard[c.Session] = d.now
		}
		d.stands(c)
		d.shown(c)
	case history.KindRenew:
		if done {
			d.heard[c.Session] = d.now
		}
		d.shown(c)
	case history.KindRenewMany:
		for _, x := range c.Renewals {
			if x.Reason == "" {
				d.heard[x.Session] = d.now
			}
		}
	case history.KindRenewBorrow, history.KindRevoke, history.KindKill:
		d.shown(c)
	case history.KindRestore, history.KindFence:
		d.lost = "a restore puts everything back, which is not followed"
	}
	if d.after != nil {
		d.after(c)
	}
}

// makesRoom carries out what changes who may have what.
func (d *desk) makesRoom(c *history.Command) {
	if c.Result.Reason != "" {
		return
	}
	switch c.Kind {
	case history.KindCancel:
		delete(d.jobs, c.Booking)
	case history.KindExpireBooking:
		maps.DeleteFunc(d.jobs, func(_ string, x *deskJob) bool { return x.number == c.Ticket })
	case history.KindPolicy:
		d.policy = c.Policy
	}
}

// plainEvents are those of a command whose result says all.
func (d *desk) plainEvents(c *history.Command) (list []history.AuditEvent) {
	for _, x := range c.Result.Released {
		if !c.Result.Replayed {
			list = append(list, history.AuditEvent{Kind: history.EventEnded, ID: x.ID, Token: x.Token, Feature: x.Feature, Reason: x.Reason})
		}
	}
	if c.Kind != history.KindCheckout && c.Kind != history.KindBorrow || c.Result.Replayed {
		return list
	}
	for _, x := range c.Result.Leases {
		if d.leases[x.ID] == nil {
			list = append(list, history.AuditEvent{Kind: history.EventGranted, ID: x.ID, Token: x.Token, Session: c.Session, User: d.user[c.Session],
				Feature: x.Feature, Count: x.Count, Seats: x.Seats, DeadlineNS: x.DeadlineNS})
		}
	}
	return list
}

func (d *desk) event(c *history.Command, x *history.AuditEvent) {
	switch x.Kind {
	case history.EventGranted:
		d.grant(c, x)
	case history.EventEnded:
		p := d.leases[x.ID]
		if p == nil {
			return
		}
		if d.ended != nil {
			d.ended(p, c)
		}
		delete(d.leases, x.ID)
		if p.job != nil {
			p.job.used[p.feature] -= p.booked
		}
	case history.EventQueued:
		p := &place{ticket: x.Ticket, session: x.Session, user: x.User, items: c.Items, booking: c.Booking, until: d.now + c.WaitNS}
		if c.Result.Place != nil {
			p.priority = c.Result.Place.Priority
		}
		d.places[x.Ticket] = p
		if d.queued != nil {
			d.queued(p)
		}
	case history.EventDequeued:
		delete(d.places, x.Ticket)
	}
}

func (d *desk) grant(c *history.Command, x *history.AuditEvent) {
	p := &paper{id: x.ID, token: x.Token, feature: x.Feature, count: x.Count, seats: x.Seats, session: x.Session, user: x.User}
	before := d.promised(p.feature)
	direct := false
	for _, l := range c.Result.Leases {
		if l.ID == x.ID {
			p.seats, direct = l.Seats, c.Kind == history.KindCheckout || c.Kind == history.KindBorrow
		}
	}
	if !direct {
		p.kind, p.end = offered, x.DeadlineNS
	}
	p.place = d.placeOf(p)
	booking := ""
	switch {
	case direct:
		booking = c.Booking
	case p.place != nil:
		booking = p.place.booking
	}
	if b := d.jobs[booking]; b != nil && b.until > d.now {
		p.job, p.booked = b, min(p.count, b.count[p.feature]-b.used[p.feature])
		b.used[p.feature] += p.booked
	}
	d.leases[p.id] = p
	if d.granted != nil {
		d.granted(p, c, before)
	}
}

// placeOf is where the holder of a new lease waited for it.
func (d *desk) placeOf(p *paper) *place {
	for _, x := range d.line() {
		if x.session == p.session && slices.ContainsFunc(x.items, func(it history.Item) bool { return it.Feature == p.feature && it.Count == p.count }) {
			return x
		}
	}
	return nil
}

// stands notes that somebody who waits has asked again.
func (d *desk) stands(c *history.Command) {
	if c.Result.Place == nil {
		return
	}
	if x := d.places[c.Result.Place.Ticket]; x != nil {
		x.until = d.now + c.WaitNS
	}
}

// shown takes in what a result says about the state of leases.
func (d *desk) shown(c *history.Command) {
	for _, x := range c.Result.Leases {
		p := d.leases[x.ID]
		switch {
		case p == nil:
		case x.State == "borrowed":
			p.kind, p.end = borrowed, x.DeadlineNS
		case x.State == "quarantined":
			p.kind = quarantined
		case p.kind == offered && c.Session == p.session:
			p.kind = ordinary
		}
	}
}

func (d *desk) book(c *history.Command) {
	d.made++
	x := &deskJob{id: c.Booking, user: c.User, number: d.made, until: d.now + c.ForNS, count: map[string]int{}, used: map[string]int{}}
	before := map[string]int{}
	for _, it := range c.Items {
		x.count[it.Feature] = it.Count
		before[it.Feature] = d.promised(it.Feature)
	}
	d.jobs[x.id] = x
	if d.booked != nil {
		for _, it := range c.Items {
			d.booked(x, it.Feature, before[it.Feature])
		}
	}
}

// charged is how many seats of a feature are in somebody's hands.
func (d *desk) charged(feature string) (n int) {
	for _, p := range d.leases {
		if p.feature == feature {
			n += p.count
		}
	}
	return n
}

// kept is how many seats bookings keep that are not leased. One that is over and of which
// the log has not said so for that long counts as over.
func (d *desk) kept(feature string, late int64) (n int) {
	for _, x := range d.jobs {
		if x.until+late > d.now {
			n += x.count[feature] - x.used[feature]
		}
	}
	return n
}

// promised is all that somebody may rely on: seats in hands, booked, or reserved.
func (d *desk) promised(feature string) int {
	return d.charged(feature) + d.kept(feature, 0) + d.unfilled(feature)
}

// line lists those who wait in the order in which they are to be served.
func (d *desk) line() []*place {
	return slices.SortedFunc(maps.Values(d.places), func(a, b *place) int {
		return cmp.Or(cmp.Compare(b.priority, a.priority), cmp.Compare(a.ticket, b.ticket))
	})
}

// wants is how many seats of a feature a place is still in need of.
func (d *desk) wants(x *place, feature string) (n int) {
	for _, it := range x.items {
		if it.Feature == feature && !d.holds(x.session, feature) {
			n += it.Count
		}
	}
	return n
}

func (d *desk) holds(session, feature string) bool {
	for _, p := range d.leases {
		if p.session == session && p.feature == feature && p.kind != quarantined {
			return true
		}
	}
	return false
}

// over says whether a place has outlived its deadline or its client.
func (d *desk) over(x *place) bool {
	var term int64
	for _, it := range x.items {
		if p := d.pools[it.Feature]; p != nil {
			term = max(term, p.term())
		}
	}
	return d.now >= min(x.until, d.heard[x.session]+term)
}
