package rpc

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seatkeeper/seatkeeper/fsm"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/access"
)

func inventLicence(t *testing.T, n *fakeNode, tenant string) {
	t.Helper()
	l := testLicence()
	l.ID, l.Tenant = "lic-"+tenant, tenant
	for i := range l.Entitlements {
		l.Entitlements[i].Serial += tenant // a serial counts once
	}
	if r, err := n.Propose(context.Background(), lease.InstallLicence{Licence: l}); err != nil || r.Reply.Refusal != nil {
		t.Fatal(err, r.Reply.Refusal)
	}
}

// A name gets a room of its own by a licence or a token, and is taken for a stranger's
// otherwise.
func TestOnlyKnownTenantsHaveARoomOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNode(t)
		registry := prometheus.NewRegistry()
		m, err := newMetrics(registry)
		if err != nil {
			t.Fatal(err)
		}
		s := &Server{cfg: Config{Node: n}, metrics: m, known: knownTenants{node: n}}
		anybody := caller{}
		room := func(want, tenant string, who caller) {
			t.Helper()
			if got := s.roomFor(tenant, who); got != want {
				t.Errorf("tenant %q has the room %q, want %q", tenant, got, want)
			}
		}
		room("default", "default", anybody)
		room(strangers, "acme", anybody)
		inventLicence(t, n, "acme")
		room(strangers, "acme", anybody) // looked at a moment ago
		time.Sleep(lookAgain)
		room("acme", "acme", anybody)
		if _, err := n.Propose(t.Context(), lease.RemoveLicence{Tenant: "acme", ID: "lic-acme"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(knownFor)
		room(strangers, "acme", anybody)

		room("umbra", "umbra", caller{Token: &access.Token{Role: access.Client, Tenant: "umbra"}})
		room(strangers, "umbra", caller{Token: &access.Token{Role: access.Client}})
		room("umbra", "umbra", caller{Token: &access.Token{Role: access.Operator}}) // who brings the first licence
		bound := access.Token{ID: "0011223344556677", Digest: [32]byte{1}, Role: access.Client, Tenant: "umbra"}
		first := access.Token{ID: "0011223344556678", Digest: [32]byte{2}, Role: access.Admin}
		for _, c := range []lease.Command{fsm.CreateToken{Token: first, First: true}, fsm.CreateToken{Token: bound}} {
			if r, err := n.Propose(t.Context(), c); err != nil || r.Reply.Refusal != nil {
				t.Fatal(err, r.Reply.Refusal)
			}
		}
		time.Sleep(lookAgain)
		room("umbra", "umbra", anybody)

		looks := n.staleReads
		for i := range 10_000 {
			room(strangers, fmt.Sprint("x", i), anybody)
		}
		if n.staleReads > looks+1 {
			t.Errorf("10,000 invented names had the ledger looked at %d times", n.staleReads-looks)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counted := 0.0
		for _, f := range families {
			if f.GetName() == "seatkeeper_rpc_strangers_total" {
				counted = f.GetMetric()[0].GetCounter().GetValue()
			}
		}
		if counted < 10_000 {
			t.Errorf("%v strangers are counted", counted)
		}
	})
}

