package lease_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// Random licences with tokens, suites, packages, uncounted features, grace days and lines
// that supersede others, and random programs over them. The model does not know these
// rules; the ledger's own check, the invariants and the laws below judge.

// richLicence makes the entitlements of one of three licences, anew each time.
func richLicence(p *program, id string) []lease.Entitlement {
	units := lease.Entitlement{Feature: "units", Version: "1", Count: 4 + p.rnd.IntN(14)}
	cad := tokens("cad", 1+p.rnd.IntN(4), "units")
	cad.Share = oneOf(p, lease.ShareRule{}, lease.ShareRule{By: lease.MaskUser, MaxSessions: 3})
	solver := tokens("solver", 5, "units")
	solver.Uncounted, solver.Count = false, 2
	viewer := lease.Entitlement{Feature: "viewer", Version: "1"}
	viewer.Uncounted = true
	mesh := lease.Entitlement{Feature: "mesh", Version: "1", Count: 2, Profile: lease.Profiles["ci"]}
	mesh.Expiry, mesh.GraceDays = launch+lease.Calendar(p.rnd.IntN(6e6))+1, p.rnd.IntN(2)
	suite := bundle("studio", 1+p.rnd.IntN(3), true, part("mesh", 1), part("post", 1+p.rnd.IntN(3)), part("paint", 1))
	suite.Share = oneOf(p, lease.ShareRule{}, lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: 2})
	pack := bundle("office", 1+p.rnd.IntN(2), false, part("post", 2), part("units", 3))
	pack.Version = "1"
	newer := lease.Entitlement{Feature: "units", Version: "1", Count: 5, Issued: launch, Supersedes: []string{"units", "studio"}}
	newer.Start = launch + lease.Calendar(p.rnd.IntN(6e6))
	return map[string][]lease.Entitlement{"L-1": {units, cad, suite, viewer}, "L-2": {solver, mesh, pack}, "L-3": {newer, suite}}[id]
}

func newRichProgram(seed uint64) *program {
	p := newProgram(seed)
	p.blind, p.ents = true, richLicence
	if seed%2 == 1 { // what is drawn counts for its holder, so reservations and caps do too
		r := p.book.Apply(0, lease.ApplyPolicy{Expected: lease.AnyVersion, Policy: lease.Policy{Rules: []lease.Rule{
			rule(lease.RuleReserve, "units", user("u0"), 3), rule(lease.RuleReserve, "studio", user("u1"), 1), rule(lease.RuleMax, "units", user("u2"), 8),
		}}})
		if r.Refusal != nil {
			panic(r.Refusal)
		}
	}
	p.features = []string{"units", "units", "cad", "cad", "cad", "solver", "viewer", "mesh", "mesh", "post", "post", "paint", "paint", "studio", "office", "none"}
	return p
}

// paid checks that what is drawn is what the live leases cost: conservation, counted from
// the leases that are shown, without looking at draws.
func (p *program) paid() error {
	f := p.book.Freeze()
	pools, groups := map[uint32]*lease.PoolRecord{}, map[uint32]lease.GroupRecord{}
	f.Pools(func(i uint32, x *lease.PoolRecord) bool { pools[i] = x; return true })
	f.Groups(func(i uint32, x *lease.GroupRecord) bool { groups[i] = *x; return true })
	sessions := map[uint32]lease.SessionRecord{}
	f.Sessions(func(i uint32, s *lease.SessionRecord) bool { sessions[i] = *s; return true })
	who := map[uint32]string{}
	f.Leases(func(_ uint32, l *lease.LeaseRecord) bool {
		s := sessions[l.Session]
		who[l.Group] = fmt.Sprint("session ", l.Session)
		if by := pools[groups[l.Group].Pool].Share.By; by == lease.MaskUser|lease.MaskHost && s.Principal.User != "" {
			who[l.Group] = s.Principal.User + "@" + s.Principal.Host
		}
		return true
	})
	owed, suites := map[string]int{}, map[string]int{}
	for i, g := range groups {
		switch d := pools[g.Pool].Draw; {
		case d.Suite:
			k := fmt.Sprint(d.Of, pools[g.Pool].Share, " of ", who[i])
			suites[k] = max(suites[k], (len(g.Seats)+d.Per-1)/d.Per)
		case d.Of != "":
			owed[d.Of] += len(g.Seats) * d.Cost
		}
	}
	for _, n := range suites {
		owed["studio"] += n
	}
	for _, x := range p.book.Pools("") {
		owed[x.Feature] -= x.Drawn
	}
	for name, n := range owed {
		if n != 0 {
			return fmt.Errorf("%s: %d seats too few are charged for what is held", name, n)
		}
	}
	return nil
}

// reloaded is the ledger as a restored snapshot would have it.
func reloaded(b *lease.Book) (*lease.Book, error) {
	f := b.Freeze()
	load := lease.NewLoader(f.Header())
	restate(f, load, func(*lease.DrawRecord) {})
	return load.Finish()
}

