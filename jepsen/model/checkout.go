package model

import (
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// wish is where the seats of one item have to come from.
type wish struct {
	item  history.Item
	held  *ticket // held already: the same lease is answered
	pool  *pool
	party *party // the share group it joins
	fresh int    // chairs to be taken anew
}

func (h *House) checkout(c *history.Command) {
	tenant := c.Tenant
	if tenant == "" {
		tenant = "default"
	}
	if reason := malformed(c); reason != "" {
		h.agree(c, reason)
		return
	}
	s, known := h.sessions[c.Session]
	switch {
	case !known && c.Seq > 1:
		h.agree(c, "session_unknown")
		return
	case known:
		var reason string
		if s, reason = h.enter(c); reason == "" && s.tenant != tenant {
			reason = "forbidden"
		}
		again := false
		if reason == "" {
			again, reason = s.order(c.Seq, history.KindCheckout)
		}
		if reason != "" {
			h.agree(c, reason)
			return
		}
		if again {
			h.repeatCheckout(c, s)
			return
		}
	}
	if c.Result.Replayed {
		h.wrong("answered as a repetition, and it is new")
	}
	who := s
	if who == nil {
		who = &session{user: c.User, host: c.Host, display: c.Display, vendorDefined: c.VendorDefined}
	}
	wishes, reason := h.wishes(c, tenant, who)
	for reason == "no_seats" || reason == "sessions_exceeded" {
		t := h.longestDue(tenant, c.Items)
		if t == nil {
			break
		}
		h.drop(t.id, "missed_heartbeat")
		wishes, reason = h.wishes(c, tenant, who)
	}
	h.agree(c, reason)
	if c.Result.Reason != "" {
		h.refused(c, s, tenant)
		return
	}
	h.granted(c, s, tenant, wishes, reason != "")
}

func malformed(c *history.Command) string {
	if c.Session == "" || len(c.Items) == 0 || len(c.Items) > mostItems {
		return "invalid"
	}
	for _, it := range c.Items {
		if it.Feature == "" || it.Count < 1 {
			return "invalid"
		}
		if it.Count > mostSeatsAsked {
			return "too_many_requested"
		}
	}
	return ""
}

// refused notes a refusal, so that a late copy of the request finds it. The client that
// waits for seats asks on with the same number.
func (h *House) refused(c *history.Command, s *session, tenant string) {
	temporary := slices.Contains([]string{"no_seats", "sessions_exceeded", "overloaded", "not_started"}, c.Result.Reason)
	if c.Seq == 0 || c.Tentative && temporary {
		return
	}
	if s == nil {
		s = h.open(c, tenant)
	}
	s.remember(c.Seq, answer{kind: history.KindCheckout, reason: c.Result.Reason})
}

// repeatCheckout judges the second answer to one request.
func (h *House) repeatCheckout(c *history.Command, s *session) {
	if !c.Result.Replayed {
		h.wrong("request %d of the session was carried out a second time", c.Seq)
		if c.Result.Reason == "" { // go on from what it did
			h.granted(c, s, s.tenant, nil, true)
			return
		}
	}
	h.agree(c, s.last.reason)
	if s.last.reason != "" || c.Result.Reason != "" {
		return
	}
	var held []*ticket
	gone := 0
	for _, r := range s.last.tickets {
		if t := h.tickets[r.ID]; t != nil && t.session == s && t.token == r.Token {
			held = append(held, t)
		} else {
			gone++
			if !names(c.Result.Lost, r.ID) {
				h.wrong("lease %d of the first answer is gone and not told as lost", r.ID)
			}
		}
	}
	if len(c.Result.Lost) != gone {
		h.wrong("%d leases told as lost, must be %d", len(c.Result.Lost), gone)
	}
	h.shown(c, held)
}

func names(list []history.AuditEnded, id uint64) bool {
	return slices.ContainsFunc(list, func(x history.AuditEnded) bool { return x.ID == id })
}

// wishes finds the seats for all items, or the first reason why not.
func (h *House) wishes(c *history.Command, tenant string, who *session) ([]wish, string) {
	if h.Now < h.closedUntil {
		return nil, "overloaded"
	}
	var list []wish
	for _, it := range c.Items {
		w, reason := h.wish(it, tenant, who)
		if reason == "" && slices.ContainsFunc(list, func(o wish) bool { return o.pool == w.pool }) {
			reason = "invalid"
		}
		if reason != "" {
			return nil, reason
		}
		list = append(list, w)
	}
	return list, ""
}

func (h *House) wish(it history.Item, tenant string, who *session) (wish, string) {
	for _, t := range who.tickets {
		if p := t.party.pool; p.terms.Feature == it.Feature && compareVersions(p.terms.Version, it.Version) >= 0 {
			if t.count != it.Count {
				return wish{}, "invalid"
			}
			return wish{item: it, held: t, pool: p}, ""
		}
	}
	fitting, reason := h.fitting(it, tenant)
	if reason != "" {
		return wish{}, reason
	}
	reason = "no_seats"
	for _, p := range fitting {
		w := wish{item: it, pool: p, fresh: it.Count}
		if key := p.shareKey(who); key != "" && p.parties[key] != nil {
			w.party = p.parties[key]
			if len(w.party.tickets) >= p.terms.ShareMax {
				reason = "sessions_exceeded"
				continue
			}
			w.fresh = max(0, it.Count-len(w.party.chairs))
		}
		if w.fresh <= p.free() {
			return w, ""
		}
	}
	return wish{}, reason
}

// fitting lists the pools that could ever serve the item, or why there is none.
func (h *House) fitting(it history.Item, tenant string) ([]*pool, string) {
	var list []*pool
	var over, early, older bool
	largest := 0
	for _, p := range h.pools { // lowest version first
		if p.tenant != tenant || p.terms.Feature != it.Feature || !p.known() {
			continue
		}
		if compareVersions(p.terms.Version, it.Version) < 0 {
			older = true
			continue
		}
		over, early = over || p.over, early || p.early
		if p.licensed > 0 {
			list, largest = append(list, p), max(largest, p.licensed)
		}
	}
	switch {
	case len(list) > 0 && it.Count > largest:
		return nil, "too_many_requested"
	case len(list) > 0:
		return list, ""
	case early:
		return nil, "not_started"
	case over:
		return nil, "license_expired"
	case older:
		return nil, "version"
	}
	return nil, "no_feature"
}

// granted books what was granted. If the grant was wrong, or says nothing of where the
// seats come from, it books what the answer shows.
func (h *House) granted(c *history.Command, s *session, tenant string, wishes []wish, wrong bool) {
	if s == nil {
		s = h.open(c, tenant)
	}
	h.heartbeat(s)
	s.rev = max(s.rev, 2) // it has a lease from now on
	if len(c.Result.Leases) != len(c.Items) {
		h.wrong("%d leases for %d items", len(c.Result.Leases), len(c.Items))
	}
	var done answer
	done.kind = history.KindCheckout
	for i := range c.Result.Leases {
		x := &c.Result.Leases[i]
		var w wish
		switch {
		case i < len(wishes) && !wrong:
			w = wishes[i]
		case i < len(c.Items):
			w = h.guess(c.Items[i], tenant, s, x)
		}
		if w.pool == nil {
			h.wrong("lease %d is of no pool that is licensed", x.ID)
			continue
		}
		t := w.held
		if t != nil && t.id != x.ID {
			h.wrong("the session holds lease %d of %s and got another one, %d", t.id, w.item.Feature, x.ID)
			t = nil
		}
		if t == nil {
			t = h.seat(s, &w, x)
		}
		h.compare(t, x)
		done.tickets = append(done.tickets, history.Ref{ID: x.ID, Token: x.Token})
	}
	s.remember(c.Seq, done)
}

// guess says where a grant that must not be would belong.
func (h *House) guess(it history.Item, tenant string, s *session, x *history.AuditLease) wish {
	w := wish{item: it, held: h.tickets[x.ID]}
	for _, p := range h.pools {
		if p.tenant == tenant && p.terms.Feature == x.Feature && p.terms.Version == x.Version {
			w.pool = p
			if key := p.shareKey(s); key != "" {
				w.party = p.parties[key]
			}
			return w
		}
	}
	return w
}

// seat makes the ticket that the answer shows and checks its seats and its token.
func (h *House) seat(s *session, w *wish, x *history.AuditLease) *ticket {
	p := w.pool
	if h.seenIDs[x.ID] {
		h.wrong("lease id %d was used before", x.ID)
	}
	h.seenIDs[x.ID] = true
	pty := w.party
	if pty == nil {
		pty = &party{pool: p, key: p.shareKey(s)}
		if pty.key != "" {
			p.parties[pty.key] = pty
		}
	}
	for i, n := range x.Seats {
		switch {
		case i < len(pty.chairs):
			if pty.chairs[i] != n {
				h.wrong("lease %d shows seat %d, its share group sits on %d", x.ID, n, pty.chairs[i])
			}
			continue
		case p.chairs[n] != nil:
			h.wrong("seat %d of %s is given to lease %d while %s holds it", n, p.terms.Feature, x.ID, p.chairs[n].holders())
		case n < 1 || n > p.licensed:
			h.wrong("seat %d of %s is given, and %d are licensed", n, p.terms.Feature, p.licensed)
		}
		p.chairs[n] = pty
		pty.chairs = append(pty.chairs, n)
	}
	h.token(p, x)
	t := &ticket{id: x.ID, token: x.Token, handle: x.Handle, count: w.item.Count, session: s, party: pty}
	pty.tickets = append(pty.tickets, t)
	s.tickets = append(s.tickets, t)
	s.life, s.grace = max(s.life, p.terms.LifespanNS), max(s.grace, p.terms.GraceNS)
	h.tickets[x.ID] = t
	return t
}

// token checks that a new token is above all that its seats ever had, and no higher than
// the entry and these ask for.
func (h *House) token(p *pool, x *history.AuditLease) {
	low := max(h.at, h.minToken+1)
	for _, n := range x.Seats {
		if x.Token <= p.lastToken[n] {
			h.wrong("seat %d of %s gets token %d after %d", n, p.terms.Feature, x.Token, p.lastToken[n])
		}
		low = max(low, p.lastToken[n]+1)
		p.lastToken[n] = max(p.lastToken[n], x.Token)
	}
	if x.Token < low || x.Token > low && !h.lifted {
		h.wrong("lease %d has token %d, must be %d", x.ID, x.Token, low)
	}
	h.topToken = max(h.topToken, x.Token)
}
