package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/bench/load"
	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
	"github.com/seatkeeper/seatkeeper/lease/license"
	"github.com/seatkeeper/seatkeeper/rpc"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// server starts one real node with licences for two tenants.
func server(t *testing.T) *Target {
	t.Helper()
	signer, verifier, err := license.GenerateKey("acme")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gossip, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	_ = gossip.Close()
	dir := t.TempDir()
	n, err := cluster.Start(cluster.Config{Name: "n1", DataDir: dir, RaftAddr: "127.0.0.1:0", GossipAddr: gossip.Addr().String(),
		APIAddress: l.Addr().String(), BootstrapExpect: 1, Version: "test", Fatal: func(reason string) { t.Error(reason) }})
	if err != nil {
		t.Fatal(err)
	}
	s, err := rpc.New(rpc.Config{Node: n, Version: "test", TrustedKeys: []string{verifier}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = n.Shutdown(ctx)
	})
	target := &Target{Addresses: []string{l.Addr().String()}, Tenants: []string{"quiet", "loud"}, Feature: "seat", DataDir: dir}
	for i, tenant := range target.Tenants {
		target.license(t, tenant, fmt.Sprint("lic-", i), signer)
	}
	return target
}

// license installs seats of every feature that a benchmark takes.
func (t *Target) license(test *testing.T, tenant, id, signer string) {
	test.Helper()
	const day = lease.Calendar(24 * time.Hour / time.Millisecond)
	doc := lease.Licence{ID: id, Vendor: "acme", Tenant: tenant, Issued: lease.CalendarOf(time.Now()) / day * day}
	for _, f := range []string{"seat", BatchFeature(0), BatchFeature(1)} {
		doc.Entitlements = append(doc.Entitlements, lease.Entitlement{Feature: f, Version: "1.0", Count: 1000, Serial: id + f})
	}
	for i := range MaxPerSession {
		doc.Entitlements = append(doc.Entitlements, lease.Entitlement{Feature: BurstFeature(i), Version: "1.0", Count: 1000, Serial: id + BurstFeature(i),
			Profile: lease.Profile{Lifespan: time.Second, Grace: 100 * time.Millisecond}})
	}
	signed, err := license.Sign(license.Format(doc), signer)
	if err != nil {
		test.Fatal(err)
	}
	w, err := t.Dial(test.Context(), 1)
	if err != nil {
		test.Fatal(err)
	}
	defer w.Close()
	cc, err := w.conn(0)
	if err != nil {
		test.Fatal(err)
	}
	if _, err := pb.NewClusterClient(cc).LicenseApply(test.Context(), &pb.LicenseApplyRequest{File: signed}); err != nil {
		test.Fatal(err)
	}
}

// wantRows checks that each row measured something, and nothing about how fast.
func wantRows(t *testing.T, r *load.Report, names ...string) {
	t.Helper()
	for _, name := range names {
		row, ok := r.Row(name, 0)
		if !ok {
			t.Errorf("no row %q", name)
			continue
		}
		if row.Count < 1 || row.PerSecond <= 0 {
			t.Errorf("%s: nothing was done: %+v", name, row)
		}
	}
}

// wantNothingHeld checks that the benchmark gave back what it took.
func wantNothingHeld(t *testing.T, target *Target) {
	t.Helper()
	w, err := target.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s, err := w.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Pools {
		if p.InUse != 0 {
			t.Errorf("%d seats of %s of %s are still in use", p.InUse, p.Feature, p.Tenant)
		}
	}
}

// short and long are enough for many cycles on a slow machine with the race detector,
// where sixty clients at once need longer than a few.
const short, long = 300 * time.Millisecond, 2 * time.Second

