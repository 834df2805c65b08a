package lease_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Random licences of one feature whose lines change version, terms and count, under a
// policy that reserves and overdraws, with people who wait. Judged by what is listed.
type shifter struct {
	rnd   *rand.Rand
	book  *lease.Book
	index uint64
	trace []string
	seen  map[string]int
}

func (p *shifter) chance(n int) bool { return p.rnd.IntN(n) == 0 }

func (p *shifter) licence(id string) lease.InstallLicence {
	var ents []lease.Entitlement
	for n := range 1 + p.rnd.IntN(3) {
		e := inVersion(feature("cad", 1+p.rnd.IntN(5)), fmt.Sprint(1+p.rnd.IntN(4)))
		e.Serial = fmt.Sprint(id, n)
		if p.chance(3) {
			e.Variant = "eu"
		}
		e.Overdraft = p.rnd.IntN(2)
		switch p.rnd.IntN(6) {
		case 0:
			e.Expiry = p.book.Calendar() + lease.Calendar(1+p.rnd.IntN(600_000))
		case 1:
			e.Start = p.book.Calendar() + lease.Calendar(1+p.rnd.IntN(600_000))
		case 2:
			e.Issued, e.Supersedes = p.book.Calendar(), []string{"cad"}
		}
		ents = append(ents, e)
	}
	return lease.InstallLicence{Licence: licence(id, ents...), Replace: true}
}

func (p *shifter) policy() lease.ApplyPolicy {
	var rules []lease.Rule
	if p.chance(2) {
		rules = append(rules, rule(lease.RuleReserve, "cad", user("u1"), 1+p.rnd.IntN(3)))
	}
	if p.chance(2) {
		rules = append(rules, rule(lease.RuleMaxOverdraft, "cad", lease.Subject{}, 1+p.rnd.IntN(2)))
	}
	return lease.ApplyPolicy{Policy: lease.Policy{Rules: rules}, Expected: lease.AnyVersion}
}

func (p *shifter) next() lease.Command {
	n := byte(1 + p.rnd.IntN(14))
	switch x := p.rnd.IntN(40); {
	case x < 18:
		c := as(checkout(n, "cad", 1+p.rnd.IntN(3)), fmt.Sprint("u", n%4), "h")
		c.Items[0].Version = []string{"", "", "2", "3"}[p.rnd.IntN(4)]
		if p.chance(3) {
			c.Wait = time.Duration(1+p.rnd.IntN(300)) * time.Second
		}
		return c
	case x < 27:
		return lease.CheckIn{Session: session(n)}
	case x < 32:
		return lease.Renew{Session: session(n)}
	case x < 36:
		return p.licence(fmt.Sprint("L-", 1+p.rnd.IntN(2)))
	case x < 37:
		return lease.RemoveLicence{Tenant: "default", ID: fmt.Sprint("L-", 1+p.rnd.IntN(2))}
	case x < 38:
		return p.policy()
	}
	return lease.Leave{Session: session(n)}
}

// sums is what all pools of the feature come to.
type sums struct{ seats, used, reserved, over, spare, held, queued int }

func (p *shifter) sums() (s sums) {
	for _, x := range p.book.Pools("") {
		most := x.Total + x.OverdraftAllowed
		s.seats, s.used, s.reserved, s.held = s.seats+most, s.used+x.InUse, s.reserved+x.Reserved, s.held+x.HeldBack
		s.over, s.spare, s.queued = s.over+max(0, x.InUse-most), s.spare+max(0, most-x.InUse), s.queued+x.Queued
	}
	return s
}

func (p *shifter) judge(c lease.Command, r lease.Reply, was, is sums) error {
	switch {
	case is.used > max(is.seats, was.used):
		return fmt.Errorf("%d in use, %d licensed, %d were in use before", is.used, is.seats, was.used)
	case is.used+is.reserved > max(is.seats, is.used):
		return fmt.Errorf("%d in use and %d reserved of %d", is.used, is.reserved, is.seats)
	case is.held != min(is.over, is.spare):
		return fmt.Errorf("%d held back; %d are over and %d to spare", is.held, is.over, is.spare)
	}
	if x, ok := c.(lease.Checkout); ok && r.Refusal != nil && r.Refusal.Reason == lease.NoSeats &&
		x.Items[0].Count == 1 && x.Items[0].Version == "" && is.queued+is.reserved == 0 && is.used < is.seats {
		return fmt.Errorf("refused, with %d of %d in use", is.used, is.seats)
	}
	for _, x := range p.book.Queue("", "", 100) {
		if _, ok := p.book.Preview(lease.Checkout{Session: lease.SessionRef{ID: x.Session}, Items: x.Items}); ok {
			return fmt.Errorf("session %v waits and could be served", x.Session[0])
		}
	}
	return nil
}

func (p *shifter) do(c lease.Command) error {
	was := p.sums()
	p.index++
	p.trace = append(p.trace, fmt.Sprintf("  %T %+v", c, c))
	r := p.book.Apply(p.index, c)
	kind := fmt.Sprintf("%T ok", c)
	if r.Refusal != nil {
		kind = fmt.Sprintf("%T %s", c, r.Refusal.Reason)
	}
	p.seen[kind]++
	if err := p.book.Check(); err != nil {
		return err
	}
	is := p.sums()
	if is.held > 0 {
		p.seen["held back"]++
	}
	if was.held > 0 && is.held < was.held {
		p.seen["less held back"]++
	}
	return p.judge(c, r, was, is)
}

func (p *shifter) run(steps int) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nafter:\n%s\npools %+v", err, strings.Join(p.trace[max(0, len(p.trace)-10):], "\n"), p.book.Pools(""))
		}
	}()
	p.book.Advance(0, launch)
	for n := range steps {
		d := time.Duration(p.rnd.IntN(40)) * time.Second
		p.book.Advance(p.book.Now().Add(d), p.book.Calendar()+lease.Calendar(d.Milliseconds()))
		if err := p.do(p.next()); err != nil {
			return err
		}
		for _, c := range p.book.Due(100) {
			if err := p.do(c); err != nil {
				return err
			}
		}
		if n%40 == 0 {
			twin, err := reloaded(p.book)
			if err != nil {
				return err
			}
			if !reflect.DeepEqual(twin.Pools(""), p.book.Pools("")) {
				return fmt.Errorf("restored pools %+v", twin.Pools(""))
			}
			p.book = twin
		}
	}
	return nil
}

func shift(seed uint64, steps int) (map[string]int, error) {
	p := &shifter{rnd: rand.New(rand.NewPCG(seed, 17)), book: lease.NewBook(), seen: map[string]int{}}
	return p.seen, p.run(steps)
}

func TestAFeatureNeverHasMoreSeatsOutThanAreLicensed(t *testing.T) {
	total := map[string]int{}
	for seed := range 4 * propertySeeds(t) {
		seen, err := shift(seed, 600)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for k, n := range seen {
			total[k] += n
		}
	}
	for _, want := range []string{"lease.Checkout ok", "lease.Checkout no_seats", "lease.Checkout queued", "lease.InstallLicence ok", "lease.RemoveLicence ok", "held back", "less held back"} {
		if total[want] < 20 {
			t.Errorf("%q came up %d times: the programs do not try it", want, total[want])
		}
	}
}
