package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// repeatEvery is how often a line about one peer is worth its place in the log. Raft
	// says seven times a second that it does not reach a lost node.
	repeatEvery = 10 * time.Second
	// maxRepeats bounds what is remembered of such lines: four messages for each of seven
	// nodes, several times over.
	maxRepeats = 256
)

// repeating are the lines that raft writes again and again while a peer is away, and the
// argument that names the peer. Everything else is always written.
var repeating = map[string]string{
	"failed to heartbeat to":         "peer",
	"failed to appendEntries to":     "peer",
	"failed to make requestVote RPC": "target",
	"failed to contact":              "server-id",
}

// repeats leaves out lines about a peer that say what was said a moment ago.
type repeats struct {
	now  func() time.Time
	mu   sync.Mutex
	last map[string]time.Time // by message and peer
}

func newRepeats() *repeats { return &repeats{now: time.Now, last: map[string]time.Time{}} }

// exclude is asked by the logger before each line. Whoever watches by monitor gets them all.
func (r *repeats) exclude(_ hclog.Level, msg string, args ...any) bool {
	name, known := repeating[msg]
	if !known {
		return false
	}
	key := msg
	for i := 0; i+1 < len(args); i += 2 {
		if args[i] == name {
			key = fmt.Sprintf("%s\x00%v", msg, args[i+1])
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if at, said := r.last[key]; said && now.Sub(at) < repeatEvery {
		return true
	}
	if len(r.last) >= maxRepeats {
		clear(r.last)
	}
	r.last[key] = now
	return false
}
