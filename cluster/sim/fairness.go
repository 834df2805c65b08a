package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	logv1 "github.com/seatkeeper/seatkeeper/fsm/proto/seatkeeper/log/v1"
	"github.com/seatkeeper/seatkeeper/lease"
)

// step is one command of an entry: what it was, what it was answered and what it brought,
// and how things stood after it. An entry without commands is one step without a command.
type step struct {
	command *logv1.Command
	reply   lease.Reply
	events  []lease.Event
	now     lease.Time
	view    view
	policy  lease.Policy
	wrong   error // by the ledger's own count
}

func newStep(pb *logv1.Command, r lease.Reply, b *lease.Book, events []lease.Event) step {
	if pb != nil {
		pb = proto.CloneOf(pb) // the next entry is read into the same memory
	}
	return step{command: pb, reply: r, events: events, now: b.Now(), view: look(b), policy: b.Policy(""), wrong: b.Check()}
}

// done is a command in the trail.
type done struct {
	at      time.Duration
	index   uint64
	now     lease.Time
	command *logv1.Command
	reply   lease.Reply
}

func (d done) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%10.3fs %d at T=%v: %v", d.at.Seconds(), d.index, d.now, d.command)
	if r := d.reply.Refusal; r != nil {
		fmt.Fprintf(&b, " -> %s", r.Reason)
	}
	for _, l := range d.reply.Leases {
		fmt.Fprintf(&b, " -> lease %d of %s, %v left", l.ID, l.Feature, l.Remaining)
	}
	if d.reply.Replayed {
		b.WriteString(" (again)")
	}
	return b.String()
}

// view is what an operator sees of seats and queue after a command.
type view struct {
	pools  []lease.PoolStatus
	places []lease.Place
	leases []lease.Lease
	used   map[string]int // charged, by feature
	drawn  map[string]int
	booked map[string]int // and not leased
	jobs   []lease.Booking
}

func look(b *lease.Book) view {
	v := view{pools: b.Pools(""), places: b.Queue("", "", 1000), used: map[string]int{}, drawn: map[string]int{}, booked: map[string]int{}, jobs: b.ListBookings("", 1000)}
	v.leases, _ = b.Leases(lease.Filter{}, 0, 10_000)
	for _, p := range v.pools {
		v.used[p.Feature] += p.InUse
		v.drawn[p.Feature] += p.Drawn
	}
	for _, x := range v.jobs {
		for _, l := range x.Lines {
			v.booked[l.Feature] += l.Count - l.Used
			if l.Feature == "draft" {
				v.booked["units"] += draftCost * (l.Count - l.Used)
			}
		}
	}
	return v
}

// judgeRules checks what policies, queue and bookings promise, by what is seen after each
// command and what the command did.
func (m *monitor) judgeRules(l *raft.Log, s *step) {
	before, after, h := m.rules.last, s.view, &m.rules.now
	m.rules.last = after
	if h.changed {
		m.w.report.Policies++
	}
	m.paid(l, &after)
	m.placesEnd(l, &after)
	for _, g := range h.granted {
		if m.now < m.rules.fence && !m.rules.terms[g.Lease.ID].revoked {
			m.w.fail("D1", "entry %d: lease %d was granted %v before the fence lifts", l.Index, g.Lease.ID, m.rules.fence.Sub(m.now))
		}
	}
	if m.now >= m.rules.fence {
		m.nobodyStarves(l, &after)
	}
	if h.changed || h.restored {
		return // who may have what is another question now
	}
	m.order(l, &before, &after)
	m.allowed(l, &before, &after)
	m.reserved(l, &before, &after)
	for _, g := range h.granted {
		m.overtakes(l, g, s, &before, &after)
	}
	m.denied(l, s, &before)
}

// weight is what a lease or an item takes of a feature: of its own, or as what pays for it.
func weight(of, feature string, count int) int {
	switch {
	case of == feature:
		return count
	case of == "draft" && feature == "units":
		return draftCost * count
	}
	return 0
}

// judgedFeatures are those whose seats nobody shares and no suite pays for.
var judgedFeatures = []string{"cad", "mesh", "solver", "field", "units"}

// held is how many seats of a feature those have whom want means.
func (v *view) held(feature string, want func(user string) bool) (n int) {
	for _, x := range v.leases {
		if want(x.Principal.User) {
			n += weight(x.Feature, feature, x.Count)
		}
	}
	return n
}

// free is how many seats are charged to nobody and booked by nobody.
func (m *monitor) free(v *view, feature string) int {
	return m.rules.most(feature) - v.used[feature] - v.booked[feature]
}

