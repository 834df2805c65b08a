package run

import (
	"context"
	"strings"
	"time"

	"github.com/seatkeeper/seatkeeper/jepsen/checker"
)

// moreAtMost bounds how long the load goes on after the last fault for want of answers.
const moreAtMost = 90 * time.Second

// untilEnough goes on with the load until as much was answered as C0 asks for: a run of
// few faults on a busy machine is over before its small pools have seen enough.
func (w *world) untilEnough(ctx context.Context) error {
	for end := time.Now().Add(moreAtMost); ctx.Err() == nil && time.Now().Before(end); sleep(ctx, healedFor) {
		lacks, err := w.lacks()
		if err != nil || len(lacks) == 0 {
			return err
		}
		w.cfg.Log("goes on: %s", strings.Join(lacks, ", "))
	}
	return nil
}

// lacks says what is too little so far.
func (w *world) lacks() ([]string, error) {
	ops, err := w.opsSoFar()
	if err != nil {
		return nil, err
	}
	r, err := checker.NewRun(w.test, ops, nil)
	if err != nil {
		return nil, err
	}
	return r.Lacks(), nil
}
