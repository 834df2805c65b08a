package lease

// A lease granted from the queue waits for its client: it is pinned to one lifespan from
// the grant. When the client renews or asks for it, it becomes an ordinary lease; if it
// does not, the seats go to the next. The client's other leases and its session do not
// gain time by the grant.

// PinOffered: granted from the queue and not collected yet.
const PinOffered PinKind = 60

// offer grants what a place asked for.
func (b *Book) offer(index uint64, session uint32, plans []plan) {
	for i := range plans {
		if plans[i].held != 0 {
			continue
		}
		s := b.sessions.mut(b.gen, session)
		slot := b.grant(index, session, s, &plans[i])
		if Broken(GuardOffer) {
			continue
		}
		b.pin(slot, Pin{Kind: PinOffered, End: b.Now().Add(b.profileOf(slot).Lifespan)})
	}
}

// collect makes an offered lease an ordinary one.
func (b *Book) collect(slot uint32) {
	if p := b.pinAt(slot); p != nil && p.Kind == PinOffered {
		b.unpin(slot)
	}
}

// offersOf lists the leases of a session that were offered and not collected.
func (b *Book) offersOf(s *sessionRow) (slots []uint32) {
	if b.offers == 0 {
		return nil
	}
	b.each(s, func(slot uint32, _ *leaseRow) {
		if p := b.pinAt(slot); p != nil && p.Kind == PinOffered {
			slots = append(slots, slot)
		}
	})
	return slots
}

// collectAll takes it that the client knows of all its leases.
func (b *Book) collectAll(s *sessionRow) {
	for _, slot := range b.offersOf(s) {
		b.collect(slot)
	}
}
