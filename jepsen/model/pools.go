package model

import (
	"cmp"
	"math/big"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// pool is a set of chairs that may be used alike.
type pool struct {
	tenant, vendor string
	terms          history.Entitlement // feature, version, profile and share rule
	licensed       int                 // chairs that entitlements valid now add up to
	over, early    bool                // some entitlement has expired, or not begun
	chairs         map[int]*party      // taken ones
	lastToken      map[int]uint64
	parties        map[string]*party // share groups by key
}

// party sits on the chairs of one pool together: one ticket, or those of a share group.
type party struct {
	pool    *pool
	key     string // share group; empty: sits alone
	chairs  []int
	tickets []*ticket
}

// sameKind says whether an entitlement adds to the pool.
func (p *pool) sameKind(x *history.LicenceFile, e *history.Entitlement) bool {
	t := &p.terms
	return p.tenant == x.Tenant && p.vendor == x.Vendor && t.Feature == e.Feature && t.Version == e.Version &&
		t.LifespanNS == e.LifespanNS && t.GraceNS == e.GraceNS && t.ShareBy == e.ShareBy && t.ShareMax == e.ShareMax
}

// free is how many chairs may still be given.
func (p *pool) free() int { return max(0, p.licensed-len(p.chairs)) }

// known says whether an installed licence has the pool at all.
func (p *pool) known() bool { return p.licensed > 0 || p.over || p.early }

// shareKey names the share group of a principal; empty if it cannot share.
func (p *pool) shareKey(s *session) string {
	if p.terms.ShareBy == "" {
		return ""
	}
	var parts []string
	for _, letter := range p.terms.ShareBy {
		x := map[rune]string{'u': s.user, 'h': s.host, 'd': s.display, 'v': s.vendorDefined}[letter]
		if x == "" {
			return ""
		}
		parts = append(parts, x)
	}
	return strings.Join(parts, "\x00")
}

// compareVersions compares decimals; the empty version is below all.
func compareVersions(a, b string) int {
	if a == "" || b == "" {
		return cmp.Compare(len(a), len(b))
	}
	x, okA := new(big.Rat).SetString(a)
	y, okB := new(big.Rat).SetString(b)
	if !okA || !okB {
		return strings.Compare(a, b)
	}
	return x.Cmp(y)
}

// recount adds the entitlements that are valid at the calendar.
func (h *House) recount() {
	for _, p := range h.pools {
		p.licensed, p.over, p.early = 0, false, false
	}
	h.dated = false
	for _, x := range h.licences {
		for i := range x.Entitlements {
			e := &x.Entitlements[i]
			p := h.poolOf(x, e)
			h.dated = h.dated || e.StartMS != 0 || e.ExpiryMS != 0
			switch {
			case e.ExpiryMS != 0 && e.ExpiryMS <= h.Calendar:
				p.over = true
			case e.StartMS > h.Calendar:
				p.early = true
			default:
				p.licensed += e.Count
			}
		}
	}
}

func (h *House) poolOf(x *history.LicenceFile, e *history.Entitlement) *pool {
	for _, p := range h.pools {
		if p.sameKind(x, e) {
			return p
		}
	}
	p := &pool{tenant: x.Tenant, vendor: x.Vendor, terms: *e,
		chairs: map[int]*party{}, lastToken: map[int]uint64{}, parties: map[string]*party{}}
	h.pools = append(h.pools, p)
	slices.SortStableFunc(h.pools, func(a, b *pool) int {
		return cmp.Or(compareVersions(a.terms.Version, b.terms.Version), cmp.Compare(a.vendor, b.vendor), cmp.Compare(a.terms.Version, b.terms.Version),
			cmp.Compare(a.terms.LifespanNS, b.terms.LifespanNS), cmp.Compare(a.terms.GraceNS, b.terms.GraceNS),
			cmp.Compare(a.terms.ShareBy, b.terms.ShareBy), cmp.Compare(a.terms.ShareMax, b.terms.ShareMax))
	})
	return p
}

func (h *House) install(c *history.Command) {
	x := c.Licence
	if x == nil {
		h.wrong("the dump does not show the licence")
		return
	}
	at := slices.IndexFunc(h.licences, func(o *history.LicenceFile) bool { return o.Tenant == x.Tenant && o.ID == x.ID })
	want := ""
	if at >= 0 && !c.Replace || h.countedTwice(x) {
		want = "invalid"
	}
	h.agree(c, want)
	if c.Result.Reason != "" {
		return
	}
	if at >= 0 {
		h.licences = slices.Delete(h.licences, at, at+1)
		h.lifted = true // a pool that goes may lift the tokens
	}
	h.licences = append(h.licences, x)
	h.recount()
}

// countedTwice says whether a serial of the licence is counted elsewhere already.
func (h *House) countedTwice(x *history.LicenceFile) bool {
	seen := map[string]bool{}
	for _, o := range h.licences {
		if o.Vendor == x.Vendor && (o.Tenant != x.Tenant || o.ID != x.ID) {
			for _, e := range o.Entitlements {
				seen[e.Serial] = true
			}
		}
	}
	for _, e := range x.Entitlements {
		if seen[e.Serial] && e.Serial != "" {
			return true
		}
		seen[e.Serial] = true
	}
	return false
}

func (h *House) remove(c *history.Command) {
	at := slices.IndexFunc(h.licences, func(o *history.LicenceFile) bool { return o.Tenant == c.Tenant && o.ID == c.LicenceID })
	want := ""
	if at < 0 {
		want = "invalid"
	}
	if h.agree(c, want) {
		h.licences = slices.Delete(h.licences, at, at+1)
		h.lifted = true
		h.recount()
	}
}

// fence is the start of the time after a restore.
func (h *House) fence(c *history.Command) {
	h.agree(c, "")
	longest := standardLife + standardGrace
	for _, p := range h.pools {
		longest = max(longest, p.terms.LifespanNS+p.terms.GraceNS)
	}
	h.closedUntil = max(h.closedUntil, h.Now+longest)
	h.minToken = max(h.minToken, h.topToken+restoreLift)
	h.lifted = true
}

// PoolUse is how full the pools of one feature and version are.
type PoolUse struct{ Licensed, Taken int }

// Pools gives the use of all pools by tenant, feature and version.
func (h *House) Pools() map[[3]string]PoolUse {
	m := map[[3]string]PoolUse{}
	for _, p := range h.pools {
		if !p.known() && len(p.chairs) == 0 {
			continue
		}
		k := [3]string{p.tenant, p.terms.Feature, p.terms.Version}
		u := m[k]
		m[k] = PoolUse{u.Licensed + p.licensed, u.Taken + len(p.chairs)}
	}
	return m
}
