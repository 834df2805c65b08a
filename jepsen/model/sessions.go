package model

import (
	"cmp"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// session is one client run and what it was told last.
type session struct {
	id, digest, tenant                 string
	user, host, display, vendorDefined string
	run                                uint64 // incarnation
	seq                                uint64
	last                               answer
	renewed                            int64
	rev                                uint64
	life, grace                        int64 // longest it had
	tickets                            []*ticket
	ephemeral, closed                  bool
	news                               []news // what it lost and may not know of
}

// news is a lease that ended without its holder's doing.
type news struct {
	id     uint64
	reason string
	told   bool
}

// mostNews is how many the service promises to remember.
const mostNews = 64

// answer is what the last numbered request came to.
type answer struct {
	kind     string
	reason   string
	tickets  []history.Ref
	released []history.AuditEnded
	lost     []uint64
}

// ticket is one lease.
type ticket struct {
	id, token, handle uint64
	count             int
	session           *session
	party             *party
}

func (t *ticket) deadline() int64 { return t.session.renewed + t.party.pool.terms.LifespanNS }
func (t *ticket) dueAt() int64    { return t.deadline() + t.party.pool.terms.GraceNS }

// chairs are those the ticket shows: the first of its party's.
func (t *ticket) chairs() []int { return t.party.chairs[:min(t.count, len(t.party.chairs))] }

// enter finds the session a request may act for, or the reason why not. A later run of
// the client takes over.
func (h *House) enter(c *history.Command) (*session, string) {
	s := h.sessions[c.Session]
	switch {
	case s == nil:
		return nil, "session_unknown"
	case s.digest != c.Digest, c.Digest == "" && c.Result.Reason == "forbidden":
		return nil, "forbidden"
	case s.closed:
		return nil, "session_unknown"
	case c.Incarnation != 0 && c.Incarnation < s.run:
		return nil, "fenced"
	}
	if c.Incarnation > s.run {
		s.run, s.seq, s.last = c.Incarnation, 0, answer{}
	}
	return s, ""
}

// order judges a request's number: done before (again), refused, or neither.
func (s *session) order(seq uint64, kind string) (again bool, refusal string) {
	if seq == 0 || seq > s.seq {
		return false, ""
	}
	if seq < s.seq || s.last.kind != kind {
		return false, "stale_request"
	}
	return true, ""
}

func (s *session) remember(seq uint64, a answer) {
	if seq != 0 {
		s.seq, s.last = seq, a
	}
}

func (h *House) open(c *history.Command, tenant string) *session {
	s := &session{
		id: c.Session, digest: c.Digest, tenant: tenant,
		user: c.User, host: c.Host, display: c.Display, vendorDefined: c.VendorDefined,
		run: max(1, c.Incarnation), renewed: h.Now, rev: 1,
		life: standardLife, grace: standardGrace, ephemeral: c.Ephemeral,
	}
	h.sessions[s.id] = s
	return s
}

// heartbeat raises the revision, but not of a session that never had a lease.
func (h *House) heartbeat(s *session) {
	s.renewed = h.Now
	if s.rev > 1 {
		s.rev++
	}
}

// drop ends a ticket and frees the chairs that nobody else of its party needs.
func (h *House) drop(id uint64, why string) {
	t := h.tickets[id]
	if t == nil {
		return
	}
	delete(h.tickets, id)
	h.ended[id] = why
	s, party := t.session, t.party
	s.tickets = slices.DeleteFunc(s.tickets, func(x *ticket) bool { return x == t })
	party.tickets = slices.DeleteFunc(party.tickets, func(x *ticket) bool { return x == t })
	need := 0
	for _, x := range party.tickets {
		need = max(need, x.count)
	}
	for _, n := range party.chairs[min(need, len(party.chairs)):] {
		if party.pool.chairs[n] == party {
			delete(party.pool.chairs, n)
		}
	}
	party.chairs = party.chairs[:min(need, len(party.chairs))]
	if len(party.tickets) == 0 && party.key != "" {
		delete(party.pool.parties, party.key)
	}
	if why != "normal" && why != "client_exit" {
		s.news = append(s.news, news{id: id, reason: why})
		s.news = s.news[max(0, len(s.news)-mostNews):]
	}
}

// longestDue is the ticket of the pools asked for that could be reclaimed first, if its time
// has come; ties go by handle. What is due in other pools helps nobody who asks for these,
// and stays until the leader ends it.
func (h *House) longestDue(tenant string, items []history.Item) (first *ticket) {
	for _, t := range h.tickets {
		p := t.party.pool
		if t.dueAt() > h.Now || p.tenant != tenant ||
			!slices.ContainsFunc(items, func(it history.Item) bool { return it.Feature == p.terms.Feature }) {
			continue
		}
		if first == nil || t.before(first) {
			first = t
		}
	}
	return first
}

func (t *ticket) before(o *ticket) bool {
	return cmp.Or(cmp.Compare(t.dueAt(), o.dueAt()), cmp.Compare(t.handle, o.handle), cmp.Compare(t.id, o.id)) < 0
}

// Live says whether a lease with this token is held and not past its grace.
func (h *House) Live(id, token uint64) bool {
	t := h.tickets[id]
	return t != nil && t.token == token && t.dueAt() > h.Now
}

// LeaseIDs lists the live leases of a feature ("" = all), ascending.
func (h *House) LeaseIDs(feature string) []uint64 {
	var ids []uint64
	for id, t := range h.tickets {
		if feature == "" || t.party.pool.terms.Feature == feature {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
