package lease

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What each tenant has in the ledger. A tenant is a name that requests bring, so anybody
// who may ask at all can invent one: what an invented one may cost is bounded here for all
// of them together.

const (
	// MaxUnleased is how many sessions a tenant may have that were opened by a request that
	// got no seat (refused, or still in the queue) and never had one since. They are there so
	// that the request sent again is answered alike; whoever asks again and again as somebody
	// else makes one each time. 16 MB; a tenant would have to turn away 400 runs of programs a
	// second for four minutes to meet it in earnest. All tenants without a licence have as many
	// together: they get nothing anyway.
	MaxUnleased = 100_000
	// unleasedRetry is when it makes sense to ask again then: the oldest are forgotten one by
	// one, and a request that does get a seat is never stopped.
	unleasedRetry = 5 * time.Second
	// unleasedRev is the revision of a session that never had a lease: there is none that
	// could expire by it, so its heartbeats do not raise it.
	unleasedRev = 1
)

// tenantUse is what is counted for one tenant; it is derived.
type tenantUse struct {
	sessions int // that are live
	unleased int // remembered, live or closed, that never had a lease
	pools    int
}

// TenantStatus is a tenant as it is shown.
type TenantStatus struct {
	Name string
	// Licences installed, and the pools that they bring or that are still in use.
	Licences, Pools int
	// Seats licensed now, in use, kept for somebody and waited for, over all pools. An
	// uncounted pool has no number of seats.
	Seats, InUse, Reserved, Queued int
	Uncounted                      bool
	Leases                         int
	// Sessions that are live; Unleased are those that never had a lease, closed ones too.
	Sessions, Unleased int
	// Policy says whether it has a policy.
	Policy bool
}

// Licensed says whether a tenant has a licence, or seats that are still in use. All others
// are names that somebody has used.
func (b *Book) Licensed(tenant string) bool {
	u := b.tenants[tenant]
	return u != nil && u.pools > 0
}

// LicensedTenants lists the tenants that Licensed is true of, in no order.
func (b *Book) LicensedTenants() (names []string) {
	for name, u := range b.tenants {
		if u.pools > 0 {
			names = append(names, name)
		}
	}
	return names
}

// Unleased is how many sessions are remembered that never had a lease: of all tenants, and
// those of tenants without a licence among them.
func (b *Book) Unleased() (all, strangers int) { return b.unleased, b.strangers }

// Tenants lists the tenants that have a licence, seats in use or a policy, and those named
// in also, by name; and what all others have together. It costs as much as a listing of
// the pools.
func (b *Book) Tenants(also []string) (list []TenantStatus, strangers Strangers) {
	by := map[string]*TenantStatus{}
	of := func(name string) *TenantStatus {
		if by[name] == nil {
			by[name] = &TenantStatus{Name: name}
		}
		return by[name]
	}
	for _, name := range also {
		of(name)
	}
	for _, x := range b.licences {
		of(x.Tenant).Licences++
	}
	for _, p := range b.policies {
		of(p.Tenant).Policy = true
	}
	b.pools.all(func(i uint32, p *PoolRecord) bool {
		if p.Feature == "" {
			return true
		}
		t := of(p.Tenant)
		t.Pools++
		if b.uncounted(p) {
			t.Uncounted = true
		} else {
			t.Seats = min(t.Seats+b.state[i].total, MaxSeats)
		}
		t.Leases += int(p.Grants - p.Releases)
		t.InUse, t.Reserved, t.Queued = t.InUse+int(p.Charged), t.Reserved+b.kept(i)+b.booked(i), t.Queued+b.waiting(i)
		return true
	})
	for name, u := range b.tenants {
		t := by[name]
		if t == nil {
			strangers.Tenants++
			strangers.Sessions += u.sessions
			strangers.Unleased += u.unleased
			continue
		}
		t.Sessions, t.Unleased = u.sessions, u.unleased
	}
	for _, t := range by {
		list = append(list, *t)
	}
	slices.SortFunc(list, func(x, y TenantStatus) int { return cmp.Compare(x.Name, y.Name) })
	return list, strangers
}

// Strangers are the tenants that are nothing but a name in somebody's request.
type Strangers struct{ Tenants, Sessions, Unleased int }

// countSession adds to what a tenant has: live sessions, and those that never had a lease.
func (b *Book) countSession(tenant string, live, unleased int) {
	u := b.useOf(tenant)
	u.sessions += live
	u.unleased += unleased
	b.unleased += unleased
	if u.pools == 0 {
		b.strangers += unleased
	}
	b.tidyTenant(tenant, u)
}

// countPool adds to the pools of a tenant. With the first it is no stranger any more.
func (b *Book) countPool(tenant string, n int) {
	u := b.useOf(tenant)
	if u.pools == 0 {
		b.strangers -= u.unleased
	}
	if u.pools += n; u.pools == 0 {
		b.strangers += u.unleased
	}
	b.tidyTenant(tenant, u)
}

func (b *Book) useOf(tenant string) *tenantUse {
	u := b.tenants[tenant]
	if u == nil {
		u = &tenantUse{}
		b.tenants[strings.Clone(tenant)] = u // the name may be part of a larger string
	}
	return u
}

func (b *Book) tidyTenant(tenant string, u *tenantUse) {
	if *u == (tenantUse{}) {
		delete(b.tenants, tenant)
	}
}

// turnedAway says that no session can be opened for a request that gets no seat; nil if one
// can. It is no answer that is remembered: the request has had no effect.
func (b *Book) turnedAway(tenant string) *Refusal {
	n, whose := b.strangers, "tenants without a licence have"
	if b.Licensed(tenant) {
		n, whose = b.tenants[tenant].unleased, "tenant "+tenant+" has"
	}
	if n < MaxUnleased {
		return nil
	}
	r := refuse(Overloaded, "no seat, and %s %d sessions already that never had one, the most that are remembered; nothing was done, try again later", whose, n)
	r.RetryAfter = unleasedRetry
	return r
}

// checkTenants counts again what is counted for tenants.
func (b *Book) checkTenants() error {
	again := Book{tenants: map[string]*tenantUse{}}
	b.pools.all(func(_ uint32, p *PoolRecord) bool {
		if p.Feature != "" {
			again.countPool(p.Tenant, 1)
		}
		return true
	})
	b.eachSession(func(i uint32, s *sessionRow) bool {
		again.countSession(b.owner(i).tenant(), s.liveCount(), s.unleasedCount())
		return true
	})
	if b.unleased != again.unleased || b.strangers != again.strangers || len(b.tenants) != len(again.tenants) {
		return fmt.Errorf("sessions without a lease: %d and %d of strangers counted, %d and %d there; %d tenants, %d there",
			b.unleased, b.strangers, again.unleased, again.strangers, len(b.tenants), len(again.tenants))
	}
	for name, u := range again.tenants {
		if have := b.tenants[name]; have == nil || *have != *u {
			return fmt.Errorf("tenant %s: %+v counted, %+v there", name, have, *u)
		}
	}
	return nil
}

func (r *sessionRow) liveCount() int {
	if r.closed() {
		return 0
	}
	return 1
}

func (r *sessionRow) unleasedCount() int {
	if r.Rev == unleasedRev {
		return 1
	}
	return 0
}
