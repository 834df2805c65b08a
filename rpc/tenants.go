package rpc

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

const (
	// DefaultInFlightStrangers requests of all tenants that nobody has licensed are worked on
	// at once. They can only be refused; a few places answer them as fast as anybody can read,
	// and half of what one of two active tenants has cannot slow that one down.
	DefaultInFlightStrangers = 8

	// strangers is the room of all tenants that nobody knows; no tenant is called so.
	strangers = ""
	// knownFor is how long a tenant is taken for known without looking again: its licence may
	// be gone.
	knownFor = 5 * time.Second
	// lookAgain is how often the ledger is looked at because of an unknown name, at most: a
	// tenant that was just licensed is known a moment later, and a flood of names costs no more
	// than five looks a second.
	lookAgain = 200 * time.Millisecond
	// maxTurnedAway bounds the tenants whose turned-away requests are counted one by one.
	maxTurnedAway = 4096
)

// roomFor is the room of admission in which a call for a tenant belongs: its own, if it has
// a licence, seats in use or a token, else that of all strangers. Whoever may ask at all can
// invent a tenant, so a name alone gets nothing that others would miss. An operator's token
// is trusted with names: the first licence of a tenant comes by it.
func (s *Server) roomFor(tenant string, who caller) string {
	switch {
	case who.Token != nil && (who.Token.Tenant == tenant || who.Token.Role != access.Client):
	case tenant == lease.DefaultTenant: // everybody's who names none
	case s.known.has(tenant):
	default:
		s.metrics.strangers.Inc()
		return strangers
	}
	return tenant
}

// knownTenants remembers for a moment which tenants are more than a name.
type knownTenants struct {
	node  Node
	mu    sync.Mutex // held by who looks
	found atomic.Pointer[tenantsFound]
}

type tenantsFound struct {
	names map[string]struct{}
	at    time.Time
}

func (k *knownTenants) has(tenant string) bool {
	known, fresh := k.found.Load().has(tenant)
	if fresh {
		return known
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if known, fresh = k.found.Load().has(tenant); !fresh {
		k.look()
		known, _ = k.found.Load().has(tenant)
	}
	return known
}

func (f *tenantsFound) has(tenant string) (known, fresh bool) {
	if f == nil {
		return false, false
	}
	_, known = f.names[tenant]
	limit := lookAgain
	if known {
		limit = knownFor
	}
	return known, time.Since(f.at) < limit
}

// look asks this node's own ledger and tokens; a follower that is behind makes strangers of
// new tenants for a moment.
func (k *knownTenants) look() {
	names := make(map[string]struct{})
	k.node.ReadStale(func(b *lease.Book) {
		for _, name := range b.LicensedTenants() {
			names[name] = struct{}{}
		}
	})
	for name := range tokensByTenant(k.node.Access()) {
		names[name] = struct{}{}
	}
	k.found.Store(&tenantsFound{names: names, at: time.Now()})
}

// tokensByTenant counts the tokens that are bound to a tenant and still accepted.
func tokensByTenant(table *access.Table, today lease.Calendar) map[string]int {
	n := map[string]int{}
	for _, x := range table.List() {
		if x.Tenant != "" && !x.Expired(today) {
			n[x.Tenant]++
		}
	}
	return n
}

// traffic is what a tenant has in admission now, and was refused.
func (a *admission) traffic(tenant string) *pb.TenantTraffic {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := &pb.TenantTraffic{Overloaded: a.turned[tenant]}
	if r := a.tenants[tenant]; r != nil {
		t.InFlight, t.InFlightKeep = uint32(r.inside[0]), uint32(r.inside[1])
		t.Waiting = uint32(r.waiting(0) + r.waiting(1))
	}
	return t
}

// tenantsService serves Tenants.
type tenantsService struct {
	pb.UnimplementedTenantsServer
	s *Server
}

func (h *tenantsService) TenantList(ctx context.Context, r *pb.TenantListRequest) (*pb.TenantListResponse, error) {
	if err := checkNames("tenant", r.GetTenant(), "after", r.GetAfter()); err != nil {
		return nil, err
	}
	tokens := tokensByTenant(h.s.cfg.Node.Access())
	var also []string
	if r.GetTenant() != "" {
		also = append(also, r.GetTenant())
	}
	for name := range tokens {
		also = append(also, name)
	}
	var list []lease.TenantStatus
	var others lease.Strangers
	st, err := h.s.cfg.Node.Read(ctx, func(b *lease.Book) { list, others = b.Tenants(also) })
	if err != nil {
		return nil, err
	}
	cfg := &h.s.cfg
	answer := &pb.TenantListResponse{RaftIndex: st.AppliedIndex, Limits: &pb.TenantLimits{
		InFlight: uint32(cfg.InFlight), InFlightShared: uint32(cfg.InFlightShared), InFlightBesideQuiet: uint32(cfg.InFlightBesideQuiet), InFlightStrangers: uint32(cfg.InFlightStrangers),
		InFlightClient: uint32(cfg.ClientInFlight), SessionsUnleased: lease.MaxUnleased,
	}}
	limit := MaxPage
	if n := int(r.GetLimit()); n > 0 {
		limit = min(n, MaxPage)
	}
	for i := range list {
		t := &list[i]
		if r.GetTenant() != "" && t.Name != r.GetTenant() || t.Name <= r.GetAfter() {
			continue
		}
		if len(answer.Tenants) == limit {
			answer.Next = answer.Tenants[limit-1].Name
			break
		}
		answer.Tenants = append(answer.Tenants, tenantPB(t, tokens[t.Name], h.s.admission.traffic(t.Name)))
	}
	if r.GetTenant() == "" {
		answer.Strangers = &pb.StrangersUse{Tenants: uint32(others.Tenants), Sessions: uint32(others.Sessions),
			SessionsUnleased: uint32(others.Unleased), Traffic: h.s.admission.traffic(strangers)}
	}
	return answer, nil
}

func tenantPB(t *lease.TenantStatus, tokens int, traffic *pb.TenantTraffic) *pb.TenantUse {
	return &pb.TenantUse{
		Name: t.Name, Known: t.Pools > 0 || tokens > 0 || t.Name == lease.DefaultTenant,
		Licenses: uint32(t.Licences), Pools: uint32(t.Pools), Uncounted: t.Uncounted,
		Seats: uint32(t.Seats), InUse: uint32(t.InUse), Reserved: uint32(t.Reserved), Queued: uint32(t.Queued),
		Leases: uint32(t.Leases), Sessions: uint32(t.Sessions), SessionsUnleased: uint32(t.Unleased),
		Tokens: uint32(tokens), Policy: t.Policy, Traffic: traffic,
	}
}
