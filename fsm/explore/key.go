package explore

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// key names a state, up to names: tokens, lease ids, indexes and absolute times are
// replaced by what they mean to each other.
type key [16]byte

// namer numbers values in the order in which they are met.
type namer struct{ met []lease.Ref }

func (n *namer) of(r lease.Ref) uint64 {
	i := slices.Index(n.met, r)
	if i < 0 {
		n.met = append(n.met, r)
		i = len(n.met) - 1
	}
	return uint64(i + 1)
}

// longest is after which nothing of the past matters: a session is forgotten by then.
func longest() time.Duration { return lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace }

func (w *world) key(m *machine) key {
	var buf []byte
	put := func(vs ...uint64) {
		for _, v := range vs {
			buf = binary.AppendUvarint(buf, v)
		}
	}
	var names namer
	snap := m.book
	f := snap.Freeze()
	now := snap.Now()
	revs := map[int]uint64{}
	f.Sessions(func(slot uint32, s *lease.SessionRecord) bool {
		c := clientOf(s.ID)
		revs[c] = s.Rev
		put(uint64(c+1), uint64(slot), s.Incarnation, w.clients[c].seq-s.Seq, uint64(s.Last.Kind), uint64(min(now.Sub(s.Renewed), longest())/unit), bit(s.Closed), uint64(s.Told))
		if s.Last.Refusal != nil {
			buf = append(buf, s.Last.Refusal.Reason...)
		}
		for _, r := range s.Last.Granted {
			put(names.of(r))
		}
		put(99)
		for _, x := range s.Lost {
			put(names.of(x.Ref), uint64(x.Reason))
		}
		put(99)
		return true
	})
	leases, _ := snap.Leases(lease.Filter{}, 0, 100)
	for _, l := range leases {
		put(names.of(l.Ref), uint64(l.Handle), uint64(clientOf(l.Session)+1), uint64(l.Deadline.Sub(now)/unit+10))
		for _, n := range l.Seats {
			put(uint64(n))
		}
	}
	clock := w.clock()
	for c := range w.clients {
		me := &w.clients[c]
		put(777, me.incarnation, bit(me.open), bit(me.seq == 0))
		for i := range me.held {
			h := &me.held[i]
			put(names.of(h.Ref), uint64(h.belief.State(clock)), uint64(h.belief.Remaining(clock).Round(unit/2)))
		}
		put(778)
		for _, r := range me.outbox {
			put(uint64(sinceAt(clock, r.sent)))
			put(w.requestKey(&names, c, r)...)
		}
		for _, e := range w.effects {
			if e.client == c {
				put(779, e.incarnation, back(me.seq, e.seq))
			}
		}
	}
	for _, s := range w.seen {
		live := slices.IndexFunc(leases, func(l lease.Lease) bool { return l.Ref == s.Ref })
		put(names.of(s.Ref))
		if live >= 0 {
			put(1 + min(leases[live].Rev-s.rev, 1))
		} else {
			put(0)
		}
	}
	put(bit(w.last != 0))
	sum := sha256.Sum256(buf)
	return key(sum[:16])
}

// requestKey is a request with its number counted back from the newest.
func (w *world) requestKey(names *namer, c int, r request) []uint64 {
	var out []uint64
	refs := func(kind uint64, s lease.SessionRef, list []lease.Ref, end bool) {
		out = append(out, kind, s.Incarnation, back(w.clients[c].seq, s.Seq), bit(end))
		for _, r := range list {
			out = append(out, names.of(r))
		}
	}
	switch x := r.cmd.(type) {
	case lease.Checkout:
		// The number itself matters when a session is opened: a first request opens one.
		out = append(out, bit(x.Session.Seq <= 1))
		refs(1, x.Session, nil, false)
	case lease.Renew:
		refs(2, x.Session, x.Held, false)
	case lease.CheckIn:
		refs(3, x.Session, x.Refs, x.Close)
	}
	return append(out, 780)
}

// back is how far a number lies back; 0 means that it is none.
func back(newest, seq uint64) uint64 {
	if seq == 0 {
		return 0
	}
	return newest - seq + 1<<20
}

func bit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
