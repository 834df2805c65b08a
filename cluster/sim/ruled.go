package sim

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seatkeeper/seatkeeper/lease"
)

// A ruled world (Config.Ruled) has richer licences, a policy that changes while seats are
// out, and clients that wait, book, borrow and take what they can get. Its operator also
// revokes what was borrowed, cancels bookings and restores backups.

// ruledFeatures are what its clients ask for, always so many seats of each, so that asking
// again is asking for what is held.
var ruledFeatures = []lease.Item{
	{Feature: "cad", Count: 1}, {Feature: "mesh", Count: 1}, {Feature: "shared", Count: 1}, {Feature: "solver", Count: 2},
	{Feature: "field", Count: 1}, {Feature: "units", Count: 2}, {Feature: "draft", Count: 1}, {Feature: "paint", Count: 1}, {Feature: "post", Count: 2},
}

// Numbers of the ruled licence that the monitor counts with.
const (
	draftCost = 2 // units for one seat of draft
	postPer   = 1 // seats of post that one seat of the suite covers, as of paint

	longestBorrow = time.Minute
	longestBooked = 30 * time.Second
	longestLinger = 15 * time.Second
	longestWait   = 40 * time.Second
)

// ruledEntitlements are those that a ruled world has beside the plain ones.
func ruledEntitlements() []lease.Entitlement {
	field := lease.Entitlement{Feature: "field", Version: "1", Count: 3, Serial: "5", Profile: quick}
	field.BorrowHours = 24
	draft := lease.Entitlement{Feature: "draft", Version: "1", Serial: "7", Profile: usual}
	draft.Uncounted, draft.Draw = true, lease.Draw{Of: "units", Cost: draftCost, Per: 1}
	return []lease.Entitlement{
		field,
		{Feature: "units", Version: "1", Count: 6, Serial: "6", Profile: usual},
		draft,
		{Feature: "studio", Version: "1", Count: 3, Serial: "8", Profile: usual, Package: lease.Package{
			Suite: true, Components: []lease.Component{{Feature: "paint", Count: 1}, {Feature: "post", Count: postPer}},
		}},
	}
}

// licence is what the world's operator installs, with so many seats of cad.
func (w *world) licence(count int) lease.Licence {
	l := simLicence(count)
	if w.cfg.Ruled {
		l.Entitlements[0].Overdraft = 1
		l.Entitlements = append(l.Entitlements, ruledEntitlements()...)
	}
	return l
}

// groups of every policy: whoever is in urgent goes ahead in the queue.
var (
	urgent = lease.PolicyGroup{Name: "urgent", Members: []string{"user1"}, Priority: 2}
	even   = lease.PolicyGroup{Name: "even", Members: []string{"user0", "user2"}}
)

// plainPolicy has no rules: everybody may have everything.
func plainPolicy() lease.Policy { return lease.Policy{Groups: []lease.PolicyGroup{urgent, even}} }

