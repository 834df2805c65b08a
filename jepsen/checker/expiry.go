package checker

import (
	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// missed is the release reason of a lease that nobody renewed.
const missed = "missed_heartbeat"

// rounding is what milliseconds in answers and two readings of clocks may be off.
const rounding = int64(3e6)

// CheckExpiry is C10: no lease is reclaimed early. In the log: not before its session's
// last renewal plus lifespan and grace, in cluster time, and (from when that renewal was
// asked to when somebody had an answer that came after) in real time. In the answers:
// nobody is told "missed heartbeat" before what an answer promised has passed.
func CheckExpiry(r *Run) Verdict {
	j := newJury("C10", "no lease ends early")
	inLog := r.expiryInLog(j)
	told := r.expiryTold(j)
	return j.done("%d leases reclaimed in the log, %d told as lost", inLog, told)
}

// watched is a lease as C10 follows it.
type watched struct {
	session     string
	life, grace int64
}

type renewal struct {
	now   int64
	index uint64
}

func (r *Run) expiryInLog(j *jury) int {
	leases := map[uint64]watched{}
	renewed := map[string]renewal{}
	n := 0
	judge := func(e *history.Entry, id uint64, renewed map[string]renewal) {
		x, ok := leases[id]
		if !ok {
			return
		}
		delete(leases, id)
		n++
		j.judged++
		last := renewed[x.session]
		if e.NowNS < last.now+x.life+x.grace {
			j.guilty("entry %d: lease %d is reclaimed %s early in cluster time", e.Index, id, seconds(last.now+x.life+x.grace-e.NowNS))
			return
		}
		after, by := r.appliedAfter(last.index), r.appliedBy(e.Index)
		if by-after < x.life+x.grace-rounding && !r.clockBroken(after, by) {
			j.guilty("entry %d: lease %d is reclaimed at most %s after it was renewed; it was promised %s", e.Index, id, seconds(by-after), seconds(x.life+x.grace))
		}
	}
	for _, e := range r.log.Entries {
		// What was reclaimed in passing may have gone before the entry renewed its session;
		// not if that renewal still showed it.
		before, shown := map[string]renewal{}, map[uint64]bool{}
		renew := func(session string) {
			if _, again := before[session]; !again {
				before[session] = renewed[session]
			}
			renewed[session] = renewal{e.NowNS, e.Index}
		}
		for i := range e.Commands {
			c := &e.Commands[i]
			if c.Result.Reason != "" || e.Stale {
				continue
			}
			switch c.Kind {
			case history.KindCheckout:
				if !c.Result.Replayed {
					renew(c.Session)
				}
				for _, x := range c.Result.Leases {
					shown[x.ID] = true
					if _, known := leases[x.ID]; !known && !c.Result.Replayed {
						grace := x.GraceNS
						if p := r.pool(x.Feature, x.Version); p != nil {
							grace = p.GraceNS
						}
						leases[x.ID] = watched{c.Session, x.DeadlineNS - e.NowNS, grace}
					}
				}
			case history.KindRenew:
				renew(c.Session)
				for _, x := range c.Result.Leases {
					shown[x.ID] = true
				}
			case history.KindRenewMany:
				for _, x := range c.Renewals {
					if x.Reason == "" {
						renew(x.Session)
					}
				}
			case history.KindExpire:
				judge(e, c.ID, renewed)
			}
		}
		for _, x := range r.log.ended[e.Index] {
			if x.Reason == missed {
				last := renewed
				if _, twice := before[leases[x.ID].session]; twice && !shown[x.ID] {
					last = before
				}
				judge(e, x.ID, last)
			}
			delete(leases, x.ID)
		}
	}
	return n
}

// expiryTold compares what clients were told with what they had been promised.
func (r *Run) expiryTold(j *jury) int {
	promised := map[uint64]int64{}
	for _, p := range r.Pairs {
		if !p.OK() {
			continue
		}
		for _, x := range leasesIn(p.Done) {
			if x.RemainingMS > 0 {
				promised[x.ID] = max(promised[x.ID], p.Invoke.Time+(x.RemainingMS+x.GraceMS)*1e6)
			}
		}
	}
	n := 0
	for _, p := range r.Pairs {
		if !p.OK() {
			continue
		}
		v, ok := p.Done.Value.(*history.Renew)
		if !ok {
			continue
		}
		for _, x := range v.Lost {
			if x.Reason != missed || promised[x.ID] == 0 {
				continue
			}
			n++
			j.judged++
			if early := promised[x.ID] - rounding - p.Done.Time; early > 0 && !r.clockBroken(p.Invoke.Time, p.Done.Time) {
				j.guilty("operation %d: lease %d is told as lost by a missed heartbeat %s before its time", p.Done.Index, x.ID, seconds(early))
			}
		}
	}
	return n
}
