package lease_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// world drives a Book as a log would: every command has a higher index.
type world struct {
	t *testing.T
	*lease.Book
	index uint64
}

const day = 24 * time.Hour

var launch = lease.CalendarOf(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

func newWorld(t *testing.T, ents ...lease.Entitlement) *world {
	t.Helper()
	w := &world{t: t, Book: lease.NewBook()}
	w.Advance(0, launch)
	if len(ents) > 0 {
		w.must(lease.InstallLicence{Licence: licence("L-1", ents...)})
	}
	return w
}

func licence(id string, ents ...lease.Entitlement) lease.Licence {
	for i := range ents {
		e := &ents[i]
		if e.Serial == "" {
			e.Serial = id + "-" + e.Feature + "-" + e.Version
		}
		if e.Profile == (lease.Profile{}) {
			e.Profile = lease.DefaultProfile
		}
	}
	return lease.Licence{ID: id, Vendor: "acme", Tenant: "default", Entitlements: ents}
}

func feature(name string, count int) lease.Entitlement {
	return lease.Entitlement{Feature: name, Version: "2026.0", Count: count}
}

func shared(name string, count, max int) lease.Entitlement {
	e := feature(name, count)
	e.Share = lease.ShareRule{By: lease.MaskUser | lease.MaskHost, MaxSessions: max}
	return e
}

// do applies a command and checks every invariant after it.
func (w *world) do(c lease.Command) lease.Reply {
	w.t.Helper()
	w.index++
	r := w.Apply(w.index, c)
	if err := w.Check(); err != nil {
		w.t.Fatalf("after %#v: %v", c, err)
	}
	return r
}

func (w *world) must(c lease.Command) lease.Reply {
	w.t.Helper()
	r := w.do(c)
	if r.Refusal != nil {
		w.t.Fatalf("%#v refused: %v", c, r.Refusal)
	}
	return r
}

func (w *world) refused(want lease.Reason, c lease.Command) {
	w.t.Helper()
	r := w.do(c)
	if r.Refusal == nil || r.Refusal.Reason != want {
		w.t.Fatalf("%#v: got %+v, want refusal %s", c, r, want)
	}
}

// wait lets cluster time pass; the wall clock goes along.
func (w *world) wait(d time.Duration) {
	w.Advance(w.Now().Add(d), w.Calendar()+lease.Calendar(d/time.Millisecond))
}

// expireDue does what a leader's expirer does.
func (w *world) expireDue() (n int) {
	for _, c := range w.Due(1000) {
		if r := w.do(c); r.Refusal == nil {
			n++
		}
	}
	return n
}

func (w *world) used(feature string) (n int) {
	for _, p := range w.Pools("") {
		if p.Feature == feature {
			n += p.InUse
		}
	}
	return n
}

func session(n byte) lease.SessionRef {
	d := sha256.Sum256([]byte{n})
	return lease.SessionRef{ID: lease.SessionID{n}, Digest: lease.SecretDigest(d[:16]), Incarnation: 1}
}

func numberedSession(n byte, seq uint64) lease.SessionRef {
	s := session(n)
	s.Seq = seq
	return s
}

// user makes a checkout of count seats by session n; each n is its own user.
func checkout(n byte, feature string, count int) lease.Checkout {
	return lease.Checkout{
		Session: session(n), Principal: lease.Principal{User: "user-" + string('a'+rune(n)), Host: "ws"},
		Items: []lease.Item{{Feature: feature, Count: count}},
	}
}

func as(c lease.Checkout, user, host string) lease.Checkout {
	c.Principal = lease.Principal{User: user, Host: host}
	return c
}

func TestCheckoutGrantsNumberedSeatsAndCheckInFreesThem(t *testing.T) {
	w := newWorld(t, feature("cad", 3))
	a := w.must(checkout(1, "cad", 2)).Leases[0]
	if len(a.Seats) != 2 || a.Seats[0] != 1 || a.Seats[1] != 2 || a.Token != lease.Token(w.index) || a.State != lease.Active {
		t.Fatalf("first lease: %+v", a)
	}
	w.refused(lease.NoSeats, checkout(2, "cad", 2))
	b := w.must(checkout(2, "cad", 1)).Leases[0]
	if b.Seats[0] != 3 || w.used("cad") != 3 {
		t.Fatalf("second lease: %+v, used %d", b, w.used("cad"))
	}
	r := w.must(lease.CheckIn{Session: session(1)})
	if len(r.Released) != 1 || r.Released[0].Reason != lease.ReleasedNormal || w.used("cad") != 1 {
		t.Fatalf("check-in: %+v, used %d", r, w.used("cad"))
	}
	c := w.must(checkout(3, "cad", 1)).Leases[0]
	if c.Seats[0] != 1 || c.Token <= a.Token || c.ID == a.ID {
		t.Fatalf("successor %+v of %+v", c, a)
	}
}

func TestCheckoutOfSeveralFeaturesIsAllOrNothing(t *testing.T) {
	w := newWorld(t, feature("cad", 2), feature("mesh", 1))
	w.must(checkout(1, "mesh", 1))
	both := checkout(2, "cad", 1)
	both.Items = append(both.Items, lease.Item{Feature: "mesh", Count: 1})
	w.refused(lease.NoSeats, both)
	if w.used("cad") != 0 {
		t.Fatal("a refused checkout took a seat of the other feature")
	}
	w.must(lease.CheckIn{Session: session(1)})
	if r := w.must(both); len(r.Leases) != 2 || w.used("cad") != 1 || w.used("mesh") != 1 {
		t.Fatalf("both: %+v", r)
	}
}

func TestLeaseExpiresAfterLifespanAndGrace(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	p := lease.DefaultProfile
	w.must(checkout(1, "cad", 1))
	w.wait(p.Lifespan - 1)
	if s := w.must(lease.Renew{Session: session(1)}).Leases[0].State; s != lease.Active {
		t.Fatalf("state %v", s)
	}
	w.wait(p.Lifespan)
	l, _ := w.Leases(lease.Filter{}, 0, 10)
	if l[0].State != lease.Expiring || l[0].Remaining != 0 || w.expireDue() != 0 {
		t.Fatalf("one heartbeat missed: %+v", l[0])
	}
	if s := w.must(lease.Renew{Session: session(1)}).Leases[0].State; s != lease.Active {
		t.Fatal("a heartbeat in grace did not make it active again")
	}
	w.wait(p.Lifespan + p.Grace - 1)
	if n := w.expireDue(); n != 0 {
		t.Fatal("reclaimed before its grace was over")
	}
	w.wait(1)
	if n := w.expireDue(); n != 1 || w.used("cad") != 0 {
		t.Fatalf("%d reclaimed, %d in use", n, w.used("cad"))
	}
	if n := w.expireDue(); n != 1 {
		t.Fatal("the session without leases was not forgotten")
	}
	w.refused(lease.SessionUnknown, lease.Renew{Session: session(1)})
}

func TestDueSeatsComeBackBeforeADenial(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace)
	w.must(checkout(2, "cad", 1))
	if r := w.must(lease.Renew{Session: session(1)}); len(r.Leases) != 0 || len(r.Lost) != 1 || r.Lost[0].Reason != lease.ReleasedMissedHeartbeat {
		t.Fatalf("the old holder is told %+v", r)
	}
}

func TestExpireIsJudgedAgain(t *testing.T) {
	setup := func() (*world, lease.Expire) {
		w := newWorld(t, feature("cad", 1))
		w.must(checkout(1, "cad", 1))
		w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace)
		return w, w.Due(1)[0].(lease.Expire)
	}
	w, e := setup()
	w.must(lease.Renew{Session: session(1)})
	w.refused(lease.Fenced, e) // the heartbeat came first
	w, e = setup()
	e.Token++
	w.refused(lease.Fenced, e)
	w, e = setup()
	e.Rev--
	w.refused(lease.Fenced, e)
	w, e = setup()
	w.must(e)
	w.must(checkout(2, "cad", 1))
	w.refused(lease.Fenced, e) // names the predecessor
}
