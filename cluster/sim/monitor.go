package sim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/fsm"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// monitor judges every entry that any node applies. It keeps its own account of epochs,
// time, tokens, renewals and effects, made from commands and answers.
type monitor struct {
	w *world
	// first is what the first node to apply an index made of it; all others must agree.
	first map[uint64]judged
	high  uint64 // highest index applied anywhere
	at    map[string]uint64

	epochIndex, epochTerm uint64
	now                   lease.Time
	base                  lease.Time    // T of the current Lead
	baseReal              time.Duration // when the first node applied it
	stampReal             time.Duration // real time of the last stamp, if walls are true
	looks                 lease.Time    // T when the epoch began, with a Lead or a restore

	tokens   map[seat]lease.Token
	sessions map[lease.SessionID]*account
	live     map[lease.ID]lease.Lease // as last shown
	effects  map[effect]bool
	attempts map[string]bool // tries of checkouts that had an effect
	returned []lease.ID      // checked in by the entry being judged
	overused map[string]int  // seats in use beyond the total, by feature
	totals   map[string]int
	profiles map[string]lease.Profile
	rules    rulebook
}

type judged struct {
	hash  [32]byte
	stale bool
}

type seat struct {
	feature string
	number  int
}

// account is what the monitor knows of a session.
type account struct {
	renewed     lease.Time
	rev         uint64
	incarnation uint64
	seq         uint64
}

// effect names one request that may have one effect.
type effect struct {
	session          lease.SessionID
	incarnation, seq uint64
}

func newMonitor(w *world) monitor {
	profiles := map[string]lease.Profile{}
	for _, e := range append(simLicence(1).Entitlements, ruledEntitlements()...) {
		profiles[e.Feature] = e.Profile
	}
	profiles["paint"], profiles["post"] = profiles["studio"], profiles["studio"]
	return monitor{
		rules: newRulebook(),
		w:     w, first: map[uint64]judged{}, at: map[string]uint64{}, tokens: map[seat]lease.Token{},
		sessions: map[lease.SessionID]*account{}, live: map[lease.ID]lease.Lease{},
		effects: map[effect]bool{}, attempts: map[string]bool{}, overused: map[string]int{}, totals: map[string]int{}, profiles: profiles,
	}
}

// entry judges one applied entry, command by command; the world's lock is held.
func (m *monitor) entry(node string, l *raft.Log, e *logv1.Entry, o fsm.Outcome, steps []step) {
	if l.Index <= m.at[node] {
		m.w.report.Restores++ // it replays its log after a start
	}
	m.at[node] = l.Index
	if term, acked := m.w.acks[l.Index]; acked && term != l.Term {
		m.w.fail("C8", "entry %d of term %d was acknowledged; %s applied one of term %d in its place", l.Index, term, node, l.Term)
	}
	if seen, ok := m.first[l.Index]; ok {
		if seen.hash != o.StateHash || seen.stale != o.Stale {
			m.w.fail("F1", "%s applied entry %d with another result than the first node", node, l.Index)
		}
		return
	}
	m.first[l.Index] = judged{o.StateHash, o.Stale}
	m.w.report.Entries++
	if l.Index <= m.high {
		m.w.fail("F1", "%s applied entry %d after %d", node, l.Index, m.high)
	}
	m.high = l.Index
	m.epoch(l, e, o)
	if o.Stale {
		return
	}
	m.time(l, e, o)
	for i := range steps {
		m.step(l, &steps[i])
	}
}

// step judges what one command did.
func (m *monitor) step(l *raft.Log, s *step) {
	m.begin(s)
	if s.command != nil {
		m.w.trace(done{m.w.real(), l.Index, s.now, s.command, s.reply})
		m.ruleCommand(l, s.command, s.reply)
		m.command(l, s.command, s.reply)
	}
	if m.rules.now.restored {
		m.afterRestore(s)
	}
	m.events(l, s)
	m.given(l)
	if s.wrong != nil {
		m.w.fail("L1", "entry %d: %v", l.Index, s.wrong)
	}
	m.capacity(&s.view)
	m.reclaimed(l)
	if m.w.cfg.Ruled {
		m.judgeRules(l, s)
	}
}

