package lease

import "time"

// plan is what one item of a checkout comes to before anything is changed.
type plan struct {
	item    Item
	pool    uint32
	held    uint32 // the session's own lease slot, if it holds the pool already
	group   uint32 // the share group it joins, if any
	seats   int    // seats to be charged anew
	lingers uint32 // a lingering lease of the principal's, which it takes up
	draw    drawPlan
	booked  BookedLease
	refusal *Refusal
}

func (b *Book) checkout(index uint64, c Checkout) Reply {
	if r := normalize(&c); r != nil {
		return Reply{Refusal: r}
	}
	slot, s, replay, refusal := b.admit(&c)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	if replay {
		return b.again(slot, s)
	}
	plans, refusal := b.plan(slot, s, &c)
	all := true
	if lacksSeats(plans, refusal) {
		all = b.regain(&c, true, func() bool {
			plans, refusal = b.plan(slot, s, &c)
			return !lacksSeats(plans, refusal)
		})
	}
	if refusal != nil && c.Wait > 0 && waits(refusal) {
		return b.wait(&c, slot, s, plans)
	}
	if !all {
		return Reply{Refusal: stillDue()}
	}
	if refusal != nil {
		b.standAside(slot, &c)
		return b.deny(&c, slot, s, plans, refusal)
	}
	if s == nil {
		slot, s = b.open(&c)
	} else {
		s = b.sessions.mut(b.gen, slot)
	}
	b.heartbeat(s)
	var done Done
	reply := Reply{}
	for i := range plans {
		if plans[i].refusal != nil {
			continue // of a partial checkout
		}
		lease := plans[i].held
		if lease == 0 {
			lease = b.grant(index, slot, s, &plans[i])
		}
		b.collect(lease)
		if c.borrow > 0 {
			b.lend(lease, plans[i].held != 0, c.borrow)
		}
		reply.Leases = append(reply.Leases, b.show(lease))
		done.Granted = append(done.Granted, reply.Leases[len(reply.Leases)-1].Ref)
	}
	if place := b.placeFor(slot, &c); place != 0 {
		b.quit(place, "")
	}
	reply.Refused = refusedItems(plans)
	done.Refused = reply.Refused
	done.Kind = DoneCheckout
	b.finish(slot, c.Session.Seq, done)
	reply.Session = b.info(s)
	return reply
}

// reclaimHelps says whether a refusal may be lifted by seats that come back.
func reclaimHelps(r *Refusal) bool {
	switch r.Reason {
	case NoSeats, SessionsExceeded, MaxReached, ReservedForOthers, BorrowNoneLeft:
		return !r.Final
	}
	return false
}

// normalize fills what is left out and refuses what can never be granted.
func normalize(c *Checkout) *Refusal {
	if c.Tenant == "" {
		c.Tenant = DefaultTenant
	}
	p := c.Principal
	for _, n := range []struct{ what, s string }{
		{"tenant", c.Tenant}, {"user", p.User}, {"host", p.Host}, {"ip", p.IP}, {"display", p.Display},
		{"vendor_defined", p.VendorDefined}, {"project", p.Project}, {"instance_id", c.InstanceID}, {"booking", c.Booking},
	} {
		if r := checkName(n.what, n.s, true); r != nil {
			return r
		}
	}
	switch {
	case c.Session.ID.IsZero():
		return refuse(Invalid, "the session id is missing")
	case len(c.Items) == 0:
		return refuse(Invalid, "no feature is named; say which one to check out")
	case len(c.Items) > MaxItems:
		return refuse(Invalid, "%d features in one checkout; at most %d are possible", len(c.Items), MaxItems)
	case c.Wait < 0:
		return refuse(Invalid, "a wait of %v is not possible", c.Wait)
	case c.Partial && c.Wait > 0:
		return refuse(Invalid, "a partial checkout takes what is there and does not wait; leave out one of the two")
	}
	for _, it := range c.Items {
		if r := checkItem(it); r != nil {
			return r
		}
	}
	return nil
}

func checkItem(it Item) *Refusal {
	if r := checkName("feature name", it.Feature, false); r != nil {
		return r
	}
	switch {
	case CheckVersion(it.Version) != nil:
		return refuse(Invalid, "feature %s: version %q is not a decimal number such as 2026.0", it.Feature, it.Version)
	case it.Count < 1:
		return refuse(Invalid, "feature %s: count %d is not a number of seats; ask for 1 or more", it.Feature, it.Count)
	case it.Count > MaxCount:
		return refuse(TooManyRequested, "feature %s: %d seats are more than any licence counts", it.Feature, it.Count)
	}
	return nil
}

