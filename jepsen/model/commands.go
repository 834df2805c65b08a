package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// holders names who sits there.
func (p *party) holders() string {
	var ids []string
	for _, t := range p.tickets {
		ids = append(ids, fmt.Sprintf("lease %d", t.id))
	}
	return strings.Join(ids, ", ")
}

// compare checks a lease as an answer shows it.
func (h *House) compare(t *ticket, x *history.AuditLease) {
	p := t.party.pool
	switch {
	case x.Token != t.token:
		h.wrong("lease %d shows token %d, has %d", x.ID, x.Token, t.token)
	case x.Feature != p.terms.Feature || x.Version != p.terms.Version:
		h.wrong("lease %d shows %s %s, is of %s %s", x.ID, x.Feature, x.Version, p.terms.Feature, p.terms.Version)
	case x.Count != t.count || len(x.Seats) != t.count:
		h.wrong("lease %d shows %d seats and the numbers of %d, was asked for %d", x.ID, x.Count, len(x.Seats), t.count)
	case !slices.Equal(x.Seats, t.chairs()):
		h.wrong("lease %d shows the seats %v, sits on %v", x.ID, x.Seats, t.chairs())
	case x.DeadlineNS != t.deadline():
		h.wrong("lease %d shows the deadline %d, must be %d", x.ID, x.DeadlineNS, t.deadline())
	case x.Rev != 0 && x.Rev != t.session.rev:
		h.wrong("lease %d shows revision %d, must be %d", x.ID, x.Rev, t.session.rev)
	}
}

// shown checks that an answer shows exactly these leases.
func (h *House) shown(c *history.Command, want []*ticket) {
	seen := map[uint64]bool{}
	for i := range c.Result.Leases {
		x := &c.Result.Leases[i]
		at := slices.IndexFunc(want, func(t *ticket) bool { return t.id == x.ID })
		if at < 0 || seen[x.ID] {
			h.wrong("lease %d is shown as held, and is not", x.ID)
			continue
		}
		seen[x.ID] = true
		h.compare(want[at], x)
	}
	for _, t := range want {
		if !seen[t.id] {
			h.wrong("lease %d is held and not shown", t.id)
		}
	}
}

func (h *House) renew(c *history.Command) {
	s, reason := h.enter(c)
	if !h.agree(c, reason) {
		return
	}
	h.heartbeat(s)
	h.shown(c, s.tickets)
	h.toldLost(c, s)
}

// renewMany is the heartbeat of many sessions, each judged by itself. It tells nothing of
// what was lost, only whether there may be something to tell: after a restore there may.
func (h *House) renewMany(c *history.Command) {
	if !h.agree(c, "") {
		return
	}
	for i := range c.Renewals {
		x := &c.Renewals[i]
		one := history.Command{Session: x.Session, Digest: x.Digest, Incarnation: x.Incarnation,
			Result: history.CommandResult{Reason: x.Reason}}
		s, reason := h.enter(&one)
		if x.Reason != reason {
			h.wrong("session %s answered %s, must be %s", x.Session, word(x.Reason), word(reason))
		}
		if x.Reason != "" || reason != "" {
			continue
		}
		h.heartbeat(s)
		remaining := s.life
		for _, t := range s.tickets {
			remaining = min(remaining, t.deadline()-h.Now)
		}
		news := h.Now < h.closedUntil || slices.ContainsFunc(s.news, func(n news) bool { return !n.told })
		if x.Leases != len(s.tickets) || x.RemainingNS != remaining || x.News != news {
			h.wrong("session %s is told of %d leases for %d and news %v, must be %d, %d, %v",
				x.Session, x.Leases, x.RemainingNS, x.News, len(s.tickets), remaining, news)
		}
	}
}

