package lease

import (
	"fmt"
	"slices"
	"time"
)

// What a policy sets for leases beside who may have how many: how long they live, linger
// and stay, when an idle one is taken back, and how far a pool may be overdrawn.

// profileOf is how long a lease lives without a heartbeat: what the policy set when it was
// granted, else its pool's. It stays as it is for as long as the lease lives: a policy
// applied later must not end it earlier than its holder was told.
func (b *Book) profileOf(slot uint32) Profile {
	if p := b.profiles.at(slot); p != nil && p.Lifespan > 0 {
		return *p
	}
	return b.pools.at(b.groups.at(b.leases.at(slot).Group).Pool).Profile
}

// deadlineOf is when a lease turns expiring.
func (b *Book) deadlineOf(slot uint32) Time {
	return b.sessions.at(b.leases.at(slot).Session).Renewed.Add(b.profileOf(slot).Lifespan)
}

// setProfile gives a new lease the profile that the policy sets for it.
func (b *Book) setProfile(slot, pool, session uint32) {
	x := b.rulesOf(pool)
	if x == nil || len(x.rules[RuleProfile]) == 0 {
		return
	}
	if r := x.setting(RuleProfile, x.tenant.match.of(b.principalOf(session))); r != nil {
		*b.profiles.mut(b.gen, slot) = Profile{r.Time, r.Grace}
	}
}

func (b *Book) dropProfile(slot uint32) {
	if p := b.profiles.at(slot); p != nil && p.Lifespan > 0 {
		*b.profiles.mut(b.gen, slot) = Profile{}
	}
}

// longestProfile is the longest lifespan and grace that a policy sets, or that a live lease
// has of a policy that was replaced since.
func (b *Book) longestProfile() (longest time.Duration) {
	for _, p := range b.policies {
		for i := range p.Rules {
			if r := &p.Rules[i]; r.Kind == RuleProfile {
				longest = max(longest, r.Time+r.Grace)
			}
		}
	}
	b.profiles.all(func(_ uint32, p *Profile) bool {
		longest = max(longest, p.Lifespan+p.Grace)
		return true
	})
	return longest
}

// profile notes that the lease has a profile of its own.
func (l *Loader) profile(slot uint32, p Profile) {
	if p == (Profile{}) {
		return
	}
	if p.Lifespan < MinLifespan || p.Lifespan > MaxLifespan || p.Grace < 0 || p.Grace > MaxGrace {
		l.fail("lease slot %d has an impossible profile", slot)
		return
	}
	*l.b.profiles.mut(l.b.gen, slot) = p
}

// giveBack ends a lease by its holder's word: at once, or when it has lingered and lasted
// as long as policy and licence want. A seat that lingers is charged and held by nobody;
// the same principal may take it up again.
func (b *Book) giveBack(slot uint32, why Release) Released {
	l := b.leases.at(slot)
	pool := b.groups.at(l.Group).Pool
	p := b.pools.at(pool)
	linger, least := p.LingerMin, p.MinCheckout
	if x, is := b.rulesForSession(pool, l.Session); x != nil {
		if r := x.setting(RuleLinger, is); r != nil {
			linger = max(linger, r.Time)
		}
		if r := x.setting(RuleMinCheckout, is); r != nil {
			least = max(least, r.Time)
		}
	}
	end := max(b.Now().Add(linger), l.Granted.Add(least))
	if end <= b.Now() || b.pinAt(slot) != nil || Broken(GuardLinger) {
		return b.release(slot, why)
	}
	b.pin(slot, Pin{Kind: PinLingering, End: end})
	return Released{Ref: Ref{l.id(slot), l.Token}, Feature: p.Feature, Count: int(l.Count), Reason: why}
}

// lingerKey is who may take a lingering seat up again.
type lingerKey struct {
	pool uint32
	who  Principal
}

func (b *Book) lingerKeyOf(slot uint32) lingerKey {
	l := b.leases.at(slot)
	return lingerKey{b.groups.at(l.Group).Pool, b.principalOf(l.Session)}
}

// noteLingering makes a lingering lease findable by its principal.
func (b *Book) noteLingering(slot uint32) {
	k := b.lingerKeyOf(slot)
	list := append(slices.Clone(b.policing.lingering[k]), slot)
	slices.Sort(list) // which is taken up first must not depend on the order of what happened
	if b.policing.lingering == nil {
		b.policing.lingering = map[lingerKey][]uint32{}
	}
	b.policing.lingering[k] = list
}

// dropLingering forgets a lease that ends, if it lingers.
func (b *Book) dropLingering(slot uint32) {
	if p := b.pinAt(slot); p == nil || p.Kind != PinLingering {
		return
	}
	k := b.lingerKeyOf(slot)
	list := slices.DeleteFunc(slices.Clone(b.policing.lingering[k]), func(x uint32) bool { return x == slot })
	if len(list) == 0 {
		delete(b.policing.lingering, k)
		return
	}
	b.policing.lingering[k] = list
}

