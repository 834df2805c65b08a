package client

import (
	"slices"
	"sync"
	"time"
)

// routes knows which addresses may be asked: those configured, and those that a node
// reached over a configured address listed as members. No answer of any other node
// adds to them.
type routes struct {
	configured []string
	mu         sync.Mutex
	learnt     []string
	// leader is the address that answered last; "" when it failed since.
	leader string
	// silent are the addresses that let a try run into its time-out, and until when they
	// are left alone.
	silent map[string]Instant
}

// silentRest is how long an address that cost a whole time-out is left alone while
// others answer: during an election nobody should wait for the dead leader again.
const silentRest = 3 * time.Second

// namedRest is the same for an address that another node names as the leader: a dead
// leader is named no more by then, so this one lives, and only we did not hear it.
const namedRest = time.Second

// lap is one search through the nodes: each address is tried at most once in it.
type lap struct {
	tried  map[string]bool
	target string // where a node sent us
}

// next picks the address to try: where we were sent, who answered last, the
// configured ones in their order, the learnt ones; of these the silent last. ok is
// false when all were tried.
func (r *routes) next(l *lap, now Instant) (addr string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.tried == nil {
		l.tried = map[string]bool{}
	}
	target := l.target
	l.target = ""
	if until, silent := r.silent[target]; target != "" && !l.tried[target] && (!silent || now >= until.Add(namedRest-silentRest)) {
		l.tried[target] = true
		return target, true
	}
	order := slices.Concat([]string{r.leader}, r.configured, r.learnt)
	pick := func(may func(a string) bool) bool {
		for _, a := range order {
			if a != "" && !l.tried[a] && may(a) {
				l.tried[a] = true
				addr = a
				return true
			}
		}
		return false
	}
	loud := func(a string) bool { _, silent := r.silent[a]; return !silent }
	anyLoud := slices.ContainsFunc(order, func(a string) bool { return a != "" && loud(a) })
	ok = pick(loud) || pick(func(a string) bool { return !anyLoud || now >= r.silent[a] })
	return addr, ok
}

// fullLap is a lap in which nothing is left to try.
func (r *routes) fullLap() lap {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := lap{tried: map[string]bool{}}
	for _, a := range slices.Concat(r.configured, r.learnt) {
		l.tried[a] = true
	}
	return l
}

func (r *routes) answered(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leader = addr
	delete(r.silent, addr)
}

func (r *routes) failed(addr string, silent bool, now Instant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leader == addr {
		r.leader = ""
	}
	delete(r.silent, addr)
	if silent {
		if r.silent == nil {
			r.silent = map[string]Instant{}
		}
		r.silent[addr] = now.Add(silentRest)
	}
}

func (r *routes) knows(addr string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.configured, addr) || slices.Contains(r.learnt, addr)
}

// learn replaces the learnt members.
func (r *routes) learn(members []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.learnt = members
	for addr := range r.silent {
		if !slices.Contains(r.configured, addr) && !slices.Contains(members, addr) {
			delete(r.silent, addr)
		}
	}
}
