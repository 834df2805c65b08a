package lease

// room is how many seats of a pool this request may still charge: the free ones, less
// what is kept for others.
func (b *Book) room(pool uint32, who Principal, _ *Checkout) int {
	return b.roomBeside(pool, who, b.free(pool))
}

// free is how many seats of the pool a checkout may still charge.
func (b *Book) free(i uint32) int {
	total := b.state[i].total
	if Broken(GuardCapacity) {
		total++
	}
	return max(0, total-int(b.pools.at(i).Charged))
}
