package lease_test

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// model is the ledger once more, written the slow way: plain lists, full scans, no
// index, no record of its own that could go stale. It shares no code with the Book.
type model struct {
	now, fenceUntil lease.Time
	calendar        lease.Calendar
	floor, high     lease.Token
	licences        map[string]lease.Licence // by tenant/id
	pools           []*modelPool
	sessions        map[lease.SessionID]*modelSession
	leases          []*modelLease
}

type modelPool struct {
	tenant, vendor string
	ent            lease.Entitlement   // its feature, version, profile and share rule
	charges        map[string][]int    // seats by who is charged
	last           map[int]lease.Token // highest token of each seat
	seatNanos      uint64
}

type modelSession struct {
	ref              lease.SessionRef // Seq is the last one used
	tenant           string
	who              lease.Principal
	done             *expected // what Seq came to; nil: nothing yet
	doneKind         string
	renewed          lease.Time
	rev              uint64
	life, grace      time.Duration
	ephemeral, ended bool
	lost             []lease.Lost
	told             map[lease.ID]bool
}

type modelLease struct {
	lease.Ref
	handle  int
	session *modelSession
	pool    *modelPool
	charge  string
	count   int
	since   lease.Time
}

// expected is the answer the model gives.
type expected struct {
	reason   lease.Reason
	granted  []*modelLease
	fresh    []*modelLease // those of granted that are new
	lost     []lease.Lost
	released []lease.Lost    // with the reason of the release
	renewed  []lease.Renewed // reason, news and number of leases of each
	replayed bool
}

func newModel() *model {
	return &model{licences: map[string]lease.Licence{}, sessions: map[lease.SessionID]*modelSession{}}
}

func no(r lease.Reason) *expected { return &expected{reason: r} }

func (m *model) apply(index uint64, cmd lease.Command) *expected {
	switch c := cmd.(type) {
	case lease.Checkout:
		return m.checkout(index, c)
	case lease.Renew:
		return m.renew(c)
	case lease.RenewMany:
		return m.renewMany(c)
	case lease.CheckIn:
		return m.checkIn(c)
	case lease.Expire:
		return m.expire(c)
	case lease.ExpireSession:
		return m.expireSession(c)
	case lease.Kill:
		return m.kill(c)
	case lease.InstallLicence:
		return m.install(c)
	case lease.RemoveLicence:
		return m.remove(c)
	case lease.Fence:
		longest := lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace
		for _, p := range m.pools {
			longest = max(longest, p.ent.Profile.Lifespan+p.ent.Profile.Grace)
		}
		m.fenceUntil = max(m.fenceUntil, m.now.Add(longest))
		m.high = max(m.high, m.floor) + 1<<32
		m.floor = m.high
	}
	return &expected{}
}

// enter is nil where the request may act for the session.
func (m *model) enter(ref lease.SessionRef) (*modelSession, *expected) {
	s := m.sessions[ref.ID]
	switch {
	case s == nil:
		return nil, no(lease.SessionUnknown)
	case s.ref.Digest != ref.Digest:
		return nil, no(lease.Forbidden)
	case s.ended:
		return nil, no(lease.SessionUnknown)
	case ref.Incarnation > 0 && ref.Incarnation < s.ref.Incarnation:
		return nil, no(lease.Fenced)
	case ref.Incarnation > s.ref.Incarnation:
		s.ref.Incarnation, s.ref.Seq, s.done = ref.Incarnation, 0, nil
	}
	return s, nil
}

// old answers a request that is not new; nil means that it is.
func (m *model) old(s *modelSession, seq uint64, kind string) *expected {
	switch {
	case seq == 0 || seq > s.ref.Seq:
		return nil
	case seq < s.ref.Seq || s.doneKind != kind:
		return no(lease.StaleRequest)
	}
	again := &expected{reason: s.done.reason, replayed: true, released: s.done.released}
	if kind == "check-in" {
		again.lost = s.done.lost
	}
	if again.reason != "" {
		return again
	}
	for _, l := range s.done.granted {
		if m.live(l.Ref) == l {
			again.granted = append(again.granted, l)
			continue
		}
		lost := lease.Lost{Ref: l.Ref}
		for _, x := range s.lost {
			if x.ID == l.ID {
				lost = x
			}
		}
		again.lost = append(again.lost, lost)
	}
	return again
}

func (s *modelSession) note(seq uint64, kind string, e *expected) {
	if seq != 0 {
		s.ref.Seq, s.doneKind, s.done = seq, kind, e
	}
}

func (m *model) live(r lease.Ref) *modelLease {
	for _, l := range m.leases {
		if l.ID == r.ID && (r.Token == 0 || r.Token == l.Token) {
			return l
		}
	}
	return nil
}

// of lists the leases of a session in the order they were granted.
func (m *model) of(s *modelSession) (out []*modelLease) {
	for _, l := range m.leases {
		if l.session == s {
			out = append(out, l)
		}
	}
	return out
}

func (m *model) deadline(l *modelLease) lease.Time {
	return l.session.renewed.Add(l.pool.ent.Profile.Lifespan)
}

