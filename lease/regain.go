package lease

import (
	"slices"
	"time"
)

// Before seats are denied, what nobody renewed comes back: of the pools that may help the
// request, longest due first and no more than it needs. What is due in other pools is left
// to the entries of the leader, or one denial would pay for everything that fell due.

const (
	// maxRegain bounds what one command reclaims, counted in items planned anew: some
	// milliseconds, in which nothing else is applied. Beyond it the request is not denied
	// but asked to come back; what it reclaimed stays reclaimed.
	maxRegain = 1024
	// regainAgain is when: entries between two tries let others pass.
	regainAgain = 50 * time.Millisecond
)

// stillDue is what is said to a request that is neither granted nor denied.
func stillDue() *Refusal {
	r := refuse(Overloaded, "more leases fell due at once than one request may reclaim; ask again")
	r.RetryAfter = regainAgain
	return r
}

// regain reclaims what is due, one by one, until enough says that it is enough; with
// bookings what is over of these, and of places in the queue, too. It is false if more may
// be due. What comes back, and in which order, depends on the records alone.
func (b *Book) regain(c *Checkout, bookings bool, enough func() bool) (all bool) {
	pools := b.helpful(c)
	for left := maxRegain; left > 0; {
		slot, _, ok := b.dueLeases.top(b.Now(), pools, b.leaseDue)
		gained := ok
		switch {
		case ok:
			b.release(slot, b.dueReason(slot))
		case bookings:
			ended := b.endNextBooking()
			ok, gained = len(ended) > 0, slices.ContainsFunc(ended, func(i uint32) bool { return slices.Contains(pools, i) })
			if !ok {
				ok = b.endOverduePlace(pools, c.Session.ID)
				gained = ok
			}
		}
		switch {
		case !ok:
			return true
		case gained:
			left -= len(c.Items)
			if enough() {
				return true
			}
		default:
			left-- // the plan would come out the same
		}
	}
	return false
}

// endOverduePlace ends the first place in the lines of some pools whose time is over: it has
// no claim any more. One of the session that asks is not ended: it may be asking for it.
func (b *Book) endOverduePlace(pools []uint32, asks SessionID) bool {
	if _, due := b.queue.due.top(b.Now(), b.placeDue); !due {
		return false
	}
	for _, pool := range pools {
		l := b.queue.lines[pool]
		if l == nil {
			continue
		}
		for _, x := range l.claims {
			if b.placeDue(x.place) <= b.Now() && b.sessions.at(b.placeAt(x.place).Session).ID != asks {
				b.overdue(x.place)
				return true
			}
		}
	}
	return false
}

// helpful lists the pools whose seats may help a request when they come free: those of
// the features that it asks for, those that pay for these, and those that are paid by
// either.
func (b *Book) helpful(c *Checkout) (pools []uint32) {
	add := func(feature string) {
		k := featureKey{c.Tenant, feature}
		pools = append(append(pools, b.poolsByFeature[k]...), b.drawers[k]...)
	}
	for _, it := range c.Items {
		add(it.Feature)
		for _, i := range b.poolsByFeature[featureKey{c.Tenant, it.Feature}] {
			if of := b.pools.at(i).Draw.Of; of != "" {
				add(of)
			}
		}
	}
	slices.Sort(pools)
	return slices.Compact(pools)
}