// restate gives a loader all records that these programs make, with draws changed.
func restate(f *lease.Frozen, load *lease.Loader, change func(*lease.DrawRecord)) {
	for _, x := range f.Licences() {
		load.Licence(x)
	}
	for _, x := range f.Policies() {
		load.Policy(x)
	}
	f.Pools(func(i uint32, x *lease.PoolRecord) bool {
		r := *x
		empty := lease.PoolRecord{}
		r.Seats = empty.Seats
		load.Pool(i, r)
		x.EachSeat(func(n uint32, s lease.SeatRecord) bool { load.Seat(i, n, s); return true })
		return true
	})
	f.Sessions(func(i uint32, x *lease.SessionRecord) bool { load.Session(i, *x); return true })
	f.Groups(func(i uint32, x *lease.GroupRecord) bool { load.Group(i, *x); return true })
	f.Leases(func(i uint32, x *lease.LeaseRecord) bool { load.Lease(i, *x); return true })
	f.Draws(func(i uint32, x *lease.DrawRecord) bool {
		r := *x
		change(&r)
		load.Draw(i, r)
		return true
	})
	f.Pins(func(r *lease.PinRecord) bool { load.Pin(*r); return true })
	f.Places(func(i uint32, x *lease.PlaceRecord) bool { load.Place(i, *x); return true })
	f.Bookings(func(i uint32, x *lease.BookingRecord) bool { load.Booking(i, *x); return true })
	f.BookedLeases(func(i uint32, x lease.BookedLease) bool { load.BookedLease(i, x); return true })
	load.Stirred(f.Stirred())
}

// runRich runs a program; now and then the ledger goes on as a copy that was restored.
func (p *program) runRich(steps int) error {
	for n := range steps / 100 {
		if err := p.run(100); err != nil {
			return err
		}
		if err := p.paid(); err != nil {
			return err
		}
		twin, err := reloaded(p.book)
		if err != nil {
			return fmt.Errorf("restored after %d commands: %w", n*100, err)
		}
		if !reflect.DeepEqual(twin.Pools(""), p.book.Pools("")) {
			return fmt.Errorf("restored pools %+v\nwant %+v", twin.Pools(""), p.book.Pools(""))
		}
		for n := range byte(36) { // what would each get: counts that drifted show here
			c := as(checkout(100+n, "units", 1+int(n/4)), fmt.Sprint("u", n%4), "elsewhere")
			was, _ := p.book.Preview(c)
			is, _ := twin.Preview(c)
			if !reflect.DeepEqual(was, is) {
				return fmt.Errorf("%s would get %+v, and once restored %+v", c.Principal.User, was, is)
			}
		}
		p.book, p.watch.b = twin, twin
	}
	return nil
}

func TestSeatsOfTokensAndSuitesAreConserved(t *testing.T) {
	total := map[string]int{}
	for seed := range propertySeeds(t) {
		p := newRichProgram(seed)
		if err := p.runRich(propertySteps); err != nil {
			t.Fatalf("seed %d, command %d: %v", seed, len(p.sent), err)
		}
		for k, n := range p.stats {
			total[k] += n
		}
	}
	for _, want := range []string{
		"lease.Checkout ok", "lease.Checkout no_seats", "lease.Checkout no_feature", "lease.Checkout license_expired",
		"lease.Checkout too_many_requested", "lease.CheckIn ok", "lease.Expire ok", "lease.Kill ok", "lease.InstallLicence ok", "lease.RemoveLicence ok",
	} {
		if total[want] == 0 {
			t.Errorf("the programs never came to %q", want)
		}
	}
}

func TestReservedTokensAreKeptForWhomTheyAreReserved(t *testing.T) {
	w := ruled(t, lease.Policy{Rules: []lease.Rule{rule(lease.RuleReserve, "units", user("ann"), 5), rule(lease.RuleMax, "units", user("bob"), 6)}},
		feature("units", 12), tokens("cad", 3, "units"))
	w.must(as(checkout(1, "cad", 2), "bob", "ws"))
	w.refused(lease.MaxReached, as(checkout(2, "cad", 1), "bob", "ws"))
	w.refused(lease.ReservedForOthers, as(checkout(3, "cad", 1), "eve", "ws"))
	w.must(as(checkout(4, "cad", 1), "ann", "ws"))
	w.refused(lease.NoSeats, as(checkout(3, "cad", 2), "eve", "ws"))
	w.must(lease.CheckIn{Session: session(1)})
	w.must(as(checkout(3, "cad", 2), "eve", "ws")) // 2 of 12 are still kept for ann
	w.must(lease.CheckIn{Session: session(4)})
	w.refused(lease.ReservedForOthers, as(checkout(5, "cad", 1), "dan", "ws"))
	w.wait(10 * time.Minute)
	w.expireDue()
	w.must(as(checkout(5, "cad", 2), "dan", "ws"))
}
