package checker

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// mini is a toy licence service on simulated time, with toy clients and one leader change.
// It writes what a run of the harness would: a history and three audits. With a bug
// switched on it does one thing wrong. It shares nothing with the real service.
type mini struct {
	rnd    *rand.Rand
	bugs   map[string]bool
	queue  []event // by time
	serial int

	ops       []history.Op
	log       []history.Entry
	index     uint64
	term      uint64
	epoch     uint64
	base      int64 // cluster time at the Lead
	anchor    int64 // real time of the Lead
	now       int64
	downUntil int64
	hash      uint64

	sessions map[string]*miniSession
	leases   []*miniLease
	lastTok  map[string]uint64
	ids      uint64
	process  history.Process
	resource uint64 // highest token the toy resource saw
	writes   uint64
}

type event struct {
	at, serial int64
	do         func(t int64)
}

type miniSession struct {
	id, user, host, client string
	renewed                int64
	rev, seq               uint64
	last                   *history.Command
	closed                 bool
	news                   []history.AuditEnded
}

type miniLease struct {
	id, token uint64
	feature   string
	count     int
	seats     []int
	s         *miniSession
}

const sec = int64(1e9)

var miniPools = []Pool{
	{Feature: "cad", Version: "2.0", Total: 3, LifespanNS: 4 * sec, GraceNS: 3 * sec},
	{Feature: "solver", Version: "1.0", Total: 2, LifespanNS: 4 * sec, GraceNS: 3 * sec, ShareBy: "uh", ShareMax: 2},
}

func miniTest() Test {
	limits := DefaultLimits()
	limits.ElectionNS, limits.GapNS = 3*sec, 8*sec
	return Test{
		Seed: 1, Nodes: []string{"n1", "n2", "n3"}, Concurrency: 100, Pools: miniPools, Limits: limits,
		Require: Require{
			PerPool: map[string]int{"checkout/granted": 10, "checkout/no_seats": 2, "renew/done": 10, "checkin/done": 5},
			Overall: map[string]int{"kill/done": 1, "status/done": 20, "verify/done": 5, "write/accepted": 5}, PerFault: 5, Healthy: 20,
		},
	}
}

func newMini(seed uint64, bugs ...string) *mini {
	m := &mini{rnd: rand.New(rand.NewPCG(seed, 7)), bugs: map[string]bool{}, sessions: map[string]*miniSession{}, lastTok: map[string]uint64{}}
	for _, b := range bugs {
		m.bugs[b] = true
	}
	return m
}

// at plans something.
func (m *mini) at(t int64, do func(t int64)) {
	m.serial++
	e := event{t, int64(m.serial), do}
	i, _ := slices.BinarySearchFunc(m.queue, e, func(a, b event) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.serial, b.serial)) })
	m.queue = slices.Insert(m.queue, i, e)
}

func (m *mini) note(op history.Op, t int64) history.Op {
	op.Index, op.Time = int64(len(m.ops)), t
	m.ops = append(m.ops, op)
	return op
}

func (m *mini) fact(t int64, f history.F, client, session string, v any) {
	p := history.Observer
	if f == history.FStart || f == history.FStop || f == history.FPhase {
		p = history.Nemesis
	}
	m.note(history.Op{Process: p, Type: history.Info, F: f, Client: client, Session: session, Value: v}, t)
}

