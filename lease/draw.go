package lease

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// A draw is what charges of one pool take from another: the tokens that a feature costs,
// or the seat of a suite that covers its components. Its seats are charged like any
// others, so a pool needs not know what they pay for.

// DrawRecord is one draw.
type DrawRecord struct {
	Pool    uint32 // whose seats; zero: the slot is free
	Seats   []uint32
	Charges []uint32 // slots of the charges it pays for: one, or all of a suite's holder
}

// drawMark in SeatRecord.Group says that the rest is the slot of a draw, not of a charge.
const drawMark = 1 << 31

// cost is how many seats of the payer n seats of the feature cost.
func (d *Draw) cost(n int) int { return (n*d.Cost + d.Per - 1) / d.Per }

// payers are the licensed pools that may pay for a seat of p, in the order they are asked.
func (b *Book) payers(p *PoolRecord) (pools []uint32) {
	for _, i := range b.poolsByFeature[featureKey{p.Tenant, p.Draw.Of}] {
		if b.state[i].valid && p.paidBy(b.pools.at(i)) {
			pools = append(pools, i)
		}
	}
	return pools
}

// paidBy says whether q's seats are those that p draws. Those of a suite are the seats
// that the same lines brought.
func (p *PoolRecord) paidBy(q *PoolRecord) bool {
	if q.Tenant != p.Tenant || q.Feature != p.Draw.Of || q.Vendor != p.Vendor || q.Draw.Of != "" || q.Suite != p.Draw.Suite {
		return false
	}
	return !q.Suite || q.Version == p.Draw.Version && q.Profile == p.Profile && q.Share == p.Share && q.BorrowHours == p.BorrowHours &&
		q.LingerMin == p.LingerMin && q.IdleFloor == p.IdleFloor && q.MinCheckout == p.MinCheckout && q.Variant == p.Variant
}

// holderKey is whose seat of a suite it is: a share group's, or one session's.
type holderKey struct {
	share   shareKey
	session uint32 // 0: the share group's
}

func (b *Book) holderKeyOf(pool, session uint32, who Principal) holderKey {
	by := b.pools.at(pool).Share.By
	if !shares(by, who) {
		return holderKey{shareKey{pool: pool}, session}
	}
	return holderKey{share: shareKeyOf(pool, by, who)}
}

func (b *Book) holderKeyAt(slot uint32) holderKey {
	d := b.draws.at(slot)
	session := b.leases.at(b.members(d.Charges[0])[0]).Session
	return b.holderKeyOf(d.Pool, session, b.principalOf(session))
}

func (b *Book) holderHash(k holderKey) uint64 {
	var room [8 + 4*(MaxNameLen+1)]byte
	key := binary.LittleEndian.AppendUint32(room[:0], k.share.pool)
	key = binary.LittleEndian.AppendUint32(key, k.session)
	for _, field := range [...]string{k.share.user, k.share.host, k.share.display, k.share.vendor} {
		key = append(append(key, field...), ownerEnd...)
	}
	return maphash.Bytes(b.drawByHolder.seed, key)
}

func (b *Book) drawHash(slot uint32) uint64 { return b.holderHash(b.holderKeyAt(slot)) }

// findDraw gives the slot of the holder's draw on a suite; 0: none.
func (b *Book) findDraw(k holderKey) uint32 {
	return b.drawByHolder.find(b.holderHash(k), func(slot uint32) bool { return b.holderKeyAt(slot) == k })
}

// eachDraw visits the used slots in order.
func (t *tables) eachDraw(yield func(slot uint32, d *DrawRecord) bool) {
	t.draws.all(func(i uint32, d *DrawRecord) bool { return d.Pool == 0 || yield(i, d) })
}

// drawPlan is what an item takes from a second pool.
type drawPlan struct {
	pool  uint32 // 0: nothing
	want  int    // how large the draw shall be
	extra int    // seats to be charged anew
}

// notPaid is what planDraw answers where nothing has room; planItem says it in full.
var notPaid = refuse(NoSeats, "what it costs is not free")

// planDraw decides what pays for a plan; it says why nothing can.
func (b *Book) planDraw(p *plan, s *sessionRow, who Principal, c *Checkout, earlier []plan) *Refusal {
	x := b.pools.at(p.pool)
	p.draw = drawPlan{}
	if x.Draw.Of == "" {
		return nil
	}
	after := p.seats
	if p.group != 0 {
		after += len(b.seats(p.group))
	}
	want := x.Draw.cost(after)
	if p.group != 0 && !x.Draw.Suite {
		d := b.draws.at(b.drawOf[p.group])
		return b.drawFrom(p, d.Pool, want, len(d.Seats), who, c, earlier)
	}
	payers := b.payers(x)
	if kept, _ := b.bookedPayer(p.booked); kept != 0 {
		payers = []uint32{kept} // what the booking gets back is what it gave
	}
	if x.Draw.Suite {
		var session uint32
		if s != nil {
			session = b.findSession(c.Session.ID)
		}
		for _, i := range payers {
			slot := b.findDraw(b.holderKeyOf(i, session, who))
			if slot != 0 && b.crowded(slot, session) {
				return refuse(SessionsExceeded, "as many sessions as may share the suite do")
			}
			if have := b.covered(slot, i, earlier); have > 0 {
				return b.drawFrom(p, i, want, have, who, c, earlier)
			}
		}
	}
	var refusal *Refusal
	for _, i := range payers {
		r := b.drawFrom(p, i, want, 0, who, c, earlier)
		if r == nil {
			return nil
		}
		refusal = nearer(refusal, r)
	}
	if refusal == nil {
		return notPaid
	}
	return refusal
}

