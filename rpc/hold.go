package rpc

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// maxHeld bounds the requests that are held back on this node; each is a stream and a
	// goroutine, some 10 KiB.
	maxHeld = 2048
	// maxPenalties bounds the clients that are remembered as refused.
	maxPenalties = 8192
	// early is how much sooner than asked a client may come back without being held: its
	// timer may be a little fast.
	early = 20 * time.Millisecond
	// heldApart is the time over which requests of one client that are held together come back:
	// as long as refusals spread those of many clients.
	heldApart = time.Second
	// remembered is how long after its time a refused client is known.
	remembered = 10 * time.Second
	// strangersPart is the part of these that all strangers have together, beside the others.
	strangersPart = 8
)

// penalties remembers who was refused, how often, and when it may come back. Refusing is
// what costs under a surge: a client that comes back at once is refused thousands of times
// in a second. It is held instead until the time it was given, so that ignoring Retry-After
// brings no more than heeding it. Who was refused goes before those who were not: see
// makePlace.
type penalties struct {
	of    map[penalized]penalty
	held  int
	swept time.Time
	// what there may be of both
	maxHeld, max int
}

// penaltiesOf are those that a ticket is about.
func (a *admission) penaltiesOf(t *ticket) *penalties {
	if t.tenant == strangers {
		return &a.strange
	}
	return &a.penalties
}

type penalized struct {
	tenant string
	client client
}

type penalty struct {
	until time.Time
	times int // refused since it was last let in
	held  int // of its requests
}

// punish notes when a refused client may come back.
func (a *admission) punish(t *ticket, after time.Duration) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.penaltiesOf(t)
	if p.of == nil {
		p.of = make(map[penalized]penalty)
	}
	if len(p.of) >= p.max || now.Sub(p.swept) > remembered {
		p.sweep(now)
	}
	who := penalized{t.tenant, t.client}
	if old, found := p.of[who]; found || len(p.of) < p.max {
		p.of[who] = penalty{until: now.Add(after), times: old.times + 1, held: old.held}
	}
}

func (p *penalties) sweep(now time.Time) {
	p.swept = now
	for who, x := range p.of {
		if now.Sub(x.until) > remembered {
			delete(p.of, who)
		}
	}
}

// hold keeps a request of a client that came back too soon until it may. It fails when
// as many are held already as may be, or ctx ends.
func (a *admission) hold(ctx context.Context, t *ticket) error {
	if t.class == keeping || t.again {
		return nil
	}
	wait := a.sentence(t)
	if wait == 0 {
		return nil
	}
	if !a.holdMore(t, 1) {
		return a.refuse(t, "held")
	}
	defer a.holdMore(t, -1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sentence is how long a request of a client has to be held; the ticket learns how often the
// client was refused. Where others of its requests are held already, this one is held longer, by
// chance: hundreds that came in together are not to be refused together again.
func (a *admission) sentence(t *ticket) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.penaltiesOf(t).of[penalized{t.tenant, t.client}]
	t.refused = x.times
	wait := time.Until(x.until)
	if x.times == 0 || wait <= early {
		return 0
	}
	if x.held > 0 {
		wait += rand.N(heldApart)
	}
	return wait
}

// forgive forgets that a client was refused: it is inside now.
func (a *admission) forgive(t *ticket) {
	if t.refused > 0 {
		delete(a.penaltiesOf(t).of, penalized{t.tenant, t.client})
		t.refused = 0
	}
}

func (a *admission) holdMore(t *ticket, n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.penaltiesOf(t)
	if p.held+n > p.maxHeld {
		return false
	}
	p.held += n
	who := penalized{t.tenant, t.client}
	if x, found := p.of[who]; found { // else it was let in or forgotten meanwhile
		x.held = max(0, x.held+n)
		p.of[who] = x
	}
	a.metrics.held.Set(float64(a.penalties.held + a.strange.held))
	return true
}
