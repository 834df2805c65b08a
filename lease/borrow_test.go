package lease_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// lendable is a feature whose seats may be borrowed for at most so many hours.
func lendable(name string, count, hours int) lease.Entitlement {
	e := feature(name, count)
	e.BorrowHours = hours
	return e
}

func key(kid string) lease.RotateBorrowKey {
	return lease.RotateBorrowKey{Kid: kid, Public: [32]byte{kid[0], 1}, Seed: [32]byte{kid[0], 2}}
}

// lendingWorld has a key and two seats of cad that may be borrowed for a week.
func lendingWorld(t *testing.T, ents ...lease.Entitlement) *world {
	t.Helper()
	if len(ents) == 0 {
		ents = []lease.Entitlement{lendable("cad", 2, 168)}
	}
	w := newWorld(t, ents...)
	w.must(key("first"))
	return w
}

// borrow is what session n asks for: one seat, as a user and host of its own.
func borrow(n byte, feature string, term time.Duration) lease.Borrow {
	c := checkout(n, feature, 1)
	return lease.Borrow{Session: c.Session, Principal: c.Principal, Item: c.Items[0], For: term}
}

func TestWhoMayBorrow(t *testing.T) {
	with := func(change func(*lease.Borrow)) lease.Borrow {
		b := borrow(1, "cad", 24*time.Hour)
		change(&b)
		return b
	}
	ending := lendable("ending", 1, 168)
	ending.Expiry = launch + lease.Calendar((10 * time.Hour).Milliseconds())
	for _, c := range []struct {
		name string
		cmd  lease.Borrow
		want lease.Reason // empty: granted
	}{
		{"a day of a week", borrow(1, "cad", 24*time.Hour), ""},
		{"all of the week", borrow(1, "cad", 168*time.Hour), ""},
		{"longer than the licence allows", borrow(1, "cad", 168*time.Hour+1), lease.BorrowTooLong},
		{"past the end of the licence", borrow(1, "ending", 11*time.Hour), lease.BorrowTooLong},
		{"before the end of the licence", borrow(1, "ending", 9*time.Hour), ""},
		{"not allowed by the licence", borrow(1, "bound", time.Hour), lease.BorrowOff},
		{"no such feature", borrow(1, "none", time.Hour), lease.NoFeature},
		{"too short", borrow(1, "cad", time.Millisecond), lease.Invalid},
		{"bound to nobody", with(func(b *lease.Borrow) { b.Principal.Host = "" }), lease.Invalid},
		{"bound to an instance alone", with(func(b *lease.Borrow) { b.Principal = lease.Principal{}; b.InstanceID = "pod-7" }), ""},
		{"more than there are", with(func(b *lease.Borrow) { b.Item.Count = 3 }), lease.TooManyRequested},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := lendingWorld(t, lendable("cad", 2, 168), feature("bound", 1), ending)
			if c.want != "" {
				w.refused(c.want, c.cmd)
				w.equal("seats in use", w.used(c.cmd.Item.Feature), 0)
				return
			}
			r := w.must(c.cmd)
			l := r.Leases[0]
			if l.State != lease.Borrowed || l.Remaining != c.cmd.For || l.Until != launch+lease.Calendar(c.cmd.For.Milliseconds()) {
				t.Errorf("%+v", l)
			}
			if r.Lent == nil || r.Lent.Kid != "first" || r.Lent.Vendor != "acme" || r.Lent.Licence != "L-1" || r.Lent.Issued != launch {
				t.Errorf("for the token: %+v", r.Lent)
			}
		})
	}
}

func TestAClusterWithoutKeyLendsNothing(t *testing.T) {
	newWorld(t, lendable("cad", 2, 168)).refused(lease.Invalid, borrow(1, "cad", time.Hour))
}

// The pools that may not be borrowed from are passed over.
func TestBorrowFindsThePoolThatAllowsIt(t *testing.T) {
	low, high := feature("cad", 5), lendable("cad", 1, 8)
	low.Version, high.Version = "1.0", "2.0"
	w := lendingWorld(t, low, high)
	w.equal("version", w.must(borrow(1, "cad", time.Hour)).Leases[0].Version, "2.0")
	w.refused(lease.BorrowNoneLeft, borrow(2, "cad", time.Hour))
	w.equal("a plain checkout", w.must(checkout(3, "cad", 1)).Leases[0].Version, "1.0")
}

func TestBorrowedSeatIsChargedUntilItsEnd(t *testing.T) {
	w := lendingWorld(t)
	w.must(borrow(1, "cad", 24*time.Hour))
	w.must(lease.CheckIn{Session: session(1), Close: true})
	w.equal("in use after the session's end", w.used("cad"), 1)
	w.wait(24*time.Hour - 1)
	w.expireDue()
	w.equal("in use just before", w.used("cad"), 1)
	w.wait(1)
	w.equal("expired", w.expireDue(), 1)
	w.equal("in use after", w.used("cad"), 0)
}

