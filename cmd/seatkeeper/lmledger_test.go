package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// ledger runs random commands of all kinds on a Book.
type ledger struct {
	rnd   *rand.Rand
	b     *lease.Book
	index uint64
	held  []lease.Ref
}

func (l *ledger) do(c lease.Command) lease.Reply {
	l.index++
	r := l.b.Apply(l.index, c)
	for _, x := range r.Leases {
		l.held = append(l.held, x.Ref)
	}
	return r
}

func (l *ledger) entitlements() []lease.Entitlement {
	line := func(name, version string, count int, share lease.ShareRule, terms lease.Terms) lease.Entitlement {
		return lease.Entitlement{Feature: name, Version: version, Count: count, Serial: name + version, Profile: lease.DefaultProfile, Share: share, Terms: terms}
	}
	list := []lease.Entitlement{
		line("cad", fmt.Sprint(2024+l.rnd.IntN(3)), 1+l.rnd.IntN(5), lease.DefaultShareRule, lease.Terms{BorrowHours: 48}),
		line("cad", "2030", 1+l.rnd.IntN(3), lease.ShareRule{}, lease.Terms{}),
		line("units", "1", 4+l.rnd.IntN(9), lease.ShareRule{}, lease.Terms{}),
		line("sim", "1", 0, lease.ShareRule{}, lease.Terms{Uncounted: true, Draw: lease.Draw{Of: "units", Cost: 1 + l.rnd.IntN(3), Per: 1}}),
		line("viewer", "1", 0, lease.ShareRule{}, lease.Terms{Uncounted: true}),
		line("studio", "1", 1+l.rnd.IntN(3), lease.ShareRule{By: lease.MaskUser, MaxSessions: 2}, lease.Terms{}),
	}
	list[0].Overdraft = 1
	list[5].Package = lease.Package{Suite: true, Components: []lease.Component{{Feature: "paint", Count: 1}, {Feature: "render", Count: 3}}}
	return list
}

func (l *ledger) licence() lease.InstallLicence {
	return lease.InstallLicence{Licence: lease.Licence{ID: "L", Vendor: "acme", Tenant: "default", Entitlements: l.entitlements()}, Replace: true}
}

func (l *ledger) policy() lease.ApplyPolicy {
	ann := lease.Subject{Type: lease.SubjectUser, Name: "u1"}
	rules := []lease.Rule{
		{Kind: lease.RuleReserve, Feature: "cad", Who: ann, Seats: 1 + l.rnd.IntN(3)}, {Kind: lease.RuleReserve, Feature: "units", Who: ann, Seats: 2},
		{Kind: lease.RuleMaxOverdraft, Feature: "cad", Seats: 1}, {Kind: lease.RuleLinger, Feature: "cad", Time: time.Minute},
	}
	return lease.ApplyPolicy{Policy: lease.Policy{Rules: rules[l.rnd.IntN(3):]}, Expected: lease.AnyVersion}
}

func (l *ledger) step() {
	n := byte(1 + l.rnd.IntN(12))
	s := lease.SessionRef{ID: lease.SessionID{n}, Incarnation: 1}
	who := lease.Principal{User: fmt.Sprint("u", n%4), Host: fmt.Sprint("h", n%2)}
	item := lease.Item{Feature: []string{"cad", "cad", "units", "sim", "viewer", "paint", "render"}[l.rnd.IntN(7)], Count: 1 + l.rnd.IntN(3)}
	switch x := l.rnd.IntN(30); {
	case x < 14:
		c := lease.Checkout{Session: s, Principal: who, Items: []lease.Item{item}}
		if l.rnd.IntN(3) == 0 {
			c.Wait = time.Minute
		}
		l.do(c)
	case x < 18:
		l.do(lease.CheckIn{Session: s, Close: l.rnd.IntN(3) == 0})
	case x < 20:
		l.do(lease.Borrow{Session: s, Principal: who, Item: lease.Item{Feature: "cad", Count: 1}, For: time.Duration(1+l.rnd.IntN(40)) * time.Minute})
	case x < 21 && len(l.held) > 0:
		l.do(lease.RevokeBorrow{ID: l.held[l.rnd.IntN(len(l.held))].ID})
	case x < 22 && len(l.held) > 0:
		l.do(lease.Kill{Refs: []lease.Ref{l.held[l.rnd.IntN(len(l.held))]}})
	case x < 24:
		l.do(lease.MakeBooking{ID: fmt.Sprint("job", l.rnd.IntN(3)), Items: []lease.Item{item}, For: time.Minute})
	case x < 25:
		l.do(l.licence())
	case x < 26:
		l.do(l.policy())
	default:
		d := time.Duration(l.rnd.IntN(60)) * time.Second
		l.b.Advance(l.b.Now().Add(d), l.b.Calendar()+lease.Calendar(d.Milliseconds()))
		for _, c := range l.b.Due(100) {
			l.do(c)
		}
	}
}

