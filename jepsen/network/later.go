package network

import (
	"container/heap"
	"sync"
	"time"
)

// later delivers parcels after their delay, those of equal delay in their order.
type later struct {
	deliver func(parcel)
	mu      sync.Mutex
	queue   queue
	seq     uint64
	wake    chan struct{}
	done    chan struct{}
	stop    chan struct{}
}

type waiting struct {
	parcel
	due time.Time
	seq uint64
}

type queue []waiting

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].seq < q[j].seq
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(waiting)) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = waiting{}
	*q = old[:len(old)-1]
	return last
}

func newLater(deliver func(parcel)) *later {
	l := &later{deliver: deliver, wake: make(chan struct{}, 1), done: make(chan struct{}), stop: make(chan struct{})}
	go l.run()
	return l
}

// put keeps a parcel for d; false means that too many are kept already.
func (l *later) put(d time.Duration, p parcel) bool {
	l.mu.Lock()
	if len(l.queue) >= maxWaiting {
		l.mu.Unlock()
		return false
	}
	l.seq++
	heap.Push(&l.queue, waiting{p, time.Now().Add(d), l.seq})
	first := l.queue[0].seq == l.seq
	l.mu.Unlock()
	if first {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return true
}

// idle is how long run sleeps when nothing waits; put wakes it.
const idle = time.Hour

func (l *later) run() {
	defer close(l.done)
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		timer.Reset(l.deliverDue())
		select {
		case <-timer.C:
		case <-l.wake:
		case <-l.stop:
			return
		}
	}
}

// deliverDue delivers what is due and says how long nothing will be.
func (l *later) deliverDue() time.Duration {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.mu.Unlock()
			return idle
		}
		if wait := time.Until(l.queue[0].due); wait > 0 {
			l.mu.Unlock()
			return wait
		}
		w := heap.Pop(&l.queue).(waiting)
		l.mu.Unlock()
		l.deliver(w.parcel)
	}
}

func (l *later) close() {
	close(l.stop)
	<-l.done
}
