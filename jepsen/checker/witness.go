package checker

import (
	"fmt"
	"math"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
	"github.com/seatkeeper/seatkeeper/jepsen/model"
)

// CheckWitness is C1. The log is a witness: an order in which all that was answered is
// said to have happened. Three things must hold: the order agrees with real time; each
// answer is the one that stands in the log; and an independent model that carries out
// the log comes to the same answers.
func CheckWitness(r *Run) Verdict {
	j := newJury("C1", "the log explains every answer")
	r.realTimeOrder(j)
	matched := 0
	for _, a := range r.acks {
		if a.read {
			continue
		}
		e := r.log.at[a.index]
		if e == nil || a.pair.Done.Term != 0 && e.Term != a.pair.Done.Term {
			continue // C8 says so
		}
		j.judged++
		matched++
		if why := sameAnswer(a.pair, e); why != "" {
			j.guilty("operation %d (%s, %s): %s", a.pair.Done.Index, a.pair.Done.F, a.pair.Done.Client, why)
		}
	}
	if !r.log.Whole {
		j.missing("the log cannot be replayed: %s", r.log.Why)
		return j.done("%d answers compared with the log", matched)
	}
	if r.Ruled { // its model knows no such rules: R1 to R5 carry out the log
		return j.done("%d answers compared with the log", matched)
	}
	entries, reads := r.replay(j)
	return j.done("%d entries replayed, %d answers and %d reads compared", entries, matched, reads)
}

// realTimeOrder: what was answered before something else was asked stands before it.
func (r *Run) realTimeOrder(j *jury) {
	type last struct {
		done int64
		op   *history.Op
	}
	higher := last{math.MaxInt64, nil} // earliest answer among higher indexes
	pending := higher                  // the same, with those of the index at hand
	var index uint64
	for i := len(r.acks) - 1; i >= 0; i-- {
		a := r.acks[i]
		if a.read {
			continue
		}
		if a.index != index {
			index, higher = a.index, pending
		}
		if higher.done < a.pair.Invoke.Time {
			j.guilty("operation %d stands at %d in the log, before operation %d (%d), which was answered before the first was asked",
				a.pair.Done.Index, a.index, higher.op.Index, higher.op.RaftIndex)
		}
		if t := a.pair.Done.Time; t < pending.done {
			pending = last{t, a.pair.Done}
		}
	}
}

// sameAnswer looks for the command in the entry that the answer tells of.
func sameAnswer(p history.Pair, e *history.Entry) string {
	why := "the entry has no such command"
	for i := range e.Commands {
		c := &e.Commands[i]
		if !meant(p, c) {
			continue
		}
		if why = differs(p.Done, c); why == "" {
			return ""
		}
	}
	if e.Stale {
		why = "the entry was stale and changed nothing"
	}
	return fmt.Sprintf("entry %d: %s", e.Index, why)
}

// kinds are the command kinds that operations become.
var kinds = map[history.F]string{
	history.FCheckout: history.KindCheckout, history.FRenew: history.KindRenew,
	history.FCheckin: history.KindCheckin, history.FKill: history.KindKill,
	history.FLeave: history.KindLeave, history.FBook: history.KindBook, history.FCancel: history.KindCancel,
	history.FBorrow: history.KindBorrow, history.FReturn: history.KindReturn, history.FRevoke: history.KindRevoke,
	history.FPolicy: history.KindPolicy,
}

// meant says whether the command can be that of the operation.
func meant(p history.Pair, c *history.Command) bool {
	if p.Invoke.F == history.FLicence {
		v, ok := p.Done.Value.(*history.Licence)
		return ok && (v.Remove && c.Kind == history.KindRemove && c.LicenceID == v.ID ||
			!v.Remove && c.Kind == history.KindInstall && c.Licence != nil && c.Licence.ID == v.ID)
	}
	op := p.Done
	return c.Kind == kinds[op.F] && (op.Session == "" || op.F == history.FKill || op.Session == c.Session) &&
		(op.Seq == 0 || op.Seq == c.Seq) && (op.Incarnation == 0 || c.Incarnation == 0 || op.Incarnation == c.Incarnation)
}