// state is what the API would answer.
func (l *ledger) state() *lmState {
	s := &lmState{now: l.b.Calendar().Time(), status: &pb.StatusResponse{Leader: "n", Nodes: []*pb.NodeStatus{{Id: "node-1", Address: "127.0.0.1:7800", Role: "leader"}}}}
	for _, p := range l.b.Pools("") {
		x := &pb.PoolStatus{Feature: p.Feature, Version: p.Version, Vendor: p.Vendor, Total: int32(p.Total), InUse: int32(p.InUse), Reserved: int32(p.Reserved),
			Drawn: int32(p.Drawn), Uncounted: p.Uncounted}
		for _, r := range p.ReservedFor {
			x.ReservedFor = append(x.ReservedFor, &pb.PoolReservation{WhoType: r.For.Type.String(), Who: r.For.Name, Seats: int32(r.Seats)})
		}
		s.status.Pools = append(s.status.Pools, x)
	}
	all, _ := l.b.Leases(lease.Filter{}, 0, 1000)
	for _, x := range all {
		s.leases = append(s.leases, &pb.LeaseEntry{Feature: x.Feature, Version: x.Version, Vendor: x.Vendor, User: x.Principal.User, Host: x.Principal.Host, Count: int32(x.Count),
			Handle: uint32(x.Handle), Charge: x.Charge, State: x.State.String(), Since: x.Since.Time().Format(time.RFC3339), RemainingMs: uint32(x.Remaining.Milliseconds())})
	}
	for _, x := range l.b.Queue("", "", 1000) {
		place := &pb.QueuePlace{User: x.Principal.User, Host: x.Principal.Host, Ticket: x.Ticket}
		for _, it := range x.Items {
			place.Items = append(place.Items, &pb.Item{Feature: it.Feature, Version: it.Version, Count: int32(it.Count)})
		}
		s.places = append(s.places, place)
	}
	return s
}

// Whatever is taken, shared, reserved, booked, borrowed, drawn and left over: the header
// says what the ledger counts, and the lines below come to it.
func TestLmstatSaysWhatTheLedgerCounts(t *testing.T) {
	inFull(t)
	seen := map[string]int{}
	for seed := range uint64(20) {
		l := &ledger{rnd: rand.New(rand.NewPCG(seed, 21)), b: lease.NewBook()}
		l.b.Advance(0, lease.CalendarOf(time.Date(2026, 2, 10, 11, 0, 0, 0, time.UTC)))
		l.do(l.licence())
		l.do(lease.RotateBorrowKey{Kid: "k", Public: [32]byte{1}, Seed: [32]byte{2}})
		for range 200 {
			l.step()
			var out bytes.Buffer
			writeSystem(&out, systemOf(l.state()), lmView{})
			c, err := consume(out.String())
			if err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, out.String())
			}
			want := map[string]*seenFeature{}
			for _, p := range l.b.Pools("") {
				w := want[p.Feature]
				if w == nil {
					w = &seenFeature{}
					want[p.Feature] = w
				}
				if w.used += p.InUse + p.Reserved; p.Uncounted {
					w.used = -1
				}
				if w.issued += p.Total; p.OverUse > 0 {
					seen["over"]++
				}
				if p.Reserved > 0 && p.InUse > 0 {
					seen["half reserved"]++
				}
				if p.Drawn > 0 {
					seen["drawn"]++
				}
			}
			for _, f := range c.features {
				w := want[f.name]
				if w == nil || f.used != w.used || w.used >= 0 && f.issued != w.issued {
					t.Fatalf("seed %d: %s shows %+v, the ledger counts %+v\n%s", seed, f.name, f, w, out.String())
				}
				if delete(want, f.name); f.queue > 0 {
					seen["queued"]++
				}
			}
			if len(want) > 0 {
				t.Fatalf("seed %d: not shown: %v\n%s", seed, want, out.String())
			}
		}
	}
	for _, what := range []string{"over", "half reserved", "drawn", "queued"} {
		if seen[what] < 20 {
			t.Errorf("%q came up %d times: the programs do not try it", what, seen[what])
		}
	}
}
