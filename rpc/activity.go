package rpc

import "time"

const (
	// activeFor is how long a tenant, or a client of one, counts as active after its last request,
	// and once more after that.
	activeFor = time.Second
	// maxActive bounds the tenants that are remembered as active, and the clients of one; for "is
	// there another" two would do.
	maxActive = 256
	// maxQuietAsks is what a quiet tenant or client asks for at once, at most: half of what one of
	// many tenants that are active may have.
	maxQuietAsks = DefaultInFlightShared / 2
)

// activity knows which tenants (or which clients of one tenant) asked for something lately, and
// whether one of them is quiet: it asks for little, so it is the one whom the others' haste would
// make wait. It belongs to admission's lock. All is O(1) but the turn of a span, which looks at
// maxActive at most.
type activity[K comparable] struct {
	of    map[K]*presence
	since time.Time // when this span of activeFor began
	quiet int       // of them are
}

// presence is what is known of one that is active.
type presence struct {
	here bool // seen in this span
	// most were asking or reading at once in this span, inside and waiting, and in the span before.
	most, before int
}

// quiet says that it asks, and for little. One that only keeps what it has does not mind
// milliseconds.
func (p *presence) quiet() bool {
	most := max(p.most, p.before)
	return most > 0 && most <= maxQuietAsks
}

// see notes that one is active, and tells how many are when a span has ended.
func (v *activity[K]) see(now time.Time, who K) (active int, turned bool) {
	if age := now.Sub(v.since); age >= activeFor {
		if age >= 2*activeFor {
			clear(v.of)
		}
		v.turn(now)
		active, turned = len(v.of), true
	}
	p := v.of[who]
	if p == nil {
		if len(v.of) >= maxActive {
			return active, turned
		}
		if v.of == nil {
			v.of = make(map[K]*presence)
		}
		p = &presence{}
		v.of[who] = p
	}
	p.here = true
	return active, turned
}

func (v *activity[K]) turn(now time.Time) {
	v.since, v.quiet = now, 0
	for who, p := range v.of {
		if !p.here {
			delete(v.of, who)
			continue
		}
		*p = presence{before: p.most}
		if p.quiet() {
			v.quiet++
		}
	}
}

// asking notes how many requests of one ask or read at this moment.
func (v *activity[K]) asking(who K, n int) {
	p := v.of[who]
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

// shared says that more than one is active.
func (v *activity[K]) shared() bool { return len(v.of) > 1 }

// besideQuiet says that another than this one is quiet.
func (v *activity[K]) besideQuiet(who K) bool {
	others := v.quiet
	if others > 0 && v.isQuiet(who) {
		others--
	}
	return others > 0
}

// isQuiet says that this one is.
func (v *activity[K]) isQuiet(who K) bool {
	p := v.of[who]
	return p != nil && p.quiet()
}
