package checker

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// CheckOnce is C6: a request takes its seats once. Linearizability cannot see a second
// seat after a reconnect, because two grants to two strangers are a legal history; who
// asked, and how often, has to be counted. In the log: one effect for each session,
// incarnation and number; one lease per session and pool, of the size that was asked;
// and for each logical client (which signs as the session's instance) no more grants
// than it ever asked for. In the answers: one lease per request, and another one only if
// the first had ended when the client came back as a new run and asked again.
func CheckOnce(r *Run) Verdict {
	j := newJury("C6", "a request takes its seats once")
	again := r.onceAnswered(j)
	grants := r.onceInLog(j, again)
	return j.done("%d grants counted against who asked for them", grants)
}

// holder is one session in one pool.
type holder struct{ session, feature, version string }

type numbered struct {
	session          string
	incarnation, seq uint64
}

// perClient is a logical client and a feature.
type perClient struct{ client, feature string }

func (r *Run) onceInLog(j *jury, again map[perClient]int) int {
	effects := map[numbered]uint64{}
	held := map[holder]uint64{}
	where := map[uint64]holder{}
	granted := map[perClient]int{}
	wishes, got := r.wishes(), map[perWish]uint64{}
	total := 0
	for _, e := range r.log.Entries {
		release(r.log.ended[e.Index], held, where) // what was reclaimed went first
		for i := range e.Commands {
			c := &e.Commands[i]
			if c.Kind == history.KindCheckout && c.Result.Reason == "" && !e.Stale {
				fresh := 0
				for n, x := range c.Result.Leases {
					if _, known := where[x.ID]; known {
						continue
					}
					fresh++
					h := holder{c.Session, x.Feature, x.Version}
					if other, ok := held[h]; ok {
						j.guilty("entry %d: session %s gets lease %d of %s and holds lease %d of it", e.Index, c.Session, x.ID, x.Feature, other)
					}
					if n < len(c.Items) && (x.Count != c.Items[n].Count || len(x.Seats) != c.Items[n].Count) {
						j.guilty("entry %d: session %s asked for %d of %s and got %d", e.Index, c.Session, c.Items[n].Count, x.Feature, max(x.Count, len(x.Seats)))
					}
					held[h], where[x.ID] = x.ID, h
					if w, ok := wishes[numbered{c.Session, c.Incarnation, c.Seq}]; ok {
						w.feature = x.Feature
						if other := got[w]; other != 0 && held[where[other]] == other {
							j.guilty("entry %d: request %s of client %s gets lease %d of %s and has got lease %d, which lasts", e.Index, w.request, w.client, x.ID, x.Feature, other)
						}
						got[w] = x.ID
					}
					if k := (perClient{c.InstanceID, x.Feature}); !r.log.undone(e.Index, math.MaxUint64) {
						granted[k]++ // what a restore took back may be asked for again
					}
				}
				total += fresh
				j.judged++
				if k := (numbered{c.Session, c.Incarnation, c.Seq}); c.Seq != 0 && fresh > 0 {
					if at, twice := effects[k]; twice && !r.log.undone(at, e.Index) {
						j.guilty("entry %d: request %d of session %s takes seats again; it did at entry %d", e.Index, c.Seq, c.Session, at)
					}
					effects[k] = e.Index
				}
			}
			release(c.Result.Released, held, where)
		}
		release(r.log.ended[e.Index], held, where)
	}
	r.perClient(j, granted, again)
	return total
}

// perWish is what a logical client wants of a feature, however it asks for it.
type perWish struct{ client, request, feature string }

// wishes says which request of which client a numbered command of a session was.
func (r *Run) wishes() map[numbered]perWish {
	list := map[numbered]perWish{}
	for _, p := range r.Pairs {
		if op := p.Invoke; op.F == history.FCheckout && op.Session != "" && op.Seq != 0 && op.Request != "" {
			list[numbered{op.Session, op.Incarnation, op.Seq}] = perWish{client: op.Client, request: op.Request}
		}
	}
	return list
}

func release(list []history.AuditEnded, held map[holder]uint64, where map[uint64]holder) {
	for _, x := range list {
		if h, ok := where[x.ID]; ok && held[h] == x.ID {
			delete(held, h)
		}
	}
}

// perClient compares the grants to each client with what it can have been granted: one
// for each request that was not certainly refused, and those of again.
func (r *Run) perClient(j *jury, granted, again map[perClient]int) {
	asked := map[perClient]map[string]bool{}
	refused := map[perClient]map[string]bool{} // every answer so far was a refusal
	for _, p := range r.Pairs {
		v, ok := p.Invoke.Value.(*history.Checkout)
		if !ok || p.Invoke.Client == "" {
			continue
		}
		request := p.Invoke.Request
		if request == "" {
			request = fmt.Sprint("operation ", p.Invoke.Index)
		}
		for _, it := range v.Items {
			k := perClient{p.Invoke.Client, it.Feature}
			if asked[k] == nil {
				asked[k], refused[k] = map[string]bool{}, map[string]bool{}
			}
			if p.Failed() || p.OK() && neverGranted(history.ResultOf(p.Done.Value)) {
				refused[k][request] = true
				continue
			}
			asked[k][request] = true
		}
	}
	var keys []perClient
	for k := range granted {
		if asked[k] != nil || refused[k] != nil {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b perClient) int {
		return cmp.Or(cmp.Compare(a.client, b.client), cmp.Compare(a.feature, b.feature))
	})
	for _, k := range keys {
		if n, most := granted[k], len(asked[k])+again[k]; n > most {
			j.guilty("client %s was granted %s %d times; it asked %d times", k.client, k.feature, n, most)
		}
	}
}

// neverGranted says whether an answer means that its request took nothing. "Fenced" does
// not: it is also the answer to a grant that was not heard of and has ended since.
func neverGranted(r history.Result) bool { return r.Refused() && r != history.Fenced }

// onceAnswered: the answers to one request name one lease for each feature. again counts
// the second leases of requests whose first one had ended.
func (r *Run) onceAnswered(j *jury) (again map[perClient]int) {
	again = map[perClient]int{}
	ended := map[uint64]uint64{} // lease to the entry in which it ended
	for index, list := range r.log.ended {
		for _, x := range list {
			if x.Reason != "normal" { // after a check-in it has no reason to ask for the same
				ended[x.ID] = index
			}
		}
	}
	type wish struct{ client, request, feature, version string }
	first := map[wish]history.Lease{}
	for _, p := range r.Pairs {
		if !p.OK() || p.Invoke.Request == "" {
			continue
		}
		v, ok := p.Done.Value.(*history.Checkout)
		if !ok {
			continue
		}
		asked := 0
		for _, it := range v.Items {
			asked += it.Count
		}
		got := 0
		for _, x := range v.Leases {
			j.judged++
			got += max(x.Count, len(x.Seats))
			k := wish{p.Invoke.Client, p.Invoke.Request, x.Feature, x.Version}
			old, ok := first[k]
			switch end := ended[old.ID]; {
			case !ok || old.ID == x.ID:
			case end != 0 && end <= p.Done.RaftIndex: // killed, say, while the client was away
				again[perClient{p.Invoke.Client, x.Feature}]++
			default:
				j.guilty("operation %d: request %s of %s got lease %d of %s, it had got lease %d", p.Done.Index, p.Invoke.Request, p.Invoke.Client, x.ID, x.Feature, old.ID)
			}
			first[k] = x
		}
		if got > asked {
			j.guilty("operation %d: %s asked for %d seats and got %d", p.Done.Index, p.Invoke.Client, asked, got)
		}
	}
	return again
}
