package lease_test

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/seatkeeper/seatkeeper/lease"
)

// The part of the model that counts seats and licences.

func number(version string) float64 {
	f, _ := strconv.ParseFloat(version, 64)
	return f
}

// total counts the seats of the entitlements that are valid now.
func (m *model) total(p *modelPool) (n int, early, expired bool) {
	for _, x := range m.licences {
		for _, e := range x.Entitlements {
			switch {
			case !p.is(x, e):
			case e.Expiry != 0 && m.calendar >= e.Expiry:
				expired = true
			case m.calendar < e.Start:
				early = true
			default:
				n += e.Count
			}
		}
	}
	return n, early, expired
}

// heldBack is how many seats of a pool stand for seats out of others beyond their totals.
// Each of those takes one free seat: of its version, else of the next higher one that has
// any, else of the next lower.
func (m *model) heldBack(of *modelPool) (n int) {
	spare := map[*modelPool]int{}
	var over []float64 // version of each seat
	for _, p := range m.pools {
		if p.tenant != of.tenant || p.vendor != of.vendor || p.ent.Feature != of.ent.Feature {
			continue
		}
		total, _, _ := m.total(p)
		spare[p] = total - p.inUse()
		for range -spare[p] {
			over = append(over, number(p.ent.Version))
		}
	}
	far := func(p *modelPool, v float64) float64 {
		if d := number(p.ent.Version) - v; d >= 0 {
			return d
		} else {
			return 1e9 - d
		}
	}
	for _, v := range over {
		var best *modelPool
		for p, left := range spare {
			if left > 0 && (best == nil || far(p, v) < far(best, v)) {
				best = p
			}
		}
		if best == nil {
			break
		}
		if spare[best]--; best == of {
			n++
		}
	}
	return n
}

func (p *modelPool) is(x lease.Licence, e lease.Entitlement) bool {
	return p.tenant == x.Tenant && p.vendor == x.Vendor && p.ent.Feature == e.Feature && p.ent.Version == e.Version &&
		p.ent.Profile == e.Profile && p.ent.Share == e.Share
}

func (p *modelPool) inUse() (n int) {
	for _, seats := range p.charges {
		n += len(seats)
	}
	return n
}

// shareKey names the group that who belongs to; "" shares with nobody.
func (p *modelPool) shareKey(who lease.Principal) string {
	key := ""
	for _, f := range []struct {
		bit  lease.Mask
		name string
	}{{lease.MaskUser, who.User}, {lease.MaskHost, who.Host}, {lease.MaskDisplay, who.Display}, {lease.MaskVendor, who.VendorDefined}} {
		if p.ent.Share.By&f.bit == 0 {
			continue
		}
		if f.name == "" {
			return ""
		}
		key += fmt.Sprintf("%d=%q ", f.bit, f.name)
	}
	return key
}

func (m *model) members(p *modelPool, charge string) (n int) {
	for _, l := range m.leases {
		if l.pool == p && l.charge == charge {
			n++
		}
	}
	return n
}

func (m *model) grant(index uint64, s *modelSession, p *modelPool, count int) *modelLease {
	l := &modelLease{session: s, pool: p, count: count, since: m.now, handle: 1}
	for slices.ContainsFunc(m.leases, func(x *modelLease) bool { return x.handle == l.handle }) {
		l.handle++
	}
	l.charge = cmp.Or(p.shareKey(s.who), fmt.Sprint("alone ", l.handle))
	for len(p.charges[l.charge]) < count {
		p.charges[l.charge] = append(p.charges[l.charge], p.lowestFree())
	}
	l.Token = max(lease.Token(index), m.floor+1)
	for _, n := range l.seats() {
		l.Token = max(l.Token, p.last[n]+1)
	}
	for _, n := range l.seats() {
		p.last[n] = l.Token
	}
	m.high = max(m.high, l.Token)
	m.leases = append(m.leases, l)
	s.life, s.grace = max(s.life, p.ent.Profile.Lifespan), max(s.grace, p.ent.Profile.Grace)
	return l
}

