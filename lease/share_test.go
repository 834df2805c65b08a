package lease_test

import (
	"slices"
	"testing"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestFourSessionsOfOneUserOnOneHostUseOneSeat(t *testing.T) {
	e := feature("cad", 2)
	e.Share = lease.DefaultShareRule
	w := newWorld(t, e)
	for n := byte(1); n <= 4; n++ {
		l := w.must(as(checkout(n, "cad", 1), "ann", "ws1")).Leases[0]
		if !slices.Equal(l.Seats, []int{1}) || w.used("cad") != 1 {
			t.Fatalf("session %d: seats %v, %d in use", n, l.Seats, w.used("cad"))
		}
	}
	w.refused(lease.SessionsExceeded, as(checkout(5, "cad", 1), "ann", "ws1"))
	w.must(as(checkout(5, "cad", 1), "ann", "ws2")) // another host
	for n := byte(1); n <= 4; n++ {
		w.refused(lease.NoSeats, as(checkout(6, "cad", 1), "bob", "ws1"))
		w.must(lease.CheckIn{Session: session(n), Close: true})
	}
	w.must(as(checkout(6, "cad", 1), "bob", "ws1"))
}

func TestAShareGroupChargesItsLargestMember(t *testing.T) {
	w := newWorld(t, shared("cad", 5, 4))
	ann := func(n byte, count int) lease.Lease {
		return w.must(as(checkout(n, "cad", count), "ann", "ws1")).Leases[0]
	}
	ann(1, 1)
	if l := ann(2, 3); !slices.Equal(l.Seats, []int{1, 2, 3}) {
		t.Fatalf("larger member: %v", l.Seats)
	}
	if l := ann(3, 2); !slices.Equal(l.Seats, []int{1, 2}) {
		t.Fatalf("smaller member: %v", l.Seats)
	}
	w.equal("in use", w.used("cad"), 3)
	w.must(as(checkout(9, "cad", 2), "bob", "ws1"))
	w.refused(lease.NoSeats, as(checkout(4, "cad", 4), "ann", "ws1")) // one more than is free
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("after the smallest left", w.used("cad"), 5)
	ann(1, 1)
	w.must(lease.CheckIn{Session: session(3)})
	w.equal("after one in the middle left", w.used("cad"), 5)
	ann(3, 2)
	w.must(lease.CheckIn{Session: session(2)})
	w.equal("after the largest left", w.used("cad"), 4)
	w.must(lease.CheckIn{Session: session(3)})
	w.equal("after the next", w.used("cad"), 3)
	w.must(lease.CheckIn{Session: session(1)})
	w.equal("after the last", w.used("cad"), 2)
}

func TestWhoSharesWithWhom(t *testing.T) {
	full := lease.Principal{User: "ann", Host: "ws1", Display: ":0", VendorDefined: "x"}
	for _, c := range []struct {
		name   string
		by     lease.Mask
		change func(p *lease.Principal)
		seats  int
	}{
		{"nobody", 0, func(*lease.Principal) {}, 2},
		{"same user and host", lease.MaskUser | lease.MaskHost, func(p *lease.Principal) { p.Display, p.VendorDefined, p.Project, p.IP = "", "", "p", "1" }, 1},
		{"other host", lease.MaskUser | lease.MaskHost, func(p *lease.Principal) { p.Host = "ws2" }, 2},
		{"user alone counts", lease.MaskUser, func(p *lease.Principal) { p.Host = "ws2" }, 1},
		{"other display", lease.MaskUser | lease.MaskDisplay, func(p *lease.Principal) { p.Display = ":1" }, 2},
		{"other vendor data", lease.MaskVendor, func(p *lease.Principal) { p.VendorDefined = "y" }, 2},
		{"same vendor data", lease.MaskVendor, func(p *lease.Principal) { p.User = "bob" }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := feature("cad", 5)
			e.Share = lease.ShareRule{By: c.by, MaxSessions: 4}
			w := newWorld(t, e)
			a, b := checkout(1, "cad", 1), checkout(2, "cad", 1)
			a.Principal, b.Principal = full, full
			c.change(&b.Principal)
			w.must(a)
			w.must(b)
			w.equal("seats", w.used("cad"), c.seats)
		})
	}
}

func TestStrangersWithoutANameNeverShare(t *testing.T) {
	w := newWorld(t, shared("cad", 9, 4))
	for n, who := range [][2]string{{"", ""}, {"", ""}, {"", "ws1"}, {"", "ws1"}, {"ann", ""}, {"ann", ""}} {
		w.must(as(checkout(byte(n+1), "cad", 1), who[0], who[1]))
		w.equal("in use", w.used("cad"), n+1)
	}
}

func TestAKilledMemberLeavesTheOthersTheirSeat(t *testing.T) {
	w := newWorld(t, shared("cad", 1, 4))
	a := w.must(as(checkout(1, "cad", 1), "ann", "ws1")).Leases[0]
	b := w.must(as(checkout(2, "cad", 1), "ann", "ws1")).Leases[0]
	if b.Token <= a.Token {
		t.Fatalf("tokens %d, %d", a.Token, b.Token)
	}
	w.must(lease.Kill{Refs: []lease.Ref{a.Ref}})
	w.equal("in use", w.used("cad"), 1)
	w.must(lease.Kill{Refs: []lease.Ref{b.Ref}})
	w.equal("in use", w.used("cad"), 0)
}