func TestEveryBenchmarkMeasuresSomething(t *testing.T) {
	target := server(t)
	for name, each := range map[string]struct {
		b    Benchmark
		rows []string
	}{
		"cycle": {Cycle{Clients: []int{1, 3}, Warmup: short / 4, Duration: short, Via: ViaRaw, Limits: true, Probe: short / 4},
			[]string{"fsync", "tcp round trip", RowEcho, RowCycle, RowCheckout, "cycle checkin"}},
		"cycle, fresh sessions": {Cycle{Clients: []int{2}, Duration: short, Via: ViaRaw, Fresh: true}, []string{RowCycle}},
		"cycle, open loop":      {Cycle{Clients: []int{2}, Duration: short, Via: ViaRaw, Rate: 100}, []string{RowCycle}},
		"cycle, SDK":            {Cycle{Clients: []int{2}, Duration: short, Via: ViaSDK}, []string{RowCycle, RowCheckout}},
		"heartbeat": {Heartbeat{Clients: []int{2}, Forms: Forms, PerMessage: 5, Window: 4, Duration: short},
			[]string{RowHeartbeat(FormUnary), RowHeartbeat(FormStream), RowHeartbeat(FormBatch), RowHeartbeat(FormStreamBatch)}},
		"heartbeat, open loop": {Heartbeat{Clients: []int{2}, Forms: Forms, PerMessage: 5, Window: 4, Duration: short, Rate: 200},
			[]string{RowHeartbeat(FormStream)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := load.NewReport("test", "seatkeeper", "test", target.DataDir)
			if err := target.Measure(t.Context(), r, each.b); err != nil {
				t.Fatal(err)
			}
			if v, ok := r.Find(ValueElections); !ok || v.Value != 0 {
				t.Errorf("elections: %+v", v)
			}
			wantRows(t, r, each.rows...)
			for _, row := range r.Rows {
				if row.Failed() > 0 {
					t.Errorf("%s: errors %v", row.Name, row.Errors)
				}
			}
			if len(r.Notes) == 0 {
				t.Error("no notes: a report says how it was measured")
			}
			if _, err := json.Marshal(r); err != nil {
				t.Errorf("the report is no JSON: %v", err)
			}
			wantNothingHeld(t, target)
		})
	}
}

func TestSurgeMeasuresBothTenants(t *testing.T) {
	target := server(t)
	s := Surge{Quiet: 2, QuietRate: 50, Aggressive: 8, Warmup: short / 4, Duration: long,
		Aggressors: func(ctx context.Context, a Aggression, working func()) (*load.Report, error) {
			working()
			if a.Tenant != "loud" || a.Clients != 8 {
				t.Errorf("aggression %+v", a)
			}
			r := load.NewReport("aggressors", "seatkeeper", "test", "")
			return r, a.Run(ctx, target, r)
		}}
	r := load.NewReport("surge", "seatkeeper", "test", target.DataDir)
	if err := s.Run(t.Context(), target, r); err != nil {
		t.Fatal(err)
	}
	wantRows(t, r, RowQuietAlone, RowQuiet(StylePolite), RowQuiet(StyleRude), RowAggressors(StylePolite), RowAggressors(StyleRude), RowQuiet(StyleStreamed), RowAggressors(StyleStreamed), RowQuiet(StyleGreedy), RowAggressors(StyleGreedy), RowSixty)
	for _, style := range Styles {
		if v, ok := r.Find(QuietRefused(style)); !ok || v.Value < 0 {
			t.Errorf("%s: not said how many of the quiet ones were refused", style)
		}
		if style == StyleGreedy {
			continue // one client
		}
		if v, ok := r.Find(ServedClients(style)); !ok || v.Value < 1 || v.Value > 8 {
			t.Errorf("%s: %+v of 8 clients were served", style, v)
		}
	}
}

