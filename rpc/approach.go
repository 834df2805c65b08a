package rpc

import (
	"sync"
	"time"
)

// approach is the way of a request through admission when nobody stands beside it and
// waits: the same steps as ticket.enter, without a goroutine.
type approach struct {
	t *ticket
	// wake says that step is to be called; it is called under the admission's lock and by
	// timers, so it must neither block nor call the admission.
	wake func()

	mu    sync.Mutex // a wake may come while the step before is still being made
	timer *time.Timer
	held  bool    // until its client may come back
	w     *waiter // its place in the line
	over  bool
}

// begin makes the first step.
func (a *approach) begin() (known bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return false, nil
	}
	adm := a.t.a
	if a.t.class != keeping && !a.t.again {
		if wait := adm.sentence(a.t); wait > 0 {
			if !adm.holdMore(a.t, 1) {
				return a.end(adm.refuse(a.t, "held"))
			}
			a.held = true
			a.timer = time.AfterFunc(wait, a.wake)
			return false, nil
		}
	}
	return a.admit()
}

func (a *approach) admit() (known bool, err error) {
	adm := a.t.a
	w, limit := adm.admitOr(a.t, a.wake)
	switch {
	case limit != "":
		return a.end(adm.refuse(a.t, limit))
	case w == nil:
		return a.end(nil)
	}
	a.w = w
	a.timer = time.AfterFunc(adm.patience(a.t.class), a.wake)
	return false, nil
}

// step goes on after a wake. known is true when err is the answer: nil is inside.
func (a *approach) step() (known bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	adm := a.t.a
	switch {
	case a.over:
		return false, nil // the other cause of waking was faster
	case a.held:
		a.held = false
		adm.holdMore(a.t, -1)
		return a.admit()
	}
	a.timer.Stop()
	switch adm.outcome(a.t, a.w) {
	case admitted:
		return a.end(nil)
	case pushedOut:
		return a.end(adm.refuse(a.t, "client"))
	}
	return a.end(adm.refuse(a.t, "tenant"))
}

func (a *approach) end(err error) (bool, error) {
	a.over = true
	return true, err
}

// abandon ends the way of a request that nobody waits for any more.
func (a *approach) abandon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return
	}
	a.over = true
	if a.timer == nil {
		return // it has not begun
	}
	a.timer.Stop()
	if a.held {
		a.t.a.holdMore(a.t, -1)
		return
	}
	if a.t.a.outcome(a.t, a.w) == admitted {
		a.t.leave()
	}
}
