package cluster

import "sync"

// waiters counts goroutines that wait for raft's futures. Unlike a sync.WaitGroup it
// may grow while somebody waits for it, and the wait can be given up.
type waiters struct {
	mu   sync.Mutex
	n    int
	idle chan struct{} // closed at zero; nil while nobody waits
}

// Go runs f in a counted goroutine.
func (w *waiters) Go(f func()) {
	w.mu.Lock()
	w.n++
	w.mu.Unlock()
	go func() {
		defer w.done()
		f()
	}()
}

func (w *waiters) done() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n--; w.n == 0 && w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// Idle returns a channel that is closed when the count is next zero.
func (w *waiters) Idle() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.idle == nil {
		w.idle = make(chan struct{})
		if w.n == 0 {
			idle := w.idle
			w.idle = nil
			close(idle)
			return idle
		}
	}
	return w.idle
}
