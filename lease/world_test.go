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

// two features of one request.
func and(c lease.Checkout, feature string, count int) lease.Checkout {
	c.Items = append(append([]lease.Item(nil), c.Items...), lease.Item{Feature: feature, Count: count})
	return c
}

// numbered gives the checkout a sequence number.
func numbered(c lease.Checkout, seq uint64) lease.Checkout {
	c.Session.Seq = seq
	return c
}

func (w *world) equal(what string, got, want any) {
	w.t.Helper()
	if got != want {
		w.t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}