// run plays the whole story: 40 s of load, a leader change, 40 s of load, closing.
func (m *mini) run() (Test, []history.Op, []*history.Audit) {
	m.at(0, func(t int64) { m.phase(t, history.PhaseWarm); m.lead(t); m.install(t) })
	for i := range 7 {
		c := &miniClient{m: m, name: fmt.Sprintf("c%d", i), user: fmt.Sprintf("u%d", i/2), feature: miniPools[i%2].Feature, process: m.fresh()}
		if m.bugs["throttled"] && i > 0 {
			break
		}
		m.at(sec/10*int64(i+1), c.begin)
	}
	if m.bugs["dedupe"] || m.bugs["new request"] {
		// They show in a retry: somebody comes first, gets no answer and asks again. It shares
		// its seat with itself, so that there is one for the second try.
		c := &miniClient{m: m, name: "retry", user: "retry", feature: "solver", process: m.fresh(), loses: 1}
		m.at(sec/50, c.begin)
	}
	w := &miniClient{m: m, name: "watch", process: m.fresh()}
	m.at(sec/3, w.watch)
	m.at(sec, m.tick)
	m.at(40*sec, func(t int64) {
		m.phase(t, history.PhaseFaults)
		m.downUntil = t + 2*sec
		if m.bugs["outage"] {
			m.downUntil = t + 12*sec + 2
		}
		m.fact(t, history.FStart, "", "", &history.Fault{ID: "f1", Family: "kill", Nodes: []string{"n1"}})
	})
	m.at(42*sec+1, func(t int64) {
		if m.bugs["outage"] {
			m.at(t+10*sec, m.lead)
			return
		}
		m.lead(t)
	})
	m.at(46*sec, func(t int64) {
		m.fact(t, history.FStop, "", "", &history.Fault{ID: "f1", Family: "kill", Nodes: []string{"n1"}, Bit: true, Proof: "term 2"})
		m.phase(t, history.PhaseHealed)
	})
	if m.bugs["clock fault"] {
		clock := history.Fault{ID: "f2", Family: "clock-rate", Nodes: []string{"n1"}, BreaksClock: true, Bit: true}
		m.at(54*sec, func(t int64) { m.fact(t, history.FStart, "", "", &clock) })
		m.at(79*sec, func(t int64) { m.fact(t, history.FStop, "", "", &clock) })
	}
	m.at(80*sec, func(t int64) { m.phase(t, history.PhaseClosed) })
	for len(m.queue) > 0 {
		e := m.queue[0]
		m.queue = m.queue[1:]
		if e.at > 105*sec {
			break
		}
		e.do(e.at)
	}
	var audits []*history.Audit
	for _, n := range []string{"n1", "n2", "n3"} {
		a := &history.Audit{Node: n}
		for _, e := range m.log {
			e.Commands = slices.Clone(e.Commands)
			a.Entries = append(a.Entries, e)
		}
		audits = append(audits, a)
	}
	return miniTest(), m.ops, audits
}

func (m *mini) phase(t int64, name string) {
	m.fact(t, history.FPhase, "", "", &history.Phase{Name: name})
}

func (m *mini) fresh() history.Process { m.process++; return m.process - 1 }

// clock is cluster time at real time t.
func (m *mini) clock(t int64) int64 {
	elapsed := t - m.anchor
	if m.bugs["fast"] && t > 55*sec {
		elapsed += (t - 55*sec) / 2
	}
	if m.bugs["stuck"] && t > 60*sec {
		elapsed = min(elapsed, 60*sec-m.anchor)
	}
	return max(m.now, m.base+elapsed-elapsed/500)
}

func (m *mini) entry(t int64, e history.Entry) *history.Entry {
	m.index++
	if m.rnd.IntN(5) == 0 {
		m.index++ // one of raft's own
	}
	e.Index, e.Term, e.NowNS = m.index, m.term, m.now
	e.CalendarMS, e.HasEnded = 1000+t/1e6, true
	m.hash = m.hash*31 + e.Index + 1
	e.Hash = fmt.Sprintf("%016x", m.hash)
	m.log = append(m.log, e)
	return &m.log[len(m.log)-1]
}

func (m *mini) lead(t int64) {
	m.term++
	if m.bugs["backwards"] && m.term == 2 {
		m.now -= 5 * sec
	}
	m.base, m.anchor = m.now, t
	e := m.entry(t, history.Entry{Lead: &history.Lead{Node: "n1"}})
	m.epoch = e.Index
}

func (m *mini) install(t int64) {
	x := &history.LicenceFile{ID: "L1", Tenant: "default", Vendor: "v"}
	for _, p := range miniPools {
		x.Entitlements = append(x.Entitlements, history.Entitlement{Feature: p.Feature, Version: p.Version, Count: p.Total,
			LifespanNS: p.LifespanNS, GraceNS: p.GraceNS, ShareBy: p.ShareBy, ShareMax: p.ShareMax, Serial: p.Feature})
	}
	m.commit(t, history.Command{Kind: history.KindInstall, Licence: x})
}