// admit finds the session of a checkout, if it exists, and judges its number.
func (b *Book) admit(c *Checkout) (slot uint32, s *sessionRow, replay bool, refusal *Refusal) {
	if b.findSession(c.Session.ID) == 0 {
		if c.Session.Seq > 1 {
			return 0, nil, false, refuse(SessionUnknown, "no session %s: it was closed, or its leases ran out; check out again with a new one", c.Session.ID)
		}
		if b.sessionByID.n >= MaxSessions {
			return 0, nil, false, refuse(Overloaded, "the cluster holds %d sessions, the most it takes", MaxSessions)
		}
		return 0, nil, false, nil
	}
	if slot, s, refusal = b.enter(c.Session); refusal != nil {
		return 0, nil, false, refusal
	}
	if b.owner(slot).tenant() != c.Tenant {
		return 0, nil, false, refuse(Forbidden, "session %s belongs to another tenant", c.Session.ID)
	}
	replay, refusal = b.numbered(slot, c.Session.Seq, DoneCheckout)
	return slot, s, replay, refusal
}

// again answers the last numbered checkout a second time: same leases, with what
// remains of them now. One that ended meanwhile is told as lost.
func (b *Book) again(slot uint32, s *sessionRow) Reply {
	last := b.last(slot)
	if last.Refusal != nil {
		return Reply{Refusal: last.Refusal, Replayed: true}
	}
	r := Reply{Session: b.info(s), Refused: last.Refused, Replayed: true}
	for _, ref := range last.Granted {
		if b.holds(slot, ref) {
			b.collect(b.lookup(ref.ID))
			r.Leases = append(r.Leases, b.show(b.lookup(ref.ID)))
			continue
		}
		lost := Lost{Ref: ref}
		for _, x := range b.more(slot).lost {
			if x.ID == ref.ID {
				lost = x
			}
		}
		r.Lost = append(r.Lost, lost)
	}
	return r
}

// deny answers a refusal. A numbered request is remembered as refused, so that a late
// duplicate of it takes nothing the client does not know of, unless the client asked
// to go on trying with it (Tentative).
func (b *Book) deny(c *Checkout, slot uint32, s *sessionRow, plans []plan, refusal *Refusal) Reply {
	if (c.Tentative || c.Wait > 0) && !refusal.Final {
		return Reply{Refusal: refusal}
	}
	if s != nil {
		if place := b.placeFor(slot, c); place != 0 {
			b.quit(place, refusal.Reason)
			defer b.dropMinted(slot)
		}
	}
	if c.Session.Seq != 0 {
		if s == nil {
			if full := b.turnedAway(c.Tenant); full != nil {
				return Reply{Refusal: full}
			}
			slot, _ = b.open(c)
		}
		b.finish(slot, c.Session.Seq, Done{Kind: DoneCheckout, Refusal: refusal})
	}
	b.noteDenial(c, slot, plans, refusal)
	return Reply{Refusal: refusal}
}

// plan decides for each item where its seats would come from. The first refusal ends it.
func (b *Book) plan(slot uint32, s *sessionRow, c *Checkout) ([]plan, *Refusal) {
	if left := b.FenceUntil.Sub(b.Now()); left > 0 {
		r := refuse(Overloaded, "the cluster was restored from a backup, or recovered without its majority; checkouts resume in %v", left.Round(time.Second))
		r.RetryAfter = left
		return nil, r
	}
	principal := c.Principal
	if s != nil {
		principal = b.principalOf(slot)
	}
	plans := make([]plan, 0, len(c.Items))
	if _, r := b.bookingOf(c, principal); r != nil {
		return nil, r
	}
	fresh := 0
	for _, it := range c.Items {
		p := b.planItem(c, s, principal, it, plans)
		for i := range plans {
			if p.refusal == nil && plans[i].refusal == nil && plans[i].pool == p.pool {
				p.refusal = refuse(Invalid, "feature %s is named twice; add the counts up", it.Feature)
			}
		}
		b.forbidTogether(principal, plans, &p)
		if p.refusal != nil { // nothing is taken for it, so it covers and delays nobody
			p.seats, p.draw, p.booked = 0, drawPlan{}, BookedLease{}
		}
		plans = append(plans, p)
		if p.refusal != nil {
			if c.Partial {
				continue
			}
			return plans, p.refusal
		}
		if p.held == 0 {
			fresh++
		}
	}
	if r := nothing(plans); c.Partial && r != nil {
		return plans, r
	}
	if s != nil && int(s.Leases)+fresh > MaxLeasesPerSession {
		return plans, refuse(Overloaded, "a session holds at most %d leases; open another", MaxLeasesPerSession)
	}
	if b.liveLeases+fresh > MaxLeases {
		return plans, refuse(Overloaded, "the cluster holds %d leases, the most it takes", MaxLeases)
	}
	return plans, nil
}

