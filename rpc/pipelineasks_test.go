package rpc

import (
	"fmt"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// A stream gets no more at once than unary calls do, and its heartbeats pass by.
func TestPipelinedCheckoutsKeepToTheLimitsOfTheirTenant(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.InFlight, c.AdmitWait = 3, 20*time.Millisecond })
	id, secret, _ := a.checkout(t, "cad", "ann")
	hold := make(chan struct{})
	node.set(func() { node.hold = hold })
	p := a.pipe(t)
	for i := range uint64(3) {
		p.send(asksAs(i, fmt.Sprint("user-", i)))
	}
	eventually(t, "three are in flight", func() bool { node.mu.Lock(); defer node.mu.Unlock(); return node.held == 3 })
	p.send(asksAs(3, "late"))
	r := p.answer()
	wantProblem(t, r, lease.Overloaded)
	if r.Number != 3 || r.GetProblem().GetRetryAfterMs() == 0 {
		t.Error(r)
	}
	wantRefusal(t, a.post(t, "/v1/checkout", `{"feature":"cad","user":"unary"}`), 429, lease.Overloaded)
	p.send(renewal(4, id, secret), returns(5, &pb.CheckinRequest{SessionId: id, SessionSecret: secret}))
	for n, r := range p.answers(2) {
		if r.GetProblem() != nil {
			t.Errorf("answer %d beside a full tenant: %v", n, r)
		}
	}
	p.send(asks(6, &pb.CheckoutRequest{Feature: "cad", Tenant: "other"}))
	eventually(t, "another tenant's is in flight", func() bool { node.mu.Lock(); defer node.mu.Unlock(); return node.held == 4 })
	close(hold)
	for n, r := range p.answers(4) {
		if n == 6 {
			wantProblem(t, r, lease.NoFeature)
		} else if r.GetCheckout() == nil {
			t.Errorf("answer %d: %v", n, r)
		}
	}
	a.empty(t)
}

// empty waits until nothing of admission is in use.
func (a *api) empty(t *testing.T) {
	t.Helper()
	eventually(t, "all places are free again", func() bool {
		a.admission.mu.Lock()
		defer a.admission.mu.Unlock()
		if len(a.admission.tenants) > 0 || a.admission.all > 0 || a.admission.penalties.held > 0 || !a.streamed.TryAcquire(streamedAtOnce) {
			return false
		}
		a.streamed.Release(streamedAtOnce)
		return true
	})
}

// A checkout in the line goes on as soon as there is room, and the others of its stream
// do not wait for it.
func TestPipelinedCheckoutsWaitInLine(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.InFlight, c.AdmitWait = 1, 10*time.Second })
	hold := make(chan struct{})
	node.set(func() { node.hold = hold })
	p := a.pipe(t)
	p.send(asksAs(1, "ann"), asksAs(2, "bob"), asksAs(3, "eve"))
	eventually(t, "two are in the line", func() bool { return a.inLine() == 2 })
	p.send(asksAs(4, "max")) // the line is full: it holds two for each place
	if r := p.answer(); r.Number != 4 {
		t.Errorf("%v", r)
	}
	close(hold)
	for n, r := range p.answers(3) {
		if r.GetCheckout() == nil {
			t.Errorf("answer %d: %v", n, r)
		}
	}
	a.empty(t)
}

func (a *api) inLine() int {
	a.admission.mu.Lock()
	defer a.admission.mu.Unlock()
	if r := a.admission.tenants[lease.DefaultTenant]; r != nil {
		return r.waiting(0)
	}
	return 0
}

