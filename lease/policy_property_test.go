package lease_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// ruler makes random policies, licences and programs and judges each checkout by rules
// written a second time, without any index: what is held is read from the list of leases,
// and reservations are filled seat by seat.
type ruler struct {
	rnd    *rand.Rand
	book   *lease.Book
	index  uint64
	policy lease.Policy
	names  int // sessions so far
	held   map[byte]lease.Principal
	trace  []string
	seen   map[string]int
}

var ruledFeatures = []string{"cad", "mesh"}

func newRuler(seed uint64) *ruler {
	return &ruler{rnd: rand.New(rand.NewPCG(seed, 5)), book: lease.NewBook(), held: map[byte]lease.Principal{}, seen: map[string]int{}}
}

func pick[T any](r *ruler, list ...T) T { return list[r.rnd.IntN(len(list))] }

func (r *ruler) principal() lease.Principal {
	return lease.Principal{User: fmt.Sprint("u", r.rnd.IntN(5)), Host: fmt.Sprint("h", r.rnd.IntN(3))}
}

// subject names a user, a host or one of the two groups, plainly.
func (r *ruler) subject() lease.Subject {
	switch r.rnd.IntN(4) {
	case 0:
		return lease.Subject{Type: lease.SubjectHost, Name: fmt.Sprint("h", r.rnd.IntN(3))}
	case 1:
		return group(pick(r, "odd", "low"))
	}
	return user(fmt.Sprint("u", r.rnd.IntN(5)))
}

// is says whether a principal is a subject.
func is(who lease.Principal, s lease.Subject) bool {
	switch s.Type {
	case lease.SubjectUser:
		return who.User == s.Name
	case lease.SubjectHost:
		return who.Host == s.Name
	case lease.SubjectGroup:
		members := map[string][]string{"odd": {"u1", "u3"}, "low": {"u0", "u1", "u2"}}
		return slices.Contains(members[s.Name], who.User)
	}
	return true
}

func (r *ruler) newPolicy() lease.Policy {
	p := lease.Policy{Groups: []lease.PolicyGroup{{Name: "odd", Members: []string{"u1", "u3"}}, {Name: "low", Members: []string{"u0", "u1", "u2"}}}}
	for range r.rnd.IntN(9) {
		f := pick(r, ruledFeatures...)
		switch r.rnd.IntN(8) {
		case 0:
			p.Rules = append(p.Rules, rule(lease.RuleExclude, pick(r, f, ""), r.subject(), 0))
		case 1:
			p.Rules = append(p.Rules, rule(lease.RuleInclude, f, r.subject(), 0))
		case 2:
			p.Rules = append(p.Rules, rule(lease.RuleMax, f, r.subject(), r.rnd.IntN(4)))
		case 3:
			p.Rules = append(p.Rules, rule(lease.RuleMaxOverdraft, f, lease.Subject{}, r.rnd.IntN(3)))
		case 4:
			p.Rules = append(p.Rules, span(lease.RuleLinger, f, lease.Subject{}, time.Duration(r.rnd.IntN(30))*time.Second))
		default:
			p.Rules = append(p.Rules, rule(lease.RuleReserve, f, r.subject(), 1+r.rnd.IntN(3)))
		}
	}
	return p
}

func (r *ruler) licence() lease.InstallLicence {
	cad, mesh := feature("cad", 2+r.rnd.IntN(6)), shared("mesh", 2+r.rnd.IntN(5), 3)
	cad.Overdraft = r.rnd.IntN(3)
	return lease.InstallLicence{Licence: licence("L-1", cad, mesh), Replace: true}
}

// standing is what the judge reads of one feature.
type standing struct {
	status lease.PoolStatus
	leases []lease.Lease
	most   int // seats that may be used, overdraft included
	// charges are the seats and the first holder of each charge.
	charges map[uint32]charge
}

type charge struct {
	who   lease.Principal
	seats int
}

func (r *ruler) standing(name string) standing {
	s := standing{charges: map[uint32]charge{}}
	for _, p := range r.book.Pools("") {
		if p.Feature == name {
			s.status = p
		}
	}
	allowed := 0
	for _, x := range r.policy.Rules {
		if x.Kind == lease.RuleMaxOverdraft && x.Feature == name {
			allowed = min(x.Seats, s.status.LicensedOverdraft)
			break
		}
	}
	s.most = s.status.Total + allowed
	s.leases, _ = r.book.Leases(lease.Filter{Feature: name}, 0, 1000)
	for _, l := range s.leases {
		c, known := s.charges[l.Charge]
		if !known {
			c.who = l.Principal
		}
		c.seats = max(c.seats, l.Count)
		s.charges[l.Charge] = c
	}
	return s
}

