package sim

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/seatkeeper/seatkeeper/cluster"
	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// rulebook is the monitor's own account of policies, licences and how each lease ends,
// made from commands, answers and events. The rules are written a second time here, in
// the plainest way, for the few forms that drawPolicy makes.
type rulebook struct {
	policy lease.Policy
	seats  map[string]int // licensed
	over   map[string]int // licensed overdraft
	terms  map[lease.ID]term
	jobs   map[lease.SessionID]bool // that asked for seats of a booking
	fence  lease.Time               // no grant before, after a restore
	// lived is the seat time of each feature as the entries show it, used what the usage
	// records say.
	lived, used map[string]time.Duration
	// idle are places whose deadline has passed, since when.
	idle map[uint64]lease.Time
	last view
	step time.Duration // that the entry moved time
	now  happened
}

// term is how a lease ends: by its session's silence, or at a fixed time.
type term struct {
	profile lease.Profile
	kind    termKind
	end     lease.Time
	revoked bool
}

type termKind int

const (
	ordinary  termKind = iota
	offered            // from the queue, and not collected
	lingering          // checked in
	borrowed
)

// happened is what one command did.
type happened struct {
	granted, ended []lease.Event           // so far
	ahead          []lease.Event           // all of the command
	dues           map[lease.ID]lease.Time // before the command
	may            map[lease.ID]bool       // leases that the command may end early
	gaveUp         map[lease.SessionID]bool
	booked         map[string]bool // features of bookings made by somebody without a reservation
	changed        bool            // the policy or the licence
	restored       bool
}

func newRulebook() rulebook {
	return rulebook{
		seats: map[string]int{}, over: map[string]int{}, terms: map[lease.ID]term{}, jobs: map[lease.SessionID]bool{},
		lived: map[string]time.Duration{}, used: map[string]time.Duration{}, idle: map[uint64]lease.Time{},
	}
}

// begin makes ready for a command, the first of an entry with the time that it moves.
func (m *monitor) begin(s *step) {
	dt := s.now.Sub(m.now)
	m.now = s.now
	h := happened{dues: map[lease.ID]lease.Time{}, may: map[lease.ID]bool{}, gaveUp: map[lease.SessionID]bool{}, booked: map[string]bool{}}
	for id, x := range m.live {
		h.dues[id] = m.due(x)
		m.rules.lived[x.Feature] += time.Duration(x.Count) * dt
	}
	m.rules.now, m.rules.step = h, dt
}

// ruleCommand notes what a command says about rules and about how leases end.
func (m *monitor) ruleCommand(l *raft.Log, pb *logv1.Command, r lease.Reply) {
	done, h := r.Refusal == nil, &m.rules.now
	switch k := pb.Kind.(type) {
	case *logv1.Command_Checkout:
		if k.Checkout.Booking != "" {
			m.rules.jobs[sessionID(k.Checkout.Session)] = true
		}
		if !done && r.Refusal.Reason == lease.InQueue {
			m.w.report.Queued++
			m.heard(k.Checkout.Session)
		}
		m.collected(r.Leases)
	case *logv1.Command_Borrow:
		m.borrowed(l, k.Borrow, r)
	case *logv1.Command_RenewBorrow:
		if done {
			m.lent(lease.ID(k.RenewBorrow.Ref.Id), time.Duration(k.RenewBorrow.Term))
		}
	case *logv1.Command_ReturnEarly:
		h.may[lease.ID(k.ReturnEarly.Ref.Id)] = done
	case *logv1.Command_RevokeBorrow:
		if id := lease.ID(k.RevokeBorrow.Id); done {
			h.may[id] = k.RevokeBorrow.AtOnce
			m.revoke(id)
		}
	case *logv1.Command_Kill:
		for _, ref := range k.Kill.Refs {
			id := lease.ID(ref.Id)
			h.may[id] = h.may[id] || done && m.rules.terms[id].kind != borrowed
			if done {
				m.revoke(id)
			}
		}
	case *logv1.Command_Renew:
		if done {
			m.collected(r.Leases)
		}
	case *logv1.Command_Leave:
		h.gaveUp[sessionID(k.Leave.Session)] = done
	case *logv1.Command_MakeBooking:
		if done && !r.Replayed {
			m.w.report.Booked++
			for _, it := range k.MakeBooking.Items {
				for _, f := range judgedFeatures {
					if weight(it.Feature, f, 1) > 0 && !m.rules.reservedFor(f, k.MakeBooking.Only.GetUser()) {
						h.booked[f] = true
					}
				}
			}
		}
	case *logv1.Command_ApplyPolicy:
		if done && !r.PolicySame {
			m.rules.policy, h.changed = policyOf(k.ApplyPolicy.Policy), true
		}
	case *logv1.Command_InstallLicence:
		if done {
			h.changed = true
			for _, x := range k.InstallLicence.Licence.Entitlements {
				m.rules.seats[x.Feature], m.rules.over[x.Feature] = int(x.Count), int(x.Overdraft)
			}
		}
	case *logv1.Command_Restore:
		if done {
			h.restored = true
			m.w.report.Restored++
			m.epochIndex, m.epochTerm, m.looks = l.Index, l.Term, m.now
		}
	}
}