func (m *model) due(l *modelLease) lease.Time {
	return m.deadline(l).Add(l.pool.ent.Profile.Grace)
}

func (m *model) checkout(index uint64, c lease.Checkout) *expected {
	c.Tenant = cmp.Or(c.Tenant, "default")
	if r := wrong(c); r != "" {
		return no(r)
	}
	s := m.sessions[c.Session.ID]
	if s == nil && c.Session.Seq > 1 {
		return no(lease.SessionUnknown)
	}
	if s != nil {
		var refused *expected
		if s, refused = m.enter(c.Session); refused != nil {
			return refused
		}
		if s.tenant != c.Tenant {
			return no(lease.Forbidden)
		}
		if again := m.old(s, c.Session.Seq, "checkout"); again != nil {
			return again
		}
	}
	wanted, reason := m.plan(s, c)
	for (reason == lease.NoSeats || reason == lease.SessionsExceeded) && m.reclaim(c) {
		wanted, reason = m.plan(s, c)
	}
	if reason != "" {
		e := no(reason)
		waits := reason == lease.NoSeats || reason == lease.SessionsExceeded || reason == lease.Overloaded || reason == lease.NotStarted
		if c.Session.Seq != 0 && !(c.Tentative && waits) {
			if s == nil {
				s = m.open(c)
			}
			s.note(c.Session.Seq, "checkout", e)
		}
		return e
	}
	if s == nil {
		s = m.open(c)
	}
	s.renewed = m.now
	s.rev++
	e := &expected{}
	for i, w := range wanted {
		if w.held == nil {
			w.held = m.grant(index, s, w.pool, c.Items[i].Count)
			e.fresh = append(e.fresh, w.held)
		}
		e.granted = append(e.granted, w.held)
	}
	s.note(c.Session.Seq, "checkout", e)
	return e
}

// wrong says why a checkout can never be granted.
func wrong(c lease.Checkout) lease.Reason {
	p := c.Principal
	for _, s := range []string{c.Tenant, p.User, p.Host, p.IP, p.Display, p.VendorDefined, p.Project, c.InstanceID} {
		if len(s) > 128 {
			return lease.Invalid
		}
	}
	if c.Session.ID.IsZero() || len(c.Items) == 0 || len(c.Items) > 64 {
		return lease.Invalid
	}
	for _, it := range c.Items {
		_, err := strconv.ParseFloat(it.Version, 64)
		switch {
		case it.Feature == "", it.Count < 1, it.Version != "" && err != nil:
			return lease.Invalid
		case it.Count > 1_000_000:
			return lease.TooManyRequested
		}
	}
	return ""
}

func (m *model) open(c lease.Checkout) *modelSession {
	s := &modelSession{
		ref: c.Session, tenant: c.Tenant, who: c.Principal, renewed: m.now, rev: 1, ephemeral: c.Ephemeral,
		life: lease.DefaultProfile.Lifespan, grace: lease.DefaultProfile.Grace, told: map[lease.ID]bool{},
	}
	s.ref.Incarnation, s.ref.Seq = max(1, c.Session.Incarnation), 0
	m.sessions[s.ref.ID] = s
	return s
}

type modelPlan struct {
	pool *modelPool
	held *modelLease
}

func (m *model) plan(s *modelSession, c lease.Checkout) (plans []modelPlan, reason lease.Reason) {
	if m.now < m.fenceUntil {
		return nil, lease.Overloaded
	}
	who := c.Principal
	if s != nil {
		who = s.who
	}
	for _, it := range c.Items {
		w, r := m.planItem(s, c.Tenant, who, it)
		if r != "" {
			return nil, r
		}
		for _, other := range plans {
			if other.pool == w.pool {
				return nil, lease.Invalid
			}
		}
		plans = append(plans, w)
	}
	return plans, ""
}

func (m *model) planItem(s *modelSession, tenant string, who lease.Principal, it lease.Item) (modelPlan, lease.Reason) {
	if s != nil {
		for _, l := range m.of(s) {
			if l.pool.ent.Feature == it.Feature && number(l.pool.ent.Version) >= number(it.Version) {
				if l.count != it.Count {
					return modelPlan{}, lease.Invalid
				}
				return modelPlan{l.pool, l}, ""
			}
		}
	}
	var fit []*modelPool
	var early, expired, older bool
	largest := 0
	for _, p := range m.pools {
		if p.tenant != tenant || p.ent.Feature != it.Feature {
			continue
		}
		total, e, x := m.total(p)
		switch {
		case total == 0 && !e && !x: // no licence any more
		case number(p.ent.Version) < number(it.Version):
			older = true
		default:
			early, expired = early || e, expired || x
			if total > 0 {
				fit = append(fit, p)
				largest = max(largest, total)
			}
		}
	}
	switch {
	case len(fit) > 0 && it.Count > largest:
		return modelPlan{}, lease.TooManyRequested
	case len(fit) == 0 && early:
		return modelPlan{}, lease.NotStarted
	case len(fit) == 0 && expired:
		return modelPlan{}, lease.LicenseExpired
	case len(fit) == 0 && older:
		return modelPlan{}, lease.BadVersion
	case len(fit) == 0:
		return modelPlan{}, lease.NoFeature
	}
	slices.SortStableFunc(fit, func(p, q *modelPool) int {
		return cmp.Compare(number(p.ent.Version), number(q.ent.Version))
	})
	reason := lease.NoSeats
	for _, p := range fit {
		need := it.Count
		if key := p.shareKey(who); key != "" {
			if m.members(p, key) >= p.ent.Share.MaxSessions {
				reason = lease.SessionsExceeded
				continue
			}
			need -= min(need, len(p.charges[key]))
		}
		total, _, _ := m.total(p)
		if need == 0 || p.inUse()+m.heldBack(p)+need <= total {
			return modelPlan{pool: p}, ""
		}
	}
	return modelPlan{}, reason
}