// covered is how many seats of a suite the holder has, or will have by what was planned
// before.
func (b *Book) covered(slot, pool uint32, earlier []plan) (have int) {
	if slot != 0 {
		have = len(b.draws.at(slot).Seats)
	}
	for i := range earlier {
		if earlier[i].draw.pool == pool && b.pools.at(earlier[i].pool).Draw.Suite {
			have = max(have, earlier[i].draw.want)
		}
	}
	return have
}

// drawFrom plans to let a draw on pool i grow from have seats to want.
func (b *Book) drawFrom(p *plan, i uint32, want, have int, who Principal, c *Checkout, earlier []plan) *Refusal {
	p.draw = drawPlan{pool: i, want: want, extra: max(0, want-have)}
	if p.draw.extra == 0 {
		return nil
	}
	n := p.draw.extra + pending(earlier, i)
	if r := b.forbids(i, who, n, 0); r != nil {
		return r
	}
	// Tokens that are booked by themselves pay for nothing.
	own := b.bookedBefore(earlier, i)
	if kept, tokens := b.bookedPayer(p.booked); kept == i {
		own += tokens
	}
	for k := range earlier {
		if x := &earlier[k]; x.pool == i && x.refusal == nil {
			own += int(x.booked.Seats)
		}
	}
	if n <= b.roomWith(i, who, c, own) {
		return nil
	}
	if r := b.deniedBy(i, who, n); r != nil {
		return r
	}
	return notPaid
}

// countDraw notes that a draw comes or goes, as countHeld does for a charge.
func (b *Book) countDraw(slot uint32, sign int) {
	if slot == 0 {
		return
	}
	d := b.draws.at(slot)
	x := b.rulesOf(d.Pool)
	if x == nil || len(x.rules[RuleMax])+len(x.rules[RuleReserve]) == 0 || len(d.Charges) == 0 {
		return
	}
	first := b.members(d.Charges[0])[0]
	x.count(sign*len(d.Seats), x.tenant.match.of(b.principalOf(b.leases.at(first).Session)))
}

// pending is how many seats of a pool the items planned before take.
func pending(earlier []plan, pool uint32) int {
	n := drawnBefore(earlier, pool)
	for i := range earlier {
		if earlier[i].pool == pool && earlier[i].held == 0 {
			n += earlier[i].seats
		}
	}
	return n
}

// drawnBefore is how many they take as payment alone.
func drawnBefore(earlier []plan, pool uint32) (n int) {
	for i := range earlier {
		if earlier[i].draw.pool == pool {
			n += earlier[i].draw.extra
		}
	}
	return n
}

// bookedBefore is how many of these a booking keeps for them.
func (b *Book) bookedBefore(earlier []plan, pool uint32) (n int) {
	for k := range earlier {
		if kept, tokens := b.bookedPayer(earlier[k].booked); kept == pool && earlier[k].refusal == nil {
			n += tokens
		}
	}
	return n
}

// crowded says whether a session more cannot share the draw.
func (b *Book) crowded(slot, session uint32) bool {
	d := b.draws.at(slot)
	rule := b.pools.at(d.Pool).Share
	if rule.By == 0 {
		return false
	}
	var sessions []uint32
	for _, g := range d.Charges {
		for _, m := range b.members(g) {
			switch at := b.leases.at(m).Session; {
			case at == session:
				return false
			case !slices.Contains(sessions, at):
				sessions = append(sessions, at)
			}
		}
	}
	return len(sessions) >= rule.MaxSessions
}