// Whoever checks in a seat by name may not know that another process of its user borrowed
// it: only the token gives it back.
func TestACheckInGivesNoBorrowedSeatBack(t *testing.T) {
	w := lendingWorld(t, lendable("cad", 2, 168), feature("mesh", 1))
	lent := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	w.must(borrow(1, "cad", time.Hour))
	held := w.must(checkout(1, "mesh", 1)).Leases[0].Ref
	w.refused(lease.Fenced, lease.CheckIn{Session: session(1), Refs: []lease.Ref{lent}})
	r := w.must(lease.CheckIn{Session: session(1), Refs: []lease.Ref{lent, held}})
	w.equal("released", len(r.Released), 1)
	w.equal("not its own", r.Lost[0].Ref, lent)
	w.equal("cad in use", w.used("cad"), 1)
	w.equal("mesh in use", w.used("mesh"), 0)
	w.must(lease.ReturnEarly{Ref: lent})
	w.equal("cad in use after its return", w.used("cad"), 0)
}

// A seat that the session holds is borrowed as it is, and never for less than what its
// holder believes already.
func TestHeldSeatIsBorrowedAsItIs(t *testing.T) {
	w := lendingWorld(t)
	held := w.must(checkout(1, "cad", 1)).Leases[0]
	l := w.must(borrow(1, "cad", 10*time.Second)).Leases[0]
	w.equal("lease", l.Ref, held.Ref)
	w.equal("remaining", l.Remaining, lease.DefaultProfile.Lifespan+lease.DefaultProfile.Grace)
	w.equal("in use", w.used("cad"), 1)
	l = w.must(borrow(1, "cad", time.Hour)).Leases[0]
	w.equal("asked again for longer", l.Remaining, time.Hour)
	l = w.must(borrow(1, "cad", time.Minute)).Leases[0]
	w.equal("asked again for less", l.Remaining, time.Hour)
}

func TestBorrowedTwiceByDuplicate(t *testing.T) {
	w := lendingWorld(t)
	c := borrow(1, "cad", time.Hour)
	c.Session.Seq = 1
	first := w.must(c)
	w.wait(time.Minute)
	again := w.must(c)
	w.equal("replayed", again.Replayed, true)
	w.equal("lease", again.Leases[0].Ref, first.Leases[0].Ref)
	w.equal("remaining", again.Leases[0].Remaining, 59*time.Minute)
	w.equal("until", again.Leases[0].Until, first.Leases[0].Until)
	w.equal("in use", w.used("cad"), 1)
	plain := numbered(checkout(2, "cad", 1), 1)
	w.must(plain)
	c = borrow(2, "cad", time.Hour)
	c.Session.Seq = 1
	w.refused(lease.StaleRequest, c)
}

func TestRenewMovesTheEndAndNeverBack(t *testing.T) {
	w := lendingWorld(t)
	l := w.must(borrow(1, "cad", 24*time.Hour)).Leases[0]
	w.wait(12 * time.Hour)
	w.equal("renewed", w.must(lease.RenewBorrow{Ref: l.Ref, For: 24 * time.Hour}).Leases[0].Remaining, 24*time.Hour)
	w.equal("for less", w.must(lease.RenewBorrow{Ref: l.Ref, For: time.Hour}).Leases[0].Remaining, 24*time.Hour)
	w.refused(lease.BorrowTooLong, lease.RenewBorrow{Ref: l.Ref, For: 169 * time.Hour})
	w.refused(lease.Fenced, lease.RenewBorrow{Ref: lease.Ref{ID: l.ID, Token: l.Token + 1}, For: time.Hour})
	w.must(lease.RevokeBorrow{ID: l.ID})
	w.refused(lease.BorrowOff, lease.RenewBorrow{Ref: l.Ref, For: time.Hour})
	w.wait(24 * time.Hour)
	w.expireDue()
	w.refused(lease.Fenced, lease.RenewBorrow{Ref: l.Ref, For: time.Hour})
}

func TestReturnEarlyFreesTheSeat(t *testing.T) {
	w := lendingWorld(t)
	l := w.must(borrow(1, "cad", 24*time.Hour)).Leases[0]
	w.refused(lease.Fenced, lease.ReturnEarly{Ref: lease.Ref{ID: l.ID}})
	w.refused(lease.Fenced, lease.ReturnEarly{Ref: w.must(checkout(2, "cad", 1)).Leases[0].Ref})
	r := w.must(lease.ReturnEarly{Ref: l.Ref})
	w.equal("reason", r.Released[0].Reason, lease.ReleasedNormal)
	w.equal("in use", w.used("cad"), 1)
	w.refused(lease.Fenced, lease.ReturnEarly{Ref: l.Ref})
}

