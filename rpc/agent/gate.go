package agent

import "sync"

// gate counts what goes on at once, in all and by user.
type gate struct {
	mu     sync.Mutex
	all    int
	byUser map[int]int
}

// enter lets one more in, if there are fewer than max in all and fewer than perUser of
// this user (0: no such limit).
func (g *gate) enter(uid, max, perUser int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.all >= max || perUser > 0 && g.byUser[uid] >= perUser {
		return false
	}
	if g.byUser == nil {
		g.byUser = map[int]int{}
	}
	g.all++
	g.byUser[uid]++
	return true
}

func (g *gate) leave(uid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all--
	if g.byUser[uid]--; g.byUser[uid] == 0 {
		delete(g.byUser, uid)
	}
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}
