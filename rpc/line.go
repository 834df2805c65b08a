package rpc

import "slices"

// waiter is a request in a line. Its state is guarded by admission.mu.
type waiter struct {
	ticket *ticket
	turn   chan struct{} // closed when it is let in or pushed out
	wake   func()        // called instead where it is set
	state  waitState
}

// told lets the one who waits know that it is let in or pushed out.
func (w *waiter) told() {
	if w.wake != nil {
		w.wake()
		return
	}
	close(w.turn)
}

type waitState uint8

const (
	inLine waitState = iota
	admitted
	pushedOut
)

// line is a queue in which clients take turns, each with its own requests in order.
type line struct {
	n     int
	order []*clientLine // the next one first
	by    map[client]*clientLine
}

type clientLine struct {
	client  client
	waiters []*waiter
}

func (l *line) waiters(c client) []*waiter {
	if q := l.by[c]; q != nil {
		return q.waiters
	}
	return nil
}

func (l *line) push(c client, w *waiter) {
	q := l.by[c]
	if q == nil {
		q = &clientLine{client: c}
		if l.by == nil {
			l.by = make(map[client]*clientLine)
		}
		l.by[c] = q
		l.order = append(l.order, q)
	}
	q.waiters = append(q.waiters, w)
	l.n++
}

// pop takes the oldest request of the client whose turn it is, of those that may; nil if none may.
func (l *line) pop(may func(client) bool) *waiter {
	at := slices.IndexFunc(l.order, func(q *clientLine) bool { return may(q.client) })
	if at < 0 {
		return nil
	}
	q := l.order[at]
	w := q.waiters[0]
	q.waiters = q.waiters[1:]
	if at == 0 {
		l.order = l.order[1:] // without moving the others
	} else {
		l.order = slices.Delete(l.order, at, at+1)
	}
	if len(q.waiters) > 0 {
		l.order = append(l.order, q)
	} else {
		delete(l.by, q.client)
	}
	l.n--
	return w
}

// remove takes one request out, wherever it stands.
func (l *line) remove(c client, w *waiter) {
	q := l.by[c]
	at := slices.Index(q.waiters, w)
	q.waiters = slices.Delete(q.waiters, at, at+1)
	if len(q.waiters) == 0 {
		delete(l.by, c)
		at := slices.Index(l.order, q)
		l.order = slices.Delete(l.order, at, at+1)
	}
	l.n--
}

// lastOfLongest is the newest request of the client that has most in the line, nil if
// that is fewer than least.
func (l *line) lastOfLongest(least int) *waiter {
	var most []*waiter
	for _, q := range l.order {
		if len(q.waiters) > len(most) {
			most = q.waiters
		}
	}
	if len(most) < least {
		return nil
	}
	return most[len(most)-1]
}

// leastRefused is the newest request of the client that was refused least, nil if none
// was refused less often than than.
func (l *line) leastRefused(than int) (least *waiter) {
	for _, q := range l.order {
		if w := q.waiters[len(q.waiters)-1]; w.ticket.refused < than {
			least, than = w, w.ticket.refused+1 // the last of equals
		}
	}
	return least
}
