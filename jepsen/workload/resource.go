package workload

import "sync"

// Resource is what licensed work writes to: it accepts a write only with a fencing token
// at least as high as any it has seen, and so needs no clock and trusts no client.
type Resource struct {
	Name string

	mu      sync.Mutex
	highest uint64
	order   uint64
	last    string
}

// Write asks the resource to take data. order numbers all requests as they were judged.
func (r *Resource) Write(token uint64, data string) (accepted bool, order, highest uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.order++
	if token < r.highest {
		return false, r.order, r.highest
	}
	r.highest, r.last = token, data
	return true, r.order, r.highest
}
