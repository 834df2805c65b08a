package lease

import "slices"

// rebook moves what bookings keep in pools that no valid licence has any more to pools that
// serve the same items, if there is room beside what is kept for others. It is called when
// licences change, and when a date makes a line begin or end: the new file, or next year's,
// may bring the seats in another pool. What the job has leased stays where it is.
func (b *Book) rebook() {
	var slots []uint32
	b.bookings.all(func(slot uint32, r **BookingRecord) bool {
		if *r != nil && slices.ContainsFunc((*r).Lines, b.adrift) {
			slots = append(slots, slot)
		}
		return true
	})
	for _, slot := range slots {
		own := *b.bookingAt(slot)
		own.Lines = slices.Clone(own.Lines) // replaced, never written into
		for k := range own.Lines {
			if b.adrift(own.Lines[k]) {
				b.moveLine(&own, k)
			}
		}
		*b.bookings.mut(b.gen, slot) = &own
	}
}

// adrift says that the seats of a line, none of them leased, or what pays for them, are gone.
func (b *Book) adrift(l BookedLine) bool {
	return l.Used == 0 && (!b.state[l.Pool].valid || l.Payer != 0 && !b.state[l.Payer].valid)
}

// moveLine finds another pool for a line; without one it stays as it is.
func (b *Book) moveLine(r *BookingRecord, k int) {
	l := &r.Lines[k]
	fit, _ := b.fitting(r.Tenant, l.Item)
	b.keepLine(l, -1)
	room := func(pool uint32, n int) bool { return n <= b.free(pool)-b.booked(pool)-b.kept(pool) }
	for _, i := range fit {
		p := b.pools.at(i)
		taken := slices.ContainsFunc(r.Lines, func(o BookedLine) bool { return o != *l && o.Pool == i })
		if taken || p.Draw.Suite || !room(i, l.Item.Count) {
			continue
		}
		payer := uint32(0)
		if p.Draw.Of != "" {
			payers := b.payers(p)
			at := slices.IndexFunc(payers, func(t uint32) bool { return room(t, p.Draw.cost(l.Item.Count)) })
			if at < 0 {
				continue
			}
			payer = payers[at]
		}
		l.Pool, l.Payer = i, payer
		break
	}
	b.keepLine(l, 1)
}
