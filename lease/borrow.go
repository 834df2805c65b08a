package lease

import (
	"slices"
	"time"
)

// Borrowing turns a seat into a lease that its holder may use offline until a date. The
// ledger keeps the seat charged for as long as the holder may believe in it: it is given
// back early only by the holder, or by an operator who takes the overdraft on himself.

// Limits of a borrowed lease.
const (
	// DefaultBorrow is what a licence means that lets seats be borrowed and names no hours:
	// FlexNet's BORROW.
	DefaultBorrow = 168 * time.Hour
	// MinBorrow is the shortest: below it the way to the cluster takes most of the term.
	MinBorrow = time.Second
	// MaxOverdrawn bounds the seats that were taken from borrowers at once and are not
	// over yet.
	MaxOverdrawn = 1000
)

// Borrow takes seats as Checkout does, and fixes their end at now + For, whatever becomes
// of the session. A seat that the session holds already is borrowed as it is. The holder
// gets a token for it (Reply.Lent), bound to the instance id, or else to user and host;
// one of host and instance id must be named.
type Borrow struct {
	Tenant     string
	Session    SessionRef
	Principal  Principal
	InstanceID string
	Item       Item
	For        time.Duration
	// Ephemeral is as in Checkout.
	Ephemeral bool
}

// RenewBorrow moves the end of a borrowed lease to now + For, if that is later.
type RenewBorrow struct {
	Ref
	For time.Duration
}

// ReturnEarly gives a borrowed lease back. Whoever proposes it has seen the holder's token.
type ReturnEarly struct{ Ref }

// RevokeBorrow forbids the use of a borrowed lease. Its holder may be offline and not
// know: the seats stay charged until the lease's end (quarantine), unless AtOnce frees
// them: then two may use them until that end, which is recorded as an overdraft.
type RevokeBorrow struct {
	Tenant string
	ID     ID
	AtOnce bool
	By     string // who asked, for the audit trail
}

func (Borrow) isCommand()       {}
func (RenewBorrow) isCommand()  {}
func (ReturnEarly) isCommand()  {}
func (RevokeBorrow) isCommand() {}

// Lent is what a token says that its lease does not show.
type Lent struct {
	// Kid names the key to sign with.
	Kid             string
	Vendor, Licence string
	Issued          Calendar
}

// Overdrawn is seats that an operator freed while their borrower may still use them.
type Overdrawn struct {
	Ref
	Tenant, Feature, Version string
	Count                    int
	End                      Time
	Until                    Calendar
	Principal                Principal
	By                       string
}

func (b *Book) borrow(index uint64, c Borrow) Reply {
	if slot := b.findSession(c.Session.ID); slot != 0 {
		c.InstanceID = b.owner(slot).instance() // as the token will say
	}
	switch {
	case c.For < MinBorrow:
		return Reply{Refusal: refuse(Invalid, "a seat is borrowed for at least %v, not %v", MinBorrow, c.For)}
	case b.signingKey() == nil:
		return Reply{Refusal: refuse(Invalid, "the cluster has no key to sign tokens with; an operator makes one: seatkeeper borrow rotate")}
	}
	r := b.checkout(index, Checkout{
		Tenant: c.Tenant, Session: c.Session, Principal: c.Principal, InstanceID: c.InstanceID,
		Items: []Item{c.Item}, Ephemeral: c.Ephemeral, borrow: c.For,
	})
	if r.Refusal != nil || len(r.Leases) == 0 {
		return r
	}
	slot := b.lookup(r.Leases[0].ID)
	if p := b.pinAt(slot); p == nil || p.Kind != PinBorrowed {
		return Reply{Refusal: refuse(StaleRequest, "request %d was of another kind; number each new request higher", c.Session.Seq)}
	}
	r.Lent = b.lent(slot)
	return r
}

// lend fixes the end of a lease that was granted to be borrowed. A holder who believed in
// it already goes on believing that.
func (b *Book) lend(slot uint32, held bool, term time.Duration) {
	p := Pin{Kind: PinBorrowed, End: b.Now().Add(term), Until: b.Calendar() + Calendar(term.Milliseconds())}
	switch was := b.pinAt(slot); {
	case was != nil:
		p.End, p.Until = max(p.End, was.End), max(p.Until, was.Until)
	case held:
		p.End = max(p.End, b.leaseDue(slot))
	}
	b.pin(slot, p)
}