// drawPolicy makes a policy at random. At most one profile and one linger rule name a
// feature, and all of them are for everybody: which of several counts is for the tests of
// the rules.
func drawPolicy(rnd *rand.Rand) lease.Policy {
	p := plainPolicy()
	p.Groups[0].Priority = rnd.IntN(3) - 1
	counted := []string{"cad", "mesh", "solver", "field", "units"} // seats that nobody shares
	subject := func() lease.Subject {
		switch rnd.IntN(4) {
		case 0:
			return lease.Subject{Type: lease.SubjectGroup, Name: "even"}
		case 1:
			return lease.Subject{Type: lease.SubjectGroup, Name: "urgent"}
		}
		return lease.Subject{Type: lease.SubjectUser, Name: fmt.Sprint("user", rnd.IntN(3))}
	}
	add := func(r lease.Rule) { p.Rules = append(p.Rules, r) }
	for range rnd.IntN(5) {
		f := counted[rnd.IntN(len(counted))]
		switch rnd.IntN(8) {
		case 0:
			add(lease.Rule{Kind: lease.RuleExclude, Feature: f, Who: subject()})
		case 1:
			add(lease.Rule{Kind: lease.RuleInclude, Feature: f, Who: subject()})
		case 2, 3:
			add(lease.Rule{Kind: lease.RuleMax, Feature: f, Who: subject(), Seats: rnd.IntN(4)})
		default:
			s := subject()
			add(lease.Rule{Kind: lease.RuleReserve, Feature: f, Who: s, Seats: 1 + rnd.IntN(2)})
			switch rnd.IntN(4) { // what must not stop them
			case 0:
				add(lease.Rule{Kind: lease.RuleMax, Feature: f, Who: s})
			case 1:
				add(lease.Rule{Kind: lease.RuleInclude, Feature: f, Who: subject()})
			}
		}
	}
	if rnd.IntN(2) == 0 {
		add(lease.Rule{Kind: lease.RuleMaxOverdraft, Feature: "cad", Seats: rnd.IntN(3)})
	}
	for _, f := range []string{"cad", "solver", "units", "field"} {
		if rnd.IntN(6) == 0 {
			add(lease.Rule{Kind: lease.RuleProfile, Feature: f, Time: time.Duration(5+rnd.IntN(25)) * time.Second, Grace: time.Duration(rnd.IntN(10)) * time.Second})
		}
		if rnd.IntN(5) == 0 {
			add(lease.Rule{Kind: lease.RuleLinger, Feature: f, Time: time.Duration(1 + rnd.Int64N(int64(longestLinger)))})
		}
	}
	return p
}

// firstRules installs what a ruled world begins with.
func (w *world) firstRules() {
	key := lease.RotateBorrowKey{Kid: "first", Public: [32]byte{1}, Seed: [32]byte{2}, IfNone: true}
	for _, cmd := range []lease.Command{key, lease.ApplyPolicy{Policy: plainPolicy(), Expected: lease.AnyVersion}} {
		for !w.eventually(cmd) && w.real() < 2*time.Minute {
		}
	}
}

// rule is the operator of a ruled world: other policies, revocations, cancelled bookings,
// and now and then a backup is restored.
func (w *world) rule(ctx context.Context) {
	rnd := stream(w.cfg.Seed, 5)
	var backup []byte
	restores := rnd.IntN(2) == 0
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rnd.Int64N(int64(20 * time.Second))))
		list := w.leaders()
		if len(list) == 0 {
			continue
		}
		n := list[rnd.IntN(len(list))].current()
		if n == nil {
			continue
		}
		var borrowed []lease.Lease
		var booked []lease.Booking
		n.ReadStale(func(b *lease.Book) {
			borrowed, _ = b.Leases(lease.Filter{State: lease.Borrowed}, 0, 100)
			booked = b.ListBookings("", 100)
		})
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		switch p := rnd.IntN(10); {
		case p < 5:
			n.Propose(short, lease.ApplyPolicy{Policy: drawPolicy(rnd), Expected: lease.AnyVersion})
		case p < 6 && len(borrowed) > 0:
			l := borrowed[rnd.IntN(len(borrowed))]
			atOnce := rnd.IntN(3) == 0
			if atOnce {
				w.mu.Lock()
				w.killed[l.ID] = true // the operator takes the overdraft on himself
				w.mu.Unlock()
			}
			n.Propose(short, lease.RevokeBorrow{ID: l.ID, AtOnce: atOnce, By: "operator"})
		case p < 7 && len(booked) > 0:
			n.Propose(short, lease.CancelBooking{ID: booked[rnd.IntN(len(booked))].ID, By: "operator"})
		case p < 8 && restores:
			backup = w.backup(short, n)
		case p < 9 && backup != nil:
			w.logf("a backup is restored")
			n.Restore(short, bytes.NewReader(backup), restoreByOperator)
			backup = nil
		}
		cancel()
	}
}
