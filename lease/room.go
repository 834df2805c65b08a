package lease

// room is how many seats of a pool this request may still charge: the free ones, less
// what reservations and bookings keep for others. Those who wait ahead have a claim to
// what is kept for nobody; what is kept for this request they cannot have, so it delays
// nobody by taking it.
func (b *Book) room(pool uint32, who Principal, c *Checkout) int {
	return b.roomWith(pool, who, c, int(b.ownBooked(pool, who, c).Seats))
}

// roomWith is room for a request for which a booking keeps so many of the seats.
func (b *Book) roomWith(pool uint32, who Principal, c *Checkout, booked int) int {
	free := b.free(pool)
	loose := max(0, free-b.booked(pool))
	open := min(free, booked+b.roomBeside(pool, who, loose))
	claimed, _ := b.ahead(pool, who, c)
	if claimed == 0 {
		return open
	}
	own := open - min(open, max(0, loose-b.kept(pool)))
	return max(own, open-claimed)
}

// free is how many seats of the pool a checkout may still charge.
func (b *Book) free(i uint32) int {
	total := b.seatsOf(i)
	if Broken(GuardCapacity) {
		total++
	}
	held := b.state[i].heldBack
	if Broken(GuardCarry) {
		held = 0
	}
	return max(0, total-int(b.pools.at(i).Charged)-held)
}