// toldLost checks the news of a heartbeat: everything that was not told yet, everything
// the client wrongly believes in, and nothing that it holds.
func (h *House) toldLost(c *history.Command, s *session) {
	believed := func(id uint64) bool {
		return slices.ContainsFunc(c.Refs, func(r history.Ref) bool { return r.ID == id })
	}
	must := map[uint64]bool{}
	for i := range s.news {
		if n := &s.news[i]; !n.told || believed(n.id) {
			must[n.id] = true
			n.told = true
		}
	}
	for _, r := range c.Refs {
		if !h.holds(s, r) {
			must[r.ID] = true
		}
	}
	told := map[uint64]bool{}
	for _, x := range c.Result.Lost {
		told[x.ID] = true
		if !must[x.ID] {
			h.wrong("lease %d is told as lost (%s) without need", x.ID, x.Reason)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(must)) {
		if !told[id] {
			h.wrong("lease %d is lost and the heartbeat does not say so", id)
		}
	}
	s.news = slices.DeleteFunc(s.news, func(n news) bool { return !must[n.id] })
}

// holds says whether the session holds the lease; a token of 0 fits any.
func (h *House) holds(s *session, r history.Ref) bool {
	t := h.tickets[r.ID]
	return t != nil && t.session == s && (r.Token == 0 || r.Token == t.token)
}

func (h *House) checkin(c *history.Command) {
	s, reason := h.enter(c)
	again := false
	if reason == "" {
		again, reason = s.order(c.Seq, history.KindCheckin)
	}
	if reason != "" {
		h.agree(c, reason)
		return
	}
	if again {
		h.repeatCheckin(c, s)
		return
	}
	if c.Result.Replayed {
		h.wrong("answered as a repetition, and it is new")
	}
	var back []*ticket
	var lost []uint64
	if c.Close || len(c.Refs) == 0 {
		back = slices.Clone(s.tickets)
	}
	for _, r := range c.Refs {
		switch {
		case !h.holds(s, r):
			lost = append(lost, r.ID)
		case !slices.Contains(back, h.tickets[r.ID]):
			back = append(back, h.tickets[r.ID])
		}
	}
	if len(back) == 0 && len(lost) > 0 && !c.Close {
		h.agree(c, "fenced")
		s.remember(c.Seq, answer{kind: history.KindCheckin, reason: "fenced"})
		return
	}
	if !h.agree(c, "") {
		s.remember(c.Seq, answer{kind: history.KindCheckin, reason: c.Result.Reason})
		return
	}
	why := "normal"
	if c.Reason == "client_exit" {
		why = c.Reason
	}
	h.releasedAre(c, back, why)
	for _, t := range back {
		h.drop(t.id, why)
	}
	s.remember(c.Seq, answer{kind: history.KindCheckin, released: c.Result.Released, lost: lost})
	if c.Close {
		h.closeSession(s)
	}
}

// closeSession ends a session. It is remembered for a while, so that a late copy of its
// first request does not open it again; one that the server named itself is not.
func (h *House) closeSession(s *session) {
	if s.ephemeral {
		delete(h.sessions, s.id)
		return
	}
	s.closed, s.last, s.news = true, answer{}, nil
}

func (h *House) repeatCheckin(c *history.Command, s *session) {
	if !c.Result.Replayed {
		h.wrong("request %d of the session was carried out a second time", c.Seq)
		return
	}
	h.agree(c, s.last.reason)
	if len(c.Result.Released) != len(s.last.released) {
		h.wrong("%d leases told as returned, the first answer had %d", len(c.Result.Released), len(s.last.released))
	}
}

// releasedAre checks that an answer names exactly these tickets as ended for that reason.
func (h *House) releasedAre(c *history.Command, want []*ticket, why string) {
	for _, x := range c.Result.Released {
		at := slices.IndexFunc(want, func(t *ticket) bool { return t.id == x.ID })
		switch {
		case at < 0:
			h.wrong("lease %d is told as ended, and must not be", x.ID)
		case want[at].token != x.Token:
			h.wrong("lease %d ended with token %d, has %d", x.ID, x.Token, want[at].token)
		case x.Reason != why:
			h.wrong("lease %d ended by %s, must be %s", x.ID, x.Reason, why)
		}
	}
	for _, t := range want {
		if !names(c.Result.Released, t.id) {
			h.wrong("lease %d must have ended (%s)", t.id, why)
		}
	}
}

func (h *House) expire(c *history.Command) {
	t := h.tickets[c.ID]
	reason := ""
	switch {
	case t == nil, t.token != c.Token, t.session.rev != c.Rev:
		reason = "fenced"
	case t.dueAt() > h.Now:
		reason = "fenced"
	}
	if !h.agree(c, reason) {
		if c.Result.Reason == "" && t != nil { // it did, and must not have
			h.wrong("lease %d was reclaimed; it may be at %d, at revision %d, by token %d", c.ID, t.dueAt(), t.session.rev, t.token)
			h.drop(c.ID, "missed_heartbeat")
		}
		return
	}
	h.releasedAre(c, []*ticket{t}, "missed_heartbeat")
	h.drop(c.ID, "missed_heartbeat")
}

func (h *House) expireSession(c *history.Command) {
	s := h.sessions[c.Session]
	reason := ""
	switch {
	case s == nil:
		reason = "session_unknown"
	case s.rev != c.Rev, len(s.tickets) > 0, s.renewed+s.life+s.grace > h.Now:
		reason = "fenced"
	}
	h.agree(c, reason)
	if c.Result.Reason == "" && s != nil {
		delete(h.sessions, c.Session)
	}
}

func (h *House) kill(c *history.Command) {
	if !h.agree(c, "") {
		return
	}
	var hit []*ticket
	for _, r := range c.Refs {
		if t := h.tickets[r.ID]; t != nil && (r.Token == 0 || r.Token == t.token) && !slices.Contains(hit, t) {
			hit = append(hit, t)
		}
	}
	h.releasedAre(c, hit, "removed_by_admin")
	for _, t := range hit {
		h.drop(t.id, "removed_by_admin")
	}
}
