package model

import (
	"strings"
	"testing"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// restoredStory goes on from story: at entry 14 the state of entry 6 is restored. Ann has
// given back since and bob's lease ran out, so neither comes back; carl's is taken away.
// Nobody is served before 7 s have passed.
func restoredStory() []history.Entry {
	const s = second
	next := func(index uint64, now int64, c history.Command) history.Entry {
		return history.Entry{Index: index, Term: 2, Epoch: 14, StampNS: now, NowNS: now, CalendarMS: 1000, Hash: "r", Commands: []history.Command{c}}
	}
	take := func(seq uint64, r history.CommandResult) history.Command {
		return history.Command{Kind: history.KindCheckout, Session: "eve", Digest: "deve", Incarnation: 1, Seq: seq, Items: []history.Item{{Feature: "cad", Count: 1}}, Result: r}
	}
	list := append(story(),
		next(14, 12*s, history.Command{Kind: history.KindRestore, Restore: &history.AuditRestore{Sum: "x", Index: 6, Hash: "h6"}}),
		next(15, 13*s, history.Command{Kind: history.KindRenew, Session: "carl", Digest: "dcarl", Incarnation: 1}),
		next(16, 18*s, take(1, history.CommandResult{Reason: "overloaded"})),
		next(17, 19*s, take(2, history.CommandResult{Leases: []history.AuditLease{{ID: 30, Token: 1<<32 + 10, Feature: "cad", Version: "1.0", Count: 1, Seats: []int{1}, DeadlineNS: 23 * s}}})))
	list[13].Epoch = 12
	list[13].HasEnded, list[13].Ended = true, []history.AuditEnded{{ID: 13, Token: 9, Feature: "cad", Reason: restored}}
	return list
}

func TestModelFindsWrongRestores(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(e []history.Entry)
		want   string
	}{
		{"the story as it is", func([]history.Entry) {}, ""},
		{"another state than was backed up", func(e []history.Entry) { e[13].Commands[0].Restore.Hash = "h7" }, "has the hash"},
		{"time goes back with the state", func(e []history.Entry) { e[13].NowNS = 4 * second }, "cluster time went back"},
		{"what ended since comes back", func(e []history.Entry) {
			e[14].Commands[0] = history.Command{Kind: history.KindRenew, Session: "bob", Digest: "dbob", Incarnation: 1,
				Result: history.CommandResult{Leases: []history.AuditLease{{ID: 12, Token: 5, Feature: "cad", Version: "1.0", Count: 1, Seats: []int{2}, DeadlineNS: 17 * second}}}}
		}, "lease 12 is shown as held, and is not"},
		{"a later lease survives", func(e []history.Entry) { e[13].Ended = nil }, "lease 13 must have ended"},
		{"no fence", func(e []history.Entry) {
			e[15].Commands[0].Result = history.CommandResult{Leases: e[16].Commands[0].Result.Leases}
		}, "answered done, must be overloaded"},
		{"an older token", func(e []history.Entry) { e[16].Commands[0].Result.Leases[0].Token = 17 }, "token 17"},
		{"an entry of the epoch before", func(e []history.Entry) { e[14].Epoch = 12 }, "was applied, though it is of epoch 12"},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries := restoredStory()
			c.change(entries)
			h := New()
			var found []string
			for i := range entries {
				for _, p := range h.Apply(&entries[i]) {
					found = append(found, p.String())
				}
			}
			if all := strings.Join(found, "\n"); c.want == "" && all != "" || !strings.Contains(all, c.want) {
				t.Errorf("found %q, want %q", all, c.want)
			}
		})
	}
}
