package lease

import (
	"cmp"
	"iter"
	"math"
	"slices"
)

// line is who waits for the seats of one pool, in the order of service. It is derived
// from the places, the licences and what the sessions hold.
type line struct{ claims []claim }

// claim is what one place asks of one pool.
type claim struct {
	priority int
	ticket   uint64
	place    uint32
	need     int
	// looked: seats of this pool are what the place was last short of, or it stands aside;
	// it is looked at when some come free. Elsewhere it only claims.
	looked, aside bool
}

func compareClaims(x, y claim) int {
	return cmp.Or(cmp.Compare(y.priority, x.priority), cmp.Compare(x.ticket, y.ticket))
}

// stand puts a place into the lines of all pools that could serve it, or puts it right
// there.
func (b *Book) stand(slot uint32) {
	b.unstand(slot, false)
	p := b.placeAt(slot)
	s, tenant := b.sessions.at(p.Session), b.owner(p.Session).tenant()
	for n, it := range p.Items {
		if b.heldBy(s, it) != 0 {
			continue
		}
		for pool, need := range b.claimsOf(tenant, it) {
			x := claim{priority: p.Priority, ticket: p.Ticket, place: slot, need: need, looked: n == p.Short || p.Aside, aside: p.Aside}
			l := b.queue.lines[pool]
			if l == nil {
				l = &line{}
				b.queue.lines[pool] = l
			}
			at, found := slices.BinarySearchFunc(l.claims, x, compareClaims)
			if found { // two items of the place fit this pool
				l.claims[at].need += x.need
				l.claims[at].looked = l.claims[at].looked || x.looked
				continue
			}
			l.claims = slices.Insert(l.claims, at, x)
			b.queue.stands[slot] = append(b.queue.stands[slot], pool)
		}
	}
}

// claimsOf gives the pools that could serve an item, and those that would pay for it, with
// how many of their seats that takes. One that never had so many can do neither: what is
// free there it keeps from nobody.
func (b *Book) claimsOf(tenant string, it Item) iter.Seq2[uint32, int] {
	return func(yield func(pool uint32, need int) bool) {
		fit, _ := b.fitting(tenant, it)
		for _, i := range fit {
			if it.Count > b.largest(i) {
				continue
			}
			if !yield(i, it.Count) {
				return
			}
			p := b.pools.at(i)
			if p.Draw.Of == "" {
				continue
			}
			for _, payer := range b.payers(p) {
				if cost := p.Draw.cost(it.Count); cost <= b.largest(payer) && !yield(payer, cost) {
					return
				}
			}
		}
	}
}

// payerOf is the pool whose seats pay for a charge; 0: none.
func (b *Book) payerOf(gslot uint32) uint32 {
	if slot := b.drawOf[gslot]; slot != 0 {
		return b.draws.at(slot).Pool
	}
	return 0
}

// unstand takes a place out of all lines. stir says that others may gain by it.
func (b *Book) unstand(slot uint32, stir bool) {
	p := b.placeAt(slot)
	for _, pool := range b.queue.stands[slot] {
		l := b.queue.lines[pool]
		at, _ := slices.BinarySearchFunc(l.claims, claim{priority: p.Priority, ticket: p.Ticket}, compareClaims)
		if l.claims = slices.Delete(l.claims, at, at+1); len(l.claims) == 0 {
			delete(b.queue.lines, pool)
		} else if stir {
			b.stir(pool)
		}
	}
	delete(b.queue.stands, slot)
}

// restandOf puts the places of a session right after what it holds has changed.
func (b *Book) restandOf(session uint32) {
	for _, slot := range b.queue.of[session] {
		pools := slices.Clone(b.queue.stands[slot])
		b.lackAnother(slot)
		b.stand(slot)
		for _, pool := range pools {
			b.stir(pool)
		}
		if len(b.queue.stands[slot]) == 0 && !slices.Contains(b.stirred, everyLine) {
			b.stirred = append(b.stirred, everyLine)
		}
	}
}

// lackAnother lets a place be looked at for the first thing its session does not hold, if
// what it was short of is held by now: granted for another request of the session. It would
// be looked at nowhere else, and keep from all others what it claims.
func (b *Book) lackAnother(slot uint32) {
	p := *b.placeAt(slot)
	s := b.sessions.at(p.Session)
	lacks := func(it Item) bool { return b.heldBy(s, it) == 0 }
	if lacks(p.Items[p.Short]) || Broken(GuardLack) {
		return
	}
	if i := slices.IndexFunc(p.Items, lacks); i >= 0 {
		p.Short = i
		b.setPlace(slot, p)
	}
}

// restandAll puts all places right after totals have changed.
func (b *Book) restandAll() {
	if b.queue.n == 0 {
		return
	}
	b.places.all(func(i uint32, p **PlaceRecord) bool {
		if *p != nil {
			b.stand(i)
		}
		return true
	})
	b.stirAll()
}

// ahead is how many seats of the pool are claimed by those whom the checkout must not
// delay: all before its own place, or all that a newcomer of its priority would stand
// behind.
func (b *Book) ahead(pool uint32, who Principal, c *Checkout) (seats, places int) {
	l := b.queue.lines[pool]
	if l == nil || Broken(GuardOvertake) {
		return 0, 0
	}
	place := uint32(0)
	if session := b.findSession(c.Session.ID); session != 0 {
		place = b.placeFor(session, c)
	}
	own := claim{priority: b.rank(c, who), ticket: b.Places + 1}
	if place != 0 {
		p := b.placeAt(place)
		own.priority, own.ticket = p.Priority, p.Ticket
	}
	for i := range l.claims {
		if x := &l.claims[i]; compareClaims(*x, own) >= 0 {
			break
		} else if !x.aside {
			seats += x.need
			places++
		}
	}
	return seats, places
}