// unfilled fills the reservations of a feature seat by seat and gives what is left, if who
// held n seats more.
func (r *ruler) unfilled(s *standing, who lease.Principal, n int) (left int) {
	var slots []lease.Subject // one for each reserved seat
	room := s.status.Total
	for _, x := range r.policy.Rules {
		if x.Kind == lease.RuleReserve && x.Feature == s.status.Feature {
			for range min(x.Seats, room) {
				slots = append(slots, x.Who)
			}
			room -= min(x.Seats, room)
		}
	}
	var seats []lease.Principal
	for _, c := range s.charges {
		for range c.seats {
			seats = append(seats, c.who)
		}
	}
	for range n {
		seats = append(seats, who)
	}
	owner := make([]int, len(slots)) // of a slot: seat + 1
	var place func(seat int, seen []bool) bool
	place = func(seat int, seen []bool) bool {
		for i, slot := range slots {
			if seen[i] || !is(seats[seat], slot) {
				continue
			}
			seen[i] = true
			if owner[i] == 0 || place(owner[i]-1, seen) {
				owner[i] = seat + 1
				return true
			}
		}
		return false
	}
	filled := 0
	for seat := range seats {
		if place(seat, make([]bool, len(slots))) {
			filled++
		}
	}
	return len(slots) - filled
}

// verdict says what a checkout of n seats by who must come to: "" is a grant.
func (r *ruler) verdict(s *standing, who lease.Principal, n int) lease.Reason {
	if n > s.most {
		return lease.TooManyRequested
	}
	charged := 0
	for _, c := range s.charges {
		charged += c.seats
	}
	asked, without := n, *s
	for _, l := range s.leases { // what lingers for who is taken up
		if l.State == lease.Lingering && l.Principal == who {
			n = max(0, n-s.charges[l.Charge].seats)
			without.charges = maps.Clone(s.charges)
			without.charges[l.Charge] = charge{who, s.charges[l.Charge].seats - (asked - n)}
			break
		}
	}
	included, limited := false, false
	for _, x := range r.policy.Rules {
		if x.Kind == lease.RuleExclude && (x.Feature == "" || x.Feature == s.status.Feature) && is(who, x.Who) {
			return lease.Excluded
		}
		if x.Kind == lease.RuleInclude && x.Feature == s.status.Feature {
			limited, included = true, included || is(who, x.Who)
		}
	}
	before, after := r.unfilled(s, who, 0), r.unfilled(s, who, n)
	if own := r.unfilled(&without, who, 0) - after; own < asked && limited && !included {
		return lease.NotIncluded // a seat that fills a reservation needs no other leave
	}
	if own := before - after; own < n {
		for _, x := range r.policy.Rules {
			if x.Kind != lease.RuleMax || x.Feature != s.status.Feature || !is(who, x.Who) {
				continue
			}
			held := 0
			for _, c := range s.charges {
				if is(c.who, x.Who) {
					held += c.seats
				}
			}
			if held+n-own > x.Seats {
				return lease.MaxReached
			}
		}
	}
	switch {
	case charged+n > s.most && n > 0:
		return lease.NoSeats
	case n > 0 && charged+n+after > max(s.most, charged+before):
		return lease.ReservedForOthers
	}
	return ""
}

// conserved: what is charged and what is kept for somebody is never more than there is,
// unless what is charged alone is more already (a smaller licence came).
func (r *ruler) conserved() error {
	for _, name := range ruledFeatures {
		s := r.standing(name)
		charged := 0
		for _, c := range s.charges {
			charged += c.seats
		}
		if charged != s.status.InUse {
			return fmt.Errorf("%s: %d in use, the leases have %d", name, s.status.InUse, charged)
		}
		want := min(r.unfilled(&s, lease.Principal{}, 0), max(0, s.most-charged))
		if s.status.Reserved != want {
			return fmt.Errorf("%s: %d seats are reserved, want %d", name, s.status.Reserved, want)
		}
		sum := 0
		for _, x := range s.status.ReservedFor {
			sum += x.Seats
		}
		if sum != s.status.Reserved {
			return fmt.Errorf("%s: reservations of %d seats are listed for %d reserved", name, sum, s.status.Reserved)
		}
	}
	return nil
}

