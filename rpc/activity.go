package rpc

import "time"

const (
	// activeFor is how long a tenant counts as active after its last request, and once more
	// after that.
	activeFor = time.Second
	// maxActive bounds the tenants that are remembered as active; for "is there another"
	// two would do.
	maxActive = 256
	// maxQuietAsks is what a quiet tenant asks for at once, at most: half of what one of many
	// that are active may have.
	maxQuietAsks = DefaultInFlightShared / 2
)

// activity knows which tenants asked for something lately, and whether one of them is quiet:
// it asks for little, so it is the one whom the others' haste would make wait. It belongs to
// admission's lock. All is O(1) but the turn of a span, which looks at maxActive at most.
type activity struct {
	of    map[string]*presence
	since time.Time // when this span of activeFor began
	quiet int       // tenants that are
}

// presence is what is known of an active tenant.
type presence struct {
	here bool // seen in this span
	// most were asking or reading at once in this span, inside and waiting, and in the span before.
	most, before int
}

// quiet says that a tenant asks, and for little. One that only keeps what it has does not mind
// milliseconds.
func (p *presence) quiet() bool {
	most := max(p.most, p.before)
	return most > 0 && most <= maxQuietAsks
}

// see notes that a tenant is active, and tells how many are when a span has ended.
func (v *activity) see(now time.Time, tenant string) (active int, turned bool) {
	if age := now.Sub(v.since); age >= activeFor {
		if age >= 2*activeFor {
			clear(v.of)
		}
		v.turn(now)
		active, turned = len(v.of), true
	}
	p := v.of[tenant]
	if p == nil {
		if len(v.of) >= maxActive {
			return active, turned
		}
		p = &presence{}
		v.of[tenant] = p
	}
	p.here = true
	return active, turned
}

func (v *activity) turn(now time.Time) {
	v.since, v.quiet = now, 0
	for tenant, p := range v.of {
		if !p.here {
			delete(v.of, tenant)
			continue
		}
		*p = presence{before: p.most}
		if p.quiet() {
			v.quiet++
		}
	}
}

// asking notes how many requests of a tenant ask or read at this moment.
func (v *activity) asking(tenant string, n int) {
	p := v.of[tenant]
	if p == nil || n <= p.most {
		return
	}
	was := p.quiet()
	p.most = n
	switch is := p.quiet(); {
	case is && !was:
		v.quiet++
	case was && !is:
		v.quiet--
	}
}

// shared says that more than one tenant is active.
func (v *activity) shared() bool { return len(v.of) > 1 }

// besideQuiet says that another tenant than this one is quiet.
func (v *activity) besideQuiet(tenant string) bool {
	others := v.quiet
	if p := v.of[tenant]; others > 0 && p != nil && p.quiet() {
		others--
	}
	return others > 0
}
