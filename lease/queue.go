package lease

import (
	"cmp"
	"slices"
	"time"
)

// The queue: who waits for seats, and what is kept for them. A place is taken by a
// session for a list of items; it holds nothing. It stands in the line of every pool
// that could serve an item which the session does not hold yet, and claims as many seats
// of that pool as the item asks for. There is one order for all lines: higher priority
// first, then who came first. Whoever stands behind a claim, and every newcomer, may
// charge what is free beyond the claims before it and nothing else, so nobody who
// overtakes can delay anybody. A place is served when all its items can be had at once.
// The first of all waits for holders only, never for another place, so there is no
// deadlock and nobody starves.

// Limits of the queue, each with its reason.
const (
	// MaxQueue is how many places the line of one pool has: seats that come free may make
	// the ledger look at all of them.
	MaxQueue = 1000
	// MaxPlaces is how many places there are in all: a licence change looks at each.
	MaxPlaces = 10_000
	// MaxPlacesPerSession lets a program wait for several things and no program fill a line.
	MaxPlacesPerSession = 16
	// MaxWait bounds the deadline of a place: whoever waits longer asks again.
	MaxWait = 24 * time.Hour
	// serveLooks bounds how many places of one line are looked at in vain, in one command,
	// when some of its seats are kept for somebody further back. Who is not reached is
	// looked at when its client next asks.
	serveLooks = 64
)

// InQueue is the reason of a checkout that got a place in the queue (Reply.Place).
const InQueue Reason = "queued"

// PlaceRecord is one place in the queue.
type PlaceRecord struct {
	// Ticket numbers the places in the order they were taken, from 1, and is never used
	// again; zero: the slot is free.
	Ticket   uint64
	Session  uint32 // slot
	Items    []Item
	Booking  string
	Priority int
	// Joined is when it was taken; Until is its deadline.
	Joined     Time
	JoinedDate Calendar
	Until      Time
	// Profile is the longest of the pools it waits for: how long it outlives the last
	// word of its client.
	Profile Profile
	// Short is the item that had no seats when it was last looked at.
	Short int
	// Aside: a limit of its own holds it up, not a lack of seats. It claims nothing then.
	Aside bool
}

// Place is a place in the queue as it is shown.
type Place struct {
	Ticket  uint64
	Tenant  string
	Items   []Item
	Session SessionID
	// Position counts from 1, in the longest of the lines it stands in.
	Position  int
	Priority  int
	Principal Principal
	Since     Calendar
	// Remaining is the time to its deadline.
	Remaining time.Duration
	// Aside: it waits for a limit of its own, and holds nobody up.
	Aside   bool
	Booking string
}

// Leave gives up a place of the session, or with Ticket 0 all of them. Seats that were
// granted from the queue and not collected yet go back too.
type Leave struct {
	Session SessionRef
	Ticket  uint64
}

// Dequeue ends a place whose deadline has passed or whose client was not heard of for
// lifespan and grace. The leader proposes it; the Book judges it again.
type Dequeue struct {
	Slot   uint32
	Ticket uint64
}

func (Leave) isCommand()   {}
func (Dequeue) isCommand() {}

// queueState is what is derived of the places.
type queueState struct {
	slots numbers
	due   dueIndex
	n     int
	// of are the places of each session that has some, oldest first; stands are the pools
	// in whose lines a place stands; lines are by pool. All are only asked for one.
	of     map[uint32][]uint32
	stands map[uint32][]uint32
	lines  map[uint32]*line
}

func newQueueState() queueState {
	return queueState{of: map[uint32][]uint32{}, stands: map[uint32][]uint32{}, lines: map[uint32]*line{}}
}

func (t *tables) placeAt(slot uint32) *PlaceRecord {
	if p := t.places.at(slot); p != nil && *p != nil {
		return *p
	}
	return nil
}

// setPlace replaces a place; records are never written into.
func (b *Book) setPlace(slot uint32, p PlaceRecord) {
	kept := p // only what is remembered goes to the heap
	*b.places.mut(b.gen, slot) = &kept
}

// placeFor finds the place of a session for these items; 0 if it has none.
func (b *Book) placeFor(session uint32, c *Checkout) uint32 {
	for _, slot := range b.queue.of[session] {
		if p := b.placeAt(slot); slices.Equal(p.Items, c.Items) && p.Booking == c.Booking {
			return slot
		}
	}
	return 0
}

// placeDue is when a place ends unless it is served or asked for again.
func (b *Book) placeDue(slot uint32) Time {
	p := b.placeAt(slot)
	heard := b.sessions.at(p.Session).Renewed
	return min(p.Until, heard.Add(p.Profile.Lifespan).Add(p.Profile.Grace))
}

// waits says whether a place in the queue can help with a refusal.
func waits(r *Refusal) bool {
	return (r.Reason == NoSeats || r.Reason == ReservedForOthers) && !r.Final
}

