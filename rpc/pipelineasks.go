package rpc

import (
	"context"
	"errors"
	"time"

	"github.com/seatkeeper/seatkeeper/cluster"
	"github.com/seatkeeper/seatkeeper/lease"
)

// bundle is what came together: what keeps or gives back, what asks and was let in, and
// what is known already.
type bundle struct{ keep, ask, known []*piped }

// proposal is what was proposed together.
type proposal struct {
	giveUp func(error) // nil until it is known
	at     time.Time
	left   int // not known yet
}

// ask lets a checkout through admission: into the bundle, into the line, or to its refusal.
func (p *pipeline) ask(x *piped, b *bundle) {
	t := &x.ticket
	if p.conn != nil {
		x.counted = true
		if p.conn.inFlight.Add(1) > int64(p.s.cfg.ConnInFlight) {
			x.err = p.s.admission.refuse(t, "connection")
			b.known = append(b.known, x)
			return
		}
	}
	if p.s.admission.walkIn(t) {
		b.ask = append(b.ask, x)
		return
	}
	x.way = &approach{t: t, wake: func() { p.wake(x) }}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.lined[x] = struct{}{} // before the first step: its wake may come at once
	}
	p.mu.Unlock()
	if closed {
		p.release(x)
		return
	}
	p.goOn(x, b, x.way.begin)
}

// goOn makes a step of a checkout's way.
func (p *pipeline) goOn(x *piped, b *bundle, step func() (bool, error)) {
	known, err := step()
	if !known {
		return
	}
	p.mu.Lock()
	_, ours := p.lined[x] // or close's, which lets go of it
	delete(p.lined, x)
	p.mu.Unlock()
	switch {
	case !ours:
	case err != nil:
		x.err = err
		b.known = append(b.known, x)
	default:
		b.ask = append(b.ask, x)
	}
}

// wake notes that a waiting checkout can go on. It is called under the admission's lock.
func (p *pipeline) wake(x *piped) {
	p.mu.Lock()
	p.awake = append(p.awake, x)
	p.mu.Unlock()
	select {
	case p.woke <- struct{}{}:
	default:
	}
}

// letIn brings on their way what has waited.
func (p *pipeline) letIn() {
	p.mu.Lock()
	list := p.awake
	p.awake = nil
	p.mu.Unlock()
	var b bundle
	for _, x := range list {
		p.goOn(x, &b, x.way.step)
	}
	p.flush(b)
}

// flush proposes a bundle, what keeps first, and hands over what is known. It returns the
// empty one.
func (p *pipeline) flush(b bundle) bundle {
	if len(b.known) > 0 {
		p.settle(b.known)
	}
	if len(b.keep) > 0 {
		n := int64(len(b.keep))
		if !p.s.streamed.TryAcquire(n) && p.s.streamed.Acquire(p.ctx, n) != nil {
			p.settle(b.ask) // the stream is over, and nobody hears of it
			return bundle{}
		}
		for _, x := range b.keep {
			x.turn = true
		}
	}
	err := p.propose(append(b.keep, b.ask...))
	if errors.Is(err, cluster.ErrOverloaded) && len(b.keep) > 0 && len(b.ask) > 0 {
		p.fail(b.ask, err) // keeping goes before asking
		b.ask = nil
		err = p.propose(b.keep)
	}
	if err != nil {
		p.fail(append(b.keep, b.ask...), err)
	}
	return bundle{}
}

func (p *pipeline) propose(list []*piped) error {
	if len(list) == 0 {
		return nil
	}
	cmds := make([]lease.Command, len(list))
	for i, x := range list {
		cmds[i] = x.cmd
	}
	sent := &proposal{at: list[0].began, left: len(list)}
	giveUp, err := p.s.cfg.Node.ProposeAsync(cmds, func(first int, answers []cluster.Proposed) {
		for i := range answers {
			x := list[first+i]
			x.applied, x.err = &answers[i].Applied, answers[i].Err
		}
		p.told(sent, list[first:first+len(answers)])
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	sent.giveUp = giveUp
	done := 0
	for done < len(p.sent) && p.sent[done].left == 0 {
		done++
	}
	p.sent = append(p.sent[done:], sent)
	closed := p.closed
	p.mu.Unlock()
	if closed {
		giveUp(context.Canceled)
	}
	return nil
}

// told takes in answers of the proposer.
func (p *pipeline) told(sent *proposal, list []*piped) {
	p.mu.Lock()
	sent.left -= len(list)
	p.mu.Unlock()
	p.settle(list)
}

func (p *pipeline) fail(list []*piped, err error) {
	for _, x := range list {
		x.err = err
	}
	p.settle(list)
}

// settle lets go of what the calls hold and hands them over to be answered.
func (p *pipeline) settle(list []*piped) {
	turns := int64(0)
	for _, x := range list {
		if x.turn {
			x.turn = false
			turns++
		}
		p.release(x)
	}
	if turns > 0 {
		p.s.streamed.Release(turns)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = append(p.ready, list...)
	p.work.Signal()
}

// giveUp waits no longer for what was proposed before then.
func (p *pipeline) giveUp(cause error, then time.Time) {
	var late []func(error)
	p.mu.Lock()
	for _, sent := range p.sent {
		if sent.left > 0 && sent.giveUp != nil && !sent.at.After(then) {
			late = append(late, sent.giveUp)
		}
	}
	p.mu.Unlock()
	for _, giveUp := range late {
		giveUp(cause)
	}
}

// release gives back the places a call has in admission.
func (p *pipeline) release(x *piped) {
	if x.counted {
		x.counted = false
		p.conn.inFlight.Add(-1)
	}
	x.ticket.leave()
}