// unfilled fills the reservations of a feature seat by seat, and gives what is left.
func (r *rulebook) unfilled(v *view, feature string) (left int) {
	var wanted []lease.Subject // one for each reserved seat
	room := r.seats[feature]
	for i := range r.policy.Rules {
		x := &r.policy.Rules[i]
		if x.Kind != lease.RuleReserve || x.Feature != feature {
			continue
		}
		for range min(x.Seats, room) {
			wanted = append(wanted, x.Who)
		}
		room -= min(x.Seats, room)
	}
	var users []string // one for each seat held
	for _, x := range v.leases {
		for range weight(x.Feature, feature, x.Count) {
			users = append(users, x.Principal.User)
		}
	}
	filledBy := make([]int, len(wanted))
	for i := range filledBy {
		filledBy[i] = -1
	}
	left = len(wanted)
	for u := range users {
		if r.fillOne(u, users, wanted, filledBy, make([]bool, len(wanted))) {
			left--
		}
	}
	return left
}

// fillOne lets one seat fill a reservation, moving others to where they fit as well.
func (r *rulebook) fillOne(u int, users []string, wanted []lease.Subject, filledBy []int, seen []bool) bool {
	for i, s := range wanted {
		if seen[i] || !r.is(users[u], s) {
			continue
		}
		seen[i] = true
		if filledBy[i] < 0 || r.fillOne(filledBy[i], users, wanted, filledBy, seen) {
			filledBy[i] = u
			return true
		}
	}
	return false
}

// paid checks that what is drawn is what the live leases cost.
func (m *monitor) paid(l *raft.Log, v *view) {
	draft, perSession := 0, map[lease.SessionID]int{}
	for _, x := range v.leases {
		switch x.Feature {
		case "draft":
			draft += draftCost * x.Count
		case "paint":
			perSession[x.Session] = max(perSession[x.Session], x.Count)
		case "post":
			perSession[x.Session] = max(perSession[x.Session], (x.Count+postPer-1)/postPer)
		}
	}
	suites := 0
	for _, n := range perSession {
		suites += n
	}
	if v.drawn["units"] != draft || v.drawn["studio"] != suites {
		m.w.fail("L1", "entry %d: %d units and %d studios are drawn; the leases cost %d and %d", l.Index, v.drawn["units"], v.drawn["studio"], draft, suites)
	}
}

// placesEnd checks that a place does not outlive its deadline.
func (m *monitor) placesEnd(l *raft.Log, v *view) {
	for _, x := range v.places {
		since, known := m.rules.idle[x.Ticket]
		switch {
		case x.Remaining > 0:
			delete(m.rules.idle, x.Ticket)
		case !known:
			m.rules.idle[x.Ticket] = m.now
		case m.late(since) > soon:
			m.w.fail("L7", "entry %d: place %d in the queue is %v past its deadline", l.Index, x.Ticket, m.now.Sub(since))
		}
	}
}

// holds says whether the session holds the feature.
func (v *view) holds(id lease.SessionID, feature string) bool {
	return slices.ContainsFunc(v.leases, func(x lease.Lease) bool {
		return x.Session == id && x.Feature == feature && x.State != lease.Lingering && x.State != lease.Quarantined
	})
}

// wants is what a place still needs of a feature.
func (v *view) wants(x *lease.Place, feature string) (n int) {
	for _, it := range x.Items {
		if !v.holds(x.Session, it.Feature) {
			n += weight(it.Feature, feature, it.Count)
		}
	}
	return n
}

// order checks that those who wait keep their order, and that it is that of priority and
// arrival.
func (m *monitor) order(l *raft.Log, before, after *view) {
	at := map[uint64]int{}
	for i, x := range before.places {
		at[x.Ticket] = i + 1
	}
	last := 0
	for i, x := range after.places {
		if p := at[x.Ticket]; p != 0 && p < last {
			m.w.fail("Q1", "entry %d: place %d was passed by one behind it", l.Index, x.Ticket)
		} else if p != 0 {
			last = p
		} else if want := m.rules.priority(x.Principal.User); x.Priority != want {
			m.w.fail("Q1", "entry %d: place %d of %s has priority %d, not %d", l.Index, x.Ticket, x.Principal.User, x.Priority, want)
		}
		if i == 0 {
			continue
		}
		if y := after.places[i-1]; y.Priority < x.Priority || y.Priority == x.Priority && y.Ticket > x.Ticket {
			m.w.fail("Q1", "entry %d: place %d stands before %d", l.Index, y.Ticket, x.Ticket)
		}
	}
}

