package agent

import (
	"context"
	"time"
)

// process names one process for ever: a pid alone is used again.
type process struct {
	PID int `json:"pid"`
	// Start says when it started, in the words of the system; it means nothing elsewhere.
	Start string `json:"start"`
}

// pollEvery is how often a process is looked at where the system does not tell of its end.
const pollEvery = 500 * time.Millisecond

// alive says whether the process is still there. A zombie is not: it has ended, and only
// waits for its parent.
func (p process) alive() bool {
	now, _, err := identify(p.PID)
	return err == nil && now == p
}

// poll waits for the end of the process, or of ctx.
func (p process) poll(ctx context.Context) error {
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for p.alive() {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
