package cluster

import (
	"errors"
	"fmt"

	"github.com/seatkeeper/seatkeeper/lease"
)

// ProposeAsync queues commands next to each other, so that they usually share an entry,
// and returns at once. answered is told once of each command, of those that stand next to
// each other together: answers belong to the commands from first on, and each means what
// Propose would have returned. It is called from other goroutines, and before ProposeAsync
// returns for what is refused at once; it must not block. An error means that nothing was
// queued and answered is not called.
//
// There is no deadline. The caller calls giveUp when it will wait no longer: what was not
// taken into an entry by then is answered as not applied, what was as unknown, both with
// the cause. After giveUp answered may still be running, and has nothing more to hear.
func (n *Node) ProposeAsync(cmds []lease.Command, answered func(first int, answers []Proposed)) (giveUp func(cause error), err error) {
	e := n.current.Load()
	if e == nil || n.stopping.Load() {
		err = n.notLeader()
	} else if giveUp, err = e.proposer.proposeAsync(cmds, n.refuseNew, n.telling(answered)); errors.Is(err, errEpochOver) {
		err = n.notLeader()
	}
	if err != nil {
		n.metrics.outcomes(err, len(cmds))
	}
	return giveUp, err
}

// telling counts outcomes and names the new leader on the way to answered.
func (n *Node) telling(answered func(int, []Proposed)) func(int, []Proposed) {
	return func(first int, answers []Proposed) {
		fine := 0
		for i := range answers {
			a := &answers[i]
			if a.Err == nil {
				fine++
				continue
			}
			if a.Err = n.explain(a.Err); errors.Is(a.Err, errEpochOver) {
				a.Err = n.notLeader()
			}
			n.metrics.outcome(a.Err)
		}
		if fine > 0 {
			n.metrics.outcomes(nil, fine)
		}
		answered(first, answers)
	}
}

// proposeAsync queues those commands that refuse has nothing against and that fit into an
// entry; the others are answered at once.
func (p *proposer) proposeAsync(cmds []lease.Command, refuse func(lease.Command) error, told func(int, []Proposed)) (func(error), error) {
	w := &party{allowed: p.version(), calls: make([]call, 0, len(cmds)), known: make([]bool, len(cmds)), told: told}
	var errs []Proposed // nil as long as there are none
	for i, cmd := range cmds {
		err := refuse(cmd)
		if err == nil {
			var c call
			if c, err = w.encoded(i, cmd); err == nil {
				w.calls = append(w.calls, c)
				continue
			}
		}
		if errs == nil {
			errs = make([]Proposed, len(cmds))
		}
		errs[i].Err = err
	}
	if len(w.calls) > 0 {
		if err := p.queue.push(false, w); err != nil {
			return nil, err
		}
	}
	for i := range errs {
		if errs[i].Err != nil {
			w.answer(i, errs[i:i+1])
		}
	}
	return func(cause error) { p.giveUp(w, cause) }, nil
}

// note says whether told has yet to hear of these calls.
func (w *party) note(first, n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	for i := range n {
		w.known[first+i] = true
	}
	return true
}

// giveUp takes out what of the party was not taken and answers all that is not known.
func (p *proposer) giveUp(w *party, cause error) {
	withdrawn := make([]bool, len(w.known))
	for i, out := range p.queue.withdraw(w) {
		withdrawn[w.calls[i].at] = out
	}
	w.mu.Lock()
	defer w.mu.Unlock() // told's last word is out before anybody else comes
	if w.over {
		return
	}
	w.over = true
	for i, known := range w.known {
		switch {
		case known:
		case withdrawn[i]:
			w.told(i, []Proposed{{Err: fmt.Errorf("%w (%w)", ErrNotApplied, cause)}})
		default:
			w.told(i, []Proposed{{Err: fmt.Errorf("%w (%w)", ErrUnknown, cause)}})
		}
	}
}
