package rpc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// class says what a method is worth under load.
type class uint8

const (
	// asking methods want something new; they are refused first.
	asking class = iota
	// keeping methods hold or free what was given before, or let an operator see and
	// act: refusing a heartbeat costs a lease, refusing a check-in costs a seat.
	keeping
)

// keepingFactor is how many more keeping requests than asking ones a tenant may have
// in flight: a fleet's heartbeats come in bursts.
const keepingFactor = 4

// askingShare is the part of the room for all tenants that asking requests may fill;
// the rest stays free for keeping ones.
const askingShare = 0.75

var askingMethods = map[string]bool{
	pb.Seats_Checkout_FullMethodName:      true,
	pb.Seats_Preview_FullMethodName:       true,
	pb.Cluster_Leases_FullMethodName:      true,
	pb.Cluster_Usage_FullMethodName:       true,
	pb.Cluster_LicenseList_FullMethodName: true,
}

func classOf(method string) class {
	if askingMethods[method] {
		return asking
	}
	return keeping
}

// admission bounds the requests in flight, per tenant and class and altogether. Work
// per request is O(1), memory O(requests in flight).
type admission struct {
	perTenant, total int
	wait             time.Duration
	all              atomic.Int64

	mu      sync.Mutex
	tenants map[tenantClass]*gate
}

type tenantClass struct {
	tenant string
	class  class
}

// gate is the room of one tenant for one class. It lives while somebody uses it.
type gate struct {
	slots chan struct{}
	users int // requests inside or waiting; guarded by admission.mu
}

func newAdmission(perTenant, total int, wait time.Duration) *admission {
	return &admission{perTenant: perTenant, total: total, wait: wait, tenants: make(map[tenantClass]*gate)}
}

// ticket is the right to be worked on. It may be given back and asked for again.
type ticket struct {
	a    *admission
	key  tenantClass
	gate *gate // nil: not inside
}

// enter waits a moment for room. It fails with "overloaded".
func (t *ticket) enter(ctx context.Context) error {
	a := t.a
	room := int64(a.total)
	if t.key.class == asking {
		room = int64(float64(a.total) * askingShare)
	}
	if a.all.Add(1) > room {
		a.all.Add(-1)
		return overloaded("this node has all the requests in flight that it takes")
	}
	g := a.join(t.key)
	if g == nil {
		a.all.Add(-1)
		return overloaded("tenant " + t.key.tenant + " has too many requests waiting")
	}
	select {
	case g.slots <- struct{}{}:
		t.gate = g
		return nil
	default:
	}
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	var err error
	select {
	case g.slots <- struct{}{}:
		t.gate = g
		return nil
	case <-timer.C:
		err = overloaded("tenant " + t.key.tenant + " has too many requests in flight")
	case <-ctx.Done():
		err = ctx.Err()
	}
	a.part(t.key, g)
	a.all.Add(-1)
	return err
}

// leave gives the ticket back; a second call does nothing.
func (t *ticket) leave() {
	if t.gate == nil {
		return
	}
	<-t.gate.slots
	t.a.part(t.key, t.gate)
	t.a.all.Add(-1)
	t.gate = nil
}

// join finds or makes the gate, nil when as many wait at it as are let in.
func (a *admission) join(key tenantClass) *gate {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.tenants[key]
	if g == nil {
		room := a.perTenant
		if key.class == keeping {
			room *= keepingFactor
		}
		g = &gate{slots: make(chan struct{}, room)}
		a.tenants[key] = g
	}
	if g.users >= 2*cap(g.slots) {
		return nil
	}
	g.users++
	return g
}

func (a *admission) part(key tenantClass, g *gate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g.users--; g.users == 0 {
		delete(a.tenants, key)
	}
}
