package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// verifyRetry is the pause between two leader checks of one round.
const verifyRetry = 2 * time.Millisecond

// leaderChecker is what the verifier needs of raft. The future of VerifyLeader may
// block for as long as raft's main loop hangs.
type leaderChecker interface {
	VerifyLeader() raft.Future
	CurrentTerm() uint64
}

// verifier shares leader checks among the readers of one epoch. A reader has read
// already when it asks; the check that answers it must start after that, so one who
// comes during a check waits for the next.
type verifier struct {
	term      uint64
	ctx       context.Context // of the epoch
	raft      leaderChecker
	mark      func() uint64
	confirmed func(mark uint64) bool
	waiters   *waiters
	count     func()

	mu      sync.Mutex
	next    *round
	running bool
}

// round is one leader check; err is set before done is closed.
type round struct {
	done chan struct{}
	err  error
}

// verify returns nil if this node was still the leader of the epoch at some instant
// after the call, errEpochOver if not, or an error that wraps ErrUnknown.
func (v *verifier) verify(ctx context.Context) error {
	v.mu.Lock()
	if v.next == nil {
		v.next = &round{done: make(chan struct{})}
	}
	r := v.next
	if !v.running {
		v.running = true
		v.waiters.Go(v.run)
	}
	v.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-v.ctx.Done():
		return errEpochOver
	case <-ctx.Done():
		return fmt.Errorf("%w (leader check: %w)", ErrUnknown, ctx.Err())
	}
}

// run makes rounds while readers wait.
func (v *verifier) run() {
	for {
		v.mu.Lock()
		r := v.next
		v.next = nil
		if r == nil {
			v.running = false
		}
		v.mu.Unlock()
		if r == nil {
			return
		}
		r.err = v.check()
		close(r.done)
	}
}

// check is one round. Raft's word alone is not enough (see votersSince), so it is
// repeated until a majority of voters has answered what was sent after the round
// began, or raft has found out that it does not lead.
func (v *verifier) check() error {
	mark := v.mark()
	for {
		if v.ctx.Err() != nil {
			return errEpochOver // raft may be gone, and would then perhaps never answer
		}
		v.count()
		err := v.raft.VerifyLeader().Error()
		switch {
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipLost):
			return errEpochOver
		case err != nil:
			return fmt.Errorf("%w (leader check: %w)", ErrUnknown, err)
		case v.raft.CurrentTerm() != v.term: // lost and won again since
			return errEpochOver
		case v.confirmed(mark):
			return nil
		}
		select {
		case <-time.After(verifyRetry):
		case <-v.ctx.Done():
			return errEpochOver
		}
	}
}
