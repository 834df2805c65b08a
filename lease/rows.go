package lease

import "slices"

// The tables hold compact rows; records are what the snapshot codec sees. What few rows
// have stands in a table of its own, whose pages exist only where they are used. Rows
// that most leases have hold no pointers, so the garbage collector skips them.

// sessionRow is a SessionRecord as it is kept, without its owner. 96 bytes: see
// TestRowsFillTheirPages.
type sessionRow struct {
	ID               SessionID // zero: the slot is free
	Digest           SecretDigest
	Incarnation, Seq uint64
	Renewed          Time
	Rev              uint64
	granted          Ref // with doneGranted: the one lease that request Seq was granted
	First, Tail      uint32
	span             uint32 // longest lifespan and grace: in spans
	Leases           uint16
	flags            sessionFlags
}

type sessionFlags uint8

const (
	ephemeral sessionFlags = 1 << iota
	closed
	// doneGranted: Seq was a checkout that got one lease, as nearly all do. What else a
	// request can come to stands in sessionMore.
	doneGranted
)

func (r *sessionRow) ephemeral() bool { return r.flags&ephemeral != 0 }
func (r *sessionRow) closed() bool    { return r.flags&closed != 0 }

// sessionMore is what few sessions have. It is replaced, never written into.
type sessionMore struct {
	done *Done
	// lost leases are still to be told; the first told of them were in an answer already.
	lost []Lost
	told int
}

func (t *tables) more(slot uint32) sessionMore {
	if m := t.mores.at(slot); m != nil && *m != nil {
		return **m
	}
	return sessionMore{}
}

func (b *Book) setMore(slot uint32, x sessionMore) {
	if x.done != nil || len(x.lost) > 0 {
		kept := x // only what is remembered goes to the heap
		*b.mores.mut(b.gen, slot) = &kept
	} else if m := b.mores.at(slot); m != nil && *m != nil {
		*b.mores.mut(b.gen, slot) = nil
	}
}

// last is what the session's last numbered request came to.
func (t *tables) last(slot uint32) Done {
	if s := t.sessions.at(slot); s.flags&doneGranted != 0 {
		return Done{Kind: DoneCheckout, Granted: []Ref{s.granted}}
	}
	if d := t.more(slot).done; d != nil {
		return *d
	}
	return Done{}
}

// setLast remembers what the session's last numbered request came to.
func (b *Book) setLast(slot uint32, d Done) {
	s := b.sessions.mut(b.gen, slot)
	s.granted, s.flags = Ref{}, s.flags&^doneGranted
	more := b.more(slot)
	more.done = nil
	switch alone := len(d.Granted)+len(d.Released)+len(d.Lost)+len(more.lost) == 0; {
	case d.Kind == DoneNothing:
	case len(d.Granted) == 1 && len(d.Refused) == 0 && d.Kind == DoneCheckout && d.Refusal == nil && len(d.Released)+len(d.Lost) == 0:
		s.granted, s.flags = d.Granted[0], s.flags|doneGranted
	case alone && d.Kind == DoneCheckout && d.Refusal != nil:
		*b.mores.mut(b.gen, slot) = b.refused(d)
		return
	default:
		kept := d // only what is remembered goes to the heap
		more.done = &kept
	}
	b.setMore(slot, more)
}

// refused keeps a refusal once if it is the same as the last one: those that come in
// floods are alike.
func (b *Book) refused(d Done) *sessionMore {
	if last := b.lastRefused; last == nil || *last.done.Refusal != *d.Refusal {
		kept := d
		b.lastRefused = &sessionMore{done: &kept}
	}
	return b.lastRefused
}

func (b *Book) setLost(slot uint32, list []Lost, told int) {
	more := b.more(slot)
	more.lost, more.told = list, told
	b.setMore(slot, more)
}

func (t *tables) owner(slot uint32) owner             { return *t.owners.at(slot) }
func (t *tables) principalOf(slot uint32) Principal   { return t.owner(slot).principal() }
func (t *tables) spanOf(r *sessionRow) (span Profile) { return *t.spans.at(r.span) }

func (t *tables) sessionRecord(slot uint32, r *sessionRow) SessionRecord {
	own, span, more := t.owner(slot).fields(), t.spanOf(r), t.more(slot)
	return SessionRecord{
		ID: r.ID, Digest: r.Digest, Tenant: own[ownerTenant], Principal: t.principalOf(slot), InstanceID: own[ownerInstance],
		Incarnation: r.Incarnation, Seq: r.Seq, Last: t.last(slot), Renewed: r.Renewed, Rev: r.Rev,
		Lifespan: span.Lifespan, Grace: span.Grace, First: r.First, Tail: r.Tail, Leases: uint32(r.Leases),
		Ephemeral: r.ephemeral(), Closed: r.closed(), Lost: more.lost, Told: more.told,
	}
}

// putSession makes a row of a record, at a slot that is free.
func (b *Book) putSession(slot uint32, x *SessionRecord) {
	r := sessionRow{
		ID: x.ID, Digest: x.Digest, Incarnation: x.Incarnation, Seq: x.Seq, Renewed: x.Renewed, Rev: x.Rev,
		First: x.First, Tail: x.Tail, Leases: uint16(x.Leases), span: b.takeSpan(Profile{x.Lifespan, x.Grace}),
	}
	if x.Ephemeral {
		r.flags |= ephemeral
	}
	if x.Closed {
		r.flags |= closed
	}
	*b.sessions.mut(b.gen, slot) = r
	*b.owners.mut(b.gen, slot) = packOwner(x.Tenant, x.Principal, x.InstanceID)
	b.setLast(slot, x.Last)
	b.setLost(slot, x.Lost, x.Told)
}

