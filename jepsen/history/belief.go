package history

import (
	"cmp"
	"slices"
)

// Belief is one unbroken time in which one client believed that it held one lease.
type Belief struct {
	Client  string // Op.Client
	Session string
	Lease   Lease // as last confirmed
	// From is when the first answer had arrived; To is the earliest of: release about to
	// be sent, client said lost, client's deadline.
	From, To int64
	// Op is the line of the first Believe; Cause is why it ended; empty: the deadline.
	Op    int64
	Cause string
}

type believer struct {
	client, session string
	id              uint64
}

// Beliefs makes the intervals out of the observer's facts, ordered by From. Whoever is
// not told of an end believes to its deadline.
func Beliefs(ops []Op) []Belief {
	var out []Belief
	open := map[believer]int{}
	for i := range ops {
		op := &ops[i]
		switch v := op.Value.(type) {
		case *Believe:
			k := believer{op.Client, op.Session, v.Lease.ID}
			if at, ok := open[k]; ok && v.At < out[at].To {
				out[at].To = max(out[at].To, v.Until)
				out[at].Lease = v.Lease
				continue
			}
			if v.Until <= v.At {
				continue // confirmed too late to be believed
			}
			open[k] = len(out)
			out = append(out, Belief{Client: op.Client, Session: op.Session, Lease: v.Lease, From: v.At, To: v.Until, Op: op.Index})
		case *Lost:
			k := believer{op.Client, op.Session, v.ID}
			if at, ok := open[k]; ok {
				if v.At < out[at].To {
					out[at].To, out[at].Cause = max(v.At, out[at].From), v.Cause
				}
				delete(open, k)
			}
		}
	}
	out = slices.DeleteFunc(out, func(b Belief) bool { return b.To <= b.From })
	slices.SortStableFunc(out, func(a, b Belief) int { return cmp.Compare(a.From, b.From) })
	return out
}
