package checker

import (
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// bookingLate is how much cluster time after its end a booking may still keep its seats: the
// leader looks every tick, and a new one needs its time.
const bookingLate = int64(6e9)

// CheckQueue is R2: nothing of a pool overtakes an older request of at least its priority
// where that could delay it, and nobody waits for what is there. In the log: after a grant
// or booking the seats that are free and kept for nobody suffice for all that wait before
// it; and no command leaves somebody waiting who could be served beside all who are ahead.
// For the clients: nobody who asked after another was told to wait is served, and answered,
// while that one still waits.
//
// Left out: those whom a cap may hold up, who claim nothing then; seats of reservations and
// bookings, which those who wait could not have; and several items in one request.
func CheckQueue(r *Run) Verdict {
	j := newJury("R2", "the queue is fair")
	grants := 0
	var d *desk
	// claimed is what those want who are ahead of somebody.
	claimed := func(feature string, before func(x *place) bool) (n int) {
		for _, x := range d.line() {
			if before(x) && !d.over(x) && !d.everNamed("max", feature, x.user) && !d.everNamed("include", feature, x.user) && x.booking == "" {
				n += d.wants(x, feature)
			}
		}
		return n
	}
	loose := func(feature string, late int64) int {
		return d.pools[feature].Total - d.charged(feature) - d.kept(feature, late) - d.unfilled(feature)
	}
	judge := func(what, feature string, before func(x *place) bool) {
		if d.pools[feature] == nil {
			return
		}
		grants++
		n := claimed(feature, before)
		if n == 0 {
			return
		}
		j.judged++
		if free := loose(feature, 0); free < n {
			j.guilty("entry %d: %s gets %s; those before it wait for %d seats, %d are free", d.at.Index, what, feature, n, max(free, 0))
		}
	}
	newcomer := func(user string) func(x *place) bool {
		own := priority(d.policy, user)
		return func(x *place) bool { return x.priority >= own }
	}
	d = newDesk(r, hooks{
		queued: func(x *place) {
			if want := priority(d.policy, x.user); x.priority != want {
				j.guilty("entry %d: %s waits with priority %d, its groups say %d", d.at.Index, x.user, x.priority, want)
			}
		},
		granted: func(p *paper, _ *history.Command, _ int) {
			if p.booked > 0 || d.named("reserve", p.feature, p.user) {
				return // it has what was kept for it
			}
			ahead := newcomer(p.user)
			if own := p.place; own != nil {
				ahead = func(x *place) bool {
					return x.priority > own.priority || x.priority == own.priority && x.ticket < own.ticket
				}
			}
			judge(p.user, p.feature, ahead)
		},
		booked: func(x *deskJob, feature string, _ int) { judge("booking "+x.id, feature, newcomer(x.user)) },
		after: func(*history.Command) {
			line := d.line()
			if len(line) == 0 {
				return
			}
			for feature := range d.pools {
				left := loose(feature, bookingLate)
				for _, x := range line {
					n := d.wants(x, feature)
					if n > 0 && n <= left && len(x.items) == 1 && x.booking == "" && d.mayHave(x, feature) {
						j.guilty("entry %d: %s waits (ticket %d) for %d seats of %s, and %d are free beside those ahead", d.at.Index, x.user, x.ticket, n, feature, left)
					}
					left -= n
				}
			}
			j.judged++
		},
	})
	d.walk(r, j)
	seen := r.overtaken(d, j)
	return j.done("%d grants and bookings in the log, %d waits seen by clients", grants, seen)
}

// mayHave says that nothing but a lack of seats can keep one who waits from a feature.
func (d *desk) mayHave(x *place, feature string) bool {
	return !d.over(x) && !d.everNamed("max", feature, x.user) && !d.everNamed("include", feature, x.user) && !d.named("exclude", feature, x.user)
}

// vigil is what a client saw of one wait: it was told to wait, and told so again and again.
type vigil struct {
	client, feature string
	told            int64 // when it was first told
	asked           int64 // when it asked the last time that it was told so
	last            *history.Op
}

// had notes leases as shown, and says whether all of them were before.
func had(shown map[history.Ref]bool, leases []history.Lease) bool {
	all := len(leases) > 0
	for _, x := range leases {
		k := history.Ref{ID: x.ID, Token: x.Token}
		all = all && shown[k]
		shown[k] = true
	}
	return all
}

// taking is when an operator asked for the end of a lease of a session; empty: of any.
type taking struct {
	at      int64
	session string
}

type takings []taking

// takings collects the kills that took something, or may have. Whose lease one without an
// answer named may stand in a listing.
func (r *Run) takings() (list takings) {
	owner := map[uint64]string{}
	for _, p := range r.Pairs {
		if p.Invoke.F != history.FLeases || !p.OK() {
			continue
		}
		for _, x := range p.Done.Value.(*history.Leases).Leases {
			owner[x.ID] = x.Session
		}
	}
	for _, p := range r.Pairs {
		asked, ok := p.Invoke.Value.(*history.Kill)
		if !ok || p.Failed() {
			continue
		}
		if p.OK() {
			for _, x := range p.Done.Value.(*history.Kill).Killed {
				list = append(list, taking{p.Invoke.Time, x.Session})
			}
			continue
		}
		for _, id := range asked.IDs {
			list = append(list, taking{p.Invoke.Time, owner[id]})
		}
		if len(asked.IDs) == 0 {
			list = append(list, taking{p.Invoke.Time, asked.Session})
		}
	}
	return list
}

// from says whether something of a session may have been taken that it got after one time
// and missed before another.
func (list takings) from(session string, after, before int64) bool {
	return slices.ContainsFunc(list, func(x taking) bool {
		return (x.session == "" || x.session == session) && x.at >= after && x.at <= before
	})
}

// overtaken judges by what clients saw.
func (r *Run) overtaken(d *desk, j *jury) int {
	type wish struct{ client, request string }
	open := map[wish]*vigil{}
	// A session that asks for the same again has the place it had, also for another wish.
	type asker struct {
		client, session, feature string
		count                    int
	}
	first := map[asker]int64{} // when it asked first since it was served
	var vigils []*vigil
	type served struct {
		feature, user string
		asked         int64 // first
		op            *history.Op
	}
	var got []served
	shown := map[history.Ref]bool{} // leases that somebody was told of
	taken := r.takings()
	for _, p := range r.Pairs {
		v, ok := p.Invoke.Value.(*history.Checkout)
		if !ok || p.Failed() || len(v.Items) != 1 || v.Booking != "" {
			continue
		}
		k, feature := wish{p.Invoke.Client, p.Invoke.Request}, v.Items[0].Feature
		who := asker{p.Invoke.Client, p.Invoke.Session, feature, v.Items[0].Count}
		if _, asked := first[who]; !asked {
			first[who] = p.Invoke.Time
		}
		if !p.OK() {
			continue
		}
		answer := p.Done.Value.(*history.Checkout)
		switch x := open[k]; {
		// Whoever asks again for what it holds is shown its lease: nobody is passed by that.
		case answer.Result == history.Granted && had(shown, answer.Leases):
			delete(first, who)
		case answer.Result == history.Granted && !answer.Replayed:
			got = append(got, served{feature, p.Invoke.Client, first[who], p.Done})
			delete(first, who)
		case answer.Result != history.Queued:
			delete(open, k)
		// A place is over when it was served. What it got ends after one lifespan if its client,
		// cut off, does not hear of it, or an operator took it back before.
		case x != nil && p.Done.Time-x.asked < d.pools[feature].LifespanNS && !taken.from(p.Invoke.Session, x.asked, p.Done.Time):
			x.asked, x.last = p.Invoke.Time, p.Done
		default:
			x = &vigil{client: p.Invoke.Client, feature: feature, told: p.Done.Time, asked: p.Invoke.Time, last: p.Done}
			open[k] = x
			vigils = append(vigils, x)
		}
	}
	for _, b := range got {
		_, most := d.priorities(b.user)
		if d.everNamed("reserve", b.feature, b.user) {
			continue
		}
		for _, a := range vigils {
			least, _ := d.priorities(a.client)
			if a.feature != b.feature || a.told >= b.asked || a.asked <= b.op.Time || least < most || a.client == b.user ||
				d.everNamed("max", a.feature, a.client) || d.everNamed("include", a.feature, a.client) || d.everNamed("exclude", a.feature, a.client) || r.clockBroken(a.told, a.last.Time) {
				continue
			}
			j.guilty("operation %d: %s, which asked at %s, is served %s; %s waits for it since %s and was told to wait on at operation %d", b.op.Index, b.user, seconds(b.asked),
				b.feature, a.client, seconds(a.told), a.last.Index)
		}
	}
	j.judged += len(vigils)
	return len(vigils)
}
