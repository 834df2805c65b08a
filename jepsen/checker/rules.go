package checker

import (
	"math"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckPromised is R1: never more seats are promised than there are. Seats in hands
// (borrowed and quarantined ones too), booked, and reserved and not filled: no grant and no
// booking makes their sum larger than the licence, unless it takes what was kept for it.
// What is read of a pool is what the log says.
func CheckPromised(r *Run) Verdict {
	j := newJury("R1", "no seat is promised twice")
	var d *desk
	judge := func(what, feature string, before int) {
		pool := d.pools[feature]
		if pool == nil {
			return
		}
		j.judged++
		if n := d.charged(feature); n > pool.Total {
			j.guilty("entry %d: with %s %d seats of %s are in use, %d are licensed", d.at.Index, what, n, feature, pool.Total)
		}
		if n := d.promised(feature); n > pool.Total && n > before {
			j.guilty("entry %d: with %s %d seats of %s are promised (%d in use, %d booked, %d reserved), %d are licensed", d.at.Index, what,
				n, feature, d.charged(feature), d.kept(feature, 0), d.unfilled(feature), pool.Total)
		}
	}
	next, reads := 0, 0
	read := func(below uint64) {
		for ; next < len(r.acks) && r.acks[next].index < below; next++ {
			a := r.acks[next]
			if v, ok := statusOf(a.pair); ok && !v.Stale {
				reads++
				for _, p := range v.Pools {
					if n := d.charged(p.Feature); d.pools[p.Feature] != nil && n != p.InUse {
						j.guilty("operation %d: %d seats of %s are in use, the log says %d", a.pair.Done.Index, p.InUse, p.Feature, n)
					}
				}
			}
		}
	}
	d = newDesk(r, hooks{
		entry:   func(e *history.Entry) { read(e.Index) },
		granted: func(p *paper, _ *history.Command, before int) { judge("the lease of "+p.user, p.feature, before) },
		booked:  func(x *deskJob, feature string, before int) { judge("booking "+x.id, feature, before) },
	})
	d.walk(r, j)
	if r.log.Whole && d.lost == "" {
		read(math.MaxUint64)
	}
	return j.done("%d grants and bookings, %d reads compared", j.judged, reads)
}

// CheckBorrowed is R3: a borrowed seat is nobody else's until its end in cluster time or its
// return, and one that was revoked until its end, whatever becomes of the session and
// whoever asks. C3 says the same in real time, by what borrowers believe.
func CheckBorrowed(r *Run) Verdict {
	j := newJury("R3", "borrowed seats are kept")
	lent := 0
	var d *desk
	d = newDesk(r, hooks{
		granted: func(p *paper, _ *history.Command, _ int) {
			for _, o := range d.leases {
				if o != p && o.feature == p.feature && slices.ContainsFunc(o.seats, func(n int) bool { return slices.Contains(p.seats, n) }) {
					j.guilty("entry %d: lease %d is given seats %v of %s; lease %d of %s has %v", d.at.Index, p.id, p.seats, p.feature, o.id, o.user, o.seats)
				}
			}
		},
		ended: func(p *paper, c *history.Command) {
			if p.kind != borrowed && p.kind != quarantined {
				return
			}
			lent++
			j.judged++
			named := slices.ContainsFunc(c.Refs, func(x history.Ref) bool { return x.ID == p.id })
			switch {
			case d.now >= p.end:
			case named && c.Kind == history.KindReturn:
			case named && c.Kind == history.KindRevoke && c.Borrow != nil && c.Borrow.AtOnce:
			default:
				j.guilty("entry %d: the seat of lease %d, borrowed by %s, comes free by %s %s before its end", d.at.Index, p.id, p.user, c.Kind, seconds(p.end-d.now))
			}
		},
		after: func(c *history.Command) { // the end of what is borrowed never comes nearer
			if c.Kind == history.KindRevoke && c.Result.Reason == "" && len(c.Refs) == 1 && (c.Borrow == nil || !c.Borrow.AtOnce) {
				j.judged++
				if d.leases[c.Refs[0].ID] == nil {
					j.guilty("entry %d: lease %d was revoked, and is not in quarantine", d.at.Index, c.Refs[0].ID)
				}
			}
		},
	})
	d.walk(r, j)
	return j.done("%d borrowed seats came free", lent)
}

// noSeat are the refusals that say that there is no seat.
var noSeat = []string{"no_seats", string(history.Queued), "reserved_for_others", "booking_unknown"}

// CheckBooked is R4: a booking that was acknowledged is honoured. In the log: whoever names
// it within its time and asks for no more than is left of it is not told that there is no
// seat. For the clients: neither is the first to use it, from the acknowledgement on until
// as much real time has passed since it was first asked for.
func CheckBooked(r *Run) Verdict {
	j := newJury("R4", "bookings are honoured")
	var d *desk
	d = newDesk(r, hooks{ask: func(c *history.Command) {
		x := d.jobs[c.Booking]
		if c.Kind != history.KindCheckout || x == nil || x.until <= d.now || x.user != "" && x.user != d.user[c.Session] || c.Result.Replayed {
			return
		}
		for _, it := range c.Items {
			if it.Count > x.count[it.Feature]-x.used[it.Feature] || d.holds(c.Session, it.Feature) {
				return
			}
		}
		j.judged++
		if slices.Contains(noSeat, c.Result.Reason) {
			j.guilty("entry %d: %s asks for %v of booking %s, which keeps %v of which %v are used, and is refused: %s", d.at.Index, d.user[c.Session], c.Items,
				x.id, x.count, x.used, c.Result.Reason)
		}
	}})
	d.walk(r, j)
	told := r.bookedAnswered(j)
	return j.done("%d uses in the log, %d answers", j.judged-told, told)
}

// bookedAnswered judges by what clients saw.
func (r *Run) bookedAnswered(j *jury) (n int) {
	type job struct{ asked, acked, until, cancelled int64 }
	jobs := map[string]*job{}
	used := map[string]bool{}
	for _, p := range r.Pairs { // ascending by invocation
		switch v := p.Invoke.Value.(type) {
		case *history.Book:
			x := jobs[v.ID]
			if x == nil {
				x = &job{asked: p.Invoke.Time, acked: math.MaxInt64, cancelled: math.MaxInt64}
				jobs[v.ID] = x
			}
			switch {
			case p.Invoke.F == history.FCancel:
				x.cancelled = min(x.cancelled, p.Invoke.Time)
			case p.OK() && history.ResultOf(p.Done.Value) == history.Done && x.acked == math.MaxInt64:
				x.acked, x.until = p.Done.Time, x.asked+v.ForMS*1e6
			}
		case *history.Checkout:
			x := jobs[v.Booking]
			if x == nil || p.Failed() {
				continue
			}
			first := !used[v.Booking]
			used[v.Booking] = true
			if !first || !p.OK() || p.Invoke.Time < x.acked || p.Done.Time > min(x.until, x.cancelled) || r.clockBroken(x.asked, p.Done.Time) {
				continue
			}
			n++
			j.judged++
			if result := history.ResultOf(p.Done.Value); slices.Contains(noSeat, string(result)) {
				j.guilty("operation %d: %s is refused (%s) what booking %s keeps for it, %s before its end", p.Done.Index, p.Invoke.Client, result, v.Booking,
					seconds(x.until-p.Done.Time))
			}
		}
	}
	return n
}

// CheckPolicy is R5: no grant breaks a rule that is in force at its entry: who is excluded
// gets nothing, and a cap is never exceeded, unless the seat is reserved for its holder.
func CheckPolicy(r *Run) Verdict {
	j := newJury("R5", "policy in force is obeyed")
	capped := 0
	var d *desk
	d = newDesk(r, hooks{granted: func(p *paper, _ *history.Command, _ int) {
		if d.policy == nil {
			return
		}
		j.judged++
		if d.named("exclude", p.feature, p.user) {
			j.guilty("entry %d: %s is granted %s (lease %d), and is excluded", d.at.Index, p.user, p.feature, p.id)
		}
		if d.named("reserve", p.feature, p.user) {
			return // a seat that is reserved for it neither cap nor list stops
		}
		if len(rules(d.policy, "include", p.feature)) > 0 && !d.named("include", p.feature, p.user) {
			j.guilty("entry %d: %s is granted %s (lease %d), which is for others only", d.at.Index, p.user, p.feature, p.id)
		}
		for _, x := range rules(d.policy, "max", p.feature) {
			if !means(d.policy, x, p.user) {
				continue
			}
			capped++
			if n := d.held(x, p.feature); n > x.Seats {
				j.guilty("entry %d: with lease %d of %s, %s %s holds %d seats of %s, at most %d may be", d.at.Index, p.id, p.user, x.WhoType, x.Who, n, p.feature, x.Seats)
			}
		}
	}})
	d.walk(r, j)
	if capped == 0 {
		j.missing("nobody was granted a seat under a cap")
	}
	return j.done("%d grants under a policy, %d of them under a cap", j.judged, capped)
}
