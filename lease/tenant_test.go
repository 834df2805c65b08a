package lease_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// stranger makes the first request of the n-th session that asks for a feature.
func stranger(n uint64, tenant, feature string) lease.Checkout {
	c := lease.Checkout{Session: lease.SessionRef{Seq: 1, Incarnation: 1}, Tenant: tenant,
		Principal: lease.Principal{User: fmt.Sprint("u", n), Host: "ws"}, Items: []lease.Item{{Feature: feature, Count: 1}}}
	binary.BigEndian.PutUint64(c.Session.ID[:], n+1)
	c.Session.ID[15] = 1
	return c
}

// flood sends first requests until one is not answered by want, and returns how many were.
func (w *world) flood(want lease.Reason, most int, request func(n uint64) lease.Checkout) (done int) {
	w.t.Helper()
	for ; done < most; done++ {
		w.index++
		r := w.Apply(w.index, request(uint64(done)))
		w.TakeEvents()
		if r.Refusal == nil || r.Refusal.Reason != want {
			return done
		}
	}
	return done
}

// heap is what is in use after a collection, in MiB.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc) >> 20
}

// A flood of requests that get no seat, each from a session of its own, is remembered up to
// a bound. What is beyond has no effect, and whoever gets a seat is not stopped by it.
func TestRefusedSessionsOfATenantAreBounded(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	w.must(checkout(1, "cad", 1))
	before := heap()
	beyond := inFull(2*lease.MaxUnleased, lease.MaxUnleased/10)
	refused := func(n uint64) lease.Checkout { return stranger(n, "default", "cad") }
	w.equal("requests that are answered no_seats", w.flood(lease.NoSeats, lease.MaxUnleased+beyond, refused), lease.MaxUnleased)
	sessions, _ := w.Counts()
	last := refused(lease.MaxUnleased)
	r := w.Apply(w.index+1, last)
	if r.Refusal == nil || r.Refusal.Reason != lease.Overloaded || r.Refusal.Final || r.Refusal.RetryAfter <= 0 {
		t.Errorf("beyond the bound: %+v", r)
	}
	w.equal("answered alike each time", w.flood(lease.Overloaded, beyond, func(n uint64) lease.Checkout {
		return refused(lease.MaxUnleased + n)
	}), beyond)
	if now, _ := w.Counts(); now != sessions || now != lease.MaxUnleased+1 {
		t.Errorf("%d sessions, then %d", sessions, now)
	}
	if grown := heap() - before; grown > 64 {
		t.Errorf("the flood costs %d MiB", grown)
	}
	if len(w.TakeEvents()) > 0 {
		t.Error("a request without effect is a denial")
	}

	r = w.do(refused(0)) // all is counted again after it
	if !r.Replayed || r.Refusal == nil || r.Refusal.Reason != lease.NoSeats {
		t.Errorf("the first of them again: %+v", r)
	}
	w.must(lease.CheckIn{Session: session(1)})
	w.must(last) // it was not remembered as refused, and a grant needs no room
	w.refused(lease.StaleRequest, lease.CheckIn{Session: last.Session})
	other := stranger(1<<40, "other", "cad")
	w.refused(lease.NoFeature, other)

	w.wait(lease.DefaultProfile.Lifespan + lease.DefaultProfile.Grace)
	for due := w.Due(1000); len(due) > 0; due = w.Due(1000) {
		for _, c := range due {
			w.index++
			w.Apply(w.index, c)
		}
	}
	w.refused(lease.NoFeature, stranger(1<<41, "default", "mesh"))
	w.equal("sessions later", fmt.Sprint(w.Unleased()), "1 0")
}

// Names that nobody has licensed have one bound together, and take nothing from others.
func TestInventedTenantsShareOneBoundOfSessions(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	invented := func(n uint64) lease.Checkout { return stranger(n, fmt.Sprint("t", n%5000), "cad") }
	w.equal("sessions of strangers", w.flood(lease.NoFeature, inFull(2*lease.MaxUnleased, lease.MaxUnleased+lease.MaxUnleased/10), invented), lease.MaxUnleased)
	w.refused(lease.Overloaded, stranger(1<<40, "new", "cad"))
	w.refused(lease.NoFeature, stranger(1<<41, "default", "mesh"))

	list, others := w.Tenants([]string{"t7"})
	if len(list) != 2 || list[0].Name != "default" || list[0].Seats != 1 || list[0].Unleased != 1 || list[1].Name != "t7" || list[1].Sessions != 20 || list[1].Licences != 0 {
		t.Errorf("tenants: %+v", list)
	}
	if others.Tenants != 4999 || others.Unleased != lease.MaxUnleased-20 {
		t.Errorf("strangers: %+v", others)
	}
	l := licence("L-7", feature("cad", 3))
	l.Tenant = "t7"
	w.must(lease.InstallLicence{Licence: l})
	if !w.Licensed("t7") || w.Licensed("t8") {
		t.Error("a licence does not make a tenant known")
	}
	all, strangers := w.Unleased()
	w.equal("strangers' sessions beside those of a tenant that is licensed now", [2]int{all, strangers}, [2]int{lease.MaxUnleased + 1, lease.MaxUnleased - 20})
	w.refused(lease.NoFeature, stranger(1<<42, "new", "cad"))
	w.must(lease.RemoveLicence{Tenant: "t7", ID: "L-7"})
	if w.Licensed("t7") {
		t.Error("without its licence it is known still")
	}
	w.refused(lease.Overloaded, stranger(1<<43, "new", "cad"))
}

// Renewing, closing and queueing get nobody round the bound, and a seat ends it.
func TestASessionCountsAsUnleasedUntilItHasALease(t *testing.T) {
	w := newWorld(t, feature("cad", 1))
	unleased := func(want int) {
		t.Helper()
		all, _ := w.Unleased()
		w.equal("sessions that never had a lease", all, want)
	}
	w.must(checkout(1, "cad", 1))
	unleased(0)
	w.refused(lease.NoSeats, numbered(checkout(2, "cad", 1), 1))
	w.refused(lease.NoSeats, numbered(checkout(3, "cad", 1), 1))
	unleased(2)
	w.must(lease.Renew{Session: session(2)})
	w.must(lease.RenewMany{Sessions: []lease.Heartbeat{{ID: session(3).ID, Digest: session(3).Digest, Incarnation: 1}}})
	unleased(2)
	w.must(lease.CheckIn{Session: session(3), Close: true})
	unleased(2) // it is remembered
	waits := numbered(checkout(4, "cad", 1), 1)
	waits.Wait = time.Minute
	w.refused(lease.InQueue, waits)
	unleased(3)
	w.must(lease.CheckIn{Session: session(1)}) // 4 is served
	unleased(2)
	w.must(lease.Renew{Session: session(4)})
	w.must(lease.CheckIn{Session: session(4)})
	granted := w.must(numbered(checkout(2, "cad", 1), 2))
	unleased(1)
	w.equal("revision of the first lease", granted.Leases[0].Rev, uint64(2))
	w.equal("and after a heartbeat", w.must(lease.Renew{Session: session(2)}).Leases[0].Rev, uint64(3))
	w.must(lease.CheckIn{Session: session(2), Close: true})
	unleased(1)
}
