package lease

import (
	"bytes"
	"math/bits"
	"slices"
)

// Reservations. A pool has some, each for somebody and of so many seats. Who holds seats
// of the pool is counted by class: the set of the pool's reservations that a holder is
// meant by. How far the reservations are filled follows from these counts alone: the most
// that can be filled if each seat fills at most one. So a reservation shrinks as it
// fills and grows as seats come back, nothing is saved of it, and a restored ledger gives
// the same. What is not filled is kept for those it is for.

// class is a set of reservations of one pool.
type class [MaxReservations / 64]uint64

func (c *class) add(n int)      { c[n/64] |= 1 << (n % 64) }
func (c *class) has(n int) bool { return c[n/64]>>(n%64)&1 != 0 }
func (c *class) empty() bool    { return *c == class{} }
func (c *class) size() (n int) {
	for _, w := range c {
		n += bits.OnesCount64(w)
	}
	return n
}

// reservations is those of one pool and what is held under them.
type reservations struct {
	want     []int         // seats of this pool, by reservation
	held     map[class]int // charged seats of holders with a reservation
	unfilled []int         // by reservation
	short    int           // their sum
}

func (x *reservations) open(n int) {
	x.want, x.unfilled, x.held = make([]int, n), make([]int, n), map[class]int{}
}

// classOf gives the reservations of the pool that mean the principal.
func (x *poolRules) classOf(is *subjects) (c class) {
	for n, i := range x.rules[RuleReserve] {
		if n < MaxReservations && is.has(x.tenant.who[i]) {
			c.add(n)
		}
	}
	return c
}

// settle derives what is unfilled.
func (x *reservations) settle() {
	x.unfilled = fill(x.want, x.held)
	x.short = 0
	for _, n := range x.unfilled {
		x.short += n
	}
}

// shortWith is what would be unfilled if holders of class c held n seats more.
func (x *reservations) shortWith(c class, n int) (short int) {
	more := make(map[class]int, len(x.held)+1)
	for k, v := range x.held {
		more[k] = v
	}
	more[c] += n
	for _, left := range fill(x.want, more) {
		short += left
	}
	return short
}

// fill deals the held seats out to the reservations: as many are filled as can be, and
// which of them depends on the counts alone. It gives what is left unfilled.
func fill(want []int, held map[class]int) []int {
	type share struct {
		class
		left int
		to   []int // by reservation
	}
	list := make([]share, 0, len(held))
	for c, n := range held {
		if n > 0 && !c.empty() {
			list = append(list, share{c, n, make([]int, len(want))})
		}
	}
	slices.SortFunc(list, func(x, y share) int {
		if n := x.size() - y.size(); n != 0 {
			return n // those with the least choice first
		}
		return bytes.Compare(x.bytes(), y.bytes())
	})
	left := slices.Clone(want)
	// Straight first: each class fills what is open to it.
	for s := range list {
		x := &list[s]
		for r := range left {
			if n := min(x.left, left[r]); n > 0 && x.has(r) {
				x.to[r], x.left, left[r] = x.to[r]+n, x.left-n, left[r]-n
			}
		}
	}
	// Then round about: a class with seats to spare may take the place of another that can
	// fill something else (augmenting paths).
	var place func(s, n int, seen []bool) int
	place = func(s, n int, seen []bool) int {
		x := &list[s]
		for r := range left {
			if !x.has(r) || seen[r] {
				continue
			}
			seen[r] = true
			if got := min(n, left[r]); got > 0 {
				x.to[r], left[r] = x.to[r]+got, left[r]-got
				return got
			}
			for o := range list {
				if y := &list[o]; o != s && y.to[r] > 0 {
					if got := place(o, min(n, y.to[r]), seen); got > 0 {
						y.to[r], x.to[r] = y.to[r]-got, x.to[r]+got
						return got
					}
				}
			}
		}
		return 0
	}
	for s := range list {
		for list[s].left > 0 {
			got := place(s, list[s].left, make([]bool, len(want)))
			if got == 0 {
				break
			}
			list[s].left -= got
		}
	}
	return left
}

func (c *class) bytes() []byte {
	out := make([]byte, 0, len(c)*8)
	for _, w := range c {
		for shift := 56; shift >= 0; shift -= 8 {
			out = append(out, byte(w>>shift))
		}
	}
	return out
}

// shareOut decides how many seats of which pool each reservation gets: those of the pool
// with the lowest version first, as checkouts do, and never more than there are.
func (b *Book) shareOut() {
	done := map[featureKey]bool{}
	for i, x := range b.policing.pools {
		if x == nil {
			continue
		}
		if k := (featureKey{b.pools.at(uint32(i)).Tenant, x.feature}); !done[k] {
			done[k] = true
			b.shareOutFeature(k)
		}
	}
}

func (b *Book) shareOutFeature(k featureKey) {
	rest := map[uint16]int{} // seats still to be found, by rule
	for _, i := range b.poolsByFeature[k] {
		x := b.rulesOf(i)
		if x == nil {
			continue
		}
		left := b.state[i].total
		for n, at := range x.rules[RuleReserve] {
			if n >= MaxReservations {
				break
			}
			if _, begun := rest[at]; !begun {
				rest[at] = x.tenant.policy.Rules[at].Seats
			}
			x.want[n] = min(rest[at], left)
			rest[at] -= x.want[n]
			left -= x.want[n]
		}
		x.settle()
	}
}

// countHeld notes that a charge comes (sign 1) or goes (-1), seats and all: under the caps
// and reservations that its first member is meant by. Whoever changes a charge takes it
// out before and puts it in after.
func (b *Book) countHeld(slot uint32, sign int) {
	g := b.groups.at(slot)
	x := b.rulesOf(g.Pool)
	if x == nil || len(x.rules[RuleMax])+len(x.rules[RuleReserve]) == 0 {
		return
	}
	members := b.members(slot)
	if len(members) == 0 {
		return
	}
	x.count(sign*len(b.seats(slot)), x.tenant.match.of(b.principalOf(b.leases.at(members[0]).Session)))
}

// count notes n seats more that somebody holds.
func (x *poolRules) count(n int, is *subjects) {
	if n < 0 && Broken(GuardHeld) {
		return
	}
	for _, i := range x.rules[RuleMax] {
		if is.has(x.tenant.who[i]) {
			x.tenant.held[i] += n
		}
	}
	c := x.classOf(is)
	if c.empty() {
		return
	}
	if x.held[c] += n; x.held[c] == 0 {
		delete(x.held, c)
	}
	x.settle()
}

// kept is how many of the pool's free seats are kept by reservations; what is charged
// already cannot be kept (a policy or licence may have come later).
func (b *Book) kept(pool uint32) int {
	x := b.rulesOf(pool)
	if x == nil {
		return 0
	}
	return min(x.short, b.free(pool))
}

// roomBeside is how many of n free seats a principal may charge beside what is reserved
// for others: those that nobody kept, and those that fill reservations of its own.
func (b *Book) roomBeside(pool uint32, who Principal, n int) int {
	x := b.rulesOf(pool)
	if x == nil || x.short == 0 || Broken(GuardReserve) {
		return n
	}
	return min(n, max(0, n-x.short)+b.ownReserved(x, who, n))
}

// ownReserved is how many of n seats would fill reservations for the principal.
func (b *Book) ownReserved(x *poolRules, who Principal, n int) int {
	if x.short == 0 || n <= 0 {
		return 0
	}
	c := x.classOf(x.tenant.match.of(who))
	if c.empty() {
		return 0
	}
	return x.short - x.shortWith(c, n)
}
