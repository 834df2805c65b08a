package checker

import (
	"fmt"
	"slices"

	"github.com/seatkeeper/seatkeeper/jepsen/history"
)

// miniClient is one worker: it takes a seat, renews it, writes with its token, gives it
// back; sometimes it crashes and starts anew.
type miniClient struct {
	m                   *mini
	name, user, feature string
	process             history.Process
	session             string
	runs                int
	requests            int
	seq                 uint64
	beats               int
	held                *history.Lease
	believed            []uint64 // leases
	// loses is how many of its checkouts are carried out and not answered.
	loses int
}

// call plays one operation: the request is carried out a little after it was sent, and
// answered a little later; while the leader is down it is lost, or its answer is.
func (c *miniClient) call(t int64, op history.Op, carry func(t int64, done *history.Op) (ok bool), then func(t int64, done *history.Op)) {
	m := c.m
	op.Process, op.Type, op.Client, op.Node = c.process, history.Invoke, c.name, "n1"
	m.note(op, t)
	done := op
	done.Type = history.OK
	travel := func() int64 { return int64(m.rnd.IntN(30)+1) * 1e6 }
	lost := t > 39*sec && t < 42*sec && m.rnd.IntN(2) == 0
	if c.loses > 0 && op.F == history.FCheckout {
		c.loses, lost = c.loses-1, true
	}
	m.at(t+travel(), func(at int64) {
		if at < m.downUntil {
			m.at(t+3*sec, func(at int64) { c.gaveUp(at, done, then) })
			return
		}
		if !carry(at, &done) {
			return
		}
		done.Term = m.term
		if lost {
			m.at(t+3*sec, func(at int64) { c.gaveUp(at, done, then) })
			return
		}
		m.at(at+travel(), func(at int64) { m.note(done, at); then(at, &done) })
	})
}

// gaveUp ends an operation that was not answered: nobody knows, and the process is over.
func (c *miniClient) gaveUp(t int64, done history.Op, then func(t int64, done *history.Op)) {
	done.Type, done.RaftIndex, done.Term, done.Error = history.Info, 0, 0, "timeout"
	switch v := done.Value.(type) {
	case *history.Checkout:
		done.Value = &history.Checkout{Items: v.Items, User: v.User, Host: v.Host}
	case *history.Renew:
		done.Value = &history.Renew{}
	case *history.Checkin:
		done.Value = &history.Checkin{Close: v.Close}
	case *history.Kill:
		done.Value = &history.Kill{IDs: v.IDs}
	case *history.Status:
		done.Value = &history.Status{}
	case *history.Verify:
		done.Value = &history.Verify{ID: v.ID, Token: v.Token}
	}
	c.m.note(done, t)
	c.process = c.m.fresh()
	then(t, nil)
}

func (c *miniClient) begin(t int64) {
	if t > 70*sec {
		return
	}
	c.runs++
	c.requests++
	c.session = fmt.Sprintf("%s-%d", c.name, c.runs)
	c.seq, c.beats, c.held = 1, 3+c.m.rnd.IntN(4), nil
	c.checkout(t)
}

func (c *miniClient) checkout(t int64) {
	session, request := c.session, fmt.Sprint(c.name, "-r", c.requests)
	seq := c.seq
	count := 1
	ask := &history.Checkout{Items: []history.Item{{Feature: c.feature, Count: count}}, User: c.user, Host: "h"}
	op := history.Op{F: history.FCheckout, Value: ask, Session: session, Seq: seq, Incarnation: 1, Request: request}
	c.call(t, op, func(at int64, done *history.Op) bool {
		e := c.m.commit(at, history.Command{Kind: history.KindCheckout, Session: session, Digest: "d", Seq: seq, Incarnation: 1,
			User: c.user, Host: "h", InstanceID: c.name, Items: ask.Items})
		r := e.Commands[0].Result
		v := &history.Checkout{Items: ask.Items, User: c.user, Host: "h", Result: history.Granted, Replayed: r.Replayed}
		if r.Reason != "" {
			v.Result = history.Result(r.Reason)
		}
		v.Leases = c.answer(r.Leases, e.NowNS)
		done.Value, done.RaftIndex = v, e.Index
		return true
	}, func(at int64, done *history.Op) {
		if done == nil { // ask again for the same thing
			if c.m.bugs["new request"] {
				c.runs++
				c.session = fmt.Sprintf("%s-%d", c.name, c.runs)
			}
			c.m.at(at+sec/10, c.checkout)
			return
		}
		v := done.Value.(*history.Checkout)
		if v.Result != history.Granted || len(v.Leases) == 0 {
			c.m.at(at+sec, c.begin)
			return
		}
		c.believe(t, at, v.Leases)
		c.m.at(at+sec, c.renew)
	})
}