// epoch checks C5: an entry counts only if it is of the current epoch and term.
func (m *monitor) epoch(l *raft.Log, e *logv1.Entry, o fsm.Outcome) {
	if e.Lead != nil {
		m.epochIndex, m.epochTerm = l.Index, l.Term
		m.base, m.baseReal, m.looks = o.Now, m.w.real(), o.Now
		m.w.report.Epochs++
		m.w.note("epoch %d: %s leads in term %d at T=%.3fs", l.Index, e.Lead.Node, l.Term, o.Now.Sub(0).Seconds())
		return
	}
	stale := e.Epoch != m.epochIndex || l.Term != m.epochTerm
	if stale {
		m.w.report.Stale++
	}
	if stale != o.Stale {
		m.w.fail("C5", "entry %d of epoch %d, term %d was applied in epoch %d, term %d", l.Index, e.Epoch, l.Term, m.epochIndex, m.epochTerm)
	}
	if stale && o.StateHash != m.first[l.Index-1].hash && m.first[l.Index-1].hash != [32]byte{} {
		m.w.fail("C5", "stale entry %d changed the state", l.Index)
	}
}

// time checks C1 to C4.
func (m *monitor) time(l *raft.Log, e *logv1.Entry, o fsm.Outcome) {
	const rounding = 2 * time.Millisecond
	real := m.w.real()
	if o.Now < m.now {
		m.w.fail("C1", "entry %d: T went back from %v to %v", l.Index, m.now, o.Now)
	}
	if step := o.Now.Sub(m.now); step > cluster.MaxStep {
		m.w.fail("C3", "entry %d: T moved by %v at once", l.Index, step)
	}
	if o.Now.Sub(m.base) > real-m.baseReal+rounding {
		m.w.fail("C2", "entry %d: T moved by %v in %v of real time since the epoch began", l.Index, o.Now.Sub(m.base), real-m.baseReal)
	}
	if m.w.wallOK && e.Lead == nil {
		// The entry carries the true time of its stamp.
		stamped := time.Duration(e.Calendar)*time.Millisecond - time.Duration(m.w.start.UnixMilli())*time.Millisecond
		if o.Now > m.now && m.stampReal != 0 && o.Now.Sub(m.now) > stamped-m.stampReal+rounding {
			m.w.fail("C2/C4", "entry %d: T moved by %v in %v of real time between two stamps", l.Index, o.Now.Sub(m.now), stamped-m.stampReal)
		}
		m.stampReal = max(m.stampReal, stamped)
	}
}

// command judges one command and its answer.
func (m *monitor) command(l *raft.Log, pb *logv1.Command, r lease.Reply) {
	done := r.Refusal == nil
	switch {
	case pb.GetCheckout() != nil:
		c := pb.GetCheckout()
		if r.Replayed {
			m.w.report.Replays++
			return
		}
		if !done {
			m.w.report.Denials++
			return
		}
		if m.w.refused[c.InstanceId] {
			m.w.fail("R1", "entry %d: a checkout answered \"not applied\" was applied", l.Index)
		}
		m.attempts[c.InstanceId] = true
		m.numbered(l, c.Session).renewed = m.now
		m.granted(l, r)
	case pb.GetRenew() != nil && done:
		m.w.report.Renewals++
		m.heard(pb.GetRenew().Session)
		m.shown(l, r.Leases)
	case pb.GetRenewMany() != nil && done:
		m.renewedMany(l, pb.GetRenewMany(), r.Renewed)
	case pb.GetCheckIn() != nil && done && !r.Replayed:
		m.numbered(l, pb.GetCheckIn().Session)
		m.checkedIn(pb.GetCheckIn())
	case pb.GetExpire() != nil && done:
		m.w.report.Expirations++
		m.expired(l, pb.GetExpire())
	}
}

// renewedMany notes the heartbeats of a batch as it does those of one session.
func (m *monitor) renewedMany(l *raft.Log, pb *logv1.RenewMany, answers []lease.Renewed) {
	const width = 40 // id, digest, incarnation
	if len(answers)*width != len(pb.Sessions) {
		m.w.fail("F1", "entry %d: %d answers for %d bytes of sessions", l.Index, len(answers), len(pb.Sessions))
		return
	}
	for i, r := range answers {
		if r.Reason != "" {
			continue
		}
		b := pb.Sessions[i*width:]
		m.w.report.Renewals++
		m.heard(&logv1.SessionRef{Id: b[:16], Incarnation: binary.BigEndian.Uint64(b[32:])})
	}
}

func sessionID(s *logv1.SessionRef) (id lease.SessionID) { copy(id[:], s.Id); return id }

// account checks I2: nothing of an older incarnation has an effect.
func (m *monitor) account(s *logv1.SessionRef) *account {
	id := sessionID(s)
	a := m.session(id)
	switch {
	case s.Incarnation < a.incarnation:
		m.w.fail("I2", "incarnation %d of session %s had an effect after %d", s.Incarnation, id, a.incarnation)
	case s.Incarnation > a.incarnation:
		a.incarnation, a.seq = s.Incarnation, 0
	}
	return a
}