func (p *modelPool) lowestFree() int {
	for n := 1; ; n++ {
		taken := false
		for _, seats := range p.charges {
			taken = taken || slices.Contains(seats, n)
		}
		if !taken {
			return n
		}
	}
}

func (l *modelLease) seats() []int { return l.pool.charges[l.charge][:l.count] }

func (m *model) release(l *modelLease, why lease.Release) lease.Lost {
	m.leases = slices.DeleteFunc(m.leases, func(x *modelLease) bool { return x == l })
	need := 0
	for _, x := range m.leases {
		if x.pool == l.pool && x.charge == l.charge {
			need = max(need, x.count)
		}
	}
	l.pool.charges[l.charge] = l.pool.charges[l.charge][:need]
	if need == 0 {
		delete(l.pool.charges, l.charge)
	}
	l.pool.seatNanos += uint64(l.count) * uint64(m.now-l.since)
	end := lease.Lost{Ref: l.Ref, Feature: l.pool.ent.Feature, Reason: why}
	if why != lease.ReleasedNormal && why != lease.ReleasedClientExit {
		l.session.lost = append(l.session.lost, end)
		if n := len(l.session.lost); n > 64 {
			l.session.lost = l.session.lost[n-64:]
		}
	}
	return end
}

// reclaim ends the lease that is due longest among those of what is asked for.
func (m *model) reclaim(c lease.Checkout) bool {
	asked := map[string]bool{}
	for _, it := range c.Items {
		asked[it.Feature] = true
	}
	var first *modelLease
	for _, l := range m.leases {
		if l.session.tenant != c.Tenant || !asked[l.pool.ent.Feature] {
			continue
		}
		if m.due(l) <= m.now && (first == nil || m.due(l) < m.due(first) || m.due(l) == m.due(first) && l.handle < first.handle) {
			first = l
		}
	}
	if first != nil {
		m.release(first, lease.ReleasedMissedHeartbeat)
	}
	return first != nil
}

func (m *model) install(c lease.InstallLicence) *expected {
	x := c.Licence
	key := x.Tenant + "/" + x.ID
	if _, there := m.licences[key]; there && !c.Replace {
		return no(lease.Invalid)
	}
	serials := map[string]bool{}
	for k, o := range m.licences {
		for _, e := range o.Entitlements {
			serials[o.Vendor+"/"+e.Serial] = k != key
		}
	}
	for _, e := range x.Entitlements {
		if serials[x.Vendor+"/"+e.Serial] {
			return no(lease.Invalid)
		}
		serials[x.Vendor+"/"+e.Serial] = true
	}
	m.licences[key] = x
	for _, e := range x.Entitlements {
		if !slices.ContainsFunc(m.pools, func(p *modelPool) bool { return p.is(x, e) }) {
			m.pools = append(m.pools, &modelPool{tenant: x.Tenant, vendor: x.Vendor, ent: e, charges: map[string][]int{}, last: map[int]lease.Token{}})
		}
	}
	m.dropPools()
	return &expected{}
}

func (m *model) remove(c lease.RemoveLicence) *expected {
	if _, there := m.licences[c.Tenant+"/"+c.ID]; !there {
		return no(lease.Invalid)
	}
	delete(m.licences, c.Tenant+"/"+c.ID)
	m.dropPools()
	return &expected{}
}

// dropPools forgets pools that nobody licenses or uses; later ones of that name start
// above all tokens given so far.
func (m *model) dropPools() {
	had := len(m.pools)
	m.pools = slices.DeleteFunc(m.pools, func(p *modelPool) bool {
		for _, x := range m.licences {
			for _, e := range x.Entitlements {
				if p.is(x, e) {
					return false
				}
			}
		}
		return p.inUse() == 0
	})
	if len(m.pools) < had {
		m.floor = max(m.floor, m.high)
	}
}