// differs compares an answer with the result in the log.
func differs(op *history.Op, c *history.Command) string {
	result := history.ResultOf(op.Value)
	if reason := c.Result.Reason; result.Refused() && string(result) != reason || !result.Refused() && reason != "" {
		return fmt.Sprintf("answered %s, the log says %q", result, reason)
	}
	switch v := op.Value.(type) {
	case *history.Checkout:
		if !result.Refused() && v.Replayed != c.Result.Replayed {
			return fmt.Sprintf("answered as a repetition: %t, the log says %t", v.Replayed, c.Result.Replayed)
		}
		return sameLeases(v.Leases, c.Result.Leases)
	case *history.Renew:
		return sameLeases(v.Leases, c.Result.Leases)
	case *history.Checkin:
		if !result.Refused() && v.Replayed != c.Result.Replayed {
			return fmt.Sprintf("answered as a repetition: %t, the log says %t", v.Replayed, c.Result.Replayed)
		}
		return sameEnded(ids(v.Released), c.Result.Released)
	case *history.Kill:
		var killed []uint64
		for _, x := range v.Killed {
			killed = append(killed, x.ID)
		}
		return sameEnded(killed, c.Result.Released)
	case *history.Borrow:
		return sameLeases(v.Leases, c.Result.Leases)
	case *history.Leave:
		return sameEnded(ids(v.Released), c.Result.Released)
	case *history.Return:
		return sameEnded(ids(v.Released), c.Result.Released)
	}
	return ""
}

func ids(list []history.Ended) []uint64 {
	var out []uint64
	for _, x := range list {
		out = append(out, x.ID)
	}
	return out
}

func sameLeases(said []history.Lease, logged []history.AuditLease) string {
	if len(said) != len(logged) {
		return fmt.Sprintf("%d leases answered, the log has %d", len(said), len(logged))
	}
	for _, x := range said {
		at := slices.IndexFunc(logged, func(y history.AuditLease) bool { return y.ID == x.ID })
		if at < 0 {
			return fmt.Sprintf("lease %d answered, the log does not have it", x.ID)
		}
		if y := &logged[at]; x.Token != y.Token || !slices.Equal(x.Seats, y.Seats) {
			return fmt.Sprintf("lease %d answered with token %d and seats %v, the log has %d and %v", x.ID, x.Token, x.Seats, y.Token, y.Seats)
		}
	}
	return ""
}

func sameEnded(said []uint64, logged []history.AuditEnded) string {
	if len(said) != len(logged) {
		return fmt.Sprintf("%d leases answered as ended, the log has %d", len(said), len(logged))
	}
	for _, id := range said {
		if !slices.ContainsFunc(logged, func(y history.AuditEnded) bool { return y.ID == id }) {
			return fmt.Sprintf("lease %d answered as ended, the log does not have it", id)
		}
	}
	return ""
}

// replay carries out the log in the model and compares the reads on the way.
func (r *Run) replay(j *jury) (entries, reads int) {
	house := model.New()
	next := 0
	compare := func(below uint64) {
		for ; next < len(r.acks) && r.acks[next].index < below; next++ {
			if a := r.acks[next]; a.read && len(r.log.Entries) > 0 && a.index >= r.log.Entries[0].Index {
				reads++
				if why := readDiffers(house, a.pair.Done); why != "" {
					j.guilty("operation %d (%s at %d): %s", a.pair.Done.Index, a.pair.Done.F, a.index, why)
				}
			}
		}
	}
	for _, e := range r.log.Entries {
		compare(e.Index)
		entries++
		j.judged++
		for _, p := range house.Apply(e) {
			j.guilty("%s", p)
		}
	}
	compare(math.MaxUint64)
	return entries, reads
}

// readDiffers compares a read with the model as it stands.
func readDiffers(h *model.House, op *history.Op) string {
	switch v := op.Value.(type) {
	case *history.Status:
		pools := h.Pools()
		for _, p := range v.Pools {
			tenant := p.Tenant
			if tenant == "" {
				tenant = "default"
			}
			if u := pools[[3]string{tenant, p.Feature, p.Version}]; u.Taken != p.InUse || u.Licensed != p.Total {
				return fmt.Sprintf("pool %s: %d of %d in use, must be %d of %d", p.Feature, p.InUse, p.Total, u.Taken, u.Licensed)
			}
		}
	case *history.Verify:
		if live := h.Live(v.ID, v.Token); v.Result == history.Done && live != v.Valid {
			return fmt.Sprintf("lease %d with token %d: valid is %t, must be %t", v.ID, v.Token, v.Valid, live)
		}
	case *history.Leases:
		if v.Result != history.Done || !v.Complete {
			return ""
		}
		var got []uint64
		for _, x := range v.Leases {
			got = append(got, x.ID)
		}
		slices.Sort(got)
		if want := h.LeaseIDs(v.Feature); !slices.Equal(got, want) {
			return fmt.Sprintf("lists the leases %v, must be %v", got, want)
		}
	}
	return ""
}