// numbered checks I1 and I2: one effect for each seq, none for a lower one.
func (m *monitor) numbered(l *raft.Log, s *logv1.SessionRef) *account {
	a := m.account(s)
	e := effect{sessionID(s), s.Incarnation, s.Seq}
	if m.effects[e] {
		m.w.fail("I1", "entry %d: request %d of session %s had a second effect", l.Index, s.Seq, e.session)
	}
	m.effects[e] = true
	if s.Seq < a.seq {
		m.w.fail("I2", "entry %d: request %d of session %s had an effect after %d", l.Index, s.Seq, e.session, a.seq)
	}
	a.seq = max(a.seq, s.Seq)
	return a
}

// granted notes what a request was granted. Each new lease checks L3: tokens grow strictly
// per seat.
func (m *monitor) granted(l *raft.Log, r lease.Reply) {
	m.shown(l, r.Leases)
}

// fresh notes a lease that is new.
func (m *monitor) fresh(l *raft.Log, x lease.Lease) {
	m.w.report.Grants++
	for _, n := range x.Seats {
		s := seat{x.Feature, n}
		if x.Token <= m.tokens[s] {
			m.w.fail("L3", "entry %d: seat %d of %s got token %d after %d", l.Index, n, x.Feature, x.Token, m.tokens[s])
		}
		m.tokens[s] = x.Token
	}
	if _, known := m.rules.terms[x.ID]; !known {
		m.rules.terms[x.ID] = m.newTerm(x.Feature)
	}
}

// shown notes leases as they are and checks L5: a deadline never moves back.
func (m *monitor) shown(l *raft.Log, leases []lease.Lease) {
	for _, x := range leases {
		old, held := m.live[x.ID]
		if held && x.Deadline < old.Deadline {
			m.w.fail("L5", "entry %d: the deadline of lease %d moved back", l.Index, x.ID)
		}
		if !held { // else it was held before, and asked for again
			m.fresh(l, x)
		}
		m.live[x.ID] = x
		m.session(x.Session).rev = x.Rev
	}
}

// session is what is known of a session, from now on at least.
func (m *monitor) session(id lease.SessionID) *account {
	if m.sessions[id] == nil {
		m.sessions[id] = &account{}
	}
	return m.sessions[id]
}

// expired checks L4: only the right token and revision, only after deadline and grace. The
// revision counts the heartbeats of a session, which move nothing that ends at a fixed time.
func (m *monitor) expired(l *raft.Log, c *logv1.Expire) {
	x, ok := m.live[lease.ID(c.Ref.Id)]
	if !ok {
		m.w.fail("L4", "entry %d: a lease that was not live was reclaimed", l.Index)
		return
	}
	if a := m.session(x.Session); c.Ref.Token != uint64(x.Token) || c.Rev != a.rev && m.rules.terms[x.ID].kind == ordinary {
		m.w.fail("L4", "entry %d: lease %d was reclaimed by token %d, revision %d; it has %d, %d", l.Index, x.ID, c.Ref.Token, c.Rev, x.Token, a.rev)
	}
	if due := m.due(x); m.now < due {
		m.w.fail("L4", "entry %d: lease %d was reclaimed %v early", l.Index, x.ID, due.Sub(m.now))
	}
}

// due is when a lease may be reclaimed, by the monitor's own account.
func (m *monitor) due(x lease.Lease) lease.Time {
	return m.dueOf(x.Session, m.rules.terms[x.ID])
}

func (m *monitor) dueOf(s lease.SessionID, t term) lease.Time {
	if t.kind != ordinary {
		return t.end
	}
	return m.session(s).renewed.Add(t.profile.Lifespan + t.profile.Grace)
}

// events checks U1: every grant is ended once, with one reason.
func (m *monitor) events(l *raft.Log, s *step) {
	m.rules.now.ahead = s.events
	for _, e := range s.events {
		switch e.Kind {
		case lease.Granted:
			if _, asked := m.live[e.Lease.ID]; !asked {
				m.foundOut(l, e, &s.view)
			}
			m.rules.now.granted = append(m.rules.now.granted, e)
			m.w.note("lease %d of %s granted to %s at %s, token %d", e.Lease.ID, e.Feature, e.Principal.User, e.Principal.Host, e.Lease.Token)
			continue
		case lease.Ended:
			m.w.note("lease %d of %s ended: %s", e.Lease.ID, e.Feature, e.Release)
		default:
			continue
		}
		if _, ok := m.live[e.Lease.ID]; !ok {
			m.w.fail("U1", "lease %d ended without having been granted", e.Lease.ID)
		}
		if e.Release == 0 || e.At < e.Start {
			m.w.fail("U1", "lease %d ended without a reason or before it began", e.Lease.ID)
		}
		m.endedRightly(e)
		m.rules.now.ended = append(m.rules.now.ended, e)
		delete(m.live, e.Lease.ID)
		delete(m.rules.terms, e.Lease.ID)
	}
}

