package model

import (
	"fmt"
	"maps"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// Problem is one answer that is not what it had to be.
type Problem struct {
	Index   uint64 // raft index of the entry
	Command int    // place in the entry; -1: the entry itself
	Kind    string
	Text    string
}

func (p Problem) String() string {
	if p.Command < 0 {
		return fmt.Sprintf("entry %d: %s", p.Index, p.Text)
	}
	return fmt.Sprintf("entry %d, command %d (%s): %s", p.Index, p.Command, p.Kind, p.Text)
}

// Promised numbers of the service.
const (
	second = int64(1e9)
	// standardLife and standardGrace are those of the default profile: a session is
	// remembered that long at least.
	standardLife, standardGrace = 120 * second, 120 * second
	// believableMS is how far a wall clock may run ahead of cluster time.
	believableMS = 5 * 60 * 1000
	// restoreLift is how far a restore lifts the tokens.
	restoreLift = 1 << 32
	// mostSeatsAsked is the most one item may ask for; mostItems bounds one checkout.
	mostSeatsAsked, mostItems = 1_000_000, 64
)

// House is the whole service as the model sees it. It is not safe for concurrent use.
type House struct {
	Now      int64 // cluster time, ns
	Calendar int64 // licence calendar, Unix ms

	lastIndex, lastTerm   uint64
	lastHash              string
	epochIndex, epochTerm uint64

	licences []*history.LicenceFile
	pools    []*pool
	sessions map[string]*session
	tickets  map[uint64]*ticket
	seenIDs  map[uint64]bool

	closedUntil int64  // no checkouts before it (after a restore)
	minToken    uint64 // every new token is above it
	topToken    uint64
	lifted      bool // tokens may be higher than the index says
	dated       bool // some entitlement begins or ends

	past []*history.Entry // all so far: a restore goes back to one of them

	problems []Problem
	at       uint64
	command  int
	kind     string
	ended    map[uint64]string // in the entry at hand: id to reason
}

// New is an empty house before the first entry.
func New() *House {
	return &House{sessions: map[string]*session{}, tickets: map[uint64]*ticket{}, seenIDs: map[uint64]bool{}}
}

func (h *House) wrong(format string, args ...any) {
	h.problems = append(h.problems, Problem{h.at, h.command, h.kind, fmt.Sprintf(format, args...)})
}

// Apply carries out one entry and returns what was wrong with its answers.
func (h *House) Apply(e *history.Entry) []Problem {
	h.problems, h.at, h.command, h.kind = nil, e.Index, -1, ""
	h.ended = map[uint64]string{}
	if e.Index <= h.lastIndex || e.Term < h.lastTerm {
		h.wrong("follows entry %d of term %d", h.lastIndex, h.lastTerm)
	}
	switch {
	case e.Lead != nil:
		h.epochIndex, h.epochTerm = e.Index, e.Term
		h.clock(e, h.Now)
		if e.Stale {
			h.wrong("the start of an epoch is never stale")
		}
	case e.Epoch != h.epochIndex || e.Term != h.epochTerm:
		h.deposed(e)
	default:
		h.current(e)
	}
	h.lastIndex, h.lastTerm, h.lastHash = e.Index, e.Term, e.Hash
	h.past = append(h.past, e)
	return h.problems
}

// deposed judges an entry of an old epoch or term: it must have changed nothing.
func (h *House) deposed(e *history.Entry) {
	if !e.Stale {
		h.wrong("was applied, though it is of epoch %d, term %d and the current is %d, term %d", e.Epoch, e.Term, h.epochIndex, h.epochTerm)
		h.carryOut(e)
		return
	}
	if e.NowNS != h.Now {
		h.wrong("a stale entry moved cluster time from %d to %d", h.Now, e.NowNS)
		h.Now = e.NowNS
	}
	if h.lastHash != "" && e.Hash != h.lastHash {
		h.wrong("a stale entry changed the state hash")
	}
}

func (h *House) current(e *history.Entry) {
	if e.Stale {
		h.wrong("was refused as stale, though it is of the current epoch %d and term %d", h.epochIndex, h.epochTerm)
		return
	}
	h.carryOut(e)
}

func (h *House) carryOut(e *history.Entry) {
	want := max(h.Now, e.StampNS)
	if e.StampNS == 0 {
		want = max(h.Now, e.NowNS) // a dump that does not tell the stamp
	}
	h.clock(e, want)
	for i := range e.Commands {
		h.command, h.kind = i, e.Commands[i].Kind
		h.carry(&e.Commands[i])
	}
	h.command, h.kind = -1, ""
	if e.HasEnded {
		h.checkEnded(e.Ended)
	}
}

// clock compares cluster time and calendar after the entry.
func (h *House) clock(e *history.Entry, want int64) {
	switch {
	case e.NowNS < h.Now:
		h.wrong("cluster time went back from %d to %d", h.Now, e.NowNS)
	case e.NowNS != want:
		h.wrong("cluster time is %d, must be %d", e.NowNS, want)
	}
	passed := e.NowNS - h.Now
	h.Now = e.NowNS
	date := e.CalendarMS
	switch {
	case date == 0: // not told: follow the proposer's wall clock as far as it is believable
		date = h.Calendar
		if e.WallMS > date && (date == 0 || e.WallMS <= date+passed/1e6+believableMS) {
			date = e.WallMS
		}
	case date < h.Calendar:
		h.wrong("the licence calendar went back from %d to %d", h.Calendar, date)
	}
	if date != h.Calendar {
		if h.Calendar = date; h.dated {
			h.recount()
		}
	}
}

func (h *House) checkEnded(told []history.AuditEnded) {
	for _, x := range told {
		if why, ok := h.ended[x.ID]; !ok {
			h.wrong("lease %d ended (%s) and must not have", x.ID, x.Reason)
			h.drop(x.ID, x.Reason)
		} else if why != x.Reason {
			h.wrong("lease %d ended by %s, must be %s", x.ID, x.Reason, why)
		}
	}
	if len(told) < len(h.ended) {
		for _, id := range slices.Sorted(maps.Keys(h.ended)) {
			if !slices.ContainsFunc(told, func(x history.AuditEnded) bool { return x.ID == id }) {
				h.wrong("lease %d must have ended (%s)", id, h.ended[id])
			}
		}
	}
}

func (h *House) carry(c *history.Command) {
	switch c.Kind {
	case history.KindCheckout:
		h.checkout(c)
	case history.KindRenew:
		h.renew(c)
	case history.KindRenewMany:
		h.renewMany(c)
	case history.KindCheckin:
		h.checkin(c)
	case history.KindExpire:
		h.expire(c)
	case history.KindExpireSession:
		h.expireSession(c)
	case history.KindKill:
		h.kill(c)
	case history.KindInstall:
		h.install(c)
	case history.KindRemove:
		h.remove(c)
	case history.KindFence:
		h.fence(c)
	case history.KindTick:
		h.agree(c, "")
	case history.KindRestorePart: // it waits for its restore
	case history.KindRestore:
		h.restore(c)
	default:
		h.wrong("no such kind of command")
	}
}

// agree compares the refusal with the expected one ("" is done), and says whether both
// sides did the command.
func (h *House) agree(c *history.Command, want string) bool {
	if c.Result.Reason != want {
		h.wrong("answered %s, must be %s", word(c.Result.Reason), word(want))
	}
	return c.Result.Reason == "" && want == ""
}

func word(reason string) string {
	if reason == "" {
		return "done"
	}
	return reason
}

// Ended lists the leases that ended in the last entry and why, by id.
func (h *House) Ended() (list []history.AuditEnded) {
	for _, id := range slices.Sorted(maps.Keys(h.ended)) {
		list = append(list, history.AuditEnded{ID: id, Reason: h.ended[id]})
	}
	return list
}