// commit carries one command out and writes it to the log.
func (m *mini) commit(t int64, c history.Command) *history.Entry {
	stamp := m.clock(t)
	m.now = stamp
	e := m.entry(t, history.Entry{Epoch: m.epoch, StampNS: stamp})
	ended := m.apply(e.Index, &c)
	e = &m.log[len(m.log)-1]
	e.Commands, e.Ended = []history.Command{c}, ended
	return e
}

func (m *mini) tick(t int64) {
	if t >= m.downUntil {
		m.commit(t, history.Command{Kind: history.KindTick})
		for _, l := range slices.Clone(m.leases) {
			due := m.due(l)
			if m.bugs["early"] {
				due -= 2 * sec
			}
			if due <= m.now && !m.bugs["leak"] {
				m.commit(t, history.Command{Kind: history.KindExpire, ID: l.id, Token: l.token, Rev: l.s.rev})
			}
		}
	}
	m.at(t+sec, m.tick)
}

func (m *mini) pool(feature string) *Pool {
	for i := range miniPools {
		if miniPools[i].Feature == feature {
			return &miniPools[i]
		}
	}
	return nil
}

func (m *mini) due(l *miniLease) int64 { return l.s.renewed + m.pool(l.feature).term() }

func (m *mini) show(l *miniLease) history.AuditLease {
	p := m.pool(l.feature)
	return history.AuditLease{ID: l.id, Handle: l.id, Token: l.token, Feature: l.feature, Version: p.Version, Count: l.count, Seats: l.seats,
		DeadlineNS: l.s.renewed + p.LifespanNS, GraceNS: p.GraceNS, Rev: l.s.rev}
}

func (m *mini) end(l *miniLease, why string) history.AuditEnded {
	m.leases = slices.DeleteFunc(m.leases, func(x *miniLease) bool { return x == l })
	x := history.AuditEnded{ID: l.id, Token: l.token, Feature: l.feature, Reason: why}
	if why != "normal" {
		l.s.news = append(l.s.news, x)
	}
	return x
}

// group says who shares seats in a pool.
func (m *mini) group(p *Pool, s *miniSession) string { return p.group(s.user, s.host, s.id) }

func (m *mini) apply(index uint64, c *history.Command) (ended []history.AuditEnded) {
	switch c.Kind {
	case history.KindCheckout:
		return m.checkout(index, c)
	case history.KindRenew:
		s := m.sessions[c.Session]
		if s == nil || s.closed {
			c.Result.Reason = "session_unknown"
			return nil
		}
		s.renewed = m.now
		if s.rev > 1 {
			s.rev++
		}
		for _, l := range m.leases {
			if l.s == s {
				c.Result.Leases = append(c.Result.Leases, m.show(l))
			}
		}
		c.Result.Lost, s.news = s.news, nil
	case history.KindCheckin:
		s := m.sessions[c.Session]
		if s == nil || s.closed {
			c.Result.Reason = "session_unknown"
			return nil
		}
		if c.Seq == s.seq && s.last.Kind == c.Kind {
			c.Result = s.last.Result
			c.Result.Replayed = true
			return nil
		}
		for _, l := range slices.Clone(m.leases) {
			if l.s == s {
				x := m.show(l)
				c.Result.Released = append(c.Result.Released, history.AuditEnded{ID: x.ID, Token: x.Token, Feature: x.Feature, Reason: "normal"})
				if !m.bugs["forget"] || m.rnd.IntN(4) > 0 {
					ended = append(ended, m.end(l, "normal"))
				}
			}
		}
		s.seq, s.last, s.closed = c.Seq, c, c.Close
	case history.KindKill:
		for _, r := range c.Refs {
			for _, l := range slices.Clone(m.leases) {
				if l.id == r.ID {
					x := m.end(l, "removed_by_admin")
					c.Result.Released = append(c.Result.Released, x)
					ended = append(ended, x)
				}
			}
		}
	case history.KindExpire:
		for _, l := range slices.Clone(m.leases) {
			if l.id == c.ID {
				x := m.end(l, missed)
				c.Result.Released, ended = append(c.Result.Released, x), append(ended, x)
			}
		}
	}
	return ended
}