func TestRevokedSeatStaysChargedUntilItsEnd(t *testing.T) {
	for _, how := range []string{"revoke", "kill"} {
		t.Run(how, func(t *testing.T) {
			w := lendingWorld(t, lendable("cad", 1, 168))
			l := w.must(borrow(1, "cad", 24*time.Hour)).Leases[0]
			var r lease.Reply
			if how == "kill" {
				r = w.must(lease.Kill{Refs: []lease.Ref{{ID: l.ID}}})
			} else {
				w.refused(lease.Invalid, lease.RevokeBorrow{Tenant: "other", ID: l.ID})
				r = w.must(lease.RevokeBorrow{Tenant: "default", ID: l.ID})
			}
			w.equal("state", r.Leases[0].State, lease.Quarantined)
			w.equal("released", len(r.Released), 0)
			told := w.must(lease.Renew{Session: session(1), Held: []lease.Ref{l.Ref}})
			if len(told.Lost) != 1 || told.Lost[0].Reason != lease.ReleasedByAdmin {
				t.Errorf("its session is told %+v", told.Lost)
			}
			w.refused(lease.NoSeats, checkout(2, "cad", 1))
			w.wait(24*time.Hour - 1)
			w.refused(lease.NoSeats, checkout(2, "cad", 1))
			w.wait(1)
			w.must(checkout(2, "cad", 1))
		})
	}
}

// Whoever has the token may still bring the seat back before the quarantine is over.
func TestQuarantineEndsWithTheReturn(t *testing.T) {
	w := lendingWorld(t)
	l := w.must(borrow(1, "cad", 24*time.Hour)).Leases[0]
	w.must(lease.RevokeBorrow{ID: l.ID})
	w.must(lease.ReturnEarly{Ref: l.Ref})
	w.equal("in use", w.used("cad"), 0)
}

func TestRevokedAtOnceIsAnOverdraft(t *testing.T) {
	w := lendingWorld(t, lendable("cad", 1, 168))
	l := w.must(borrow(1, "cad", 24*time.Hour)).Leases[0]
	w.must(lease.RevokeBorrow{ID: l.ID, AtOnce: true, By: "root"})
	w.must(checkout(2, "cad", 1))
	over := w.Overdrawn("default")
	if len(over) != 1 || over[0].Ref != l.Ref || over[0].Count != 1 || over[0].Until != l.Until || over[0].By != "root" {
		t.Errorf("%+v", over)
	}
	if a := w.Alarms(); len(a) != 1 || !strings.Contains(a[0], "cad") {
		t.Errorf("alarms %q", a)
	}
	w.equal("of another tenant", len(w.Overdrawn("other")), 0)
	w.wait(24 * time.Hour)
	w.equal("when its term is over", len(w.Overdrawn(""))+len(w.Alarms()), 0)
	w.refused(lease.Invalid, lease.RevokeBorrow{ID: l.ID, AtOnce: true})
}

func TestKeysRotate(t *testing.T) {
	w := lendingWorld(t)
	kids := func() (out string) {
		for _, k := range w.BorrowKeys() {
			if k.Seed != [32]byte{} {
				t.Errorf("the private half of %s is shown", k.Kid)
			}
			out += k.Kid + " "
		}
		return out
	}
	w.must(borrow(1, "cad", 24*time.Hour))
	ifNone := key("other")
	ifNone.IfNone = true
	w.must(ifNone)
	w.equal("one is there", kids(), "first ")
	w.refused(lease.Invalid, key("first"))
	w.must(key("second"))
	w.equal("signs now", w.must(borrow(2, "cad", time.Hour)).Lent.Kid, "second")
	if _, ok := w.BorrowSeed("first"); ok {
		t.Error("the first key still signs")
	}
	if seed, ok := w.BorrowSeed("second"); !ok || seed != key("second").Seed {
		t.Error("the second key does not sign")
	}
	w.wait(24*time.Hour - time.Millisecond)
	w.equal("while a token of the first is valid", kids(), "first second ")
	w.wait(time.Millisecond)
	w.equal("when none is", kids(), "second ")
	for i := range 2 * lease.MaxBorrowKeys {
		w.must(key(fmt.Sprint("k", i))) // nothing was signed: each goes with the next
	}
	for i := range lease.MaxBorrowKeys - 2 {
		l := w.must(borrow(3, "cad", time.Hour)).Leases[0]
		w.must(key(fmt.Sprint("m", i)))
		w.must(lease.ReturnEarly{Ref: l.Ref})
	}
	w.must(borrow(3, "cad", time.Hour))
	w.must(key("last"))
	w.must(borrow(3, "cad", time.Hour))
	w.refused(lease.Overloaded, key("too many"))
}

// Nothing that prints a key or the command shows its private half.
func TestPrivateHalfIsNotPrinted(t *testing.T) {
	cmd := key("first")
	cmd.Seed = [32]byte{0xab, 0xcd, 0xef, 0x98}
	k := lease.BorrowKey{Kid: "first", Seed: cmd.Seed}
	for _, s := range []string{fmt.Sprint(cmd), fmt.Sprintf("%+v", cmd), fmt.Sprintf("%#v", cmd), fmt.Sprint(k), fmt.Sprintf("%+v", &k), fmt.Sprintf("%#v", k)} {
		if !strings.HasSuffix(s, "first") {
			t.Errorf("printed as %s", s)
		}
	}
}