// given checks that an acknowledged check-in left nothing behind (L7).
func (m *monitor) given(l *raft.Log) {
	for _, id := range m.returned {
		if x, ok := m.live[id]; ok && m.rules.terms[id].kind != lingering {
			m.w.fail("L7", "entry %d: lease %d of %s was checked in and is still live", l.Index, id, x.Feature)
		}
	}
	m.returned = m.returned[:0]
}

// capacity checks L1: no seat beyond the total is granted; what a smaller licence left
// over only shrinks.
func (m *monitor) capacity(v *view) {
	for _, p := range v.pools {
		most := p.Total + m.rules.most(p.Feature) - m.rules.seats[p.Feature]
		over := max(0, p.InUse-most)
		if over > m.overused[p.Feature] && most >= m.totals[p.Feature] {
			m.w.fail("L1", "feature %s: %d of %d seats in use", p.Feature, p.InUse, most)
		}
		m.overused[p.Feature], m.totals[p.Feature] = over, most
	}
}

// reclaimed checks L7: what nobody renews is gone soon after it is due. Cluster time
// moves only while entries are committed, so this holds in outages too.
func (m *monitor) reclaimed(l *raft.Log) {
	for id, x := range m.live {
		if late := m.late(m.due(x)); late > soon {
			m.w.fail("L7", "entry %d: lease %d of %s is %v past its grace", l.Index, id, x.Feature, late)
		}
	}
}

// finish checks U1 at the end: nothing that was granted is unaccounted for.
func (m *monitor) finish() {
	for id, x := range m.live {
		m.w.fail("U1", "lease %d of %s was granted and never ended", id, x.Feature)
	}
	for _, f := range slices.Sorted(maps.Keys(m.rules.lived)) {
		if lived, used := m.rules.lived[f], m.rules.used[f]; lived != used {
			m.w.fail("U1", "usage records of %s say %v of seat time; the entries say %v", f, used, lived)
		}
	}
}

// believes checks L2 whenever a belief begins or is looked at: at this instant nobody
// else who is awake believes in one of these seats. A share group counts as one; a lease
// that an operator took back is no longer a belief that anybody guarantees.
func (w *world) believes(c *client, h *holding) {
	if w.killed[h.ID] || h.belief.State(c.now()) == lease.Gone {
		return
	}
	w.believesBesideTokens(c, h)
	for _, o := range w.clients {
		if o == c || o.session == nil || time.Until(o.asleepUntil) > 0 {
			continue
		}
		for _, x := range o.session.held {
			if x.Feature != h.Feature || w.killed[x.ID] || !overlap(x.Seats, h.Seats) || x.belief.State(o.now()) == lease.Gone {
				continue
			}
			if h.Feature == "shared" && o.user == c.user && o.host == c.host {
				continue
			}
			w.fail("L2", "%s (lease %d, token %d) and %s (lease %d, token %d) both believe in seat %v of %s",
				c.name, h.ID, h.Token, o.name, x.ID, x.Token, h.Seats, h.Feature)
		}
	}
}

func overlap(a, b []int) bool {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				return true
			}
		}
	}
	return false
}

// mark names one copy of a request.
func (w *world) mark() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.copies++
	return fmt.Sprint("copy-", w.copies)
}

// answered notes what a node answered to one try.
func (w *world) answered(cmd lease.Command, a cluster.Applied, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.acked = max(w.acked, a.Index)
		w.acks[a.Index] = a.Term
		return
	}
	var other *cluster.NotLeaderError
	if c, ok := cmd.(lease.Checkout); ok && (errors.As(err, &other) || errors.Is(err, cluster.ErrNotApplied) || errors.Is(err, cluster.ErrOverloaded) || errors.Is(err, cluster.ErrStopped)) {
		w.refused[c.InstanceID] = true
		if w.monitor.attempts[c.InstanceID] {
			w.fail("R1", "a checkout answered %q had been applied", err)
		}
	}
}
