package lease

import "fmt"

// Loader fills an empty Book from a snapshot. Finish builds what is derived. A record
// that cannot be is remembered and refused there.
type Loader struct {
	b   *Book
	err error
}

// NewLoader returns a Loader for a new Book.
func NewLoader(h Header) *Loader {
	b := NewBook()
	b.Header = h
	return &Loader{b: b}
}

// Licence adds an installed licence; they come in order.
func (l *Loader) Licence(x *Licence) { l.b.licences = append(l.b.licences, x) }

// Session puts a session at its slot.
func (l *Loader) Session(slot uint32, r SessionRecord) {
	l.fresh("session", slot, !r.ID.IsZero(), l.b.sessions.mut(l.b.gen, slot).ID.IsZero())
	if r.Leases > MaxLeasesPerSession {
		l.fail("session %d has %d leases", slot, r.Leases)
	}
	if l.err == nil {
		l.b.putSession(slot, &r)
	}
}

// Lease puts a lease at its slot.
func (l *Loader) Lease(slot uint32, r LeaseRecord) {
	to := l.b.leases.mut(l.b.gen, slot)
	l.fresh("lease", slot, r.ID>>slotBits != 0, to.free())
	if uint32(r.ID&maxSlot) != slot || r.Next > maxSlot {
		l.fail("lease %d stands at slot %d", r.ID, slot)
	}
	*to = rowOfLease(&r)
	l.profile(slot, r.Profile)
}

// Group puts a charge at its slot.
func (l *Loader) Group(slot uint32, r GroupRecord) {
	l.fresh("charge", slot, r.Pool != 0, l.b.groups.mut(l.b.gen, slot).Pool == 0)
	if r.N > MaxShareSessions {
		l.fail("charge %d has %d members", slot, r.N)
		return
	}
	if l.err == nil {
		l.b.putGroup(slot, &r)
	}
}

// Pool puts a pool at its slot; its seats follow by Seat.
func (l *Loader) Pool(slot uint32, r PoolRecord) {
	to := l.b.pools.mut(l.b.gen, slot)
	l.fresh("pool", slot, r.Feature != "", to.Feature == "")
	*to = r
}

// Seat puts a seat into a pool that was given before.
func (l *Loader) Seat(pool, number uint32, s SeatRecord) {
	if p := l.b.pools.at(pool); p == nil || p.Feature == "" {
		l.fail("seat %d is of no pool", number)
		return
	}
	*l.b.pools.mut(l.b.gen, pool).Seats.mut(l.b.gen, number) = s
}

// Finish derives the indexes and checks that the whole is a state the rules could
// have made; a Book that is not is refused.
func (l *Loader) Finish() (*Book, error) {
	for _, check := range []func(){l.checkPools, l.checkSessions, l.checkGroups, l.checkLeases, l.checkLicences, l.checkDraws, l.checkQueue, l.checkBookings} {
		if l.err == nil {
			check()
		}
	}
	if l.err != nil {
		return nil, l.err
	}
	l.b.reindex()
	if err := l.b.Check(); err != nil {
		return nil, err
	}
	return l.b, nil
}

func (l *Loader) fail(format string, args ...any) {
	if l.err == nil {
		l.err = fmt.Errorf("snapshot: "+format, args...)
	}
}

func (l *Loader) fresh(what string, slot uint32, used, free bool) {
	if !used || !free {
		l.fail("%s %d is empty or comes twice", what, slot)
	}
}

// The checks below make it safe to follow the references between records, which reindex
// and Check do: each record names only records that are there.

func (l *Loader) checkPools() {
	(&Frozen{l.b.tables}).Pools(func(i uint32, p *PoolRecord) bool {
		life, grace, share := p.Profile.Lifespan, p.Profile.Grace, p.Share.MaxSessions
		if life < MinLifespan || life > MaxLifespan || grace < 0 || grace > MaxGrace || p.Share.By != 0 && (share < 1 || share > MaxShareSessions) || !p.Draw.possible() {
			l.fail("pool %d has an impossible profile or share rule", i)
		}
		return l.err == nil
	})
}

func (l *Loader) checkSessions() {
	(&Frozen{l.b.tables}).Sessions(func(i uint32, s *SessionRecord) bool {
		if s.Lifespan < 0 || s.Lifespan > MaxLifespan || s.Grace < 0 || s.Grace > MaxGrace || s.Renewed < 0 || s.Renewed > l.b.Now() ||
			s.Told < 0 || s.Told > len(s.Lost) || s.Last.Kind > DoneCheckIn {
			l.fail("session %d is in an impossible state", i)
		}
		return l.err == nil
	})
}

func (l *Loader) checkGroups() {
	(&Frozen{l.b.tables}).Groups(func(i uint32, g *GroupRecord) bool {
		if p := l.b.pools.at(g.Pool); p == nil || p.Feature == "" || g.N < 1 || g.N > MaxShareSessions {
			l.fail("charge %d has no pool or no member", i)
			return false
		}
		for _, m := range g.Members[:g.N] {
			if x := l.b.leases.at(m); x == nil || x.free() || x.Group != i {
				l.fail("charge %d: member %d is not its lease", i, m)
			}
		}
		return l.err == nil
	})
}

func (l *Loader) checkLeases() {
	(&Frozen{l.b.tables}).Leases(func(i uint32, x *LeaseRecord) bool {
		s, g := l.b.sessions.at(x.Session), l.b.groups.at(x.Group)
		if s == nil || s.ID.IsZero() || g == nil || g.Pool == 0 {
			l.fail("lease %d has no session or no charge", i)
			return false
		}
		for _, n := range []uint32{x.Next, x.Prev} {
			if y := l.b.leases.at(n); n != 0 && (y == nil || y.free()) {
				l.fail("lease %d has no neighbour %d", i, n)
			}
		}
		return l.err == nil
	})
}

// checkLicences wants every licence in its place and every entitlement in a pool.
func (l *Loader) checkLicences() {
	type key struct {
		tenant, vendor, feature, version string
		profile                          Profile
		share                            ShareRule
		terms                            Terms
	}
	pools := map[key]bool{}
	(&Frozen{l.b.tables}).Pools(func(i uint32, p *PoolRecord) bool {
		k := key{p.Tenant, p.Vendor, p.Feature, p.Version, p.Profile, p.Share, p.Terms}
		if pools[k] {
			l.fail("pool %d is there twice", i)
		}
		pools[k] = true
		return l.err == nil
	})
	for n, x := range l.b.licences {
		if n > 0 && compareLicences(l.b.licences[n-1], x) >= 0 {
			l.fail("licence %q is out of order", x.ID)
		}
		x.lines(func(e *Entitlement, _ string) {
			if !pools[key{x.Tenant, x.Vendor, e.Feature, e.Version, e.Profile, e.Share, e.Terms}] {
				l.fail("feature %q of licence %q has no pool", e.Feature, x.ID)
			}
		})
	}
}
