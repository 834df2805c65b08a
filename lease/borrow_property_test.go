package lease_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// lender runs random commands and remembers what each borrower was told: it may use its
// seats until then, whatever anybody says to the cluster meanwhile, unless it gave them
// back itself or an operator took the overdraft on himself.
type lender struct {
	rnd   *rand.Rand
	b     *lease.Book
	index uint64
	told  map[lease.Ref]promise
	stats map[string]int
}

type promise struct {
	feature string
	seats   []int
	until   lease.Time
}

func (p *lender) chance(n int) bool { return p.rnd.IntN(n) == 0 }

func (p *lender) do(cmd lease.Command) (lease.Reply, error) {
	p.index++
	r := p.b.Apply(p.index, cmd)
	kind := fmt.Sprintf("%T ok", cmd)
	if r.Refusal != nil {
		kind = fmt.Sprintf("%T %s", cmd, r.Refusal.Reason)
	}
	p.stats[kind]++
	if err := p.b.Check(); err != nil {
		return r, fmt.Errorf("after %+v: %w", cmd, err)
	}
	for _, l := range r.Leases {
		for ref, t := range p.told {
			if ref == l.Ref || t.feature != l.Feature || t.until <= p.b.Now() {
				continue
			}
			for _, seat := range l.Seats {
				for _, theirs := range t.seats {
					if seat == theirs {
						return r, fmt.Errorf("%+v granted seat %d of %s, whose borrower (lease %d) may use it for %v more", cmd, seat, l.Feature, ref.ID, t.until.Sub(p.b.Now()))
					}
				}
			}
		}
	}
	return r, nil
}

func (p *lender) step() error {
	if p.chance(3) {
		d := time.Duration(p.rnd.Int64N(int64(3 * time.Hour)))
		p.b.Advance(p.b.Now().Add(d), p.b.Calendar()+lease.Calendar(d.Milliseconds()))
	}
	n := byte(1 + p.rnd.IntN(12))
	name := [...]string{"cad", "mesh"}[p.rnd.IntN(2)]
	var some lease.Lease
	if all, _ := p.b.Leases(lease.Filter{}, 0, 100); len(all) > 0 {
		some = all[p.rnd.IntN(len(all))]
	}
	switch p.rnd.IntN(12) {
	case 0, 1, 2:
		_, err := p.do(checkout(n, name, 1+p.rnd.IntN(2)))
		return err
	case 3, 4, 5:
		r, err := p.do(borrow(n, name, time.Duration(1+p.rnd.IntN(30))*time.Hour))
		return p.believe(r, err)
	case 6:
		r, err := p.do(lease.RenewBorrow{Ref: some.Ref, For: time.Duration(1+p.rnd.IntN(20)) * time.Hour})
		return p.believe(r, err)
	case 7:
		if p.chance(3) {
			delete(p.told, some.Ref) // the holder throws its token away
			_, err := p.do(lease.ReturnEarly{Ref: some.Ref})
			return err
		}
	case 8:
		now := p.chance(6)
		r, err := p.do(lease.RevokeBorrow{ID: some.ID, AtOnce: now})
		if now && r.Refusal == nil {
			delete(p.told, some.Ref)
		}
		return err
	case 9:
		_, err := p.do(lease.Kill{Refs: []lease.Ref{some.Ref}})
		return err
	case 10:
		c := lease.CheckIn{Session: session(n), Close: p.chance(2)}
		if p.chance(2) && some.ID != 0 { // by name
			c = lease.CheckIn{Session: session(some.Session[0]), Refs: []lease.Ref{some.Ref}}
		}
		_, err := p.do(c)
		return err
	case 11:
		for _, c := range p.b.Due(100) {
			if _, err := p.do(c); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *lender) believe(r lease.Reply, err error) error {
	for _, l := range r.Leases {
		if r.Lent != nil {
			p.told[l.Ref] = promise{l.Feature, l.Seats, p.b.Now().Add(l.Remaining)}
		}
	}
	return err
}

func lend(seed uint64, steps int) (stats map[string]int, err error) {
	p := &lender{rnd: rand.New(rand.NewPCG(seed, 7)), b: lease.NewBook(), told: map[lease.Ref]promise{}, stats: map[string]int{}}
	p.b.Advance(0, launch)
	for _, c := range []lease.Command{lease.InstallLicence{Licence: licence("L-1", lendable("cad", 3, 24), lendable("mesh", 4, 168))}, key("first")} {
		if _, err := p.do(c); err != nil {
			return nil, err
		}
	}
	for range steps {
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	return p.stats, nil
}

func TestNoBorrowedSeatIsGrantedBeforeItsEnd(t *testing.T) {
	total := map[string]int{}
	for seed := range propertySeeds(t) {
		stats, err := lend(seed, 3000)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for k, n := range stats {
			total[k] += n
		}
	}
	for _, want := range []string{
		"lease.Borrow ok", "lease.Borrow borrow_none_left", "lease.Borrow borrow_too_long", "lease.Borrow no_seats", "lease.RenewBorrow ok", "lease.RenewBorrow borrow_off",
		"lease.ReturnEarly ok", "lease.RevokeBorrow ok", "lease.Kill ok", "lease.Checkout ok", "lease.Checkout no_seats", "lease.Expire ok", "lease.ExpireSession ok",
	} {
		if total[want] == 0 {
			t.Errorf("the programs never came to %q", want)
		}
	}
}