// However many names somebody invents, all of them have a few places together; a tenant that
// is known keeps all of its own, is never refused and never waits.
func TestInventedTenantsDoNotSlowAKnownOne(t *testing.T) {
	limits := someLimits
	limits.strangers = DefaultInFlightStrangers
	lasts := 3 * time.Second // on virtual time
	if testing.Short() {
		lasts = time.Second
	}
	atDoor(t, limits, func(d door) {
		ctx, cancel := context.WithTimeout(d.t.Context(), lasts)
		defer cancel()
		var all sync.WaitGroup
		most := 0
		for i := range 500 {
			all.Go(func() {
				for try := 0; ctx.Err() == nil; try++ {
					tk := d.ticket(strangers, asking, fmt.Sprint("s", i, "-", try)) // another name each time
					if tk.enter(ctx) != nil {
						time.Sleep(50 * time.Millisecond)
						continue
					}
					d.mu.Lock()
					most = max(most, d.tenants[strangers].inside[0])
					d.mu.Unlock()
					time.Sleep(5 * time.Millisecond)
					tk.leave()
				}
			})
		}
		synctest.Wait()
		in := d.inside("known", asking, limits.perTenant) // all its places: nobody else counts as active
		leaveAll(in)
		for ctx.Err() == nil {
			tk := d.ticket("known", asking, "k")
			begin := time.Now()
			if err := tk.enter(ctx); err != nil || time.Since(begin) > 0 {
				t.Fatalf("the known tenant waited %v: %v", time.Since(begin), err)
			}
			time.Sleep(2 * time.Millisecond)
			tk.leave()
		}
		all.Wait()
		if most != limits.strangers {
			t.Errorf("%d strangers at once, want %d", most, limits.strangers)
		}
		if len(d.active.of) > 1 || len(d.turned) != 1 || d.turned[strangers] == 0 {
			t.Errorf("%d tenants are active, %v were turned away", len(d.active.of), d.turned)
		}
		if len(d.penalties.of) > 0 || len(d.strange.of) > maxPenalties/strangersPart {
			t.Errorf("%d penalties of tenants, %d of strangers", len(d.penalties.of), len(d.strange.of))
		}
		d.strange.of = nil
	})
}

func TestTenantListSaysWhoHasAndUsesWhat(t *testing.T) {
	n := newFakeNode(t)
	inventLicence(t, n, "acme")
	a := startAPI(t, n, nil)
	a.checkout(t, "cad", "ann")
	for i := range 3 {
		body := fmt.Sprintf(`{"feature":"cad","user":"u","host":"h","tenant":"invented-%d","session_id":"%032x","session_secret":"s","seq":"1"}`, i, i+1)
		wantRefusal(t, a.post(t, "/v1/checkout", body), http.StatusNotFound, lease.NoFeature)
	}
	got := a.get(t, "/v1/tenants")
	if got.status != http.StatusOK {
		t.Fatal(got.text)
	}
	for path, want := range map[string]any{
		"0 name": "acme", "0 known": true, "0 licenses": 1.0, "0 seats": 16.0, "0 in_use": 0.0, "0 sessions": 0.0,
		"1 name": "default", "1 in_use": 1.0, "1 leases": 1.0, "1 sessions": 1.0, "1 pools": 4.0, "1 policy": false,
	} {
		var at int
		var field string
		if _, err := fmt.Sscan(path, &at, &field); err != nil {
			t.Fatal(err)
		}
		if v := dig(got.body, "tenants", at, field); v != want {
			t.Errorf("%s is %v, want %v", path, v, want)
		}
	}
	if v := dig(got.body, "strangers", "sessions_unleased"); v != 3.0 || dig(got.body, "strangers", "tenants") != 3.0 {
		t.Errorf("strangers: %s", got.text)
	}
	if v := dig(got.body, "limits", "in_flight_strangers"); v != float64(DefaultInFlightStrangers) {
		t.Errorf("limits: %s", got.text)
	}

	first := a.get(t, "/v1/tenants?limit=1")
	second := a.get(t, "/v1/tenants?limit=1&after="+first.str(t, "next"))
	if first.str(t, "tenants", 0, "name") != "acme" || second.str(t, "tenants", 0, "name") != "default" || second.str(t, "next") != "" {
		t.Errorf("pages: %s %s", first.text, second.text)
	}
	one := a.get(t, "/v1/tenants?tenant=invented-1")
	if dig(one.body, "tenants", 0, "sessions") != 1.0 || dig(one.body, "tenants", 0, "known") != false || dig(one.body, "strangers") != nil {
		t.Errorf("one: %s", one.text)
	}
}