// takeDraw makes a draw pay for a charge as it is now. The charge has its member.
func (b *Book) takeDraw(gslot, session uint32, plan drawPlan) {
	if plan.pool == 0 {
		return
	}
	suite := b.pools.at(b.groups.at(gslot).Pool).Draw.Suite
	slot := b.drawOf[gslot]
	var key holderKey
	if slot == 0 && suite {
		key = b.holderKeyOf(plan.pool, session, b.principalOf(session))
		slot = b.findDraw(key)
	}
	if slot == 0 {
		slot = b.drawSlots.take()
		*b.draws.mut(b.gen, slot) = DrawRecord{Pool: plan.pool}
		if suite {
			b.drawByHolder.add(b.holderHash(key), slot, b.drawHash)
		}
	}
	b.countDraw(slot, -1)
	d := b.draws.mut(b.gen, slot)
	if !slices.Contains(d.Charges, gslot) {
		d.Charges = append(slices.Clone(d.Charges), gslot)
		b.drawOf[gslot] = slot
	}
	b.fitDraw(slot)
	b.countDraw(slot, 1)
}

// dropDraw lets the draw behind a charge shrink to what is still needed, and ends it with
// its last charge. It was taken out of the counts; the charge has lost a member of this
// session already, and not yet the seats that only that one needed.
func (b *Book) dropDraw(gslot, session uint32) {
	slot := b.drawOf[gslot]
	if slot == 0 {
		return
	}
	d := b.draws.mut(b.gen, slot)
	if len(b.members(gslot)) == 0 {
		d.Charges = slices.DeleteFunc(slices.Clone(d.Charges), func(g uint32) bool { return g == gslot })
		delete(b.drawOf, gslot)
	}
	if len(d.Charges) == 0 && b.pools.at(d.Pool).Suite {
		b.drawByHolder.remove(b.holderHash(b.holderKeyOf(d.Pool, session, b.principalOf(session))), slot)
	}
	b.fitDraw(slot)
	b.countDraw(slot, 1)
	if len(d.Charges) == 0 {
		*d = DrawRecord{}
		b.drawSlots.put(slot)
	}
}

// need is how many seats the members of a charge ask for.
func (b *Book) need(gslot uint32) (n int) {
	for _, m := range b.members(gslot) {
		n = max(n, int(b.leases.at(m).Count))
	}
	return n
}

// drawNeed is how large a draw must be.
func (b *Book) drawNeed(d *DrawRecord) (n int) {
	for _, g := range d.Charges {
		n = max(n, b.pools.at(b.groups.at(g).Pool).Draw.cost(b.need(g)))
	}
	return n
}

// fitDraw charges or frees seats until the draw is as large as it must be.
func (b *Book) fitDraw(slot uint32) {
	d := b.draws.mut(b.gen, slot)
	p := b.pools.mut(b.gen, d.Pool)
	need, have := b.drawNeed(d), len(d.Seats)
	if Broken(GuardDraw) && have > 0 && need > 0 {
		need = have
	}
	if need == have {
		return
	}
	seats := append(make([]uint32, 0, max(need, have)), d.Seats...)
	for len(seats) < need {
		number := b.state[d.Pool].seats.take()
		p.Seats.mut(b.gen, number).Group = drawMark | slot
		seats = append(seats, number)
		p.Charged++
	}
	for _, number := range seats[need:] {
		p.Seats.mut(b.gen, number).Group = 0
		b.state[d.Pool].seats.put(number)
		p.Charged--
	}
	d.Seats = seats[:need]
	b.recharged(d.Pool)
}

// drawToken raises a token above those of the seats that pay for a charge, and notes it
// with note on them.
func (b *Book) drawToken(gslot uint32, t Token, note bool) Token {
	slot := b.drawOf[gslot]
	if slot == 0 {
		return t
	}
	d := b.draws.at(slot)
	p := b.pools.mut(b.gen, d.Pool)
	for _, number := range d.Seats {
		if note {
			p.Seats.mut(b.gen, number).Last = t
		} else {
			t = max(t, p.Seats.at(number).Last+1)
		}
	}
	return t
}

// indexDraws rebuilds what is derived from the draws.
func (b *Book) indexDraws() {
	b.drawByHolder, b.drawOf = newSlotIndex(maphash.MakeSeed()), map[uint32]uint32{}
	var taken []uint32
	b.eachDraw(func(i uint32, d *DrawRecord) bool {
		taken = append(taken, i)
		for _, g := range d.Charges {
			b.drawOf[g] = i
		}
		if b.pools.at(d.Pool).Suite {
			b.drawByHolder.add(b.drawHash(i), i, b.drawHash)
		}
		return true
	})
	b.drawSlots = numbersWithout(taken)
}

// uncounted says whether nothing counts the seats of a pool: neither its licence nor that
// of what pays for it.
func (b *Book) uncounted(p *PoolRecord) bool {
	if !p.Uncounted || p.Draw.Of == "" {
		return p.Uncounted
	}
	for _, i := range b.payers(p) {
		if b.pools.at(i).Uncounted {
			return true
		}
	}
	return false
}

// drawnByPool counts the seats that pay for others.
func (b *Book) drawnByPool() map[uint32]int {
	count := map[uint32]int{}
	b.eachDraw(func(_ uint32, d *DrawRecord) bool {
		count[d.Pool] += len(d.Seats)
		return true
	})
	return count
}