// lent says what goes into a token for the lease, and remembers how long its key must be
// known.
func (b *Book) lent(slot uint32) *Lent {
	g := b.groups.at(b.leases.at(slot).Group)
	key := b.signs(b.pinAt(slot).Until)
	return &Lent{Kid: key.Kid, Vendor: b.pools.at(g.Pool).Vendor, Licence: b.licenceOf(g.Pool), Issued: b.Calendar()}
}

// licenceOf names the licence that gives the pool its seats; of several, the first by id.
func (b *Book) licenceOf(pool uint32) string {
	p := b.pools.at(pool)
	for _, x := range b.licences {
		if x.Tenant == p.Tenant && x.Vendor == p.Vendor && slices.ContainsFunc(x.Entitlements, func(e Entitlement) bool { return e.Feature == p.Feature && e.Version == p.Version }) {
			return x.ID
		}
	}
	return ""
}

// borrowRefusal says why a request may not borrow n more seats of the pool; nil if it may,
// or does not want to borrow.
func (b *Book) borrowRefusal(pool uint32, who Principal, c *Checkout, n int) *Refusal {
	if c.borrow == 0 {
		return nil
	}
	p, st := b.pools.at(pool), &b.state[pool]
	hours, home, refusal := b.borrowAllowed(pool, who)
	most := time.Duration(p.Terms.BorrowHours) * time.Hour
	if hours > 0 {
		most = min(most, time.Duration(hours)*time.Hour)
	}
	switch {
	case who.Host == "" && c.InstanceID == "":
		return refuse(Invalid, "say the host or an instance id: a borrowed seat is bound to one")
	case most == 0:
		return refuse(BorrowOff, "feature %s: its licence does not let seats be borrowed", p.Feature)
	case refusal != nil:
		return refusal
	case c.borrow > most:
		return refuse(BorrowTooLong, "feature %s: may be borrowed for at most %d hours", p.Feature, most/time.Hour)
	case st.expiry != 0 && b.Calendar()+Calendar(c.borrow.Milliseconds()) > st.expiry:
		return refuse(BorrowTooLong, "feature %s: its licence ends on %s, before the borrowing would", p.Feature, st.expiry.Time().Format(time.DateTime))
	case n > 0 && !p.Terms.Uncounted:
		seats, lent := b.lendable(pool, who, home)
		if lent+n <= seats && b.lentSeats[pool]+n <= st.total {
			return nil
		}
		return refuse(BorrowNoneLeft, "feature %s: no seat is left to borrow (%d borrowed, %d may be at a time)", p.Feature, lent, max(0, seats))
	}
	return nil
}

// better is the refusal that leaves more hope: wait, ask for less time, go without.
func better(r, s *Refusal) *Refusal {
	order := []Reason{Invalid, BorrowOff, BorrowTooLong, BorrowNoneLeft}
	if r == nil || slices.Index(order, s.Reason) > slices.Index(order, r.Reason) {
		return s
	}
	return r
}

// newlyLent is how many seats of a lease that is held a request would borrow.
func (b *Book) newlyLent(slot uint32) int {
	if b.pinAt(slot) != nil {
		return 0
	}
	return int(b.leases.at(slot).Count)
}

// borrowedLease finds a borrowed lease by what its holder's token says.
func (b *Book) borrowedLease(r Ref) (uint32, *Refusal) {
	slot := b.borrowedSlot(r)
	if slot == 0 {
		return 0, refuse(Fenced, "lease %d is not borrowed any more; nothing was changed", r.ID)
	}
	return slot, nil
}

// borrowedSlot is the slot of a borrowed lease; 0: it is none. Every check-in asks.
func (b *Book) borrowedSlot(r Ref) uint32 {
	slot := b.lookup(r.ID)
	if slot == 0 || b.leases.at(slot).Token != r.Token || b.pinAt(slot) == nil || b.pinAt(slot).Kind != PinBorrowed {
		return 0
	}
	return slot
}