// wait gives a refused checkout its place in the queue, or keeps the one it has.
func (b *Book) wait(c *Checkout, slot uint32, s *sessionRow, plans []plan) Reply {
	who := c.Principal
	place := uint32(0)
	if s != nil {
		who = b.principalOf(slot)
		place = b.placeFor(slot, c)
	}
	pools, profile := b.waitsFor(c)
	aside := b.heldUp(s, who, c, plans)
	if place == 0 {
		if r := b.queueFull(slot, s, pools); r != nil {
			return Reply{Refusal: r}
		}
	}
	if s == nil {
		if full := b.turnedAway(c.Tenant); full != nil {
			return Reply{Refusal: full}
		}
		slot, s = b.open(c)
	} else {
		s = b.sessions.mut(b.gen, slot)
	}
	b.heartbeat(s)
	b.lengthen(s, profile)
	p := PlaceRecord{Session: slot, Items: c.Items, Booking: c.Booking, Joined: b.Now(), JoinedDate: b.Calendar(), Profile: profile}
	fresh := place == 0
	if fresh {
		place = b.queue.slots.take()
		b.Places++
		p.Ticket, p.Priority = b.Places, b.rank(c, who)
		b.queue.of[slot] = append(b.queue.of[slot], place)
		b.queue.n++
	} else {
		p = *b.placeAt(place)
	}
	passed := p.Aside
	p.Until, p.Short, p.Aside = b.Now().Add(min(c.Wait, MaxWait)), len(plans)-1, aside
	b.setPlace(place, p)
	b.stand(place)
	if p.Aside && !passed && !fresh {
		b.stirStands(place)
	}
	b.queue.due.remove(place)
	b.queue.due.push(place, b.placeDue(place))
	if fresh {
		b.events = append(b.events, b.placeEvent(Queued, place, ""))
	}
	shown := b.showPlace(place)
	info := b.info(s)
	info.Heartbeat = min(info.Heartbeat, profile.Lifespan/HeartbeatFraction)
	it := p.Items[p.Short]
	r := refuse(InQueue, "feature %s: no free seat; waiting at position %d", it.Feature, shown.Position)
	return Reply{Refusal: r, Session: info, Place: &shown}
}

// heldUp says whether a limit of its own refuses a later item of a request of which an
// earlier one has no seats. Planning ends at the first that is refused; but who cannot have
// all of them when seats come must not keep these from others until then.
func (b *Book) heldUp(s *sessionRow, who Principal, c *Checkout, plans []plan) bool {
	for _, it := range c.Items[len(plans):] {
		p := b.planItem(c, s, who, it, plans)
		b.forbidTogether(who, plans, &p)
		if r := p.refusal; r != nil {
			if !waits(r) && !r.Final {
				return true
			}
			p.seats, p.draw, p.booked = 0, drawPlan{}, BookedLease{}
		}
		plans = append(plans, p)
	}
	return false
}

// waitsFor lists the pools that could serve an item of the checkout, and the longest of
// their profiles.
func (b *Book) waitsFor(c *Checkout) (pools []uint32, longest Profile) {
	for _, it := range c.Items {
		for i := range b.claimsOf(c.Tenant, it) {
			pools = append(pools, i)
			p := b.pools.at(i).Profile
			longest.Lifespan, longest.Grace = max(longest.Lifespan, p.Lifespan), max(longest.Grace, p.Grace)
		}
	}
	return pools, longest
}

// queueFull says which limit forbids one more place.
func (b *Book) queueFull(session uint32, s *sessionRow, pools []uint32) *Refusal {
	if s != nil && len(b.queue.of[session]) >= MaxPlacesPerSession {
		return refuse(Overloaded, "a session waits in at most %d places; open another", MaxPlacesPerSession)
	}
	if b.queue.n >= MaxPlaces {
		return refuse(Overloaded, "the queue has %d places, the most it takes; try again later", MaxPlaces)
	}
	for _, i := range pools {
		if l := b.queue.lines[i]; l != nil && len(l.claims) >= MaxQueue {
			return refuse(Overloaded, "feature %s: %d requests wait already, the most there can be; try again later", b.pools.at(i).Feature, MaxQueue)
		}
	}
	return nil
}

// rank is the priority of a checkout: the lowest it has in any pool that could serve it,
// so that there is one order for all lines.
func (b *Book) rank(c *Checkout, who Principal) int {
	lowest := MaxPriority
	pools, _ := b.waitsFor(c)
	for _, i := range pools {
		lowest = min(lowest, b.priority(who, i))
	}
	return lowest
}

