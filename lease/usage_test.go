package lease_test

import (
	"maps"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// record is cad used by ann for minutes from and to after launch.
func record(user string, from, to int, count int, charge uint32) lease.UsageRecord {
	at := func(m int) (lease.Time, lease.Calendar) {
		return lease.Time(time.Duration(m) * time.Minute), launch + lease.Calendar(m)*60_000
	}
	r := lease.UsageRecord{Tenant: "default", Feature: "cad", Count: count, Principal: lease.Principal{User: user}, Charge: charge}
	r.Start, r.StartDate = at(from)
	r.End, r.EndDate = at(to)
	return r
}

func TestUsagePeaksCountAShareGroupOnce(t *testing.T) {
	records := []lease.UsageRecord{
		record("ann", 0, 10, 1, 1), record("ann", 5, 20, 3, 1), // one group, 3 seats from minute 5
		record("bob", 10, 15, 2, 2), record("bob", 20, 30, 2, 1), // the charge 1 is given again at minute 20
	}
	got := lease.SumUsage(records, lease.ByFeature, 0, 0)
	want := lease.UsageSum{Tenant: "default", Feature: "cad", Checkouts: 4, Peak: 5, SeatMillis: (10 + 45 + 10 + 20) * 60_000}
	if len(got) != 1 || got[0] != want {
		t.Errorf("by feature: %+v\nwant %+v", got, want)
	}
	byUser := lease.SumUsage(records, lease.ByUser, 0, 0)
	if len(byUser) != 2 || byUser[0].Key != "ann" || byUser[0].Peak != 3 || byUser[1].Peak != 2 {
		t.Errorf("by user: %+v", byUser)
	}
	cut := lease.SumUsage(records, lease.ByFeature, launch+12*60_000, launch+22*60_000)
	if len(cut) != 1 || cut[0].SeatMillis != (8*3+3*2+2*2)*60_000 || cut[0].Checkouts != 3 {
		t.Errorf("minutes 12 to 22: %+v", cut)
	}
}

// What is held now counts too, up to now.
func TestUsageCountsWhatIsStillHeld(t *testing.T) {
	w := newWorld(t, shared("cad", 6, 3))
	w.must(as(checkout(1, "cad", 1), "ann", "ws"))
	w.must(as(checkout(2, "cad", 2), "ann", "ws")) // shares ann's seat and takes another
	w.must(as(checkout(3, "cad", 1), "bob", "ws"))
	w.wait(2 * time.Minute)
	live := w.LiveUsage("")
	got := lease.SumUsage(live, lease.ByFeature, 0, 0)
	want := lease.UsageSum{Tenant: "default", Feature: "cad", Checkouts: 3, Peak: 3, SeatMillis: (1 + 2 + 1) * 120_000}
	if len(got) != 1 || got[0] != want {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if p := lease.Concurrency(live, launch, launch+120_000, time.Minute); len(p) != 2 || p[0].Peak != 3 || p[1].Mean != 3 {
		t.Errorf("concurrency %+v", p)
	}
}

func TestConcurrencyTellsEveryStep(t *testing.T) {
	records := []lease.UsageRecord{record("ann", 10, 40, 1, 1), record("ann", 12, 38, 1, 1), // one share group
		record("bob", 20, 25, 2, 2), record("kim", 20, 20, 9, 3)}
	got := lease.Concurrency(records, launch, launch+60*60_000, 15*time.Minute)
	want := []struct {
		peak int
		mean float64
	}{{1, 5. / 15}, {3, 1 + 10./15}, {1, 10. / 15}, {0, 0}}
	if len(got) != len(want) {
		t.Fatalf("%d points, want %d", len(got), len(want))
	}
	for i, w := range want {
		p := got[i]
		if p.Peak != w.peak || p.Mean < w.mean-1e-9 || p.Mean > w.mean+1e-9 || p.Start != launch+lease.Calendar(i)*15*60_000 {
			t.Errorf("step %d: %+v, want peak %d, mean %f", i, p, w.peak, w.mean)
		}
	}
}

// TestUsageRecordsAddUpToSeatTime: over random programs the records of a feature come to
// what its pool counted, each lease has one record, and no peak passes the count.
func TestUsageRecordsAddUpToSeatTime(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		const total = 6
		w := newWorld(t, shared("cad", total, 3))
		var records []lease.UsageRecord
		ended := map[lease.ID]bool{}
		note := func() {
			for _, e := range w.TakeEvents() {
				if e.Kind == lease.Ended {
					records = append(records, e.Usage())
					if ended[e.Lease.ID] || e.Usage().Reason == 0 {
						t.Fatalf("seed %d: lease %d ended twice, or for no reason: %+v", seed, e.Lease.ID, e)
					}
					ended[e.Lease.ID] = true
				}
			}
		}
		users := []string{"ann", "bob", "kim"}
		for range 120 {
			n := byte(1 + rng.IntN(12))
			switch rng.IntN(5) {
			case 0, 1:
				w.do(as(checkout(n, "cad", 1+rng.IntN(2)), users[int(n)%3], "h"))
			case 2:
				w.do(lease.CheckIn{Session: session(n)})
			case 3:
				w.do(lease.Renew{Session: session(n)})
			default:
				w.wait(time.Duration(rng.IntN(200)) * time.Second)
				w.expireDue()
			}
			note()
		}
		var want, grants, releases uint64
		w.Freeze().Pools(func(_ uint32, p *lease.PoolRecord) bool {
			want, grants, releases = want+p.SeatMillis, grants+p.Grants, releases+p.Releases
			return true
		})
		live := w.LiveUsage("")
		if releases != uint64(len(records)) || grants != releases+uint64(len(live)) {
			t.Fatalf("seed %d: %d grants, %d releases, %d records, %d live", seed, grants, releases, len(records), len(live))
		}
		sums := lease.SumUsage(records, lease.ByFeature, 0, 0)
		if len(sums) == 1 && sums[0].SeatMillis != want || len(sums) == 0 && want != 0 {
			t.Fatalf("seed %d: records come to %+v, the pool counted %d", seed, sums, want)
		}
		all := lease.SumUsage(append(records, live...), lease.ByFeature, 0, 0)
		if len(all) == 1 && all[0].Peak > total {
			t.Fatalf("seed %d: peak %d of %d seats", seed, all[0].Peak, total)
		}
		byUser := uint64(0)
		for _, s := range lease.SumUsage(records, lease.ByUser, 0, 0) {
			byUser += s.SeatMillis
		}
		if byUser != want {
			t.Fatalf("seed %d: by user %d, in all %d", seed, byUser, want)
		}
	}
}

func TestADenialServedSoonIsNoTrueDenial(t *testing.T) {
	ask := func(user string, session byte, minute int) *lease.Event {
		return &lease.Event{Tenant: "default", Feature: "cad", Session: lease.SessionID{session}, Principal: lease.Principal{User: user, Host: "h"},
			Date: launch + lease.Calendar(minute)*60_000}
	}
	final := ask("eve", 9, 0)
	final.Final = true
	other := ask("ann", 2, 5)
	other.Feature = "mesh"
	for _, c := range []struct {
		name    string
		denied  []*lease.Event
		granted *lease.Event
		want    int
	}{
		{"the same session", []*lease.Event{ask("", 1, 0), ask("", 1, 1)}, ask("", 1, 5), 2},
		{"another session of the same user and host", []*lease.Event{ask("ann", 1, 0)}, ask("ann", 2, 5), 1},
		{"somebody else", []*lease.Event{ask("bob", 1, 0)}, ask("ann", 2, 5), 0},
		{"two without a name", []*lease.Event{ask("", 1, 0)}, ask("", 2, 5), 0},
		{"another feature", []*lease.Event{ask("ann", 1, 0)}, other, 0},
		{"a final one", []*lease.Event{final}, ask("eve", 9, 5), 0},
		{"an hour later", []*lease.Event{ask("ann", 1, 0), ask("ann", 1, 30)}, ask("ann", 1, 61), 1},
	} {
		var u lease.Unserved
		for i, e := range c.denied {
			u.Denied(e, lease.DenialID{Index: uint64(i + 1)})
		}
		if got := u.Granted(c.granted); len(got) != c.want {
			t.Errorf("%s: %d denials served, want %d", c.name, len(got), c.want)
		}
		if got := u.Granted(c.granted); len(got) != 0 {
			t.Errorf("%s: served twice", c.name)
		}
	}
}

// Usage by group follows the policy in place: who is in several groups counts in each.
func TestUsageIsSummedByTheGroupsOfThePolicy(t *testing.T) {
	w := ruled(t, lease.Policy{Groups: []lease.PolicyGroup{
		designers, {Name: "leads", Members: []string{"ann"}}, {Name: "lab", Hosts: true, Members: []string{"10.0.0.0/8"}},
	}}, feature("cad", 3))
	records := []lease.UsageRecord{record("ann", 0, 10, 1, 1), record("con-7", 5, 10, 2, 2), record("zoe", 0, 10, 4, 3)}
	records[2].Principal.IP = "10.1.2.3"
	minutes := func(list []lease.UsageSum) map[string]uint64 {
		out := map[string]uint64{}
		for _, s := range list {
			out[s.Key] = s.SeatMillis / 60_000
		}
		return out
	}
	byGroup := minutes(lease.SumUsageByGroup(records, w.UsageGroups(false), 0, 0))
	if want := map[string]uint64{"designers": 20, "leads": 10, "": 40}; !maps.Equal(byGroup, want) {
		t.Errorf("by group: %v, want %v", byGroup, want)
	}
	byHosts := minutes(lease.SumUsageByGroup(records, w.UsageGroups(true), 0, 0))
	if want := map[string]uint64{"lab": 40, "": 20}; !maps.Equal(byHosts, want) {
		t.Errorf("by host group: %v, want %v", byHosts, want)
	}
}