// overtakes checks that who gets seats delays nobody who waits before it: those still
// there could all be served by what is free.
func (m *monitor) overtakes(l *raft.Log, g lease.Event, s *step, before, after *view) {
	user := g.Principal.User
	if m.rules.jobs[g.Session] || g.Feature == "shared" || slices.ContainsFunc(before.leases, func(x lease.Lease) bool {
		return x.State == lease.Lingering && x.Feature == g.Feature && x.Principal == g.Principal
	}) {
		return // it has seats of its own: booked, shared, or still charged to it
	}
	ahead := before.aheadOf(s.servedPlace(g, before), m.rules.priority(user))
	for _, f := range judgedFeatures {
		if weight(g.Feature, f, 1) == 0 || m.rules.reservedFor(f, user) {
			continue
		}
		claimed := 0
		for i := range ahead {
			x := &ahead[i]
			if j := slices.IndexFunc(after.places, func(y lease.Place) bool { return y.Ticket == x.Ticket }); j >= 0 && !x.Aside && !after.places[j].Aside && x.Booking == "" {
				claimed += after.wants(x, f)
			}
		}
		if free := m.free(after, f); claimed > 0 && free < claimed {
			m.w.fail("Q1", "entry %d: %s was granted %s; those ahead want %d seats of %s, %d are free", l.Index, user, g.Feature, claimed, f, free)
		}
	}
}

// servedPlace is the ticket of the place that a grant serves; 0: that of a newcomer. It is
// said by the command, not by what its session lacked before: what it held of an older
// request it may have given back with this command, and wants again at the place it has.
func (s *step) servedPlace(g lease.Event, before *view) uint64 {
	if c := s.command.GetCheckout(); c != nil && slices.ContainsFunc(s.reply.Leases, func(x lease.Lease) bool { return x.Ref == g.Lease }) {
		i := slices.IndexFunc(before.places, func(x lease.Place) bool {
			return x.Session == g.Session && x.Booking == c.Booking && slices.EqualFunc(x.Items, c.Items, func(a lease.Item, b *logv1.Item) bool {
				return a.Feature == b.Feature && a.Version == b.Version && a.Count == int(b.Count)
			})
		})
		if i < 0 {
			return 0
		}
		return before.places[i].Ticket
	}
	granted := false
	for _, e := range s.events { // from the queue: the place ends with its grants
		granted = granted || e.Kind == lease.Granted && e.Lease == g.Lease
		if granted && e.Kind == lease.Dequeued && e.Session == g.Session && e.Reason == "" {
			return e.Ticket
		}
	}
	return 0
}

// aheadOf gives the places before one; of a newcomer, those whom its priority does not pass.
func (v *view) aheadOf(ticket uint64, priority int) []lease.Place {
	n := slices.IndexFunc(v.places, func(x lease.Place) bool { return x.Ticket == ticket })
	if n < 0 {
		n = slices.IndexFunc(v.places, func(x lease.Place) bool { return x.Priority < priority })
	}
	if n < 0 {
		n = len(v.places)
	}
	return v.places[:n]
}

// nobodyStarves wants no place to wait that could be served beside all who are ahead of it.
// What its session holds already it needs no more.
func (m *monitor) nobodyStarves(l *raft.Log, v *view) {
	left := map[string]int{}
	for _, f := range judgedFeatures {
		left[f] = m.free(v, f) - m.rules.unfilled(v, f)
	}
	for i := range v.places {
		x := &v.places[i]
		fits := !x.Aside && x.Booking == ""
		for _, it := range x.Items {
			fits = fits && (it.Feature == "draft" || slices.Contains(judgedFeatures, it.Feature) || v.holds(x.Session, it.Feature))
		}
		some := false
		for _, f := range judgedFeatures {
			n := v.wants(x, f)
			some = some || n > 0
			fits = fits && n <= max(0, left[f])
			if !x.Aside {
				left[f] -= n
			}
		}
		if fits && some {
			m.w.fail("Q2", "entry %d: %s waits for %v (place %d), and could have it%s; ahead %v", l.Index, x.Principal.User, x.Items, x.Ticket, m.counts(v, x), v.places[:i])
		}
	}
}

// counts says how the features stand that a place waits for.
func (m *monitor) counts(v *view, x *lease.Place) (s string) {
	for _, f := range judgedFeatures {
		if v.wants(x, f) > 0 {
			s += fmt.Sprintf("; of %d %s %d are charged, %d booked, %d reserved", m.rules.most(f), f, v.used[f], v.booked[f], m.rules.unfilled(v, f))
		}
	}
	return s
}

