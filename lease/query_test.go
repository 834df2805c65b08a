package lease_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

func TestLeasesAreListedByFilterAndPage(t *testing.T) {
	ci := feature("mesh", 9)
	ci.Profile = lease.Profiles["ci"]
	w := newWorld(t, feature("cad", 9), ci)
	for n := byte(1); n <= 5; n++ {
		w.must(as(and(checkout(n, "cad", 1), "mesh", 1), "u"+string('0'+rune(n%2)), "h"+string('0'+rune(n))))
	}
	w.wait(25 * time.Second)
	one, _ := w.Leases(lease.Filter{Session: session(3).ID, Feature: "cad"}, 0, 9)
	for _, c := range []struct {
		name string
		f    lease.Filter
		want int
	}{
		{"all", lease.Filter{}, 10},
		{"tenant", lease.Filter{Tenant: "default"}, 10},
		{"other tenant", lease.Filter{Tenant: "other"}, 0},
		{"feature", lease.Filter{Feature: "cad"}, 5},
		{"user", lease.Filter{User: "u1"}, 6},
		{"user and host", lease.Filter{User: "u1", Host: "h3"}, 2},
		{"active", lease.Filter{State: lease.Active}, 5},
		{"expiring", lease.Filter{State: lease.Expiring}, 5},
		{"session", lease.Filter{Session: session(3).ID}, 2},
		{"unknown session", lease.Filter{Session: lease.SessionID{99}}, 0},
		{"id", lease.Filter{ID: one[0].ID}, 1},
		{"id and another handle", lease.Filter{ID: one[0].ID, Handle: one[0].Handle + 1}, 0},
		{"unknown id", lease.Filter{ID: 1 << 60}, 0},
		{"handle", lease.Filter{Handle: one[0].Handle}, 1},
		{"part of a user", lease.Filter{Search: "U1"}, 6},
		{"part of a host", lease.Filter{Search: "h3"}, 2},
		{"part of a feature", lease.Filter{Search: "Es"}, 5},
		{"a handle in a search", lease.Filter{Search: fmt.Sprint(one[0].Handle)}, len(handlesWith(w, one[0].Handle))},
		{"search and feature", lease.Filter{Search: "u1", Feature: "cad"}, 3},
		{"nothing like that", lease.Filter{Search: "u1h"}, 0},
		{"unknown handle", lease.Filter{Handle: 1 << 31}, 0},
	} {
		for _, limit := range []int{100, 3, 1, 0} {
			var got []lease.Lease
			for cursor, pages := uint64(0), 0; ; pages++ {
				page, next := w.Leases(c.f, cursor, limit)
				got = append(got, page...)
				if cursor = next; next == 0 || pages > 20 {
					break
				}
			}
			if len(got) != c.want {
				t.Errorf("%s by %d: %d leases, want %d", c.name, limit, len(got), c.want)
			}
		}
	}
	if _, next := w.Leases(lease.Filter{}, 1<<40, 3); next != 0 {
		t.Error("a cursor beyond the end")
	}
}

// handlesWith lists the leases that a search for a handle means: it, and those of a host or
// user with that digit in the name.
func handlesWith(w *world, h lease.Handle) (found []lease.Lease) {
	all, _ := w.Leases(lease.Filter{}, 0, 100)
	for _, l := range all {
		if l.Handle == h || strings.Contains(l.Principal.User+" "+l.Principal.Host, fmt.Sprint(h)) {
			found = append(found, l)
		}
	}
	return found
}

func TestSearchKnowsLettersOfAllKinds(t *testing.T) {
	w := newWorld(t, feature("cad", 9))
	w.must(as(checkout(1, "cad", 1), "Jörg.Ölçer", "ws-01"))
	for text, want := range map[string]int{"jörg": 1, "JÖRG": 1, "ölÇER": 1, "g.ö": 1, "jorg": 0, "ÖÖ": 0, "Jörg.Ölçer und noch mehr als das": 0} {
		if got, _ := w.Leases(lease.Filter{Search: text}, 0, 9); len(got) != want {
			t.Errorf("%q finds %d leases, want %d", text, len(got), want)
		}
	}
}