// position is where a place stands in the longest of its lines, from 1.
func (b *Book) position(slot uint32) int {
	p := b.placeAt(slot)
	most := 0
	for _, pool := range b.queue.stands[slot] {
		at, _ := slices.BinarySearchFunc(b.queue.lines[pool].claims, claim{priority: p.Priority, ticket: p.Ticket}, compareClaims)
		most = max(most, at)
	}
	return most + 1
}

// stir remembers that seats of a pool may have come free for those who wait. It is part
// of the state: a snapshot may be taken before the next command.
func (b *Book) stir(pool uint32) {
	if pool != 0 && b.queue.n > 0 && b.queue.lines[pool] != nil && !slices.Contains(b.stirred, pool) {
		b.stirred = append(b.stirred, pool)
	}
}

// everyLine, among the stirred pools, has all places looked at that no pool can serve.
const everyLine = 0

func (b *Book) stirAll() {
	if b.queue.n == 0 {
		return
	}
	all := []uint32{everyLine}
	b.pools.all(func(i uint32, _ *PoolRecord) bool {
		if b.queue.lines[i] != nil {
			all = append(all, i)
		}
		return true
	})
	b.stirred = all
}

// serve grants seats that came free to those who wait for them. The work is bounded by
// the length of the lines: each look ends a place, moves it on to the item it is short
// of next, or ends the walk.
func (b *Book) serve(index uint64) {
	if Broken(GuardServe) {
		b.stirred = nil
	}
	for len(b.stirred) > 0 && b.Now() >= b.FenceUntil {
		list := slices.Sorted(slices.Values(b.stirred))
		b.stirred = nil
		for _, pool := range list {
			if pool == everyLine {
				b.lookAtUnfit(index)
			} else {
				b.serveLine(index, pool)
			}
		}
	}
}

// lookAtUnfit looks at the places that no licence can serve any more, or that stand in no
// line because their session has everything by now: they end.
func (b *Book) lookAtUnfit(index uint64) {
	var unfit []uint32
	b.places.all(func(i uint32, p **PlaceRecord) bool {
		if *p != nil && (len(b.queue.stands[i]) == 0 || b.unfit(*p)) {
			unfit = append(unfit, i)
		}
		return true
	})
	for _, slot := range unfit {
		if b.placeAt(slot) != nil { // it may have ended with another
			b.look(index, slot)
		}
	}
}

func (b *Book) unfit(p *PlaceRecord) bool {
	s, tenant := b.sessions.at(p.Session), b.owner(p.Session).tenant()
	return slices.ContainsFunc(p.Items, func(it Item) bool {
		_, r := b.fitting(tenant, it)
		return r != nil && b.heldBy(s, it) == 0
	})
}

// serveLine looks at a line from its head until nothing is left for those behind.
func (b *Book) serveLine(index uint64, pool uint32) {
	last := claim{priority: math.MaxInt}
	for looks := 0; looks < serveLooks; {
		l := b.queue.lines[pool]
		if l == nil {
			return
		}
		left, kept := b.free(pool), b.kept(pool)+b.booked(pool)
		at := -1
		for i, x := range l.claims {
			if left <= 0 && kept == 0 {
				return
			}
			if x.looked && compareClaims(x, last) > 0 {
				at = i
				break
			}
			if !x.aside {
				left -= x.need
			}
		}
		if at < 0 {
			return
		}
		last = l.claims[at]
		if !b.look(index, last.place) {
			looks++
		}
	}
}

// look grants a place all it asks for, if it can be had now. It says whether the place
// ended or moved.
func (b *Book) look(index uint64, slot uint32) bool {
	p := *b.placeAt(slot)
	if b.placeDue(slot) <= b.Now() {
		b.overdue(slot)
		return true
	}
	s := b.sessions.at(p.Session)
	c := Checkout{
		Tenant: b.owner(p.Session).tenant(), Session: SessionRef{ID: s.ID}, Principal: b.principalOf(p.Session),
		Items: p.Items, Booking: p.Booking,
	}
	plans, refusal := b.plan(p.Session, s, &c)
	switch {
	case refusal == nil:
		b.offer(index, p.Session, plans)
		b.quit(slot, "")
		return true
	case refusal.Final:
		b.denyPlace(slot, refusal.Reason)
		b.dropMinted(p.Session)
		return true
	}
	old := p
	p.Aside = !waits(refusal) || b.heldUp(s, c.Principal, &c, plans)
	if !p.Aside {
		p.Short = len(plans) - 1
	}
	if p.Short == old.Short && p.Aside == old.Aside {
		return false
	}
	b.setPlace(slot, p)
	b.stand(slot)
	if p.Aside && !old.Aside {
		b.stirStands(slot)
	}
	return p.Short != old.Short
}

// stirStands has the lines looked at in which a place stands: it lets others pass now.
func (b *Book) stirStands(slot uint32) {
	for _, pool := range b.queue.stands[slot] {
		b.stir(pool)
	}
}

// standAside lets others pass the place of a checkout that a limit of its own, not a lack
// of seats, holds up.
func (b *Book) standAside(session uint32, c *Checkout) {
	slot := b.placeFor(session, c)
	if slot == 0 || b.placeAt(slot).Aside {
		return
	}
	p := *b.placeAt(slot)
	p.Aside = true
	b.setPlace(slot, p)
	b.stand(slot)
	b.stirStands(slot)
}