// policyOf reads a policy from the log.
func policyOf(x *logv1.Policy) (p lease.Policy) {
	for _, g := range x.Groups {
		p.Groups = append(p.Groups, lease.PolicyGroup{Name: g.Name, Members: g.Members, Priority: int(g.Priority)})
	}
	for _, r := range x.Rules {
		p.Rules = append(p.Rules, lease.Rule{
			Kind: lease.RuleKind(r.Kind), Feature: r.Feature, Who: lease.Subject{Type: lease.SubjectType(r.WhoType), Name: r.Who},
			Seats: int(r.Seats), Time: time.Duration(r.Time), Grace: time.Duration(r.Grace),
		})
	}
	return p
}

// is says whether a user is meant by a subject.
func (r *rulebook) is(user string, s lease.Subject) bool {
	switch s.Type {
	case lease.SubjectUser:
		return user == s.Name
	case lease.SubjectGroup:
		return slices.ContainsFunc(r.policy.Groups, func(g lease.PolicyGroup) bool { return g.Name == s.Name && slices.Contains(g.Members, user) })
	}
	return true
}

// find gives the first rule of the kind about a feature; nil: none.
func (r *rulebook) find(k lease.RuleKind, feature string) *lease.Rule {
	for i := range r.policy.Rules {
		if x := &r.policy.Rules[i]; x.Kind == k && x.Feature == feature {
			return x
		}
	}
	return nil
}

// named says whether some rule of the kind about the feature means the user, and any
// whether there is one at all.
func (r *rulebook) named(k lease.RuleKind, feature, user string) (named, any bool) {
	for i := range r.policy.Rules {
		if x := &r.policy.Rules[i]; x.Kind == k && x.Feature == feature {
			any = true
			named = named || r.is(user, x.Who)
		}
	}
	return named, any
}

func (r *rulebook) reservedFor(feature, user string) bool {
	named, _ := r.named(lease.RuleReserve, feature, user)
	return named
}

// priority is how far ahead in the queue a user goes.
func (r *rulebook) priority(user string) int {
	for _, g := range r.policy.Groups {
		if g.Priority != 0 && slices.Contains(g.Members, user) {
			return g.Priority
		}
	}
	return 0
}

// most is how many seats of a feature may be charged.
func (r *rulebook) most(feature string) int {
	allowed := 0
	if x := r.find(lease.RuleMaxOverdraft, feature); x != nil {
		allowed = min(x.Seats, r.over[feature])
	}
	return r.seats[feature] + allowed
}

// newTerm is how a lease ends that is granted now.
func (m *monitor) newTerm(feature string) term {
	t := term{profile: m.profiles[feature]}
	if x := m.rules.find(lease.RuleProfile, feature); x != nil {
		t.profile = lease.Profile{Lifespan: x.Time, Grace: x.Grace}
	}
	return t
}

// heard notes a heartbeat that shows no leases.
func (m *monitor) heard(s *logv1.SessionRef) {
	a := m.account(s)
	a.renewed = m.now
	a.rev++
}

// collected notes that leases are their session's from now on.
func (m *monitor) collected(list []lease.Lease) {
	for _, x := range list {
		if t, ok := m.rules.terms[x.ID]; ok && t.kind == offered {
			t.kind = ordinary
			m.rules.terms[x.ID] = t
		}
	}
}

func (m *monitor) borrowed(l *raft.Log, c *logv1.Borrow, r lease.Reply) {
	if r.Refusal != nil || r.Replayed || len(r.Leases) == 0 {
		return
	}
	m.w.report.Borrowed++
	id := r.Leases[0].ID
	_, held := m.live[id]
	m.numbered(l, c.Session).renewed = m.now
	m.collected(r.Leases)
	m.granted(l, r)
	if t := m.rules.terms[id]; held && t.kind == ordinary { // its holder believed that already
		t.end = m.now.Add(t.profile.Lifespan + t.profile.Grace)
		m.rules.terms[id] = t
	}
	m.lent(id, time.Duration(c.Term))
}

// lent notes that the holder of a lease was told that it may use it for so long.
func (m *monitor) lent(id lease.ID, d time.Duration) {
	t := m.rules.terms[id]
	t.kind, t.end = borrowed, max(t.end, m.now.Add(d))
	m.rules.terms[id] = t
}

func (m *monitor) revoke(id lease.ID) {
	if t, ok := m.rules.terms[id]; ok && t.kind == borrowed {
		t.revoked = true
		m.rules.terms[id] = t
	}
}