func (b *Book) renewBorrow(c RenewBorrow) Reply {
	slot, refusal := b.borrowedLease(c.Ref)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	l := b.leases.at(slot)
	session, pool := l.Session, b.groups.at(l.Group).Pool
	ask := Checkout{InstanceID: b.owner(session).instance(), borrow: c.For}
	switch {
	case c.For < MinBorrow:
		refusal = refuse(Invalid, "a seat is borrowed for at least %v, not %v", MinBorrow, c.For)
	case b.pinAt(slot).Revoked:
		refusal = refuse(BorrowOff, "lease %d was revoked; do not use it any more", c.ID)
	case b.signingKey() == nil:
		refusal = refuse(Invalid, "the cluster has no key to sign tokens with")
	default:
		refusal = b.borrowRefusal(pool, b.principalOf(session), &ask, 0)
	}
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	b.lend(slot, true, c.For)
	return Reply{Leases: []Lease{b.show(slot)}, Lent: b.lent(slot)}
}

func (b *Book) returnEarly(c ReturnEarly) Reply {
	slot, refusal := b.borrowedLease(c.Ref)
	if refusal != nil {
		return Reply{Refusal: refusal}
	}
	return Reply{Released: []Released{b.release(slot, ReleasedNormal)}}
}

func (b *Book) revokeBorrow(c RevokeBorrow) Reply {
	slot := b.lookup(c.ID)
	if slot == 0 || b.pinAt(slot) == nil || b.pinAt(slot).Kind != PinBorrowed || c.Tenant != "" && c.Tenant != b.show(slot).Tenant {
		return Reply{Refusal: refuse(Invalid, "lease %d is not borrowed; seatkeeper leases --state borrowed lists those that are", c.ID)}
	}
	if c.AtOnce {
		return b.overdraw(slot, c.By)
	}
	b.quarantine(slot)
	return Reply{Leases: []Lease{b.show(slot)}}
}

// quarantine forbids the use of a borrowed lease; its seats stay charged until its end.
func (b *Book) quarantine(slot uint32) {
	p := *b.pinAt(slot)
	if p.Revoked {
		return
	}
	if Broken(GuardQuarantine) {
		b.release(slot, ReleasedByAdmin)
		return
	}
	l := b.leases.at(slot)
	if !b.sessions.at(l.Session).closed() {
		feature := b.pools.at(b.groups.at(l.Group).Pool).Feature
		b.remember(l.Session, Lost{Ref: Ref{l.id(slot), l.Token}, Feature: feature, Reason: ReleasedByAdmin})
	}
	p.Revoked = true
	b.pin(slot, p)
}

// overdraw frees the seats of a borrowed lease while its holder may still use them.
func (b *Book) overdraw(slot uint32, by string) Reply {
	left := slices.DeleteFunc(slices.Clone(b.overdrawn), func(o Overdrawn) bool { return o.End <= b.Now() })
	if len(left) >= MaxOverdrawn {
		return Reply{Refusal: refuse(Overloaded, "%d borrowed leases were taken back at once and are not over, the most that is possible", MaxOverdrawn)}
	}
	x, p := b.show(slot), b.pinAt(slot)
	b.overdrawn = append(left, Overdrawn{
		Ref: x.Ref, Tenant: x.Tenant, Feature: x.Feature, Version: x.Version, Count: x.Count,
		End: p.End, Until: p.Until, Principal: x.Principal, By: by,
	})
	return Reply{Released: []Released{b.release(slot, ReleasedByAdmin)}}
}

// Overdrawn lists the seats of a tenant ("" = all) that were taken from borrowers at once
// and that these may still use.
func (b *Book) Overdrawn(tenant string) (out []Overdrawn) {
	for _, o := range b.overdrawn {
		if o.End > b.Now() && (tenant == "" || tenant == o.Tenant) {
			out = append(out, o)
		}
	}
	return out
}

// countLent derives how many seats of each pool are borrowed.
func (b *Book) countLent() map[uint32]int {
	count := map[uint32]int{}
	b.pins.all(func(i uint32, p **Pin) bool {
		if *p != nil && (*p).Kind == PinBorrowed {
			l := b.leases.at(i)
			count[b.groups.at(l.Group).Pool] += int(l.Count)
		}
		return true
	})
	return count
}