// findLingering rebuilds the index of lingering leases.
func (b *Book) findLingering() {
	b.policing.lingering = nil
	b.pins.all(func(slot uint32, p **Pin) bool {
		if *p != nil && (*p).Kind == PinLingering {
			b.noteLingering(slot)
		}
		return true
	})
}

// takesUp is a lingering lease of the pool that a principal takes up again by asking; 0:
// none. What draws on another pool is not taken up: its price is charged by the lease.
func (b *Book) takesUp(pool uint32, who Principal) uint32 {
	if len(b.policing.lingering) == 0 || who == (Principal{}) || b.pools.at(pool).Draw.Of != "" {
		return 0
	}
	if list := b.policing.lingering[lingerKey{pool, who}]; len(list) > 0 {
		return list[0]
	}
	return 0
}

// lingerSeats is how many seats come free for the one who takes the lease up.
func (b *Book) lingerSeats(slot uint32) int {
	if slot == 0 || len(b.members(b.leases.at(slot).Group)) > 1 {
		return 0 // its seats are its group's, which is joined
	}
	return len(b.seats(b.leases.at(slot).Group))
}

// reclaimIdle takes back what a session holds and nobody works with, when the policy says
// so. Before the vendor's floor nothing is taken.
func (b *Book) reclaimIdle(s *sessionRow, idle time.Duration) {
	if idle <= 0 || len(b.policing.tenants) == 0 {
		return
	}
	var gone []uint32
	b.each(s, func(slot uint32, l *leaseRow) {
		pool := b.groups.at(l.Group).Pool
		x, is := b.rulesForSession(pool, l.Session)
		if r := x.setting(RuleIdleTimeout, is); r != nil && b.pinAt(slot) == nil && idle >= max(r.Time, idleFloor(b.pools.at(pool))) {
			gone = append(gone, slot)
		}
	})
	for _, slot := range gone {
		b.release(slot, ReleasedTimeout)
	}
}

// idleFloor is the least idle time after which a seat of the pool may be taken back.
func idleFloor(p *PoolRecord) time.Duration {
	if p.IdleFloor > 0 {
		return p.IdleFloor
	}
	return MinIdleTimeout
}

// killRefused says why an operator may not take a lease back yet; nil: it may be.
func (b *Book) killRefused(slot uint32) *Refusal {
	l := b.leases.at(slot)
	x, is := b.rulesForSession(b.groups.at(l.Group).Pool, l.Session)
	r := x.setting(RuleMinKill, is)
	if r == nil {
		return nil
	}
	if left := l.Granted.Add(r.Time).Sub(b.Now()); left > 0 {
		refusal := refuse(TooSoon, "the policy lets lease %d be taken back only %v after its checkout; nothing was taken back, try again in %v", l.id(slot), r.Time, left.Round(time.Second))
		refusal.RetryAfter = left
		return refusal
	}
	return nil
}

// overdraft is how many seats of a pool above its total may be used: what the licence
// grants, as far as the policy allows it.
func (b *Book) overdraft(pool uint32) int {
	most := b.state[pool].overdraft
	x := b.rulesOf(pool)
	if most == 0 || x == nil || len(x.rules[RuleMaxOverdraft]) == 0 {
		return 0
	}
	return min(most, x.tenant.policy.Rules[x.rules[RuleMaxOverdraft][0]].Seats)
}

// aboveCount says whether a lease has a seat above the licensed count. Seats are given out
// lowest first, so their numbers tell.
func (b *Book) aboveCount(slot uint32) bool {
	l := b.leases.at(slot)
	total := b.state[b.groups.at(l.Group).Pool].total
	return total > 0 && slices.Max(b.seats(l.Group)) > uint32(total)
}

// softAlarms lists the soft limits that are passed.
func (b *Book) softAlarms() (list []string) {
	for _, p := range b.policies {
		for i := range p.Rules {
			r := &p.Rules[i]
			if r.Kind != RuleSoftLimit {
				continue
			}
			used := 0
			name, _, _, _ := SplitSelector(r.Feature)
			for _, at := range b.poolsByFeature[featureKey{p.Tenant, name}] {
				if pool := b.pools.at(at); selects(r.Feature, pool) {
					used += int(pool.Charged)
				}
			}
			if used > r.Seats {
				list = append(list, fmt.Sprintf("feature %s of tenant %s: %s in use, above the soft limit of %d", r.Feature, p.Tenant, seatsText(used), r.Seats))
			}
		}
	}
	return list
}