func TestFillTakesExactlySoManyLeases(t *testing.T) {
	target := server(t)
	f := &filler{t: target, per: 2}
	if err := f.fill(t.Context(), 51, BatchFeature); err != nil {
		t.Fatal(err)
	}
	w, err := target.Dial(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	s, err := w.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if s.Leases != 51 || s.Sessions != 26 {
		t.Errorf("%d leases in %d sessions, want 51 in 26", s.Leases, s.Sessions)
	}
	n, err := w.readBackup(t.Context())
	if err != nil || n == 0 {
		t.Errorf("a backup of %d bytes, %v", n, err)
	}
}

func TestLeasesThatFallDueTogetherAreWaitedFor(t *testing.T) {
	target := server(t)
	m := Million{Expiring: 100, Lifespan: time.Second, Grace: 100 * time.Millisecond, Clients: 2, Duration: 3 * time.Second}
	r := load.NewReport("million", "seatkeeper", "test", target.DataDir)
	if err := m.expire(t.Context(), target, r); err != nil {
		t.Fatal(err)
	}
	wantRows(t, r, RowExpiry)
	if _, ok := r.Find(ValueDecay); !ok {
		t.Errorf("not said when they were gone: %v", r.Notes)
	}
	wantNothingHeld(t, target)
}

func TestSharesCoverEverySessionOnce(t *testing.T) {
	for _, tenants := range []int{1, 2, 3} {
		for _, clients := range []int{1, 2, 5, 64} {
			p := &pool{}
			for range tenants {
				list := make([]*holder, 100)
				for i := range list {
					list[i] = &holder{}
				}
				p.byTenant = append(p.byTenant, list)
			}
			var seen []*holder
			for i := range clients {
				for _, h := range p.share(i, clients) {
					if slices.Contains(seen, h) {
						t.Fatalf("%d tenants, %d clients: a session has two clients", tenants, clients)
					}
					seen = append(seen, h)
				}
			}
			if want := 100 * min(tenants, clients); len(seen) != want {
				t.Errorf("%d tenants, %d clients: %d sessions are renewed, want %d", tenants, clients, len(seen), want)
			}
		}
	}
}

func TestSettingsThatMakeNoSenseAreRefused(t *testing.T) {
	full := &Target{Addresses: []string{"127.0.0.1:1"}, Tenants: []string{"a"}, Feature: "seat"}
	for name, run := range map[string]func(*Target) error{
		"failover of somebody else's servers": func(x *Target) error { return Failover{Kills: 1, Clients: 1}.Run(t.Context(), x, nil) },
		"restart of somebody else's servers": func(x *Target) error {
			return Million{Leases: 2, Few: 1, PerSession: 1, Clients: 1, Restart: true}.Run(t.Context(), x, nil)
		},
		"surge with one tenant": func(x *Target) error { return Surge{Quiet: 1}.Run(t.Context(), x, nil) },
		"unknown way":           func(x *Target) error { return Cycle{Clients: []int{1}, Via: "pigeon"}.Run(t.Context(), x, nil) },
		"no clients":            func(x *Target) error { return Cycle{Clients: []int{0}, Via: ViaRaw}.Run(t.Context(), x, nil) },
		"unknown form": func(x *Target) error {
			return Heartbeat{Clients: []int{1}, Forms: []string{"pulse"}}.Run(t.Context(), x, nil)
		},
		"message too large": func(x *Target) error {
			return Heartbeat{Clients: []int{1}, Forms: Forms, PerMessage: MaxPerMessage + 1, Window: 1}.Run(t.Context(), x, nil)
		},
	} {
		if run(full) == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMetricsAreRead(t *testing.T) {
	s, err := parseMetrics(strings.NewReader("# HELP x y\nx 1.5\nx_bucket{le=\"+Inf\"} 3\nbad line\ngo_memstats_next_gc_bytes 2e+06\ngo_gc_gogc_percent 100\n"))
	if err != nil || s["x"] != 1.5 || s[`x_bucket{le="+Inf"}`] != 3 || s.liveHeap() != 1e6 {
		t.Errorf("read %v, %v", s, err)
	}
}

// The page of the comparison is another module, which knows the reports by their names only.
func TestThePageLooksForNamesThatReportsHave(t *testing.T) {
	text, err := os.ReadFile("../jepsen/peers/goals.go")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{RowFailover, LeaderCores(RowHeartbeat(FormUnary), 64), ValueAloneRatio, ValueAlive, ValueKills, ValueGrowth, ValueExpiry,
		ValueRestart, ValueHeap, ValueRSS, ValueSnapshot, ValueSixtyMean, ServedClients(StylePolite)}
	for _, style := range Styles {
		names = append(names, RowQuiet(style))
		if QuietRatio(style) != "p99, "+RowQuiet(style)+" / alone" || QuietRefused(style) != "refused or failed, "+RowQuiet(style) {
			t.Errorf("%s: the page puts the names of its values together in another way", style)
		}
	}
	for _, name := range names {
		if !strings.Contains(string(text), `"`+name+`"`) {
			t.Errorf("the page does not look for %q", name)
		}
	}
}
