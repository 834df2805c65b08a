package lease

import "fmt"

// checkDraws looks whether each charge is paid for, by seats that are its own or its
// holder's.
func (b *Book) checkDraws() (err error) {
	paid := 0
	b.eachDraw(func(i uint32, d *DrawRecord) bool {
		p := b.pools.at(d.Pool)
		if p == nil || p.Feature == "" || len(d.Charges) == 0 {
			err = fmt.Errorf("draw %d: no pool or no charge", i)
			return false
		}
		var key holderKey
		for n, g := range d.Charges {
			paid++
			of := b.pools.at(b.groups.at(g).Pool)
			if b.drawOf[g] != i || !of.paidBy(p) || !p.Suite && n > 0 {
				err = fmt.Errorf("draw %d: it cannot pay for charge %d", i, g)
				return false
			}
			for _, m := range b.members(g) {
				session := b.leases.at(m).Session
				k := b.holderKeyOf(d.Pool, session, b.principalOf(session))
				if p.Suite && key != (holderKey{}) && k != key {
					err = fmt.Errorf("suite %s: one seat covers different holders", p.Feature)
				}
				key = k
			}
		}
		if p.Suite && b.findDraw(key) != i {
			err = fmt.Errorf("draw %d cannot be found by its holder", i)
		}
		if need := b.drawNeed(d); need != len(d.Seats) {
			err = fmt.Errorf("feature %s: a draw of %d seats where %d are needed", p.Feature, len(d.Seats), need)
		}
		for _, n := range d.Seats {
			if seat := p.Seats.at(n); seat == nil || seat.Group != drawMark|i {
				err = fmt.Errorf("feature %s: seat %d is not charged to its draw", p.Feature, n)
			}
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	b.eachGroup(func(i uint32, g *groupRow) bool {
		if b.pools.at(g.Pool).Draw.Of != "" {
			paid--
			if b.drawOf[i] == 0 {
				err = fmt.Errorf("charge %d is not paid for", i)
			}
		}
		return err == nil
	})
	if err == nil && (paid != 0 || len(b.drawOf) != 0 && b.drawSlots.next == 0) {
		err = fmt.Errorf("draws pay for %d charges more than there are", paid)
	}
	return err
}

// Draws calls yield for each draw in slot order.
func (f *Frozen) Draws(yield func(slot uint32, d *DrawRecord) bool) { f.t.eachDraw(yield) }

// Draw puts a draw at its slot; the pools, charges and leases may come before or after.
func (l *Loader) Draw(slot uint32, d DrawRecord) {
	to := l.b.draws.mut(l.b.gen, slot)
	l.fresh("draw", slot, d.Pool != 0, to.Pool == 0)
	if len(d.Charges) > MaxLeasesPerSession*MaxShareSessions || len(d.Seats) > MaxSeats {
		l.fail("draw %d has %d charges and %d seats", slot, len(d.Charges), len(d.Seats))
		return
	}
	*to = d
}

// checkDraws makes it safe to follow the references of draws.
func (l *Loader) checkDraws() {
	seen := map[uint32]bool{}
	l.b.eachDraw(func(i uint32, d *DrawRecord) bool {
		if p := l.b.pools.at(d.Pool); p == nil || p.Feature == "" || len(d.Charges) == 0 {
			l.fail("draw %d has no pool or no charge", i)
			return false
		}
		for _, g := range d.Charges {
			if x := l.b.groups.at(g); x == nil || x.Pool == 0 || seen[g] || l.b.pools.at(x.Pool).Draw.Of == "" {
				l.fail("draw %d: charge %d is not there, has no cost or is paid twice", i, g)
			}
			seen[g] = true
		}
		return l.err == nil
	})
}

// possible says whether a licence could have made the draw.
func (d *Draw) possible() bool {
	if d.Of == "" {
		return *d == Draw{}
	}
	return d.Cost >= 1 && d.Cost <= MaxCost && d.Per >= 1 && d.Per <= MaxCount
}
