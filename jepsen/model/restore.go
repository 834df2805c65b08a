package model

import (
	"maps"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// restored is what the house says of a lease that a restore took away.
const restored = "removed_by_admin"

// restore goes back to the state of a backup, which is the house as it was at one of the
// entries before. Time, numbers and all that was answered since do not go back, and what
// ended since does not come back.
func (h *House) restore(c *history.Command) {
	if !h.agree(c, "") {
		return
	}
	if c.Restore == nil {
		h.wrong("the dump does not say what is restored")
		return
	}
	was := New()
	for _, e := range h.past {
		if e.Index <= c.Restore.Index {
			was.Apply(e)
		}
	}
	if was.lastHash != c.Restore.Hash && c.Restore.Hash != "" {
		h.wrong("the backup of entry %d has the hash %.16s, the log has %.16s", c.Restore.Index, c.Restore.Hash, was.lastHash)
	}
	longest := int64(0)
	for _, p := range slices.Concat(h.pools, was.pools) {
		longest = max(longest, p.terms.LifespanNS+p.terms.GraceNS)
	}
	fence := max(longest, h.closedUntil-h.Now, was.closedUntil-was.Now)
	was.keepOnly(h)
	for id := range h.tickets {
		if was.tickets[id] == nil {
			h.ended[id] = restored
		}
	}
	h.licences, h.pools, h.sessions, h.tickets = was.licences, was.pools, was.sessions, was.tickets
	h.closedUntil = h.Now + fence
	h.minToken = max(h.minToken, h.topToken, was.minToken, was.topToken) + restoreLift
	h.lifted = true
	h.recount()
	for _, s := range h.sessions {
		h.heartbeat(s)
	}
	h.epochIndex = h.at
}

// keepOnly takes out of the house as it was what is gone now, and brings forward what
// was answered since.
func (h *House) keepOnly(now *House) {
	for _, id := range slices.Sorted(maps.Keys(h.tickets)) {
		if t := now.tickets[id]; t == nil || t.token != h.tickets[id].token || t.session.id != h.tickets[id].session.id {
			h.drop(id, "normal")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(h.sessions)) {
		s, later := h.sessions[id], now.sessions[id]
		switch {
		case later == nil:
			delete(h.sessions, id)
			continue
		case later.closed && !s.closed:
			h.closeSession(s)
		}
		s.run, s.seq, s.last = later.run, later.seq, later.last
	}
}
