package lease

import "time"

// MaxRenewMany is the most sessions of one RenewMany: what a host or a relay has, while
// the command stays a third of the largest log entry and its apply below two milliseconds.
const MaxRenewMany = 4096

// RenewMany is the heartbeat of many sessions in one command, for agents and relays that
// keep them on behalf of others. Each session is judged by itself, in the order given, as
// Renew would judge it; one that is refused changes nothing for the others. The answers
// are short (Reply.Renewed): a session with news must ask by Renew.
type RenewMany struct{ Sessions []Heartbeat }

// Heartbeat names one session of a RenewMany; the fields are those of SessionRef.
type Heartbeat struct {
	ID          SessionID
	Digest      SecretDigest
	Incarnation uint64
}

func (RenewMany) isCommand() {}

// Renewed is what RenewMany came to for one session.
type Renewed struct {
	// Reason is why it was refused; empty when it was renewed.
	Reason Reason
	// News says that leases ended without the holder's doing and that it has not been told,
	// that some were granted from the queue, or that a restore may have lost some.
	News   bool
	Leases int // held now
	// Remaining is the time to the first deadline of a lease, Grace the shortest that
	// follows one: what holds for every lease of the session that is not pinned.
	Remaining, Grace time.Duration
	// Heartbeat is how often to renew.
	Heartbeat time.Duration
	// HeldSum is SumRefs of the leases that Remaining and Grace are about: a holder that
	// believes in others must ask by Renew.
	HeldSum uint64
}

// SumRefs folds leases into a number that does not depend on their order, for telling in
// eight bytes whether holder and ledger mean the same ones. It guards against mistakes, a
// restored backup above all, and not against an attacker.
func SumRefs(refs func(yield func(Ref) bool)) (sum uint64) {
	for r := range refs {
		sum += r.mix()
	}
	return sum
}

// mix spreads both numbers over 64 bits (the finalizer of splitmix64), so that sums of
// different sets are different.
func (r Ref) mix() uint64 {
	x := uint64(r.ID)*0x9e3779b97f4a7c15 ^ uint64(r.Token)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (b *Book) renewMany(c RenewMany) Reply {
	if len(c.Sessions) > MaxRenewMany {
		return Reply{Refusal: refuse(Invalid, "%d sessions in one heartbeat; at most %d are possible", len(c.Sessions), MaxRenewMany)}
	}
	out := make([]Renewed, len(c.Sessions))
	for i := range c.Sessions {
		ref := SessionRef{ID: c.Sessions[i].ID, Digest: c.Sessions[i].Digest, Incarnation: c.Sessions[i].Incarnation}
		slot, reason := b.judge(&ref)
		if reason != "" {
			out[i].Reason = reason
			continue
		}
		s := b.takeOver(slot, ref.Incarnation)
		b.heartbeat(s)
		out[i] = b.renewed(slot, s)
	}
	return Reply{Renewed: out}
}

// renewed is the short answer to a heartbeat.
func (b *Book) renewed(slot uint32, s *sessionRow) Renewed {
	span := b.spanOf(s)
	r := Renewed{Leases: int(s.Leases), Remaining: span.Lifespan, Grace: span.Grace}
	b.each(s, func(slot uint32, l *leaseRow) {
		if b.pinAt(slot) != nil { // the heartbeat does not move it
			if !b.claimed(slot) {
				r.Leases--
			}
			return
		}
		if b.claimed(slot) {
			r.HeldSum += Ref{ID: l.id(slot), Token: l.Token}.mix()
		}
		p := b.profileOf(slot)
		r.Remaining, r.Grace = min(r.Remaining, p.Lifespan), min(r.Grace, p.Grace)
	})
	r.Heartbeat = r.Remaining / HeartbeatFraction
	more := b.more(slot)
	// A restored ledger does not know what was granted since the backup, so it cannot
	// confirm what it does not list: until the fence lifts each holder has to ask.
	r.News = len(more.lost) > more.told || len(b.offersOf(s)) > 0 || b.Now() < b.FenceUntil
	return r
}