// clearSession frees the slot.
func (b *Book) clearSession(slot uint32) {
	s := b.sessions.mut(b.gen, slot)
	b.dropSpan(s.span)
	*s = sessionRow{}
	*b.owners.mut(b.gen, slot) = ""
	b.setMore(slot, sessionMore{})
}

// spanUse counts the sessions of each span, so that one that none has any more is
// forgotten. There are about as many spans as profiles in use.
type spanUse struct {
	at      map[Profile]uint32 // only ever asked for one
	count   []uint32
	numbers numbers
}

func (b *Book) takeSpan(p Profile) uint32 {
	u := &b.spanUse
	i, known := u.at[p]
	if !known {
		i = u.numbers.take()
		u.at[p] = i
		*b.spans.mut(b.gen, i) = p
		for int(i) >= len(u.count) {
			u.count = append(u.count, 0)
		}
	}
	u.count[i]++
	return i
}

func (b *Book) dropSpan(i uint32) {
	u := &b.spanUse
	if u.count[i]--; u.count[i] == 0 {
		delete(u.at, *b.spans.at(i))
		u.numbers.put(i)
	}
}

// lengthen makes the session's span cover a profile.
func (b *Book) lengthen(s *sessionRow, p Profile) {
	have := b.spanOf(s)
	if want := (Profile{max(have.Lifespan, p.Lifespan), max(have.Grace, p.Grace)}); want != have {
		old := s.span
		s.span = b.takeSpan(want)
		b.dropSpan(old)
	}
}

// leaseRow is a LeaseRecord as it is kept. The slot in its id is where it stands, so
// the bits of the slot name the next lease of the session instead. 48 bytes.
type leaseRow struct {
	grantAndNext   uint64 // zero: the slot is free
	Token          Token
	Session, Group uint32
	Prev           uint32 // in the session's list
	Count          uint32
	Granted        Time
	Since          Calendar
}

func (l *leaseRow) free() bool          { return l.grantAndNext == 0 }
func (l *leaseRow) id(slot uint32) ID   { return ID(l.grantAndNext&^maxSlot | uint64(slot)) }
func (l *leaseRow) next() uint32        { return uint32(l.grantAndNext & maxSlot) }
func (l *leaseRow) setNext(slot uint32) { l.grantAndNext = l.grantAndNext&^maxSlot | uint64(slot) }

func (l *leaseRow) record(slot uint32) LeaseRecord {
	return LeaseRecord{
		ID: l.id(slot), Token: l.Token, Session: l.Session, Group: l.Group, Next: l.next(), Prev: l.Prev,
		Count: l.Count, Granted: l.Granted, Since: l.Since,
	}
}

func rowOfLease(x *LeaseRecord) leaseRow {
	l := leaseRow{
		grantAndNext: uint64(x.ID), Token: x.Token, Session: x.Session, Group: x.Group, Prev: x.Prev,
		Count: x.Count, Granted: x.Granted, Since: x.Since,
	}
	l.setNext(x.Next)
	return l
}

// groupRow is a GroupRecord as it is kept: nearly all have one member and one seat. 16
// bytes; the rest stands in manyOf.
type groupRow struct {
	Pool   uint32 // zero: the slot is free
	member [1]uint32
	seat   [1]uint32
	Shared bool
	many   bool // members and seats are in groupMany
}

// manyOf is replaced, never written into.
type manyOf struct{ members, seats []uint32 }

// members and seats must not be written into, nor kept after the row changes.
func (t *tables) members(slot uint32) []uint32 {
	switch g := t.groups.at(slot); {
	case g.many:
		return (*t.groupMany.at(slot)).members
	case g.member[0] == 0:
		return nil
	default:
		return g.member[:]
	}
}

func (t *tables) seats(slot uint32) []uint32 {
	switch g := t.groups.at(slot); {
	case g.many:
		return (*t.groupMany.at(slot)).seats
	case g.seat[0] == 0:
		return nil
	default:
		return g.seat[:]
	}
}

// setGroup replaces members and seats; it keeps neither slice.
func (b *Book) setGroup(slot uint32, members, seats []uint32) {
	var m, s [1]uint32
	copy(m[:], members)
	copy(s[:], seats)
	many := len(members) > 1 || len(seats) > 1
	g := b.groups.mut(b.gen, slot)
	switch {
	case many:
		*b.groupMany.mut(b.gen, slot) = &manyOf{slices.Clone(members), slices.Clone(seats)}
	case g.many:
		*b.groupMany.mut(b.gen, slot) = nil
	}
	g.member, g.seat, g.many = m, s, many
}

func (b *Book) addMember(slot, member uint32) {
	if old := b.members(slot); len(old) > 0 || b.groups.at(slot).many {
		b.setGroup(slot, append(slices.Clone(old), member), b.seats(slot))
		return
	}
	b.groups.mut(b.gen, slot).member[0] = member
}

func (b *Book) removeMember(slot, member uint32) {
	if g := b.groups.mut(b.gen, slot); !g.many {
		g.member = [1]uint32{} // it was the only one
		return
	}
	left := slices.DeleteFunc(slices.Clone(b.members(slot)), func(m uint32) bool { return m == member })
	b.setGroup(slot, left, b.seats(slot))
}

func (t *tables) groupRecord(slot uint32, g *groupRow) GroupRecord {
	members := t.members(slot)
	x := GroupRecord{Pool: g.Pool, Shared: g.Shared, Seats: t.seats(slot), N: uint8(len(members))}
	copy(x.Members[:], members)
	return x
}

func (b *Book) putGroup(slot uint32, x *GroupRecord) {
	*b.groups.mut(b.gen, slot) = groupRow{Pool: x.Pool, Shared: x.Shared}
	b.setGroup(slot, x.Members[:x.N], x.Seats)
}