func TestPoolsAreListedInOrder(t *testing.T) {
	b, a, a10 := feature("b", 1), feature("a", 2), feature("a", 3)
	a.Version, a10.Version = "9", "10"
	a.Expiry = launch + 1000
	w := newWorld(t, b, a10, a)
	w.must(checkout(1, "a", 2))
	p := w.Pools("")
	if len(p) != 3 || p[0].Version != "9" || p[1].Version != "10" || p[2].Feature != "b" || p[0].InUse != 2 || p[0].Expiry != launch+1000 || p[1].Expiry != 0 {
		t.Fatalf("%+v", p)
	}
	w.equal("other tenant", len(w.Pools("other")), 0)
	w.wait(lease.DefaultProfile.Lifespan)
	w.equal("expiring", w.Pools("default")[0].Expiring, 1)
}

func TestVerifyWantsTheCurrentToken(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	a := w.must(checkout(1, "cad", 1)).Leases[0].Ref
	for r, ok := range map[lease.Ref]bool{a: true, {ID: a.ID, Token: a.Token + 1}: false, {ID: a.ID}: false, {ID: a.ID + 1<<24, Token: a.Token}: false, {}: false} {
		if _, got := w.Verify(r); got != ok {
			t.Errorf("%+v verified: %v", r, got)
		}
	}
	w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace - 1)
	if l, ok := w.Verify(a); !ok || l.State != lease.Expiring || l.Grace != 1 {
		t.Fatalf("in its last instant: %+v %v", l, ok)
	}
}

// The property programs compare every preview with the checkout after it; here is what
// it says.
func TestPreviewSaysWhatEachItemWouldGet(t *testing.T) {
	w := newWorld(t, feature("cad", 2), feature("mesh", 1))
	w.must(checkout(1, "mesh", 1))
	before := w.Header
	items, ok := w.Preview(and(and(checkout(2, "cad", 1), "mesh", 1), "cad", 1))
	if ok || items[0].Refusal != nil || items[0].Free != 2 || items[1].Refusal.Reason != lease.NoSeats || items[1].Free != 0 {
		t.Fatalf("%+v %v", items, ok)
	}
	if items, ok := w.Preview(and(checkout(2, "cad", 1), "cad", 1)); ok || items[1].Refusal == nil || items[1].Refusal.Reason != lease.Invalid {
		t.Fatalf("one feature twice: %+v %v", items, ok)
	}
	if items, ok := w.Preview(checkout(2, "cad", 0)); ok || items[0].Refusal.Reason != lease.Invalid {
		t.Fatalf("%+v %v", items, ok)
	}
	nobody := checkout(2, "cad", 2)
	nobody.Session = lease.SessionRef{}
	if _, ok := w.Preview(nobody); !ok {
		t.Fatal("a preview without a session")
	}
	w.equal("header", w.Header, before)
	w.must(lease.Fence{})
	if items, ok := w.Preview(nobody); ok || items[0].Refusal == nil || items[0].Refusal.Reason != lease.Overloaded {
		t.Fatalf("behind the fence: %+v %v", items, ok)
	}
}

// A page begins where the last one ended, also when that is in the middle of the tables.
func TestPagesOfManyLeases(t *testing.T) {
	w := newWorld(t, feature("cad", 300))
	for i := range 200 {
		c := checkout(byte(i+1), "cad", 1)
		c.Principal.User = fmt.Sprint("user-", i)
		w.must(c)
	}
	for i := 60; i < 140; i += 3 {
		w.must(lease.CheckIn{Session: session(byte(i))})
	}
	all, _ := w.Leases(lease.Filter{}, 0, 1000)
	var paged []lease.Lease
	for cursor, more := uint64(0), true; more; {
		page, next := w.Leases(lease.Filter{}, cursor, 7)
		paged, cursor, more = append(paged, page...), next, next != 0
	}
	w.equal("leases", len(all), 200-27)
	w.equal("paged", fmt.Sprint(paged), fmt.Sprint(all))
}