// checkedIn notes what a check-in gives back: it may linger.
func (m *monitor) checkedIn(c *logv1.CheckIn) {
	s := sessionID(c.Session)
	named := func(id lease.ID) bool {
		return slices.ContainsFunc(c.Refs, func(r *logv1.Ref) bool { return r.Id == uint64(id) })
	}
	for id, x := range m.live {
		t := m.rules.terms[id]
		if x.Session != s {
			continue
		}
		mine := c.Close || len(c.Refs) == 0 || named(id)
		if t.kind == offered && mine {
			t.kind = ordinary
		}
		if t.kind == ordinary && mine { // what is borrowed its token gives back
			m.returned = append(m.returned, id)
			linger := m.rules.find(lease.RuleLinger, x.Feature)
			if t.kind == ordinary && linger != nil && linger.Time > 0 {
				t.kind, t.end = lingering, m.now.Add(linger.Time)
			} else {
				m.rules.now.may[id] = true
			}
		}
		m.rules.terms[id] = t
	}
}

// foundOut notes a lease that was granted while nobody asked: from the queue.
func (m *monitor) foundOut(l *raft.Log, e lease.Event, v *view) {
	x := lease.Lease{Ref: e.Lease, Feature: e.Feature, Count: e.Count, Session: e.Session, Principal: e.Principal}
	if i := slices.IndexFunc(v.leases, func(y lease.Lease) bool { return y.ID == x.ID }); i >= 0 {
		x = v.leases[i]
		m.session(x.Session).rev = x.Rev
	}
	x.Deadline = 0 // its client was shown none
	m.fresh(l, x)
	m.live[x.ID] = x
	t := m.rules.terms[x.ID]
	if t.revoked {
		return // a restore kept it for a borrower
	}
	m.w.report.Offered++
	t.kind, t.end = offered, m.now.Add(t.profile.Lifespan)
	m.rules.terms[x.ID] = t
}

// endedRightly judges the end of a lease by what may end it: its time, or a command.
func (m *monitor) endedRightly(e lease.Event) {
	h, t := &m.rules.now, m.rules.terms[e.Lease.ID]
	m.rules.used[e.Feature] += time.Duration(e.Count) * e.At.Sub(e.Start)
	due, known := h.dues[e.Lease.ID]
	switch {
	case !known, h.restored, h.may[e.Lease.ID], m.now >= min(due, m.dueOf(e.Session, t)):
	case t.kind == offered && h.gaveUp[e.Session]:
	case t.kind == lingering && m.takenUp(e):
	default:
		m.w.fail("L4", "lease %d of %s ended (%s) %v before its time; kind %d", e.Lease.ID, e.Feature, e.Release, due.Sub(m.now), t.kind)
	}
}

// takenUp says whether a lingering seat ends by the command that grants it to the same
// principal again.
func (m *monitor) takenUp(e lease.Event) bool {
	return slices.ContainsFunc(m.rules.now.ahead, func(g lease.Event) bool {
		return g.Kind == lease.Granted && g.Feature == e.Feature && g.Principal == e.Principal
	})
}

// afterRestore takes over what a restored backup brought: policy, licence, and which
// leases there are. Nothing may come back that ended, but what is kept for borrowers.
func (m *monitor) afterRestore(s *step) {
	m.rules.policy = s.policy
	for _, p := range s.view.pools {
		m.rules.seats[p.Feature], m.rules.over[p.Feature] = p.Total, p.LicensedOverdraft
	}
	longest := time.Duration(0)
	for _, p := range m.profiles {
		longest = max(longest, p.Lifespan+p.Grace)
	}
	for id := range m.live {
		longest = max(longest, m.rules.terms[id].profile.Lifespan+m.rules.terms[id].profile.Grace)
	}
	for _, x := range s.view.leases {
		t := m.rules.terms[x.ID]
		if _, known := m.live[x.ID]; !known {
			if x.State != lease.Quarantined {
				m.w.fail("U1", "a restore brought lease %d of %s back, which had ended", x.ID, x.Feature)
			}
			t = term{kind: borrowed, end: x.Deadline, revoked: true}
		}
		if t.kind == offered {
			t.kind = ordinary
		}
		m.rules.terms[x.ID] = t
		if t.kind == ordinary {
			a := m.session(x.Session)
			a.renewed = m.now
		}
		m.session(x.Session).rev = x.Rev
	}
	m.rules.fence = m.now.Add(longest)
	clear(m.rules.idle)
}

// late is how long ago in the current epoch something was due. An epoch that ends takes with
// it what its leader proposed, and the next one looks anew.
func (m *monitor) late(due lease.Time) time.Duration { return m.now.Sub(max(due, m.looks)) }

// soon is how much of an epoch's time may pass until a thing that is due is ended. As it
// falls due, the leader's expirer may have just proposed what was due before, which it waits
// for no longer than three ticks; then its ticker comes, within a tick; if nothing was
// committed since, it lets time move, and waits for that as long; then it sees the thing and
// queues its end. Cluster time is not faster than the leader's clock, so that was at most
// seven ticks later. What is stamped before the thing's end was stamped by then; the stamp of
// its own entry is at most one step after the last one that was committed. An epoch's first
// look comes a tick after its beginning.
const soon = 7*cluster.DefaultTick + cluster.MaxStep