// Who was refused and comes back at once is held until its time is over; the rest of the
// stream is not.
func TestPipelinedCheckoutOfARefusedClientIsHeld(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.InFlight, c.AdmitWait = 1, time.Millisecond })
	hold := make(chan struct{})
	node.set(func() { node.hold = hold })
	p := a.pipe(t)
	p.send(asksAs(1, "ann"))
	eventually(t, "one is in flight", func() bool { node.mu.Lock(); defer node.mu.Unlock(); return node.held == 1 })
	p.send(asksAs(2, "rude"))
	r := p.answer()
	wantProblem(t, r, lease.Overloaded)
	close(hold)
	p.answer()
	began := time.Now()
	p.send(asksAs(3, "rude"))
	p.send(asksAs(4, "bob"))
	if r := p.answer(); r.Number != 4 || r.GetCheckout() == nil {
		t.Errorf("another client: %v", r)
	}
	if r := p.answer(); r.Number != 3 || r.GetCheckout() == nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("after %v: %v, want a seat after half a second", time.Since(began), r)
	}
	a.empty(t)
}

// Whatever a stream has on its way when it is cut off, its places come free.
func TestPipelineThatIsCutGivesItsPlacesBack(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, func(c *Config) { c.InFlight, c.AdmitWait = 2, 10*time.Second })
	id, secret, _ := a.checkout(t, "cad", "ann")
	node.set(func() { node.holdMany = make(chan struct{}) })
	p := a.pipe(t)
	p.send(renewal(1, id, secret), asksAs(2, "ann"), asksAs(3, "bob"), asksAs(4, "eve"), asksAs(5, "max"))
	eventually(t, "some are on their way, some in the line", func() bool { return a.inLine() == 2 })
	a.admission.punish(&ticket{tenant: lease.DefaultTenant, class: asking, client: client{"rude", "ws1"}}, 10*time.Second)
	p.send(asksAs(6, "rude"))
	eventually(t, "one is held", func() bool {
		a.admission.mu.Lock()
		defer a.admission.mu.Unlock()
		return a.admission.penalties.held == 1
	})
	p.cancel()
	a.empty(t)
	eventually(t, "the connection counts none", func() bool { return a.pipelines.Load() == 0 })
}

// A full proposer refuses what asks, not what keeps.
func TestPipelineKeepsBeforeItAsks(t *testing.T) {
	node := newFakeNode(t)
	a := startAPI(t, node, nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	p := a.pipe(t)
	p.send(asksAs(1, "ann"), renewal(2, id, secret))
	p.answers(2)
	node.set(func() {
		if _, keeps := node.proposed[len(node.proposed)-2].(lease.Renew); !keeps {
			t.Errorf("proposed in the order %T", node.proposed)
		}
		node.most = 2
	})
	p.send(asksAs(1, "bob"), renewal(2, id, secret), asksAs(3, "eve"), renewal(4, id, secret))
	got := p.answers(4)
	for n, r := range got {
		if n%2 == 1 {
			wantProblem(t, r, lease.Overloaded)
		} else if r.GetRenewed() == nil {
			t.Errorf("answer %d: %v", n, r)
		}
	}
	a.empty(t)
}

// Renewals of all streams have a bound: a stream waits for its turn, and when it is cut off
// meanwhile, what it has beside them comes free.
func TestPipelineWaitsForItsTurnAmongTheStreams(t *testing.T) {
	a := startAPI(t, newFakeNode(t), nil)
	id, secret, _ := a.checkout(t, "cad", "ann")
	if !a.streamed.TryAcquire(streamedAtOnce) {
		t.Fatal("not all turns are free")
	}
	waits, cut := a.pipe(t), a.pipe(t)
	waits.send(renewal(1, id, secret))
	cut.send(renewal(1, id, secret), asksAs(2, "bob"))
	eventually(t, "one checkout has a place", func() bool { a.admission.mu.Lock(); defer a.admission.mu.Unlock(); return a.admission.all == 1 })
	cut.cancel()
	eventually(t, "it has none", func() bool { a.admission.mu.Lock(); defer a.admission.mu.Unlock(); return a.admission.all == 0 })
	a.streamed.Release(streamedAtOnce)
	if r := waits.answer(); r.GetRenewed() == nil {
		t.Error(r)
	}
	a.empty(t)
}
