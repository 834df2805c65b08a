package lease

import "slices"

// forbids says why the policy does not let a principal charge n seats more of a pool, to use
// them with others that are charged already (those that linger for it, or that it shares);
// nil: it does. EXCLUDE comes first. A seat reserved for the principal needs no other leave:
// neither a cap (MAX) nor an allow list of others (INCLUDE) stops it.
func (b *Book) forbids(pool uint32, who Principal, n, charged int) *Refusal {
	x := b.rulesOf(pool)
	if x == nil {
		return nil
	}
	is := x.tenant.match.of(who)
	if at := x.some(RuleExclude, is); at >= 0 && !Broken(GuardExclude) {
		return refuse(Excluded, "feature %s: the policy excludes %s", x.feature, x.tenant.because(at, who))
	}
	if len(x.rules[RuleInclude]) > 0 && x.some(RuleInclude, is) < 0 && !x.fillsOwn(is, n, charged) && !Broken(GuardInclude) {
		return refuse(NotIncluded, "feature %s: the policy lets only others use it, not %s", x.feature, nameOf(who))
	}
	own := 0
	if len(x.rules[RuleReserve]) > 0 && !Broken(GuardReserveFirst) {
		own = b.ownReserved(x, who, n)
	}
	if own < n {
		return x.capped(is, n-own, who)
	}
	return nil
}

// fillsOwn says whether each of n seats more, and of those that are charged and used again,
// fills a reservation for the principal.
func (x *poolRules) fillsOwn(is *subjects, n, charged int) bool {
	if len(x.rules[RuleReserve]) == 0 || n+charged == 0 || Broken(GuardReserveFirst) {
		return false
	}
	c := x.classOf(is)
	if c.empty() || x.held[c] < charged {
		return false
	}
	return x.shortWith(c, -charged)-x.shortWith(c, n) == n+charged
}

// capped says which cap n seats more would break.
func (x *poolRules) capped(is *subjects, n int, who Principal) *Refusal {
	for _, i := range x.rules[RuleMax] {
		r := &x.tenant.policy.Rules[i]
		if held := x.tenant.held[i]; is.has(x.tenant.who[i]) && held+n > r.Seats && !Broken(GuardMax) {
			refusal := refuse(MaxReached, "feature %s: the policy lets %s hold %d seats at most, %d are held; wait until one comes back", x.feature, x.tenant.because(int(i), who), r.Seats, held)
			if n > r.Seats {
				refusal = refuse(MaxReached, "feature %s: the policy lets %s hold %d seats at most, %d are asked", x.feature, x.tenant.because(int(i), who), r.Seats, n)
				refusal.Final = true
			}
			return refusal
		}
	}
	return nil
}

// because names the subject of a rule in a message to a principal.
func (t *tenantRules) because(rule int, who Principal) string {
	s := t.policy.Rules[rule].Who
	if s.Type == SubjectUser && s.Name == who.User {
		return nameOf(who)
	}
	return s.String()
}

// deniedBy says why there is no room for n seats in a pool that has as many free: nil when
// it has not, or when it is not for reservations.
func (b *Book) deniedBy(pool uint32, who Principal, n int) *Refusal {
	free := b.free(pool)
	if n > free || n <= b.roomBeside(pool, who, free) {
		return nil
	}
	x := b.rulesOf(pool)
	return refuse(ReservedForOthers, "feature %s: the free seats (%d) are reserved for others (%s); try again later, or wait", x.feature, free, x.forWhom())
}

// nearer keeps the refusal that tells the asker more: one that waiting may lift, else the
// first.
func nearer(old, next *Refusal) *Refusal {
	if old == nil || next != nil && old.Final && !next.Final {
		return next
	}
	return old
}

// Reservation is what of a reservation is not filled.
type Reservation struct {
	For Subject
	// Seats are kept for them now, of Of reserved.
	Seats, Of int
}

// reserved lists the unfilled reservations of a pool, in the order of the policy; together
// they keep no more than is free.
func (b *Book) reserved(pool uint32) (list []Reservation) {
	x := b.rulesOf(pool)
	if x == nil {
		return nil
	}
	left := b.kept(pool)
	for n, i := range x.rules[RuleReserve] {
		if n >= MaxReservations || left == 0 {
			break
		}
		if take := min(left, x.unfilled[n]); take > 0 {
			list = append(list, Reservation{x.tenant.policy.Rules[i].Who, take, x.want[n]})
			left -= take
		}
	}
	return list
}

// forWhom names the subjects of unfilled reservations, the first few.
func (x *poolRules) forWhom() (names string) {
	const shown = 3
	var list []string
	for n, i := range x.rules[RuleReserve] {
		if name := x.tenant.policy.Rules[i].Who.String(); n < MaxReservations && x.unfilled[n] > 0 && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for n, name := range list {
		switch {
		case n == shown:
			return names + " and more"
		case n > 0:
			names += ", "
		}
		names += name
	}
	return names
}

// forbidTogether looks whether the policy lets a principal have an item beside what those
// planned before take of the same feature, as seats or as payment: caps count them together.
func (b *Book) forbidTogether(who Principal, before []plan, p *plan) {
	if p.refusal != nil || p.held != 0 || b.rulesOf(p.pool) == nil {
		return
	}
	n := 0
	for i := range before {
		if before[i].held == 0 && before[i].refusal == nil && before[i].item.Feature == p.item.Feature {
			n += before[i].seats
		}
		if d := before[i].draw.pool; d != 0 && b.pools.at(d).Feature == p.item.Feature {
			n += before[i].draw.extra
		}
	}
	if n > 0 {
		p.refusal = b.forbids(p.pool, who, n+p.seats, p.item.Count-p.seats)
	}
}
