package lease

import (
	"fmt"
	"slices"
)

// Check looks whether the ledger is a state the rules allow (DESIGN's invariants L1, I3
// and the bookkeeping beneath them) and names the first thing that is not. It visits
// everything: tests and the simulator call it after each command, a node after it
// restored a snapshot.
func (b *Book) Check() error {
	for _, check := range []func() error{b.checkLeases, b.checkGroups, b.checkPools, b.checkCarry, b.checkSessions, b.checkPins, b.checkDraws, b.checkQueue, b.checkBookings, b.checkPolicing, b.checkTenants} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) checkLeases() (err error) {
	live := 0
	b.leases.all(func(i uint32, l *leaseRow) bool {
		if l.free() {
			return true
		}
		live++
		id := l.id(i)
		s, g := b.sessions.at(l.Session), b.groups.at(l.Group)
		switch {
		case uint64(id>>slotBits) > b.Grants:
			err = fmt.Errorf("lease %d is of a grant still to come", id)
		case s == nil || s.ID.IsZero():
			err = fmt.Errorf("lease %d has no live session", id)
		case g == nil || g.Pool == 0:
			err = fmt.Errorf("lease %d has no charge", id)
		case l.Count < 1 || int(l.Count) > len(b.seats(l.Group)):
			err = fmt.Errorf("lease %d: %d seats asked, %d charged", id, l.Count, len(b.seats(l.Group)))
		case l.Token > b.High || l.Granted > b.Now():
			err = fmt.Errorf("lease %d is from the future", id)
		default:
			if key, ok := b.dueLeases.keyOf(g.Pool, i); !ok || key > b.leaseDue(i) {
				err = fmt.Errorf("lease %d would be found due too late, or not at all", id)
			}
		}
		return err == nil
	})
	if err == nil && (live != b.liveLeases || live != b.dueLeases.n) {
		err = fmt.Errorf("%d leases, %d counted, %d in the due index", live, b.liveLeases, b.dueLeases.n)
	}
	return err
}

func (b *Book) checkGroups() (err error) {
	members := 0
	b.groups.all(func(i uint32, g *groupRow) bool {
		if g.Pool == 0 {
			return true
		}
		p := b.pools.at(g.Pool)
		if p == nil || p.Feature == "" || len(b.members(i)) == 0 || len(b.members(i)) > MaxShareSessions {
			err = fmt.Errorf("charge %d: no pool or no member", i)
			return false
		}
		if !g.Shared && len(b.members(i)) > 1 || g.Shared && len(b.members(i)) > p.Share.MaxSessions {
			err = fmt.Errorf("feature %s: %d sessions share one charge, %d may", p.Feature, len(b.members(i)), p.Share.MaxSessions)
			return false
		}
		most := uint32(0)
		var key shareKey
		members += len(b.members(i))
		for n, m := range b.members(i) {
			l := b.leases.at(m)
			if l == nil || l.free() || l.Group != i || slices.Contains(b.members(i)[:n], m) {
				err = fmt.Errorf("charge %d: member %d is not its lease", i, m)
				return false
			}
			most = max(most, l.Count)
			k := shareKeyOf(g.Pool, p.Share.By, b.principalOf(l.Session))
			if n > 0 && k != key {
				err = fmt.Errorf("charge %d is shared by different principals", i)
				return false
			}
			key = k
		}
		if int(most) != len(b.seats(i)) {
			err = fmt.Errorf("charge %d: %d seats for at most %d asked", i, len(b.seats(i)), most)
		}
		if g.Shared && b.findGroup(key) != i {
			err = fmt.Errorf("charge %d cannot be found by its share key", i)
		}
		for _, n := range b.seats(i) {
			if seat := p.Seats.at(n); seat == nil || seat.Group != i {
				err = fmt.Errorf("feature %s: seat %d is not charged to its holder", p.Feature, n)
			}
		}
		return err == nil
	})
	if err == nil && members != b.liveLeases {
		err = fmt.Errorf("%d leases are members of a charge, %d live", members, b.liveLeases)
	}
	return err
}

func (b *Book) checkPools() (err error) {
	charges := map[uint32]int{}
	b.eachGroup(func(i uint32, g *groupRow) bool {
		charges[g.Pool] += len(b.seats(i))
		return true
	})
	b.eachDraw(func(_ uint32, d *DrawRecord) bool {
		charges[d.Pool] += len(d.Seats)
		return true
	})
	leases := map[uint32]uint64{}
	b.eachLease(func(_ uint32, l *leaseRow) bool {
		leases[b.groups.at(l.Group).Pool]++
		return true
	})
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature == "" {
			return true
		}
		taken := 0
		p.EachSeat(func(n uint32, s SeatRecord) bool {
			if s.Group != 0 {
				taken++
			}
			if s.Last > b.High {
				err = fmt.Errorf("feature %s: seat %d has a token from the future", p.Feature, n)
			}
			return true
		})
		if taken != int(p.Charged) || taken != charges[i] {
			err = fmt.Errorf("feature %s: %d seats taken, %d charged, %d held", p.Feature, taken, p.Charged, charges[i])
		}
		if p.Grants-p.Releases != leases[i] {
			err = fmt.Errorf("feature %s: %d grants, %d releases, %d live leases", p.Feature, p.Grants, p.Releases, leases[i])
		}
		return err == nil
	})
	return err
}

func (b *Book) checkSessions() (err error) {
	total := 0
	b.sessions.all(func(i uint32, s *sessionRow) bool {
		if s.ID.IsZero() {
			return true
		}
		if b.findSession(s.ID) != i {
			err = fmt.Errorf("session %s cannot be found", s.ID)
			return false
		}
		pools := map[uint32]ID{}
		n, last := 0, uint32(0)
		for slot := s.First; slot != 0 && n <= int(s.Leases); slot = b.leases.at(slot).next() {
			l := b.leases.at(slot)
			if l == nil || l.Session != i || l.Prev != last {
				err = fmt.Errorf("session %s: its list of leases is broken at slot %d", s.ID, slot)
				return false
			}
			pool := b.groups.at(l.Group).Pool
			if other, twice := pools[pool]; twice && b.claimed(slot) {
				err = fmt.Errorf("session %s holds leases %d and %d for one feature", s.ID, other, l.id(slot))
				return false
			}
			if b.claimed(slot) {
				pools[pool] = l.id(slot)
			}
			n, last = n+1, slot
		}
		if n != int(s.Leases) || last != s.Tail {
			err = fmt.Errorf("session %s: %d leases in its list, %d counted", s.ID, n, s.Leases)
		}
		total += n
		return err == nil
	})
	if err == nil && total != b.liveLeases {
		err = fmt.Errorf("%d leases in sessions, %d live", total, b.liveLeases)
	}
	return err
}