func (m *mini) checkout(index uint64, c *history.Command) (ended []history.AuditEnded) {
	s := m.sessions[c.Session]
	switch {
	case s != nil && s.closed:
		c.Result.Reason = "session_unknown"
		return nil
	case s != nil && c.Seq == s.seq && !m.bugs["dedupe"]:
		c.Result = s.last.Result
		c.Result.Replayed = true
		c.Result.Leases = nil
		for _, x := range s.last.Result.Leases {
			for _, l := range m.leases {
				if l.id == x.ID {
					c.Result.Leases = append(c.Result.Leases, m.show(l))
				}
			}
			if len(c.Result.Leases) == 0 {
				c.Result.Lost = append(c.Result.Lost, history.AuditEnded{ID: x.ID, Token: x.Token})
			}
		}
		return nil
	}
	fresh := s == nil
	if fresh {
		s = &miniSession{id: c.Session, user: c.User, host: c.Host, client: c.InstanceID, renewed: m.now, rev: 1}
	}
	it := c.Items[0]
	p := m.pool(it.Feature)
	l := m.place(p, s, it.Count)
	for l == nil {
		var oldest *miniLease
		for _, x := range m.leases {
			if x.feature == it.Feature && m.due(x) <= m.now && !m.bugs["leak"] && (oldest == nil || m.due(x) < m.due(oldest) || m.due(x) == m.due(oldest) && x.id < oldest.id) {
				oldest = x
			}
		}
		if oldest == nil {
			break
		}
		ended = append(ended, m.end(oldest, missed))
		l = m.place(p, s, it.Count)
	}
	m.sessions[s.id] = s
	if l == nil {
		c.Result.Reason = "no_seats"
		if n := m.sharing(p, s); n >= max(p.ShareMax, 1) && p.ShareMax > 0 {
			c.Result.Reason = "sessions_exceeded"
		}
		s.seq, s.last = c.Seq, c
		return ended
	}
	s.renewed = m.now
	s.rev++
	m.ids += 3
	l.id, l.token = m.ids, index
	if m.bugs["token"] && m.ids > 60 {
		l.token = m.ids
	}
	for _, n := range l.seats {
		k := fmt.Sprint(p.Feature, n)
		if !m.bugs["token"] {
			l.token = max(l.token, m.lastTok[k]+1)
		}
		m.lastTok[k] = l.token
	}
	m.leases = append(m.leases, l)
	c.Result.Leases = []history.AuditLease{m.show(l)}
	s.seq, s.last = c.Seq, c
	return ended
}

func (m *mini) sharing(p *Pool, s *miniSession) (n int) {
	for _, l := range m.leases {
		if p.ShareBy != "" && l.feature == p.Feature && m.group(p, l.s) == m.group(p, s) {
			n++
		}
	}
	return n
}

// place finds seats; nil if there are none.
func (m *mini) place(p *Pool, s *miniSession, count int) *miniLease {
	total := p.Total
	if m.bugs["capacity"] {
		total++
	}
	if p.ShareBy != "" && m.sharing(p, s) >= p.ShareMax {
		return nil
	}
	taken := map[int]bool{}
	for _, l := range m.leases {
		if l.feature != p.Feature {
			continue
		}
		if p.ShareBy != "" && m.group(p, l.s) == m.group(p, s) {
			return &miniLease{feature: p.Feature, count: count, seats: l.seats, s: s}
		}
		for _, n := range l.seats {
			taken[n] = true
		}
	}
	var seats []int
	for n := 1; n <= total && len(seats) < count; n++ {
		if !taken[n] {
			seats = append(seats, n)
		}
	}
	if len(seats) < count {
		return nil
	}
	return &miniLease{feature: p.Feature, count: count, seats: seats, s: s}
}

func (m *mini) used(feature string) int {
	seats := map[int]bool{}
	for _, l := range m.leases {
		if l.feature == feature {
			for _, n := range l.seats {
				seats[n] = true
			}
		}
	}
	return len(seats)
}