// quit ends a place. reason is empty when it was served.
func (b *Book) quit(slot uint32, reason Reason) {
	p := *b.placeAt(slot)
	b.events = append(b.events, b.placeEvent(Dequeued, slot, reason))
	b.unstand(slot, true)
	b.queue.due.remove(slot)
	of := slices.DeleteFunc(b.queue.of[p.Session], func(x uint32) bool { return x == slot })
	if b.queue.of[p.Session] = of; len(of) == 0 {
		delete(b.queue.of, p.Session)
	}
	*b.places.mut(b.gen, slot) = nil
	b.queue.slots.put(slot)
	b.queue.n--
}

// quitAll ends every place of a session that ends.
func (b *Book) quitAll(session uint32, reason Reason) {
	for len(b.queue.of[session]) > 0 {
		b.quit(b.queue.of[session][0], reason)
	}
}

// denyPlace ends a place whose request is refused for good, which is a denial.
func (b *Book) denyPlace(slot uint32, reason Reason) {
	e := b.placeEvent(Denied, slot, reason)
	b.quit(slot, reason)
	b.events = append(b.events, e)
}

// dropMinted forgets a session that the server made for one request and that has nothing
// left: nobody can come back to it.
func (b *Book) dropMinted(session uint32) {
	s := b.sessions.at(session)
	if s.ephemeral() && !s.closed() && s.Leases == 0 && len(b.queue.of[session]) == 0 {
		b.forget(session)
	}
}

func (b *Book) leave(c Leave) Reply {
	slot, s, refusal := b.enter(c.Session)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	for _, place := range slices.Clone(b.queue.of[slot]) {
		if c.Ticket == 0 || b.placeAt(place).Ticket == c.Ticket {
			b.quit(place, Left)
		}
	}
	r := Reply{Session: b.info(s)}
	if c.Ticket == 0 {
		for _, l := range b.offersOf(s) {
			r.Released = append(r.Released, b.release(l, ReleasedDequeued))
		}
	}
	b.dropMinted(slot)
	return r
}

func (b *Book) dequeue(c Dequeue) Reply {
	p := b.placeAt(c.Slot)
	switch {
	case p == nil || p.Ticket != c.Ticket:
		return Reply{Refusal: refuse(Fenced, "place %d in the queue is gone", c.Ticket)}
	case b.placeDue(c.Slot) > b.Now():
		return Reply{Refusal: refuse(Fenced, "place %d in the queue is not due", c.Ticket)}
	}
	b.overdue(c.Slot)
	return Reply{}
}

// overdue ends a place whose time is over.
func (b *Book) overdue(slot uint32) {
	session := b.placeAt(slot).Session
	b.denyPlace(slot, NoSeats)
	b.dropMinted(session)
}

// placeEvent describes what happens to a place.
func (b *Book) placeEvent(k EventKind, slot uint32, reason Reason) Event {
	p := b.placeAt(slot)
	it := p.Items[min(p.Short, len(p.Items)-1)]
	return Event{
		Kind: k, At: b.Now(), Date: b.Calendar(), Start: p.Joined, StartDate: p.JoinedDate, Tenant: b.owner(p.Session).tenant(),
		Feature: it.Feature, Version: it.Version, Count: it.Count,
		Session: b.sessions.at(p.Session).ID, Principal: b.principalOf(p.Session), Reason: reason, Final: k == Denied,
		Vendor: b.vendorOf(b.owner(p.Session).tenant(), it.Feature), Ticket: p.Ticket,
	}
}

func (b *Book) showPlace(slot uint32) Place {
	p := b.placeAt(slot)
	own := b.owner(p.Session)
	return Place{
		Ticket: p.Ticket, Tenant: own.tenant(), Items: p.Items, Session: b.sessions.at(p.Session).ID, Position: b.position(slot),
		Priority: p.Priority, Principal: own.principal(), Since: p.JoinedDate, Remaining: max(0, p.Until.Sub(b.Now())), Aside: p.Aside,
		Booking: p.Booking,
	}
}

// Queue lists the places of a tenant ("" = all) whose request names the feature ("" =
// any), in the order they are served, at most limit.
func (b *Book) Queue(tenant, feature string, limit int) (out []Place) {
	var slots []uint32
	b.places.all(func(i uint32, p **PlaceRecord) bool {
		if *p != nil && (tenant == "" || b.owner((*p).Session).tenant() == tenant) &&
			(feature == "" || slices.ContainsFunc((*p).Items, func(it Item) bool { return it.Feature == feature })) {
			slots = append(slots, i)
		}
		return true
	})
	slices.SortFunc(slots, func(x, y uint32) int { return comparePlaces(b.placeAt(x), b.placeAt(y)) })
	for _, slot := range slots[:min(len(slots), max(0, limit))] {
		out = append(out, b.showPlace(slot))
	}
	return out
}

// comparePlaces is the order of service.
func comparePlaces(p, q *PlaceRecord) int {
	return cmp.Or(cmp.Compare(q.Priority, p.Priority), cmp.Compare(p.Ticket, q.Ticket))
}

// QueueCounts says how many places there are.
func (b *Book) QueueCounts() int { return b.queue.n }
