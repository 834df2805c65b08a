package model

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// The story that the tests tell and change: one pool of two seats, 4 s + 3 s.
//
//	2  licence           5  bob takes seat 2      9  carl is granted, seat 1
//	3  ann takes seat 1  6  carl is refused      10  bob's lease runs out
//	4  ann renews        7  ann's retry of 3     11  a deposed leader's entry
//	                     8  ann gives back       12  a new leader, 13 a tick
func story() []history.Entry {
	const s = second
	entry := func(index uint64, now int64, c history.Command) history.Entry {
		return history.Entry{Index: index, Term: 1, Epoch: 1, StampNS: now, NowNS: now, CalendarMS: 1000, Hash: fmt.Sprint("h", index), HasEnded: true, Commands: []history.Command{c}}
	}
	seat := func(id, token uint64, n int, deadline int64, rev uint64) []history.AuditLease {
		return []history.AuditLease{{ID: id, Token: token, Feature: "cad", Version: "1.0", Count: 1, Seats: []int{n}, DeadlineNS: deadline, Rev: rev}}
	}
	take := func(who string, seq uint64, r history.CommandResult) history.Command {
		return history.Command{Kind: history.KindCheckout, Session: who, Digest: "d" + who, Incarnation: 1, Seq: seq, Items: []history.Item{{Feature: "cad", Count: 1}}, Result: r}
	}
	gone := func(id, token uint64, why string) []history.AuditEnded {
		return []history.AuditEnded{{ID: id, Token: token, Feature: "cad", Reason: why}}
	}
	list := []history.Entry{
		{Index: 1, Term: 1, CalendarMS: 1000, Hash: "h1", Lead: &history.Lead{Node: "n1"}},
		entry(2, 1*s, history.Command{Kind: history.KindInstall, Licence: &history.LicenceFile{ID: "L", Vendor: "v", Tenant: "default",
			Entitlements: []history.Entitlement{{Feature: "cad", Version: "1.0", Count: 2, LifespanNS: 4 * s, GraceNS: 3 * s, Serial: "1"}}}}),
		entry(3, 2*s, take("ann", 1, history.CommandResult{Leases: seat(11, 3, 1, 6*s, 2)})),
		entry(4, 3*s, history.Command{Kind: history.KindRenew, Session: "ann", Digest: "dann", Incarnation: 1, Refs: []history.Ref{{ID: 11, Token: 3}},
			Result: history.CommandResult{Leases: seat(11, 3, 1, 7*s, 3)}}),
		entry(5, 3*s, take("bob", 1, history.CommandResult{Leases: seat(12, 5, 2, 7*s, 2)})),
		entry(6, 4*s, take("carl", 1, history.CommandResult{Reason: "no_seats"})),
		entry(7, 4*s, take("ann", 1, history.CommandResult{Replayed: true, Leases: seat(11, 3, 1, 7*s, 3)})),
		entry(8, 5*s, history.Command{Kind: history.KindCheckin, Session: "ann", Digest: "dann", Incarnation: 1, Seq: 2, Close: true,
			Result: history.CommandResult{Released: gone(11, 3, "normal")}}),
		entry(9, 6*s, take("carl", 2, history.CommandResult{Leases: seat(13, 9, 1, 10*s, 2)})),
		entry(10, 10*s, history.Command{Kind: history.KindExpire, ID: 12, Token: 5, Rev: 2, Result: history.CommandResult{Released: gone(12, 5, "missed_heartbeat")}}),
		entry(11, 10*s, take("dora", 1, history.CommandResult{})),
		{Index: 12, Term: 2, NowNS: 10 * s, CalendarMS: 1000, Hash: "h12", Lead: &history.Lead{Node: "n2"}},
		{Index: 13, Term: 2, Epoch: 12, StampNS: 11 * s, NowNS: 11 * s, CalendarMS: 1000, Hash: "h13", Commands: []history.Command{{Kind: history.KindTick}}},
	}
	list[7].Ended, list[9].Ended = gone(11, 3, "normal"), gone(12, 5, "missed_heartbeat")
	list[10].Epoch, list[10].Stale, list[10].Hash, list[10].Commands[0].Result = 0, true, "h10", history.CommandResult{}
	return list
}

func TestModelFindsWrongAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(e []history.Entry) // by place: entry n stands at n-1
		want   string                  // in a problem; empty: none
	}{
		{"the story as it is", func([]history.Entry) {}, ""},
		{"capacity off by one", func(e []history.Entry) {
			e[5].Commands[0].Result = history.CommandResult{Leases: []history.AuditLease{{ID: 20, Token: 6, Feature: "cad", Version: "1.0", Count: 1, Seats: []int{3}, DeadlineNS: 8 * second}}}
		}, "answered done, must be no_seats"},
		{"refused with a seat free", func(e []history.Entry) { e[4].Commands[0].Result = history.CommandResult{Reason: "no_seats"} }, "answered no_seats, must be done"},
		{"a taken seat is given", func(e []history.Entry) { e[4].Commands[0].Result.Leases[0].Seats = []int{1} }, "seat 1 of cad is given to lease 12 while lease 11 holds it"},
		{"a retry has a second effect", func(e []history.Entry) {
			e[6].Commands[0].Result = history.CommandResult{Leases: []history.AuditLease{{ID: 21, Token: 7, Feature: "cad", Version: "1.0", Count: 1, Seats: []int{3}, DeadlineNS: 8 * second}}}
		}, "carried out a second time"},
		{"a retry moves the deadline", func(e []history.Entry) { e[6].Commands[0].Result.Leases[0].DeadlineNS += second }, "shows the deadline"},
		{"a token that does not grow", func(e []history.Entry) { e[8].Commands[0].Result.Leases[0].Token = 3 }, "gets token 3 after 3"},
		{"a token from a counter", func(e []history.Entry) { e[2].Commands[0].Result.Leases[0].Token = 1 }, "has token 1, must be 3"},
		{"an old lease id is used again", func(e []history.Entry) { e[8].Commands[0].Result.Leases[0].ID = 11 }, "was used before"},
		{"a lease is reclaimed early", func(e []history.Entry) { e[9].NowNS, e[9].StampNS = 9*second, 9*second }, "answered done, must be fenced"},
		{"a lease is reclaimed by an old revision", func(e []history.Entry) { e[9].Commands[0].Rev = 1 }, "answered done, must be fenced"},
		{"a lease is reclaimed by another token", func(e []history.Entry) { e[9].Commands[0].Token = 4 }, "answered done, must be fenced"},
		{"a check-in forgets", func(e []history.Entry) { e[7].Commands[0].Result.Released, e[7].Ended = nil, nil }, "lease 11 must have ended"},
		{"a lease ends and no answer says so", func(e []history.Entry) {
			e[5].Ended = []history.AuditEnded{{ID: 11, Token: 3, Reason: "missed_heartbeat"}}
		}, "lease 11 ended (missed_heartbeat) and must not have"},
		{"a renewal forgets a lease", func(e []history.Entry) { e[3].Commands[0].Result.Leases = nil }, "lease 11 is held and not shown"},
		{"a renewal shortens", func(e []history.Entry) { e[3].Commands[0].Result.Leases[0].DeadlineNS = 6 * second }, "shows the deadline"},
		{"the wrong secret is let in", func(e []history.Entry) { e[3].Commands[0].Digest = "x" }, "answered done, must be forbidden"},
		{"a closed session goes on", func(e []history.Entry) { e[8].Commands[0].Session, e[8].Commands[0].Digest = "ann", "dann" }, "answered done, must be session_unknown"},
		{"an older number is carried out", func(e []history.Entry) { e[3].Commands[0].Incarnation, e[6].Commands[0].Incarnation = 2, 1 }, "answered done, must be fenced"},
		{"time runs backwards", func(e []history.Entry) { e[5].NowNS, e[5].StampNS = 2*second, 2*second }, "cluster time went back"},
		{"time is not the stamp's", func(e []history.Entry) { e[5].NowNS++ }, "cluster time is 4000000001, must be 4000000000"},
		{"a new leader moves time", func(e []history.Entry) { e[11].NowNS += second; e[12].NowNS += second }, "cluster time is 11000000000, must be 10000000000"},
		{"a deposed leader's entry counts", func(e []history.Entry) { e[10].Stale = false }, "was applied, though it is of epoch 0"},
		{"a deposed leader's entry changes the hash", func(e []history.Entry) { e[10].Hash = "x" }, "changed the state hash"},
		{"a good entry is thrown away", func(e []history.Entry) { e[12].Stale = true }, "was refused as stale"},
		{"the licence calendar goes back", func(e []history.Entry) { e[5].CalendarMS = 1 }, "the licence calendar went back"},
		{"an entry comes twice", func(e []history.Entry) { e[5].Index = 5 }, "follows entry 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries := story()
			c.change(entries)
			h := New()
			var found []string
			for i := range entries {
				for _, p := range h.Apply(&entries[i]) {
					found = append(found, p.String())
				}
			}
			all := strings.Join(found, "\n")
			if c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("found:\n%s\nwant: %s", all, c.want)
			}
		})
	}
}

func TestVersionsCompareAsDecimals(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"1.10", "1.1", 0}, {"1.10", "1.9", -1}, {"2026.0", "2025.4", 1}, {"", "0", -1}, {"", "", 0}, {"01", "1.00", 0}} {
		if got := compareVersions(c.a, c.b); got != c.want {
			t.Errorf("%q and %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
