package lease

import (
	"slices"
	"strings"
	"time"
)

// The tables hold compact rows; records are what the snapshot codec sees. A million
// sessions are mostly names, so a row keeps those packed in one string, and what few
// sessions have behind a pointer.

// sessionRow is a SessionRecord as it is kept.
type sessionRow struct {
	ID               SessionID // zero: the slot is free
	Digest           SecretDigest
	owner            owner
	Incarnation, Seq uint64
	done             *Done // what Seq came to; nil: nothing numbered yet; never written into
	Renewed          Time
	Rev              uint64
	Lifespan, Grace  time.Duration
	First, Tail      uint32
	Leases           uint32
	Ephemeral        bool
	Closed           bool
	losses           *losses // nil: none; replaced, never written into
}

// losses are leases still to be told; the first told of them were in an answer already.
type losses struct {
	list []Lost
	told int
}

func (r *sessionRow) tenant() string       { return r.owner.field(ownerTenant) }
func (r *sessionRow) instance() string     { return r.owner.field(ownerInstance) }
func (r *sessionRow) principal() Principal { return r.owner.principal() }

func (r *sessionRow) last() Done {
	if r.done == nil {
		return Done{}
	}
	return *r.done
}

func (r *sessionRow) lost() (list []Lost, told int) {
	if r.losses == nil {
		return nil, 0
	}
	return r.losses.list, r.losses.told
}

func (r *sessionRow) setLost(list []Lost, told int) {
	r.losses = nil
	if len(list) > 0 {
		r.losses = &losses{list, told}
	}
}

func (r *sessionRow) record() SessionRecord {
	x := SessionRecord{
		ID: r.ID, Digest: r.Digest, Tenant: r.tenant(), Principal: r.principal(), InstanceID: r.instance(),
		Incarnation: r.Incarnation, Seq: r.Seq, Last: r.last(), Renewed: r.Renewed, Rev: r.Rev,
		Lifespan: r.Lifespan, Grace: r.Grace, First: r.First, Tail: r.Tail, Leases: r.Leases,
		Ephemeral: r.Ephemeral, Closed: r.Closed,
	}
	x.Lost, x.Told = r.lost()
	return x
}

func rowOfSession(x SessionRecord) sessionRow {
	r := sessionRow{
		ID: x.ID, Digest: x.Digest, owner: packOwner(x.Tenant, x.Principal, x.InstanceID),
		Incarnation: x.Incarnation, Seq: x.Seq, Renewed: x.Renewed, Rev: x.Rev,
		Lifespan: x.Lifespan, Grace: x.Grace, First: x.First, Tail: x.Tail, Leases: x.Leases,
		Ephemeral: x.Ephemeral, Closed: x.Closed,
	}
	if x.Last.Kind != DoneNothing {
		r.done = &x.Last
	}
	r.setLost(x.Lost, x.Told)
	return r
}

// owner is whose session it is: tenant, principal and instance id in one string, each
// field ended by a byte that no name may contain (checkName), empty ones at the end left
// out. The default tenant is written as the empty one.
type owner string

const (
	ownerTenant = iota
	ownerUser
	ownerHost
	ownerIP
	ownerDisplay
	ownerVendor
	ownerProject
	ownerInstance
	ownerFields
)

const ownerEnd = "\x00"

func packOwner(tenant string, p Principal, instance string) owner {
	if tenant == DefaultTenant {
		tenant = ""
	}
	all := [ownerFields]string{tenant, p.User, p.Host, p.IP, p.Display, p.VendorDefined, p.Project, instance}
	return owner(strings.TrimRight(strings.Join(all[:], ownerEnd), ownerEnd))
}

func (o owner) fields() (f [ownerFields]string) {
	rest := string(o)
	for i := range f {
		f[i], rest, _ = strings.Cut(rest, ownerEnd)
	}
	if f[ownerTenant] == "" {
		f[ownerTenant] = DefaultTenant
	}
	return f
}

func (o owner) field(i int) string { return o.fields()[i] }

func (o owner) principal() Principal {
	f := o.fields()
	return Principal{User: f[ownerUser], Host: f[ownerHost], IP: f[ownerIP], Display: f[ownerDisplay], VendorDefined: f[ownerVendor], Project: f[ownerProject]}
}

// groupRow is a GroupRecord as it is kept: nearly all have one member and one seat.
type groupRow struct {
	Pool   uint32 // zero: the slot is free
	Shared bool
	member [1]uint32
	seat   [1]uint32
	// many holds the members and seats of all others; replaced, never written into.
	many *manyOf
}

type manyOf struct{ members, seats []uint32 }

// members and seats must not be written into, nor kept after the row changes.
func (g *groupRow) members() []uint32 {
	switch {
	case g.many != nil:
		return g.many.members
	case g.member[0] == 0:
		return nil
	}
	return g.member[:]
}

func (g *groupRow) seats() []uint32 {
	switch {
	case g.many != nil:
		return g.many.seats
	case g.seat[0] == 0:
		return nil
	}
	return g.seat[:]
}

// set replaces members and seats; it keeps neither slice.
func (g *groupRow) set(members, seats []uint32) {
	many := len(members) > 1 || len(seats) > 1
	var m, s [1]uint32
	copy(m[:], members)
	copy(s[:], seats)
	var all *manyOf
	if many {
		all = &manyOf{slices.Clone(members), slices.Clone(seats)}
	}
	g.member, g.seat, g.many = m, s, all
}

func (g *groupRow) addMember(slot uint32) {
	if old := g.members(); len(old) > 0 || g.many != nil {
		g.set(append(slices.Clone(old), slot), g.seats())
		return
	}
	g.member[0] = slot
}

func (g *groupRow) removeMember(slot uint32) {
	left := slices.DeleteFunc(slices.Clone(g.members()), func(m uint32) bool { return m == slot })
	g.set(left, g.seats())
}

func (g *groupRow) record() GroupRecord {
	x := GroupRecord{Pool: g.Pool, Shared: g.Shared, Seats: g.seats(), N: uint8(len(g.members()))}
	copy(x.Members[:], g.members())
	return x
}

func rowOfGroup(x GroupRecord) groupRow {
	g := groupRow{Pool: x.Pool, Shared: x.Shared}
	g.set(x.Members[:x.N], x.Seats)
	return g
}