// planItem chooses a pool: the one the session holds already, else the first that fits
// and has seats beside those that earlier items of the request take.
func (b *Book) planItem(c *Checkout, s *sessionRow, who Principal, it Item, earlier []plan) plan {
	p := plan{item: it}
	if s != nil {
		if held := b.heldBy(s, it); held != 0 && !Broken(GuardReattach) {
			l := b.leases.at(held)
			p.held, p.pool = held, b.groups.at(l.Group).Pool
			if int(l.Count) != it.Count {
				p.refusal = refuse(Invalid, "the session holds %d of %s already (lease %d); check it in before asking for %d", l.Count, it.Feature, l.id(held), it.Count)
			} else {
				p.refusal = b.borrowRefusal(p.pool, who, c, b.newlyLent(held))
			}
			return p
		}
	}
	pools, refusal := b.fitting(c.Tenant, it)
	if refusal != nil {
		p.refusal = refusal
		return p
	}
	exceeded, full := false, false
	var denied, unlent *Refusal // by the policy; by the rules of borrowing
	for _, i := range b.bookedFirst(pools, who, c) {
		if r := b.borrowRefusal(i, who, c, it.Count); r != nil {
			unlent = better(unlent, r)
			continue
		}
		p.pool, p.group, p.seats, p.booked = i, 0, it.Count, b.ownBooked(i, who, c)
		p.booked.Seats = min(p.booked.Seats, uint32(it.Count))
		p.lingers = b.takesUp(i, who)
		rule := b.pools.at(i).Share
		if p.booked.Seats == 0 && shares(rule.By, who) {
			if p.group = b.findGroup(shareKeyOf(i, rule.By, who)); p.group != 0 {
				if len(b.members(p.group)) >= rule.MaxSessions && p.lingers == 0 {
					exceeded = true
					continue
				}
				p.seats = max(0, it.Count-len(b.seats(p.group)))
			}
		}
		if p.group == 0 {
			p.seats = max(0, p.seats-b.lingerSeats(p.lingers))
		}
		if r := b.forbids(i, who, p.seats, it.Count-p.seats); r != nil {
			denied = nearer(denied, r)
			continue
		}
		if p.seats+drawnBefore(earlier, i) <= b.roomWith(i, who, c, int(b.ownBooked(i, who, c).Seats)+b.bookedBefore(earlier, i)) {
			r := b.planDraw(&p, s, who, c, earlier)
			switch {
			case r == nil:
				return p
			case r.Reason == SessionsExceeded:
				exceeded = true
			case r.Reason == NoSeats:
				full = true
			default:
				denied = nearer(denied, r)
			}
			continue
		}
		r := b.deniedBy(i, who, p.seats)
		denied, full = nearer(denied, r), full || r == nil
	}
	switch {
	case p.pool == 0: // none may be borrowed from
		p.refusal = unlent
	case denied != nil && !full && !exceeded:
		p.refusal = denied
	case exceeded:
		p.refusal = refuse(SessionsExceeded, "feature %s: %s has the most sessions that may share a seat already; close one", it.Feature, who.User+"@"+who.Host)
	default:
		p.refusal = refuse(NoSeats, "feature %s: no free seat (%s); try again later, or wait", it.Feature, b.usage(pools))
	}
	return p
}

// heldBy finds the session's lease that answers the item; 0 if there is none.
func (b *Book) heldBy(s *sessionRow, it Item) (held uint32) {
	b.each(s, func(slot uint32, l *leaseRow) {
		p := b.pools.at(b.groups.at(l.Group).Pool)
		if held == 0 && b.claimed(slot) && p.Feature == it.Feature && CompareVersions(p.Version, it.Version) >= 0 {
			held = slot
		}
	})
	return held
}

// fitting lists the pools that could ever grant the item, lowest version first.
func (b *Book) fitting(tenant string, it Item) ([]uint32, *Refusal) {
	all := b.poolsByFeature[featureKey{tenant, it.Feature}]
	var fit []uint32
	var expired, early bool
	highest, largest := "", 0
	for _, i := range all {
		st := &b.state[i]
		if !st.licensed() || b.pools.at(i).Suite {
			continue // its licence was removed; only what is still checked out keeps it
		}
		if v := b.pools.at(i).Version; CompareVersions(v, it.Version) < 0 {
			highest = v
			continue
		}
		expired, early = expired || st.expired, early || st.early
		if st.total > 0 {
			fit = append(fit, i)
			largest = max(largest, b.largest(i))
		}
	}
	switch {
	case len(fit) > 0 && it.Count > largest:
		return nil, refuse(TooManyRequested, "feature %s: %d seats asked, the licence counts %d", it.Feature, it.Count, largest)
	case len(fit) > 0:
		return fit, nil
	case early:
		return nil, refuse(NotStarted, "feature %s: its licence has not started yet", it.Feature)
	case expired:
		return nil, refuse(LicenseExpired, "feature %s: its licence has expired; install a new one", it.Feature)
	case highest != "":
		return nil, refuse(BadVersion, "feature %s: version %s asked, licensed up to %s", it.Feature, it.Version, highest)
	}
	if r := b.otherwise(tenant, it.Feature, all); r != nil {
		return nil, r
	}
	return nil, refuse(NoFeature, "no licence of tenant %s has the feature %s", tenant, it.Feature)
}