func (r *ruler) do(c lease.Command) (lease.Reply, error) {
	r.index++
	r.trace = append(r.trace, fmt.Sprintf("%T %+v", c, c))
	reply := r.book.Apply(r.index, c)
	if reply.Refusal != nil {
		r.trace = append(r.trace, "  "+reply.Refusal.Error())
	}
	if err := r.book.Check(); err != nil {
		return reply, err
	}
	return reply, r.conserved()
}

func (r *ruler) run(steps int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\npolicy: %+v\nafter:\n%s", err, r.policy.Rules, strings.Join(r.trace[max(0, len(r.trace)-14):], "\n"))
		}
	}()
	r.book.Advance(0, launch)
	if _, err := r.do(r.licence()); err != nil {
		return err
	}
	for range steps {
		if err := r.step(); err != nil {
			return err
		}
	}
	return nil
}

func (r *ruler) step() error {
	r.book.Advance(r.book.Now().Add(time.Duration(r.rnd.IntN(15))*time.Second), launch)
	for _, c := range r.book.Due(1000) { // else a denial reclaims them first
		if _, err := r.do(c); err != nil {
			return err
		}
	}
	switch n := byte(r.rnd.IntN(12) + 1); r.rnd.IntN(20) {
	case 0:
		p := r.newPolicy()
		r.policy = p // the conservation is judged by the new one at once
		_, err := r.do(lease.ApplyPolicy{Policy: p, Expected: lease.AnyVersion})
		return err
	case 1:
		_, err := r.do(r.licence())
		return err
	case 2:
		twin, err := reloaded(r.book)
		if err != nil {
			return err
		}
		r.book = twin
		return r.conserved()
	case 3, 4, 5, 6, 7:
		_, err := r.do(lease.CheckIn{Session: session(n), Close: r.rnd.IntN(2) == 0})
		return err
	case 8:
		_, err := r.do(lease.Renew{Session: session(n), Idle: time.Duration(r.rnd.IntN(20)) * time.Minute})
		return err
	default:
		return r.checkout()
	}
}

// checkout judges a checkout by a session of its own where seats are not shared; where
// they are, only what is conserved is judged.
func (r *ruler) checkout() error {
	r.names++
	n := byte(r.rnd.IntN(12) + 1)
	name, count, who := pick(r, ruledFeatures...), 1+r.rnd.IntN(3), r.principal()
	cmd := checkout(n, name, count)
	cmd.Principal = who
	s := r.standing(name)
	reply, err := r.do(cmd)
	if err != nil || name != "cad" {
		return err
	}
	got := lease.Reason("")
	if reply.Refusal != nil {
		got = reply.Refusal.Reason
	}
	if got == lease.SessionUnknown {
		return nil // closed lately
	}
	if len(reply.Leases) == 1 {
		for _, l := range s.leases {
			if l.ID == reply.Leases[0].ID {
				return nil // it was held already
			}
		}
		who = reply.Leases[0].Principal // of the session, whatever the request said
	} else if l, _ := r.book.Leases(lease.Filter{Session: session(n).ID}, 0, 10); len(l) > 0 {
		who = l[0].Principal
		if got == lease.Invalid {
			return nil // it holds another number of seats
		}
	} else if r.known(n) {
		return nil // a session without leases: whose it is cannot be seen
	}
	r.seen[string(got)]++
	if want := r.verdict(&s, who, count); got != want {
		return fmt.Errorf("%d of %s by %s@%s: %q, want %q", count, name, who.User, who.Host, got, want)
	}
	return nil
}

// known says whether the session exists: a heartbeat without effect tells.
func (r *ruler) known(n byte) bool {
	ref := session(n)
	return r.book.Apply(r.index, lease.Renew{Session: ref}).Refusal == nil
}

const rulerSteps = 400

func TestPoliciesOverRandomPrograms(t *testing.T) {
	seen := map[string]int{}
	for seed := range inFull[uint64](60, 15) {
		r := newRuler(seed)
		if err := r.run(rulerSteps); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for k, n := range r.seen {
			seen[k] += n
		}
	}
	for _, reason := range []lease.Reason{"", lease.NoSeats, lease.Excluded, lease.NotIncluded, lease.MaxReached, lease.ReservedForOthers, lease.TooManyRequested} {
		if seen[string(reason)] < inFull(50, 10) {
			t.Errorf("%q came up %d times: the programs do not try it", reason, seen[string(reason)])
		}
	}
	t.Logf("%v", seen)
}
