package rpc

import (
	"context"
	"sync"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// class says what a method is worth under load; a higher one goes first.
type class uint8

const (
	// reading methods look at more than one lease: previews and lists.
	reading class = iota
	// asking methods want something new.
	asking
	// keeping methods hold or free what was given before, or let an operator see and
	// act: refusing a heartbeat costs a lease, refusing a check-in costs a seat.
	keeping
	classes
)

var classNames = [classes]string{"read", "ask", "keep"}

var methodClasses = map[string]class{
	pb.Seats_Checkout_FullMethodName:      asking,
	pb.Borrowing_Borrow_FullMethodName:    asking,
	pb.Seats_Preview_FullMethodName:       reading,
	pb.Cluster_Leases_FullMethodName:      reading,
	pb.Cluster_Usage_FullMethodName:       reading,
	pb.Cluster_LicenseList_FullMethodName: reading,
	pb.History_Denials_FullMethodName:     reading,
	pb.History_UsageSums_FullMethodName:   reading,
	pb.History_Concurrency_FullMethodName: reading,
	pb.Queue_QueueList_FullMethodName:     reading,
	pb.Queue_BookingList_FullMethodName:   reading,
	pb.Queue_BookingCreate_FullMethodName: asking,
	pb.Tenants_TenantList_FullMethodName:  reading,
}

func classOf(method string) class {
	if c, ok := methodClasses[method]; ok {
		return c
	}
	return keeping
}

const (
	// askingShare is the part of the room for all tenants that asking and reading may
	// fill; the rest stays free for keeping.
	askingShare = 0.75
	// queueFactor is how many requests may wait for each that is worked on: two rounds
	// pass well within the wait. Keeping ones may be four rounds, and wait ten times as
	// long: a fleet's heartbeats come in bursts, and to be late is better than to be lost.
	queueFactor     = 2
	keepQueueFactor = 4
	keepWaitFactor  = 10
	// readTurn lets one waiting read go before the checkouts every so many turns, so that
	// it does not wait for ever.
	readTurn = 8
)

// admission bounds the requests in flight: per tenant, per client in it, and altogether.
// What finds no room waits in a line, where the clients of a tenant take turns. Work per
// request is O(1) but for a full line, which is looked through; memory is O(requests in
// flight).
type admission struct {
	limits  admitLimits
	metrics *metrics

	mu      sync.Mutex
	all     int // inside and waiting
	tenants map[string]*room
	active  activity[string]
	// penalties are those of tenants, strange those of strangers: what these fill, others do
	// not miss.
	penalties, strange penalties
	// turned counts what was refused, by tenant.
	turned map[string]uint64
}

type admitLimits struct {
	perTenant int // worked on at once, keeping ones counted apart
	shared    int // the same while another tenant is active too
	quiet     int // asking and reading ones while a quiet tenant is active too
	strangers int // the same of all tenants together that nobody has licensed
	perClient int // of one client, worked on and waiting
	total     int // all tenants, worked on and waiting
	wait      time.Duration
}

// client is who within a tenant asks: the session, else the principal, else the address.
type client struct{ name, host string }

// room is what one tenant has. It lives while somebody is in it.
type room struct {
	tenant string
	users  int // inside and waiting
	asks   int // of these ask or read
	inside [2]int
	lines  [classes]line
	turns  int // given to asking or reading
	// by client; keeping ones are not counted
	of      map[client]share
	clients activity[client]
}

// share is what one client has of a room.
type share struct{ users, inside int }

// side is where a class is counted: what keeps has room of its own, so that checkouts
// that hang hold up no heartbeat.
func (c class) side() int {
	if c == keeping {
		return 1
	}
	return 0
}

func newAdmission(limits admitLimits, m *metrics) *admission {
	return &admission{limits: limits, metrics: m, tenants: make(map[string]*room),
		turned:    make(map[string]uint64),
		penalties: penalties{maxHeld: maxHeld, max: maxPenalties},
		strange:   penalties{maxHeld: maxHeld / strangersPart, max: maxPenalties / strangersPart}}
}

// ticket is the right to be worked on. It may be given back and asked for again.
type ticket struct {
	a      *admission
	tenant string // whose room: strangers for all that nobody has licensed
	class  class
	client client
	// refused is how often this client was refused since it was last let in.
	refused int
	again   bool  // was inside before: it waits for seats, and is neither held nor punished
	room    *room // nil: not inside
}

// enter waits a moment for room. It fails with "overloaded". A client that was refused
// and comes back sooner than it was asked to is held until then.
func (t *ticket) enter(ctx context.Context) error {
	a := t.a
	if err := a.hold(ctx, t); err != nil {
		return err
	}
	w, limit := a.admit(t)
	if limit != "" {
		return a.refuse(t, limit)
	}
	if w == nil {
		return nil
	}
	timer := time.NewTimer(a.patience(t.class))
	defer timer.Stop()
	var err error
	select {
	case <-w.turn:
	case <-timer.C:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch a.outcome(t, w) {
	case admitted:
		return nil
	case pushedOut:
		return a.refuse(t, "client")
	}
	if err == nil {
		err = a.refuse(t, "tenant")
	}
	return err
}

// walkIn lets a checkout in that finds room and has no reason to wait, in one step. It
// leaves all other cases to hold and admit.
func (a *admission) walkIn(t *ticket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.penaltiesOf(t); len(p.of) > 0 {
		if _, refused := p.of[penalized{t.tenant, t.client}]; refused {
			return false
		}
	}
	a.see(t.tenant)
	r := a.tenants[t.tenant]
	if r == nil || a.all >= a.space(t.class) || r.of[t.client].users >= a.limits.perClient {
		return false
	}
	r.see(t)
	if !a.fits(r, t) {
		return false
	}
	a.count(r, t, 1)
	a.inside(r, t, 1)
	t.room = r
	return true
}

// space is how many requests of all tenants leave room for one more of a class.
func (a *admission) space(c class) int {
	if c == keeping {
		return a.limits.total
	}
	return int(float64(a.limits.total) * askingShare)
}

// patience is how long a class waits in the line.
func (a *admission) patience(c class) time.Duration {
	if c == keeping {
		return keepWaitFactor * a.limits.wait
	}
	return a.limits.wait
}

// admit gives room at once (nil, ""), a place in the line, or the limit that is reached.
func (a *admission) admit(t *ticket) (w *waiter, limit string) { return a.admitOr(t, nil) }

// admitOr is admit for one who does not wait at the place in the line: wake is called,
// under the lock, when the place has done its service.
func (a *admission) admitOr(t *ticket, wake func()) (w *waiter, limit string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= a.space(t.class) {
		return nil, "node"
	}
	a.see(t.tenant)
	r := a.tenants[t.tenant]
	if r == nil {
		r = &room{tenant: t.tenant, of: make(map[client]share)}
		a.tenants[t.tenant] = r
	}
	if t.class != keeping && r.of[t.client].users >= a.limits.perClient {
		a.tidy(r)
		return nil, "client"
	}
	r.see(t)
	side := t.class.side()
	if a.fits(r, t) {
		a.count(r, t, 1)
		a.inside(r, t, 1)
		a.forgive(t)
		t.room = r
		return nil, ""
	}
	most := queueFactor * a.places(r)
	if side == 1 {
		most = keepQueueFactor * a.places(r)
	}
	if r.waiting(side) >= most && !a.makePlace(r, t) {
		a.tidy(r)
		return nil, "tenant"
	}
	w = &waiter{ticket: t, wake: wake}
	if wake == nil {
		w.turn = make(chan struct{})
	}
	r.lines[t.class].push(t.client, w)
	a.metrics.lined[t.class].Inc()
	a.count(r, t, 1)
	a.next(r)
	return w, ""
}

func (r *room) waiting(side int) int {
	if side == 1 {
		return r.lines[keeping].n
	}
	return r.lines[asking].n + r.lines[reading].n
}

// makePlace lets a newcomer into a full line in the place of somebody who can better do
// without: the newest request of the client that has most there, a read, or a client that
// was refused less often. So nobody is refused for ever while others come and go.
func (a *admission) makePlace(r *room, t *ticket) bool {
	l := &r.lines[t.class]
	w := l.lastOfLongest(len(l.waiters(t.client)) + 2)
	if w == nil && t.class == asking {
		w = r.lines[reading].lastOfLongest(1)
	}
	if w == nil {
		w = l.leastRefused(t.refused)
	}
	if w == nil {
		return false
	}
	w.state = pushedOut
	a.drop(r, w)
	w.told()
	return true
}

// places is how many of a side a room has when nobody else is there.
func (a *admission) places(r *room) int {
	if r.tenant == strangers {
		return a.limits.strangers
	}
	return a.limits.perTenant
}

// allowed is how many of a side a tenant may have inside now.
func (a *admission) allowed(r *room, side int) int {
	switch {
	case r.tenant == strangers:
		return a.limits.strangers
	case !a.active.shared():
		return a.limits.perTenant
	case side == asking.side() && a.active.besideQuiet(r.tenant):
		return a.limits.quiet
	}
	return a.limits.shared
}

// fits says that there is a place inside for a newcomer, and nobody who was there before it.
func (a *admission) fits(r *room, t *ticket) bool {
	side := t.class.side()
	return r.inside[side] < a.allowed(r, side) && r.waiting(side) == 0 && (side != asking.side() || a.mayEnter(r, t.client))
}

// mayEnter says that a client may have one more that asks or reads inside: beside a quiet client
// of its tenant, one that is not has no more than a tenant beside a quiet tenant.
func (a *admission) mayEnter(r *room, c client) bool {
	inside := r.of[c].inside
	return inside < a.limits.quiet || r.clients.isQuiet(c) || !r.clients.besideQuiet(c)
}

// see notes that a client of the room asks.
func (r *room) see(t *ticket) {
	if t.class != keeping {
		r.clients.see(time.Now(), t.client)
	}
}

// see notes that a tenant is active. Strangers never are: an invented name takes nothing from
// others.
func (a *admission) see(tenant string) {
	if tenant == strangers {
		return
	}
	if n, turned := a.active.see(time.Now(), tenant); turned {
		a.metrics.tenants.Set(float64(n))
	}
}

// count adds n requests of the ticket's client to the room and the node.
func (a *admission) count(r *room, t *ticket, n int) {
	a.all += n
	r.users += n
	if t.class != keeping {
		of := r.of[t.client]
		if of.users += n; of.users == 0 {
			delete(r.of, t.client)
		} else {
			r.of[t.client] = of
		}
		r.asks += n
		a.active.asking(r.tenant, r.asks)
		r.clients.asking(t.client, of.users)
	}
	a.tidy(r)
}

// inside notes that n of those that are counted go in.
func (a *admission) inside(r *room, t *ticket, n int) {
	r.inside[t.class.side()] += n
	if t.class == keeping {
		return
	}
	if of, here := r.of[t.client]; here {
		of.inside += n
		r.of[t.client] = of
	}
}

// tidy forgets a room that nobody is in.
func (a *admission) tidy(r *room) {
	if r.users == 0 {
		delete(a.tenants, r.tenant)
	}
}

// next lets in who is next while there is room.
func (a *admission) next(r *room) {
	for side := range r.inside {
		for r.inside[side] < a.allowed(r, side) && r.waiting(side) > 0 {
			w := a.whoIsNext(r, side)
			if w == nil {
				break // who waits has to wait for its own
			}
			a.metrics.lined[w.ticket.class].Dec()
			a.inside(r, w.ticket, 1)
			w.state = admitted
			w.ticket.room = r
			a.forgive(w.ticket)
			w.told()
		}
	}
}

// whoIsNext takes the one whose turn it is out of the lines of a side, nil if none of those who
// wait may go in.
func (a *admission) whoIsNext(r *room, side int) *waiter {
	if side == keeping.side() {
		return r.lines[keeping].pop(func(client) bool { return true })
	}
	r.turns++
	first, second := asking, reading
	if r.turns%readTurn == 0 {
		first, second = reading, asking
	}
	may := func(c client) bool { return a.mayEnter(r, c) }
	if w := r.lines[first].pop(may); w != nil {
		return w
	}
	return r.lines[second].pop(may)
}

// outcome says how the wait ended, and takes out who still waits.
func (a *admission) outcome(t *ticket, w *waiter) waitState {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.state == inLine {
		a.drop(a.tenants[t.tenant], w)
	}
	return w.state
}

// drop takes a waiter out of its line.
func (a *admission) drop(r *room, w *waiter) {
	t := w.ticket
	r.lines[t.class].remove(t.client, w)
	a.metrics.lined[t.class].Dec()
	a.count(r, t, -1)
}

// leave gives the ticket back; a second call does nothing.
func (t *ticket) leave() {
	if t.room == nil {
		return
	}
	a, r := t.a, t.room
	t.room, t.again = nil, true
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inside(r, t, -1)
	a.next(r)
	a.count(r, t, -1)
}

// refuse is the answer to a ticket that found no room.
func (a *admission) refuse(t *ticket, limit string) error {
	if t.tenant == strangers && limit == "tenant" {
		limit = "strangers"
	}
	err := overloadedBy(limit, t.tenant)
	a.noteTurned(t.tenant)
	a.metrics.turnedAway.WithLabelValues(classNames[t.class], limit).Inc()
	if t.class != keeping && !t.again {
		a.punish(t, err.RetryAfter)
	}
	return err
}

// noteTurned counts a refusal for people.
func (a *admission) noteTurned(tenant string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, counted := a.turned[tenant]; counted || len(a.turned) < maxTurnedAway {
		a.turned[tenant]++
	}
}