func (c *miniClient) answer(leases []history.AuditLease, now int64) (out []history.Lease) {
	for _, x := range leases {
		out = append(out, history.Lease{ID: x.ID, Token: x.Token, Feature: x.Feature, Version: x.Version, Count: x.Count, Seats: x.Seats,
			State: "active", RemainingMS: (x.DeadlineNS - now) / 1e6, GraceMS: x.GraceNS / 1e6})
	}
	return out
}

func (c *miniClient) believe(sent, at int64, leases []history.Lease) {
	for i := range leases {
		x := leases[i]
		x.User, x.Host, x.Session = c.user, "h", c.session
		c.held = &x
		if !slices.Contains(c.believed, x.ID) {
			c.believed = append(c.believed, x.ID)
		}
		until := sent + (x.RemainingMS+x.GraceMS)*1e6*499/500
		if c.m.bugs["late deadline"] {
			until = at + (x.RemainingMS+x.GraceMS)*1e6 + 2*sec
		}
		c.m.fact(at, history.FBelieve, c.name, c.session, &history.Believe{Lease: x, At: at, Until: until})
	}
}

func (c *miniClient) lose(t int64, why string) {
	for _, id := range c.believed {
		c.m.fact(t, history.FLost, c.name, c.session, &history.Lost{ID: id, At: t, Cause: why})
	}
	c.held, c.believed = nil, nil
}

func (c *miniClient) renew(t int64) {
	c.beats--
	crash := c.m.rnd.IntN(12) == 0 && t < 70*sec
	if c.m.bugs["late deadline"] || c.m.bugs["stuck"] || c.m.bugs["fast"] {
		// They show when somebody crashes: all do, when nobody comes any more.
		crash = crash || t > 70*sec && t < 72*sec
	}
	switch {
	case crash:
		if !c.m.bugs["late deadline"] {
			c.lose(t, history.CauseCrashed)
		}
		c.held, c.believed = nil, nil
		c.m.at(t+sec, c.begin)
		return
	case c.beats <= 0 || t > 78*sec:
		c.checkin(t)
		return
	}
	if c.held != nil && c.feature == "cad" {
		c.write(t)
	}
	session := c.session
	c.call(t, history.Op{F: history.FRenew, Value: &history.Renew{}, Session: session, Incarnation: 1}, func(at int64, done *history.Op) bool {
		e := c.m.commit(at, history.Command{Kind: history.KindRenew, Session: session, Digest: "d", Incarnation: 1})
		r := e.Commands[0].Result
		v := &history.Renew{Result: history.Done, Leases: c.answer(r.Leases, e.NowNS)}
		if r.Reason != "" {
			v.Result = history.Result(r.Reason)
		}
		for _, x := range r.Lost {
			v.Lost = append(v.Lost, history.Ended{ID: x.ID, Token: x.Token, Feature: x.Feature, Reason: x.Reason})
		}
		done.Value, done.RaftIndex = v, e.Index
		return true
	}, func(at int64, done *history.Op) {
		if done == nil {
			c.m.at(at+sec/10, c.renew)
			return
		}
		v := done.Value.(*history.Renew)
		if len(v.Leases) == 0 {
			c.lose(at, "lost")
			c.m.at(at+sec/2, c.begin)
			return
		}
		c.believe(t, at, v.Leases)
		c.m.at(at+sec, c.renew)
	})
}