// allowed checks that nobody is granted what the policy forbids.
func (m *monitor) allowed(l *raft.Log, before, after *view) {
	for at, g := range m.rules.now.granted {
		user := g.Principal.User
		for _, f := range judgedFeatures {
			if weight(g.Feature, f, 1) == 0 {
				continue
			}
			own := m.rules.reservedFor(f, user)
			if no, _ := m.rules.named(lease.RuleExclude, f, user); no {
				m.w.fail("P1", "entry %d: %s was granted %s and is excluded", l.Index, user, g.Feature)
			}
			if yes, any := m.rules.named(lease.RuleInclude, f, user); any && !yes && !own {
				m.w.fail("P1", "entry %d: %s was granted %s, which is for others only", l.Index, user, g.Feature)
			}
			for i := range m.rules.policy.Rules {
				x := &m.rules.policy.Rules[i]
				if x.Kind != lease.RuleMax || x.Feature != f || own || !m.rules.is(user, x.Who) {
					continue
				}
				means := func(u string) bool { return m.rules.is(u, x.Who) }
				n := after.held(f, means)
				for _, later := range m.rules.now.granted[at+1:] { // who has a reservation goes beyond a cap
					if means(later.Principal.User) {
						n -= weight(later.Feature, f, later.Count)
					}
				}
				if n > x.Seats && n > before.held(f, means) {
					m.w.fail("P1", "entry %d: %s was granted %s, %d seats are held of at most %d", l.Index, user, g.Feature, n, x.Seats)
				}
			}
		}
	}
}

// reserved checks conservation: what is charged, reserved and booked fits into what there
// is. What does not fit (a policy or licence came later) never grows by a grant.
func (m *monitor) reserved(l *raft.Log, before, after *view) {
	h := &m.rules.now
	for _, f := range judgedFeatures {
		grew := h.booked[f]
		for _, g := range h.granted {
			grew = grew || weight(g.Feature, f, 1) > 0
		}
		for _, e := range h.ended {
			if m.rules.jobs[e.Session] {
				grew = false // the booking has its seat again, whoever it is reserved for
			}
		}
		over := func(v *view) int { return max(0, m.rules.unfilled(v, f)-m.free(v, f)) }
		if is, was := over(after), over(before); grew && is > was {
			m.w.fail("L1", "entry %d: of %d seats of %s %d are charged, %d booked, %d reserved", l.Index, m.rules.most(f), f, after.used[f], after.booked[f], m.rules.unfilled(after, f))
		}
	}
}

// denied checks refusals: a booking keeps its seats for its job, a reserved seat is stopped
// by no cap or allow list, and what came back counts no more.
func (m *monitor) denied(l *raft.Log, s *step, before *view) {
	c, r := s.command.GetCheckout(), s.reply.Refusal
	if c == nil || r == nil || s.reply.Replayed || len(c.Items) != 1 || c.Partial || m.now < m.rules.fence {
		return
	}
	f, user, n := c.Items[0].Feature, c.Principal.User, int(c.Items[0].Count)
	if !slices.Contains(judgedFeatures, f) {
		return
	}
	switch r.Reason {
	case lease.NoSeats, lease.InQueue, lease.ReservedForOthers:
		for _, x := range before.jobs {
			if x.ID == c.Booking && x.Remaining > 0 && x.Remaining > m.rules.step && x.Lines[0].Feature == f && x.Lines[0].Count-x.Lines[0].Used >= n && m.free(before, f) >= 0 {
				m.w.fail("Q3", "entry %d: %d seats of %s are booked for job %s, and it was refused: %v", l.Index, x.Lines[0].Count, f, x.ID, r)
			}
		}
	case lease.MaxReached:
		capped := false
		for i := range m.rules.policy.Rules {
			x := &m.rules.policy.Rules[i]
			if x.Kind == lease.RuleMax && x.Feature == f && m.rules.is(user, x.Who) {
				capped = capped || before.held(f, func(u string) bool { return m.rules.is(u, x.Who) })+n > x.Seats
			}
		}
		if !capped {
			m.w.fail("P2", "entry %d: %s was refused %s by a cap that is not reached: %v", l.Index, user, f, r)
		}
		m.ownSeatRefused(l, before, user, f, n, r)
	case lease.NotIncluded:
		m.ownSeatRefused(l, before, user, f, n, r)
	}
}

// ownSeatRefused checks that a refusal by cap or allow list did not keep somebody from a
// seat that is reserved for it alone.
func (m *monitor) ownSeatRefused(l *raft.Log, before *view, user, f string, n int, r *lease.Refusal) {
	more := *before
	more.leases = append(slices.Clone(before.leases), lease.Lease{Feature: f, Count: n, Principal: lease.Principal{User: user}})
	if m.rules.unfilled(before, f)-m.rules.unfilled(&more, f) >= n {
		m.w.fail("P2", "entry %d: %s was refused %s, of which seats are reserved for it: %v", l.Index, user, f, r)
	}
}