// beat is a heartbeat; before the first lease there is nothing that a revision could be of.
func (s *modelSession) beat(now lease.Time) {
	s.renewed = now
	if s.rev > 1 {
		s.rev++
	}
}

func (m *model) renewMany(c lease.RenewMany) *expected {
	e := &expected{}
	for _, x := range c.Sessions {
		s, refused := m.enter(lease.SessionRef{ID: x.ID, Digest: x.Digest, Incarnation: x.Incarnation})
		if refused != nil {
			e.renewed = append(e.renewed, lease.Renewed{Reason: refused.reason})
			continue
		}
		s.beat(m.now)
		news := m.now < m.fenceUntil || slices.ContainsFunc(s.lost, func(x lease.Lost) bool { return !s.told[x.ID] })
		e.renewed = append(e.renewed, lease.Renewed{News: news, Leases: len(m.of(s))})
	}
	return e
}

func (m *model) renew(c lease.Renew) *expected {
	s, refused := m.enter(c.Session)
	if refused != nil {
		return refused
	}
	s.beat(m.now)
	e := &expected{granted: m.of(s)}
	believed := func(id lease.ID) bool {
		return slices.ContainsFunc(c.Held, func(r lease.Ref) bool { return r.ID == id })
	}
	s.lost = slices.DeleteFunc(s.lost, func(x lease.Lost) bool { return s.told[x.ID] && !believed(x.ID) })
	for _, x := range s.lost {
		s.told[x.ID] = true
	}
	e.lost = slices.Clone(s.lost)
	for _, h := range c.Held {
		l := m.live(h)
		known := slices.ContainsFunc(s.lost, func(x lease.Lost) bool { return x.ID == h.ID })
		if (l == nil || l.session != s) && !known {
			e.lost = append(e.lost, lease.Lost{Ref: h})
		}
	}
	return e
}

func (m *model) checkIn(c lease.CheckIn) *expected {
	s, refused := m.enter(c.Session)
	if refused != nil {
		return refused
	}
	if again := m.old(s, c.Session.Seq, "check-in"); again != nil {
		return again
	}
	e := &expected{}
	var back []*modelLease
	for _, r := range c.Refs {
		if l := m.live(r); l == nil || l.session != s {
			e.lost = append(e.lost, lease.Lost{Ref: r})
		} else if !slices.Contains(back, l) {
			back = append(back, l)
		}
	}
	if len(c.Refs) == 0 || c.Close {
		back = m.of(s)
	}
	if len(e.lost) > 0 && len(back) == 0 && !c.Close {
		e = no(lease.Fenced)
		s.note(c.Session.Seq, "check-in", e)
		return e
	}
	why := lease.ReleasedNormal
	if c.Reason == lease.ReleasedClientExit {
		why = c.Reason
	}
	for _, l := range back {
		e.released = append(e.released, m.release(l, why))
	}
	s.note(c.Session.Seq, "check-in", e)
	if c.Close && s.ephemeral {
		delete(m.sessions, s.ref.ID)
	}
	s.ended = c.Close
	return e
}

func (m *model) expire(c lease.Expire) *expected {
	l := m.live(lease.Ref{ID: c.ID})
	if l == nil || l.Token != c.Token || l.session.rev != c.Rev || m.now < m.due(l) {
		return no(lease.Fenced)
	}
	return &expected{released: []lease.Lost{m.release(l, lease.ReleasedMissedHeartbeat)}}
}

func (m *model) expireSession(c lease.ExpireSession) *expected {
	s := m.sessions[c.ID]
	if s == nil {
		return no(lease.SessionUnknown)
	}
	if s.rev != c.Rev || len(m.of(s)) > 0 || m.now < s.renewed.Add(s.life).Add(s.grace) {
		return no(lease.Fenced)
	}
	delete(m.sessions, c.ID)
	return &expected{}
}

func (m *model) kill(c lease.Kill) *expected {
	e := &expected{}
	for _, r := range c.Refs {
		if l := m.live(r); l != nil {
			e.released = append(e.released, m.release(l, lease.ReleasedByAdmin))
		}
	}
	return e
}