func (c *miniClient) checkin(t int64) {
	c.lose(t, history.CauseReleased)
	session := c.session
	c.seq++
	seq := c.seq
	c.call(t, history.Op{F: history.FCheckin, Value: &history.Checkin{Close: true}, Session: session, Seq: seq, Incarnation: 1}, func(at int64, done *history.Op) bool {
		e := c.m.commit(at, history.Command{Kind: history.KindCheckin, Session: session, Digest: "d", Seq: seq, Incarnation: 1, Close: true})
		r := e.Commands[0].Result
		v := &history.Checkin{Close: true, Result: history.Done, Replayed: r.Replayed}
		if r.Reason != "" {
			v.Result = history.Result(r.Reason)
		}
		for _, x := range r.Released {
			v.Released = append(v.Released, history.Ended{ID: x.ID, Token: x.Token, Feature: x.Feature, Reason: x.Reason})
		}
		done.Value, done.RaftIndex = v, e.Index
		return true
	}, func(at int64, done *history.Op) { c.m.at(at+sec/2, c.begin) })
}

// write goes to the toy resource, which is no part of the service.
func (c *miniClient) write(t int64) {
	m, x := c.m, c.held
	v := &history.Write{Resource: "plotter", ID: x.ID, Token: x.Token}
	op := history.Op{Process: c.process, Type: history.Invoke, F: history.FWrite, Client: c.name, Value: v}
	m.note(op, t)
	m.writes++
	done := *v
	done.Order, done.Result, done.Highest = m.writes, history.Rejected, m.resource
	if x.Token >= m.resource {
		m.resource = x.Token
		done.Result, done.Highest = history.Accepted, m.resource
	}
	op.Type, op.Value = history.OK, &done
	m.note(op, t)
}

// watch reads the pools, verifies leases and kills one now and then.
func (c *miniClient) watch(t int64) {
	m := c.m
	next := func(at int64, _ *history.Op) { m.at(at+sec/5, c.watch) }
	switch n := m.rnd.IntN(40); {
	case n == 0 && len(m.leases) > 0 && t > 5*sec && t < 70*sec:
		id, session := m.leases[0].id, m.leases[0].s.id
		c.call(t, history.Op{F: history.FKill, Value: &history.Kill{IDs: []uint64{id}}}, func(at int64, done *history.Op) bool {
			e := m.commit(at, history.Command{Kind: history.KindKill, Refs: []history.Ref{{ID: id}}})
			v := &history.Kill{IDs: []uint64{id}, Result: history.Done}
			for _, x := range e.Commands[0].Result.Released {
				v.Killed = append(v.Killed, history.Lease{ID: x.ID, Token: x.Token, Feature: x.Feature, Session: session})
			}
			done.Value, done.RaftIndex = v, e.Index
			return true
		}, next)
	case n < 8 && len(m.leases) > 0:
		l := m.leases[m.rnd.IntN(len(m.leases))]
		c.call(t, history.Op{F: history.FVerify, Value: &history.Verify{ID: l.id, Token: l.token}}, func(at int64, done *history.Op) bool {
			live := false
			for _, x := range m.leases {
				live = live || x == l && m.due(x) > m.now
			}
			done.Value, done.RaftIndex = &history.Verify{ID: l.id, Token: l.token, Result: history.Done, Valid: live}, m.log[len(m.log)-1].Index
			return true
		}, next)
	default:
		c.call(t, history.Op{F: history.FStatus, Value: &history.Status{}}, func(at int64, done *history.Op) bool {
			last := m.log[len(m.log)-1]
			v := &history.Status{Result: history.Done, ClusterTimeMS: m.now / 1e6, Nodes: []history.NodeState{{ID: "n1", Applied: last.Index, Hash: last.Hash}}}
			for _, p := range miniPools {
				v.Pools = append(v.Pools, history.PoolUse{Feature: p.Feature, Version: p.Version, Total: p.Total, InUse: m.used(p.Feature)})
			}
			done.Value, done.RaftIndex = v, last.Index
			return true
		}, next)
	}
}
